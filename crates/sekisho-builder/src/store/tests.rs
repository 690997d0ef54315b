use std::os::unix::fs::PermissionsExt as _;

use super::session::LOCK_FILE;
use super::*;

#[test]
fn a_session_that_begins_is_not_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|_| drop(Store::open(dir.path()).unwrap())));
        for _ in 0..300 {
            let session = store.session().unwrap();
            assert!(session.dir().join(LOCK_FILE).exists());
        }
    });
}

#[test]
fn dead_sessions_are_swept_and_living_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let living = store.session().unwrap();
    let dead = store.tmp().join("build-dead");
    std::fs::create_dir_all(dead.join("work/work")).unwrap();
    std::fs::write(dead.join(LOCK_FILE), "").unwrap();
    std::fs::set_permissions(dead.join("work/work"), std::fs::Permissions::from_mode(0o0)).unwrap();
    let newborn = store.tmp().join("build-newborn");
    std::fs::create_dir(&newborn).unwrap();
    Store::open(dir.path()).unwrap();
    assert!(!dead.exists());
    assert!(living.dir().exists());
    assert!(newborn.exists());
    let path = living.dir().to_owned();
    drop(living);
    assert!(!path.exists());
}

#[test]
fn records_that_do_not_parse_are_absent() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let session = store.session().unwrap();
    let key = Digest::sha256(b"key");
    assert_eq!(store.record::<Vec<u32>>(Kind::Result, &key), None);
    store.put_record(&session, Kind::Result, &key, &vec![1, 2]).unwrap();
    assert_eq!(store.record::<Vec<u32>>(Kind::Result, &key), Some(vec![1, 2]));
    std::fs::write(store.record_path(Kind::Result, &key), "[1,").unwrap();
    assert_eq!(store.record::<Vec<u32>>(Kind::Result, &key), None);
}
