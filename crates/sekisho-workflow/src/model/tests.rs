//! Workflow files: what is read from them, and what is said about wrong ones.

use super::*;
use crate::diagnostic::Diagnostic;
use crate::filter::Filter;
use crate::token::TokenKind;

mod diagnostics;

/// What a user of the central pipeline writes.
pub(crate) const CENTRAL: &str = "\
on: push
jobs:
  image:
    permissions: { contents: read, id-token: write }
    uses: sekisho/pipeline/.github/workflows/image.yml@v1
";

#[track_caller]
fn read(text: &str) -> Workflow {
    parse(".github/workflows/x.yml", text).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// A file with one job `a`, whose keys are `job` (indented by four).
fn with_job(job: &str) -> String {
    format!("on: push\njobs:\n  a:\n{job}")
}

#[track_caller]
fn steps_of(workflow: &Workflow, id: &str) -> StepsJob {
    match &workflow.job(id).expect(id).kind {
        JobKind::Steps(steps) => StepsJob::clone(steps),
        JobKind::Call(_) => panic!("{id} is a call"),
    }
}

#[test]
fn the_five_lines_of_the_central_pipeline() {
    let workflow = read(CENTRAL);
    assert_eq!(workflow.on.push(), Some(&PushFilter::default()));
    assert_eq!(workflow.display_name(), ".github/workflows/x.yml");
    let [job] = workflow.jobs.as_slice() else { panic!("{:?}", workflow.jobs) };
    assert_eq!((job.id.as_str(), job.condition.as_str()), ("image", "success()"));
    assert_eq!(
        job.permissions,
        Some(Permissions::none().with("contents", Access::Read).with("id-token", Access::Write))
    );
    let JobKind::Call(call) = &job.kind else { panic!("{:?}", job.kind) };
    assert_eq!(call.uses.to_string(), "sekisho/pipeline/.github/workflows/image.yml@v1");
    assert_eq!((&call.with, &call.secrets), (&None, &CallSecrets::None));
}

const FULL: &str = r#"name: Everything
run-name: Build ${{ github.ref_name }}
on:
  push:
    branches: [main, "rel/**", "!rel/old"]
    tags-ignore: v0
    paths:
      - src/**
  workflow_dispatch:
    inputs:
      level: { type: choice, options: [low, high], default: low }
      note:
  pull_request:
    types: [opened]
  schedule:
    - cron: "0 4 * * *"
permissions: read-all
env:
  A: ${{ vars.A }}
  N: 1.10
defaults:
  run: { shell: bash, working-directory: sub }
concurrency:
  group: ci-${{ github.ref }}
  cancel-in-progress: true
jobs:
  build:
    name: Build it
    runs-on: [self-hosted, "${{ vars.SIZE }}"]
    permissions: {}
    outputs:
      tag: ${{ steps.meta.outputs.tag }}
    timeout-minutes: 12.5
    cancel-timeout-minutes: 1
    continue-on-error: ${{ github.ref != 'refs/heads/main' }}
    env: { B: "2" }
    defaults: { run: { shell: sh } }
    steps:
      - uses: actions/checkout@v4
        with: { fetch-depth: 0 }
      - uses: ./.github/actions/local
      - uses: docker://alpine:3
      - uses: org/repo/some/dir@abc
      - id: meta
        name: Meta ${{ env.A }}
        if: github.event_name == 'push'
        run: |
          echo "tag=${{ github.sha }}" >> "$GITHUB_OUTPUT"
        shell: bash
        working-directory: x
        env: { C: "${{ secrets.C }}" }
        continue-on-error: true
        timeout-minutes: 5
      - run: a
      - run: b
        if: ${{ always() }}
      - uses: actions/checkout@v4
  test:
    needs: BUILD
    if: "!cancelled()"
    strategy:
      fail-fast: false
      max-parallel: 2
      matrix:
        os: [linux, mac]
    runs-on: { group: big, labels: [x64] }
    steps: [{ run: "echo ${{ matrix.os }} ${{ hashFiles('a') }}" }]
  call:
    needs: [build, test]
    if: ${{ needs.build.outputs.tag }}
    uses: ./.github/workflows/called.yaml
    with: { image: "${{ needs.build.outputs.tag }}", push: true }
    secrets: inherit
"#;

#[test]
fn everything_a_file_may_say() {
    let workflow = read(FULL);
    assert_eq!(workflow.name.as_deref(), Some("Everything"));
    let run_name = workflow.run_name.as_ref().and_then(Token::as_expression);
    assert_eq!(run_name, Some("format('Build {0}', github.ref_name)"));
    assert_eq!(workflow.permissions, Some(Permissions::read_all()));
    let env = workflow.env.as_ref().expect("env");
    assert_eq!(env.get("A").and_then(Token::as_expression), Some("vars.A"));
    assert_eq!(env.get("N").map(|token| &token.kind), Some(&TokenKind::Number(1.1)));
    assert_eq!(env.at, Some(Position { line: 19, column: 3 }));

    let names: Vec<&str> = workflow.on.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["push", "workflow_dispatch", "pull_request", "schedule"]);
    let push = workflow.on.push().expect("push");
    assert!(matches!(&push.branches, Some(Filter::Only(list)) if list.len() == 3));
    assert!(matches!(&push.tags, Some(Filter::Ignore(list)) if list.len() == 1));
    let opened = workflow.on.pull_request("pull_request").expect("pull_request");
    assert_eq!(opened.types, Some(vec!["opened".to_owned()]));
    assert_eq!(workflow.on.pull_request("pull_request_target"), None);
    let inputs = workflow.on.workflow_dispatch().expect("dispatch");
    assert_eq!(inputs[0].kind, InputKind::Choice(vec!["low".into(), "high".into()]));
    assert_eq!((inputs[1].name.as_str(), &inputs[1].kind), ("note", &InputKind::String));

    let build = workflow.job("build").expect("build");
    assert_eq!(build.permissions, Some(Permissions::none()));
    let job = steps_of(&workflow, "build");
    assert_eq!(job.timeout_minutes.map(|t| t.kind), Some(TokenKind::Number(12.5)));
    let names: Vec<&str> = job.steps.iter().map(|step| step.context_name.as_str()).collect();
    let want = [
        "__actions_checkout",
        "__self",
        "__alpine_3",
        "__org_repo",
        "meta",
        "__run",
        "__run_2",
        "__actions_checkout_2",
    ];
    assert_eq!(names, want);
    let conditions: Vec<&str> = job.steps.iter().map(|step| step.condition.as_str()).collect();
    assert_eq!(conditions[4], "success() && (github.event_name == 'push')");
    assert_eq!((conditions[5], conditions[6]), ("success()", "always()"));
    assert_eq!(job.steps[4].at, Position { line: 44, column: 9 });

    let test = workflow.job("test").expect("test");
    assert_eq!(
        (test.needs.as_slice(), test.condition.as_str()),
        (&["build".to_owned()][..], "!cancelled()")
    );
    let call = workflow.job("call").expect("call");
    assert_eq!(call.condition, "success() && (needs.build.outputs.tag)");
    let JobKind::Call(call) = &call.kind else { panic!("no call") };
    assert_eq!(
        call.uses,
        WorkflowReference::Local { path: ".github/workflows/called.yaml".into() }
    );
    assert_eq!(call.secrets, CallSecrets::Inherit);
}

#[test]
fn a_workflow_survives_serde() {
    let workflow = read(FULL);
    let json = serde_json::to_string(&workflow).expect("writes");
    assert_eq!(serde_json::from_str::<Workflow>(&json).expect("reads"), workflow);
}

#[test]
fn a_called_workflow_declares_what_it_takes_and_gives() {
    let workflow = read(
        "on:
  workflow_call:
    inputs:
      image: { type: string, required: true, description: Name }
      push: { type: boolean, default: false }
      retries: { type: number, default: '${{ vars.RETRIES }}' }
    outputs:
      digest: { value: '${{ jobs.build.outputs.digest }}', description: It }
    secrets:
      token: { required: true }
      other:
jobs:
  build: { runs-on: x, steps: [{ run: x }] }
",
    );
    let call = workflow.on.workflow_call().expect("call");
    let inputs: Vec<_> = call.inputs.iter().map(|i| (i.name.as_str(), i.required)).collect();
    assert_eq!(inputs, [("image", true), ("push", false), ("retries", false)]);
    assert_eq!(call.inputs[2].kind, InputKind::Number);
    assert_eq!(call.outputs[0].value.as_expression(), Some("jobs.build.outputs.digest"));
    let secrets: Vec<_> = call.secrets.iter().map(|s| (s.name.as_str(), s.required)).collect();
    assert_eq!(secrets, [("token", true), ("other", false)]);
}

#[test]
fn forms_of_on() {
    let names = |on: &str| {
        let text = format!("on: {on}\njobs: {{ a: {{ runs-on: x, steps: [{{ run: x }}] }} }}\n");
        let events = read(&text).on.events;
        events.into_iter().map(|event| event.name).collect::<Vec<_>>()
    };
    assert_eq!(names("push"), ["push"]);
    assert_eq!(names("[push, fork]"), ["push", "fork"]);
    assert_eq!(names("{ push: , workflow_call: {} }"), ["push", "workflow_call"]);
    assert_eq!(names("\n  - push\n  - release"), ["push", "release"]);
}

#[test]
fn conditions_get_success_where_it_belongs() {
    for (written, want) in [
        ("", "success()"),
        ("true", "success() && (true)"),
        ("${{ github.x }}", "success() && (github.x)"),
        ("'${{ github.x }}'", "success() && (github.x)"),
        ("github.x || github.y", "success() && (github.x || github.y)"),
        ("failure()", "failure()"),
        ("\"!(success() || github.x)\"", "!(success() || github.x)"),
        ("${{ github.x }} == 'a'", "success() && (format('{0} == ''a''', github.x))"),
        ("5", "success() && (5)"),
    ] {
        let job = format!("    if: {written}\n    runs-on: x\n    steps: [{{ run: x }}]\n");
        assert_eq!(read(&with_job(&job)).jobs[0].condition, want, "{written}");
    }
}

#[test]
fn permissions_of_a_file() {
    let read = Permissions::read_all();
    assert_eq!(read.get("contents"), Access::Read);
    assert_eq!(read.get("id-token"), Access::None, "an id token cannot be read");
    let write = Permissions::write_all();
    assert_eq!((write.get("id-token"), write.get("models")), (Access::Write, Access::Read));
    assert_eq!(write.read_only(), read);
    assert_eq!(
        Permissions::none().with("id-token", Access::Write).read_only(),
        Permissions::none()
    );
    let beyond: Vec<_> = write.beyond(&read).map(|(key, _)| key).collect();
    assert!(beyond.contains(&"id-token") && !beyond.contains(&"models"));
    assert_eq!(read.beyond(&write).count(), 0);
    assert_eq!(
        serde_json::to_value(Permissions::restricted()).expect("writes"),
        serde_json::json!({"contents": "read", "packages": "read"})
    );
}

#[test]
fn references() {
    let reference = |text: &str| WorkflowReference::parse(text).map(|r| r.to_string());
    for good in ["./.github/workflows/a.yml", "o/r/.github/workflows/a.yaml@refs/heads/x"] {
        assert_eq!(reference(good).as_deref(), Some(good));
    }
    for bad in [
        "a.yml",
        "./a.yml",
        "o/r/.github/workflows/a.yml",
        "o/r/.github/workflows/a.yml@",
        "o/r/.github/workflows/a.txt@v1",
        "o/r/.github/workflows/sub/a.yml@v1",
        "o/r/a.yml@v1",
        "/r/.github/workflows/a.yml@v1",
        "./.github/workflows/../x.yml",
    ] {
        assert_eq!(reference(bad), None, "{bad}");
    }
    assert_eq!(
        ActionReference::parse("o/r/a/b@v1"),
        Some(ActionReference::Repository {
            name: "o/r".into(),
            path: "a/b".into(),
            reference: "v1".into()
        })
    );
    for bad in ["x", "o/r", "@v1", "o@v1", "o/r@", "docker://", "o r/x@v1"] {
        assert_eq!(ActionReference::parse(bad), None, "{bad}");
    }
}
