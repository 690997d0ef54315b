//! Input as large as somebody makes it: each comes to its end with little memory, and leaves the disk some room.
//!
//! With `SEKISHO_TEST_REAL_SIZE` a million files and entries; else fewer, for that takes minutes.

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sekisho_oci::layer::{Entry, EntryKind, Writer};
use sekisho_oci::{Descriptor, ImageConfig, Platform};

use crate::support::{Said, World};

/// How many files and entries, of one byte each.
fn many() -> usize {
    if std::env::var_os("SEKISHO_TEST_REAL_SIZE").is_some() { 1_000_000 } else { 20_000 }
}

/// What a build may have in memory, in KiB: some, most of which is room for stacks that nobody uses, and half a KiB
/// for each file.
fn memory_kib(files: usize) -> usize {
    400 * 1024 + files / 2
}

/// `sekisho build`, whose data may be so large.
fn build(world: &World, kib: usize, arguments: &[&str]) -> Said {
    let ours = world.command(&[&["build", "--progress", "plain"], arguments].concat());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("ulimit -d {kib}; exec \"$0\" \"$@\"")]);
    command.arg(ours.get_program()).args(ours.get_args()).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Said::of(command.output().unwrap())
}

/// Names that are a little apart, 500 in a folder.
fn name(number: usize) -> String {
    format!("folder-{}/file-{number}", number / 500)
}

/// A tar of so many entries, compressed.
fn archive(path: &Path, entries: usize) {
    let gzip = GzEncoder::new(fs_err::File::create(path).unwrap(), Compression::fast());
    let mut tar = Writer::new(gzip);
    for number in 0..entries {
        let mut entry = Entry::file(name(number), 1);
        entry.mode = 0o644;
        tar.append_data(&entry, &mut b"x".as_slice()).unwrap();
    }
    tar.finish().unwrap().finish().unwrap().flush().unwrap();
}

/// The same block again and again: 16 KiB that do not compress by themselves.
struct Repeated {
    block: Vec<u8>,
    at: usize,
}

impl Repeated {
    fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let block = (0..2048).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self { block: block.collect(), at: 0 }
    }
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.block[self.at..];
        let read = left.len().min(buffer.len());
        buffer[..read].copy_from_slice(&left[..read]);
        self.at = (self.at + read) % self.block.len();
        Ok(read)
    }
}

/// Two files of that in an archive, of `size` bytes each; how large the archive is.
fn bomb(path: &Path, size: u64) -> u64 {
    let gzip = GzEncoder::new(fs_err::File::create(path).unwrap(), Compression::new(6));
    let mut tar = Writer::new(gzip);
    for name in ["a", "b"] {
        let mut entry = Entry::file(name, size);
        entry.kind = EntryKind::File { size };
        tar.append_data(&entry, &mut Repeated::new().take(size)).unwrap();
    }
    tar.finish().unwrap().finish().unwrap().flush().unwrap();
    fs_err::metadata(path).unwrap().len()
}

/// An OCI layout of an image with this one layer.
fn layout(folder: &Path, layer: &Path) {
    let blobs = folder.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    let put = |kind: &str, bytes: &[u8]| {
        let descriptor = Descriptor::of(kind, bytes);
        fs_err::write(blobs.join(descriptor.digest.hex()), bytes).unwrap();
        serde_json::to_value(descriptor).unwrap()
    };
    let compressed = fs_err::read(layer).unwrap();
    let mut plain = flate2::read::GzDecoder::new(compressed.as_slice());
    let mut hash = sekisho_types::Sha256Writer::new(io::sink());
    io::copy(&mut plain, &mut hash).unwrap();
    let mut config = ImageConfig::new(&Platform::host());
    config.rootfs.diff_ids.push(hash.finish().1);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("application/vnd.oci.image.config.v1+json", &config.to_bytes()),
        "layers": [put("application/vnd.oci.image.layer.v1.tar+gzip", &compressed)],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let manifest = put("application/vnd.oci.image.manifest.v1+json", &manifest);
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs_err::write(folder.join("index.json"), index.to_string()).unwrap();
    fs_err::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// What is left of builds in a cache.
fn left(cache: &Path) -> usize {
    fs_err::read_dir(cache.join("tmp")).unwrap().count()
}

#[test]
fn a_context_of_very_many_files() {
    let world = World::new();
    let folder = world.project("app", &[("Dockerfile", "FROM scratch\nCOPY files /files\n")]);
    for number in 0..many() {
        let path = folder.join("files").join(name(number));
        if number % 500 == 0 {
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs_err::write(path, "x").unwrap();
    }
    let first = build(&world, memory_kib(many()), &[folder.to_str().unwrap()]).exits(0);
    // The same again is looked up, not read.
    let again = build(&world, memory_kib(many()), &[folder.to_str().unwrap()]).exits(0);
    again.says(&["COPY files /files → cached"]);
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(left(&world.data().join("cache")), 0);
}

#[test]
fn an_archive_of_very_many_entries() {
    let world = World::new();
    let folder = world.project("app", &[("Dockerfile", "FROM scratch\nADD many.tar.gz /in/\n")]);
    archive(&folder.join("many.tar.gz"), many());
    let said = build(&world, memory_kib(many()), &[folder.to_str().unwrap()]).exits(0);
    assert!(said.stdout.starts_with("sha256:"), "{}", said.stdout);
    if std::env::var_os("SEKISHO_TEST_REAL_SIZE").is_some() {
        archive(&folder.join("many.tar.gz"), 2_000_001);
        let said = build(&world, memory_kib(2_000_000), &[folder.to_str().unwrap()]).exits(1);
        said.says(&["Dockerfile:2:", "layer has more than 2000000 entries"]);
    }
    assert_eq!(left(&world.data().join("cache")), 0);
}

#[test]
fn a_base_whose_layer_has_very_many_entries() {
    let world = World::new();
    let file = "FROM base\nCOPY Dockerfile /folder-0/\nRUN [\"/none\"]\n";
    let folder = world.project("app", &[("Dockerfile", file)]);
    let (layer, base) = (world.folder.path().join("layer"), world.folder.path().join("base"));
    archive(&layer, many());
    layout(&base, &layer);
    let context = format!("base=oci-layout://{}", base.display());
    let arguments = ["--build-context", &context, folder.to_str().unwrap()];
    // All of it is unpacked for the RUN, whose program is not there.
    let said = build(&world, memory_kib(many()), &arguments).exits(1);
    said.says(&["COPY Dockerfile /folder-0/", "Dockerfile:3", "/none"]);
    let cache = world.data().join("cache");
    let folders = |folder: &Path| -> Vec<PathBuf> {
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    // Of whatever kind the sandbox is.
    let mut kinds = folders(&cache);
    kinds.retain(|kind| kind.file_name().unwrap().to_str().unwrap().starts_with("trees-"));
    let trees: Vec<PathBuf> = kinds.iter().flat_map(|kind| folders(kind)).collect();
    let last = name(many() - 1);
    assert!(trees.iter().any(|tree| tree.join(&last).exists()), "{trees:?}");
    assert_eq!(left(&cache), 0);
}

/// On a disk of 700 MiB, of which 512 are to stay free.
#[test]
fn a_bomb_ends_before_the_disk_is_full() {
    let world = World::new();
    let folder = world.project("app", &[("Dockerfile", "FROM scratch\nADD bomb.tar.gz /\n")]);
    let path = folder.join("bomb.tar.gz");
    let (size, cache) = (256 << 20, world.folder.path().join("cache"));
    let compressed = bomb(&path, size);
    let ratio = 2 * size / compressed;
    assert!((50..1000).contains(&ratio), "a ratio of {ratio}");
    fs_err::create_dir(&cache).unwrap();
    let line = format!("mount -t tmpfs -o size=700m none {}", cache.display());
    let plain = ["build", "--progress", "plain", "--cache-dir", cache.to_str().unwrap()];
    let full = [" MiB left, and 512 MiB are to stay free", "hint: make room on the disk"];
    let arguments = [&plain[..], &[folder.to_str().unwrap()]].concat();
    let Some(said) = world.apart(&line, &arguments) else { return };
    said.exits(1).says(&[&["Dockerfile:2:1: cannot unpack the archive"], &full[..]].concat());

    let base = world.folder.path().join("base");
    layout(&base, &path);
    let context = format!("base=oci-layout://{}", base.display());
    fs_err::write(folder.join("Dockerfile"), "FROM base\nRUN [\"/none\"]\n").unwrap();
    let context = ["--build-context", &context, folder.to_str().unwrap()];
    let Some(said) = world.apart(&line, &[&plain[..], &context[..]].concat()) else { return };
    said.exits(1).says(&[&["cannot unpack layer"], &full[..]].concat());
}
