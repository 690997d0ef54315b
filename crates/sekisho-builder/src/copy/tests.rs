use super::*;
use crate::files::{Known, Sum};

fn map(paths: &[&str]) -> FileMap {
    let mut map = FileMap::default();
    map.insert(Vec::new(), Node::new(NodeKind::Directory, 0o755));
    for path in paths {
        let (path, node) = match path.split_once(" -> ") {
            Some((path, target)) => {
                (path, Node::new(NodeKind::Symlink { target: target.into() }, 0o777))
            }
            None => match path.strip_suffix('/') {
                Some(path) => (path, Node::new(NodeKind::Directory, 0o750)),
                None => {
                    let digest = Known::of(Sum::of(path.as_bytes()));
                    (*path, Node::new(NodeKind::File { size: 1, digest }, 0o644))
                }
            },
        };
        map.insert(path.into(), node);
    }
    map
}

fn destination(path: &str) -> Destination {
    Destination {
        path: files::absolute("/", path),
        is_folder: path.ends_with('/'),
        owner: None,
        chmod: None,
        keep_owner: false,
    }
}

fn node(pending: &Pending<'_>, destination: &Destination) -> Node {
    match pending {
        Pending::Source { node, .. } => destination.change(node),
        Pending::Made(made) => made.node.clone(),
    }
}

/// Destination paths, folders with `/` and their mode when it is not 755.
fn copy(
    sources: &FileMap,
    view: &FileMap,
    written: &[&str],
    to: &str,
) -> Result<String, CopyError> {
    let destination = destination(to);
    let mut placer = Placer::new(view, &destination);
    let mut all = Vec::new();
    for one in written {
        all.extend(select(sources, one, false)?);
    }
    for one in &all {
        placer.place(sources, one, all.len() > 1)?;
    }
    let show = |(path, pending): (&ImagePath, &Pending)| {
        let path = String::from_utf8(path.clone()).unwrap();
        match (pending.is_directory(), node(pending, &destination).mode) {
            (true, 0o755) => format!("{path}/"),
            (true, mode) => format!("{path}/:{mode:o}"),
            (false, _) => path,
        }
    };
    Ok(placer.finish().iter().map(show).collect::<Vec<_>>().join(" "))
}

#[test]
fn destinations_follow_docker() {
    let sources =
        map(&["a", "b", "dir/", "dir/x", "dir/sub/", "dir/sub/y", "l -> dir/x", "up -> ../../a"]);
    let empty = map(&[]);
    let image = map(&[
        "app/",
        "app/old",
        "bin -> usr/bin",
        "usr/",
        "usr/bin/",
        "etc/",
        "etc/f -> ../usr/f",
    ]);
    let ok = |view: &FileMap, from: &[&str], to: &str, want: &str| {
        assert_eq!(copy(&sources, view, from, to), Ok(want.to_owned()), "{from:?} {to}");
    };
    ok(&empty, &["a"], "/f", "f");
    ok(&empty, &["a"], "/d/", "d/ d/a");
    ok(&empty, &["a"], "/", "a");
    ok(&empty, &["a", "b"], "/x/y/", "x/ x/y/ x/y/a x/y/b");
    ok(&empty, &["dir"], "/t", "t/ t/sub/:750 t/sub/y t/x");
    ok(&empty, &["dir"], "/t/", "t/ t/sub/:750 t/sub/y t/x");
    ok(&empty, &["."], "/", "a b dir/:750 dir/sub/:750 dir/sub/y dir/x l up");
    ok(&empty, &["[ab]"], "/d/", "d/ d/a d/b");
    ok(&empty, &["dir/*"], "/d/", "d/ d/x d/y");
    ok(&empty, &["l"], "/f", "f");
    ok(&empty, &["up"], "/f", "f");
    ok(&empty, &["../a"], "/f", "f");
    ok(&image, &["a"], "/app", "app/:750 app/a");
    ok(&image, &["a"], "/bin/", "usr/:750 usr/bin/:750 usr/bin/a");
    ok(&image, &["a"], "/etc/f", "usr/:750 usr/f");
    ok(&image, &["dir"], "/app", "app/:750 app/sub/:750 app/sub/y app/x");
}

#[test]
fn mistakes_are_named() {
    let sources = map(&["a", "b", "dir/", "dir/x", "self -> self", "gone -> /nowhere"]);
    let image = map(&["app/", "app/x/", "file", "dir"]);
    let fails = |from: &[&str], to: &str, want: CopyError| {
        assert_eq!(copy(&sources, &image, from, to), Err(want), "{from:?} {to}");
    };
    fails(&["nope"], "/", CopyError::NotFound("nope".into()));
    fails(&["gone"], "/", CopyError::NotFound("gone".into()));
    fails(&["self"], "/", CopyError::Loop("self".into()));
    fails(&["[a"], "/", CopyError::Pattern("[a".into()));
    fails(&["a", "b"], "/t", CopyError::NotAFolderName("/t".into()));
    fails(&["a"], "/file/", CopyError::NotAFolder("/file".into()));
    fails(&["a"], "/file/deep/f", CopyError::NotAFolder("/file".into()));
    fails(&["dir"], "/app", CopyError::IsAFolder("/app/x".into()));
    assert!(select(&sources, "zzz*", false).unwrap().is_empty());
}

#[test]
fn owner_and_mode_are_changed_on_the_way() {
    let sources = map(&["dir/", "dir/x", "dir/l -> x"]);
    let empty = map(&[]);
    let mut to = destination("/a/b");
    to.owner = Some((7, 8));
    to.chmod = Some(Chmod::Octal(0o500));
    let mut placer = Placer::new(&empty, &to);
    placer.place(&sources, &select(&sources, "dir", false).unwrap()[0], false).unwrap();
    let pending = placer.finish();
    for (path, mode) in [("a", 0o500), ("a/b", 0o500), ("a/b/x", 0o500), ("a/b/l", 0o777)] {
        let node = node(&pending[path.as_bytes()], &to);
        assert_eq!((node.uid, node.gid, node.mode), (7, 8, mode), "{path}");
    }
}

#[test]
fn hard_links_stay_links() {
    let mut sources = map(&["d/", "d/b"]);
    sources
        .insert(b"d/a".to_vec(), Node::new(NodeKind::HardLink { target: b"d/b".to_vec() }, 0o644));
    let empty = map(&[]);
    let to = Destination { keep_owner: true, ..destination("/t") };
    let mut placer = Placer::new(&empty, &to);
    placer.place(&sources, &select(&sources, "d", false).unwrap()[0], false).unwrap();
    let pending = placer.finish();
    let first = &pending[&b"t/a"[..]];
    assert!(matches!(first, Pending::Source { origin: 0, path, .. } if *path == b"d/b"));
    let second = node(&pending[&b"t/b"[..]], &to);
    assert_eq!(second.kind, NodeKind::HardLink { target: b"t/a".to_vec() });
}

#[test]
fn content_key_sees_what_counts() {
    let key = |map: &FileMap, keep| {
        let matches = select(map, ".", false).unwrap();
        content_key(map, &matches, keep, |path| {
            let Some(Node { kind: NodeKind::File { digest, .. }, .. }) = map.get(path) else {
                return Err(());
            };
            digest.get().ok_or(())
        })
        .unwrap()
    };
    let base = map(&["a", "d/", "l -> a"]);
    let change = |act: &dyn Fn(&mut Node)| {
        let mut changed = base.clone();
        let mut node = changed.get(b"a").unwrap().clone();
        act(&mut node);
        changed.insert(b"a".to_vec(), node);
        changed
    };
    let same = change(&|node| (node.mtime, node.uid) = (99, 99));
    assert_eq!(key(&base, false), key(&same, false));
    assert_ne!(key(&base, true), key(&same, true));
    assert_ne!(key(&base, false), key(&change(&|node| node.mode = 0o600), false));
    let data = NodeKind::File { size: 1, digest: Known::of(Sum::of(b"other")) };
    assert_ne!(key(&base, false), key(&change(&|node| node.kind = data.clone()), false));
    assert_ne!(key(&base, false), key(&map(&["a", "d/", "l -> b"]), false));
    assert_ne!(key(&base, false), key(&map(&["a", "d", "l -> a"]), false));
}
