//! What begins anew, and what is kept.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use Conclusion::{Cancelled, Failure, Skipped, Success};

const FILE: &str = "on: push
jobs:
  a: { runs-on: x, steps: [{ run: x }] }
  b: { needs: a, runs-on: x, steps: [{ run: x }] }
  c: { needs: b, runs-on: x, steps: [{ run: x }] }
  d: { runs-on: x, steps: [{ run: x }] }
  call: { needs: a, uses: ./.github/workflows/called.yml }
  last: { needs: [call, d], if: always(), runs-on: x, steps: [{ run: x }] }
";
const CALLED: &str = "on: workflow_call
jobs:
  x: { runs-on: x, steps: [{ run: x }] }
  y: { needs: x, runs-on: x, steps: [{ run: x }] }
  z: { runs-on: x, steps: [{ run: x }] }
";

fn hub() -> Hub {
    let files = [(".github/workflows/main.yml", FILE), (".github/workflows/called.yml", CALLED)];
    let mut hub = Hub::new(plan_of(&Files(files.map(|(p, t)| (p, t.to_owned())).into())));
    hub.settle();
    hub
}

#[track_caller]
fn check(conclusions: &[(&str, Conclusion)], which: Rerun<'_>, want: &[&str]) {
    let hub = hub();
    let completed = |(key, conclusion): &(&str, Conclusion)| {
        ((*key).to_owned(), JobState::completed(*conclusion))
    };
    let mut states: BTreeMap<String, JobState> =
        hub.plan.jobs.iter().map(|job| (job.key.clone(), JobState::completed(Success))).collect();
    states.extend(conclusions.iter().map(completed));
    let got = rerun(&hub.plan, &states, which);
    assert_eq!(got, want.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>());
}

#[test]
fn a_job_begins_anew_with_all_that_needs_it() {
    let all = ["a", "b", "c", "d", "call", "call/x", "call/y", "call/z", "last"];
    check(&[], Rerun::All, &all);
    check(&[], Rerun::Failed, &[]);
    check(&[("b", Failure), ("c", Skipped)], Rerun::Failed, &["b", "c"]);
    check(&[("d", Cancelled)], Rerun::Failed, &["d", "last"]);
    check(&[], Rerun::Job("c"), &["c"]);
    check(&[], Rerun::Job("nothing"), &[]);
    let of_a = ["a", "b", "c", "call", "call/x", "call/y", "call/z", "last"];
    check(&[], Rerun::Job("a"), &of_a);
}

#[test]
fn a_call_begins_anew_around_what_does() {
    let failed = [("call/x", Failure), ("call/y", Skipped), ("call", Failure)];
    check(&failed, Rerun::Failed, &["call", "call/x", "call/y", "last"]);
    check(&[], Rerun::Job("call/z"), &["call", "call/z", "last"]);
    // Its inputs could not be evaluated: none of its jobs began.
    let never = ["call/x", "call/y", "call/z"].map(|key| (key, Skipped));
    let never: Vec<_> = never.into_iter().chain([("call", Failure)]).collect();
    check(&never, Rerun::Failed, &["call", "call/x", "call/y", "call/z", "last"]);
}

#[test]
fn the_second_attempt_keeps_results_and_ends() {
    let mut hub = hub();
    hub.end("a", Success, &[("tag", "7")]);
    for (key, conclusion) in [("d", Success), ("b", Failure), ("call/z", Success)] {
        hub.end(key, conclusion, &[]);
    }
    hub.end("call/x", Success, &[]);
    hub.end("call/y", Success, &[]);
    hub.end("last", Success, &[]);
    assert_eq!(hub.ended, Some(Failure));
    for key in rerun(&hub.plan, &hub.states, Rerun::Failed) {
        hub.states.remove(&key);
    }
    hub.ended = None;
    hub.settle();
    hub.check(&[("a", "success"), ("b", "queued"), ("c", "absent"), ("last", "success")]);
    let outputs = hub.ready["b"].needs.get("a").get("outputs").to_json();
    assert_eq!(outputs, json!({"tag": "7"}), "of the first attempt");
    hub.end("b", Success, &[]);
    hub.end("c", Success, &[]);
    assert_eq!(hub.ended, Some(Success));
}

proptest! {
    /// Random conclusions: nothing that is kept needs what begins anew, and the run ends again.
    #[test]
    fn what_is_kept_stands_on_what_is_kept(ends in prop::collection::vec(0..4_u8, 9), one in 0..9_usize) {
        let mut hub = hub();
        let mut ends = ends.into_iter().cycle();
        let mut run = |hub: &mut Hub, good: bool| {
            for _ in 0..20 {
                let queued = hub.states.iter().find(|(_, state)| **state == JobState::Queued);
                let Some(key) = queued.map(|(key, _)| key.clone()) else { break };
                let conclusion = match ends.next() {
                    Some(0) if !good => Failure,
                    Some(1) if !good => Cancelled,
                    _ => Success,
                };
                hub.end(&key, conclusion, &[]);
            }
            hub.ended
        };
        prop_assert!(run(&mut hub, false).is_some());
        let key = hub.plan.jobs[one].key.clone();
        for which in [Rerun::Job(&key), Rerun::Failed, Rerun::All] {
            let again = rerun(&hub.plan, &hub.states, which);
            for job in hub.plan.jobs.iter().filter(|job| !again.contains(&job.key)) {
                prop_assert!(job.needs.iter().all(|group| !again.contains(group)), "{}", job.key);
            }
            again.iter().for_each(|key| drop(hub.states.remove(key)));
            hub.ended = None;
            hub.settle();
            let ended = run(&mut hub, true);
            prop_assert!(ended.is_some());
            // Whatever failed was run again by now, and went well.
            if !matches!(which, Rerun::Job(_)) {
                prop_assert_eq!(ended, Some(Success));
            }
        }
    }
}
