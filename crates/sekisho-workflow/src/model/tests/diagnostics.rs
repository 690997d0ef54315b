//! Wrong files: each error at its line and column.

use super::*;
use crate::diagnostic::{MAX_DIAGNOSTICS, MAX_MESSAGE_CHARS};

/// `want`: `line:column: message`, in order.
#[track_caller]
fn fails(text: &str, want: &[&str]) {
    let problems = parse("w.yml", text).expect_err(text);
    let got: Vec<String> = problems
        .iter()
        .map(|d| d.to_string().strip_prefix("w.yml:").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(got, want, "\n{text}");
}

/// `want` about a file whose job `a` has these keys; they begin in line 4, column 5.
#[track_caller]
fn job_fails(job: &str, want: &[&str]) {
    fails(&with_job(job), want);
}

const STEPS: &str = "    runs-on: x\n    steps: [{ run: x }]\n";

#[test]
fn the_top_level() {
    fails("", &["1:1: the workflow file is empty"]);
    fails("- a", &["1:1: `workflow` must be a mapping, but is a sequence"]);
    fails("a: b: c", &["1:5: invalid YAML: mapping values are not allowed in this context"]);
    fails("on: push", &["1:1: `jobs` is missing"]);
    fails(
        "nam: x\njobs: {}\n",
        &[
            "1:1: unknown key `nam` in `workflow`; did you mean `name`?",
            "1:1: `on` is missing: it names the events that start the workflow",
            "2:7: a workflow has between 1 and 256 jobs, not 0",
        ],
    );
    fails(
        &format!("name: ${{{{ github.ref }}}}\n{}", with_job(STEPS)),
        &["1:7: A template expression is not allowed in this context"],
    );
    fails(
        &format!("run-name: x ${{{{ needs.a }}}}\n{}", with_job(STEPS)),
        &[
            "1:17: Unrecognized named-value: 'needs'. Located at position 1 within expression: needs.a",
        ],
    );
    fails(
        &format!("env:\n  A: [1]\nJobs: 1\n{}", with_job(STEPS)),
        &[
            "2:6: `env.A` must be a string, but is a sequence",
            "3:1: unknown key `Jobs` in `workflow`; did you mean `jobs`?",
            "5:1: `jobs` is already defined in `workflow`",
        ],
    );
}

#[test]
fn events() {
    let on = |text: &str| format!("on:{text}\njobs:\n  a:\n{STEPS}");
    fails(&on(" psuh"), &["1:5: unknown event `psuh`; did you mean `push`?"]);
    fails(&on(""), &["1:3: `on` must name at least one event"]);
    fails(&on(" [push, 3]"), &["1:12: unknown event `3`"]);
    fails(
        &on("\n  push:\n    branch: main"),
        &["3:5: unknown key `branch` in `push`; did you mean `branches`?"],
    );
    fails(
        &on("\n  push:\n    tags: x\n    tags-ignore: y"),
        &["4:5: `tags` and `tags-ignore` cannot both be given"],
    );
    fails(
        &on("\n  push:\n    paths: [a, '[b', '?']"),
        &[
            "3:16: invalid pattern `[b`: `[` is not closed",
            "3:22: invalid pattern `?`: `?` and `+` repeat the character before them, and there is none",
        ],
    );
    fails(
        &on(
            "\n  workflow_call:\n    inputs:\n      x: { required: yes }\n      1y: { type: text }\n      z: { type: boolean, default: 'x' }",
        ),
        &[
            "4:7: `inputs.x` needs a `type`",
            "4:22: `required` must be `true` or `false`, but is a string",
            "5:7: the input name `1y` is invalid: it must begin with a letter or `_` and hold only letters, digits, `_` and `-`",
            "5:19: `type` must be one of string, boolean, number, not `text`",
            "6:36: the `default` of `inputs.z` does not fit its `type`",
        ],
    );
    fails(
        &on(
            "\n  workflow_call:\n    outputs:\n      x: { value: '${{ jobs.b.outputs.y }}' }\n      y: { description: d }",
        ),
        &[
            "4:19: output `x` names `b`, which is no job of this workflow; did you mean `a`?",
            "5:7: `outputs.y` needs a `value`",
        ],
    );
    fails(
        &on("\n  workflow_dispatch:\n    inputs:\n      x: { type: choice }"),
        &["4:18: an input of type `choice` needs `options`"],
    );
}

#[test]
fn jobs() {
    job_fails(
        "    steps: []\n",
        &["3:3: job `a` needs `runs-on`", "4:12: a job has between 1 and 1000 steps, not 0"],
    );
    job_fails("    runs-on: x\n", &["3:3: job `a` needs `steps`"]);
    job_fails("    name: x\n", &["3:3: job `a` needs `runs-on` and `steps`, or `uses`"]);
    fails("on: push\njobs:\n  a: x\n", &["3:6: `jobs.a` must be a mapping, but is a string"]);
    job_fails(
        &format!("{STEPS}    run-on: x\n"),
        &["6:5: unknown key `run-on` in `jobs.a`; did you mean `runs-on`?"],
    );
    for key in ["container", "services", "environment", "snapshot"] {
        job_fails(
            &format!("{STEPS}    {key}: x\n"),
            &[&format!("6:5: `{key}` is not supported on the one-machine plane yet")],
        );
    }
    job_fails(
        "    runs-on: []\n    steps: [{ run: x }]\n",
        &["4:14: `runs-on` must name at least one label"],
    );
    job_fails("    runs-on: ''\n    steps: [{ run: x }]\n", &["4:14: `runs-on` must not be empty"]);
    job_fails(
        "    runs-on: ${{ secrets.X }}\n    steps: [{ run: x }]\n",
        &[
            "4:18: Unrecognized named-value: 'secrets'. Located at position 1 within expression: secrets.X",
        ],
    );
    job_fails(
        &format!("{STEPS}    timeout-minutes: 0\n    continue-on-error: maybe\n"),
        &[
            "6:22: `timeout-minutes` must be a number above 0, or an expression",
            "7:24: `continue-on-error` must be `true`, `false` or an expression, but is a string",
        ],
    );
    job_fails(
        &format!("{STEPS}    permissions: {{ contents: reed, id-token: read, foo: read }}\n"),
        &[
            "6:30: `contents` must be one of none, read, write, not `reed`; did you mean `read`?",
            "6:46: `id-token` must be one of none, write, not `read`",
            "6:52: unknown key `foo` in `permissions`",
        ],
    );
    job_fails(
        &format!("    if: github.ref == main\n{STEPS}"),
        &[
            "4:23: Unrecognized named-value: 'main'. Located at position 15 within expression: github.ref == main",
        ],
    );
    job_fails(
        &format!("    if: ${{{{ matrix.os }}}}\n{STEPS}"),
        &[
            "4:13: Unrecognized named-value: 'matrix'. Located at position 1 within expression: matrix.os",
        ],
    );
    fails(
        &format!("on: push\njobs:\n  1a:\n{STEPS}  __b:\n{STEPS}"),
        &[
            "3:3: the job id `1a` is invalid: it must begin with a letter or `_` (not `__`), hold only letters, digits, `_` and `-`, and be shorter than 100 characters",
            "6:3: the job id `__b` is invalid: it must begin with a letter or `_` (not `__`), hold only letters, digits, `_` and `-`, and be shorter than 100 characters",
        ],
    );
    fails(
        &format!("on: push\njobs:\n  a:\n{STEPS}  A:\n{STEPS}"),
        &["6:3: `A` is already defined in `jobs`"],
    );
}

#[test]
fn needs() {
    let file = |needs: [&str; 3]| {
        let job = |id: &str, needs: &str| format!("  {id}:\n    needs: {needs}\n{STEPS}");
        format!(
            "on: push\njobs:\n{}{}{}",
            job("one", needs[0]),
            job("two", needs[1]),
            job("three", needs[2])
        )
    };
    fails(
        &file(["[]", "onne", "[one, zzzzzz]"]),
        &[
            "8:12: job `two` needs `onne`, which is no job of this workflow; did you mean `one`?",
            "12:18: job `three` needs `zzzzzz`, which is no job of this workflow",
        ],
    );
    fails(&file(["[]", "[one, ONE]", "[]"]), &["8:18: job `two` needs `ONE` twice"]);
    fails(
        &file(["two", "one", "[]"]),
        &["3:3: the jobs need each other in a circle: `one` needs `two` needs `one`"],
    );
    fails(
        &file(["two", "three", "two"]),
        &["7:3: the jobs need each other in a circle: `two` needs `three` needs `two`"],
    );
    fails(
        &file(["one", "[]", "[]"]),
        &["3:3: the jobs need each other in a circle: `one` needs `one`"],
    );
}

#[test]
fn calls() {
    job_fails(
        "    uses: o/r/image.yml@v1\n",
        &[
            "4:11: `o/r/image.yml@v1` is no workflow: expected `owner/repo/.github/workflows/file.yml@ref` or `./.github/workflows/file.yml`",
        ],
    );
    job_fails(
        "    uses: ./.github/workflows/x.yml\n    runs-on: x\n",
        &["5:5: `runs-on` cannot stand in a job that calls a workflow with `uses`"],
    );
    job_fails(
        &format!("{STEPS}    with: {{}}\n"),
        &["6:5: `with` goes with `uses`, which this job does not have"],
    );
    job_fails(
        "    uses: ./.github/workflows/x.yml\n    with: { a: '${{ env.X }}' }\n    secrets: inherited\n",
        &[
            "5:21: Unrecognized named-value: 'env'. Located at position 1 within expression: env.X",
            "6:14: `secrets` must be a mapping, but is a string",
        ],
    );
}

#[test]
fn steps() {
    let step = |step: &str| with_job(&format!("    runs-on: x\n    steps:\n      - {step}\n"));
    fails(&step("name: x"), &["6:9: a step needs `run` or `uses`"]);
    fails(
        &step("run: x\n        uses: o/r@v1"),
        &["7:9: a step has either `run` or `uses`, not both"],
    );
    fails(
        &step("run: x\n        with: { a: b }"),
        &["7:9: `with` goes with `uses`, not with `run`"],
    );
    fails(
        &step("uses: o/r@v1\n        shell: sh"),
        &["7:9: `shell` goes with `run`, not with `uses`"],
    );
    fails(
        &step("uses: o/r"),
        &[
            "6:15: `o/r` is no action: expected `owner/repo[/path]@ref`, `./path` or `docker://image`",
        ],
    );
    fails(&step("run: x\n        workdir: y"), &["7:9: unknown key `workdir` in `step`"]);
    fails(
        &step("run: x\n        background: true"),
        &["7:9: `background` is not supported on the one-machine plane yet"],
    );
    fails(
        &step("run: x\n        if: secrets.X != ''"),
        &[
            "7:13: Unrecognized named-value: 'secrets'. Located at position 1 within expression: secrets.X != ''",
        ],
    );
    fails(
        &step("run: |\n          one\n          two ${{ githb.ref }}"),
        &[
            "8:19: Unrecognized named-value: 'githb'. Located at position 1 within expression: githb.ref",
        ],
    );
    fails(
        &step("run: echo ${{ success() }}"),
        &[
            "6:23: Unrecognized function: 'success'. Located at position 1 within expression: success()",
        ],
    );
    fails(
        &step("{ id: a, run: x }\n      - { id: A, run: x }\n      - { id: 'b c', run: x }"),
        &[
            "7:15: the step id `A` is already used in this job",
            "8:15: the step id `b c` is invalid: it must begin with a letter or `_` (not `__`) and hold only letters, digits, `_` and `-`",
        ],
    );
    let long = format!("run: {} ${{{{ github.x }}}}", "x".repeat(21_000));
    fails(&step(&long), &["6:14: Exceeded max expression length 21000"]);
}

#[test]
fn only_the_first_ten() {
    let steps = "      - name: x\n".repeat(30);
    let problems = parse("w.yml", &with_job(&format!("    runs-on: x\n    steps:\n{steps}")));
    let problems = problems.expect_err("thirty errors");
    assert_eq!(problems.len(), MAX_DIAGNOSTICS);
    assert_eq!((problems[9].line, problems[9].column), (15, 9));

    let long = format!("on: push\n{}: x\n", "y".repeat(2_000));
    let problems = parse("w.yml", &long).expect_err("a long key");
    assert!(problems.iter().all(|d| d.message.chars().count() <= MAX_MESSAGE_CHARS));
}

#[test]
fn a_hostile_file_is_refused_in_no_time() {
    let keys: String = (0..60_000).map(|n| format!("{{k{n}: x}},")).collect();
    let needs = "x,".repeat(200_000);
    let jobs: String = (0..40_000).map(|n| format!("  j{n}: {{}}\n")).collect();
    let unknown: String = (0..50_000).map(|n| format!("  runs-onn{n}: x\n")).collect();
    let script = "${{ x }}".repeat(100_000);
    let open = "'${{".repeat(200_000);
    for text in [
        format!("on: push\njobs: [{keys}]\n"),
        format!("on: [{needs}]\njobs: {{ a: {{ needs: [{needs}] }} }}\n").replace("x,x,x,x,", "x,"),
        format!("on: push\njobs:\n{jobs}"),
        format!("on: push\n{}", unknown.replace("  runs", "runs")),
        format!("on: push\nrun-name: {script}\njobs: {{}}\n"),
        format!("on: push\nrun-name: |\n  {open}\njobs: {{}}\n"),
    ] {
        assert!(parse("w.yml", &text).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_file_panics(text in "(on|jobs|a|runs-on|steps|run|if|needs|matrix|with|uses)?[-: \n\\[\\]{}x,${}'|]{0,8}(push|jobs:|\n  a:|\n    steps:|\n    needs: a|\n    if: )?[-: \n\\[\\]{}x,${}'|]{0,12}") {
        let _ = parse("w.yml", &text);
    }
}
