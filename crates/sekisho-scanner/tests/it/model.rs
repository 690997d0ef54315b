//! Merging indexes against unpacking: whatever the layers, the packages are those of the files that
//! a runtime would end up with.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sekisho_scanner::merge;

use crate::{Item, file, layer, lock, packages};

const FOLDERS: [&str; 5] = ["app", "srv", "app/sub", "app/node_modules", "app/node_modules/x"];
const LOCKS: [&str; 4] = [
    "package-lock.json",
    "app/package-lock.json",
    "srv/package-lock.json",
    "app/sub/package-lock.json",
];
const MANIFEST: &str = "app/node_modules/x/package.json";

fn item() -> impl Strategy<Value = Item> {
    let version = (1..4_u8).prop_map(|major| format!("{major}.0.0"));
    let any_path = prop::sample::select([&FOLDERS[..], &LOCKS[..], &[MANIFEST]].concat());
    prop_oneof![
        4 => (prop::sample::select(&LOCKS[..]), version.clone())
            .prop_map(|(path, version)| file(path, lock(&[("x", &version), ("y", &version)]))),
        2 => version
            .prop_map(|version| file(MANIFEST, format!(r#"{{"name": "x", "version": "{version}"}}"#))),
        2 => any_path.clone().prop_map(Item::Gone),
        1 => prop::sample::select(&FOLDERS[..]).prop_map(Item::Opaque),
        1 => any_path.prop_map(Item::Dir),
        1 => prop::sample::select(&LOCKS[..]).prop_map(Item::Fifo),
        // A file in place of a folder is followed at the top only; deeper, what it hides is still
        // reported, which is the safe error.
        1 => prop::sample::select(&["app", "srv"][..]).prop_map(|path| file(path, "")),
    ]
}

/// Paths and contents; `None` for what is there and is no regular file or folder.
type Files = BTreeMap<String, Option<String>>;

fn remove(files: &mut Files, path: &str, itself: bool) {
    let below = format!("{path}/");
    files.retain(|name, _| !(name.starts_with(&below) || itself && name == path));
}

fn put(files: &mut Files, path: &str, content: Option<String>) {
    // A runtime makes the folders above, in place of what is no folder.
    for (end, _) in path.match_indices('/') {
        files.remove(&path[..end]);
    }
    remove(files, path, true);
    files.insert(path.to_owned(), content);
}

fn unpack(layers: &[Vec<Item>]) -> Files {
    let mut files = Files::new();
    for items in layers {
        for item in items {
            match item {
                Item::Gone(path) => remove(&mut files, path, true),
                Item::Opaque(path) => remove(&mut files, path, false),
                _ => {}
            }
        }
        for item in items {
            match item {
                Item::File(path, text) => put(&mut files, path, Some(text.clone())),
                Item::Fifo(path) => put(&mut files, path, None),
                Item::Dir(path) => {
                    for (end, _) in path.match_indices('/') {
                        files.remove(&path[..end]);
                    }
                    files.remove(*path);
                }
                _ => {}
            }
        }
    }
    files
}

fn flat(files: &Files) -> Vec<Item> {
    files
        .iter()
        .filter_map(|(path, content)| Some(Item::File(path.clone().leak(), content.clone()?)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_unpacking(layers in prop::collection::vec(prop::collection::vec(item(), 0..6), 1..5)) {
        let indexes: Vec<_> = layers.iter().map(|items| layer(items)).collect();
        let flat = flat(&unpack(&layers));
        prop_assert_eq!(packages(&merge(&indexes)), packages(&merge(&[layer(&flat)])));
    }
}
