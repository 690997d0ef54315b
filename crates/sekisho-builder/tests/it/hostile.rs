//! Input that means harm: each case is a row of the table in docs/dockerfile.md.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use sekisho_builder::{BuildError, ContextInput};
use sekisho_oci::layer::{Entry, EntryKind, Writer};
use sekisho_types::Hint as _;

use crate::world::World;

/// An archive of entries, files with a word in them.
fn archive(entries: &[(&str, EntryKind)]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for (name, kind) in entries {
        let mut entry = Entry::file(*name, 0);
        entry.kind = kind.clone();
        let mut data: &[u8] = if let EntryKind::File { .. } = kind { b"word" } else { b"" };
        tar.append_data(&entry, &mut data).unwrap();
    }
    tar.finish().unwrap()
}

fn file() -> EntryKind {
    EntryKind::File { size: 4 }
}

fn link(target: &str) -> EntryKind {
    EntryKind::Symlink { target: target.into() }
}

/// As [`archive`], with names that no honest writer takes: `_` becomes `.` or `/` afterwards.
fn forged(name: &str, becomes: &str) -> Vec<u8> {
    assert_eq!(name.len(), becomes.len());
    let mut bytes = archive(&[(name, file())]);
    bytes[..becomes.len()].copy_from_slice(becomes.as_bytes());
    // The checksum counts the field itself as blanks.
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_reach_nothing_outside() {
    let world = World::new().await;
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let text = outside.to_str().unwrap().to_owned();
    for (bytes, want) in [
        (forged("aaaescape", "../escape"), "unsafe path"),
        (forged("a/aa/escape", "a/../escape"), "unsafe path"),
        (archive(&[("a", file()), ("l", link(&text)), ("l/f", file())]), "a link stands where"),
    ] {
        fs::write(world.context().join("x.tar"), &bytes).unwrap();
        for as_context in [false, true] {
            world.file("Dockerfile", "FROM scratch\nADD x.tar /in/\n");
            let mut options = world.options();
            if as_context {
                options.context = Some(ContextInput::Archive(world.context().join("x.tar")));
                options.dockerfile_text = Some("FROM scratch\nCOPY . /in/\n".to_owned());
            }
            match world.try_build(options).await {
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    let known = [want, "that is no folder", "cannot unpack"];
                    assert!(known.iter().any(|one| error.contains(one)), "{error}");
                }
                // A link in an archive is followed in the image, as BuildKit does, and nowhere else.
                Ok(built) => assert!(world.files(&built).keys().all(|path| !path.contains(".."))),
            }
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
    // A path from the root is one of the image's root.
    fs::write(world.context().join("x.tar"), forged("aabsolute", "/absolute")).unwrap();
    let built = world.build("FROM scratch\nADD x.tar /in/\n").await;
    assert_eq!(world.files(&built)["in/absolute"], "word");
    world.assert_clean();
}

/// Whose lines a message would show.
#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_that_is_a_link_leads_to_nothing_of_this_machine() {
    let world = World::new().await;
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "key: never-told\n[\n").unwrap();
    fs::create_dir(world.dir.path().join("outside")).unwrap();
    fs::copy(&secret, world.dir.path().join("outside/Dockerfile")).unwrap();
    let context = world.context();
    symlink("../outside", context.join("folder")).unwrap();
    let absolute = secret.to_str().unwrap();
    for name in ["Dockerfile", "Dockerfile.dockerignore", ".dockerignore"] {
        for target in [absolute, "../secret", "/proc/self/cwd"] {
            world.file("Dockerfile", "FROM scratch\nCOPY f /f\n");
            world.file("f", "x");
            let _ = fs::remove_file(context.join(name));
            symlink(target, context.join(name)).unwrap();
            let error = world.try_build(world.options()).await.unwrap_err();
            let BuildError::Outside { path } = &error else { panic!("{name} {target}: {error:?}") };
            assert_eq!(path, &context.join(name));
            assert!(error.hint().unwrap().contains("`--file`"));
            assert!(!format!("{error:?} {error} {:?}", world.log()).contains("never-told"));
            fs::remove_file(context.join(name)).unwrap();
        }
    }
    let mut options = world.options();
    options.dockerfile = "folder/Dockerfile".into();
    let error = world.try_build(options.clone()).await.unwrap_err();
    assert!(matches!(error, BuildError::Outside { .. }), "{error:?}");
    // As a context from elsewhere.
    let bytes = archive(&[("Dockerfile", link(absolute)), ("f", file())]);
    fs::write(world.dir.path().join("x.tar"), bytes).unwrap();
    let mut archived = world.options();
    archived.context = Some(ContextInput::Archive(world.dir.path().join("x.tar")));
    let error = world.try_build(archived).await.unwrap_err();
    assert!(matches!(error, BuildError::Outside { .. }), "{error:?}");
    // A pipe is waited for by nobody.
    fs::remove_file(context.join("Dockerfile")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(context.join("Dockerfile")).status();
    assert!(pipe.unwrap().success());
    let error = world.try_build(world.options()).await.unwrap_err();
    assert!(matches!(error, BuildError::Context { .. }), "{error:?}");
    fs::remove_file(context.join("Dockerfile")).unwrap();
    // What leads to a file of the context, and what whoever builds named from the root, is followed.
    world.file("real/file", "FROM scratch\nCOPY f /f\n");
    symlink("real/file", context.join("Dockerfile")).unwrap();
    let built = world.try_build(world.options()).await.unwrap();
    assert_eq!(world.files(&built)["f"], "x");
    symlink(context.join("real/file"), world.dir.path().join("named")).unwrap();
    options.dockerfile = world.dir.path().join("named");
    let named = world.try_build(options).await.unwrap();
    assert_eq!(named.manifest_digest, built.manifest_digest);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_an_archive_are_entries_and_open_nothing() {
    let world = World::new().await;
    let device = |major, minor| EntryKind::CharDevice { major, minor };
    let bytes =
        archive(&[("mem", device(1, 1)), ("disk", EntryKind::BlockDevice { major: 8, minor: 0 })]);
    fs::write(world.context().join("x.tar"), bytes).unwrap();
    let built = world.build("FROM scratch\nADD x.tar /in/\n").await;
    let lines = world.last_layer(&built);
    assert!(lines.iter().any(|line| line.starts_with("in/mem ?")), "{lines:?}");
    // As files of this machine there are none.
    let mut options = world.options();
    options.context = Some(ContextInput::Archive(world.context().join("x.tar")));
    options.dockerfile_text = Some("FROM scratch\nCOPY . /\n".to_owned());
    let built = world.try_build(options).await.unwrap();
    assert!(built.layers.is_empty() || world.files(&built).is_empty());
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_of_zeros_takes_no_disk_and_an_endless_one_is_refused() {
    let world = World::new().await;
    // A thousand times its own size in zeros: unpacked they are a hole.
    let mut entry = Entry::file("zeros", 0);
    const SIZE: u64 = 512 << 20;
    entry.kind = EntryKind::File { size: SIZE };
    let out = fs::File::create(world.context().join("bomb.tar.gz")).unwrap();
    let gzip = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    let mut tar = Writer::new(gzip);
    tar.append_data(&entry, &mut std::io::Read::take(std::io::repeat(0), SIZE)).unwrap();
    tar.finish().unwrap().finish().unwrap().flush().unwrap();
    let mut options = world.options();
    options.context = Some(ContextInput::Archive(world.context().join("bomb.tar.gz")));
    options.dockerfile_text = Some("FROM scratch\nLABEL a=b\n".to_owned());
    world.try_build(options).await.unwrap();
    // Cut short, it is told; nothing of it stays.
    let bomb = fs::read(world.context().join("bomb.tar.gz")).unwrap();
    fs::write(world.context().join("bomb.tar.gz"), &bomb[..bomb.len() / 2]).unwrap();
    let error = world.fail("FROM scratch\nADD bomb.tar.gz /\n").await.to_string();
    assert!(error.starts_with("Dockerfile:2:"), "{error}");
    assert!(error.contains("damaged"), "{error}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_counted_while_it_is_listed() {
    let world = World::new().await;
    let large = fs::File::create(world.context().join("large")).unwrap();
    // A hole: nothing on the disk.
    large.set_len(65 << 30).unwrap();
    let error = world.fail("FROM scratch\nCOPY . /\n").await;
    let BuildError::ContextLimit { what, limit } = error else { panic!("{error:?}") };
    assert_eq!((what, limit), ("bytes", 64 << 30));
    // What `.dockerignore` leaves out does not count.
    world.file(".dockerignore", "large\n");
    world.build("FROM scratch\nCOPY . /\n").await;
    world.assert_clean();
}
