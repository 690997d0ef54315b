use std::collections::BTreeSet;
use std::fs;

use super::*;

fn paths(context: &Context) -> BTreeSet<String> {
    context.files.iter().map(|(path, _)| String::from_utf8(path.clone()).unwrap()).collect()
}

#[test]
fn a_folder_is_listed_whole_however_many_threads_do_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut want = BTreeSet::from([String::new()]);
    for folder in 0..40 {
        for path in [format!("d{folder}/sub/deep"), format!("d{folder}/other")] {
            fs::create_dir_all(dir.path().join(&path)).unwrap();
            want.extend(Path::new(&path).ancestors().map(|path| path.display().to_string()));
        }
        for file in 0..5 {
            let path = format!("d{folder}/sub/f{file}");
            fs::write(dir.path().join(&path), "x").unwrap();
            want.insert(path);
        }
    }
    for _ in 0..5 {
        let context = Context::list_all(dir.path(), &Ignore::default()).unwrap();
        assert_eq!(paths(&context), want);
        assert!(context.lay(b"d7/sub/f3").is_some() && context.lay(b"d7/sub").is_none());
    }
}

#[test]
fn of_an_ignored_folder_there_is_what_an_exception_brings_back() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["ign/deep/deeper/keep", "ign/deep/gone", "ign/empty/gone", "kept/f"] {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), "x").unwrap();
    }
    let ignore = Ignore::parse("ign/*\n!ign/deep/deeper/keep\n").unwrap();
    let context = Context::list_all(dir.path(), &ignore).unwrap();
    let want = ["", "ign", "ign/deep", "ign/deep/deeper", "ign/deep/deeper/keep", "kept", "kept/f"];
    assert_eq!(paths(&context), want.map(str::to_owned).into());
}

#[test]
fn a_file_that_lies_still_is_hashed_once() {
    // As old as this checkout.
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language");
    let context = Context::list_all(&old, &Ignore::default()).unwrap();
    let path = b"copy-file.dockerfile".to_vec();
    assert!(context.open_still(&path).unwrap().is_none(), "nobody hashed it yet");
    let digest = context.digest(&path).unwrap();
    let still = context.open_still(&path).unwrap().unwrap();
    let bytes = fs::read(old.join("copy-file.dockerfile")).unwrap();
    assert_eq!(digest, Sum::of(&bytes));
    let kind = NodeKind::File { size: bytes.len() as u64, digest: Known::of(digest) };
    assert_eq!(still.node(context.files.get(&path).unwrap().clone()).kind, kind);
    assert!(still.is_still().unwrap());

    // One that was just written may be written again within the same tick.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("new"), "x").unwrap();
    let context = Context::list_all(dir.path(), &Ignore::default()).unwrap();
    assert_eq!(context.digest(&b"new".to_vec()).unwrap(), Sum::of(b"x"));
    assert!(context.open_still(b"new").unwrap().is_none());
    let file = fs::File::open(dir.path().join("new")).unwrap();
    let stamp = Stamp::of(&rustix::fs::fstat(&file).unwrap());
    let still = Still { file, stamp, sum: Sum::of(b"x") };
    fs::write(dir.path().join("new"), "more").unwrap();
    assert!(!still.is_still().unwrap());
}
