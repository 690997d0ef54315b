//! Every row of docs/dockerfile.md: a folder of small Dockerfiles, each built by us, looked at, and
//! built by buildah where it knows the row; files and config must be the same, entry by entry.
//!
//! ```text
//! # row: COPY --chown            what of the language it is about
//! # peers: buildah buildkit      who else is to build it; `buildkit-now` where Docker's of 2021 does not
//!                                know it, `none` where nobody does
//! # want: tree PATH KMODE UID:GID CONTENT        one entry of the image, `\n` for a newline
//! # want: absent PATH
//! # want: kind PATH K
//! # want: config FIELD VALUE
//! ```

mod peers;
mod tree;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use sekisho_builder::{BuildResult, Output};
use sekisho_oci::layer::{Entry, Writer};

use crate::world::{World, launcher};

use self::peers::{Buildah, Buildkit, Peer};
use self::tree::{Built, told};

struct Case {
    name: String,
    text: String,
    row: String,
    peers: Vec<String>,
    wants: Vec<String>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let said = |what: &str| -> Vec<String> {
            let start = format!("# {what}: ");
            text.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
        };
        cases.push(Case {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            row: said("row").pop().unwrap(),
            peers: said("peers").pop().unwrap().split(' ').map(str::to_owned).collect(),
            wants: said("want"),
            text,
        });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// The context of all cases.
fn fill(context: &Path) {
    let file = |path: &str, text: &str, mode: u32| {
        let path = context.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, text, mode) in [
        ("a.txt", "a", 0o644),
        ("b.txt", "b", 0o600),
        ("exec.sh", "#!/bin/sh\n", 0o755),
        ("dir/x", "x", 0o644),
        ("dir/y", "y", 0o640),
        ("dir/sub/z", "z", 0o644),
        ("name with space", "s", 0o644),
        (".hidden", "h", 0o644),
        ("deep/a/b/c.txt", "c", 0o644),
        ("linked/real", "r", 0o644),
        ("ignored.txt", "i", 0o644),
        ("ign/f", "f", 0o644),
        ("ign/keep", "k", 0o644),
        (".dockerignore", "ignored.txt\nign/*\n!ign/keep\n*.dockerfile\n.dockerignore\n", 0o644),
    ] {
        file(path, text, mode);
    }
    for folder in ["dir", "dir/sub", "deep", "deep/a", "deep/a/b", "linked", "ign"] {
        fs::set_permissions(context.join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink("a.txt", context.join("link")).unwrap();
    symlink("real", context.join("linked/l")).unwrap();
    let mut tar = Writer::new(Vec::new());
    let mut folder = Entry::directory("in");
    folder.mode = 0o700;
    tar.append(&folder).unwrap();
    let mut inner = Entry::file("in/f", 2);
    (inner.mode, inner.uid, inner.gid) = (0o751, 7, 8);
    tar.append_data(&inner, &mut b"tf".as_slice()).unwrap();
    let tar = tar.finish().unwrap();
    fs::write(context.join("archive.tar"), &tar).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    fs::write(context.join("archive.tar.gz"), gzip.finish().unwrap()).unwrap();
    for name in ["archive.tar", "archive.tar.gz"] {
        fs::set_permissions(context.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
}
fn ours(world: &World, result: &BuildResult) -> Built {
    let layers = result.layers.iter().map(|info| world.blob(&info.digest));
    Built::new(layers, world.config(result))
}
/// An OCI layout of the base image that every case may use.
async fn base(world: &World) -> PathBuf {
    let root = world.dir.path().join("rootfs");
    crate::rootfs::make(&root);
    fs::create_dir_all(root.join("root")).unwrap();
    fs::create_dir_all(root.join("etc/sub")).unwrap();
    fs::write(root.join("etc/sub/old"), "old").unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:2345:\n").unwrap();
    let layout = world.dir.path().join("base");
    let mut options = sekisho_builder::BuildOptions::new(&root, world.cache());
    options.launcher = launcher();
    options.dockerfile_text = Some("FROM scratch\nCOPY . /\nCMD [\"/bin/sh\"]".to_owned());
    let docker = Output::DockerTar(world.dir.path().join("base.tar"));
    options.outputs = vec![Output::OciDirectory(layout.clone()), docker];
    options.names = vec!["localhost/base:latest".parse().unwrap()];
    sekisho_builder::build(options, std::sync::Arc::new(sekisho_builder::Silent)).await.unwrap();
    layout
}

/// What is wrong with what a case came to.
fn judge(case: &Case, built: &Built) -> Vec<String> {
    let mut wrong = Vec::new();
    let config = told(&built.config);
    for want in &case.wants {
        let (kind, rest) = want.split_once(' ').unwrap();
        let (what, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let good = match kind {
            "tree" => built.tree.get(what).map(String::as_str) == Some(value),
            "absent" => !built.tree.contains_key(what),
            "kind" => built.tree.get(what).is_some_and(|line| line.starts_with(value)),
            "config" => config.get(what).map(String::as_str) == Some(value),
            other => panic!("`{other}` is no expectation"),
        };
        if !good {
            let seen = built.tree.get(what).or_else(|| config.get(what));
            wrong.push(format!("{}: wanted `{want}`, got {seen:?}", case.name));
        }
    }
    wrong
}

fn differences(ours: &Built, theirs: &Built) -> Vec<String> {
    let mut wrong = Vec::new();
    let paths = ours.tree.keys().chain(theirs.tree.keys());
    for path in paths.collect::<BTreeSet<_>>() {
        let (mine, other) = (ours.tree.get(path), theirs.tree.get(path));
        if mine != other {
            wrong.push(format!("{path}: ours {mine:?}, theirs {other:?}"));
        }
    }
    let (mine, other) = (told(&ours.config), told(&theirs.config));
    if !theirs.history.is_empty() && ours.history != theirs.history {
        wrong.push(format!("history: ours {:#?}, theirs {:#?}", ours.history, theirs.history));
    }
    for (field, value) in &mine {
        if Some(value) != other.get(field) {
            let other = other.get(field);
            wrong.push(format!("{field}: ours {value:?}, theirs {other:?}"));
        }
    }
    wrong
}

/// Who else builds, with the base that the cases start from.
fn peers(world: &World, layout: &Path) -> Vec<Box<dyn Peer>> {
    let archive = world.dir.path().join("base.tar");
    let buildah = Buildah::start(world.dir.path().join("buildah"), &archive);
    let buildkit = Buildkit::start(world.dir.path().join("buildkit"), layout, &archive);
    let buildah = buildah.map(|peer| Box::new(peer) as Box<dyn Peer>);
    buildah.into_iter().chain(buildkit.map(|peer| Box::new(peer) as _)).collect()
}

/// What is different from what a peer that knows the case makes of it.
fn compared_with(peer: &dyn Peer, case: &Case, built: &Built, context: &Path) -> Vec<String> {
    match peer.build(case, context) {
        Ok(theirs) => differences(built, &theirs),
        Err(error) => vec![error],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_as_it_should_be_and_as_the_peers_have_it() {
    let world = World::new().await;
    fill(&world.context());
    let layout = base(&world).await;
    let peers = peers(&world, &layout);
    for name in ["buildah", "buildkit", "buildkit-now"] {
        let here = peers.iter().any(|peer| peer.names().contains(&name));
        assert!(here || !crate::world::is_wanted(name), "{name} is wanted, and is not here");
    }
    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    let (mut wrong, mut same) = (Vec::new(), vec![0; peers.len()]);
    for case in &cases {
        let mut options = world.options();
        options.dockerfile_text = Some(case.text.clone());
        options.dockerfile = format!("{}.dockerfile", case.name).into();
        options.add_context("base", &format!("oci-layout://{}", layout.display())).unwrap();
        let built = match world.try_build(options).await {
            Ok(result) => ours(&world, &result),
            Err(error) => {
                wrong.push(format!("{} ({}): {error}", case.name, case.row));
                continue;
            }
        };
        wrong.extend(judge(case, &built));
        let context = world.context();
        let found: Vec<_> = std::thread::scope(|scope| {
            let asked = peers.iter().map(|peer| {
                let known = case.peers.iter().any(|name| peer.names().contains(&name.as_str()));
                let (built, context) = (&built, &context);
                known.then(|| scope.spawn(|| compared_with(&**peer, case, built, context)))
            });
            let asked: Vec<_> = asked.collect();
            asked.into_iter().map(|one| one.map(|one| one.join().unwrap())).collect()
        });
        for ((peer, same), found) in peers.iter().zip(&mut same).zip(found) {
            let Some(found) = found else { continue };
            *same += usize::from(found.is_empty());
            let name = peer.names()[0];
            wrong.extend(found.iter().map(|one| format!("{} with {name}: {one}", case.name)));
        }
    }
    assert!(wrong.is_empty(), "{same:?} equal\n{}", wrong.join("\n"));
    assert!(same.iter().all(|same| *same >= 60), "{same:?}");
    world.assert_clean();
}

/// docs/dockerfile.md names a test for each row: a case of the folder, or a function.
#[test]
fn the_language_page_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/dockerfile.md")).unwrap();
    let mut tests = BTreeSet::new();
    for name in [
        "sekisho-dockerfile",
        "sekisho-builder",
        "sekisho-oci",
        "sekisho-registry",
        "sekisho-sandbox",
        "sekisho",
    ] {
        find_tests(&root.join("crates").join(name), &mut tests);
    }
    let (mut rows, mut cases_named) = (0, Vec::new());
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.contains("---")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, state, tests] = cells.as_slice() else { continue };
        if *tests == "tests" {
            continue;
        }
        rows += 1;
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || state.starts_with("no"), "no test: {row}");
        for name in names {
            let case =
                root.join(format!("crates/sekisho-builder/tests/language/{name}.dockerfile"));
            assert!(case.exists() || tests.contains(name), "`{name}` is no test: {row}");
            cases_named.push(name.to_owned());
        }
    }
    assert!(rows >= 60, "{rows}");
    for case in cases() {
        assert!(cases_named.contains(&case.name), "no row names `{}`", case.name);
    }
}

/// Names of functions that are tests.
fn find_tests(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_tests(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
                let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                let Some((name, _)) = rest.and_then(|rest| rest.split_once('(')) else { continue };
                if std::mem::take(&mut is_test) {
                    into.insert(name.to_owned());
                }
            }
        }
    }
}
