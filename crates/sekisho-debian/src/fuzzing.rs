//! What the fuzz targets of `fuzz/` call, for they are not of this crate: no interface of it.
//!
//! Each function takes any bytes, and panics when something does not hold.

use std::io::Read as _;
use std::sync::LazyLock;

use jiff::Timestamp;
use pgp::composed::SignedPublicKey;
use sekisho_advisory::version::Scheme;

use crate::control::{MAX_PARAGRAPH_BYTES, Paragraph, paragraphs};
use crate::index::{MAX_PACKAGE_BYTES, Packages, alternatives};
use crate::release::{MAX_KEYS, Release, is_sha256, keys_in, parse, verify};
use crate::sources::{choose, one_line, stanza};
use crate::{Archive, DebianError, Sources, archive, resolve};

/// A release and the key that signed it, both of nobody else.
const RELEASE: &str = include_str!("fuzzing/release.asc");
const KEY: &str = include_str!("fuzzing/key.asc");

/// A day on which the release is valid.
const NOW: i64 = 1_783_800_000;

fn of_suite(suite: &str) -> Archive {
    let (url, keyring) = ("http://mirror.example/debian".to_owned(), "/keys.gpg".into());
    Archive { url, suite: suite.to_owned(), keyring, allow_expired: false }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap_or_default()
}

/// Releases to begin with, signed and not.
pub fn release_seeds() -> Vec<Vec<u8>> {
    let text = RELEASE.split("\n\n").nth(1).unwrap_or_default();
    vec![RELEASE.into(), KEY.into(), text.split("-----").next().unwrap_or_default().into()]
}

static SIGNED: LazyLock<Option<(Vec<SignedPublicKey>, Release)>> = LazyLock::new(|| {
    let keys = keys_in(KEY.as_bytes())?;
    let release = verify(RELEASE, "u", &of_suite("bookworm"), &keys, now()).ok()?;
    Some((keys, release))
});

/// A release with its signature, one without, or a keyring.
#[expect(clippy::panic, reason = "so a target says that something does not hold")]
pub fn release(input: &[u8]) {
    let Some((keys, signed)) = &*SIGNED else { panic!("the release that is signed does not hold") };
    if let Some(keys) = keys_in(input) {
        assert!(keys.len() <= MAX_KEYS, "{} keys", keys.len());
    }
    let text = String::from_utf8_lossy(input);
    if let Ok(found) = verify(&text, "u", &of_suite("bookworm"), keys, now()) {
        assert_eq!(found, *signed, "nobody signed this");
    }
    if let Ok(found) = parse(&text, "u", &of_suite("bookworm"), now()) {
        for (path, digest, _) in &found.files {
            assert!(is_sha256(digest) && !path.contains(char::is_whitespace), "{path} {digest}");
            assert!(found.file(path).is_some_and(|file| file.path == *path));
        }
    }
}

/// The index of an archive: `Packages`.
pub fn packages(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for one in paragraphs(&text) {
        assert!(one.len() <= MAX_PARAGRAPH_BYTES && !one.is_empty() && !one.contains("\n\n"));
        let _ = Paragraph::parse(one);
    }
    let mut packages = Packages::default();
    packages.add(&text, "http://mirror.example/debian");
    for (name, package) in &packages.0 {
        assert_eq!(*name, package.id.name);
        let plain = |text: &str| {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(good)
        };
        // Both are part of a file's name.
        assert!(plain(name) && plain(&package.id.architecture), "{:?}", package.id);
        assert!(Scheme::Deb.check(&package.id.version).is_ok(), "{:?}", package.id);
        assert!(package.size <= MAX_PACKAGE_BYTES && is_sha256(&package.sha256));
        assert!(package.filename.split('/').all(|part| part != ".."), "{}", package.filename);
    }
    // A second look at the same index changes nothing.
    let before = packages.clone().0;
    packages.add(&text, "http://mirror.example/debian");
    assert_eq!(packages.0, before);
    let Ok(base) = resolve::base(&packages, &["a".to_owned()]) else { return };
    for package in base.values() {
        for group in alternatives(&package.depends) {
            let named = |name: &str| group.iter().any(|need| need.name == name);
            let provides = |it: &crate::Package| it.provides.iter().any(|(name, _)| named(name));
            let met = base.values().any(|it| named(&it.id.name) || provides(it));
            assert!(met, "{} needs {group:?}", package.id.name);
        }
    }
}

/// A file of apt's sources, in either form.
pub fn sources(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut known: Vec<_> = paragraphs(&text).flat_map(stanza).collect();
    known.extend(text.lines().flat_map(one_line));
    let archives = choose(&known, "bookworm", false);
    let suites = ["bookworm", "bookworm-updates", "bookworm-security"];
    for archive in &archives {
        assert!(archive.url.starts_with("http://") || archive.url.starts_with("https://"));
        assert!(suites.contains(&archive.suite.as_str()), "{archive:?}");
        assert!(archive.keyring.is_absolute() && !archive.url.ends_with('/'), "{archive:?}");
    }
    assert!(archives.first().is_none_or(|first| first.suite == "bookworm") && archives.len() <= 3);
    // What is written for the apt of a sandbox says the same.
    let written = Sources { archives: archives.clone() }.to_apt();
    let again: Vec<_> = paragraphs(&written).flat_map(stanza).collect();
    let again = choose(&again, "bookworm", false);
    let said = |all: &[Archive]| -> Vec<_> {
        all.iter().map(|it| (it.url.clone(), it.suite.clone(), it.allow_expired)).collect()
    };
    assert_eq!(said(&again), said(&archives));
}

/// Packages to begin with: an `ar` archive with a plain tar, and one that says it is xz.
pub fn deb_seeds() -> Vec<Vec<u8>> {
    let mut writer = sekisho_oci::layer::Writer::new(Vec::new());
    let file = sekisho_oci::layer::Entry::file("usr/bin/a", 5);
    let _ = writer.append_data(&file, &mut &b"hello"[..]);
    let tar = writer.finish().unwrap_or_default();
    let of = |name: &str| {
        let mut deb = b"!<arch>\n".to_vec();
        for (name, data) in [("debian-binary", &b"2.0\n"[..]), (name, &tar)] {
            deb.extend(
                format!("{name:<16}0           0     0     100644  {:<10}`\n", data.len()).bytes(),
            );
            deb.extend(data);
        }
        deb
    };
    vec![of("data.tar"), of("data.tar.xz")]
}

/// A package: `.deb`.
pub fn deb(input: &[u8]) {
    const MAX: u64 = 16 << 20;
    let mut bytes = 0;
    let read = archive::data(input, "a.deb", &mut |entry, data| {
        assert!(!entry.path.starts_with(b"/"));
        assert!(entry.path.split(|byte| *byte == b'/').all(|part| part != b".."));
        let mut content = Vec::new();
        data.take(MAX - bytes).read_to_end(&mut content)?;
        bytes += content.len() as u64;
        // An input is small: what is more was made of nothing, and is stopped here.
        if bytes >= MAX { Err(std::io::Error::other("enough")) } else { Ok(()) }
    });
    if let Err(error) = read {
        assert!(matches!(error, DebianError::Archive { .. }), "{error:?}");
    }
}
