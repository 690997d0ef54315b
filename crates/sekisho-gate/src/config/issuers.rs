//! Who may say who somebody is, and how his words are read.
//!
//! ```toml
//! [[issuer]]
//! url = "https://gitlab.example"
//! audience = "https://gate.example"
//! kind = "gitlab"                  # or "github", "kubernetes", "mapped"
//! prefix = "gitlab"                # its repositories are gitlab/GROUP/PROJECT here
//!
//! [[issuer]]
//! url = "https://ci.example"
//! audience = "https://gate.example"
//! kind = "mapped"
//! prefix = "ci"
//! [issuer.claims]                  # JSON pointers into the token; "=text" is the text itself
//! repository = ["/project"]
//! repository_id = "/project_id"
//! owner = "/team"
//! owner_id = "/team_id"
//! event = "/trigger"
//! run_id = "/build_id"
//! [issuer.claims.events]
//! commit = "push"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sekisho_types::RepositoryName;
use serde::Deserialize;

/// Largest file, in bytes.
pub const MAX_ISSUERS_BYTES: usize = 256 * 1024;

/// An issuer of OIDC tokens that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `iss`, compared exactly; its keys are fetched below it. `https`, or `http` on loopback.
    pub url: String,
    /// `aud`, compared exactly.
    pub audience: String,
    /// How its claims are read.
    pub reading: Reading,
}

/// How claims become an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a gate has a handful of them, read once")]
pub enum Reading {
    /// GitHub Actions, every claim typed.
    GitHub,
    /// Another issuer.
    Mapped {
        /// Stands before its repositories, so that a project of one issuer never has the name of
        /// another's. Empty where there is one issuer only.
        prefix: String,
        /// Where in the token what is.
        claims: ClaimNames,
    },
}

/// Where in a token what is: JSON pointers (RFC 6901), or `=` and the text itself; empty for what the
/// issuer does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimNames {
    /// The parts of the repository's name.
    pub repository: Vec<String>,
    /// Never given out twice.
    pub repository_id: String,
    /// Whose it is.
    pub owner: String,
    /// Never given out twice.
    pub owner_id: String,
    /// Branch or tag.
    pub git_ref: String,
    /// `branch` or `tag`, where [`Self::git_ref`] is only a name.
    pub ref_type: String,
    /// `true` or `false`.
    pub ref_protected: String,
    /// The commit.
    pub sha: String,
    /// What started it, by the issuer's word.
    pub event: String,
    /// The issuer's words for GitHub's events.
    pub events: BTreeMap<String, String>,
    /// The deployment environment.
    pub environment: String,
    /// The file that defines the job.
    pub job_workflow_ref: String,
    /// Who started it.
    pub actor: String,
    /// The run.
    pub run_id: String,
    /// The job.
    pub job_id: String,
}

impl ClaimNames {
    /// GitLab's ID tokens. Source: GitLab documentation, "OpenID Connect (OIDC) Authentication Using
    /// ID Tokens", token payload.
    pub fn gitlab() -> Self {
        let events = [
            ("web", "workflow_dispatch"),
            ("merge_request_event", "pull_request"),
            ("external_pull_request_event", "pull_request"),
        ];
        Self {
            repository: vec!["/project_path".into()],
            repository_id: "/project_id".into(),
            owner: "/namespace_path".into(),
            owner_id: "/namespace_id".into(),
            git_ref: "/ref".into(),
            ref_type: "/ref_type".into(),
            ref_protected: "/ref_protected".into(),
            sha: "/sha".into(),
            event: "/pipeline_source".into(),
            events: events.map(|(theirs, ours)| (theirs.into(), ours.into())).into(),
            environment: "/environment".into(),
            job_workflow_ref: "/ci_config_ref_uri".into(),
            actor: "/user_login".into(),
            run_id: "/pipeline_id".into(),
            job_id: "/job_id".into(),
        }
    }

    /// Tokens of Kubernetes' service accounts, bound to a pod. Source: Kubernetes documentation,
    /// "Managing Service Accounts", bound service account tokens.
    pub fn kubernetes() -> Self {
        Self {
            repository: vec![
                "/kubernetes.io/namespace".into(),
                "/kubernetes.io/serviceaccount/name".into(),
            ],
            repository_id: "/kubernetes.io/serviceaccount/uid".into(),
            owner: "/kubernetes.io/namespace".into(),
            owner_id: "/kubernetes.io/namespace".into(),
            event: "=service_account".into(),
            actor: "/kubernetes.io/serviceaccount/name".into(),
            run_id: "/kubernetes.io/pod/uid".into(),
            ..Self::default()
        }
    }
}

/// Why a file of issuers was not loaded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}:{line}:{column}: {message}", file.display())]
pub struct IssuersError {
    /// As it was named.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    issuer: Vec<toml::Spanned<Raw>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    url: String,
    audience: String,
    kind: Kind,
    #[serde(default)]
    prefix: String,
    claims: Option<ClaimNames>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    GitHub,
    GitLab,
    Kubernetes,
    Mapped,
}

/// Reads a file of issuers; `file` is its name in errors.
///
/// # Errors
/// [`IssuersError`] with file, line and column: no TOML, an unknown or missing field, claims without
/// `kind = "mapped"` or the other way round, a prefix that is no name of a repository.
pub fn load_issuers(file: &Path, text: &str) -> Result<Vec<Issuer>, IssuersError> {
    let fail = |offset: usize, message: String| {
        let (line, column) = super::place(text, offset);
        IssuersError { file: file.to_owned(), line, column, message }
    };
    if text.len() > MAX_ISSUERS_BYTES {
        return Err(fail(0, format!("the file has over {MAX_ISSUERS_BYTES} bytes")));
    }
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        fail(error.span().unwrap_or_default().start, error.message().to_owned())
    })?;
    let mut issuers = Vec::new();
    for spanned in raw.issuer {
        let at = spanned.span().start;
        issuers.push(issuer(spanned.into_inner()).map_err(|message| fail(at, message))?);
    }
    check_prefixes(&issuers).map_err(|message| fail(0, message))?;
    Ok(issuers)
}

fn issuer(raw: Raw) -> Result<Issuer, String> {
    let claims = match (raw.kind, raw.claims) {
        (Kind::Mapped, Some(claims)) => Some(claims),
        (Kind::Mapped, None) => return Err("`kind = \"mapped\"` needs `[issuer.claims]`".into()),
        (_, Some(_)) => return Err("`[issuer.claims]` goes with `kind = \"mapped\"`".into()),
        (Kind::GitHub, None) => None,
        (Kind::GitLab, None) => Some(ClaimNames::gitlab()),
        (Kind::Kubernetes, None) => Some(ClaimNames::kubernetes()),
    };
    let Some(claims) = claims else {
        return match raw.prefix.is_empty() {
            true => Ok(Issuer { url: raw.url, audience: raw.audience, reading: Reading::GitHub }),
            false => Err("GitHub's repositories have no `prefix`".into()),
        };
    };
    let missing = [
        ("repository", claims.repository.is_empty()),
        ("repository_id", claims.repository_id.is_empty()),
        ("owner", claims.owner.is_empty()),
        ("owner_id", claims.owner_id.is_empty()),
        ("event", claims.event.is_empty()),
        ("run_id", claims.run_id.is_empty()),
    ];
    if let Some((name, _)) = missing.iter().find(|(_, missing)| *missing) {
        return Err(format!("`[issuer.claims]` has no `{name}`"));
    }
    let reading = Reading::Mapped { prefix: raw.prefix, claims };
    Ok(Issuer { url: raw.url, audience: raw.audience, reading })
}

/// Two issuers with one name for two things would let one push over the other's images.
pub(crate) fn check_prefixes(issuers: &[Issuer]) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    for issuer in issuers {
        let Reading::Mapped { prefix, .. } = &issuer.reading else { continue };
        if prefix.is_empty() && issuers.len() > 1 {
            return Err(format!("`{}` needs a `prefix` beside other issuers", issuer.url));
        }
        if !prefix.is_empty() && (prefix.contains('/') || prefix.parse::<RepositoryName>().is_err())
        {
            return Err(format!("the prefix `{prefix}` is no first part of a repository's name"));
        }
        if seen.contains(&prefix.as_str()) {
            return Err(format!("two issuers have the prefix `{prefix}`"));
        }
        seen.push(prefix);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<Issuer>, String> {
        load_issuers(Path::new("issuers.toml"), text).map_err(|error| error.to_string())
    }

    const GITLAB: &str = "[[issuer]]\nurl = \"https://gitlab.example\"\naudience = \"g\"\n\
                          kind = \"gitlab\"\nprefix = \"gitlab\"\n";

    #[test]
    fn issuers_are_read() {
        let both = format!(
            "[[issuer]]\nurl = \"https://token.example\"\naudience = \"g\"\nkind = \"github\"\n{GITLAB}"
        );
        let issuers = load(&both).unwrap();
        assert_eq!(issuers[0].reading, Reading::GitHub);
        let claims = ClaimNames::gitlab();
        assert_eq!(issuers[1].reading, Reading::Mapped { prefix: "gitlab".into(), claims });
        assert_eq!(load("").unwrap(), []);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        for (text, want) in [
            (
                "[[issuer]]\nurl = 1",
                "issuers.toml:2:7: invalid type: integer `1`, expected a string",
            ),
            (&format!("{GITLAB}x = 1"), "issuers.toml:6:1: unknown field `x`"),
            (
                &format!("{GITLAB}{GITLAB}"),
                "issuers.toml:1:1: two issuers have the prefix `gitlab`",
            ),
            (
                &GITLAB.replace("prefix = \"gitlab\"", "prefix = \"Git/Lab\""),
                "issuers.toml:1:1: the prefix `Git/Lab` is no first part",
            ),
            (
                &format!("{GITLAB}{}", GITLAB.replace("prefix = \"gitlab\"\n", "")),
                "issuers.toml:1:1: `https://gitlab.example` needs a `prefix`",
            ),
            (
                &GITLAB.replace("\"gitlab\"\nprefix", "\"github\"\nprefix"),
                "issuers.toml:1:1: GitHub's repositories have no `prefix`",
            ),
            (
                &GITLAB.replace("kind = \"gitlab\"", "kind = \"mapped\""),
                "issuers.toml:1:1: `kind = \"mapped\"` needs `[issuer.claims]`",
            ),
            (
                &format!("{GITLAB}[issuer.claims]\n"),
                "issuers.toml:1:1: `[issuer.claims]` goes with `kind = \"mapped\"`",
            ),
            (
                &format!(
                    "{}[issuer.claims]\nrepository = [\"/p\"]\n",
                    GITLAB.replace("kind = \"gitlab\"", "kind = \"mapped\"")
                ),
                "issuers.toml:1:1: `[issuer.claims]` has no `repository_id`",
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_issuers_or_an_error(text in "(\\[\\[issuer\\]\\]|\n|url = |kind = |\"x\"|\\PC){0,12}") {
            let _ = load(&text);
        }
    }
}
