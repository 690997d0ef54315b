//! A power cut at any byte of a log leaves all of an entry or nothing of it, whatever else was written.

mod bytes;

use std::collections::BTreeMap;

use super::file::{HEAD_BYTES, Unreadable, bodies};
use super::*;
use crate::{Batch, BlobStore, Keep, Records};

/// In memory where that can be had: all syncs of a machine's disk wait for whatever else is written to it.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(dir: &Path) -> (Arc<Wal>, Replayed) {
    Wal::open(&dir.join("wal"), &[&dir.join("a"), &dir.join("b")]).unwrap()
}

fn file(path: &Path, bytes: &[u8]) -> Change {
    Change::record(path.to_owned(), bytes)
}

/// The files below a folder, but the logs.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.join("a"), dir.join("b")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

fn logs(dir: &Path) -> Vec<u64> {
    super::file::numbers(&dir.join("wal")).unwrap()
}

/// The bytes of the only log.
fn log(dir: &Path) -> Vec<u8> {
    let numbers = logs(dir);
    assert_eq!(numbers.len(), 1);
    fs::read(super::file::path(&dir.join("wal"), numbers[0])).unwrap()
}

/// Where each of its entries ends.
fn ends(log: &[u8]) -> Vec<usize> {
    let first = usize::try_from(FIRST).unwrap();
    let end = |end: &mut usize, body: &[u8]| {
        *end += HEAD_BYTES + body.len();
        Some(*end)
    };
    bodies(log).unwrap().into_iter().scan(first, end).collect()
}

/// What is found after a power cut that left these bytes of a log and, of all else, `there`.
fn after_power_cut(log: &[u8], there: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let dir = folder();
    fs::create_dir_all(dir.path().join("wal")).unwrap();
    fs::write(super::file::path(&dir.path().join("wal"), 1), log).unwrap();
    for (name, bytes) in there {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let (_, replayed) = open(dir.path());
    assert_eq!(replayed.failed, Vec::<String>::new());
    files(dir.path())
}

/// Makes four changes of every kind; what was there before, and after each of them.
fn scene(dir: &Path) -> Vec<BTreeMap<String, Vec<u8>>> {
    let (wal, replayed) = open(dir);
    assert_eq!(replayed, Replayed::default());
    let path = |name: &str| dir.join(name);
    fs::write(path("a/large"), b"synced under another name").unwrap();
    fs::write(path("a/shared"), b"a blob").unwrap();
    let mut states = vec![files(dir)];
    for changes in [
        vec![file(&path("a/x/tag"), b"one"), file(&path("b/y/empty"), b"")],
        vec![Change::Rename { from: path("a/large"), to: path("b/blobs/large") }],
        vec![
            Change::Link { from: path("a/shared"), to: path("b/blobs/shared") },
            file(&path("a/x/tag"), b"two"),
        ],
        vec![file(&path("b/y/last"), &[7; 5000])],
    ] {
        wal.write(&changes).unwrap();
        states.push(files(dir));
    }
    states
}

#[test]
fn a_power_cut_at_any_byte_leaves_whole_entries() {
    let dir = folder();
    let states = scene(dir.path());
    let log = log(dir.path());
    let ends = ends(&log);
    assert_eq!(ends.len(), 4);
    let whole = |cut: usize| ends.iter().filter(|end| **end <= cut).count();
    for cut in 0..log.len().min(ends[3] + 2) {
        assert_eq!(bodies(&log[..cut]).unwrap().len(), whole(cut), "cut at {cut}");
    }
    for cut in [0, ends[0] - 1, ends[0], ends[1] + 40, ends[2], ends[3] - 1, ends[3]] {
        // Nothing was in its place yet.
        assert_eq!(after_power_cut(&log[..cut], &states[0]), states[whole(cut)], "cut at {cut}");
    }
    // Whatever part of it was in its place already, and however often it is done.
    for there in &states {
        assert_eq!(after_power_cut(&log, there), states[4]);
    }
    // The last entry was not acknowledged when any of it is not as it was written.
    for at in ends[2]..ends[3] {
        let mut torn = log.clone();
        torn[at] ^= 0x10;
        assert_eq!(bodies(&torn).unwrap().len(), 3, "torn at {at}");
    }
}

#[test]
fn a_bit_that_flips_in_what_was_acknowledged_is_named() {
    let dir = folder();
    scene(dir.path());
    let log = log(dir.path());
    let ends = ends(&log);
    let begins = [usize::try_from(FIRST).unwrap(), ends[0], ends[1]];
    for at in begins[0]..ends[2] {
        let mut damaged = log.clone();
        damaged[at] ^= 1;
        let entry = begins.iter().filter(|begin| **begin <= at).count() - 1;
        assert_eq!(bodies(&damaged), Err(Unreadable::Damaged(begins[entry])), "bit at {at}");
    }
    for at in 0..begins[0] {
        let mut damaged = log.clone();
        damaged[at] ^= 1;
        let want = if at < 8 { Unreadable::Version } else { Unreadable::Damaged(8) };
        assert_eq!(bodies(&damaged), Err(want), "bit at {at}");
    }
    // The gate says so, and touches nothing.
    let mut damaged = log.clone();
    damaged[ends[0] + HEAD_BYTES] ^= 1;
    let path = super::file::path(&dir.path().join("wal"), 1);
    fs::write(&path, &damaged).unwrap();
    let roots = [dir.path().join("a"), dir.path().join("b")];
    let error = Wal::open(&dir.path().join("wal"), &[&roots[0], &roots[1]]).unwrap_err();
    let want = format!("is damaged at byte {}", ends[0]);
    assert!(error.to_string().contains(&want), "{error}");
    assert_eq!(fs::read(&path).unwrap(), damaged);
    // One that another version wrote is none of ours.
    damaged[6] = b'0';
    fs::write(&path, &damaged).unwrap();
    let error = Wal::open(&dir.path().join("wal"), &[&roots[0], &roots[1]]).unwrap_err();
    assert!(error.to_string().contains("000001.log` is of another version"), "{error}");
}

#[test]
fn a_log_that_was_begun_while_the_one_before_was_not_gone() {
    let dir = folder();
    let states = scene(dir.path());
    let first = log(dir.path());
    let (wal, _) = open(dir.path());
    wal.write(&[file(&dir.path().join("a/x/tag"), b"three")]).unwrap();
    drop(wal);
    let newest = files(dir.path());
    // Killed while it was settled: both are there, and of the files any.
    for there in states.iter().chain([&newest]) {
        for second in [log(dir.path()), Vec::new(), b"SEKL".to_vec()] {
            let dir = folder();
            let path = |number| super::file::path(&dir.path().join("wal"), number);
            fs::create_dir_all(dir.path().join("wal")).unwrap();
            fs::write(path(1), &first).unwrap();
            fs::write(path(2), &second).unwrap();
            for (name, bytes) in there {
                fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
                fs::write(dir.path().join(name), bytes).unwrap();
            }
            let want = if second.len() > 24 { &newest } else { &states[4] };
            if *there == newest && second.len() <= 24 {
                continue;
            }
            let (_, replayed) = open(dir.path());
            assert_eq!(replayed.failed, Vec::<String>::new());
            assert_eq!(files(dir.path()), *want);
            assert_eq!(logs(dir.path()), [3]);
        }
    }
}

#[test]
fn a_second_name_of_a_file_that_a_power_cut_emptied() {
    let dir = folder();
    let (wal, _) = open(dir.path());
    let staging = BlobStore::logged(&dir.path().join("a"), &wal).unwrap();
    let upstream = BlobStore::logged(&dir.path().join("b"), &wal).unwrap();
    let digest = staging.put(b"a config").unwrap();
    let mut batch = Batch::default();
    assert!(upstream.adopt_in(&mut batch, &staging, &digest).unwrap());
    batch.commit().unwrap();
    let (first, second) = (staging.path(&digest), upstream.path(&digest));
    drop((wal, staging, upstream));
    // Both names came to the disk, and nothing of the bytes.
    fs::remove_file(&second).unwrap();
    fs::write(&second, b"").unwrap();
    fs::remove_file(&first).unwrap();
    fs::hard_link(&second, &first).unwrap();
    let (_, replayed) = open(dir.path());
    assert_eq!(replayed, Replayed { done: 2, failed: vec![] });
    assert_eq!(
        (fs::read(first).unwrap(), fs::read(second).unwrap()),
        (b"a config".into(), b"a config".into())
    );
}

#[test]
fn a_batch_is_one_entry_until_it_is_large() {
    let dir = folder();
    let (wal, _) = open(dir.path());
    let records = Records::logged(&dir.path().join("a"), &wal).unwrap();
    let blobs = BlobStore::logged(&dir.path().join("b"), &wal).unwrap();
    let (mut batch, mut more) = (Batch::default(), Batch::default());
    records.write_in(&mut batch, "one", b"1").unwrap();
    let digest = blobs.put_in(&mut more, &vec![7; MAX_LOGGED_BYTES + 1]).unwrap();
    batch.append(more).unwrap();
    assert!(records.create_in(&mut batch, "two", b"2").unwrap());
    assert_eq!((records.read("one").unwrap(), blobs.contains(&digest).unwrap()), (None, false));
    batch.commit().unwrap();
    assert_eq!(bodies(&log(dir.path())).unwrap().len(), 1);
    assert_eq!(records.read("two").unwrap().unwrap(), "2");
    assert!(blobs.contains(&digest).unwrap());
    assert!(!records.create_in(&mut Batch::default(), "two", b"3").unwrap());

    let mut large = Batch::default();
    for name in ["three", "four"] {
        records.write_in(&mut large, name, &vec![b'x'; 5 * 1024 * 1024]).unwrap();
    }
    let dropped = blobs.put_in(&mut large, &vec![8; MAX_LOGGED_BYTES + 1]).unwrap();
    large.commit().unwrap();
    assert_eq!(bodies(&log(dir.path())).unwrap().len(), 4);
    // One that is not committed leaves nothing.
    let mut dropped_batch = Batch::default();
    assert!(blobs.delete(&dropped).unwrap());
    blobs.put_in(&mut dropped_batch, &vec![8; MAX_LOGGED_BYTES + 1]).unwrap();
    drop(dropped_batch);
    assert!(!blobs.contains(&dropped).unwrap());
    assert_eq!(fs::read_dir(blobs.tmp()).unwrap().count(), 0);
}

#[test]
fn what_was_settled_is_in_no_log() {
    let dir = folder();
    let states = scene(dir.path());
    let (wal, replayed) = open(dir.path());
    assert_eq!(replayed, Replayed { done: 6, failed: vec![] });
    assert_eq!(logs(dir.path()), [2], "the first log is gone");
    wal.settle().unwrap();
    assert_eq!(logs(dir.path()), [2], "nothing was written");
    wal.write(&[file(&dir.path().join("a/new"), b"n")]).unwrap();
    wal.settle().unwrap();
    assert_eq!((logs(dir.path()), log(dir.path()).len() as u64), (vec![3], FIRST));
    fs::remove_file(dir.path().join("a/new")).unwrap();
    drop(wal);
    open(dir.path());
    assert_eq!(files(dir.path()), states[4], "it does not come back");
}

#[test]
fn no_older_word_is_put_over_a_newer_one() {
    let dir = folder();
    let (wal, _) = open(dir.path());
    let records = Records::logged(&dir.path().join("a"), &wal).unwrap();
    let blobs = BlobStore::logged(&dir.path().join("b"), &wal).unwrap();
    let large = vec![1; MAX_LOGGED_BYTES + 1];
    for name in ["lightly", "large", "removed", "stays"] {
        assert!(records.create(name, b"old", Keep::Durably).unwrap());
    }
    let gone = blobs.put(b"gone").unwrap();
    records.note("lightly", b"new").unwrap();
    records.write("large", &large).unwrap();
    assert!(records.remove("removed").unwrap());
    assert!(blobs.delete(&gone).unwrap());
    // As after kill -9: nothing is settled.
    drop((wal, records, blobs));
    let (wal, replayed) = open(dir.path());
    assert_eq!(replayed.failed, Vec::<String>::new());
    let records = Records::logged(&dir.path().join("a"), &wal).unwrap();
    let blobs = BlobStore::logged(&dir.path().join("b"), &wal).unwrap();
    assert_eq!(records.read("lightly").unwrap().unwrap(), "new");
    assert_eq!(records.read("large").unwrap().unwrap(), large);
    assert_eq!(records.read("removed").unwrap(), None);
    assert_eq!(records.read("stays").unwrap().unwrap(), "old");
    assert!(!blobs.contains(&gone).unwrap());
}

#[test]
fn many_write_at_once_and_while_it_is_settled() {
    let dir = folder();
    let (wal, _) = open(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (wal, dir) = (&wal, dir.path());
            scope.spawn(move || {
                for number in 0..50 {
                    let path = dir.join(format!("a/{thread}/{number}"));
                    wal.write(&[file(&path, format!("{thread} {number}").as_bytes())]).unwrap();
                    if number % 20 == thread {
                        wal.settle().unwrap();
                    }
                }
            });
        }
    });
    drop(wal);
    let (_, replayed) = open(dir.path());
    assert_eq!(replayed.failed, Vec::<String>::new());
    let found = files(dir.path());
    assert_eq!(found.len(), 400);
    for (name, bytes) in found {
        let want = name.trim_start_matches("a/").replace('/', " ");
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }
}

#[test]
fn what_cannot_be_done_again_is_named() {
    let dir = folder();
    let (wal, _) = open(dir.path());
    let (from, to) = (dir.path().join("a/from"), dir.path().join("b/to"));
    fs::write(&from, b"blob").unwrap();
    wal.write(&[Change::Link { from: from.clone(), to: to.clone() }]).unwrap();
    fs::remove_file(&from).unwrap();
    fs::remove_file(&to).unwrap();
    drop(wal);
    let (_, replayed) = open(dir.path());
    assert_eq!((replayed.done, replayed.failed.len()), (0, 1));
    assert!(replayed.failed[0].contains("b/to"), "{replayed:?}");
}

#[test]
fn a_log_has_one_owner_at_a_time() {
    let dir = folder();
    let (wal, _) = open(dir.path());
    let path = dir.path().join("wal/owner.lock");
    let other = fs::File::open(&path).unwrap();
    assert!(matches!(other.file().try_lock(), Err(std::fs::TryLockError::WouldBlock)));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| open(dir.path()));
        // It waits for the one before.
        wal.write(&[file(&dir.path().join("a/late"), b"late")]).unwrap();
        drop(wal);
        let (_, replayed) = next.join().unwrap();
        assert_eq!(replayed, Replayed { done: 1, failed: vec![] });
    });
    assert!(other.file().try_lock().is_ok(), "it goes with its owner");
}

#[test]
fn a_log_that_cannot_be_done_now_stays() {
    let dir = folder();
    let (wal, _) = open(dir.path());
    let path = dir.path().join("a/x/tag");
    wal.write(&[file(&path, b"one"), file(&dir.path().join("b/last"), b"")]).unwrap();
    drop(wal);
    // Something is in the way, as a full disk would be.
    fs::remove_dir_all(dir.path().join("a/x")).unwrap();
    fs::write(dir.path().join("a/x"), b"").unwrap();
    let roots = [dir.path().join("a"), dir.path().join("b")];
    let error = Wal::open(&dir.path().join("wal"), &[&roots[0], &roots[1]]).unwrap_err();
    assert!(error.to_string().contains("a/x"), "{error}");
    assert_eq!(logs(dir.path()), [1]);
    fs::remove_file(dir.path().join("a/x")).unwrap();
    let (_, replayed) = open(dir.path());
    assert_eq!(replayed, Replayed { done: 2, failed: vec![] });
    assert_eq!(fs::read(path).unwrap(), b"one");
}
