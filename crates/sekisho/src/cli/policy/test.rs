//! `sekisho policy test`: a folder of facts, each with the verdict that is expected.
//!
//! ```json
//! {
//!   "facts": {"identity": {…}, "target": {…}, "contents": [{…}], "now": "2026-11-23T00:00:00Z"},
//!   "expect": {"decision": "deny", "rules": ["severe-with-fix"]}
//! }
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sekisho_policy::{Decision, Mode, Policies, Verdict};
use serde::{Deserialize, Serialize};

use super::load;
use crate::exit::{Exit, hinted};
use crate::printer::{Printer, Style};

/// Most files of one folder.
const MAX_FIXTURES: usize = 10_000;

/// Largest file, in bytes.
const MAX_FIXTURE_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    facts: serde_json::Value,
    expect: Expect,
}

/// What shall come out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    decision: Decision,
    /// Every rule that refuses, holds back or warns, in any order; not looked at when it is not there.
    rules: Option<BTreeSet<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    schema_version: u32,
    passed: usize,
    /// `file: what came out`.
    failed: Vec<String>,
}

pub(super) fn run(
    dir: &Path,
    policies: Option<&Path>,
    exceptions: Option<&Path>,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let policies = load(policies, exceptions)?;
    let files = fixtures(dir)?;
    if files.is_empty() {
        printer.note(&format!("there is no .json file in `{}`", dir.display()));
        return Ok(Exit::Nothing);
    }
    let mut failed = Vec::new();
    for file in &files {
        failed.extend(check(file, &policies)?.map(|what| format!("{}: {what}", file.display())));
    }
    let passed = files.len() - failed.len();
    let exit = if failed.is_empty() { Exit::Done } else { Exit::Failed };
    if printer.is_json() {
        printer.answer_json(&Tested { schema_version: 1, passed, failed })?;
        return Ok(exit);
    }
    for line in &failed {
        printer.answer(&printer.paint(Style::Bad, line))?;
    }
    printer.answer(&format!("{passed} passed, {} failed", failed.len()))?;
    Ok(exit)
}

fn fixtures(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
        anyhow::ensure!(files.len() <= MAX_FIXTURES, "more than {MAX_FIXTURES} files");
    }
    files.sort();
    Ok(files)
}

/// What came out instead; `None` when it is what was expected.
fn check(file: &Path, policies: &Policies) -> anyhow::Result<Option<String>> {
    if fs_err::metadata(file)?.len() > MAX_FIXTURE_BYTES {
        anyhow::bail!("`{}` has more than {MAX_FIXTURE_BYTES} bytes", file.display());
    }
    let bytes = fs_err::read(file)?;
    let fixture: Fixture = serde_json::from_slice(&bytes).map_err(|error| {
        let place = format!("{}:{}:{}", file.display(), error.line(), error.column());
        hinted(format!("{place}: {error}"), "a fixture has `facts` and `expect`")
    })?;
    let verdict = sekisho_gate::judge(policies, fixture.facts)
        .with_context(|| format!("reading the facts of `{}`", file.display()))?;
    Ok(difference(&fixture.expect, &verdict))
}

fn difference(expect: &Expect, verdict: &Verdict) -> Option<String> {
    let spoke: BTreeSet<String> = verdict
        .reasons
        .iter()
        .filter(|reason| reason.mode != Mode::Audit)
        .map(|reason| reason.rule.clone())
        .collect();
    let list = |rules: &BTreeSet<String>| match rules.is_empty() {
        true => "no rule".to_owned(),
        false => rules.iter().map(|rule| format!("`{rule}`")).collect::<Vec<_>>().join(", "),
    };
    if verdict.decision != expect.decision {
        return Some(format!(
            "expected {}, got {} by {}",
            expect.decision.as_str(),
            verdict.decision.as_str(),
            list(&spoke)
        ));
    }
    let rules = expect.rules.as_ref().filter(|rules| **rules != spoke)?;
    Some(format!("expected {}, got {}", list(rules), list(&spoke)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fixture(event: &str, expect: &Value) -> Value {
        json!({
            "facts": {
                "identity": {"repository": "acme/app", "event_name": event},
                "target": {"repository": "acme/app", "in_namespace": true},
                "contents": [{"user": "app"}],
                "now": "2026-11-23T00:00:00Z",
            },
            "expect": expect,
        })
    }

    #[test]
    fn what_differs_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let policies = Policies::default_set();
        for (event, expect, want) in [
            ("push", json!({"decision": "allow"}), None),
            ("push", json!({"decision": "allow", "rules": []}), None),
            (
                "issues",
                json!({"decision": "allow"}),
                Some("expected allow, got deny by `trusted-events`"),
            ),
            ("issues", json!({"decision": "deny", "rules": ["trusted-events"]}), None),
            (
                "issues",
                json!({"decision": "deny", "rules": ["root-user"]}),
                Some("expected `root-user`, got `trusted-events`"),
            ),
            (
                "push",
                json!({"decision": "allow", "rules": ["x"]}),
                Some("expected `x`, got no rule"),
            ),
        ] {
            fs_err::write(&path, fixture(event, &expect).to_string()).unwrap();
            assert_eq!(check(&path, &policies).unwrap().as_deref(), want, "{event} {expect}");
        }
        for (bad, want) in [
            ("{".to_owned(), ":1:1: EOF"),
            (fixture("push", &json!({"decision": "maybe"})).to_string(), "unknown variant `maybe`"),
            (fixture("push", &json!({})).to_string(), "missing field `decision`"),
        ] {
            fs_err::write(&path, &bad).unwrap();
            let error = format!("{:#}", check(&path, &policies).unwrap_err());
            assert!(error.contains(want), "{error}");
        }
    }
}
