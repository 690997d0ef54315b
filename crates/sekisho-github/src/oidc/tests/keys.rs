//! Key sets, and the decision on one token's key.

use super::*;

fn jwk(kid: &str, change: Value) -> Value {
    let n = BASE64_URL_SAFE_NO_PAD.encode([0xc3; 256]);
    let mut key =
        json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": n, "e": "AQAB"});
    for (name, value) in change.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

#[test]
fn only_keys_that_can_be_meant_are_kept() {
    let keys = json!({"keys": [
        jwk("a", json!({})), jwk("twice", json!({})), jwk("twice", json!({"e": "Aw"})),
        jwk("ec", json!({"kty": "EC"})), jwk("enc", json!({"use": "enc"})),
        jwk("ps", json!({"alg": "PS256"})), jwk("none", json!({"kid": null})),
        jwk("bad", json!({"n": "a b"})), jwk("lazy", json!({"alg": null, "use": null})),
        jwk("huge", json!({"n": BASE64_URL_SAFE_NO_PAD.encode([1; 1025])})),
    ]});
    let set = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    assert_eq!(set.len(), 2);
    assert!(set.get("a").is_some() && set.get("lazy").is_some());
    let many: Vec<Value> = (0..33).map(|n| jwk(&n.to_string(), json!({}))).collect();
    let many = json!({ "keys": many }).to_string();
    assert!(matches!(KeySet::parse(many.as_bytes()), Err(KeySetError::TooMany(33))));
    assert!(matches!(KeySet::parse(b"{}"), Err(KeySetError::Json(_))));
    assert!(KeySet::parse(br#"{"keys":[]}"#).unwrap().is_empty());
}

#[test]
fn the_table_of_keys() {
    use KeyDecision::{Fetch, Refuse, Unavailable, Use};
    // Ages in seconds: of the key set, and of the last question; -1 is a clock that was set back.
    for (known, fetched, asked, want) in [
        (false, None, None, Fetch),
        (true, Some(0), Some(0), Use),
        (true, Some(600), Some(600), Use),
        (true, Some(601), Some(601), Fetch),
        // The issuer was silent just now: the old keys still count, for a day.
        (true, Some(601), Some(5), Use),
        (true, Some(86_400), Some(9), Use),
        (true, Some(86_401), Some(9), Unavailable),
        (true, Some(86_401), Some(10), Fetch),
        // A key that nobody knows.
        (false, Some(5), Some(5), Refuse),
        (false, Some(10), Some(10), Fetch),
        (false, Some(500), Some(5), Unavailable),
        (false, None, Some(5), Unavailable),
        (true, Some(-1), Some(-1), Fetch),
        (false, Some(5), Some(-1), Fetch),
    ] {
        let ago = |age: Option<i64>| age.map(|age| at(NOW - age));
        let observed =
            KeyObserved { now: at(NOW), known, fetched_at: ago(fetched), asked_at: ago(asked) };
        assert_eq!(decide(&observed), want, "{observed:?}");
    }
}
