//! A context, a cache and a registry of a test's own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sekisho_builder::{BuildError, BuildOptions, BuildResult, Event, Progress, build};
use sekisho_oci::layer::{self, EntryKind};
use sekisho_oci::{ImageConfig, ImageManifest};
use sekisho_sandbox::Launcher;
use sekisho_types::{Digest, ImageReference};
use tempfile::TempDir;

use crate::registry::Registry;

/// Everything a build reported.
#[derive(Default)]
pub(crate) struct Events(pub(crate) Mutex<Vec<Event>>);

impl Progress for Events {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) registry: Registry,
    pub(crate) events: Arc<Events>,
}

/// The helper program; a test that runs as another user gets a copy it may read.
pub(crate) fn launcher() -> Launcher {
    Launcher::with_program(
        std::env::var_os("SEKISHO_TEST_HELPER")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_sekisho-builder-helper").into()),
    )
}

/// A few programs, root, and a user that this line of `/etc/passwd` names.
pub(crate) fn root_with_users(root: &Path, app: &str) {
    crate::rootfs::make(root);
    fs::create_dir_all(root.join("root")).unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join("etc/passwd"), format!("root:x:0:0::/root:/bin/sh\n{app}\n")).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:2345:\n").unwrap();
}

impl World {
    pub(crate) async fn new() -> Self {
        let world = Self {
            dir: TempDir::new().unwrap(),
            registry: Registry::start().await,
            events: Arc::default(),
        };
        fs::create_dir(world.context()).unwrap();
        world
    }

    /// With an image `base` of a few programs in the registry.
    pub(crate) async fn with_base() -> Self {
        let world = Self::new().await;
        let root = world.dir.path().join("rootfs");
        root_with_users(&root, "app:x:1234:2345::/home:/");
        fs::write(
            root.join("Dockerfile"),
            "FROM scratch\nCOPY . /\nENV BASE=yes\nRUN [\"rm\", \"/Dockerfile\"]",
        )
        .unwrap();
        let mut options = BuildOptions::new(&root, world.dir.path().join("base-cache"));
        options.launcher = launcher();
        options.destinations = vec![world.image("base")];
        build(options, Arc::new(sekisho_builder::Silent)).await.unwrap();
        world
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub(crate) fn image(&self, name: &str) -> ImageReference {
        format!("{}/{name}", self.registry.host).parse().unwrap()
    }

    /// Writes a file of the context, with its folders.
    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// `BASE` in the Dockerfile means the base image.
    pub(crate) fn dockerfile(&self, text: &str) {
        let base = self.image("base").to_string();
        self.file("Dockerfile", &text.replace("FROM BASE", &format!("FROM {base}")));
    }

    pub(crate) fn options(&self) -> BuildOptions {
        let mut options = BuildOptions::new(self.context(), self.cache());
        options.launcher = launcher();
        options
    }

    pub(crate) async fn try_build(&self, options: BuildOptions) -> Result<BuildResult, BuildError> {
        self.events.0.lock().unwrap().clear();
        build(options, Arc::clone(&self.events) as _).await
    }

    /// Builds a Dockerfile, which must work.
    pub(crate) async fn build(&self, dockerfile: &str) -> BuildResult {
        self.dockerfile(dockerfile);
        match self.try_build(self.options()).await {
            Ok(result) => result,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Builds a Dockerfile, which must not work.
    pub(crate) async fn fail(&self, dockerfile: &str) -> BuildError {
        self.dockerfile(dockerfile);
        self.try_build(self.options()).await.unwrap_err()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Vec<u8> {
        fs::read(self.cache().join("blobs/sha256").join(digest.hex())).unwrap()
    }

    pub(crate) fn config(&self, result: &BuildResult) -> ImageConfig {
        let manifest: ImageManifest =
            serde_json::from_slice(&self.blob(&result.manifest_digest)).unwrap();
        assert_eq!(manifest.config.digest, result.config_digest);
        ImageConfig::parse(&self.blob(&result.config_digest)).unwrap()
    }

    /// One line per entry of a layer: path, kind and mode, owner, content or target.
    pub(crate) fn layer(&self, digest: &Digest) -> Vec<String> {
        let bytes = self.blob(digest);
        let mut lines = Vec::new();
        layer::read(bytes.as_slice(), &layer::Limits::default(), &mut |entry, data| {
            let mut text = String::new();
            let kind = match &entry.kind {
                EntryKind::File { .. } => {
                    data.read_to_string(&mut text).unwrap_or_default();
                    "f"
                }
                EntryKind::Directory => "d",
                EntryKind::Symlink { target } | EntryKind::HardLink { target } => {
                    text = String::from_utf8_lossy(target).into_owned();
                    if matches!(entry.kind, EntryKind::Symlink { .. }) { "l" } else { "h" }
                }
                _ => "?",
            };
            assert!(entry.mtime <= sekisho_builder::LAYER_EPOCH);
            let path = entry.display_path();
            lines.push(format!("{path} {kind}{:o} {}:{} {text}", entry.mode, entry.uid, entry.gid));
            Ok(())
        })
        .unwrap();
        lines
    }

    /// The entries of the last layer.
    pub(crate) fn last_layer(&self, result: &BuildResult) -> Vec<String> {
        self.layer(&result.layers.last().unwrap().digest)
    }

    /// All files of the image with their content, as a runtime would see them.
    pub(crate) fn files(&self, result: &BuildResult) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for info in &result.layers {
            for line in self.layer(&info.digest) {
                let mut words = line.splitn(4, ' ');
                let path = words.next().unwrap().to_owned();
                let kind = words.next().unwrap();
                let text = words.nth(1).unwrap_or_default().to_owned();
                let name = path.rsplit('/').next().unwrap();
                if let Some(removed) = name.strip_prefix(".wh.") {
                    let removed = path.replace(name, removed);
                    files.retain(|path: &String, _| {
                        *path != removed && !path.starts_with(&format!("{removed}/"))
                    });
                } else if !kind.starts_with('d') {
                    files.insert(path, text);
                }
            }
        }
        files
    }

    pub(crate) fn log(&self) -> Vec<String> {
        let events = self.events.0.lock().unwrap();
        let line = |event: &Event| match event {
            Event::Log { line, .. } => Some(line.clone()),
            _ => None,
        };
        events.iter().filter_map(line).collect()
    }

    /// Nothing of a build may be left but the cache itself.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.cache().join("tmp")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()));
    }
}

/// Whether a peer must be here: `SEKISHO_TEST_PEERS` names those whose absence is no reason to skip.
pub(crate) fn is_wanted(peer: &str) -> bool {
    let wanted = std::env::var_os("SEKISHO_TEST_PEERS").unwrap_or_default();
    wanted.to_string_lossy().split(',').any(|one| one.trim() == peer)
}

/// Which steps were cached, one character each: `c` or `-`.
pub(crate) fn cached(result: &BuildResult) -> String {
    result.steps.iter().map(|step| if step.cached { 'c' } else { '-' }).collect()
}

/// Sets the time of everything in a folder.
pub(crate) fn touch(path: &Path, seconds: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            touch(&entry.unwrap().path(), seconds);
        }
    }
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
