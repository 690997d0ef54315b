use proptest::prelude::*;
use sekisho_oci::media_type;

use super::*;

fn digest(name: u8) -> Digest {
    Digest::sha256(&[name])
}

fn blob(name: u8) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, digest(100 + name), 1)
}

/// A registry that holds what it should to what the specification says.
#[derive(Clone, Debug, Default)]
struct Target {
    blobs: BTreeSet<Digest>,
    manifests: BTreeSet<Digest>,
    tag: Option<Digest>,
}

/// An index of two images and what is said about it, as they are read.
fn image() -> Vec<(Digest, Vec<Descriptor>)> {
    vec![
        (digest(1), vec![blob(1), blob(2)]),
        (digest(2), vec![blob(2), blob(3)]),
        (digest(3), vec![]),
        (digest(4), vec![blob(4)]),
    ]
}

const ROOT: u8 = 3;
const WORD: u8 = 4;

impl Target {
    fn observe(&self) -> Observed {
        let manifests = image().into_iter();
        let there = |(digest, blobs): (Digest, Vec<Descriptor>)| {
            let is_there = self.manifests.contains(&digest);
            (digest, is_there, blobs)
        };
        Observed {
            manifests: manifests.map(there).collect(),
            tag: Some(("v1".parse().unwrap(), self.tag.clone())),
            root: Some(digest(ROOT)),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Blob(blob) => drop(self.blobs.insert(blob.digest.clone())),
            Action::Manifest(digest) => {
                let (_, blobs) = image().into_iter().find(|(it, _)| it == digest).unwrap();
                assert!(blobs.iter().all(|blob| self.blobs.contains(&blob.digest)), "{digest}");
                if *digest == self::digest(ROOT) {
                    let parts = [1, 2].map(self::digest);
                    assert!(parts.iter().all(|part| self.manifests.contains(part)));
                }
                self.manifests.insert(digest.clone());
            }
            Action::Tag(_) => {
                for needed in [ROOT, WORD].map(digest) {
                    assert!(self.manifests.contains(&needed), "a tag without {needed}");
                }
                self.tag = Some(digest(ROOT));
            }
        }
    }
}

proptest! {
    /// However often it is cut short, and whatever is there already: nothing names what is not there, and in the
    /// end all of it is there and nothing is left to do.
    #[test]
    fn a_copy_that_is_cut_short_anywhere_is_finished_by_the_next(
        cuts in prop::collection::vec(0usize..9, 0..6),
        there in prop::collection::btree_set(1u8..5, 0..4),
        old in any::<bool>(),
    ) {
        let blobs = there.into_iter().map(|name| blob(name).digest).collect();
        let mut target = Target { blobs, tag: old.then(|| digest(99)), ..Target::default() };
        for cut in cuts {
            plan(&target.observe()).iter().take(cut).for_each(|action| target.act(action));
        }
        plan(&target.observe()).iter().for_each(|action| target.act(action));
        prop_assert_eq!(target.tag.clone(), Some(digest(ROOT)));
        prop_assert_eq!(plan(&target.observe()), []);
    }
}

#[test]
fn each_blob_is_wanted_once_and_the_tag_last() {
    let actions = plan(&Target::default().observe());
    let blobs = (1..5).map(|name| Action::Blob(Box::new(blob(name))));
    let manifests = (1..5).map(|name| Action::Manifest(digest(name)));
    let want: Vec<_> = blobs.chain(manifests).chain([Action::Tag("v1".parse().unwrap())]).collect();
    assert_eq!(actions, want);
}
