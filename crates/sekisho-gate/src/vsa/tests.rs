use ring::signature::{ED25519, UnparsedPublicKey};

use super::*;
use crate::decisions::checkpoint::trusted;
use crate::decisions::example as decision;

#[test]
fn the_statement_says_what_was_decided_about_what() {
    let said = statement(&decision("warn"), "https://gate.example/");
    assert_eq!(said["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(said["subject"][0]["digest"]["sha256"], Digest::sha256(b"m").hex());
    assert_eq!(said["subject"][0]["name"], "gate.example/acme/app");
    let predicate = &said["predicate"];
    assert_eq!(predicate["verificationResult"], "PASSED");
    assert_eq!(predicate["timeVerified"], "2027-01-15T08:00:00Z");
    assert_eq!(predicate["policy"]["digest"]["sha256"], Digest::sha256(b"p").hex());
    for answer in ["deny", "quarantine"] {
        let said = statement(&decision(answer), "https://gate.example/");
        assert_eq!(said["predicate"]["verificationResult"], "FAILED", "{answer}");
    }
}

#[test]
fn the_envelope_is_signed_and_the_same_again() {
    // DSSE v1.0.2, the example of its "protocol" page.
    let want = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
    assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), want);

    let dir = tempfile::tempdir().unwrap();
    let key = RecordKey::open(dir.path()).unwrap();
    let signed = envelope(&decision("allow"), "https://gate.example/", &key);
    let payload = BASE64_STANDARD.decode(signed["payload"].as_str().unwrap()).unwrap();
    let signature = &signed["signatures"][0];
    let bytes = BASE64_STANDARD.decode(signature["sig"].as_str().unwrap()).unwrap();
    let public = trusted(dir.path()).unwrap().remove(0);
    assert_eq!(signature["keyid"], *public.name);
    let public = UnparsedPublicKey::new(&ED25519, public.bytes);
    public.verify(&pae("application/vnd.in-toto+json", &payload), &bytes).unwrap();
    assert!(public.verify(&payload, &bytes).is_err());

    let make = || attestation(&decision("allow"), 9, "https://gate.example/", &key);
    assert_eq!(make().record, make().record);
    assert_eq!(make().record.digest, Digest::sha256(&make().manifest));
    assert_eq!(make().record.subject, Some(Digest::sha256(b"m")));
}
