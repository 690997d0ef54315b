//! Every row of docs/dockerfile.md: a folder of small Dockerfiles, each built by us, looked at, and
//! built by buildah where it knows the row; files and config must be the same, entry by entry.
//!
//! ```text
//! # row: COPY --chown            what of the language it is about
//! # peers: buildah               who else is to build it; `none` where they do not know it
//! # want: tree PATH KMODE UID:GID CONTENT        one entry of the image, `\n` for a newline
//! # want: absent PATH
//! # want: kind PATH K
//! # want: config FIELD VALUE
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sekisho_builder::{BuildResult, Output};
use sekisho_oci::layer::{self, Entry, EntryKind, Whiteout, Writer};
use sekisho_oci::{ImageConfig, RunConfig};

use crate::world::{World, launcher};

/// What the peer's sandbox leaves in an image, or every sandbox mounts over.
const NOT_OURS: [&str; 8] =
    ["proc", "sys", "dev", "run", "etc/hosts", "etc/resolv.conf", "etc/hostname", "tmp"];

struct Case {
    name: String,
    text: String,
    row: String,
    peer: bool,
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
            peer: said("peers") == ["buildah"],
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

/// Files of an image by path: kind and mode, owner, content or target.
type Tree = BTreeMap<String, String>;

fn apply(tree: &mut Tree, bytes: &[u8]) {
    let mut removed = Vec::new();
    let mut added = Vec::new();
    let limits = layer::Limits {
        absolute_paths: layer::AbsolutePaths::MakeRelative,
        ..layer::Limits::default()
    };
    layer::read(bytes, &limits, &mut |entry, data| {
        let path = entry.display_path().trim_matches('/').to_owned();
        match entry.whiteout() {
            Some(Whiteout::Opaque { directory }) => {
                removed.push(format!("{}/", String::from_utf8_lossy(&directory)));
                return Ok(());
            }
            Some(Whiteout::Removed { path }) => {
                removed.push(String::from_utf8_lossy(&path).into_owned());
                return Ok(());
            }
            None => {}
        }
        let mut content = Vec::new();
        let kind = match &entry.kind {
            EntryKind::File { .. } => {
                data.read_to_end(&mut content)?;
                'f'
            }
            EntryKind::Directory => 'd',
            EntryKind::Symlink { target } => {
                content.clone_from(target);
                'l'
            }
            EntryKind::HardLink { target } => {
                content.clone_from(target);
                'h'
            }
            _ => '?',
        };
        // A link's mode means nothing.
        let mode = if kind == 'l' { 0o777 } else { entry.mode & 0o7777 };
        let text = match content.len() {
            0..200 => String::from_utf8_lossy(&content).replace('\n', "\\n"),
            _ => sekisho_types::Digest::sha256(&content).to_string(),
        };
        added.push((path, kind, format!("{kind}{mode:o} {}:{} {text}", entry.uid, entry.gid)));
        Ok(())
    })
    .unwrap();
    for gone in removed {
        let below = if gone.ends_with('/') { gone.clone() } else { format!("{gone}/") };
        tree.retain(|path, _| *path != gone && !path.starts_with(&below));
    }
    for (path, kind, line) in added.into_iter().filter(|(path, ..)| !path.is_empty()) {
        if kind != 'd' {
            let below = format!("{path}/");
            tree.retain(|other, _| !other.starts_with(&below));
        }
        // Two names of one file are the same whichever comes first.
        let line = match kind {
            'h' => {
                let target = line.rsplit(' ').next().unwrap().trim_start_matches('/').to_owned();
                tree[&target].clone()
            }
            _ => line,
        };
        tree.insert(path, line);
    }
}

fn compared(tree: Tree) -> Tree {
    let ours = |path: &String| {
        !NOT_OURS.iter().any(|one| path == one || path.starts_with(&format!("{one}/")))
    };
    tree.into_iter().filter(|(path, _)| ours(path)).collect()
}

/// The config as lines that both builders mean the same by.
fn told(config: &RunConfig) -> BTreeMap<&'static str, String> {
    let list = |list: &Option<Vec<String>>| match list.as_deref() {
        None | Some([]) => "-".to_owned(),
        Some(list) => list.join(" "),
    };
    let keys = |map: &BTreeMap<String, sekisho_oci::Empty>| {
        map.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    let labels = config.labels.iter().filter(|(name, _)| !name.starts_with("io.buildah."));
    let check = config.healthcheck.as_ref().map_or(String::new(), |check| {
        let mut text = check.test.join(" ");
        for (name, value) in [
            ("interval", check.interval),
            ("timeout", check.timeout),
            ("start_period", check.start_period),
            ("start_interval", check.start_interval),
            ("retries", check.retries),
        ] {
            if value > 0 {
                text.push_str(&format!(" {name}={value}"));
            }
        }
        text
    });
    let workdir = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    BTreeMap::from([
        ("User", config.user.clone()),
        ("ExposedPorts", keys(&config.exposed_ports)),
        ("Env", config.env.join(" ")),
        ("Entrypoint", list(&config.entrypoint)),
        ("Cmd", list(&config.cmd)),
        ("Volumes", keys(&config.volumes)),
        ("WorkingDir", workdir.to_owned()),
        ("Labels", labels.map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("|")),
        ("StopSignal", config.stop_signal.clone().unwrap_or_default()),
        ("Healthcheck", check),
        ("OnBuild", config.on_build.join("|")),
        ("Shell", list(&config.shell)),
    ])
}

struct Built {
    tree: Tree,
    config: ImageConfig,
}

fn ours(world: &World, result: &BuildResult) -> Built {
    let mut tree = Tree::new();
    for info in &result.layers {
        apply(&mut tree, &world.blob(&info.digest));
    }
    Built { tree: compared(tree), config: world.config(result) }
}

/// buildah with storage of its own.
struct Buildah {
    root: PathBuf,
}

impl Buildah {
    fn new(root: PathBuf) -> Option<Self> {
        let found = Command::new("buildah").arg("--version").stdout(Stdio::null()).status();
        let root_user = rustix::process::geteuid().is_root();
        if !found.is_ok_and(|status| status.success()) || !root_user {
            return None;
        }
        Some(Self { root })
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("buildah")
            .arg("--root")
            .arg(self.root.join("root"))
            .arg("--runroot")
            .arg(self.root.join("run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn build(&self, case: &Case, context: &Path) -> Result<Built, String> {
        let file = self.root.join("Dockerfile");
        fs::write(&file, &case.text).unwrap();
        let (file, context) = (file.to_str().unwrap(), context.to_str().unwrap());
        self.run(&[
            "bud",
            "--quiet",
            "--isolation",
            "chroot",
            "--ulimit",
            "nofile=20000:20000",
            "--ulimit",
            "nproc=20000:20000",
            "--pull-never",
            "--network",
            "host",
            "--format",
            "docker",
            "-t",
            &case.name,
            "-f",
            file,
            context,
        ])?;
        let out = self.root.join(format!("out-{}", case.name));
        self.run(&["push", "--quiet", &case.name, &format!("dir:{}", out.display())])?;
        let read = |digest: &str| fs::read(out.join(digest.trim_start_matches("sha256:"))).unwrap();
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
        let mut tree = Tree::new();
        for layer in manifest["layers"].as_array().unwrap() {
            apply(&mut tree, &read(layer["digest"].as_str().unwrap()));
        }
        let config = ImageConfig::parse(&read(manifest["config"]["digest"].as_str().unwrap()));
        fs::remove_dir_all(&out).unwrap();
        Ok(Built { tree: compared(tree), config: config.unwrap() })
    }
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
    let config = told(&built.config.config);
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

fn differences(case: &Case, ours: &Built, theirs: &Built) -> Vec<String> {
    let mut wrong = Vec::new();
    let paths = ours.tree.keys().chain(theirs.tree.keys());
    for path in paths.collect::<std::collections::BTreeSet<_>>() {
        let (mine, other) = (ours.tree.get(path), theirs.tree.get(path));
        if mine != other {
            wrong.push(format!("{}: {path}: ours {mine:?}, theirs {other:?}", case.name));
        }
    }
    let (mine, other) = (told(&ours.config.config), told(&theirs.config.config));
    for (field, value) in &mine {
        if Some(value) != other.get(field) {
            let other = other.get(field);
            wrong.push(format!("{}: {field}: ours {value:?}, theirs {other:?}", case.name));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn every_row_is_as_it_should_be_and_as_the_peer_has_it() {
    let world = World::new().await;
    fill(&world.context());
    let layout = base(&world).await;
    let peer = Buildah::new(world.dir.path().join("peer"));
    match &peer {
        Some(peer) => {
            fs::create_dir_all(&peer.root).unwrap();
            let source = format!("docker-archive:{}", world.dir.path().join("base.tar").display());
            let id = peer.run(&["pull", "--quiet", &source]).unwrap();
            peer.run(&["tag", &id, "localhost/base:latest"]).unwrap();
        }
        None => eprintln!("skipped: the comparison with buildah needs buildah and root"),
    }
    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    let (mut wrong, mut same) = (Vec::new(), 0);
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
        let Some(peer) = peer.as_ref().filter(|_| case.peer) else { continue };
        match peer.build(case, &world.context()) {
            Ok(theirs) => {
                let found = differences(case, &built, &theirs);
                same += usize::from(found.is_empty());
                wrong.extend(found);
            }
            Err(error) => wrong.push(format!("{}: buildah: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{same} equal\n{}", wrong.join("\n"));
    if peer.is_some() {
        assert!(same >= 60, "{same}");
    }
    world.assert_clean();
}

/// docs/dockerfile.md names a test for each row: a case of the folder, or a function.
#[test]
fn the_language_page_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/dockerfile.md")).unwrap();
    let mut sources = String::new();
    for name in [
        "sekisho-dockerfile",
        "sekisho-builder",
        "sekisho-oci",
        "sekisho-registry",
        "sekisho-sandbox",
        "sekisho",
    ] {
        read_all(&root.join("crates").join(name), &mut sources);
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
            let function = sources.contains(&format!("fn {name}("));
            assert!(case.exists() || function, "`{name}` is no test: {row}");
            cases_named.push(name.to_owned());
        }
    }
    assert!(rows >= 60, "{rows}");
    for case in cases() {
        assert!(cases_named.contains(&case.name), "no row names `{}`", case.name);
    }
}

fn read_all(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
