//! Reusable workflows: what is called, with what, and what comes back.

use super::*;
use Conclusion::{Failure, Success};

const MAIN: &str = ".github/workflows/main.yml";
const CALLED: &str = ".github/workflows/called.yml";

fn files(main: &str, called: &str) -> Files {
    Files(vec![(MAIN, main.to_owned()), (CALLED, called.to_owned())])
}

/// The central pipeline, as far as a test needs it.
const PIPELINE: &str = "name: Image
on:
  workflow_call:
    inputs:
      push: { type: boolean, default: true }
    outputs:
      digest: { value: '${{ jobs.build.outputs.digest }}' }
env: { FROM: called }
jobs:
  build:
    name: Build
    runs-on: default
    outputs: { digest: '${{ steps.b.outputs.digest }}' }
    steps: [{ id: b, run: sekisho build, if: inputs.push }]
";

#[test]
fn the_five_lines_of_the_central_pipeline() {
    let files = Files(vec![
        (MAIN, crate::model::tests::CENTRAL.to_owned()),
        ("sekisho/pipeline/.github/workflows/image.yml", PIPELINE.to_owned()),
    ]);
    let mut hub = Hub::new(plan_of(&files));
    let names: Vec<_> = hub.plan.jobs.iter().map(|j| (j.key.as_str(), j.name.as_str())).collect();
    assert_eq!(names, [("image", "image"), ("image/build", "image / Build")]);
    let job = hub.plan.job("image/build").expect("the called job");
    assert_eq!((job.id.as_str(), job.parent.as_deref()), ("build", Some("image")));
    assert_eq!(job.permissions.get("id-token"), Access::Write, "from its caller");
    let source = &hub.plan.files[job.file];
    assert_eq!(source.workflow_ref(), "sekisho/pipeline/.github/workflows/image.yml@v1");

    hub.settle();
    hub.check(&[("image", "running"), ("image/build", "queued")]);
    let ready = &hub.ready["image/build"];
    assert_eq!(ready.name, "image / Build");
    assert_eq!(ready.labels, ["default"]);
    assert_eq!(ready.inputs.to_json(), json!({"push": true}));
    hub.end("image/build", Success, &[("digest", "sha256:1")]);
    let outputs = match &hub.states["image"] {
        JobState::Completed { outputs, .. } => outputs.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(outputs, BTreeMap::from([("digest".to_owned(), "sha256:1".to_owned())]));
    assert_eq!(hub.ended, Some(Success));
}

#[test]
fn inputs_and_outputs_travel() {
    let main = "on: push
jobs:
  a: { runs-on: x, steps: [{ run: x }] }
  call:
    needs: a
    name: Call ${{ needs.a.outputs.tag }}
    uses: ./.github/workflows/called.yml
    with:
      tag: v${{ needs.a.outputs.tag }}
      number: ${{ fromJSON(needs.a.outputs.number) }}
  b:
    needs: call
    if: needs.call.outputs.both
    runs-on: x
    steps: [{ run: x }]
";
    let called = "on:
  workflow_call:
    inputs:
      tag: { type: string, required: true }
      number: { type: number }
      flag: { type: boolean }
      text: { type: string, default: '${{ inputs.tag }}-${{ vars.SIZE }}' }
    outputs:
      both: { value: '${{ jobs.x.outputs.o }}+${{ jobs.y.result }}+${{ inputs.tag }}' }
jobs:
  x: { name: 'X ${{ inputs.tag }}', runs-on: x, steps: [{ run: x }] }
  y: { needs: x, if: 'inputs.number > 3', runs-on: x, steps: [{ run: x }] }
";
    let mut hub = Hub::new(plan_of(&files(main, called)));
    hub.settle();
    hub.check(&[("a", "queued"), ("call", "absent"), ("call/x", "absent")]);
    hub.end("a", Success, &[("tag", "7"), ("number", "4")]);
    let x = &hub.ready["call/x"];
    assert_eq!(x.name, "Call 7 / X v7");
    assert_eq!(
        x.inputs.to_json(),
        json!({"tag": "v7", "number": 4, "flag": false, "text": "v7-large"})
    );
    assert_eq!(x.needs.to_json(), json!({}), "the caller's needs stay with the caller");
    hub.end("call/x", Success, &[("o", "out")]);
    hub.check(&[("call/y", "queued"), ("b", "absent")]);
    hub.end("call/y", Success, &[]);
    hub.check(&[("call", "success"), ("b", "queued")]);
    let outputs = hub.ready["b"].needs.get("call").get("outputs").to_json();
    assert_eq!(outputs, json!({"both": "out+success+v7"}));
}

#[test]
fn a_call_fails_with_its_jobs_and_is_skipped_with_them() {
    let main = "on: push
jobs:
  a: { runs-on: x, steps: [{ run: x }] }
  call: { needs: a, uses: ./.github/workflows/called.yml }
  b: { needs: call, runs-on: x, steps: [{ run: x }] }
";
    let called = "on: workflow_call
jobs:
  x: { runs-on: x, steps: [{ run: x }] }
  y: { needs: x, runs-on: x, steps: [{ run: x }] }
";
    let mut skipped = Hub::new(plan_of(&files(main, called)));
    skipped.settle();
    skipped.end("a", Failure, &[]);
    skipped.check(&[
        ("call", "skipped"),
        ("call/x", "skipped"),
        ("call/y", "skipped"),
        ("b", "skipped"),
    ]);
    assert_eq!(skipped.ended, Some(Failure));

    let mut failed = Hub::new(plan_of(&files(main, called)));
    failed.settle();
    failed.end("a", Success, &[]);
    failed.end("call/x", Failure, &[]);
    failed.check(&[("call/y", "skipped"), ("call", "failure"), ("b", "skipped")]);
    assert_eq!(failed.ended, Some(Failure));

    let mut cancelled = Hub::new(plan_of(&files(main, called)));
    cancelled.settle();
    cancelled.end("a", Success, &[]);
    cancelled.cancelled = true;
    cancelled.settle();
    cancelled.check(&[("call/x", "cancelled"), ("call/y", "skipped"), ("call", "cancelled")]);
    assert_eq!(cancelled.ended, Some(Conclusion::Cancelled));
}

#[test]
fn inputs_of_the_wrong_type_fail_the_call() {
    let main = "on: push
jobs:
  a: { runs-on: x, steps: [{ run: x }] }
  call:
    needs: a
    uses: ./.github/workflows/called.yml
    with: { flag: '${{ needs.a.outputs.flag }}' }
";
    let called = "on: { workflow_call: { inputs: { flag: { type: boolean } } } }
jobs: { x: { runs-on: x, steps: [{ run: x }] } }
";
    let mut hub = Hub::new(plan_of(&files(main, called)));
    hub.settle();
    hub.end("a", Success, &[("flag", "true")]);
    hub.check(&[("call", "failure"), ("call/x", "skipped")]);
    assert_eq!(
        hub.messages,
        [
            "call: input `flag` must be a boolean, but is a string; text becomes one with `fromJSON(…)`"
        ]
    );
    assert_eq!(hub.ended, Some(Failure));
}

#[test]
fn a_matrix_of_calls() {
    let main = "on: push
jobs:
  call:
    strategy: { matrix: { os: [linux, mac] } }
    uses: ./.github/workflows/called.yml
    with: { os: '${{ matrix.os }}' }
";
    let called = "on: { workflow_call: { inputs: { os: { type: string } } } }
jobs:
  x: { runs-on: '${{ inputs.os }}', steps: [{ run: x }] }
  y: { needs: x, runs-on: x, steps: [{ run: x }] }
";
    let mut hub = Hub::new(plan_of(&files(main, called)));
    hub.settle();
    assert_eq!(hub.ready["call#0/x"].labels, ["linux"]);
    assert_eq!(hub.ready["call#1/x"].name, "call (mac) / x");
    hub.end("call#0/x", Failure, &[]);
    // Its failure ends the other call, jobs and all.
    hub.check(&[
        ("call#0", "failure"),
        ("call#1/x", "cancelled"),
        ("call#1/y", "cancelled"),
        ("call#1", "cancelled"),
    ]);
    assert_eq!(hub.ended, Some(Failure));
}

#[test]
fn calls_within_calls() {
    let files = Files(vec![
        (MAIN, "on: push\njobs:\n  a:\n    permissions: { contents: write }\n    uses: other/repo/.github/workflows/mid.yml@v2\n    with: { n: 1 }\n    secrets: { token: '${{ secrets.MINE }}' }\n".into()),
        ("other/repo/.github/workflows/mid.yml", "on: { workflow_call: { inputs: { n: { type: number } }, secrets: { token: } } }\npermissions: { contents: read }\njobs:\n  b:\n    uses: ./.github/workflows/leaf.yml\n    with: { m: '${{ inputs.n }}' }\n    secrets: inherit\n".into()),
        ("other/repo/.github/workflows/leaf.yml", "on: { workflow_call: { inputs: { m: { type: string } }, outputs: { o: { value: '${{ jobs.c.outputs.o }}' } } } }\njobs: { c: { name: 'C ${{ inputs.m }}', runs-on: x, steps: [{ run: x }] } }\n".into()),
    ]);
    let mut hub = Hub::new(plan_of(&files));
    hub.settle();
    hub.check(&[("a", "running"), ("a/b", "running"), ("a/b/c", "queued")]);
    let job = hub.plan.job("a/b/c").expect("leaf");
    assert_eq!(job.name, "a / b / C 1");
    assert_eq!(job.permissions, Permissions::none().with("contents", Access::Read));
    // A local reference in another repository's file is of that repository, at that reference.
    assert_eq!(hub.plan.files[job.file].workflow_ref(), "other/repo/.github/workflows/leaf.yml@v2");

    let own = Value::from(json!({"MINE": "m", "HIDDEN": "h", "GITHUB_TOKEN": "t"}));
    let secrets = |key: &str| secrets_of(&hub.observed(), key, &own).map(|s| s.to_json());
    assert_eq!(secrets("a/b/c"), Ok(json!({"token": "m", "GITHUB_TOKEN": "t"})));
    assert_eq!(secrets("a"), Ok(own.to_json()));

    hub.end("a/b/c", Success, &[("o", "1")]);
    assert_eq!(hub.ended, Some(Success));
}

#[test]
fn what_cannot_be_called() {
    let called = "on: { workflow_call: { inputs: { tag: { type: string, required: true }, n: { type: number } }, secrets: { key: { required: true } } } }
permissions: { id-token: write }
jobs: { x: { runs-on: x, steps: [{ run: x }] } }
";
    let main = |keys: &str| format!("on: push\njobs:\n  call:\n    uses: ./{CALLED}\n{keys}");
    let at = |rest: &str| format!("{MAIN}:{rest}");
    refuses(
        &files(
            &main(
                "    with: { tga: x, n: y }\n    permissions: { id-token: write }\n    secrets: inherit\n",
            ),
            called,
        ),
        &[
            &at(
                "5:13: `./.github/workflows/called.yml` declares no input `tga`; did you mean `tag`?",
            ),
            &at(
                "5:21: input `n` must be a number, but is a string; text becomes one with `fromJSON(…)`",
            ),
            &at("4:5: `./.github/workflows/called.yml` requires input `tag`, which is not given"),
        ],
    );
    refuses(
        &files(
            &main(
                "    with: { tag: x }\n    permissions: { id-token: write }\n    secrets: { kye: x }\n",
            ),
            called,
        ),
        &[
            &at(
                "7:16: `./.github/workflows/called.yml` declares no secret `kye`; did you mean `key`?",
            ),
            &at("4:5: `./.github/workflows/called.yml` requires secret `key`, which is not given"),
        ],
    );
    refuses(
        &files(&main("    with: { tag: x }\n    secrets: inherit\n"), called),
        &[
            "me/app/.github/workflows/called.yml@refs/heads/main:3:9: job `x` asks for `id-token: write`, but its caller only grants `id-token: none`",
        ],
    );
    let plain = "on: push\njobs: { x: { runs-on: x, steps: [{ run: x }] } }\n";
    refuses(
        &files(&main(""), plain),
        &[&at(
            "4:5: `./.github/workflows/called.yml` cannot be called: it has no `on: workflow_call`",
        )],
    );
    refuses(
        &one_file(&main("")),
        &[&at(
            "4:5: cannot call `./.github/workflows/called.yml`: no file .github/workflows/called.yml",
        )],
    );
    refuses(
        &files(&main(""), "on: [workflow_call"),
        &[
            &at("4:5: the called workflow `./.github/workflows/called.yml` has errors"),
            ".github/workflows/called.yml:2:1: invalid YAML: while parsing a flow sequence, expected ',' or ']'",
        ],
    );
}

#[test]
fn calls_that_never_end() {
    let circle = format!("on: [push, workflow_call]\njobs: {{ a: {{ uses: ./{CALLED} }} }}\n");
    let problems = files(&circle, &circle).expand(&contexts()).expect_err("a circle");
    assert!(problems[0].message.ends_with("calls itself"), "{problems:?}");

    // Each reference is another file: only the depth ends it.
    let endless = |reference: &WorkflowReference, _: &WorkflowSource| {
        let WorkflowReference::Remote { reference, path, repository } = reference else {
            return Err(ResolveError::NotFound("local".into()));
        };
        let next = format!("{reference}x");
        let text = format!(
            "on: [push, workflow_call]\njobs: {{ a: {{ uses: o/r/.github/workflows/f.yml@{next} }}, b: {{ uses: o/r/.github/workflows/f.yml@{next} }} }}\n"
        );
        let source = WorkflowSource {
            repository: repository.clone(),
            path: path.clone(),
            git_ref: reference.clone(),
            sha: "1".into(),
        };
        model::parse(path, &text)
            .map(|workflow| Resolved { workflow, source })
            .map_err(ResolveError::Invalid)
    };
    let first = WorkflowReference::parse("o/r/.github/workflows/f.yml@x").expect("a reference");
    let source = WorkflowSource {
        repository: "o/r".into(),
        path: "f.yml".into(),
        git_ref: "y".into(),
        sha: "1".into(),
    };
    let root = endless(&first, &source).expect("a root");
    let problems = expand(&root, &endless, &contexts()).expect_err("endless");
    assert_eq!(problems.len(), 10);
    assert_eq!(problems[0].message, "workflows call each other deeper than 10 levels");
}

#[test]
fn inputs_given_by_hand() {
    let text = "on:
  workflow_dispatch:
    inputs:
      level: { type: choice, options: [low, high] }
      dry: { type: boolean, default: true }
      count: { type: number }
      note: { required: true }
jobs: { a: { runs-on: x, steps: [{ run: x }] } }
";
    let workflow = model::parse("w.yml", text).expect("sound");
    let inputs = workflow.on.workflow_dispatch().expect("dispatch");
    let given = |json: serde_json::Value| {
        dispatch_inputs(inputs, json.as_object().expect("an object")).map(|v| v.to_json())
    };
    assert_eq!(
        given(json!({"note": "x", "dry": "false", "Count": "3"})),
        Ok(json!({"level": "low", "dry": false, "count": 3, "note": "x"}))
    );
    let refused = |json| given(json).expect_err("refused");
    assert_eq!(refused(json!({})), "input `note` is required, and was not given");
    assert_eq!(refused(json!({"x": 1})), "the workflow declares no input `x`");
    assert_eq!(
        refused(json!({"level": "mid"})),
        "input `level` must be one of low, high, not `mid`"
    );
    assert!(refused(json!({"dry": "yes"})).starts_with("input `dry` must be a boolean"));
    assert!(refused(json!({"note": [1]})).starts_with("input `note` must be a string"));
}

#[test]
fn a_called_workflow_has_no_more_of_caches_than_its_caller() {
    use crate::model::CacheMode::{self, None as Nothing, Read, Write, WriteOnly};
    let check = |caller: &str, called: &str, want: [Option<CacheMode>; 2]| {
        let main = format!(
            "on: push\n{caller}jobs:\n  call: {{ uses: ./.github/workflows/called.yml }}\n"
        );
        let called = format!(
            "on: workflow_call\n{called}jobs:\n  a: {{ runs-on: x, steps: [{{ run: x }}] }}\n  b: {{ cache-mode: read, runs-on: x, steps: [{{ run: x }}] }}\n"
        );
        let plan = plan_of(&files(&main, &called));
        let mode = |key: &str| plan.job(key).expect("a job").cache_mode;
        assert_eq!([mode("call/a"), mode("call/b")], want, "{caller}{called}");
    };
    check("", "", [None, Some(Read)]);
    check("cache-mode: write\n", "", [Some(Write), Some(Read)]);
    check("cache-mode: write-only\n", "cache-mode: write\n", [Some(WriteOnly), Some(Nothing)]);
    check("cache-mode: read\n", "cache-mode: write-only\n", [Some(Nothing), Some(Read)]);
    check("cache-mode: none\n", "cache-mode: write\n", [Some(Nothing), Some(Nothing)]);
    let bad = "on: push\ncache-mode: all\njobs:\n  a: { runs-on: x, steps: [{ run: x }] }\n";
    let words = "`cache-mode` must be `none`, `read`, `write-only` or `write`, not `all`";
    refuses_file(bad, words);
}

#[track_caller]
fn refuses_file(text: &str, words: &str) {
    let problems = crate::model::parse(MAIN, text).expect_err("should be refused");
    assert!(problems.iter().any(|problem| problem.message.contains(words)), "{problems:?}");
}
