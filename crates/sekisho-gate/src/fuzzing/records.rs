//! What a gate wrote down, as somebody else may have changed it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use ring::signature::Ed25519KeyPair;
use sekisho_policy::{Decision as Answer, Policies};
use sekisho_types::Digest;
use serde_json::Value;

use crate::decisions::Decision;
use crate::decisions::checkpoint::{Checkpoint, PublicKey, RecordKey, Statement};
use crate::decisions::verify::{CHECKPOINTS, Link, MAX_FAULTS, number_of, verify};
use crate::push::state::Push;
use crate::{judge, vsa};

/// Decisions of the log that is changed; the last of them was not signed yet.
const DECISIONS: u64 = 4;

const DECISION: &str = r#"{"id":"000000000001","at":"2030-01-02T03:04:05Z","previous":null,"identity":{"repository":"acme/app","run_id":"7"},"repository":"acme/app","tag":"v1","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","media_type":"application/vnd.oci.image.manifest.v1+json","verdict":{"decision":"deny","reasons":[{"rule":"root","mode":"enforce","message":"m","fix":"f","docs":"d","about":["x"],"findings":[{"id":"GHSA-1","aliases":["CVE-2030-1"],"severity":"high","score":7.5,"ecosystem":"npm","package":"a","installed":"1.0.0","fixed":"1.0.1","summary":"s","url":"u","path":"p"}]}]},"packages":1,"summary":{"images":1,"layers":1,"size_bytes":10,"findings":{"high":1},"not_assessed":0},"facts":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","policy":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","inspector":"i","advisories":3,"newest_advisory":null}"#;

const PUSH: &str = r#"{"repository":"acme/app","tag":"v1","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","media_type":"m","identity":{"repository":"acme/app"},"basis":{"identity":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","policy":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","exceptions":null,"data":"d","day":"2030-01-02"},"manifest":"{}","at":"2030-01-02T03:04:05Z","state":"promote_failed","decision":"000000000001","attempts":2}"#;

const FACTS: &str = r#"{"identity":{"issuer":"i","repository":"acme/app","repository_id":"1","repository_owner":"acme","repository_owner_id":"2","git_ref":"refs/heads/main","ref_type":"branch","event_name":"push","run_id":"7","job_workflow_ref":"acme/app/.github/workflows/a.yml@refs/heads/main"},"target":{"repository":"acme/app","in_namespace":true},"contents":[{"user":"app","exposed_ports":["22/tcp"],"labels":{"a":"b"},"command":["x"],"base":{"name":"docker.io/library/debian:12","digest":"","created":"2029-01-02T03:04:05Z","known":true},"layers":1,"size_bytes":10,"licences":{"AGPL-3.0":["a"]},"secrets":[{"kind":"aws","path":"p","line":1,"offset":2,"fingerprint":"","sample":false}],"sbom":true,"threats":{"GHSA-1":{"exploited":true,"epss_ppm":900000}},"packages":1,"findings":[{"id":"GHSA-1","aliases":[],"severity":"critical","ecosystem":"npm","package":"a","installed":"1","fixed":"2","summary":"s","url":"u","path":"p","published":"2029-01-02T03:04:05Z"}],"not_assessed":[{"reason":"unreadable_file","subject":"s","detail":"d"}],"newest_advisory":"2029-12-02T03:04:05Z"}],"now":"2030-01-02T03:04:05Z"}"#;

/// A log as a gate writes it: its records, their checkpoint, and the key that signed it.
struct Log {
    records: Vec<Vec<u8>>,
    checkpoint: Vec<u8>,
    key: PublicKey,
}

static LOG: LazyLock<Option<Log>> = LazyLock::new(|| {
    let key = RecordKey::of(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).ok()?);
    let mut decision: Decision = serde_json::from_str(DECISION).ok()?;
    let mut records: Vec<Vec<u8>> = Vec::new();
    for number in 1..=DECISIONS {
        decision.id = format!("{number:012}");
        decision.previous = records.last().map(|bytes| Digest::sha256(bytes));
        records.push(serde_json::to_vec(&decision).ok()?);
    }
    let signed = records.iter().take(records.len() - 1);
    let statement = Statement {
        first: 1,
        last: DECISIONS - 1,
        records: signed.map(|bytes| Digest::sha256(bytes)).collect(),
        previous: None,
        at: Timestamp::UNIX_EPOCH,
        key: key.name().to_owned(),
    };
    let checkpoint = serde_json::to_vec(&key.seal(statement).ok()?).ok()?;
    Some(Log { records, checkpoint, key: key.public() })
});

/// Changes of a log that change nothing.
pub fn log_seeds() -> Vec<Vec<u8>> {
    let Some(log) = &*LOG else { return Vec::new() };
    let put = |name: &str, bytes: &[u8]| [name.as_bytes(), b"\0", bytes].concat();
    let mut seeds = vec![put("checkpoints/000000000001.json", &log.checkpoint)];
    let records = log.records.iter().enumerate();
    seeds.extend(records.map(|(at, bytes)| put(&format!("{:012}.json", at + 1), bytes)));
    seeds.push(b"000000000002.json".to_vec());
    seeds
}

/// The name of a file of a log; after a NUL, what is put there. Without a NUL it is taken away.
pub fn log(input: &[u8]) {
    let Some(log) = &*LOG else { return };
    let at = input.iter().position(|byte| *byte == 0);
    let (name, bytes) = match at {
        Some(at) => (&input[..at], input.get(at + 1..)),
        None => (input, None),
    };
    let name = String::from_utf8_lossy(name);
    let numbered = |(at, bytes): (u64, &Vec<u8>)| (at, Link::of(bytes));
    let mut links: BTreeMap<u64, Link> = (1..).zip(&log.records).map(numbered).collect();
    let mut checkpoints = BTreeMap::from([(1, Bytes::copy_from_slice(&log.checkpoint))]);
    let keys = std::slice::from_ref(&log.key);
    assert_eq!(verify(&links, &checkpoints, keys).faults, []);

    if let Some(number) = in_checkpoints(&name).and_then(number_of) {
        match bytes {
            Some(bytes) => drop(checkpoints.insert(number, Bytes::copy_from_slice(bytes))),
            None => drop(checkpoints.remove(&number)),
        }
        let found = verify(&links, &checkpoints, keys);
        // Other bytes that say the same are as good: what is signed is what they say.
        let said = |bytes: &[u8]| serde_json::from_slice::<Checkpoint>(bytes).ok();
        let is_whole = bytes.is_none_or(|it| number == 1 && said(it) == said(&log.checkpoint));
        assert_eq!(found.faults.is_empty(), is_whole, "{:?}", found.faults);
        let vouches = if number == 1 { bytes.is_some() && is_whole } else { true };
        assert_eq!(found.signed as u64, if vouches { DECISIONS - 1 } else { 0 });
    } else if let Some(number) = number_of(&name) {
        let before =
            usize::try_from(number).ok().and_then(|it| log.records.get(it.wrapping_sub(1)));
        let same = bytes == before.map(Vec::as_slice);
        match bytes {
            Some(bytes) => drop(links.insert(number, Link::of(bytes))),
            None => drop(links.remove(&number)),
        }
        let found = verify(&links, &checkpoints, keys);
        // What is newest nobody vouches for yet, nor knows the next one.
        let is_open = number == DECISIONS || number == DECISIONS + 1;
        assert!(same || is_open || !found.faults.is_empty(), "a change of {number} is not seen");
        assert!(!same || found.faults.is_empty(), "{:?}", found.faults);
        assert!(found.faults.len() <= MAX_FAULTS);
    }
}

fn in_checkpoints(name: &str) -> Option<&str> {
    name.strip_prefix(CHECKPOINTS)?.strip_prefix('/')
}

/// Records to begin with.
pub fn decision_seeds() -> Vec<Vec<u8>> {
    [DECISION, PUSH].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// The record of a decision, or of a push.
pub fn decision(input: &[u8]) {
    if let Ok(push) = serde_json::from_slice::<Push>(input) {
        let written = serde_json::to_vec(&push).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Push>(&written).ok().as_ref(), Some(&push));
    }
    let Ok(decision) = serde_json::from_slice::<Decision>(input) else { return };
    let written = serde_json::to_vec(&decision).unwrap_or_default();
    assert_eq!(serde_json::from_slice::<Decision>(&written).ok().as_ref(), Some(&decision));
    let Some(key) = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).ok().map(RecordKey::of) else {
        return;
    };
    let envelope = vsa::envelope(&decision, "https://gate.example/", &key);
    let payload = envelope["payload"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let said: Value = serde_json::from_slice(&payload.unwrap_or_default()).unwrap_or_default();
    let digest = &said["subject"][0]["digest"][decision.digest.algorithm().as_str()];
    assert_eq!(digest.as_str(), Some(decision.digest.hex()));
    let passes = matches!(decision.verdict.decision, Answer::Allow | Answer::Warn);
    let result = &said["predicate"]["verificationResult"];
    assert_eq!(result.as_str(), Some(if passes { "PASSED" } else { "FAILED" }));
    assert_eq!(vsa::envelope(&decision, "https://gate.example/", &key), envelope);
}

static POLICIES: LazyLock<[Option<Policies>; 2]> =
    LazyLock::new(|| [Some(Policies::default_set()), Policies::load("").ok()]);

/// Facts to begin with.
pub fn facts_seeds() -> Vec<Vec<u8>> {
    vec![FACTS.as_bytes().to_vec()]
}

/// The evidence of a decision.
pub fn facts(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    assert!(POLICIES.iter().all(Option::is_some));
    let [Some(default), Some(nothing)] = &*POLICIES else { return };
    let Ok(verdict) = judge(default, value.clone()) else { return };
    let bytes = serde_json::to_vec(&verdict).unwrap_or_default();
    let again = judge(default, value.clone()).ok();
    assert_eq!(again.and_then(|again| serde_json::to_vec(&again).ok()).as_ref(), Some(&bytes));
    assert_eq!(serde_json::from_slice(&bytes).ok().as_ref(), Some(&verdict));
    assert_eq!(verdict.refusals().is_empty(), verdict.decision.passes(), "{verdict:?}");
    assert!(!verdict.message().contains(['\r', '\n']), "{}", verdict.message());
    // Without a rule that permits, nothing passes, whatever somebody approved.
    let refused = judge(nothing, value).is_ok_and(|it| it.decision == Answer::Deny);
    assert!(refused);
}
