//! Layers of other projects' test suites; they lie beside the repository where there are any.

use std::path::PathBuf;

use sekisho_oci::layer::{AbsolutePaths, AfterEnd, EndMark, Limits, Whiteout, read};

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn layer(name: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/layers");
    if !folder.is_dir() {
        eprintln!("skipped: needs the layers of the shared test data");
        return None;
    }
    Some(std::fs::read(folder.join(name)).unwrap())
}

fn paths(bytes: &[u8], limits: &Limits) -> Result<Vec<String>, String> {
    let mut paths = Vec::new();
    read(bytes, limits, &mut |entry, _| {
        paths.push(entry.display_path());
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    Ok(paths)
}

#[test]
fn whiteouts_are_recognised() {
    let removed = |path: &str| Whiteout::Removed { path: path.into() };
    for (name, want) in [
        ("whiteout.layer", vec![removed("etc/profile")]),
        (
            "whiteout_advanced.layer",
            vec![removed("a/a_file.txt"), removed("a_root_file.txt"), removed("b")],
        ),
        ("whiteout_opaque.layer", vec![Whiteout::Opaque { directory: b"a".to_vec() }]),
    ] {
        let Some(bytes) = layer(name) else { return };
        let mut seen = Vec::new();
        read(bytes.as_slice(), &Limits::default(), &mut |entry, _| {
            seen.extend(entry.whiteout());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, want, "{name}");
    }
}

#[test]
fn a_layer_that_leads_out_is_refused() {
    let Some(bytes) = layer("escape.tar") else { return };
    let error = paths(&bytes, &Limits::default()).unwrap_err();
    assert_eq!(error, "layer has an unsafe path: `/escape/poc.txt` is absolute");
    let limits = Limits { absolute_paths: AbsolutePaths::MakeRelative, ..Limits::default() };
    // The file was made by hand, without an end mark.
    assert_eq!(paths(&bytes, &limits).unwrap_err(), "layer ends early, at byte 4608");
    let limits = Limits { end_mark: EndMark::Optional, ..limits };
    let paths = paths(&bytes, &limits).unwrap();
    assert_eq!((paths[0].as_str(), paths.len()), ("escape/poc.txt", 6));
}

#[test]
fn concatenated_archives_end_where_runtimes_end() {
    let Some(bytes) = layer("concat.tar") else { return };
    let first = paths(&bytes, &Limits::default()).unwrap();
    let limits = Limits { after_end: AfterEnd::Continue, ..Limits::default() };
    let all = paths(&bytes, &limits).unwrap();
    assert_eq!((first.len(), all.len()), (11, 11));
}

/// Images in Docker's archive form: layers in a tar.
#[test]
fn layers_in_archives_are_read() {
    for name in [
        "basic.tar",
        "dangling-symlinks.tar",
        "multiple-files.tar",
        "overwrite-file.tar",
        "permissions.tar",
        "single-file.tar",
        "symlink-attack.tar",
        "symlink-basic.tar",
        "symlink-cycle.tar",
        "symlink-dangling.tar",
        "symlink-depth-exceeded.tar",
        "symlinks.tar",
        "two-files.tar",
    ] {
        let Some(bytes) = layer(name) else { return };
        let mut layers = 0;
        read(bytes.as_slice(), &Limits::default(), &mut |entry, data| {
            if entry.file_name() == b"layer.tar" {
                let mut layer = Vec::new();
                data.read_to_end(&mut layer)?;
                let summary = read(layer.as_slice(), &Limits::default(), &mut |_, _| Ok(()))
                    .map_err(std::io::Error::other)?;
                assert_eq!(summary.trailing_bytes, 0);
                layers += usize::from(summary.entries > 0);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(layers > 0, "{name}");
    }
}
