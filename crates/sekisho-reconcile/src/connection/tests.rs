//! When GitHub is asked, and what is said of it.

use super::*;

fn at(seconds: u64) -> At {
    At::from_secs(1_000 + seconds)
}

fn seen(seconds: u64) -> Observed {
    Observed {
        now: at(seconds),
        changed: false,
        checked: Some(at(0)),
        trouble: None,
        contrary: None,
        leaving: false,
        jitter: Jitter::FULL,
        account: Some("acme".to_owned()),
    }
}

#[test]
fn it_is_asked_at_the_start_on_a_change_and_now_and_then() {
    let first = decide(&Observed { checked: None, ..seen(0) });
    assert_eq!((first.check, first.claim), (true, None));
    let plan = decide(&seen(299));
    assert_eq!((plan.check, plan.requeue_after), (false, Some(Duration::from_secs(1))));
    let claim = plan.claim.unwrap();
    assert_eq!(
        (claim.truth, claim.reason, claim.message.as_str()),
        (Truth::True, Reason::Connected, "acme")
    );
    assert!(decide(&seen(300)).check);
    assert!(decide(&Observed { changed: true, ..seen(1) }).check);
    // Its secret is gone with its namespace, and what it holds is what is left to sign in with.
    let leaving = decide(&Observed { changed: true, leaving: true, ..seen(300) });
    assert_eq!((leaving.check, leaving.requeue_after), (false, None));
}

#[test]
fn a_failure_waits_longer_each_time_and_recovers_without_a_restart() {
    let refused = || Failure::CredentialsRefused { detail: "401".to_owned() };
    let trouble = found(&seen(0), Some(refused()));
    let failing = Observed { trouble: trouble.clone(), ..seen(119) };
    let plan = decide(&failing);
    assert_eq!((plan.check, plan.requeue_after), (false, Some(Duration::from_secs(1))));
    assert_eq!(plan.claim.unwrap().reason, Reason::CredentialsRefused);
    assert!(decide(&Observed { now: at(120), ..failing.clone() }).check);
    // Somebody changed the secret: it is asked at once, and the count begins anew.
    let changed = Observed { changed: true, ..failing };
    assert!(decide(&changed).check);
    assert_eq!(found(&changed, Some(refused())).unwrap().failures, 1);
    assert_eq!(found(&changed, None), None);
}

#[test]
fn what_another_found_since_is_not_contradicted_but_asked_for() {
    let doubts = Observed { contrary: Some(at(2)), ..seen(4) };
    let plan = decide(&doubts);
    assert_eq!((plan.check, plan.claim), (false, None));
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(6)));
    assert!(decide(&Observed { now: at(10), ..doubts.clone() }).check);
    // It was asked since, and found what it found before.
    let sure = Observed { contrary: Some(at(0)), ..seen(4) };
    assert_eq!(decide(&sure).claim.unwrap().reason, Reason::Connected);
}

#[test]
fn a_webhook_without_a_secret_is_said_and_stops_nothing() {
    let claim = webhook(None);
    assert_eq!(
        (claim.kind, claim.truth, claim.reason),
        (WEBHOOK, Truth::True, Reason::SecretFound)
    );
    let missing = Failure::SecretNotFound { secret: "hook".to_owned(), key: "key".to_owned() };
    let claim = webhook(Some(&missing));
    assert_eq!((claim.truth, claim.reason), (Truth::False, Reason::SecretNotFound));
    assert!(claim.message.starts_with("there is no key `key` in secret `hook`; create"));
    let conflict = Failure::Conflict { detail: String::new() };
    assert_eq!(webhook(Some(&conflict)).truth, Truth::Unknown);
}
