//! Local composite actions.

use serde_json::json;

use crate::fixture::{Finished, Fixture, Job, expr, local, mapping, run, run_if, with};

const GREET: &str = "
name: greet
inputs:
  who: {required: true}
  greeting: {default: Hello}
outputs:
  said: {value: '${{ steps.say.outputs.said }}'}
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      env: {TEXT: '${{ inputs.greeting }} ${{ inputs.who }}'}
      run: |
        echo \"$TEXT from $OUTER in $(basename $GITHUB_ACTION_PATH)\"
        echo \"said=$TEXT\" >> $GITHUB_OUTPUT
        echo \"SET_INSIDE=1\" >> $GITHUB_ENV
        echo \"part\" >> $GITHUB_STEP_SUMMARY
    - if: inputs.who == 'nobody'
      shell: sh
      run: echo not shown
    - shell: sh
      run: echo \"part two\" >> $GITHUB_STEP_SUMMARY
";

async fn with_actions(actions: &[(&str, &str)], job: Job) -> Finished {
    let fixture = Fixture::new().await;
    for (name, manifest) in actions {
        let folder = fixture.workspace().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("action.yml"), manifest).unwrap();
    }
    fixture.run(job).await
}

#[tokio::test]
async fn inputs_outputs_and_scopes() {
    let mut job = Job::new([
        with(
            local("greet", "./greet", &[("who", expr("github.ref_name"))]),
            json!({
                "environment": mapping(&[("OUTER", json!("outside"))]),
            }),
        ),
        run("after", "echo \"set: $SET_INSIDE\""),
        run_if("no-inner", "steps.say == null", "echo inner steps are not seen"),
    ]);
    job.outputs = mapping(&[("said", expr("steps.greet.outputs.said"))]);
    let done = with_actions(&[("greet", GREET)], job).await;
    done.assert_conclusion("succeeded");
    done.assert_logged("greet", "Hello main from outside in greet");
    done.assert_logged("after", "set: 1");
    done.assert_logged("no-inner", "inner steps are not seen");
    assert!(!done.log("greet").contains(&"not shown".to_owned()));
    assert_eq!(done.complete["outputs"]["said"]["value"], json!("Hello main"));
    let summary = &done.told.blobs[&format!("summary-{}", crate::fixture::id("greet"))];
    assert_eq!(String::from_utf8_lossy(summary), "part\npart two\n");
}

#[tokio::test]
async fn a_failing_step_fails_the_action_but_its_own_cleanup_runs() {
    let action = "
runs:
  using: composite
  steps:
    - {shell: sh, run: exit 7}
    - {shell: sh, run: echo not run}
    - {if: failure(), shell: sh, run: 'echo failure seen'}
    - {if: always(), shell: sh, run: 'echo always'}
";
    let job = Job::new([local("act", "./act", &[]), run("next", "echo no")]);
    let done = with_actions(&[("act", action)], job).await;
    done.assert_conclusion("failed");
    done.assert_logged("act", "##[error]Process completed with exit code 7.");
    done.assert_logged("act", "failure seen");
    done.assert_logged("act", "always");
    assert!(!done.log("act").contains(&"not run".to_owned()));
    assert_eq!(done.step("next")["conclusion"], json!("skipped"));
}

#[tokio::test]
async fn actions_call_actions_up_to_a_limit() {
    let outer = "runs: {using: composite, steps: [{uses: ./inner, with: {a: '${{ inputs.a }}'}}]}\n\
                 inputs: {a: {default: deep}}";
    let inner = "runs: {using: composite, steps: [{shell: sh, run: 'echo ${{ inputs.a }}'}]}\n\
                 inputs: {a: {}}";
    let job = Job::new([local("outer", "./outer", &[])]);
    let done = with_actions(&[("outer", outer), ("inner", inner)], job).await;
    done.assert_conclusion("succeeded");
    done.assert_logged("outer", "deep");
    let own = "runs: {using: composite, steps: [{uses: ./own}]}";
    let done = with_actions(&[("own", own)], Job::new([local("own", "./own", &[])])).await;
    done.assert_conclusion("failed");
    assert!(done.stdout.contains("nested deeper than 10 levels"), "{}", done.stdout);
}

#[tokio::test]
async fn what_is_not_composite_or_not_there_is_said() {
    let job = Job::new([
        local("js", "./js", &[]),
        with(local("gone", "./gone", &[]), json!({"condition": "always()"})),
    ]);
    let done = with_actions(&[("js", "runs: {using: docker, image: x}")], job).await;
    done.assert_conclusion("failed");
    assert!(
        done.stdout.contains("./js/action.yml:1:15: actions with `using: docker` are not"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("Can't find 'action.yml' or 'action.yaml' under './gone'"));
}
