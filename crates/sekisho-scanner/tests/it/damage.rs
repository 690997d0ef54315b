//! A layer is input. Damaged or hostile, it gives an index or an error, never a panic.

use proptest::prelude::*;
use sekisho_advisory::Reason;
use sekisho_scanner::{LayerIndex, Limits, index_layer, merge};

use crate::{ALPINE, Item, file, lock, not_assessed, status, tar};

fn full() -> Vec<u8> {
    tar(&[
        file("etc/os-release", ALPINE),
        file("lib/apk/db/installed", "P:musl\nV:1.2.5-r0\no:musl\n\n"),
        file("var/lib/dpkg/status", status(&[("bash", "5.2-1")])),
        Item::Link("lib64", "usr/lib"),
        file("app/package-lock.json", lock(&[("a", "1.0.0")])),
        file("app/node_modules/a/package.json", r#"{"name": "a", "version": "1.0.0"}"#),
        file("x/A-1.dist-info/METADATA", "Name: A\nVersion: 1\n"),
        Item::Gone("srv"),
        Item::Opaque("opt"),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = full();
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { file_bytes: 1 << 16, ..Limits::default() };
        if let Ok(index) = index_layer(bytes.as_slice(), &limits) {
            merge(&[index.clone(), index]);
        }
    }

    #[test]
    fn no_text_panics(text in "(Package: |Version: |Status: |P:|V:|o:|Name: |[{}\":,]|\\PC|\n){0,40}") {
        for path in [
            "etc/os-release", "var/lib/dpkg/status", "lib/apk/db/installed", "package-lock.json",
            "node_modules/a/package.json", "A.dist-info/METADATA", "requirements.txt",
        ] {
            merge(&[crate::layer(&[file(path, text.clone())])]);
        }
    }

    /// An index comes back from the store: whatever it says, merging ends.
    #[test]
    fn any_links_end(links in prop::collection::btree_map("[abc](/[abc]){0,2}", "(\\.\\.|/|)[abc/.]{1,6}", 0..6)) {
        let index: LayerIndex = crate::layer(&[]);
        let lower = crate::layer(&[file("a/b/package-lock.json", lock(&[("x", "1.0.0")]))]);
        merge(&[LayerIndex { links, ..index }, lower]);
    }
}

#[test]
fn a_layer_that_ends_early_has_no_index() {
    let bytes = full();
    let error = index_layer(&bytes[..bytes.len() / 2], &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "the layer cannot be analysed");
}

#[test]
fn deep_json_is_refused_not_followed() {
    let deep = format!(
        r#"{{"lockfileVersion": 1, "dependencies": {}"#,
        r#"{"a": {"dependencies": "#.repeat(5000)
    );
    let inventory = merge(&[crate::layer(&[file("package-lock.json", deep)])]);
    assert_eq!(inventory.not_assessed[0].reason, Reason::UnreadableFile);
    assert_eq!(inventory.packages, []);
}

#[test]
fn a_long_name_is_not_kept() {
    let inventory =
        merge(&[crate::layer(&[file("package-lock.json", lock(&[(&"a".repeat(600), "1.0.0")]))])]);
    assert_eq!(
        not_assessed(&inventory),
        ["package-lock.json: a package has a name or version of more than 512 bytes"]
    );
}
