//! What `docker build` and `buildx build` have besides: files that tell what was built, words that say what is so
//! anyway, and what is not here, which is said with what there is instead.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use sekisho_builder::BuildResult;
use sekisho_types::ImageReference;
use serde_json::json;

use super::hinted;

/// Options of Docker's clients.
#[derive(Args, Debug)]
pub(super) struct DockerArgs {
    /// Write the image's id into a file: the digest of its config, or of the index of several platforms
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what was built into a file, as JSON in the words of buildx
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    #[command(flatten)]
    anyway: Anyway,
    #[command(flatten)]
    elsewhere: Elsewhere,
}

/// What is so whatever is said: a tag is always looked up, and no container is left.
#[derive(Args, Debug)]
struct Anyway {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    pull: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    rm: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    force_rm: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    compress: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    disable_content_trust: Option<Option<bool>>,
}

/// What is not here.
#[derive(Args, Debug)]
struct Elsewhere {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    load: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    squash: Option<Option<bool>>,
    #[arg(long, hide = true)]
    cache_from: Vec<String>,
    #[arg(long, hide = true)]
    cache_to: Vec<String>,
    #[arg(long, hide = true)]
    annotation: Vec<String>,
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, hide = true)]
    shm_size: Option<String>,
    #[arg(long, hide = true)]
    ulimit: Vec<String>,
    #[arg(long, hide = true)]
    cgroup_parent: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    security_opt: Vec<String>,
    #[arg(long, hide = true)]
    memory_swap: Option<String>,
    #[arg(long, hide = true)]
    cpu_period: Option<String>,
    #[arg(long, hide = true)]
    cpu_quota: Option<String>,
    #[arg(short = 'c', long, hide = true)]
    cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    cpuset_mems: Option<String>,
}

impl Elsewhere {
    /// The option that was given, and what there is instead of it.
    fn given(&self) -> Option<(&'static str, &'static str)> {
        let limits = "leave it out: a RUN has the limits of whoever builds, and `--memory`; `--engine buildkit` \
                      passes it on with `--engine-arg`";
        let cache = "leave it out: results are kept in the cache folder of this machine, which `--cache-dir` names \
                     and any number of builds share";
        let on = |given: &Option<Option<bool>>| given.is_some_and(|value| value != Some(false));
        let found = [
            (
                on(&self.load),
                "load",
                "there is no daemon to load it into: `-o type=docker,dest=image.tar` writes what `docker load` \
                 reads, and `-t` names it",
            ),
            (on(&self.squash), "squash", "leave it out: each step keeps its layer"),
            (!self.cache_from.is_empty(), "cache-from", cache),
            (!self.cache_to.is_empty(), "cache-to", cache),
            (
                !self.annotation.is_empty(),
                "annotation",
                "say it of the image with `--label`; `--engine buildkit` passes it on with `--engine-arg`",
            ),
            (
                self.builder.is_some(),
                "builder",
                "leave it out to build here, or name a daemon with `--engine buildkit --engine-host ADDRESS`",
            ),
            (self.shm_size.is_some(), "shm-size", limits),
            (!self.ulimit.is_empty(), "ulimit", limits),
            (self.cgroup_parent.is_some(), "cgroup-parent", limits),
            (
                self.isolation.as_deref().is_some_and(|one| one != "default"),
                "isolation",
                "leave it out: the sandbox is chosen by what this machine allows",
            ),
            (
                !self.security_opt.is_empty(),
                "security-opt",
                "leave it out: every RUN has the same walls",
            ),
            (self.memory_swap.is_some(), "memory-swap", limits),
            (self.cpu_period.is_some(), "cpu-period", limits),
            (self.cpu_quota.is_some(), "cpu-quota", limits),
            (self.cpu_shares.is_some(), "cpu-shares", limits),
            (self.cpuset_cpus.is_some(), "cpuset-cpus", limits),
            (self.cpuset_mems.is_some(), "cpuset-mems", limits),
        ];
        found.into_iter().find(|(given, ..)| *given).map(|(_, name, instead)| (name, instead))
    }
}

impl DockerArgs {
    /// Errors out about what is not here, and removes what an earlier build told: a build that fails tells nothing.
    pub(super) fn heed(&self) -> anyhow::Result<()> {
        match self.elsewhere.given() {
            Some((name, instead)) => {
                Err(hinted(format!("`--{name}` of docker is not to be had here"), instead))
            }
            None => [&self.iidfile, &self.metadata_file].into_iter().flatten().try_for_each(remove),
        }
    }

    /// Writes what was built where that is wanted.
    pub(super) fn tell(
        &self,
        result: &BuildResult,
        names: &[ImageReference],
    ) -> anyhow::Result<()> {
        let id = match result.platforms.len() {
            1 => &result.config_digest,
            _ => &result.manifest_digest,
        };
        if let Some(path) = &self.iidfile {
            write(path, &id.to_string())?;
        }
        if let Some(path) = &self.metadata_file {
            let mut metadata = json!({ "containerimage.digest": result.manifest_digest });
            if result.platforms.len() == 1 {
                metadata["containerimage.config.digest"] = json!(result.config_digest);
            }
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            if !names.is_empty() {
                metadata["image.name"] = json!(names.join(","));
            }
            write(path, &format!("{metadata:#}\n"))?;
        }
        Ok(())
    }
}

fn remove(path: &PathBuf) -> anyhow::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing what an earlier build told")
        }
        _ => Ok(()),
    }
}

/// Whole or not at all: a script that reads it may not wait.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("writing what was built to `{}`", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let name = path.file_name().with_context(failed)?.to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let written = fs_err::write(&beside, text).and_then(|()| fs_err::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written.with_context(failed)
}
