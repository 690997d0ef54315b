use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::*;

fn read(document: &Value) -> Statement {
    read_with(document, &Attestors::default())
}

fn read_with(document: &Value, known: &Attestors) -> Statement {
    read_document(document.to_string().as_bytes(), known, None).unwrap().statement
}

fn spdx() -> Value {
    json!({"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "packages": []})
}

fn cyclonedx() -> Value {
    json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": []})
}

fn provenance() -> Value {
    json!({"buildDefinition": {"buildType": "https://t"}, "runDetails": {"builder": {"id": "https://b"}}})
}

fn of_image() -> Digest {
    Digest::sha256(b"image")
}

fn statement(predicate_type: &str, predicate: &Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "a", "digest": {"sha256": of_image().hex()}}],
        "predicateType": predicate_type, "predicate": predicate,
    })
}

#[test]
fn content_decides_and_not_what_it_is_called() {
    use StatementKind::{Other, Provenance, Sbom};
    let old = json!({"buildType": "https://t", "builder": {"id": "https://b"}});
    for (kind, predicate, want) in [
        ("https://spdx.dev/Document", spdx(), Sbom),
        ("https://spdx.dev/Document/v2.3", spdx(), Sbom),
        ("https://cyclonedx.org/bom/v1.5", cyclonedx(), Sbom),
        ("https://slsa.dev/provenance/v1", provenance(), Provenance),
        ("https://slsa.dev/provenance/v0.2", old.clone(), Provenance),
        ("https://spdx.dev/Document", Value::Null, Other),
        ("https://spdx.dev/Document", json!({"spdxVersion": "SPDX-2.3"}), Other),
        ("https://spdx.dev/Document", cyclonedx(), Other),
        ("https://cyclonedx.org/bom", json!("CycloneDX"), Other),
        ("https://slsa.dev/provenance/v1", json!({"builder": {"id": ""}, "buildType": "t"}), Other),
        ("https://slsa.dev/provenance/v1", json!({}), Other),
        ("https://slsa.dev/verification_summary/v1", provenance(), Other),
        ("https://example.org", spdx(), Other),
    ] {
        let said = read(&statement(kind, &predicate));
        assert_eq!(said.kind, want, "{kind}: {predicate}");
        assert_eq!(said.subjects, Some([of_image()].into()), "{kind}");
    }
    // A list of parts by itself is about what its manifest refers to.
    for bare in [spdx(), cyclonedx()] {
        assert_eq!(read(&bare), Statement { kind: Sbom, ..Statement::default() });
    }
    for other in [json!({"predicateType": "https://spdx.dev/Document"}), provenance(), json!(1)] {
        assert_eq!(read(&other), Statement::default(), "{other}");
    }
    assert!(read_document(&b"{} {}"[..], &Attestors::default(), None).is_err());
    assert!(read_document(&b""[..], &Attestors::default(), None).is_err());
}

#[test]
fn a_statement_about_nothing_or_something_else_says_so() {
    let mut of = statement("https://slsa.dev/provenance/v1", &provenance());
    of["subject"] = json!([{"digest": {"sha256": "../x"}}, {"digest": {"md5": "00"}}, 5]);
    assert_eq!(read(&of).subjects, Some(BTreeSet::new()));
    of["subject"] = Value::Null;
    assert_eq!(read(&of).subjects, Some(BTreeSet::new()));
}

fn pem(prefix: &[u8], key: &[u8]) -> String {
    let der = BASE64_STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

/// The prefixes of RFC 5480 and RFC 8410, written down again.
const P256: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
const ED25519: &str = "302a300506032b6570032100";

fn bytes(hex: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn envelope(payload: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> Value {
    let payload = payload.to_string();
    let signature = sign(&pae(IN_TOTO, payload.as_bytes()));
    json!({
        "payloadType": IN_TOTO, "payload": BASE64_STANDARD.encode(payload),
        "signatures": [{"sig": "AAAA"}, {"keyid": "", "sig": BASE64_STANDARD.encode(signature)}],
    })
}

#[test]
fn a_signature_counts_where_its_key_is_known_and_its_bytes_are_as_signed() {
    let random = SystemRandom::new();
    let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let ed = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let p256 =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random).unwrap();
    let of = |name: &str, pem: String| {
        format!("[[attestor]]\nname = \"{name}\"\npublic_key = \"\"\"{pem}\"\"\"\n")
    };
    let known = [
        of("ci", pem(&bytes(ED25519), ed.public_key().as_ref())),
        of("release", pem(&bytes(P256), p256.public_key().as_ref())),
    ];
    let known = Attestors::load(&known.concat()).unwrap();
    let payload = statement("https://slsa.dev/provenance/v1", &provenance());
    let by_ed = |signed: &[u8]| ed.sign(signed).as_ref().to_vec();
    let by_p256 = |signed: &[u8]| p256.sign(&random, signed).unwrap().as_ref().to_vec();
    let signers = |document: &Value, known: &Attestors| {
        let said = read_with(document, known);
        assert_eq!(said.kind, StatementKind::Provenance);
        assert_eq!(said.subjects, Some([of_image()].into()));
        said.signers.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(signers(&envelope(&payload, by_ed), &known), ["ci"]);
    assert_eq!(signers(&envelope(&payload, by_p256), &known), ["release"]);
    let bundle = json!({"mediaType": "x", "dsseEnvelope": envelope(&payload, by_p256)});
    assert_eq!(signers(&bundle, &known), ["release"]);
    // Nobody's key; other bytes; a signature of the payload alone, or of another type.
    assert_eq!(signers(&envelope(&payload, by_ed), &Attestors::default()), [""; 0]);
    let mut other = envelope(&payload, by_ed);
    let changed = payload.to_string().replace("https://b", "https://c");
    other["payload"] = BASE64_STANDARD.encode(changed).into();
    assert_eq!(signers(&other, &known), [""; 0]);
    let bare = envelope(&payload, |_| ed.sign(payload.to_string().as_bytes()).as_ref().to_vec());
    assert_eq!(signers(&bare, &known), [""; 0]);
    let typed = pae("text/plain", payload.to_string().as_bytes());
    assert_eq!(signers(&envelope(&payload, |_| by_ed(&typed)), &known), [""; 0]);
    // A list of parts in an envelope has no subject of its own, so it is about nothing.
    let said = read_with(&envelope(&spdx(), by_ed), &known);
    assert_eq!(said.subjects, Some(BTreeSet::new()));
}

/// A build argument that its builder told, by itself and in an envelope of whatever type.
#[test]
fn a_secret_in_a_statement_is_found_where_it_stands() {
    let secret = format!("glpat-{}", "9yJ3kQ7wZ1xR5tB8mN2v");
    let mut told = provenance();
    told["buildDefinition"]["externalParameters"] = json!({"args": {"build-arg:TOKEN": secret}});
    let bare = statement("https://slsa.dev/provenance/v1", &told);
    let wrapped = envelope(&bare, <[u8]>::to_vec);
    let mut other = wrapped.clone();
    other["payloadType"] = "text/plain".into();
    let key = FingerprintKey::new(&[7; 32]);
    let look = |document: &Value| {
        let read =
            read_document(document.to_string().as_bytes(), &Attestors::default(), Some(&key));
        let read = read.unwrap();
        let all: Vec<_> =
            read.secrets.into_iter().map(|it| (it.kind, it.path, it.fingerprint)).collect();
        (all, read.more_secrets, read.statement.kind)
    };
    let (found, more, kind) = look(&bare);
    let (of, fingerprint) = ("gitlab-token".to_owned(), found[0].2.clone());
    assert_eq!(fingerprint.len(), 24);
    assert_eq!(found, [(of.clone(), DOCUMENT.to_owned(), fingerprint.clone())]);
    assert_eq!((more, kind), (0, StatementKind::Provenance));
    for (document, kind) in [
        (&wrapped, StatementKind::Provenance),
        (&other, StatementKind::Other),
        (&json!({"dsseEnvelope": wrapped}), StatementKind::Provenance),
    ] {
        let found = vec![(of.clone(), PAYLOAD.to_owned(), fingerprint.clone())];
        assert_eq!(look(document), (found, 0, kind), "{document}");
    }
    assert_eq!(look(&spdx()).0, []);
    let many: Vec<_> = (0..150).map(|at| format!("{secret} {at}")).collect();
    let (found, more, _) = look(&json!(many));
    assert_eq!((found.len(), more), (100, 50));
}

#[test]
fn attestors_are_named_and_have_keys() {
    let key = pem(&bytes(ED25519), &[7; 32]);
    let with = |name: &str, key: &str| {
        Attestors::load(&format!("[[attestor]]\nname = \"{name}\"\npublic_key = '''{key}'''\n"))
    };
    assert!(with("a", &key).is_ok());
    assert_eq!(with("unsigned", &key), Err(AttestorsError::Name("unsigned".into())));
    assert_eq!(with("", &key), Err(AttestorsError::Name(String::new())));
    for bad in ["", "-----BEGIN PUBLIC KEY-----", &pem(&bytes(P256), &[7; 64])] {
        assert_eq!(with("a", bad), Err(AttestorsError::Key("a".into())), "{bad}");
    }
    assert!(matches!(Attestors::load("[[x]]"), Err(AttestorsError::Toml(_))));
    let many = format!("[[attestor]]\nname = \"a\"\npublic_key = '''{key}'''\n").repeat(65);
    assert_eq!(Attestors::load(&many), Err(AttestorsError::TooMany));
}

proptest! {
    #[test]
    fn any_document_is_read_or_refused(text in "[{}\\[\\]\",:a-z0-9]{0,60}") {
        let _ = read_document(text.as_bytes(), &Attestors::default(), None);
    }
}
