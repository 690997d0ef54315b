//! Real files of other projects, outside the repository.

use sekisho_scanner::{Limits, index_layer, merge};

use crate::{file, layer, shared};

#[test]
fn alpine_releases() {
    let Some(folder) = shared("osrelease/alpine") else { return };
    let mut named = 0;
    for entry in fs_err::read_dir(folder).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = fs_err::read_to_string(folder.join("etc/os-release")) else { continue };
        let want = fs_err::read_to_string(folder.join("want")).unwrap();
        let want: serde_json::Value = serde_json::from_str(&want).unwrap();
        let want = want[0]["version"].as_str().unwrap();
        let os = merge(&[layer(&[file("etc/os-release", text)])]).os.unwrap();
        let want = (want != "edge").then(|| format!("Alpine:v{want}"));
        assert_eq!(os.ecosystem.map(|e| e.to_string()), want, "{}", folder.display());
        named += 1;
    }
    assert!(named >= 15, "only {named}");
}

#[test]
fn os_release_files() {
    for (name, id, version, ecosystem) in [
        ("Buster", "debian", "10", Some("Debian:10")),
        ("Bionic", "ubuntu", "18.04", Some("Ubuntu:18.04:LTS")),
        ("DistrolessValid", "debian", "12", Some("Debian:12")),
        ("Ubi8", "rhel", "8.0", None),
        ("EmptyKey", "fedora", "30", None),
        ("Vyos", "vyos", "1.4-rolling-202307070317", None),
    ] {
        let Some(path) = shared(&format!("osrelease/claircore/{name}.txtar")) else { return };
        let text = fs_err::read_to_string(path).unwrap();
        let text =
            text.split("-- os-release --").nth(1).unwrap().split("-- Parsed --").next().unwrap();
        let os = merge(&[layer(&[file("etc/os-release", text)])]).os.unwrap();
        let found = os.ecosystem.map(|e| e.to_string());
        assert_eq!(
            (os.id.as_str(), os.version.as_str(), found.as_deref()),
            (id, version, ecosystem)
        );
    }
}

#[test]
fn dpkg_databases() {
    for (name, want) in [("debian-only", 1), ("postgresql", 3), ("texlive", 357)] {
        let Some(path) = shared(&format!("osrelease/dpkg-status/{name}.status")) else { return };
        let text = fs_err::read_to_string(path).unwrap();
        let inventory = merge(&[layer(&[
            file("etc/os-release", crate::DEBIAN),
            file("var/lib/dpkg/status", text),
        ])]);
        assert_eq!(inventory.packages.len(), want, "{name}");
        assert_eq!(inventory.not_assessed, []);
    }
}

/// Layers made to trap readers: each gives an index or an error, and the same one each time.
#[test]
fn trap_layers() {
    let Some(folder) = shared("layers") else { return };
    let mut seen = 0;
    for entry in fs_err::read_dir(folder).unwrap() {
        let bytes = fs_err::read(entry.unwrap().path()).unwrap();
        let index = || index_layer(bytes.as_slice(), &Limits::default()).map_err(|e| e.to_string());
        assert_eq!(index(), index());
        seen += 1;
    }
    assert!(seen >= 20, "only {seen}");
}

#[test]
fn whiteout_layers() {
    for (name, removed, opaque) in [
        ("whiteout.layer", &["etc/profile"][..], &[][..]),
        ("whiteout_advanced.layer", &["a/a_file.txt", "a_root_file.txt", "b"], &[]),
        ("whiteout_opaque.layer", &[], &["a"]),
    ] {
        let Some(path) = shared(&format!("layers/{name}")) else { return };
        let bytes = fs_err::read(path).unwrap();
        let index = index_layer(bytes.as_slice(), &Limits::default()).unwrap();
        assert_eq!(index.removed.iter().collect::<Vec<_>>(), removed, "{name}");
        assert_eq!(index.opaque.iter().collect::<Vec<_>>(), opaque, "{name}");
    }
}
