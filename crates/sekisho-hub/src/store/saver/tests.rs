use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A list that counts.
#[derive(Debug, Default)]
struct Counter {
    value: AtomicU64,
    looks: AtomicU64,
}

impl Lists for Counter {
    fn json(&self, _: List) -> io::Result<Vec<u8>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(self.value.load(Ordering::SeqCst).to_string().into_bytes())
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Store,
    counter: Arc<Counter>,
    saver: Saver,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hub")).unwrap();
        let counter = Arc::new(Counter::default());
        let journal = Journal::open(store.journal_file()).unwrap();
        let lists = Arc::clone(&counter) as Arc<dyn Lists>;
        let saver = Saver::start(store.clone(), journal, lists).unwrap();
        Self { dir, store, counter, saver }
    }

    fn set(&self, value: u64) {
        self.counter.value.store(value, Ordering::SeqCst);
        self.saver.changed(List::Pulls);
    }

    fn read(&self) -> String {
        fs_err::read_to_string(self.store.pulls_file()).unwrap()
    }

    /// Takes the folder away, as a disk that fails, and gives it back.
    fn away(&self, away: bool) {
        let (here, there) = (self.dir.path().join("hub"), self.dir.path().join("away"));
        let (from, to) = if away { (here, there) } else { (there, here) };
        fs_err::rename(from, to).unwrap();
    }
}

#[tokio::test]
async fn what_could_not_be_written_is_told_and_written_later_as_it_is_then() {
    let world = World::new();
    world.set(1);
    assert_eq!(world.saver.flushed().await, Ok(()));
    assert_eq!((world.read().as_str(), world.saver.failures()), ("1", 0));
    world.away(true);
    world.set(2);
    world.saver.journal(vec![Entry::LastSet { id: 3 }]);
    world.saver.plan(7, b"{}".to_vec());
    assert_eq!(world.saver.flushed().await, Err(NotWritten));
    assert!(world.saver.failures() >= TRIES);
    world.set(4);
    world.saver.journal(vec![Entry::LastSet { id: 5 }]);
    assert_eq!(world.saver.flushed().await, Err(NotWritten), "nothing has become of it yet");
    world.away(false);
    // Nobody asks again: it is tried all the same.
    let mut progress = world.saver.progress.clone();
    progress.wait_for(|now| now.failures == 0).await.unwrap();
    assert_eq!(world.saver.flushed().await, Ok(()));
    assert_eq!(world.read(), "4");
    assert_eq!(fs_err::read(world.store.run_dir(7).join("plan.json")).unwrap(), b"{}");
    let journal = world.store.journal_file();
    world.saver.close();
    assert_eq!(Journal::open(journal).unwrap().sets().entries(), [Entry::LastSet { id: 5 }]);
}

#[tokio::test]
async fn a_list_is_looked_up_for_each_writing_and_not_for_each_change() {
    let world = World::new();
    world.away(true);
    for value in 0..10_000 {
        world.set(value);
    }
    assert_eq!(world.saver.flushed().await, Err(NotWritten));
    world.away(false);
    world.saver.close();
    assert_eq!(world.read(), "9999");
    let looks = world.counter.looks.load(Ordering::SeqCst);
    assert!(looks < 100, "{looks} for 10,000 changes");
}

#[tokio::test]
async fn one_list_that_fails_does_not_keep_the_others() {
    let world = World::new();
    fs_err::create_dir_all(world.store.groups_file().join("in the way")).unwrap();
    world.saver.changed(List::Groups);
    world.set(7);
    assert_eq!(world.saver.flushed().await, Err(NotWritten));
    assert_eq!(world.read(), "7");
    // The end of it is no loop.
    world.saver.close();
    assert_eq!(world.saver.flushed().await, Err(NotWritten));
}

/// A run of this id.
fn run(id: u64, status: &str) -> Run {
    serde_json::from_value(serde_json::json!({
        "id": id, "repository": "acme/app", "ref": "refs/heads/main", "sha": "0", "event": "push",
        "workflow_name": "a", "workflow_path": "a.yml", "run_number": 1, "run_attempt": 1,
        "status": status, "conclusion": null, "created_at": "2026-01-01T00:00:00Z",
        "started_at": null, "completed_at": null, "jobs": [],
    }))
    .unwrap()
}

#[tokio::test]
async fn a_run_that_is_not_on_disk_is_known_and_gets_its_folder_later() {
    let world = World::new();
    world.saver.save(run(1, "in_progress"));
    assert_eq!(world.saver.flushed().await, Ok(()));
    assert_eq!(world.saver.unwritten(1), None);
    world.away(true);
    world.saver.save(run(1, "completed"));
    world.saver.save(run(2, "completed"));
    assert_eq!(world.saver.flushed().await, Err(NotWritten));
    assert_eq!(world.saver.unwritten(1), Some(run(1, "completed")));
    assert_eq!(world.saver.unwritten_attempt(1, 1), None);
    world.away(false);
    world.saver.close();
    assert_eq!(world.store.load_run(1), Some(run(1, "completed")));
    assert_eq!(world.store.load_run(2), Some(run(2, "completed")));
    assert_eq!(world.saver.unwritten(1), None);
}

#[tokio::test]
async fn a_run_under_way_whose_folder_was_removed_stays_away() {
    let world = World::new();
    world.saver.save(run(1, "in_progress"));
    assert_eq!(world.saver.flushed().await, Ok(()));
    fs_err::remove_dir_all(world.store.run_dir(1)).unwrap();
    world.saver.save(run(1, "completed"));
    assert_eq!(world.saver.flushed().await, Ok(()));
    assert!(!world.store.run_dir(1).exists());
}

#[test]
fn pauses_grow_up_to_a_bound() {
    let pauses: Vec<u128> = [1, 2, 3, 7, 8, 99].map(|n| pause(n).as_millis()).to_vec();
    assert_eq!(pauses, [50, 100, 200, 3_200, 5_000, 5_000]);
}
