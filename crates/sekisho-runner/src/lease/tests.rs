//! The rules by example, then a small world: a service that is away, slow, restarted, skewed.

use proptest::prelude::*;

use super::*;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_lock_is_renewed_at_once_and_then_every_minute() {
    let mut lease = Lease::new();
    assert_eq!(lease.decide(secs(0)), Action::Renew);
    lease.answered(secs(0), secs(2), Answer::Renewed(secs(600)), 0.5);
    assert_eq!(lease.decide(secs(2)), Action::Wait(secs(60)));
    assert_eq!(lease.decide(secs(60)), Action::Renew);
    lease.answered(secs(60), secs(61), Answer::Renewed(secs(30)), 0.5);
    assert_eq!(lease.decide(secs(61)), Action::Wait(secs(75)), "a short lock is renewed sooner");
}

#[test]
fn failures_are_retried_until_the_lock_is_long_over() {
    let mut lease = Lease::new();
    lease.answered(secs(0), secs(0), Answer::Renewed(secs(600)), 1.0);
    let mut now = secs(60);
    let mut pauses = Vec::new();
    while lease.decide(now) == Action::Renew {
        lease.answered(now, now, Answer::Failed, 1.0);
        let Action::Wait(until) = lease.decide(now) else { break };
        pauses.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(pauses[..6], [1, 2, 4, 8, 15, 15]);
    assert_eq!((now, lease.decide(now)), (secs(900), Action::Lost(Loss::Expired)));
}

#[test]
fn a_refusal_is_final_and_a_bad_token_nearly_so() {
    let mut lease = Lease::new();
    lease.answered(secs(0), secs(0), Answer::Refused, 0.0);
    assert_eq!(lease.decide(secs(0)), Action::Lost(Loss::Refused));
    let mut lease = Lease::new();
    for _ in 1..MAX_UNAUTHORIZED {
        lease.answered(secs(0), secs(0), Answer::Unauthorized, 0.0);
        assert!(matches!(lease.decide(secs(0)), Action::Wait(_)));
    }
    let mut other = lease;
    other.answered(secs(0), secs(0), Answer::Failed, 0.0);
    other.answered(secs(0), secs(0), Answer::Unauthorized, 0.0);
    assert!(matches!(other.decide(secs(0)), Action::Wait(_)), "they are not in a row");
    lease.answered(secs(0), secs(0), Answer::Unauthorized, 0.0);
    assert_eq!(lease.decide(secs(0)), Action::Lost(Loss::Refused));
}

#[test]
fn clocks_that_do_not_agree_are_not_believed() {
    for (until, now, want) in [
        (1600, 1000, secs(600)),
        (1000, 1000, DEFAULT_LENGTH),
        (0, 1000, DEFAULT_LENGTH),
        (1000 + 3601, 1000, DEFAULT_LENGTH),
        (i64::MAX, i64::MIN, DEFAULT_LENGTH),
        (i64::MIN, i64::MAX, DEFAULT_LENGTH),
    ] {
        assert_eq!(length(until, now), want, "{until} {now}");
    }
}

/// The service: it gives the job to somebody else some time after its lock is over.
struct Service {
    locked_until: Duration,
    /// It waits this long with that, as one does that has just started again.
    patience: Duration,
    given_away: bool,
    /// Away during these, in seconds; answers from just before are lost.
    outages: Vec<(u64, u64)>,
    skew: i64,
}

impl Service {
    fn is_up(&self, now: Duration) -> bool {
        !self.outages.iter().any(|(from, to)| (secs(*from)..secs(*to)).contains(&now))
    }

    fn tick(&mut self, now: Duration) {
        self.given_away |= self.is_up(now) && now > self.locked_until + self.patience;
    }

    /// The answer to a request that is sent at `asked` and arrives after `takes`.
    fn renew(&mut self, asked: Duration, takes: Duration) -> (Duration, Answer) {
        let now = asked + takes;
        self.tick(now);
        if !self.is_up(now) {
            return (now, Answer::Failed);
        }
        if self.given_away {
            return (now, Answer::Refused);
        }
        self.locked_until = now + secs(600);
        if !self.is_up(now + takes) {
            // It was renewed, but the answer was lost.
            return (now + takes, Answer::Failed);
        }
        let wall = |time: Duration| i64::try_from(time.as_secs()).unwrap();
        let until = wall(self.locked_until) + 1_000_000 + self.skew;
        (now + takes, Answer::Renewed(length(until, wall(now) + 1_000_000)))
    }
}

/// One run of the world to `end`: what happened, as a trace, and when the lock was lost.
fn simulate(service: &mut Service, slow: &[u64], end: Duration) -> (Vec<String>, Option<Duration>) {
    let (mut now, mut lease) = (Duration::ZERO, Lease::new());
    let (mut trace, mut asked_last) = (Vec::new(), None::<Duration>);
    let mut number = 0_usize;
    while now < end {
        service.tick(now);
        match lease.decide(now) {
            Action::Wait(until) => {
                assert!(until > now, "it waits for something that is over");
                assert!(until - now <= RENEW_EVERY, "a lock is not left alone for long");
                now = until;
            }
            Action::Renew => {
                let apart = asked_last.is_none_or(|last| now - last >= FIRST_PAUSE / 2);
                assert!(apart, "the service is not hammered");
                asked_last = Some(now);
                let takes = Duration::from_millis(slow[number % slow.len()]);
                number += 1;
                let (answered, answer) = service.renew(now, takes);
                trace.push(format!("{now:?} {answer:?}"));
                lease.answered(now, answered, answer, 0.37);
                now = answered;
            }
            Action::Lost(loss) => {
                trace.push(format!("{now:?} {loss:?}"));
                return (trace, Some(now));
            }
        }
    }
    (trace, None)
}

fn outages() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let gap = 60_u64..1500;
    proptest::collection::vec((gap, 1_u64..1400), 0..5).prop_map(|parts| {
        let mut at = 0;
        let mut outages = Vec::new();
        for (gap, length) in parts {
            outages.push((at + gap, at + gap + length));
            at += gap + length;
        }
        outages
    })
}

proptest! {
    #[test]
    fn a_job_survives_what_it_can_and_ends_when_it_must(
        outages in outages(),
        patience in 0_u64..600,
        skew in prop_oneof![Just(0_i64), -300_i64..300, -90_000_i64..90_000],
        slow in proptest::collection::vec(1_u64..15_000, 1..6),
    ) {
        let end = secs(9000);
        let service = || Service {
            locked_until: DEFAULT_LENGTH,
            patience: secs(patience),
            given_away: false,
            outages: outages.clone(),
            skew,
        };
        let mut world = service();
        let (trace, lost) = simulate(&mut world, &slow, end);
        prop_assert_eq!(simulate(&mut service(), &slow, end).0, trace.clone(), "one seed, one trace");
        let longest = outages.iter().map(|(from, to)| to - from).max().unwrap_or(0);
        // An answer may be on its way when the service goes, and the next try is a pause later.
        let margin = 60 + 15 + 2 * 15;
        if longest + margin < 600 && skew == 0 {
            prop_assert_eq!(lost, None, "a short outage costs nothing: {:?}", trace);
        }
        if world.given_away {
            let lost = lost.expect("a job that is somebody else's is stopped");
            // At the latest when the lock is over by the runner's own reckoning.
            prop_assert!(lost <= world.locked_until + MAX_LENGTH + GRACE, "{:?}", trace);
        }
        if let (None, false) = (lost, trace.is_empty()) {
            prop_assert!(!world.given_away);
        }
    }
}
