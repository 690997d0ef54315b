//! Who else builds the cases: buildah and BuildKit, each with storage of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sekisho_oci::ImageConfig;
use sekisho_oci::layer;

use super::Case;
use super::tree::Built;
use crate::buildkit::{Daemon, Kind, succeeds};

/// Another builder.
pub(super) trait Peer: Sync {
    /// What cases call it: itself, and what it knows besides.
    fn names(&self) -> &'static [&'static str];

    /// # Errors
    /// What it says.
    fn build(&self, case: &Case, context: &Path) -> Result<Built, String>;
}

/// buildah with storage of its own.
pub(super) struct Buildah {
    root: PathBuf,
}

impl Buildah {
    /// With the base in Docker's archive; `None`, and one line, where it cannot run.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(super) fn start(root: PathBuf, base: &Path) -> Option<Self> {
        let found = succeeds(Command::new("buildah").arg("--version"));
        if !found || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: the comparison with buildah needs buildah and root");
            return None;
        }
        fs::create_dir_all(&root).unwrap();
        let peer = Self { root };
        let source = format!("docker-archive:{}", base.display());
        let id = peer.run(&["pull", "--quiet", &source]).unwrap();
        peer.run(&["tag", &id, "localhost/base:latest"]).unwrap();
        Some(peer)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.root.join("root"));
        command.arg("--runroot").arg(self.root.join("run"));
        run(command.args(["--storage-driver", "vfs"]).args(arguments))
    }
}

impl Peer for Buildah {
    fn names(&self) -> &'static [&'static str] {
        &["buildah"]
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
        let layers = manifest["layers"].as_array().unwrap().iter();
        let layers = layers.map(|layer| read(layer["digest"].as_str().unwrap()));
        let config = ImageConfig::parse(&read(manifest["config"]["digest"].as_str().unwrap()));
        let built = Built::new(layers, config.unwrap());
        fs::remove_dir_all(&out).unwrap();
        Ok(Built { history: Vec::new(), ..built })
    }
}

/// BuildKit, of today or of Docker's daemon.
pub(super) struct Buildkit {
    daemon: Daemon,
    folder: PathBuf,
    layout: PathBuf,
}

impl Buildkit {
    /// With the base that every case may use, as a layout and as Docker's archive.
    pub(super) fn start(folder: PathBuf, layout: &Path, archive: &Path) -> Option<Self> {
        let daemon = Daemon::start(&folder)?;
        if matches!(daemon.kind, Kind::Docker(_)) {
            let said = run(daemon.client().arg("load").arg("--input").arg(archive)).unwrap();
            assert!(said.contains("localhost/base:latest"), "{said}");
            run(daemon.client().args(["tag", "localhost/base:latest", "base"])).unwrap();
        }
        Some(Self { daemon, folder, layout: layout.to_owned() })
    }
}

impl Peer for Buildkit {
    fn names(&self) -> &'static [&'static str] {
        match self.daemon.kind {
            Kind::Buildkitd => &["buildkit", "buildkit-now"],
            Kind::Docker(_) => &["buildkit"],
        }
    }

    fn build(&self, case: &Case, context: &Path) -> Result<Built, String> {
        let file = self.folder.join("Dockerfile");
        fs::write(&file, &case.text).unwrap();
        let out = self.folder.join("out.tar");
        let mut client = self.daemon.client();
        match self.daemon.kind {
            Kind::Buildkitd => {
                let index = fs::read(self.layout.join("index.json")).unwrap();
                let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
                let digest = index["manifests"][0]["digest"].as_str().unwrap();
                client.args(["build", "--frontend", "dockerfile.v0"]);
                client.arg("--local").arg(format!("context={}", context.display()));
                client.arg("--local").arg(format!("dockerfile={}", self.folder.display()));
                client.arg("--oci-layout").arg(format!("base={}", self.layout.display()));
                client.arg("--opt").arg(format!("context:base=oci-layout://base@{digest}"));
                client.arg("--output").arg(format!("type=docker,dest={}", out.display()));
                run(&mut client)?;
            }
            Kind::Docker(_) => {
                client.args(["build", "--quiet", "--network", "host", "--tag", &case.name]);
                run(client.arg("--file").arg(&file).arg(context))?;
                run(self.daemon.client().args(["save", &case.name]).arg("--output").arg(&out))?;
            }
        }
        let built = saved(&out);
        Ok(match self.daemon.kind {
            Kind::Buildkitd => built,
            // What steps are called has changed since.
            Kind::Docker(_) => Built { history: Vec::new(), ..built },
        })
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The image in an archive of `docker save`.
fn saved(archive: &Path) -> Built {
    let mut files = std::collections::HashMap::new();
    layer::read(
        fs::read(archive).unwrap().as_slice(),
        &layer::Limits::default(),
        &mut |entry, data| {
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes)?;
            let path = entry.display_path();
            // Layers that are the same are links to one of them.
            if let layer::EntryKind::Symlink { target } = &entry.kind {
                let target = String::from_utf8_lossy(target);
                bytes = files.get(target.trim_start_matches("../")).cloned().unwrap_or_default();
            }
            files.insert(path, bytes);
            Ok(())
        },
    )
    .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let image = &manifest[0];
    let layers = image["Layers"].as_array().into_iter().flatten();
    let layers = layers.map(|layer| files[layer.as_str().unwrap()].clone());
    let config = ImageConfig::parse(&files[image["Config"].as_str().unwrap()]).unwrap();
    Built::new(layers, config)
}
