//! What a person reads.

use super::*;

fn event(milliseconds: i64, kind: EventKind) -> Event {
    Event { n: 1, at: Timestamp::from_millisecond(milliseconds).unwrap(), kind }
}

fn job(status: Status, conclusion: Option<Conclusion>, runner: Option<&str>) -> EventKind {
    EventKind::Job {
        job_id: 7,
        name: "image / build".into(),
        status,
        conclusion,
        runner_name: runner.map(str::to_owned),
    }
}

fn step(id: &str, name: &str, status: Status) -> EventKind {
    EventKind::Step {
        job_id: 7,
        step_id: id.into(),
        number: 2,
        name: name.into(),
        status,
        conclusion: None,
    }
}

fn log(step_id: &str, line: &str) -> EventKind {
    lines_from(step_id, None, &[line])
}

fn lines_from(step_id: &str, start_line: Option<u64>, lines: &[&str]) -> EventKind {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    EventKind::Log { job_id: 7, step_id: Some(step_id.into()), start_line, lines }
}

fn told(events: &[Event]) -> Vec<String> {
    let mut journey = Journey::default();
    let lines = events.iter().flat_map(|event| journey.tell(event)).collect::<Vec<_>>();
    lines.iter().map(|line| format!("{}|{}", line.station, line.text)).collect()
}

#[test]
fn a_journey_reads_in_order_and_says_nothing_twice() {
    let events = [
        event(0, EventKind::Run { status: Status::Queued, conclusion: None }),
        event(0, job(Status::Queued, None, None)),
        event(0, job(Status::Queued, None, None)),
        event(84, job(Status::InProgress, None, Some("local-7-1"))),
        event(85, step("a", "Check out", Status::InProgress)),
        event(87, log("a", "2026-01-02T03:04:05.1234567Z ##[group]Run make")),
        event(86, step("b", "Build", Status::InProgress)),
        event(87, log("a", "\u{1b}[36;1mmake\u{1b}[0m\u{7}\ttab")),
        event(87, log("a", "##[endgroup]")),
        event(88, log("b", "built")),
        event(90, job(Status::Completed, Some(Conclusion::Success), Some("local-7-1"))),
    ];
    assert_eq!(
        told(&events),
        [
            "job|`image / build` queued",
            "runner|`local-7-1` registered, took `image / build`, 84 ms after it was queued",
            "step|Check out",
            "|▸ Run make",
            "|make\ttab",
            "step|Build",
            "|built",
            "job|`image / build` succeeded",
        ]
    );
}

#[test]
fn what_failed_is_said() {
    let events = [
        event(0, log("unknown", "##[error]Process completed with exit code 3.")),
        event(0, job(Status::Completed, Some(Conclusion::Failure), None)),
    ];
    assert_eq!(
        told(&events),
        ["|Process completed with exit code 3.", "job|`image / build` failed",]
    );
}

#[test]
fn only_a_time_in_front_is_left_away() {
    for (line, want) in [
        (
            "2026-01-02T03:04:05.1234567Z x 2026-01-02T03:04:05.1234567Z",
            "|x 2026-01-02T03:04:05.1234567Z",
        ),
        ("2026-01-02T03:04:05.1234567Z", "|2026-01-02T03:04:05.1234567Z"),
        ("2026-01-02 03:04:05 ü", "|2026-01-02 03:04:05 ü"),
    ] {
        assert_eq!(told(&[event(0, log("a", line))]), [want]);
    }
}

#[test]
fn a_long_line_is_cut_at_a_character() {
    let line = told(&[event(0, log("a", &"ü".repeat(MAX_SHOWN + 5)))]);
    assert_eq!(line, [format!("|{} …", "ü".repeat(MAX_SHOWN))]);
}

#[test]
fn what_the_feed_lost_is_said() {
    let events = [
        event(0, lines_from("a", Some(1), &["1", "2"])),
        event(0, lines_from("a", Some(3), &["3"])),
        event(0, lines_from("b", Some(1), &["other"])),
        event(0, lines_from("a", Some(10), &["10"])),
    ];
    let gap = "|… 6 lines are not shown here; `sekisho logs` has them";
    assert_eq!(told(&events), ["|1", "|2", "|3", "|other", gap, "|10"]);
}

#[test]
fn where_there_are_several_jobs_a_step_says_whose_it_is() {
    let other = EventKind::Job {
        job_id: 8,
        name: "other".into(),
        status: Status::Pending,
        conclusion: None,
        runner_name: None,
    };
    let events = [
        event(0, job(Status::Pending, None, None)),
        event(0, step("a", "Build", Status::InProgress)),
        event(0, log("a", "##[notice]alone")),
        event(0, other),
        event(0, log("b", "of the other")),
        event(0, step("c", "Test", Status::InProgress)),
        event(0, log("c", "together")),
    ];
    assert_eq!(
        told(&events),
        ["step|Build", "|alone", "|of the other", "step|`image / build`: Test", "|together"]
    );
}
