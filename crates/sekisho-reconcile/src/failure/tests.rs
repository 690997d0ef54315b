//! Every failure has a reason, a sentence and a pause.

use super::*;

fn at(seconds: u64) -> At {
    At::from_secs(1_000 + seconds)
}

fn text() -> String {
    "x".to_owned()
}

fn all() -> Vec<Failure> {
    vec![
        Failure::Conflict { detail: text() },
        Failure::ApiServer { detail: text() },
        Failure::PodInvalid { detail: text() },
        Failure::PodForbidden { detail: text() },
        Failure::Forbidden { detail: text() },
        Failure::Quota { detail: text() },
        Failure::LeaseNotTaken { detail: text() },
        Failure::NamespaceTerminating,
        Failure::NameTaken { detail: text() },
        Failure::RunnerBusy,
        Failure::Unreachable { detail: text() },
        Failure::RequestRefused { detail: text() },
        Failure::RateLimited { until: None },
        Failure::CredentialsRefused { detail: text() },
        Failure::PermissionMissing { detail: text() },
        Failure::GroupNotFound { group: text() },
        Failure::ScaleSetGone,
        Failure::SessionHeld { set: text(), owner: text() },
        Failure::ConnectionNotFound { name: text() },
        Failure::ConnectionNotReady { name: text(), detail: text() },
        Failure::ConnectionInvalid { detail: text() },
        Failure::SetNotOurs { set: text(), name: text(), group: text() },
        Failure::SetNameInUse { other: text(), name: text(), group: text() },
        Failure::LabelsDropped { labels: text() },
        Failure::ClassNotFound { name: text() },
        Failure::SecretNotFound { secret: text(), key: text() },
        Failure::TemplateInvalid { detail: text() },
        Failure::TemplateForbidden { detail: text() },
        Failure::TrustZoneMismatch { namespace: text(), wanted: text() },
        Failure::GroupShared { group: text(), other: text() },
    ]
}

#[test]
fn no_failure_is_tried_again_at_once_for_ever() {
    for failure in all() {
        let pause = |failures| failure.next_attempt(at(0), failures, Jitter::FULL).since(at(0));
        let pauses = [1, 2, 20].map(pause);
        if matches!(failure, Failure::Conflict { .. }) {
            // What is read anew is another try; where that does not help, it is none.
            let all = [1, AT_ONCE, AT_ONCE + 1, AT_ONCE + 2].map(pause);
            assert_eq!(all, [Duration::ZERO, Duration::ZERO, AGAIN, AGAIN * 2]);
            assert_eq!(pauses[2], CAP);
            continue;
        }
        assert!(pauses[0] >= BASE, "{failure:?}");
        assert!(pauses[2] >= QUOTA_PAUSE && pauses[2] <= CHANGE_PAUSE, "{failure:?}: {pauses:?}");
        assert!(pauses[0] <= pauses[1] && pauses[1] <= pauses[2], "{failure:?}");
    }
}

#[test]
fn what_somebody_can_put_right_says_how() {
    let missing = Failure::SecretNotFound { secret: "app".to_owned(), key: "key".to_owned() };
    assert_eq!(
        missing.claim(),
        Some(Claim {
            kind: READY,
            truth: Truth::False,
            reason: Reason::SecretNotFound,
            message: "there is no key `key` in secret `app`; create the secret, with the key that the message names".to_owned(),
        })
    );
    for failure in all() {
        let quiet = matches!(
            failure,
            Failure::Conflict { .. } | Failure::ApiServer { .. } | Failure::RunnerBusy
        );
        assert_eq!(failure.claim().is_none(), quiet, "{failure:?}");
        if matches!(failure.retry(), Retry::AwaitChange { .. }) {
            let reason = failure.reason().unwrap();
            let by_itself = matches!(reason, Reason::RegistrationLost);
            assert_eq!(reason.next_step().is_empty(), by_itself, "{failure:?} has no next step");
        }
    }
}

#[test]
fn github_says_when_its_limit_is_over_and_is_believed_within_bounds() {
    let limited = |until| Failure::RateLimited { until: Some(at(until)) };
    let next = |failure: Failure| failure.next_attempt(at(0), 1, Jitter::FULL).since(at(0));
    assert_eq!(next(limited(90)), secs(90));
    assert_eq!(next(limited(0)), BASE);
    assert_eq!(next(limited(90_000)), RATE_LIMIT_CAP);
    let first = Trouble::after(None, limited(90), at(0), Jitter::FULL);
    assert!(first.holds(at(89)) && !first.holds(at(90)));
    let again =
        Trouble::after(Some(&first), Failure::Unreachable { detail: text() }, at(90), Jitter::FULL);
    assert_eq!((again.failures, again.next), (2, at(92)));
}
