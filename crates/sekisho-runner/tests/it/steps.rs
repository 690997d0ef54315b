//! `run` steps: environment, outputs, conditions, time.

use serde_json::{Value, json};

use crate::fixture::{Job, expr, finish, id, mapping, run, run_if, with};

#[tokio::test]
async fn outputs_env_and_path_reach_the_next_steps() {
    let mut job = Job::new([
        run("one", "
            echo 'version=1.2' >> $GITHUB_OUTPUT
            printf 'text<<E\\na\\nb\\nE\\n' >> \"$GITHUB_OUTPUT\"
            echo 'FROM_FILE=yes' >> $GITHUB_ENV
            mkdir -p $RUNNER_TEMP/bin; printf '#!/bin/sh\\necho my tool\\n' > $RUNNER_TEMP/bin/mytool
            chmod +x $RUNNER_TEMP/bin/mytool; echo $RUNNER_TEMP/bin >> $GITHUB_PATH
            echo '::set-output name=old::still%0Aworks'"),
        with(run("two", "mytool; echo \"$FROM_FILE/$STEP/$JOB/$VERSION\""), json!({
            "environment": mapping(&[
                ("STEP", expr("format('{0}!', env.JOB)")),
                ("VERSION", expr("steps.one.outputs.version")),
            ]),
        })),
    ]);
    job.env = vec![
        mapping(&[("JOB", json!("workflow")), ("ONLY", json!("w"))]),
        mapping(&[("JOB", expr("format('{0}+job', env.ONLY)"))]),
    ];
    job.outputs = mapping(&[
        ("version", expr("steps.one.outputs.version")),
        ("text", expr("steps.one.outputs.text")),
        ("old", expr("steps.one.outputs.old")),
        ("outcome", expr("steps.two.outcome")),
    ]);
    let done = finish(job).await;
    done.assert_conclusion("succeeded");
    done.assert_logged("two", "my tool");
    done.assert_logged("two", "yes/w+job!/w+job/1.2");
    let output = |name: &str| done.complete["outputs"][name]["value"].as_str().unwrap().to_owned();
    assert_eq!(
        [output("version"), output("text"), output("old"), output("outcome")],
        ["1.2", "a\nb", "still\nworks", "success"]
    );
}

#[tokio::test]
async fn only_the_documented_variables_are_set() {
    let job = Job::new([with(
        run("env", "env | sort > $RUNNER_TEMP/../../env.txt"),
        json!({
            "environment": mapping(&[("GITHUB_SHA", json!("mine"))]),
        }),
    )]);
    let done = finish(job).await;
    done.assert_conclusion("succeeded");
    let text = std::fs::read_to_string(done.root.path().join("root/env.txt")).unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.map(str::to_owned)
    };
    let set = |name: &str| value(name).unwrap_or_else(|| panic!("{name} is not set"));
    assert_eq!(set("GITHUB_ACTIONS"), "true");
    assert_eq!(set("CI"), "true");
    assert_eq!(set("GITHUB_JOB"), "build");
    assert_eq!(set("GITHUB_ACTION"), "env");
    assert_eq!(set("GITHUB_SHA"), "0123456789012345678901234567890123456789");
    assert_eq!(set("RUNNER_OS"), "Linux");
    assert_eq!(set("RUNNER_NAME"), "r-7f");
    assert!(set("GITHUB_WORKSPACE").ends_with("/_work/app/app"));
    assert!(set("RUNNER_TRACKING_ID").starts_with("github_"));
    assert!(set("ACTIONS_ID_TOKEN_REQUEST_URL").contains("/idtoken?api-version=2.0"));
    assert_eq!(set("ACTIONS_ORCHESTRATION_ID"), "orch-1");
    for name in ["GITHUB_TOKEN", "GITHUB_NOT_EXPORTED", "GITHUB_EVENT", "ACTIONS_RUNTIME_TOKEN"] {
        assert_eq!(value(name), None, "{name}");
    }
}

#[tokio::test]
async fn the_event_is_a_file() {
    let done = finish(Job::new([run("event", "cat $GITHUB_EVENT_PATH; echo; pwd")])).await;
    done.assert_logged("event", "{\"n\":2}");
    assert!(done.log("event").iter().any(|line| line.ends_with("/_work/app/app")));
}

#[tokio::test]
async fn a_failure_gates_the_steps_after_it() {
    let done = finish(Job::new([
        run("fails", "exit 3"),
        run("normal", "echo no"),
        run_if("on-failure", "failure()", "echo yes"),
        run_if("always", "always()", "echo yes"),
        run_if("cancelled", "cancelled()", "echo no"),
        run_if("on-outcome", "failure() && steps.fails.outcome == 'failure'", "echo yes"),
        run_if("status", "always() && job.status == 'failure'", "echo yes"),
    ]))
    .await;
    done.assert_conclusion("failed");
    done.assert_logged("fails", "##[error]Process completed with exit code 3.");
    let conclusions: Vec<String> = done.conclusions().into_iter().map(|(_, c)| c).collect();
    let want = ["failed", "skipped", "succeeded", "succeeded", "skipped", "succeeded", "succeeded"];
    assert_eq!(conclusions, want);
    let annotation = &done.step("fails")["annotations"][0];
    assert_eq!(annotation["level"], json!("failure"));
    assert_eq!(annotation["stepNumber"], json!(2));
}

#[tokio::test]
async fn a_wrong_condition_fails_its_step() {
    let done = finish(Job::new([run_if("wrong", "fromJSON('{')", "echo no")])).await;
    done.assert_conclusion("failed");
    assert_eq!(done.step("wrong")["conclusion"], json!("failed"));
    assert!(done.stdout.contains("The `if` of the step cannot be evaluated."), "{}", done.stdout);
}

#[tokio::test]
async fn continue_on_error_turns_failure_into_success() {
    let done = finish(Job::new([
        with(run("fails", "exit 1"), json!({"continueOnError": expr("true")})),
        run("next", "echo next"),
        run_if(
            "seen",
            "steps.fails.outcome == 'failure' && steps.fails.conclusion == 'success'",
            "echo seen",
        ),
    ]))
    .await;
    done.assert_conclusion("succeeded");
    done.assert_logged("next", "next");
    done.assert_logged("seen", "seen");
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_stopped_with_all_its_processes() {
    let step = run("slow", "sleep 300 & echo started; sleep 300");
    let done = finish(Job::new([
        with(step, json!({"timeoutInMinutes": 0.01})),
        run_if("after", "failure()", "echo after"),
    ]))
    .await;
    done.assert_conclusion("failed");
    let name = "sleep 300 & echo started; sleep 300";
    done.assert_logged(
        "slow",
        &format!("##[error]The action 'Run {name}' has timed out after 0.01 minutes."),
    );
    done.assert_logged("after", "after");
}

#[tokio::test]
async fn shells_and_folders() {
    let with_inputs = |name: &str, script: &str, more: &[(&str, Value)]| {
        let mut inputs = vec![("script", json!(script))];
        inputs.extend_from_slice(more);
        with(run(name, script), json!({"inputs": mapping(&inputs)}))
    };
    let mut job = Job::new([
        run("default", "mkdir -p sub other; false | true; echo $0 | grep -o '[.]sh$'"),
        with_inputs("bash", "(false | true) && echo no", &[("shell", json!("bash"))]),
        run_if("sh", "always()", "pwd"),
        with(
            with_inputs(
                "custom",
                "echo $0 $-",
                &[("shell", json!("sh -u {0}")), ("workingDirectory", json!("other"))],
            ),
            json!({"condition": "always()"}),
        ),
        with(
            with_inputs("pwsh", "x", &[("shell", json!("pwsh"))]),
            json!({"condition": "always()"}),
        ),
        with(
            with_inputs("gone", "x", &[("workingDirectory", json!("nope"))]),
            json!({"condition": "always()"}),
        ),
    ]);
    job.defaults = vec![
        mapping(&[("run", mapping(&[("working-directory", json!("."))]))]),
        mapping(&[("run", mapping(&[("working-directory", expr("format('{0}', 'sub')"))]))]),
    ];
    // The first step makes the folder that is the default, so it names another.
    let inputs = mapping(&[
        ("script", json!("mkdir -p sub other; false | true; echo $0 | grep -o '[.]sh$'")),
        ("workingDirectory", json!(".")),
    ]);
    job.steps[0] = with(job.steps[0].clone(), json!({"inputs": inputs}));
    let done = finish(job).await;
    done.assert_logged("default", ".sh");
    assert_eq!(done.step("bash")["conclusion"], json!("failed"), "pipefail is on");
    assert!(done.log("sh").iter().any(|line| line.ends_with("/app/app/sub")));
    assert!(done.log("custom").iter().any(|line| line.ends_with(" u")), "{:?}", done.log("custom"));
    assert!(
        done.log("custom")
            .iter()
            .any(|line| line.starts_with("shell: ") && line.ends_with("/sh -u {0}"))
    );
    assert!(done.stdout.contains("shell `pwsh` is not supported"));
    assert!(done.stdout.contains("nope` does not exist"));
}

#[tokio::test]
async fn python_is_a_shell() {
    let there = std::process::Command::new("python").arg("-c").arg("").status();
    if !there.is_ok_and(|status| status.success()) {
        println!("skipped: needs python");
        return;
    }
    let inputs = mapping(&[("script", json!("print(1 + 2)")), ("shell", json!("python"))]);
    let done = finish(Job::new([with(run("py", ""), json!({"inputs": inputs}))])).await;
    done.assert_logged("py", "3");
}

#[tokio::test]
async fn commands_make_annotations_and_groups() {
    let done = finish(Job::new([run(
        "say",
        "
        echo '::warning file=a.c,line=3,col=5::look%0Ahere'
        echo '::notice::n'
        echo '::debug::hidden'
        echo '::group::G'
        echo 'in'
        echo '::endgroup::'
        echo '::stop-commands::tok3n'
        echo '::error::not one'
        echo '::tok3n::'
        for i in $(seq 12); do echo \"::error::e$i\"; done
        echo '::unknown::x'",
    )]))
    .await;
    done.assert_conclusion("succeeded");
    for line in [
        "##[warning]look",
        "here",
        "##[notice]n",
        "##[group]G",
        "##[endgroup]",
        "::error::not one",
        "##[error]e12",
        "::unknown::x",
    ] {
        done.assert_logged("say", line);
    }
    assert!(!done.log("say").contains(&"##[debug]hidden".to_owned()));
    let annotations = done.step("say")["annotations"].as_array().unwrap();
    let of = |level: &str| annotations.iter().filter(|a| a["level"] == json!(level)).count();
    assert_eq!((of("warning"), of("notice"), of("failure")), (1, 1, 10));
    assert_eq!(annotations[0]["path"], json!("a.c"));
    assert_eq!(annotations[0]["startLine"], json!(3));
    assert_eq!(annotations[0]["message"], json!("look\nhere"));
}

#[tokio::test]
async fn wrong_file_commands_fail_their_step() {
    let done = finish(Job::new([
        run("bad", "echo 'no separator' >> $GITHUB_ENV"),
        run_if("node", "always()", "echo 'NODE_OPTIONS=x' >> $GITHUB_ENV"),
        run_if("set-env", "always()", "echo '::set-env name=A::b'"),
    ]))
    .await;
    for name in ["bad", "node", "set-env"] {
        assert_eq!(done.step(name)["conclusion"], json!("failed"), "{name}");
    }
    done.assert_logged("bad", "##[error]Invalid format 'no separator'");
}

#[tokio::test]
async fn summaries_are_uploaded_and_limited() {
    let done = finish(Job::new([
        run("sum", "echo '# Title' >> $GITHUB_STEP_SUMMARY"),
        run("big", "head -c 1048577 /dev/zero | tr '\\0' x > $GITHUB_STEP_SUMMARY"),
    ]))
    .await;
    done.assert_conclusion("succeeded");
    let summary = |name: &str| done.told.blobs.get(&format!("summary-{}", id(name)));
    assert_eq!(summary("sum").map(Vec::as_slice), Some(b"# Title\n".as_slice()));
    assert_eq!(summary("big"), None);
    assert!(done.stdout.contains("$GITHUB_STEP_SUMMARY upload aborted"));
}

#[tokio::test]
async fn what_a_step_leaves_running_is_ended_with_the_job() {
    let done = finish(Job::new([run(
        "daemon",
        "
        setsid sleep 4242 >/dev/null 2>&1 &
        echo $! > $GITHUB_WORKSPACE/pid
        until grep -q sleep /proc/$!/comm; do sleep 0.02; done
        echo done",
    )]))
    .await;
    done.assert_conclusion("succeeded");
    let pid = std::fs::read_to_string(done.root.path().join("root/_work/app/app/pid")).unwrap();
    let line = format!("Terminate orphan process: pid ({}) (sleep)", pid.trim());
    assert!(done.stdout.contains(&line), "no `{line}` in:\n{}", done.stdout);
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[tokio::test]
async fn hash_files_sees_the_workspace() {
    let mut job = Job::new([run("make", "echo x > a.lock")]);
    job.steps.push(with(
        run("hash", "echo \"[$H]\""),
        json!({
            "environment": mapping(&[("H", expr("hashFiles('*.lock')"))]),
        }),
    ));
    let done = finish(job).await;
    let line = done.log("hash").into_iter().find(|line| line.starts_with('[')).unwrap();
    assert_eq!(line.len(), 66, "{line}");
}
