use serde_json::{Value, json};

use super::*;
use crate::decisions::example as decision;

fn key() -> (RecordKey, PublicKey) {
    let dir = tempfile::tempdir().unwrap();
    let key = RecordKey::open(dir.path()).unwrap();
    let public = key.public();
    (key, public)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn order(answer: &str) -> Order {
    Order { issued_at: at(0), decision: decision(answer), attestation: Some(Digest::sha256(b"a")) }
}

#[test]
fn an_order_is_read_while_it_is_fresh() {
    let (key, public) = key();
    let sealed = seal(&order("warn"), &key).unwrap();
    for seconds in [-60, 0, 60] {
        assert_eq!(open(&sealed, std::slice::from_ref(&public), at(seconds)), Ok(order("warn")));
    }
    for seconds in [-61, 61, 86_400] {
        assert_eq!(
            open(&sealed, std::slice::from_ref(&public), at(seconds)),
            Err(Refused::Stale(at(0)))
        );
    }
}

#[test]
fn only_a_key_that_is_trusted_orders_and_only_what_was_let_pass() {
    let ((key, public), (other, other_public)) = (key(), key());
    for answer in ["deny", "quarantine"] {
        let sealed = seal(&order(answer), &key).unwrap();
        let held = Refused::Held("000000000042".to_owned());
        assert_eq!(open(&sealed, std::slice::from_ref(&public), at(0)), Err(held), "{answer}");
    }
    let sealed = seal(&order("allow"), &other).unwrap();
    assert_eq!(open(&sealed, std::slice::from_ref(&public), at(0)), Err(Refused::Unsigned));
    assert!(open(&sealed, &[public, other_public], at(0)).is_ok(), "of two keys");
    assert_eq!(open(&sealed, &[], at(0)), Err(Refused::Unsigned));
}

#[test]
fn what_was_changed_on_its_way_is_no_order() {
    let (key, public) = key();
    let sealed: Value = serde_json::from_slice(&seal(&order("allow"), &key).unwrap()).unwrap();
    let payload = serde_json::to_vec(&order("allow")).unwrap();
    // The gate's signature under its word on an image is none under an order.
    let elsewhere = key.sign(&pae("application/vnd.in-toto+json", &payload));
    let changed = |path: &str, value: Value| {
        let mut sealed = sealed.clone();
        *sealed.pointer_mut(path).unwrap() = value;
        serde_json::to_vec(&sealed).unwrap()
    };
    let mut other = order("allow");
    other.decision.digest = Digest::sha256(b"evil");
    let other = BASE64_STANDARD.encode(serde_json::to_vec(&other).unwrap());
    for (envelope, want) in [
        (changed("/payload", other.into()), Refused::Unsigned),
        (changed("/payload", "".into()), Refused::Unsigned),
        (changed("/signatures/0/sig", BASE64_STANDARD.encode(elsewhere).into()), Refused::Unsigned),
        (changed("/signatures/0/sig", "?".into()), Refused::Unsigned),
        (changed("/signatures/0/keyid", "".into()), Refused::Unsigned),
        (changed("/signatures", json!([])), Refused::Unsigned),
    ] {
        assert_eq!(open(&envelope, std::slice::from_ref(&public), at(0)), Err(want));
    }
    for envelope in [
        b"".to_vec(),
        b"{}".to_vec(),
        changed("/payloadType", "application/vnd.in-toto+json".into()),
        changed("/payload", "?".into()),
    ] {
        let refused = open(&envelope, std::slice::from_ref(&public), at(0));
        assert!(matches!(refused, Err(Refused::Malformed(_))), "{refused:?}");
    }
}
