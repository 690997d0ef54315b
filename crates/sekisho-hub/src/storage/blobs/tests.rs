use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct World {
    dir: tempfile::TempDir,
    blobs: Blobs,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("b"), &BTreeSet::new()).unwrap();
        Self { dir, blobs }
    }

    fn file(&self, blob: Uuid, text: &str) -> (u64, u64) {
        let (file, path) = self.blobs.new_file(blob).unwrap();
        let bytes = text.len() as u64;
        self.blobs.grow(blob, bytes).unwrap();
        std::fs::write(path, text).unwrap();
        (file, bytes)
    }

    fn stage(&self, blob: Uuid, id: &str, text: &str) {
        let (file, bytes) = self.file(blob, text);
        self.blobs.stage(blob, id, file, bytes).unwrap();
    }

    fn read(&self, blob: Uuid, first: u64, end: u64) -> String {
        let content = self.blobs.content(blob).unwrap().unwrap();
        let mut text = String::new();
        for (path, skip, count) in self.blobs.pieces(blob, &content, first, end) {
            let (skip, count) = (usize::try_from(skip).unwrap(), usize::try_from(count).unwrap());
            text.push_str(&std::fs::read_to_string(path).unwrap()[skip..skip + count]);
        }
        text
    }

    fn files(&self, blob: Uuid) -> usize {
        self.blobs.folder(blob).read_dir().unwrap().count()
    }
}

#[test]
fn blocks_in_the_order_of_the_list() {
    let world = World::new();
    let blob = world.blobs.begin(100).unwrap();
    world.stage(blob, "QQ==", "old");
    world.stage(blob, "Qg==", "bbb");
    world.stage(blob, "QQ==", "aaa");
    world.stage(blob, "Qw==", "never listed");
    let unknown = world.blobs.commit(blob, &[(From::Latest, "eA==")]);
    assert!(matches!(unknown, Err(BlobError::UnknownBlock)), "{unknown:?}");
    world.blobs.commit(blob, &[(From::Latest, "QQ=="), (From::Uncommitted, "Qg==")]).unwrap();
    // A second list takes from the first, and from what came since.
    world.stage(blob, "RA==", "dd");
    let list = [(From::Latest, "RA=="), (From::Committed, "Qg=="), (From::Latest, "Qg==")];
    world.blobs.commit(blob, &list).unwrap();
    assert_eq!(world.files(blob), 2);
    world.blobs.finish(blob, 8, None, NOW).unwrap();
    assert_eq!(world.read(blob, 0, 8), "ddbbbbbb");
    assert_eq!(world.read(blob, 1, 4), "dbb");
    assert_eq!(world.read(blob, 5, 8), "bbb");
    assert!(matches!(world.blobs.new_file(blob), Err(BlobError::Over)));
}

#[test]
fn limits_hold_and_room_is_given_back() {
    let world = World::new();
    let blob = world.blobs.begin(10).unwrap();
    let (file, bytes) = world.file(blob, "12345678");
    assert!(matches!(world.blobs.grow(blob, 3), Err(BlobError::TooLarge(10))));
    world.blobs.discard(blob, file, bytes);
    let (file, bytes) = world.file(blob, "1234567890");
    world.blobs.put(blob, file, bytes).unwrap();
    assert!(matches!(world.blobs.grow(blob, 1), Err(BlobError::TooLarge(10))));
    assert_eq!(world.files(blob), 1);
}

#[test]
fn content_must_be_what_is_said() {
    let world = World::new();
    let blob = world.blobs.begin(10).unwrap();
    assert!(matches!(world.blobs.finish(blob, 0, None, NOW), Err(BlobError::Empty)));
    for text in ["ab", "c"] {
        let (file, bytes) = world.file(blob, text);
        world.blobs.append(blob, file, bytes).unwrap();
    }
    let short = world.blobs.finish(blob, 2, None, NOW).unwrap_err();
    assert_eq!(short.to_string(), "3 bytes was uploaded, not 2 bytes");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let wrong = world.blobs.finish(blob, 3, Some(&abc.replace('b', "c")), NOW);
    assert!(matches!(wrong, Err(BlobError::Mismatch { .. })), "{wrong:?}");
    world.blobs.finish(blob, 3, Some(&abc.to_uppercase()), NOW).unwrap();
    assert_eq!(world.read(blob, 0, 3), "abc");
}

#[test]
fn a_start_removes_what_nobody_knows() {
    let world = World::new();
    let [kept, half] = [(); 2].map(|()| world.blobs.begin(10).unwrap());
    let (file, bytes) = world.file(kept, "x");
    world.blobs.put(kept, file, bytes).unwrap();
    world.blobs.finish(kept, 1, None, NOW).unwrap();
    world.stage(half, "QQ==", "half");
    let blobs = Blobs::open(world.dir.path().join("b"), &BTreeSet::from([kept])).unwrap();
    assert!(blobs.content(kept).unwrap().is_some());
    assert!(!blobs.folder(half).exists());
    assert!(matches!(blobs.grow(half, 1), Err(BlobError::Over)));
    blobs.remove(kept);
    assert!(blobs.content(kept).unwrap().is_none());
}
