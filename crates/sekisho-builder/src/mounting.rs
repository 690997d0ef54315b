//! `RUN --mount`: what of it belongs in the step's key, and what the sandbox gets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use fs_err as fs;
use secrecy::ExposeSecret as _;
use sekisho_dockerfile::key::Key;
use sekisho_dockerfile::{CacheSharing, Mount, MountKind};
use sekisho_sandbox::{Bind, Layers, MemoryFile, Mount as Shown, SecretBytes};
use sekisho_types::Digest;

use crate::agent::Agent;
use crate::cache_mount::{Lease, Owner};
use crate::copy::{self, CopyError, Match};
use crate::decide::RunStep;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::files::FileMap;
use crate::image::Layer;
use crate::options::Secret;
use crate::origin::Origin;

/// Largest secret, in bytes; BuildKit's limit.
const MAX_SECRET_BYTES: u64 = 500 << 10;

/// Separates cache mounts that have the same id.
const CACHE_NAMESPACE_ARG: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Where each mount of a RUN takes its files from; `None` is the context, or nowhere.
pub(crate) type Origins = Vec<Option<Origin>>;

/// What a command gets to see, and what has to be done about it afterwards.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<Shown>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) secret_env: Vec<(String, SecretBytes)>,
    /// To be committed when the command ends.
    pub(crate) leases: Vec<Lease>,
    /// Keys of the caches that the command may write to.
    pub(crate) caches: Vec<Digest>,
    /// Serve as long as they live.
    agents: Vec<Agent>,
    /// Values that must not show in the output.
    pub(crate) masks: Vec<String>,
}

impl Engine {
    /// Adds what a command can see through its mounts. What is in a cache, a secret or an agent must
    /// not matter to the result; what is in a bind mount does.
    pub(crate) fn mounts_key(
        &self,
        mut key: Key,
        step: &RunStep,
        origins: &Origins,
    ) -> Result<Key, BuildError> {
        for (mount, origin) in step.mounts.iter().zip(origins) {
            key = key
                .text("mount", mount.target.as_deref().unwrap_or_default())
                .number("read-only", mount.readonly.map_or(2, u64::from));
            key = match &mount.kind {
                MountKind::Bind { source, .. } => {
                    let origin = self.or_context(origin.as_ref())?;
                    let (files, found) = self.bound(mount, source.as_deref(), &origin)?;
                    let digest = self.match_digest(&files, &found, &origin)?;
                    key.digest("bind", &digest)
                }
                MountKind::Cache { id, source, mode, uid, gid, .. } => {
                    let key = match origin {
                        Some(origin) => origin.add_to(key),
                        None => key,
                    };
                    key.optional("cache", id.as_deref())
                        .optional("source", source.as_deref())
                        .list("owner", [mode, uid, gid].map(|part| format!("{part:?}")))
                }
                MountKind::Tmpfs { size_bytes } => key.number("tmpfs", size_bytes.unwrap_or(0)),
                MountKind::Secret { id, env, mode, uid, gid, .. } => key
                    .optional("secret", id.as_deref())
                    .optional("env", env.as_deref())
                    .list("owner", [mode, uid, gid].map(|part| format!("{part:?}"))),
                MountKind::Ssh { id, mode, uid, gid, .. } => key
                    .optional("ssh", id.as_deref())
                    .list("owner", [mode, uid, gid].map(|part| format!("{part:?}"))),
            };
        }
        Ok(key)
    }

    fn or_context(&self, origin: Option<&Origin>) -> Result<Origin, BuildError> {
        origin.map_or_else(|| self.main_context(), |origin| Ok(origin.clone()))
    }

    /// What a bind mount shows, and all that it is chosen from.
    fn bound(
        &self,
        mount: &Mount,
        source: Option<&str>,
        origin: &Origin,
    ) -> Result<(Arc<FileMap>, Match), BuildError> {
        let files = self.sources(origin)?;
        let written = source.unwrap_or("/");
        let clean = crate::files::absolute("/", written);
        let found = copy::found(&files, &clean.as_bytes()[1..], written).map_err(|error| {
            let place = match (&error, origin) {
                (CopyError::NotFound(_), Origin::Context(_)) => " in the build context",
                _ => "",
            };
            self.file.diagnostic(mount.span, format!("{error}{place}"))
        })?;
        Ok((files, found))
    }

    /// Makes everything that the mounts of a command need.
    pub(crate) fn prepare(
        &self,
        step: &RunStep,
        origins: &Origins,
    ) -> Result<Prepared, BuildError> {
        let mut prepared = Prepared::default();
        if let Some((path, content)) = &step.script {
            prepared.mounts.push(Shown::File(MemoryFile {
                target: path.clone(),
                content: SecretBytes(content.clone().into_bytes()),
                mode: 0o755,
                uid: 0,
                gid: 0,
            }));
        }
        if !self.options.extra_hosts.is_empty() {
            prepared.mounts.push(Shown::File(self.hosts()));
        }
        for (mount, origin) in step.mounts.iter().zip(origins) {
            let target = mount.target.clone().unwrap_or_default();
            match &mount.kind {
                MountKind::Bind { source, .. } => {
                    let origin = self.or_context(origin.as_ref())?;
                    let shown = self.bind(mount, source.as_deref(), &origin, target)?;
                    prepared.mounts.push(shown);
                }
                MountKind::Cache { .. } => {
                    let shown = self.cache(mount, origin.as_ref(), target, &mut prepared)?;
                    prepared.mounts.push(shown);
                }
                MountKind::Tmpfs { size_bytes } => {
                    prepared.mounts.push(Shown::Tmpfs { target, size_bytes: *size_bytes });
                }
                MountKind::Secret { .. } => self.secret(mount, &mut prepared)?,
                MountKind::Ssh { .. } => self.ssh(mount, target, &mut prepared)?,
            }
        }
        Ok(prepared)
    }

    /// `/etc/hosts` with the hosts of `--add-host`.
    fn hosts(&self) -> MemoryFile {
        let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned();
        for (name, address) in &self.options.extra_hosts {
            text.push_str(&format!("{address}\t{name}\n"));
        }
        let content = SecretBytes(text.into_bytes());
        MemoryFile { target: "/etc/hosts".to_owned(), content, mode: 0o644, uid: 0, gid: 0 }
    }

    /// Trees of a chain, the topmost first; never none, for overlayfs wants one.
    pub(crate) fn trees(&self, chain: &[Layer]) -> Result<Vec<PathBuf>, BuildError> {
        let mut lower = Vec::new();
        for layer in chain.iter().rev() {
            self.check()?;
            let tree = self.layers.tree(layer, self.isolation)?;
            // overlayfs refuses the same folder twice (two steps that changed nothing, say), and needs it
            // only once: whatever the lower one says about a path, the upper one says as well.
            if !lower.contains(&tree) {
                lower.push(tree);
            }
        }
        Ok(lower)
    }

    fn folder(&self) -> Result<PathBuf, BuildError> {
        Ok(self.layers.session.folder("mount").context("cannot make a folder")?)
    }

    fn bind(
        &self,
        mount: &Mount,
        source: Option<&str>,
        origin: &Origin,
        target: String,
    ) -> Result<Shown, BuildError> {
        let (files, found) = self.bound(mount, source, origin)?;
        let mut lower = match origin {
            Origin::Layers(chain) => self.trees(chain)?,
            Origin::Context(_) => {
                let folder = self.folder()?;
                self.materialise(&files, &found, origin, &folder, false)?;
                vec![folder]
            }
        };
        if lower.is_empty() {
            lower.push(self.folder()?);
        }
        let writable = match mount.readonly {
            Some(false) => {
                let folder = self.folder()?;
                for name in ["upper", "work"] {
                    fs::create_dir(folder.join(name)).context("cannot make a folder")?;
                }
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(folder.join("upper"), std::fs::Permissions::from_mode(0o755))
                    .context("cannot make a folder")?;
                Some(folder)
            }
            _ => None,
        };
        let is_folder = files.get(&found.root).is_none_or(crate::files::Node::is_directory);
        let source = String::from_utf8(found.root)
            .map_err(|_| self.file.diagnostic(mount.span, "the source's name is not UTF-8"))?;
        Ok(Shown::Layers(Layers { lower, writable, source, is_folder, target }))
    }

    fn cache(
        &self,
        mount: &Mount,
        origin: Option<&Origin>,
        target: String,
        prepared: &mut Prepared,
    ) -> Result<Shown, BuildError> {
        let MountKind::Cache { id, source, sharing, mode, uid, gid, .. } = &mount.kind else {
            return Err(anyhow::anyhow!("not a cache mount").into());
        };
        let namespace = self.options.build_args.get(CACHE_NAMESPACE_ARG);
        let key: Digest = Key::new("sekisho.cache-mount.v1")
            .text("id", id.as_deref().unwrap_or(&target))
            .optional("namespace", namespace.map(String::as_str))
            .finish();
        let (store, isolation) = (self.layers.store.clone(), self.isolation);
        // One command that mounts a cache twice must not wait for itself.
        let twice = prepared.leases.iter().any(|lease| lease.is_of(&store, isolation, &key));
        let owner =
            Owner { mode: mode.unwrap_or(0o755), uid: uid.unwrap_or(0), gid: gid.unwrap_or(0) };
        let cancel = self.cancel.clone();
        let base = match origin {
            Some(origin) => {
                let (files, found) = self.bound(mount, source.as_deref(), origin)?;
                let folder = self.folder()?;
                self.materialise(&files, &found, origin, &folder, true)?;
                Some(folder)
            }
            None => None,
        };
        let lease = Lease::take(
            &store,
            &self.layers.session,
            (isolation, &key),
            *sharing == CacheSharing::Locked && !twice,
            owner,
            || Ok::<_, BuildError>(base),
            || if cancel.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(()) },
        )?;
        let mut lower = lease.lower.clone();
        let read_only = mount.readonly == Some(true);
        if lower.is_empty() && read_only {
            lower.push(self.folder()?);
        }
        let writable = (!read_only).then(|| lease.writable.clone());
        if !read_only {
            prepared.leases.push(lease);
            prepared.caches.push(key);
        }
        Ok(Shown::Layers(Layers {
            lower,
            writable,
            source: String::new(),
            is_folder: true,
            target,
        }))
    }

    fn secret(&self, mount: &Mount, prepared: &mut Prepared) -> Result<(), BuildError> {
        let MountKind::Secret { id, env, required, mode, uid, gid } = &mount.kind else {
            return Ok(());
        };
        let id = id.as_deref().unwrap_or_default();
        let value = match self.options.secrets.get(id) {
            Some(secret) => {
                read_secret(secret).with_context(|| format!("cannot read the secret `{id}`"))?
            }
            None if *required => {
                let message = format!("the build was not given the secret `{id}`");
                let hint = format!("give it with `--secret id={id},src=FILE` or `,env=NAME`");
                return Err(self.file.diagnostic(mount.span, message).with_hint(hint).into());
            }
            None => return Ok(()),
        };
        prepared.masks.extend(
            String::from_utf8_lossy(&value.0)
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_owned),
        );
        if let Some(name) = env {
            prepared.secret_env.push((name.clone(), value.clone()));
        }
        if let Some(target) = &mount.target {
            prepared.mounts.push(Shown::File(MemoryFile {
                target: target.clone(),
                content: value,
                mode: mode.unwrap_or(0o400),
                uid: uid.unwrap_or(0),
                gid: gid.unwrap_or(0),
            }));
        }
        Ok(())
    }

    fn ssh(
        &self,
        mount: &Mount,
        target: String,
        prepared: &mut Prepared,
    ) -> Result<(), BuildError> {
        let MountKind::Ssh { id, required, mode, uid, gid } = &mount.kind else { return Ok(()) };
        let id = id.as_deref().unwrap_or("default");
        let Some(real) = self.options.ssh.get(id) else {
            if !*required {
                return Ok(());
            }
            let message = format!("the build was not given the ssh agent `{id}`");
            let hint = format!("give it with `--ssh {id}`, or `--ssh {id}=SOCKET`");
            return Err(self.file.diagnostic(mount.span, message).with_hint(hint).into());
        };
        let owner = self.isolation.has_owners().then(|| (uid.unwrap_or(0), gid.unwrap_or(0)));
        // Names of sockets are limited to 108 bytes, and a session's folder may be longer.
        let folder = tempfile::Builder::new().prefix("sekisho-ssh-").tempdir();
        let folder = folder.context("cannot make a folder for a socket")?;
        let agent = Agent::start(folder, real, mode.unwrap_or(0o600), owner)
            .context("cannot make a socket for the ssh agent")?;
        if !prepared.env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
            prepared.env.push(("SSH_AUTH_SOCK".to_owned(), target.clone()));
        }
        let source = agent.path().to_owned();
        prepared.mounts.push(Shown::Bind(Bind { source, target, read_only: false }));
        prepared.agents.push(agent);
        Ok(())
    }
}

fn read_secret(secret: &Secret) -> anyhow::Result<SecretBytes> {
    let bytes = match secret {
        Secret::Value(value) => value.expose_secret().as_bytes().to_vec(),
        Secret::File(path) => {
            let size = fs::metadata(path)?.len();
            anyhow::ensure!(size <= MAX_SECRET_BYTES, "it has more than {MAX_SECRET_BYTES} bytes");
            fs::read(path)?
        }
    };
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_SECRET_BYTES,
        "it has more than {MAX_SECRET_BYTES} bytes"
    );
    Ok(SecretBytes(bytes))
}

/// Removes what the sandbox had to make for mounts to be put on, if it is as empty as it was made.
///
/// `before` is what was there: a folder that the image has is left.
pub(crate) fn remove_stubs(upper: &Path, before: &FileMap, step: &RunStep) -> anyhow::Result<()> {
    for mount in &step.mounts {
        let Some(target) = &mount.target else { continue };
        let Ok(target) = before.resolve(target.as_bytes(), true) else { continue };
        let ways: Vec<&[u8]> = crate::files::ancestors(&target).collect();
        let disk = crate::upper::on_disk(upper, &target);
        let empty_file =
            fs::symlink_metadata(&disk).is_ok_and(|there| there.is_file() && there.len() == 0);
        if before.get(&target).is_none() && empty_file {
            fs::remove_file(&disk)?;
        }
        for path in std::iter::once(target.as_slice()).chain(ways.into_iter().rev()) {
            let disk = crate::upper::on_disk(upper, path);
            if before.get(path).is_some() {
                break;
            }
            // It is gone, it is no folder, or the command put something in it.
            if std::fs::remove_dir(&disk).is_err() && disk.exists() {
                break;
            }
        }
    }
    Ok(())
}
