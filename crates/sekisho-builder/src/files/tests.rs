use proptest::prelude::*;

use super::*;

fn file(digest: &str) -> Node {
    let digest = Known::of(Sum::of(digest.as_bytes()));
    Node::new(NodeKind::File { size: 1, digest }, 0o644)
}

fn folder() -> Node {
    Node::new(NodeKind::Directory, 0o755)
}

fn link(target: &str) -> Node {
    Node::new(NodeKind::Symlink { target: target.into() }, 0o777)
}

fn apply(map: &mut FileMap, number: u32, entries: &[(&str, Node)], gone: &Gone) {
    let mut apply = Apply::new(map, number);
    for (path, node) in entries {
        apply.entry(IndexEntry { path: (*path).into(), node: node.clone() });
    }
    apply.finish(gone);
}

fn paths(map: &FileMap) -> String {
    map.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect::<Vec<_>>().join(" ")
}

#[test]
fn layers_cover_and_remove() {
    let mut map = FileMap::default();
    let first = [
        ("a", folder()),
        ("a/x", file("1")),
        ("a-b", file("1")),
        ("b", folder()),
        ("b/y", file("1")),
    ];
    apply(&mut map, 0, &first, &Gone::default());
    let opaque = Gone { opaque: vec![b"a".to_vec()], ..Gone::default() };
    apply(&mut map, 1, &[("a/z", file("2")), ("b", file("2"))], &opaque);
    assert_eq!(paths(&map), "a a-b a/z b", "opaque hides a/x, a file replaces the folder b");
    assert_eq!((map.get(b"a").unwrap().layer, map.get(b"b").unwrap().layer), (0, 1));
    apply(&mut map, 2, &[], &Gone { removed: vec![b"a".to_vec()], ..Gone::default() });
    assert_eq!(paths(&map), "a-b b");
}

#[test]
fn links_are_followed_inside_the_root() {
    let mut map = FileMap::default();
    let links = [
        ("bin", link("usr/bin")),
        ("usr", folder()),
        ("usr/up", link("../../../../etc")),
        ("usr/abs", link("/opt/./x")),
        ("loop", link("loop")),
    ];
    apply(&mut map, 0, &links, &Gone::default());
    let check = |path: &str, last: bool, want: &str| {
        let got = map.resolve(path.as_bytes(), last).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(got, Ok(want.to_owned()), "{path}");
    };
    check("bin/sh", true, "usr/bin/sh");
    check("/bin", true, "usr/bin");
    check("bin", false, "bin");
    check("usr/up/passwd", true, "etc/passwd");
    check("usr/abs/y", false, "opt/x/y");
    check("new/../../x//.", true, "x");
    check("", true, "");
    assert_eq!(map.resolve(b"loop/x", true), Err(LinkLoop));
}

#[test]
fn absolute_paths_are_clean() {
    for (from, path, want) in [
        ("/", "a", "/a"),
        ("/app", "../x/./y/", "/x/y"),
        ("/app", "/../z", "/z"),
        ("/app", ".", "/app"),
    ] {
        assert_eq!(absolute(from, path), want);
    }
    let all: Vec<_> = ancestors(b"a/b/c").collect();
    assert_eq!(all, [&b"a"[..], b"a/b"]);
}

proptest! {
    /// Each entry replaces what is at its path, and what is not a folder also what was below; whatever comes first,
    /// and however much of it there is.
    #[test]
    fn a_layer_of_any_size_covers_one_of_any_size(
        layers in prop::collection::vec(
            prop::collection::vec(("[ab]/[a-e]{0,2}(/[ab])?", any::<bool>()), 0..40),
            1..4,
        ),
    ) {
        let (mut map, mut model) = (FileMap::default(), BTreeMap::new());
        for (number, entries) in (0..).zip(&layers) {
            let nodes = entries.iter().map(|(path, is_folder)| {
                (path.as_str(), if *is_folder { folder() } else { file(path) })
            });
            let nodes: Vec<_> = nodes.collect();
            apply(&mut map, number, &nodes, &Gone::default());
            for (path, node) in nodes {
                if !node.is_directory() {
                    model.retain(|other: &String, _| !other.starts_with(&format!("{path}/")));
                }
                model.insert(path.to_owned(), Node { layer: number, ..node });
            }
        }
        let found = map.iter().map(|(path, node)| (String::from_utf8(path.clone()).unwrap(), node.clone()));
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), model);
    }

    #[test]
    fn resolving_stays_inside(path in "[./a]{0,12}") {
        let map = FileMap::default();
        let got = map.resolve(path.as_bytes(), true).unwrap();
        prop_assert!(got.split(|byte| *byte == b'/').all(|part| part != b".."));
    }
}
