use sekisho_github::wire::cache::{READ, WRITE};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct World {
    storage: Storage,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { storage: Storage::open(dir.path(), 100, NOW).unwrap(), dir }
    }

    fn save(&self, caller: &Caller, key: &str) -> Result<(), StorageError> {
        let blob = self.storage.create_cache(caller, key, "v", NOW)?;
        let (file, path) = self.storage.blobs.new_file(blob).unwrap();
        self.storage.blobs.grow(blob, 1).unwrap();
        std::fs::write(path, "x").unwrap();
        self.storage.blobs.put(blob, file, 1).unwrap();
        self.storage.finalize_cache(caller, key, "v", 1, NOW).map(drop)
    }

    fn found(&self, caller: &Caller, key: &str) -> Option<String> {
        self.storage.find_cache(caller, &[key], "v", NOW).unwrap().map(|(_, key)| key)
    }
}

fn caller(access: Vec<Access>) -> Caller {
    let run = RunOf {
        run: 1,
        repository: "acme/app".to_owned(),
        plan: Uuid::nil(),
        git_ref: String::new(),
        sha: String::new(),
    };
    Caller { at: JobRef { run: 1, job: 1 }, guid: Uuid::nil(), run, repository_id: 1, access }
}

fn on(git_ref: &str, base_ref: &str) -> Caller {
    caller(access(git_ref, base_ref, "main"))
}

#[test]
fn a_pull_request_reads_its_base_and_never_writes_what_the_base_reads() {
    let world = World::new();
    let (main, release) = (on("refs/heads/main", ""), on("refs/heads/release", ""));
    let (ours, theirs) = (on("refs/pull/7/merge", "release"), on("refs/pull/8/merge", "release"));
    world.save(&main, "main-1").unwrap();
    world.save(&release, "release-1").unwrap();
    for key in ["main-1", "release-1"] {
        assert_eq!(world.found(&ours, key).as_deref(), Some(key));
    }
    world.save(&ours, "pull-1").unwrap();
    // Also under the key of the base's own entry.
    world.save(&ours, "release-1-poisoned").unwrap();
    for other in [&main, &release, &theirs] {
        assert_eq!(world.found(other, "pull-"), None);
        assert_ne!(world.found(other, "release-").as_deref(), Some("release-1-poisoned"));
    }
    assert_eq!(world.found(&ours, "pull-").as_deref(), Some("pull-1"));
    // Another repository shares nothing.
    let elsewhere = Caller { repository_id: 2, ..main };
    assert_eq!(world.found(&elsewhere, "main-1"), None);
}

#[test]
fn a_token_without_the_permission_is_denied() {
    let world = World::new();
    let scoped =
        |permission| caller(vec![Access { scope: "refs/heads/main".to_owned(), permission }]);
    world.save(&scoped(READ | WRITE), "k").unwrap();
    let denied = world.save(&scoped(READ), "other").unwrap_err();
    assert!(denied.to_string().starts_with("cache write denied:"), "{denied}");
    assert_eq!(world.found(&scoped(READ), "k").as_deref(), Some("k"));
    let denied = world.storage.find_cache(&scoped(WRITE), &["k"], "v", NOW).unwrap_err();
    assert!(denied.to_string().starts_with("cache read denied:"), "{denied}");
    assert!(matches!(denied, StorageError::Denied(_)));
}

#[test]
fn what_a_crash_leaves_is_put_in_order() {
    let world = World::new();
    let main = on("refs/heads/main", "");
    world.save(&main, "kept").unwrap();
    world.storage.create_cache(&main, "half", "v", NOW).unwrap();
    let caches = world.dir.path().join("caches");
    std::fs::write(caches.join(".new-x"), "{").unwrap();
    std::fs::write(caches.join("7.json"), "{ damaged").unwrap();
    let ids = |storage: &Storage| -> Vec<u64> {
        storage.caches(|_| true).iter().map(|entry| entry.id).collect()
    };
    let before = ids(&world.storage);
    let storage = Storage::open(world.dir.path(), 100, NOW).unwrap();
    assert_eq!(ids(&storage), before);
    assert_eq!(world.dir.path().join("blobs").read_dir().unwrap().count(), 1);
    // A clock that was set back gives no id twice.
    assert!(storage.new_id() > before[0]);
    let world = World { storage, dir: world.dir };
    world.save(&main, "half").unwrap();
    // Unused for too long.
    let later = NOW + SignedDuration::from_hours(8 * 24);
    world.storage.sweep(later, |_| true);
    assert!(ids(&world.storage).is_empty());
    assert_eq!(world.dir.path().join("blobs").read_dir().unwrap().count(), 0);
    let records = caches.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let mut records: Vec<_> = records.collect();
    records.sort();
    // A damaged record is for its owner to look at.
    assert_eq!(records, ["7.json"]);
}
