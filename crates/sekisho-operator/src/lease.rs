//! One lease for each RunnerDeployment: who holds it works on it.
//!
//! The holder renews every [`RENEW_EVERY`]; who stands by takes a lease that did not change for
//! [`DURATION`] on his own clock, so that clocks need not agree. A take-over is so complete within 15 s.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt as _;
use sekisho_reconcile::At;

/// How long a lease holds without being renewed.
pub(crate) const DURATION: Duration = Duration::from_secs(10);
/// How often it is renewed, and looked at.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Where the holder writes his session at GitHub down, for the next holder to remove.
const ANNOTATION_SESSION: &str = "runners.sekisho.dev/session";

/// What was seen of a lease.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    /// Its version, and since when it is the same.
    unchanged: Option<(String, At)>,
    /// Until when it is ours.
    pub(crate) held_until: Option<At>,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Create this one.
    Create(Box<Lease>),
    /// Replace it: ours is renewed, a free one taken.
    Replace(Box<Lease>),
    /// It is another's.
    Wait,
}

impl Watched {
    /// Whether it is ours at this time.
    pub(crate) fn holds(&self, now: At) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }
}

/// Decides. `found`: the lease as it is now.
pub(crate) fn decide(
    watched: &mut Watched,
    (name, me): (&str, &str),
    found: Option<&Lease>,
    now: At,
) -> Step {
    let Some(found) = found else {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name.to_owned());
        return Step::Create(Box::new(taken(lease, me, now)));
    };
    let holder = found.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    let version = found.resource_version().unwrap_or_default();
    let since = match &watched.unchanged {
        Some((known, since)) if *known == version => *since,
        _ => now,
    };
    watched.unchanged = Some((version, since));
    let free = holder.is_none_or(str::is_empty) || now.is_past(since, DURATION);
    if holder == Some(me) || free {
        return Step::Replace(Box::new(taken(found.clone(), me, now)));
    }
    watched.held_until = None;
    Step::Wait
}

fn taken(mut lease: Lease, me: &str, now: At) -> Lease {
    let time = MicroTime(crate::record::time(now).0);
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(me) {
        spec.acquire_time = Some(time.clone());
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default() + 1);
    }
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = Some(time);
    lease
}

/// The lease, given back.
pub(crate) fn released(mut lease: Lease) -> Lease {
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
    }
    lease
}

/// The session of whoever held it last.
pub(crate) fn session(lease: &Lease) -> Option<String> {
    lease.annotations().get(ANNOTATION_SESSION).cloned()
}

/// Writes a session down, or that there is none.
pub(crate) fn with_session(mut lease: Lease, session: Option<String>) -> Lease {
    match session {
        Some(session) => lease.annotations_mut().insert(ANNOTATION_SESSION.to_owned(), session),
        None => lease.annotations_mut().remove(ANNOTATION_SESSION),
    };
    lease
}

/// Whether everything is to be looked at when it is known how the lease is. It may have run out while it
/// was being renewed, which nobody notices who looks before and after: but what came then was `missed`.
pub(crate) const fn looks_again(before: bool, held: bool, missed: bool) -> bool {
    held && (missed || !before)
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_while_nobody_held_it_is_looked_at_by_who_holds_it() {
        for (before, held, missed, want) in [
            (true, true, false, false),
            (true, true, true, true),
            (false, true, false, true),
            (false, true, true, true),
            (true, false, true, false),
            (false, false, true, false),
        ] {
            assert_eq!(looks_again(before, held, missed), want, "{before} {held} {missed}");
        }
    }

    fn lease(holder: &str, version: &str) -> Lease {
        let mut lease = taken(Lease::default(), holder, At::from_secs(1));
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_and_kept_by_renewing_it() {
        let at = At::from_secs;
        let holder = |step: Step| match step {
            Step::Create(lease) | Step::Replace(lease) => {
                lease.spec.unwrap().holder_identity.unwrap()
            }
            Step::Wait => "wait".to_owned(),
        };
        let mut watched = Watched::default();
        let mut decide = |found: Option<&Lease>, now| {
            holder(super::decide(&mut watched, ("l", "me"), found, at(now)))
        };
        assert_eq!(decide(None, 100), "me");
        assert_eq!(decide(Some(&lease("me", "1")), 101), "me");
        // Another's: its own times do not count, only that it changes.
        assert_eq!(decide(Some(&lease("other", "2")), 110), "wait");
        assert_eq!(decide(Some(&lease("other", "2")), 119), "wait");
        assert_eq!(decide(Some(&lease("other", "3")), 120), "wait");
        assert_eq!(decide(Some(&lease("other", "3")), 129), "wait");
        assert_eq!(decide(Some(&lease("other", "3")), 130), "me");
        assert_eq!(decide(Some(&released(lease("other", "4"))), 131), "me");
    }

    #[test]
    fn a_session_is_left_for_the_next_holder() {
        let with = with_session(lease("me", "1"), Some("s".to_owned()));
        assert_eq!(session(&released(with.clone())).as_deref(), Some("s"));
        assert_eq!(session(&with_session(with, None)), None);
    }
}
