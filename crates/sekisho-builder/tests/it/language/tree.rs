//! What of an image is compared: every entry, and the config's fields.

use std::collections::BTreeMap;

use sekisho_oci::ImageConfig;
use sekisho_oci::layer::{self, EntryKind, Whiteout};

/// What the peer's sandbox leaves in an image, or every sandbox mounts over.
const NOT_OURS: [&str; 8] =
    ["proc", "sys", "dev", "run", "etc/hosts", "etc/resolv.conf", "etc/hostname", "tmp"];

/// Files of an image by path: kind and mode, owner, content or target.
pub(crate) type Tree = BTreeMap<String, String>;

/// Puts a layer on top; gives how many entries it has.
fn apply(tree: &mut Tree, bytes: &[u8]) -> u64 {
    let mut removed = Vec::new();
    let mut added = Vec::new();
    let limits = layer::Limits {
        absolute_paths: layer::AbsolutePaths::MakeRelative,
        ..layer::Limits::default()
    };
    let read = layer::read(bytes, &limits, &mut |entry, data| {
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
        let mut line = format!("{kind}{mode:o} {}:{} {text}", entry.uid, entry.gid);
        for (name, value) in &entry.xattrs {
            line.push_str(&format!(" {}={value:?}", String::from_utf8_lossy(name)));
        }
        added.push((path, kind, line));
        Ok(())
    });
    let entries = read.unwrap().entries;
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
    entries
}

fn compared(tree: Tree) -> Tree {
    let ours = |path: &String| {
        !NOT_OURS.iter().any(|one| path == one || path.starts_with(&format!("{one}/")))
    };
    tree.into_iter().filter(|(path, _)| ours(path)).collect()
}

/// The config as lines that both builders mean the same by.
pub(crate) fn told(image: &ImageConfig) -> BTreeMap<&'static str, String> {
    let config = &image.config;
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
        ("Os", format!("{}/{}", image.os, image.architecture)),
        ("Author", image.author.clone().unwrap_or_default()),
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

pub(crate) struct Built {
    pub(crate) tree: Tree,
    pub(crate) config: ImageConfig,
    /// Each step in BuildKit's words, and whether it made a layer; empty for who has words of their own.
    pub(crate) history: Vec<String>,
}

impl Built {
    /// Of its layers, lowest first. Where nothing changed BuildKit has a layer of no entries, and we have none.
    pub(crate) fn new(layers: impl IntoIterator<Item = Vec<u8>>, config: ImageConfig) -> Self {
        let mut tree = Tree::new();
        let entries: Vec<u64> = layers.into_iter().map(|bytes| apply(&mut tree, &bytes)).collect();
        let mut entries = entries.into_iter();
        let mut step = |entry: &sekisho_oci::History| {
            let said = entry.created_by.as_deref().unwrap_or_default();
            let made = !entry.empty_layer && entries.next().unwrap() > 0;
            let made = if made { "a layer" } else { "nothing" };
            format!("{} makes {made}", said.trim_end_matches(" # buildkit"))
        };
        let history = config.history.iter().map(&mut step).collect();
        Self { tree: compared(tree), config, history }
    }
}
