//! Collections between the steps of pushes, deletes, restarts and jumps of the clock.

use std::io::Write as _;

use jiff::SignedDuration;
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_store::{BlobStore, ManifestRecord};

use super::*;
use crate::lease::Removal;

const START: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn blob(number: u8) -> Digest {
    Digest::sha256(&[number])
}

fn repository(number: u8) -> RepositoryName {
    format!("acme/r{number}").parse().unwrap()
}

/// A push, at the step that comes next.
struct Push<'a> {
    repository: RepositoryName,
    blobs: Vec<Digest>,
    step: usize,
    held: Option<crate::lease::Held<'a>>,
}

/// A collection, with what is left to remove.
struct Collection<'a> {
    removal: Removal<'a>,
    left: Vec<Action>,
}

struct World<'a> {
    state: Observed,
    leases: &'a Leases,
    pushes: Vec<Push<'a>>,
    collection: Option<Collection<'a>>,
    opened: i64,
    now: i64,
    manifests: u32,
    random: u64,
}

impl<'a> World<'a> {
    fn roll(&mut self, sides: u32) -> u32 {
        // SplitMix64: a seed gives the same world for ever.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(sides)).unwrap()
    }

    fn step(&mut self) {
        match self.roll(40) {
            0..8 => self.begin_push(),
            8..25 => self.continue_push(),
            25..34 => self.continue_collection(),
            34..36 => self.delete_manifest(),
            36 => self.delete_blob(),
            // A clock that is set back, or far ahead.
            37 => self.now += i64::from(self.roll(20_000)) - 8_000,
            // Killed: whoever was at something is gone, and so is what leases knew.
            38 if self.roll(4) == 0 => {
                self.collection = None;
                self.pushes.clear();
                self.opened = self.now;
            }
            _ => self.now += i64::from(self.roll(3000)),
        }
    }

    fn begin_push(&mut self) {
        if self.pushes.len() < 4 {
            let number = self.roll(2);
            let blobs = (0..=self.roll(3)).map(|_| self.roll(6)).collect::<Vec<_>>();
            self.pushes.push(Push {
                repository: repository(u8::try_from(number).unwrap()),
                blobs: blobs.into_iter().map(|n| blob(u8::try_from(n).unwrap())).collect(),
                step: 0,
                held: None,
            });
        }
    }

    /// Holds, then each blob's bytes and link if it is not there, then the manifest.
    fn continue_push(&mut self) {
        if self.pushes.is_empty() {
            return;
        }
        let which = self.roll(u32::try_from(self.pushes.len()).unwrap()) as usize;
        let now = at(self.now);
        let push = &mut self.pushes[which];
        let holdings = self.state.repositories.entry(push.repository.clone()).or_default();
        match push.step {
            0 => push.held = Some(self.leases.hold(push.blobs.clone(), now)),
            step if step <= push.blobs.len() * 2 => {
                let digest = push.blobs[(step - 1) / 2].clone();
                let linked = holdings.links.contains_key(&digest);
                if !linked {
                    if step % 2 == 1 {
                        // Linked from the staging: as old as the upload.
                        let old = now - SignedDuration::from_hours(5);
                        self.state.blobs.entry(digest).or_insert(old);
                    } else {
                        assert!(self.state.blobs.contains_key(&digest), "link to nothing");
                        holdings.links.insert(digest, now);
                    }
                }
            }
            _ => {
                let push = self.pushes.swap_remove(which);
                self.manifests += 1;
                let digest = Digest::sha256(&self.manifests.to_le_bytes());
                holdings.manifests.insert(digest.clone());
                holdings.named.extend(push.blobs.iter().cloned());
                self.state.blobs.insert(digest, now);
                drop(push.held);
                return;
            }
        }
        push.step += 1;
    }

    fn continue_collection(&mut self) {
        let now = at(self.now);
        match self.collection.as_mut() {
            None if self.now - self.opened > GRACE.as_secs() => {
                let removal = self.leases.begin(now);
                let left = decide(&self.state, now);
                self.collection = Some(Collection { removal, left });
            }
            None => {}
            Some(Collection { left, .. }) if left.is_empty() => self.collection = None,
            Some(Collection { left, .. }) => {
                let action = left.remove(0);
                if let Some(collection) = self.collection.take() {
                    self.apply(&collection.removal, &action);
                    self.collection = Some(collection);
                }
            }
        }
    }

    fn apply(&mut self, removal: &Removal<'_>, action: &Action) {
        let (Action::Unlink(_, digest) | Action::Delete(digest)) = action;
        let state = &mut self.state;
        let remove = || {
            match action {
                Action::Unlink(repository, digest) => {
                    state.repositories.entry(repository.clone()).or_default().links.remove(digest);
                }
                Action::Delete(digest) => {
                    state.blobs.remove(digest);
                }
            }
            Ok(())
        };
        self.leases.remove(removal, Respect::Recent, digest, remove).unwrap();
    }

    /// All manifests of a repository: nothing of it is named any more.
    fn delete_manifest(&mut self) {
        let holder = repository(u8::try_from(self.roll(2)).unwrap());
        let holdings = self.state.repositories.entry(holder).or_default();
        holdings.manifests.clear();
        holdings.named.clear();
    }

    fn delete_blob(&mut self) {
        let holder = repository(u8::try_from(self.roll(2)).unwrap());
        let digest = blob(u8::try_from(self.roll(6)).unwrap());
        let removal = self.leases.begin(at(self.now));
        let holdings = self.state.repositories.entry(holder).or_default();
        if !holdings.named.contains(&digest) {
            let remove = || Ok(holdings.links.remove(&digest));
            self.leases.remove(&removal, Respect::InUse, &digest, remove).unwrap();
        }
    }

    /// Whatever a manifest names can be read.
    fn check(&self, seed: u64) {
        for (repository, holdings) in &self.state.repositories {
            for digest in &holdings.named {
                assert!(holdings.links.contains_key(digest), "seed {seed}: {repository} {digest}");
                assert!(self.state.blobs.contains_key(digest), "seed {seed}: {digest} is gone");
            }
        }
    }

    /// Once nobody does anything, all garbage goes, and nothing else.
    fn converge(&mut self, seed: u64) {
        self.pushes.clear();
        self.now += 3 * GRACE.as_secs() + 30_000;
        let removal = self.leases.begin(at(self.now));
        for action in decide(&self.state, at(self.now)) {
            self.apply(&removal, &action);
        }
        self.check(seed);
        assert_eq!(decide(&self.state, at(self.now)), [], "seed {seed}");
        for holdings in self.state.repositories.values() {
            let links: BTreeSet<Digest> = holdings.links.keys().cloned().collect();
            assert_eq!(links, holdings.named, "seed {seed}");
        }
    }
}

#[test]
fn a_collection_takes_nothing_that_is_needed() {
    for number in 0..1500_u64 {
        let leases = Leases::default();
        let mut world = World {
            state: Observed::default(),
            leases: &leases,
            pushes: Vec::new(),
            collection: None,
            opened: START,
            now: START,
            manifests: 0,
            random: number,
        };
        for _ in 0..200 {
            world.step();
            world.check(number);
        }
        world.converge(number);
    }
}

/// What there is on a disk.
fn open(dir: &std::path::Path) -> (BlobStore, Repositories) {
    let blobs = BlobStore::open(&dir.join("content")).unwrap();
    let namespace = Repositories::open(&dir.join("repositories"), blobs.clone()).unwrap();
    (blobs, namespace)
}

fn put(blobs: &BlobStore, bytes: &[u8]) -> Digest {
    let mut writer = blobs.writer().unwrap();
    writer.write_all(bytes).unwrap();
    writer.commit(blobs, None).unwrap().digest
}

/// The same, on a disk.
#[test]
fn a_folder_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, namespace) = open(dir.path());
    let put = |bytes: &[u8]| put(&blobs, bytes);
    let (config, layer, orphan, unnamed) = (put(b"{}"), put(b"layer"), put(b"o"), put(b"u"));
    let manifest = ImageManifest::new(
        Descriptor::of(media_type::OCI_EMPTY, b"{}"),
        vec![Descriptor::of(media_type::OCI_LAYER, b"layer")],
    )
    .to_bytes();
    let record = ManifestRecord {
        digest: put(&manifest),
        media_type: media_type::OCI_MANIFEST.into(),
        size: manifest.len() as u64,
        subject: None,
        artifact_type: None,
        annotations: serde_json::Value::Null,
    };
    let (app, other) = (repository(1), repository(2));
    for digest in [&config, &layer, &unnamed] {
        namespace.link(&app, digest).unwrap();
    }
    namespace.link(&other, &layer).unwrap();
    namespace.put_manifest(&app, &record).unwrap();

    let leases = Leases::default();
    let written = time(blobs.written(&orphan).unwrap().unwrap());
    let collect_at = |time: Timestamp| collect(&namespace, &leases, time).unwrap();
    assert_eq!(collect_at(written), Collected::default(), "all too young");
    let later = written + SignedDuration::from_hours(2);
    leases.touch(&unnamed, later);
    let collected = collect_at(later);
    let none = Collected::default();
    assert_eq!(collected, Collected { links: 1, blobs: 1, size_bytes: 1, ..none });
    let all = [&config, &layer, &record.digest, &unnamed];
    assert!(all.iter().all(|digest| blobs.contains(digest).unwrap()));
    assert!(!namespace.holds(&other, &layer).unwrap(), "no manifest there names it");

    assert!(namespace.delete_manifest(&app, &record.digest).unwrap());
    let collected = collect_at(later + SignedDuration::from_hours(2));
    assert_eq!(collected, Collected { links: 3, blobs: 4, size_bytes: 8 + record.size, ..none });
    assert_eq!(blobs.list().unwrap(), []);
}

/// A manifest that another version took in, and this one cannot read.
#[test]
fn a_manifest_that_cannot_be_read_keeps_its_repository_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, namespace) = open(dir.path());
    let put = |bytes: &[u8]| put(&blobs, bytes);
    let (kept, gone) = (put(b"layer"), put(b"other"));
    let manifest = br#"{"schemaVersion": 2, "Layers": []}"#;
    let record = ManifestRecord {
        digest: put(manifest),
        media_type: media_type::OCI_MANIFEST.into(),
        size: manifest.len() as u64,
        subject: None,
        artifact_type: None,
        annotations: serde_json::Value::Null,
    };
    let (app, other) = (repository(1), repository(2));
    namespace.link(&app, &kept).unwrap();
    namespace.link(&other, &gone).unwrap();
    namespace.put_manifest(&app, &record).unwrap();

    let later = time(blobs.written(&gone).unwrap().unwrap()) + SignedDuration::from_hours(2);
    let collected = collect(&namespace, &Leases::default(), later).unwrap();
    assert_eq!(collected, Collected { links: 1, blobs: 1, size_bytes: 5, unreadable: 1 });
    assert!(namespace.holds(&app, &kept).unwrap() && blobs.contains(&record.digest).unwrap());
}
