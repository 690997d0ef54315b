//! Carries out one instruction, or finds out that it need not be.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sekisho_dockerfile::Span;
use sekisho_dockerfile::key::Key;
use sekisho_oci::Platform;
use sekisho_sandbox::{Network, Owner, SandboxError, Used, User};
use sekisho_types::Digest;

use crate::binfmt;
use crate::cache_mount::Lease;
use crate::copy::{CopyError, Destination, Placer};
use crate::decide::RunStep;
use crate::engine::{Engine, Progressed};
use crate::error::{BuildError, StepFailed};
use crate::files::{self, ImagePath, Node};
use crate::image::Layer;
use crate::layers::chain_key;
use crate::mounting::{self, Origins};
use crate::pack::{self, PackError, Packer};
use crate::pyc;
use crate::results::{Done, Known, Made};
use crate::run::{self, Job};
use crate::upper::{self, Owners};
use crate::users::{self, Person};

/// Changes when the same key could give another layer than before.
const RUN_DOMAIN: &str = "sekisho.run.v2";
const WORKDIR_DOMAIN: &str = "sekisho.workdir.v2";

/// 128 + SIGSYS, as a shell says it and as we do: the filter of system calls ended a program.
const CALLED_WHAT_IS_UNKNOWN: i32 = 128 + 31;

/// What that means.
const UNKNOWN_CALLS: &str = "signal 31 ended a program for a system call that the sandbox's filter has no table \
                             for: 32-bit programs do not run beside 64-bit ones here";

impl Engine {
    pub(crate) fn person(
        &self,
        text: &str,
        span: Span,
        chain: &[Layer],
    ) -> Result<Person, BuildError> {
        // Root needs no looking up, and most images have nobody else.
        let root = matches!(text, "" | "0" | "root" | "0:0" | "root:root");
        let (passwd, group) = if root {
            (String::new(), String::new())
        } else {
            (self.layers.text(chain, "etc/passwd")?, self.layers.text(chain, "etc/group")?)
        };
        let text = if root { "0" } else { text };
        users::find(text, &passwd, &group)
            .map_err(|error| self.file.diagnostic(span, error.to_string()).into())
    }

    fn run_key(
        &self,
        step: &RunStep,
        origins: &Origins,
        now: &Progressed,
        network: Network,
    ) -> Result<Digest, BuildError> {
        let mut env: Vec<_> =
            step.env.iter().filter(|(name, _)| !step.free.contains(name)).collect();
        env.sort();
        let key = Key::new(RUN_DOMAIN)
            .digest("parent", &chain_key(&now.chain))
            .list("args", &step.args)
            .pairs("env", env.into_iter().map(|(name, value)| (name, value)))
            .text("user", &now.state.config.user)
            .text("dir", &current_dir(now))
            .flag("network", network == Network::Host)
            .list("hosts", self.options.extra_hosts.iter().map(|(name, at)| format!("{name} {at}")))
            .text("platform", &now.platform.to_string())
            // Without other ids than one, commands do other things.
            .text("isolation", self.isolation.name());
        let key = match &step.script {
            Some((path, content)) => key.text("script", path).text("content", content),
            None => key,
        };
        let key = match self.options.hostname()? {
            Some(name) => key.text("hostname", name),
            None => key,
        };
        Ok(self.mounts_key(key, step, origins)?.finish())
    }

    pub(crate) fn run_step(
        &self,
        step: &RunStep,
        origins: &Origins,
        span: Span,
        now: &Progressed,
    ) -> Result<Done, BuildError> {
        let none = step.no_network || self.options.network == Network::None;
        let network = if none { Network::None } else { Network::Host };
        let key = self.run_key(step, origins, now, network)?;
        let turn = match self.known(&key, span.line)? {
            Known::Done(done) => return Ok(*done),
            Known::Nothing(turn) => turn,
        };
        if now.platform.os != "linux" {
            let message = format!("RUN is for linux, and this stage is for {}", now.platform);
            let hint = "build what it makes in a stage of `FROM --platform=$BUILDPLATFORM`";
            return Err(self.file.diagnostic(span, message).with_hint(hint).into());
        }
        if !binfmt::can_run(&now.platform) {
            let message = format!(
                "RUN for {} on this {} machine needs an emulator",
                now.platform,
                Platform::host()
            );
            let hint = "register one with the flag F, as the package `qemu-user-static` does; or \
                        build this stage with `FROM --platform=$BUILDPLATFORM`";
            return Err(self.file.diagnostic(span, message).with_hint(hint).into());
        }
        let person = self.person(&now.state.config.user, span, &now.chain)?;
        let mut env = step.env.clone();
        if !env.iter().any(|(name, _)| name == "HOME") {
            env.push(("HOME".to_owned(), person.home));
        }
        let prepared = self.prepare(step, origins)?;
        env.extend(prepared.env.iter().cloned());
        let mut mounts = prepared.mounts.clone();
        if network == Network::Host {
            mounts.extend(self.apt_sources(&now.chain));
        }
        let folder = self.layers.session.folder("run").context("cannot make a folder")?;
        let mut lower = self.trees(&now.chain)?;
        if let Some(stamped) = self.stamped(&prepared.caches, now)? {
            lower.insert(0, stamped);
        }
        let below = lower.clone();
        let job = Job {
            number: self.number,
            isolation: self.isolation,
            lower,
            folder: &folder,
            args: step.args.clone(),
            env,
            current_dir: current_dir(now),
            user: person.user.clone(),
            network,
            mounts,
            secret_env: prepared.secret_env.clone(),
            masks: &prepared.masks,
        };
        self.remark(format!("RUN works {}", self.isolation));
        let ran = run::run(job, &self.options, &self.control, &*self.progress)?;
        let took = ran.took;
        let judged = self.judge(ran, step, span);
        // What a cache got is of use to the next one also when the command failed.
        if let Some(failed) = has_failed(&judged) {
            let caches = prepared.leases.into_iter().zip(&prepared.caches);
            self.keep_caches(caches, now, failed).context("cannot keep a cache mount")?;
        }
        let (links, used) = judged?;
        if !step.mounts.is_empty() {
            let before = self.layers.view(&now.chain)?;
            mounting::remove_stubs(&folder.join("upper"), &before, step)?;
        }
        let made = self.take_upper(&folder, (&person.user, &links), &below, now)?;
        sekisho_sandbox::remove_tree(&folder).context("cannot remove the sandbox's folder")?;
        Ok(Done { used: Some(used), sandbox: Some(took), ..self.remember(&[&key], made, turn)? })
    }

    /// Keeps what a command left in its cache mounts.
    fn keep_caches<'c>(
        &self,
        caches: impl Iterator<Item = (Lease, &'c Digest)>,
        now: &Progressed,
        failed: bool,
    ) -> anyhow::Result<()> {
        for (lease, cache) in caches {
            let record = |others: bool| self.saw(cache, now, !failed && !others);
            lease.commit(&self.layers.session, record)?;
        }
        Ok(())
    }

    /// Success, with the owners of links and what was used; or why not.
    fn judge(
        &self,
        ran: run::Ran,
        step: &RunStep,
        span: Span,
    ) -> Result<(HashMap<ImagePath, Owner>, Used), BuildError> {
        let outcome = match ran.outcome {
            Ok(outcome) => outcome,
            Err(SandboxError::Cancelled) => return Err(BuildError::Cancelled),
            Err(source) => {
                return Err(BuildError::Sandbox {
                    file: self.file.file.clone(),
                    line: span.line,
                    command: step.command.clone(),
                    source,
                });
            }
        };
        for remark in outcome.remarks {
            self.remark(remark);
        }
        if outcome.exit.success() {
            return Ok((outcome.link_owners.into_iter().collect(), outcome.used));
        }
        Err(BuildError::StepFailed(Box::new(StepFailed {
            file: self.file.file.clone(),
            line: span.line,
            command: step.command.clone(),
            exit_code: outcome.exit.code(),
            tail: ran.tail,
            hint: match outcome.exit.code() {
                CALLED_WHAT_IS_UNKNOWN => Some(UNKNOWN_CALLS.to_owned()),
                _ => self
                    .options
                    .run_memory_bytes
                    .map(|most| format!("it has at most {} MiB of memory here", most >> 20)),
            },
        })))
    }

    /// Packs what a RUN changed, and keeps its folder as the tree of the layer. What changed nothing
    /// makes no layer.
    fn take_upper(
        &self,
        folder: &Path,
        (user, links): (&User, &HashMap<ImagePath, Owner>),
        below: &[PathBuf],
        now: &Progressed,
    ) -> Result<Made, BuildError> {
        let before = if self.isolation.has_owners() {
            std::sync::Arc::default()
        } else {
            self.layers.view(&now.chain)?
        };
        let owners = Owners { isolation: self.isolation, user, links, before: &before };
        let upper = folder.join("upper");
        let mut packer = Packer::new(self.press()).map_err(machine)?;
        let age = now.ages.run();
        let source = |path: &[u8]| self.source_below(path, below, now);
        let scanned = upper::pack(&upper, &owners, (age, &source), &mut packer)
            .context("cannot read what the command changed")?;
        for socket in scanned.skipped {
            self.remark(format!("`{}` is a socket, and left out", pack::show(&socket)));
        }
        upper::set_time(&upper, crate::LAYER_EPOCH).context("cannot date a folder")?;
        let packed = packer.finish().map_err(machine)?;
        if packed.index.is_empty {
            return Ok(None);
        }
        let made = self.layers.begin(packed)?;
        let aged = Layer { age, ..made.0.clone() };
        self.layers.store.publish_tree(&upper, self.isolation, &aged)?;
        Ok(Some(made))
    }

    /// A Python source of the layers below: as the command saw it in these trees, and as it is in its layer.
    fn source_below(
        &self,
        path: &[u8],
        trees: &[PathBuf],
        now: &Progressed,
    ) -> anyhow::Result<Option<pyc::Source>> {
        let look = |tree: &PathBuf| std::fs::symlink_metadata(upper::on_disk(tree, path)).ok();
        let Some(metadata) = trees.iter().find_map(look).filter(Metadata::is_file) else {
            return Ok(None);
        };
        let in_layer = self.layers.view(&now.chain)?.get(path).map(|node| node.mtime);
        let source =
            |in_layer| pyc::Source { seen: metadata.mtime(), size: metadata.len(), in_layer };
        Ok(in_layer.map(source))
    }

    pub(crate) fn workdir_step(
        &self,
        path: &str,
        span: Span,
        now: &Progressed,
    ) -> Result<Done, BuildError> {
        let user = now.state.config.user.clone();
        let key = Key::new(WORKDIR_DOMAIN)
            .digest("parent", &chain_key(&now.chain))
            .text("path", path)
            .text("user", &user)
            .finish();
        let turn = match self.known(&key, span.line)? {
            Known::Done(done) => return Ok(*done),
            Known::Nothing(turn) => turn,
        };
        let view = self.layers.view(&now.chain)?;
        let failed = |engine: &Self, error: CopyError| {
            BuildError::from(engine.file.diagnostic(span, error.to_string()))
        };
        let resolved = view
            .resolve(path.as_bytes(), true)
            .map_err(|_| failed(self, CopyError::Loop(path.to_owned())))?;
        if resolved.is_empty() || view.get(&resolved).is_some_and(Node::is_directory) {
            return self.remember(&[&key], None, turn);
        }
        // As BuildKit does: the folder belongs to whom USER says, and a lone number is the group too.
        let person = self.person(&user, span, &now.chain)?;
        let gid = user.parse().unwrap_or(person.user.gid);
        let destination = Destination {
            path: path.to_owned(),
            is_folder: true,
            owner: Some((person.user.uid.into(), gid.into())),
            chmod: None,
            keep_owner: false,
        };
        let mut placer = Placer::new(&view, &destination);
        placer.folder(&resolved).map_err(|error| failed(self, error))?;
        let made = self.write(placer.finish(), &destination, &[], None)?;
        self.remember(&[&key], Some(made), turn)
    }
}

/// Whether a command failed that came to an end by itself or at its time limit; `None` when it did not.
fn has_failed<T>(judged: &Result<T, BuildError>) -> Option<bool> {
    match judged {
        Ok(_) => Some(false),
        Err(BuildError::StepFailed(_)) => Some(true),
        Err(BuildError::Sandbox { source: SandboxError::TimedOut { .. }, .. }) => Some(true),
        Err(_) => None,
    }
}

/// Clean, however it is written: what `..` follows need not be there.
fn current_dir(now: &Progressed) -> String {
    files::absolute("/", &now.state.config.working_dir)
}

pub(crate) fn machine(error: PackError) -> BuildError {
    BuildError::Machine(error.into())
}
