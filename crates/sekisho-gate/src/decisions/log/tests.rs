use std::path::Path;

use sekisho_policy::{Identity, Verdict};

use super::super::checkpoint::trusted;
use super::super::verify::Fault;
use super::super::{Approval, Summary};
use super::*;

fn draft(run: &str, tag: &str) -> Draft {
    Draft {
        at: Timestamp::UNIX_EPOCH,
        facts: Digest::sha256(tag.as_bytes()),
        identity: Identity { run_id: run.into(), ..Identity::default() },
        repository: "a".parse().unwrap(),
        tag: Some(tag.parse().unwrap()),
        digest: Digest::sha256(b""),
        media_type: "x".into(),
        verdict: Verdict { decision: sekisho_policy::Decision::Allow, reasons: vec![] },
        approval: None,
        packages: 0,
        summary: Summary::default(),
        policy: Digest::sha256(b"policy"),
        exceptions: None,
        inspector: "1".into(),
        advisories: 0,
        newest_advisory: None,
    }
}

fn open(dir: &std::path::Path) -> Log {
    let keys = dir.join("keys");
    let key = Arc::new(RecordKey::open(&keys).unwrap());
    let records = Records::in_folder(&dir.join("log")).unwrap();
    Log::open(records, key, trusted(&keys).unwrap()).unwrap()
}

fn path(dir: &std::path::Path, number: u64) -> std::path::PathBuf {
    dir.join("log").join(record_name(number))
}

#[test]
fn decisions_are_chained_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let first = log.append(draft("7", "v1"), Batch::default()).unwrap();
    assert_eq!((first.id.as_str(), &first.previous), ("000000000001", &None));
    assert_eq!(
        log.append(draft("7", "v1"), Batch::default()).unwrap(),
        first,
        "a repeat is the same decision"
    );
    drop(log);

    let log = open(dir.path());
    let second = log.append(draft("70", "v2"), Batch::default()).unwrap();
    let bytes = fs_err::read(path(dir.path(), 1)).unwrap();
    assert_eq!(second.previous, Some(Digest::sha256(&bytes)));
    assert_eq!(log.list(Some("7")).unwrap(), std::slice::from_ref(&first));
    assert_eq!(log.list(None).unwrap(), [first.clone(), second.clone()]);
    assert_eq!(log.get("000000000002").unwrap(), Some(second));
    assert_eq!(log.get("3").unwrap(), None);
    assert_eq!(log.get("../x").unwrap(), None);
    let approval = Approval {
        approver: "ann".into(),
        reason: "r".into(),
        held_by: "2".into(),
        at: Timestamp::UNIX_EPOCH,
    };
    let approved = Draft { approval: Some(approval), ..draft("70", "v2") };
    assert_eq!(
        log.append(approved, Batch::default()).unwrap().id,
        "000000000003",
        "an approval is another decision"
    );
    assert_eq!(log.verify().unwrap(), Verified { records: 3, signed: 0, faults: vec![] });
}

/// Logs of 1 to 200 decisions with a checkpoint somewhere, and one thing done to each.
#[test]
fn whatever_is_done_to_a_record_is_found_and_named() {
    for (count, signed) in [(1_u64, false), (3, false), (5, true), (70, false), (130, true)] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        for number in 1..=count {
            log.append(draft("7", &format!("v{number}")), Batch::default()).unwrap();
        }
        if signed {
            log.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
        }
        let whole = log.verify().unwrap();
        assert_eq!(whole.faults, []);
        let vouched = if signed { count } else { count / 64 * 64 };
        assert_eq!((whole.records as u64, whole.signed as u64), (count, vouched));
        for number in [1, count / 2 + 1, count] {
            let path = path(dir.path(), number);
            let text = fs_err::read_to_string(&path).unwrap();
            // A change to the newest record shows only in what vouches for it.
            if number < count || signed {
                fs_err::write(&path, text.replace("\"allow\"", "\"deny\"")).unwrap();
                assert_eq!(log.verify().unwrap().faults, [Fault::Changed(number)], "{count}");
                fs_err::remove_file(&path).unwrap();
                assert!(log.verify().unwrap().faults.contains(&Fault::Removed(number)), "{count}");
                fs_err::write(&path, text).unwrap();
            }
            if number > 1 {
                let other = self::path(dir.path(), number - 1);
                let (one, two) = (fs_err::read(&path).unwrap(), fs_err::read(&other).unwrap());
                fs_err::write(&path, &two).unwrap();
                fs_err::write(&other, &one).unwrap();
                let faults = log.verify().unwrap().faults;
                let moved = Fault::Moved { place: number, record: number - 1 };
                assert!(faults.contains(&moved), "{count} {number}: {faults:?}");
                fs_err::write(&path, one).unwrap();
                fs_err::write(&other, two).unwrap();
            }
        }
        assert_eq!(log.verify().unwrap().faults, []);
    }
}

#[test]
fn a_record_that_somebody_adds_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for number in 1..=3 {
        log.append(draft("7", &format!("v{number}")), Batch::default()).unwrap();
    }
    log.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    let text = fs_err::read_to_string(path(dir.path(), 3)).unwrap();
    let add = |number: u64| {
        let path = path(dir.path(), number);
        fs_err::write(&path, text.replace("000000000003", &format!("{number:012}"))).unwrap();
        let faults = log.verify().unwrap().faults;
        fs_err::remove_file(&path).unwrap();
        faults
    };
    assert_eq!(add(0), [Fault::Added(0)], "before the first");
    assert_eq!(add(5), [Fault::Removed(4)], "behind a gap");
    let many = add(999_999_999_999);
    assert_eq!((many.len(), &many[0]), (1000, &Fault::Removed(4)), "behind a long one");
    // Names that no record has: of them nothing is read.
    for name in ["3.json", "+00000000003.json", "18446744073709551615.json", "x.json"] {
        let path = dir.path().join("log").join(name);
        fs_err::write(&path, &text).unwrap();
        assert_eq!(log.verify().unwrap().faults, [], "{name}");
        fs_err::remove_file(&path).unwrap();
    }
}

#[test]
fn a_checkpoint_is_the_gates_or_a_fault_and_the_key_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for number in 1..=3 {
        log.append(draft("7", &format!("v{number}")), Batch::default()).unwrap();
    }
    log.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    let checkpoint = dir.path().join("log/checkpoints").join(record_name(1));
    let good = fs_err::read_to_string(&checkpoint).unwrap();
    // Somebody who rewrites a record and the checkpoint has no key to sign with.
    fs_err::write(&checkpoint, good.replace("\"last\":3", "\"last\":2")).unwrap();
    assert_eq!(log.verify().unwrap().faults, [Fault::Checkpoint(1)]);
    fs_err::write(&checkpoint, &good).unwrap();
    drop(log);

    // Another key: what the first one signed is still verified.
    fs_err::remove_file(dir.path().join("keys/decisions.pk8")).unwrap();
    let log = open(dir.path());
    log.append(draft("7", "v4"), Batch::default()).unwrap();
    log.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(log.verify().unwrap(), Verified { records: 4, signed: 4, faults: vec![] });
    let public = fs_err::read_dir(dir.path().join("keys")).unwrap().count();
    assert_eq!(public, 3, "one key, two public halves");
}

/// Opens one replica after the other, with one key, on one bucket.
fn replicas(dir: &Path) -> impl Fn() -> Log {
    let store: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let keys = dir.join("keys");
    let key = Arc::new(RecordKey::open(&keys).unwrap());
    move || {
        let bucket = sekisho_store::Bucket::on(Arc::clone(&store), "log");
        let keys = trusted(&keys).unwrap();
        Log::open(Records::in_bucket(bucket), Arc::clone(&key), keys).unwrap()
    }
}

#[test]
fn two_replicas_write_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replicas(dir.path());
    let replicas = [replica(), replica(), replica()];
    std::thread::scope(|scope| {
        for (number, log) in replicas.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..30 {
                    log.append(draft(&number.to_string(), &format!("v{round}")), Batch::default())
                        .unwrap();
                    if round % 7 == number {
                        log.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
                    }
                }
            });
        }
    });
    let fresh = replica();
    fresh.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    for log in replicas.iter().chain([&fresh]) {
        let verified = log.verify().unwrap();
        assert_eq!(verified, Verified { records: 90, signed: 90, faults: vec![] });
        assert_eq!(log.list(Some("1")).unwrap().len(), 30);
    }
}

/// A log whose records one write-ahead log makes durable, with the store of their evidence.
fn logged(dir: &Path) -> (Log, sekisho_store::BlobStore) {
    let (wal, replayed) = sekisho_store::Wal::open(&dir.join("wal"), &[dir]).unwrap();
    assert_eq!(replayed.failed, Vec::<String>::new());
    let keys = dir.join("keys");
    let key = Arc::new(RecordKey::open(&keys).unwrap());
    let records = Records::logged(&dir.join("log"), &wal).unwrap();
    let evidence = sekisho_store::BlobStore::logged(&dir.join("evidence"), &wal).unwrap();
    (Log::open(records, key, trusted(&keys).unwrap()).unwrap(), evidence)
}

#[test]
fn many_at_once_write_one_chain_with_what_each_rests_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, evidence) = logged(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (log, evidence) = (&log, &evidence);
            scope.spawn(move || {
                for round in 0..20 {
                    let (mut batch, text) = (Batch::default(), format!("{thread} {round}"));
                    let facts = evidence.put_in(&mut batch, text.as_bytes()).unwrap();
                    let draft = Draft { facts, ..draft(&thread.to_string(), &format!("v{round}")) };
                    let decision = log.append(draft, batch).unwrap();
                    assert_eq!(decision.identity.run_id, thread.to_string());
                    assert!(evidence.contains(decision.facts.as_ref().unwrap()).unwrap());
                }
            });
        }
    });
    assert_eq!(log.list(Some("3")).unwrap().len(), 20);
    drop((log, evidence));
    let (log, evidence) = logged(dir.path());
    let verified = log.verify().unwrap();
    assert_eq!((verified.records, verified.faults), (160, vec![]));
    assert!(verified.signed >= 128, "{}", verified.signed);
    for facts in log.facts().unwrap() {
        assert!(evidence.contains(&facts).unwrap());
    }
}

#[test]
fn one_that_cannot_be_written_leaves_its_number_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = logged(dir.path());
    let first = log.append(draft("1", "a"), Batch::default()).unwrap();
    // Something is in the way.
    fs_err::create_dir(path(dir.path(), 2)).unwrap();
    log.append(draft("1", "b"), Batch::default()).unwrap_err();
    assert_eq!(log.list(None).unwrap(), std::slice::from_ref(&first));
    fs_err::remove_dir(path(dir.path(), 2)).unwrap();
    let second = log.append(draft("1", "c"), Batch::default()).unwrap();
    assert_eq!(second.id, "000000000002");
    drop(log);
    let (log, _) = logged(dir.path());
    assert_eq!(log.list(None).unwrap(), [first, second]);
    assert_eq!(log.verify().unwrap().faults, []);
}

#[test]
fn a_replica_that_was_behind_signs_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replicas(dir.path());
    let (one, two) = (replica(), replica());
    // One knows of record 1 alone; two signs 1, and then 2 and 3.
    one.append(draft("1", "a"), Batch::default()).unwrap();
    two.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    for tag in ["b", "c"] {
        two.append(draft("2", tag), Batch::default()).unwrap();
    }
    two.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    // It tries to sign what it knows, learns how far is signed, and then reads the rest.
    {
        let mut state = one.shared.lock();
        let mut batch = Batch::default();
        one.seal(&mut state, &mut batch, Timestamp::UNIX_EPOCH).unwrap();
        batch.commit().unwrap();
    }
    one.append(draft("1", "d"), Batch::default()).unwrap();
    one.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    let verified = one.verify().unwrap();
    assert_eq!(verified, Verified { records: 4, signed: 4, faults: vec![] });
}

#[test]
fn the_oldest_are_pruned_with_their_evidence_and_the_rest_still_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
    for number in 1..=9_i64 {
        log.append(draft("7", &format!("v{number}")), Batch::default()).unwrap();
        if number % 3 == 0 {
            log.checkpoint(day(number)).unwrap();
        }
    }
    let gone = log.prune(day(4)).unwrap();
    let want: Vec<Digest> = ["v1", "v2", "v3"].map(|tag| Digest::sha256(tag.as_bytes())).into();
    assert_eq!(gone, want);
    assert_eq!(log.verify().unwrap(), Verified { records: 6, signed: 6, faults: vec![] });
    assert_eq!(log.facts().unwrap().len(), 6);
    // The newest checkpoint stays, whatever its age: it says where the log ends.
    assert_eq!(log.prune(day(100)).unwrap().len(), 3);
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.append(draft("7", "v10"), Batch::default()).unwrap().id, "000000000010");
    assert_eq!(log.verify().unwrap(), Verified { records: 4, signed: 3, faults: vec![] });
}
