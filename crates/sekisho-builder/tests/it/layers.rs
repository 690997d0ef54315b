//! Layers: compression, holes, memory, and that other programs find in them what was put there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output as Said};
use std::sync::Arc;

use sekisho_builder::{
    BuildError, BuildOptions, Compression, CompressionKind, Output, Silent, build,
};
use sekisho_oci::layer::{self, EntryKind};
use sekisho_oci::{ImageManifest, media_type};

use crate::world::{World, cached, launcher};

fn run(program: &str, arguments: &[&str]) -> Option<Said> {
    let said = Command::new(program).args(arguments).output().ok()?;
    assert!(said.status.success(), "{program}: {}", String::from_utf8_lossy(&said.stderr));
    Some(said)
}

fn types(world: &World, result: &sekisho_builder::BuildResult) -> Vec<String> {
    let manifest: ImageManifest =
        serde_json::from_slice(&world.blob(&result.manifest_digest)).unwrap();
    manifest.layers.into_iter().map(|layer| layer.media_type).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_compressed_as_asked_and_a_base_only_when_forced() {
    let world = World::with_base().await;
    world.file("f", &"some text that compresses\n".repeat(400_000));
    world.dockerfile("FROM BASE\nCOPY f /f\nRUN echo x > /x");
    let options = |kind, force| {
        let mut options = world.options();
        options.compression = Compression { kind, level: None, force };
        options.destinations = vec![world.image("out")];
        options
    };
    let (gzip, zstd) = (media_type::OCI_LAYER_GZIP, media_type::OCI_LAYER_ZSTD);
    let first = world.try_build(options(CompressionKind::Zstd, false)).await.unwrap();
    let base = types(&world, &first).len() - 2;
    assert!(base > 0);
    assert!(types(&world, &first)[..base].iter().all(|one| one == gzip));
    assert_eq!(types(&world, &first)[base..], [zstd, zstd]);
    // The same steps are cached, and their layers are put into the other form.
    let second = world.try_build(options(CompressionKind::Gzip, false)).await.unwrap();
    assert_eq!(cached(&second), "ccc");
    assert!(types(&world, &second).iter().all(|one| one == gzip));
    let ids = |result: &sekisho_builder::BuildResult| -> Vec<_> {
        result.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    };
    assert_eq!(ids(&first), ids(&second), "the same content");
    let forced = world.try_build(options(CompressionKind::Zstd, true)).await.unwrap();
    assert!(types(&world, &forced).iter().all(|one| one == zstd));
    assert_eq!(ids(&first), ids(&forced));
    // As a base, a zstd image is as good as another.
    let again = world.image("out").to_string();
    let child = world.build(&format!("FROM {again}\nRUN cat /x")).await;
    assert_eq!(world.log(), ["x"]);
    assert!(world.files(&child)["f"].starts_with("some text"));
    world.assert_clean();
}

/// A tree of every kind of entry; what needs root is left out without.
fn every_kind(root: &Path) {
    let long = "n".repeat(150);
    fs::create_dir_all(root.join(&long).join(&long)).unwrap();
    fs::write(root.join(&long).join(&long).join("deep"), "deep").unwrap();
    fs::write(root.join("first"), "linked").unwrap();
    fs::hard_link(root.join("first"), root.join(&long).join("second")).unwrap();
    std::os::unix::fs::symlink(format!("{long}/second"), root.join("soft")).unwrap();
    fs::write(root.join("umlaut-ü"), "u").unwrap();
    fs::set_permissions(root.join("umlaut-ü"), fs::Permissions::from_mode(0o4711)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("first"), "user.mark", b"a\0b", flags).unwrap();
    // CAP_NET_RAW, permitted and effective (capabilities(7), revision 2).
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(root.join("umlaut-ü"), "security.capability", &capability, flags).unwrap();
    std::os::unix::fs::chown(root.join("umlaut-ü"), Some(77), Some(78)).unwrap();
    rustix::fs::setxattr(root.join("umlaut-ü"), "security.capability", &capability, flags).unwrap();
    fs::set_permissions(root.join("umlaut-ü"), fs::Permissions::from_mode(0o4711)).unwrap();
    rustix::fs::setxattr(root.join("umlaut-ü"), "security.capability", &capability, flags).unwrap();
    use rustix::fs::{CWD, FileType, Mode};
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, root.join("device"), FileType::CharacterDevice, mode, null).unwrap();
}

/// What `tar` and we are to agree about: kind and mode, owner, size or device, name.
fn listed(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            [&words[..3], &words[5..]].concat().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

/// A layer whose entries are all kinds, made by a RUN that unpacks them.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn gnu_tar_and_skopeo_find_every_kind_of_entry_as_it_was() {
    if !rustix::process::geteuid().is_root() || run("tar", &["--version"]).is_none() {
        eprintln!("skipped: needs root and GNU tar");
        return;
    }
    let world = World::new().await;
    let root = world.dir.path().join("root");
    fs::create_dir(&root).unwrap();
    every_kind(&root);
    let archive = world.context().join("all.tar");
    let (from, to) = (root.to_str().unwrap(), archive.to_str().unwrap());
    run("tar", &["--xattrs", "--xattrs-include=*", "--sort=name", "-C", from, "-cf", to, "."]);
    let out = world.dir.path().join("layout");
    world.dockerfile("FROM scratch\nADD all.tar /");
    let mut options = world.options();
    options.outputs = vec![Output::OciDirectory(out.clone())];
    let result = world.try_build(options).await.unwrap();
    let layer = world.dir.path().join("layer.tar.gz");
    fs::write(&layer, world.blob(&result.layers[0].digest)).unwrap();

    let list = |path: &str| {
        let arguments = ["--numeric-owner", "--full-time", "-tvf", path];
        listed(&run("tar", &arguments).unwrap().stdout)
    };
    let names = |lines: Vec<String>| -> Vec<String> {
        let lines = lines.into_iter().map(|line| line.replace(" ./", " "));
        let mut lines: Vec<_> = lines.filter(|line| !line.ends_with(" ")).collect();
        lines.sort();
        lines
    };
    let ours = names(list(layer.to_str().unwrap()));
    // Which of two names is the file, and which the link, is each program's choice.
    let plain = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().filter(|line| !line.contains("first") && !line.contains("second"));
        lines.cloned().collect()
    };
    assert_eq!(plain(&ours), plain(&names(list(to))));

    // Unpacked again by GNU tar, the tree is the one that it was made of.
    let back = world.dir.path().join("back");
    fs::create_dir(&back).unwrap();
    let (back_text, layer) = (back.to_str().unwrap(), layer.to_str().unwrap());
    run("tar", &["--xattrs", "--xattrs-include=*", "-p", "-C", back_text, "-xf", layer]);
    let long = "n".repeat(150);
    let meta = |path: &Path| {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.mode(), meta.uid(), meta.gid(), meta.rdev(), meta.nlink())
    };
    for name in ["first", "soft", "umlaut-ü", "pipe", "device", &long] {
        assert_eq!(meta(&back.join(name)), meta(&root.join(name)), "{name}");
    }
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&back.join("first")), inode(&back.join(&long).join("second")));
    for (name, attribute) in [("first", "user.mark"), ("umlaut-ü", "security.capability")] {
        let value = |root: &Path| {
            let mut value = [0; 64];
            let length = rustix::fs::getxattr(root.join(name), attribute, &mut value).unwrap();
            value[..length].to_vec()
        };
        assert_eq!(value(&back), value(&root), "{name}");
    }

    let copied = world.dir.path().join("copied");
    let (from, to) = (format!("oci:{}", out.display()), format!("oci:{}:x", copied.display()));
    match run("skopeo", &["copy", "-q", &from, &to]) {
        None => eprintln!("skipped a part: needs skopeo"),
        Some(_) => {
            let blob = copied.join("blobs/sha256").join(result.layers[0].digest.hex());
            assert_eq!(fs::read(blob).unwrap(), world.blob(&result.layers[0].digest));
        }
    }
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_files_and_replaced_folders_are_marked_for_other_programs() {
    let world = World::with_base().await;
    let result = world
        .build(
            "FROM BASE\nRUN mkdir -p /d/e && touch /d/e/f /d/g /h\n\
             RUN rm -r /d /h && mkdir /d && touch /d/new",
        )
        .await;
    let bytes = world.blob(&result.layers.last().unwrap().digest);
    let mut names = Vec::new();
    layer::read(bytes.as_slice(), &layer::Limits::default(), &mut |entry, _| {
        assert!(!matches!(entry.kind, EntryKind::CharDevice { .. }), "overlayfs's own mark");
        names.push(entry.display_path());
        Ok(())
    })
    .unwrap();
    assert_eq!(names, ["d", "d/.wh..wh..opq", "d/new", ".wh.h"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_stay_holes_in_what_is_unpacked() {
    const GIBIBYTE: u64 = 1 << 30;
    let world = World::with_base().await;
    let sparse = world.context().join("sparse");
    fs::write(&sparse, "begin").unwrap();
    fs::File::options().write(true).open(&sparse).unwrap().set_len(GIBIBYTE / 8).unwrap();
    let result = world
        .build("FROM BASE\nCOPY sparse /s\nRUN cat /s > /dev/null && stat -c %b /s > /blocks")
        .await;
    let blocks: u64 = world.files(&result)["blocks"].trim().parse().unwrap();
    assert!(blocks * 512 < GIBIBYTE / 64, "{blocks} blocks of 512 bytes");
    let made = &result.layers[result.layers.len() - 2..];
    assert!(made.iter().all(|layer| layer.size_bytes < 1 << 20), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_sent_while_later_steps_run() {
    let world = World::with_base().await;
    world.file("f", "sent before the build is over");
    world.dockerfile("FROM BASE\nCOPY f /f\nRUN echo go; sleep 600");
    let mut options = world.options();
    options.destinations = vec![world.image("app")];
    let cancel = options.cancel.clone();
    let blobs = || world.registry.content.lock().unwrap().blobs.len();
    let before = blobs();
    let sent = async {
        while world.log() != ["go"] || blobs() == before {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let sent = tokio::time::timeout(std::time::Duration::from_mins(5), sent);
    let (built, sent) = tokio::join!(world.try_build(options), sent);
    sent.expect("the layer of the COPY is in the registry while the RUN runs");
    assert!(matches!(built, Err(BuildError::Cancelled)), "{built:?}");
    assert_eq!(blobs(), before + 1);
    world.assert_clean();
}

/// The child of the next test: builds, and looks at its own peak.
#[tokio::test(flavor = "multi_thread")]
async fn memory_child() {
    let Some(folder) = std::env::var_os("SEKISHO_TEST_MEMORY") else { return };
    let folder = Path::new(&folder);
    let mut options = BuildOptions::new(folder.join("context"), folder.join("cache"));
    options.launcher = launcher();
    let result = build(options, Arc::new(Silent)).await.unwrap();
    assert_eq!(result.layers.len(), 1);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    fs::write(folder.join("peak"), (peak * 1024).to_string()).unwrap();
}

#[test]
fn a_layer_of_500_mb_needs_less_than_200_mb_of_memory() {
    const PIECE: usize = 5_000_000;
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("context");
    fs::create_dir(&context).unwrap();
    let piece: Vec<u8> = (0..PIECE).map(|at| ((at * at) >> 7) as u8).collect();
    for number in 0..100 {
        fs::write(context.join(number.to_string()), &piece).unwrap();
    }
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let said = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "layers::memory_child", "--nocapture"])
        .env("SEKISHO_TEST_MEMORY", dir.path())
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    let peak: u64 = fs::read_to_string(dir.path().join("peak")).unwrap().parse().unwrap();
    assert!(peak < 200_000_000, "{peak} bytes");
}
