//! Whether what is kept of another registry is served, or asked for.

use jiff::{SignedDuration, Timestamp};

/// What is known about a tag of another registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) now: Timestamp,
    /// When it was last known to be what is kept; `None` when nothing is kept.
    pub(crate) checked_at: Option<Timestamp>,
    /// Until when the registry wants to be left alone.
    pub(crate) blocked_until: Option<Timestamp>,
}

/// How long what is kept is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ages {
    /// Without asking.
    pub(crate) fresh: SignedDuration,
    /// When the registry cannot be asked.
    pub(crate) stale: SignedDuration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Serve what is kept.
    Serve,
    /// Ask whether it is still the same: a HEAD, which registries do not count.
    Revalidate,
    /// Fetch it.
    Fetch,
    /// Tell the client when to come again.
    Wait(SignedDuration),
}

/// Decides before anybody is asked.
pub(crate) fn decide(observed: &Observed, ages: Ages) -> Decision {
    let Observed { now, checked_at, blocked_until } = *observed;
    let age = checked_at.map(|at| now.duration_since(at));
    // An age below zero is none: the clock was set back.
    let within = |limit| age.is_some_and(|age| (SignedDuration::ZERO..=limit).contains(&age));
    if within(ages.fresh) {
        return Decision::Serve;
    }
    let blocked =
        blocked_until.map(|until| until.duration_since(now)).filter(|it| it.is_positive());
    match (blocked, age) {
        (Some(_), Some(_)) if within(ages.stale) => Decision::Serve,
        (Some(left), _) => Decision::Wait(left),
        (None, Some(_)) => Decision::Revalidate,
        (None, None) => Decision::Fetch,
    }
}

/// Whether what is kept is served although the registry did not answer.
pub(crate) fn serves_stale(observed: &Observed, ages: Ages) -> bool {
    let age = observed.checked_at.map(|at| observed.now.duration_since(at));
    age.is_some_and(|age| (SignedDuration::ZERO..=ages.stale).contains(&age))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGES: Ages =
        Ages { fresh: SignedDuration::from_secs(100), stale: SignedDuration::from_secs(1000) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn examples() {
        for (checked, blocked, want) in [
            (None, None, Decision::Fetch),
            (Some(9_950), None, Decision::Serve),
            (Some(9_900), None, Decision::Serve),
            (Some(9_899), None, Decision::Revalidate),
            (Some(0), None, Decision::Revalidate),
            (Some(10_001), None, Decision::Revalidate),
            (None, Some(10_030), Decision::Wait(SignedDuration::from_secs(30))),
            (Some(9_500), Some(10_030), Decision::Serve),
            (Some(8_999), Some(10_030), Decision::Wait(SignedDuration::from_secs(30))),
            (Some(9_500), Some(10_000), Decision::Revalidate),
        ] {
            let observed = Observed {
                now: at(10_000),
                checked_at: checked.map(at),
                blocked_until: blocked.map(at),
            };
            assert_eq!(decide(&observed, AGES), want, "{checked:?} {blocked:?}");
        }
    }

    proptest! {
        /// Clients come at any times, the registry fails as it likes: it is never asked while it wants to
        /// be left alone, and nothing is served that is older than the limit.
        #[test]
        fn a_registry_is_left_alone_when_it_asks(
            steps in proptest::collection::vec((0..400_i64, 0..4_u8, 1..500_i64), 1..60)
        ) {
            let (mut now, mut checked_at, mut blocked_until) = (10_000, None, None);
            for (pause, answer, retry_after) in steps {
                now += pause;
                let observed = Observed {
                    now: at(now),
                    checked_at: checked_at.map(at),
                    blocked_until: blocked_until.map(at),
                };
                match decide(&observed, AGES) {
                    Decision::Serve => {
                        prop_assert!(checked_at.is_some_and(|then| now - then <= 1000));
                    }
                    Decision::Wait(left) => {
                        prop_assert_eq!(Some(now + left.as_secs()), blocked_until);
                    }
                    Decision::Revalidate | Decision::Fetch => {
                        prop_assert!(blocked_until.is_none_or(|until| until <= now));
                        match answer {
                            0 => blocked_until = Some(now + retry_after),
                            1 => {
                                let stale = serves_stale(&observed, AGES);
                                prop_assert_eq!(
                                    stale,
                                    checked_at.is_some_and(|then| now - then <= 1000)
                                );
                            }
                            _ => checked_at = Some(now),
                        }
                    }
                }
            }
        }
    }
}
