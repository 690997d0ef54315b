//! Matrices: which combinations, in which order, under which names.

use super::*;
use Conclusion::{Failure, Success};

fn file(strategy: &str) -> String {
    format!(
        "on: push
jobs:
  test:
    strategy:
{strategy}
    runs-on: x
    steps: [{{ run: x }}]
  after: {{ needs: test, runs-on: x, steps: [{{ run: x }}] }}
"
    )
}

fn matrix(text: &str) -> Vec<serde_json::Value> {
    let plan = plan_of(&one_file(&file(&format!("      matrix: {text}"))));
    plan.jobs.iter().filter(|job| job.id == "test").map(|job| job.matrix.clone()).collect()
}

#[test]
fn the_last_vector_varies_fastest() {
    assert_eq!(
        matrix("{ a: [1, 2], b: [x, y] }"),
        [
            json!({"a": 1, "b": "x"}),
            json!({"a": 1, "b": "y"}),
            json!({"a": 2, "b": "x"}),
            json!({"a": 2, "b": "y"}),
        ]
    );
}

#[test]
fn exclude_removes_partial_matches() {
    assert_eq!(
        matrix("{ a: [1, 2], b: [x, y], exclude: [{ a: 1, b: y }, { b: X }] }"),
        [json!({"a": 2, "b": "y"})]
    );
    // Equality of values goes deep.
    assert_eq!(
        matrix("{ a: [{ n: 1 }, { n: 2 }], exclude: [{ a: { n: 1 } }] }"),
        [json!({"a": {"n": 2}})]
    );
}

#[test]
fn include_extends_or_adds() {
    assert_eq!(
        matrix(
            "{ fruit: [apple, pear], animal: [cat, dog], include: [
               { color: green }, { color: pink, animal: cat }, { fruit: apple, shape: circle },
               { fruit: banana }, { fruit: banana, animal: cat } ] }"
        ),
        [
            json!({"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"}),
            json!({"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"}),
            json!({"fruit": "pear", "animal": "cat", "color": "pink"}),
            json!({"fruit": "pear", "animal": "dog", "color": "green"}),
            json!({"fruit": "banana"}),
            json!({"fruit": "banana", "animal": "cat"}),
        ]
    );
    assert_eq!(matrix("{ include: [{ a: 1 }, { a: 2 }] }"), [json!({"a": 1}), json!({"a": 2})]);
}

#[test]
fn vectors_may_be_computed() {
    assert_eq!(matrix("{ a: \"${{ fromJSON('[1,2]') }}\" }").len(), 2);
    assert_eq!(matrix("${{ fromJSON('{\"a\":[1,2,3]}') }}").len(), 3);
}

#[test]
fn names_show_the_values() {
    let names = |text: &str| {
        let plan = plan_of(&one_file(&file(text)));
        plan.jobs.into_iter().map(|job| (job.key, job.name)).take(2).collect::<Vec<_>>()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        names("      matrix: { os: [linux, { n: mac, v: [1.50, true] }] }"),
        [pair("test#0", "test (linux)"), pair("test#1", "test (mac, 1.5, true)")]
    );
    assert_eq!(
        names("      matrix: { os: [linux, mac] }\n    name: On ${{ matrix.os }}"),
        [pair("test#0", "On linux"), pair("test#1", "On mac")]
    );
    let long = "y".repeat(120);
    let names = names(&format!("      matrix: {{ os: [{long}, x] }}\n    name: Fixed"));
    assert_eq!(names[0].1, format!("Fixed ({}...", "y".repeat(90)));
    assert_eq!(names[1].1, "Fixed (x)");
}

#[test]
fn the_others_end_when_one_fails() {
    let mut hub = Hub::of(&file("      matrix: { a: [1, 2, 3] }"));
    assert_eq!(hub.ready["test#1"].matrix.to_json(), json!({"a": 2}));
    assert_eq!(hub.ready["test#1"].strategy.get("job-index").to_text(), "1");
    hub.states.insert("test#1".into(), JobState::Running);
    hub.end("test#0", Failure, &[]);
    hub.check(&[("test#1", "cancelling"), ("test#2", "cancelled"), ("after", "absent")]);

    let mut slow = Hub::of(&file("      fail-fast: false\n      matrix: { a: [1, 2] }"));
    slow.end("test#0", Failure, &[]);
    slow.check(&[("test#1", "queued")]);
    slow.end("test#1", Success, &[("x", "1")]);
    slow.check(&[("after", "skipped")]);
    assert_eq!(slow.ended, Some(Failure));
}

#[test]
fn max_parallel_is_kept() {
    let mut hub = Hub::of(&file("      max-parallel: 2\n      matrix: { a: [1, 2, 3] }"));
    hub.check(&[("test#0", "queued"), ("test#1", "queued"), ("test#2", "absent")]);
    hub.end("test#1", Success, &[("x", "1"), ("y", "1")]);
    hub.check(&[("test#2", "queued")]);
    hub.end("test#2", Success, &[("x", "2")]);
    hub.end("test#0", Success, &[]);
    let needs = hub.ready["after"].needs.to_json();
    assert_eq!(needs, json!({"test": {"result": "success", "outputs": {"x": "2", "y": "1"}}}));
}

#[test]
fn what_is_no_matrix() {
    let refused = |strategy: &str, want: &str| {
        let path = ".github/workflows/main.yml";
        refuses(&one_file(&file(strategy)), &[&format!("{path}:{want}")]);
    };
    refused("      matrix: { a: 1 }", "5:20: `matrix.a` must be a sequence or an expression");
    refused("      matrix: { a: [] }", "5:15: `matrix.a` must not be empty");
    refused(
        "      matrix: { a: [1], exclude: [{ b: 1 }] }",
        "5:15: `exclude` names `b`, which is no key of the matrix",
    );
    refused(
        "      matrix: { a: [1], exclude: [{ a: 1 }] }",
        "5:15: the matrix has no combination left",
    );
    refused(
        "      matrix: { a: [1], include: [x] }",
        "5:15: an entry of `include` must be a mapping, but is a string",
    );
    refused("      matrix: ${{ vars.SIZE }}", "5:15: `matrix` must be a mapping, but is a string");
    let many = vec!["1"; 17].join(", ");
    refused(
        &format!("      matrix: {{ a: [{many}], b: [{many}] }}"),
        "5:15: the matrix makes 289 jobs, more than 256",
    );
    let huge = vec!["1"; 100].join(", ");
    refused(
        &format!("      matrix: {{ a: [{huge}], b: [{huge}], c: [{huge}] }}"),
        "5:15: the matrix makes more than 4096 combinations",
    );
    refused(
        "      matrix: { a: '${{ fromJSON(needs.x.outputs.y) }}' }\n    needs: after2",
        "6:12: job `test` needs `after2`, which is no job of this workflow; did you mean `after`?",
    );
}

#[test]
fn a_matrix_from_other_jobs_is_refused_not_ignored() {
    refuses(
        &one_file(
            "on: push
jobs:
  a: { runs-on: x, steps: [{ run: x }] }
  b:
    needs: a
    strategy: { matrix: { v: '${{ fromJSON(needs.a.outputs.v) }}' } }
    runs-on: x
    steps: [{ run: x }]
",
        ),
        &[
            ".github/workflows/main.yml:6:15: a `strategy` computed from the outputs of other jobs is not supported on the one-machine plane yet",
        ],
    );
}
