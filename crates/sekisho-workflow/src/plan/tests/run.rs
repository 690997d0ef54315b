//! Runs of one file: what is queued, skipped, cancelled, and how the run ends.

use super::*;
use Conclusion::{Cancelled, Failure, Skipped, Success};

/// A file of jobs given as `(id, keys)`.
fn file(jobs: &[(&str, &str)]) -> String {
    let jobs = jobs
        .iter()
        .map(|(id, keys)| format!("  {id}:\n    runs-on: x\n    steps: [{{ run: x }}]\n{keys}"));
    format!("on: push\njobs:\n{}", jobs.collect::<String>())
}

#[test]
fn needs_are_waited_for_and_seen() {
    let mut hub = Hub::of(&file(&[
        ("a", ""),
        ("b", "    needs: a\n    name: b of ${{ needs.a.outputs.tag }}\n"),
        ("c", "    needs: [b]\n    if: needs.b.result == 'success' && needs.a.result == null\n"),
    ]));
    hub.check(&[("a", "queued"), ("b", "absent"), ("c", "absent")]);
    assert_eq!(hub.plan.job("b").map(|job| job.name.as_str()), Some("b"));
    hub.end("a", Success, &[("tag", "v1")]);
    hub.check(&[("b", "queued"), ("c", "absent")]);
    let b = &hub.ready["b"];
    assert_eq!(b.name, "b of v1");
    assert_eq!(b.needs.to_json(), json!({"a": {"result": "success", "outputs": {"tag": "v1"}}}));
    hub.end("b", Success, &[]);
    // `needs` holds direct needs only, so `needs.a` is null in c.
    hub.check(&[("c", "queued")]);
    assert_eq!(hub.ended, None);
    hub.end("c", Success, &[]);
    assert_eq!(hub.ended, Some(Success));
    assert_eq!(decide(&hub.observed()), []);
}

#[test]
fn a_failure_stops_all_that_comes_after_it() {
    let mut hub = Hub::of(&file(&[
        ("a", ""),
        ("b", "    needs: a\n"),
        ("c", "    needs: b\n"),
        ("always", "    needs: b\n    if: always()\n"),
        ("failed", "    needs: b\n    if: failure()\n"),
        ("direct", "    needs: a\n    if: needs.a.result == 'failure'\n"),
        ("nothing", "    needs: b\n    if: cancelled()\n"),
        // `always` went well; but the failure of a is among its ancestors.
        ("after", "    needs: always\n"),
        ("beside", ""),
    ]));
    hub.end("a", Failure, &[]);
    hub.check(&[
        ("b", "skipped"),
        ("c", "skipped"),
        ("always", "queued"),
        ("failed", "queued"),
        // `success() &&` stands before a condition without a status function.
        ("direct", "skipped"),
        ("nothing", "skipped"),
        ("beside", "queued"),
    ]);
    hub.end("always", Success, &[]);
    hub.check(&[("after", "skipped")]);
    hub.end("failed", Success, &[]);
    hub.end("beside", Success, &[]);
    assert_eq!(hub.ended, Some(Failure));
}

#[test]
fn a_skipped_job_counts_as_not_successful() {
    let mut hub = Hub::of(&file(&[
        ("a", "    if: false\n"),
        ("b", "    needs: a\n"),
        ("c", "    needs: a\n    if: \"!failure() && !cancelled()\"\n"),
    ]));
    hub.check(&[("a", "skipped"), ("b", "skipped"), ("c", "queued")]);
    hub.end("c", Success, &[]);
    assert_eq!(hub.ended, Some(Success));

    let all =
        Hub::of(&file(&[("a", "    if: github.event_name == 'fork'\n"), ("b", "    needs: a\n")]));
    assert_eq!(all.ended, Some(Skipped));
}

#[test]
fn a_tolerated_failure_counts_as_success() {
    let mut hub = Hub::of(&file(&[
        ("a", "    continue-on-error: ${{ github.ref_name == 'main' }}\n"),
        ("b", "    needs: a\n"),
    ]));
    hub.end("a", Failure, &[]);
    hub.check(&[("a", "failure"), ("b", "queued")]);
    assert_eq!(hub.ready["b"].needs.get("a").get("result").to_text(), "success");
    hub.end("b", Success, &[]);
    assert_eq!(hub.ended, Some(Success));
}

#[test]
fn cancelling() {
    let mut hub = Hub::of(&file(&[
        ("queued", ""),
        ("running", ""),
        ("stubborn", "    if: always()\n"),
        ("waiting", "    needs: running\n"),
        ("cleanup", "    needs: running\n    if: cancelled()\n"),
    ]));
    hub.states.insert("running".into(), JobState::Running);
    hub.states.insert("stubborn".into(), JobState::Running);
    hub.cancelled = true;
    hub.settle();
    hub.check(&[
        ("queued", "cancelled"),
        ("running", "cancelling"),
        ("stubborn", "running"),
        ("waiting", "absent"),
    ]);
    hub.states.insert("running".into(), JobState::completed(Cancelled));
    hub.settle();
    hub.check(&[("waiting", "skipped"), ("cleanup", "queued")]);
    hub.end("cleanup", Success, &[]);
    assert_eq!(hub.ended, None);
    hub.states.insert("stubborn".into(), JobState::completed(Success));
    hub.settle();
    assert_eq!(hub.ended, Some(Cancelled));
}

#[test]
fn a_cancelled_run_is_cancelled_even_if_no_job_was() {
    let mut hub = Hub::of(&file(&[("a", "    if: always()\n"), ("b", "    needs: a\n")]));
    hub.cancelled = true;
    hub.settle();
    hub.check(&[("a", "queued"), ("b", "absent")]);
    hub.end("a", Success, &[]);
    hub.check(&[("b", "skipped")]);
    assert_eq!(hub.ended, Some(Cancelled));
}

#[test]
fn a_failure_outweighs_a_cancellation() {
    let mut hub = Hub::of(&file(&[("a", ""), ("b", "")]));
    hub.end("a", Failure, &[]);
    hub.cancelled = true;
    hub.settle();
    assert_eq!(hub.ended, Some(Failure));

    let mut one = Hub::of(&file(&[("a", ""), ("b", "    needs: a\n")]));
    one.end("a", Cancelled, &[]);
    one.check(&[("b", "skipped")]);
    assert_eq!(one.ended, Some(Cancelled));
}

#[test]
fn what_a_ready_job_knows() {
    let hub = Hub::of(
        "on: push
env: { A: 1 }
jobs:
  plain: { runs-on: Linux, steps: [{ run: x }] }
  many:
    runs-on: [self-hosted, '${{ vars.SIZE }}']
    timeout-minutes: ${{ fromJSON('2.5') }}
    steps: [{ run: x }]
  grouped: { runs-on: { group: g, labels: '${{ vars.SIZE }}' }, steps: [{ run: x }] }
  listed: { runs-on: \"${{ fromJSON('[1, \\\"b\\\"]') }}\", steps: [{ run: x }] }
",
    );
    let labels = |key: &str| hub.ready[key].labels.clone();
    assert_eq!(labels("plain"), ["Linux"]);
    assert_eq!(labels("many"), ["self-hosted", "large"]);
    assert_eq!(labels("grouped"), ["large"]);
    assert_eq!(labels("listed"), ["1", "b"]);
    assert_eq!(hub.ready["grouped"].runner_group.as_deref(), Some("g"));
    let (plain, many) = (&hub.ready["plain"], &hub.ready["many"]);
    assert_eq!((plain.timeout_minutes, many.timeout_minutes), (360.0, 2.5));
    assert_eq!(plain.cancel_timeout_minutes, 5.0);
    assert_eq!(plain.matrix, Value::Null);
    assert_eq!(
        plain.strategy.to_json(),
        json!({"fail-fast": true, "job-index": 0, "job-total": 1, "max-parallel": 1})
    );
    let PlannedKind::Steps(steps) = &hub.plan.jobs[0].kind else { panic!("steps") };
    assert_eq!(steps.env.len(), 1);
    assert_eq!(
        serde_json::to_value(&steps.env[0]).expect("writes")["file"],
        json!(1),
        "tokens name the one file of the message's table"
    );
}

#[test]
fn what_cannot_be_evaluated_fails_the_job_with_the_reason() {
    let mut hub = Hub::of(&file(&[
        ("a", "    if: fromJSON('') == 1\n"),
        ("b", "    timeout-minutes: ${{ fromJSON('0') }}\n"),
        ("c", "    continue-on-error: ${{ vars.SIZE }}\n"),
        ("d", "    name: ${{ format('{9}') }}\n"),
        ("e", ""),
    ]));
    hub.check(&[("a", "failure"), ("b", "failure"), ("c", "failure"), ("d", "failure")]);
    assert!(
        hub.messages[0].starts_with(
            "a: the condition of the job could not be evaluated: Error parsing fromJson"
        ),
        "{:?}",
        hub.messages
    );
    assert_eq!(hub.messages[1], "b: `timeout-minutes` of the job: it must be above 0");
    assert_eq!(
        hub.messages[2],
        "c: `continue-on-error` of the job: expected a boolean, but found a string"
    );
    assert!(hub.messages[3].starts_with("d: `name` of the job: The following format string"));
    hub.end("e", Success, &[]);
    assert_eq!(hub.ended, Some(Failure));

    let empty =
        Hub::of("on: push\njobs:\n  a: { runs-on: '${{ vars.NONE }}', steps: [{ run: x }] }\n");
    assert_eq!(empty.messages, ["a: `runs-on` of the job is empty once evaluated"]);
    assert_eq!(empty.ended, Some(Failure));
}

#[test]
fn permissions_of_jobs() {
    let plan = plan_of(&one_file(
        "on: push
permissions: { contents: write }
jobs:
  a: { runs-on: x, steps: [{ run: x }] }
  b: { permissions: { id-token: write }, runs-on: x, steps: [{ run: x }] }
",
    ));
    assert_eq!(plan.jobs[0].permissions, Permissions::none().with("contents", Access::Write));
    assert_eq!(plan.jobs[1].permissions, Permissions::none().with("id-token", Access::Write));
    let bare = plan_of(&one_file(&file(&[("a", "")])));
    assert_eq!(bare.jobs[0].permissions, Permissions::restricted());
}

#[test]
fn a_plan_survives_serde() {
    let plan = plan_of(&one_file(&file(&[
        ("a", ""),
        ("b", "    needs: a\n    env: { X: '${{ github.x }}' }\n"),
    ])));
    let json = serde_json::to_string(&plan).expect("writes");
    assert_eq!(serde_json::from_str::<Plan>(&json).expect("reads"), plan);
    let state = JobState::completed(Success);
    let json = serde_json::to_string(&state).expect("writes");
    assert_eq!(serde_json::from_str::<JobState>(&json).expect("reads"), state);
}
