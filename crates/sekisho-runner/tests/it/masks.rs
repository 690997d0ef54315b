//! A secret appears nowhere that a runner writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::fixture::{Finished, Job, expr, finish, mapping, run, with};
use crate::server::JOB_TOKEN;

/// Everything that went out of the runner, as one text.
fn everything(done: &Finished) -> String {
    let mut all = done.stdout.clone();
    all.push_str(&done.complete.to_string());
    for value in done.told.updates.iter().chain(&done.told.feed).chain(&done.told.metadata) {
        all.push_str(&value.to_string());
    }
    for blob in done.told.blobs.values() {
        all.push_str(&String::from_utf8_lossy(blob));
    }
    all
}

#[track_caller]
fn assert_absent(done: &Finished, secrets: &[&str]) {
    let all = everything(done);
    for secret in secrets {
        if let Some(at) = all.find(secret) {
            let from = all[..at].char_indices().rev().nth(60).map_or(0, |(at, _)| at);
            panic!("a secret got out: …{}", &all[from..at + secret.len()]);
        }
    }
}

#[tokio::test]
async fn no_form_of_a_secret_gets_out() {
    let secret = "s3cr3t&\"value'/42";
    let mut job = Job::new([with(
        run(
            "leak",
            "
            echo \"plain $S\"
            echo \"$S\" | base64; echo \"x$S\" | base64; echo \"xy$S\" | base64
            printf '%s' \"$S\" | sed 's/.*/{\"k\":\"&\"}/'
            python3 -c 'import json,os,urllib.parse as u; print(json.dumps(os.environ[\"S\"]), \
                u.quote(os.environ[\"S\"], safe=\"\"))' || true
            echo \"::error title=$S::message $S\"
            echo \"summary $S\" >> $GITHUB_STEP_SUMMARY
            echo \"out=$S\" >> $GITHUB_OUTPUT
            echo \"fine=1\" >> $GITHUB_OUTPUT
            echo \"$M\"; echo \"$M\" | head -1
            printf '%s' \"$M\" | base64 -w0; echo; echo \"ab$M\" | tail -1 | base64 -w0; echo
            echo \"$ACTIONS_ID_TOKEN_REQUEST_TOKEN\"
            echo \"::notice::$TOKEN\"
            echo \"bad file line $S\" >> $GITHUB_STATE",
        ),
        json!({
            "environment": mapping(&[
                ("S", expr("secrets.MY_SECRET")),
                ("M", expr("secrets.LINES")),
                ("TOKEN", expr("github.token")),
            ]),
            "displayNameToken": expr("format('leak {0}', secrets.MY_SECRET)"),
        }),
    )]);
    job.variables = json!({
        "MY_SECRET": {"value": secret, "isSecret": true},
        "LINES": {"value": "first-secret-line\nsecond-secret-line", "isSecret": true},
    });
    job.outputs = mapping(&[
        ("out", expr("steps.leak.outputs.out")),
        ("fine", expr("steps.leak.outputs.fine")),
    ]);
    let done = finish(job).await;
    // Its state file is wrong, so it fails; the message quotes a line with the secret.
    done.assert_conclusion("failed");
    done.assert_logged("leak", "plain ***");
    let encoded = STANDARD.encode(secret);
    let lines = STANDARD.encode("first-secret-line\nsecond-secret-line");
    let last = STANDARD.encode("second-secret-line");
    assert_absent(
        &done,
        &[
            secret,
            &encoded[..20],
            &lines[..40],
            &last[..20],
            "s3cr3t&\\\"value'/42",
            "s3cr3t%26%22value%27%2F42",
            "first-secret-line",
            "second-secret-line",
            JOB_TOKEN,
            "ghs_the-token-of-the-job",
        ],
    );
    assert_eq!(done.complete["outputs"], json!({"fine": {"value": "1", "isSecret": false}}));
    assert!(done.stdout.contains("Skip output 'out' since it may contain secret."));
    assert_eq!(done.step("leak")["name"], json!("leak ***"));
}

#[tokio::test]
async fn a_mask_that_is_added_holds_from_then_on() {
    let done = finish(Job::new([
        run(
            "add",
            "
            V=$(printf 'made%s' -up-value)
            echo \"::add-mask::$V\"; echo \"see $V\"; echo \"v=$V\" >> $GITHUB_OUTPUT",
        ),
        with(
            run("later", "echo \"later $V\"; echo \"$V\" | tr -d '\\n' | base64"),
            json!({
                "environment": mapping(&[("V", expr("steps.add.outputs.v"))]),
            }),
        ),
    ]))
    .await;
    done.assert_conclusion("succeeded");
    done.assert_logged("add", "see ***");
    done.assert_logged("later", "later ***");
    assert_absent(&done, &["made-up-value", &STANDARD.encode("made-up-value")[..16]]);
}

#[tokio::test]
async fn hints_of_the_message_are_masked() {
    let mut job = Job::new([run("say", "echo tok_$((40+2)) and pla\"\"in-value")]);
    job.extra = json!({"mask": [{"type": "regex", "value": "tok_[0-9]+"},
        {"type": "Variable", "value": "hidden"}]});
    job.variables = json!({"hidden": {"value": "plain-value", "isSecret": false}});
    let done = finish(job).await;
    done.assert_logged("say", "*** and ***");
    let mut job = Job::new([run("say", "echo anything")]);
    job.extra = json!({"mask": [{"type": "regex", "value": "("}]});
    let done = finish(job).await;
    done.assert_conclusion("failed");
    assert!(!done.stdout.contains("anything"), "nothing is shown that cannot be masked");
}
