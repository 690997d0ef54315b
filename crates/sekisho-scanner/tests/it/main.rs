//! Layers in, packages and findings out, through the public API only.

mod damage;
mod examples;
mod layers;
mod model;
mod secrets;
mod shared;
mod systems;

use std::path::PathBuf;

use sekisho_oci::layer::{Entry, EntryKind, Writer, opaque, whiteout};
use sekisho_scanner::{Inventory, LayerIndex, Limits, index_layer};

/// An entry of a layer under test.
#[derive(Clone, Debug)]
enum Item {
    File(&'static str, String),
    Dir(&'static str),
    Link(&'static str, &'static str),
    Hard(&'static str, &'static str),
    Gone(&'static str),
    Opaque(&'static str),
    Fifo(&'static str),
}

fn file(path: &'static str, text: impl Into<String>) -> Item {
    Item::File(path, text.into())
}

#[expect(clippy::unwrap_used, reason = "a test's archive is in memory")]
fn tar(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for item in items {
        let (entry, data) = match item {
            Item::File(path, text) => (Entry::file(*path, text.len() as u64), text.as_bytes()),
            Item::Dir(path) => (Entry::directory(*path), &b""[..]),
            Item::Link(path, target) => (
                Entry::new(*path, EntryKind::Symlink { target: target.as_bytes().to_vec() }),
                &b""[..],
            ),
            Item::Hard(path, target) => (
                Entry::new(*path, EntryKind::HardLink { target: target.as_bytes().to_vec() }),
                &b""[..],
            ),
            Item::Gone(path) => (Entry::file(whiteout(path.as_bytes()), 0), &b""[..]),
            Item::Opaque(path) => (Entry::file(opaque(path.as_bytes()), 0), &b""[..]),
            Item::Fifo(path) => (Entry::new(*path, EntryKind::Fifo), &b""[..]),
        };
        writer.append_data(&entry, &mut &*data).unwrap();
    }
    writer.finish().unwrap()
}

#[expect(clippy::unwrap_used, reason = "a test's archive is well-formed")]
fn layer(items: &[Item]) -> LayerIndex {
    index_layer(tar(items).as_slice(), &Limits::default()).unwrap()
}

/// `path: name version`, in order.
fn packages(inventory: &Inventory) -> Vec<String> {
    let mut lines: Vec<_> = inventory
        .packages
        .iter()
        .map(|p| format!("{}: {} {}", p.path, p.name, p.version))
        .collect();
    lines.sort();
    lines
}

/// `subject: detail`, in order.
fn not_assessed(inventory: &Inventory) -> Vec<String> {
    inventory.not_assessed.iter().map(ToString::to_string).collect()
}

/// A version 3 lock file with these packages.
fn lock(packages: &[(&str, &str)]) -> String {
    let entries: Vec<_> = packages
        .iter()
        .map(|(name, version)| format!(r#""node_modules/{name}": {{"version": "{version}"}}"#))
        .collect();
    format!(r#"{{"lockfileVersion": 3, "packages": {{{}}}}}"#, entries.join(", "))
}

const DEBIAN: &str =
    "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n";
const ALPINE: &str = "ID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME=\"Alpine Linux v3.20\"\n";

fn status(packages: &[(&str, &str)]) -> String {
    packages
        .iter()
        .map(|(name, version)| {
            format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n")
        })
        .collect()
}

/// A file or folder of shared test data; `None`, and one line, when it is not there.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if !path.exists() {
        eprintln!("skipped: needs {}", path.display());
        return None;
    }
    Some(path)
}
