//! Where things are and what was asked for: read once, from flags and the environment.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::cli::GlobalArgs;
use crate::exit::hinted;

/// Every environment variable that Sekisho reads for itself, apart from those of a runner.
///
/// `SEKISHO_DATA_DIR`, `SEKISHO_PORT` and `SEKISHO_OUTPUT` are read by clap; those of AWS are
/// [`sekisho_store::BUCKET_IDENTITY`] and [`sekisho_gate::aws_environment`].
mod env_vars {
    /// XDG base directory specification.
    pub(super) const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
    /// What `XDG_DATA_HOME` defaults to is below it.
    pub(super) const HOME: &str = "HOME";
    /// The folder of docker's config.json.
    pub(super) const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
    /// <https://no-color.org>: set and not empty means no colour.
    pub(super) const NO_COLOR: &str = "NO_COLOR";
    /// Credential of `sekisho hub probe` for a server that is not the plane.
    pub(super) const GITHUB_TOKEN: &str = "SEKISHO_GITHUB_TOKEN";
    /// The folder of the gate's configuration, where that is not in the data folder.
    pub(super) const GATE_CONFIG: &str = "SEKISHO_GATE_CONFIG";
    /// <https://bixense.com/clicolors/>.
    pub(super) const CLICOLOR_FORCE: &str = "CLICOLOR_FORCE";
}

/// The value of an environment variable, `None` when it is empty or not Unicode.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of docker's config.json: as `DOCKER_CONFIG` says, or `~/.docker`.
pub(crate) fn docker_config_dir() -> anyhow::Result<PathBuf> {
    match (env(env_vars::DOCKER_CONFIG), env(env_vars::HOME)) {
        (Some(folder), _) => Ok(folder.into()),
        (None, Some(home)) => Ok(Path::new(&home).join(".docker")),
        (None, None) => bail!("neither `DOCKER_CONFIG` nor `HOME` says where docker's config is"),
    }
}

/// A file that need not be there; the error of any other trouble names it.
pub(crate) fn optional(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match fs_err::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A file of at most so many bytes.
pub(crate) fn small(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let size = fs_err::metadata(path)?.len();
    ensure!(size <= most, "`{}` has {size} bytes, too many", path.display());
    Ok(fs_err::read(path)?)
}

/// What of these is set.
pub(crate) fn environment<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = (String, String)> {
    names.into_iter().filter_map(|name| Some((name.to_owned(), env(name)?)))
}

/// What AWS tells a program in a pod or a task about who it is.
pub(crate) fn aws_identity() -> Vec<(String, String)> {
    // As the bucket's client names its settings.
    let told = environment(sekisho_store::BUCKET_IDENTITY);
    told.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// The token for a GitHub.
pub(crate) fn github_token() -> Option<String> {
    env(env_vars::GITHUB_TOKEN)
}

/// Whether to colour, before it is known whether there is a terminal.
pub(crate) fn colour_wish() -> Option<bool> {
    if env(env_vars::NO_COLOR).is_some() {
        return Some(false);
    }
    env(env_vars::CLICOLOR_FORCE).map(|value| value != "0")
}

/// The folders of one plane. DESIGN: the data folder is all there is; removing it removes the plane.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    gate_config: Option<PathBuf>,
}

impl DataDir {
    /// The folder that was asked for, or the one that the XDG specification gives us.
    pub(crate) fn of(args: &GlobalArgs) -> anyhow::Result<Self> {
        let root = match &args.data_dir {
            Some(folder) => folder.clone(),
            None => match (env(env_vars::XDG_DATA_HOME), env(env_vars::HOME)) {
                (Some(data), _) if Path::new(&data).is_absolute() => {
                    Path::new(&data).join("sekisho")
                }
                (_, Some(home)) => Path::new(&home).join(".local/share/sekisho"),
                _ => bail!("neither `--data-dir` nor `HOME` says where the data folder is"),
            },
        };
        let root = std::path::absolute(&root)
            .with_context(|| format!("finding the data folder `{}`", root.display()))?;
        Ok(Self { root, gate_config: env(env_vars::GATE_CONFIG).map(PathBuf::from) })
    }

    /// Makes the folder for its owner alone, and proves that it can be written.
    ///
    /// A folder that holds something else is not ours to close to others: it is refused.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let root = self.root.display();
        let context = || {
            format!(
                "the data folder `{root}` cannot be written; make it yours, or name another with `--data-dir`"
            )
        };
        fs_err::create_dir_all(&self.root).with_context(context)?;
        let mode = fs_err::metadata(&self.root).with_context(context)?.permissions().mode();
        if mode & 0o077 != 0 {
            let is_empty = fs_err::read_dir(&self.root).with_context(context)?.next().is_none();
            if !is_empty && !self.lock_file().exists() {
                return Err(hinted(
                    format!(
                        "the folder `{root}` is open to others and holds what is not Sekisho's"
                    ),
                    "name a new or empty folder with `--data-dir`",
                ));
            }
            let private = std::fs::Permissions::from_mode(0o700);
            fs_err::set_permissions(&self.root, private).with_context(context)?;
        }
        tempfile::tempfile_in(&self.root).map(drop).with_context(context)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Held by the plane that is up.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.root.join("plane.lock")
    }

    /// How to reach the plane that is up.
    pub(crate) fn plane_file(&self) -> PathBuf {
        self.root.join("plane.json")
    }

    /// Repositories, runs and keys of the hub.
    pub(crate) fn hub(&self) -> PathBuf {
        self.root.join("hub")
    }

    /// Staged content, decisions and keys of the gate.
    pub(crate) fn gate(&self) -> PathBuf {
        self.root.join("gate")
    }

    /// What the gate is told: in its folder, unless another one is named, which it does not write to.
    pub(crate) fn gate_config(&self) -> PathBuf {
        self.gate_config.clone().unwrap_or_else(|| self.gate())
    }

    /// The registry that the gate promotes into.
    pub(crate) fn upstream(&self) -> PathBuf {
        self.root.join("upstream")
    }

    /// Job logs.
    pub(crate) fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// The builder's cache.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The builder's cache, unless another folder was named; then nothing of this one is made.
    pub(crate) fn cache_or(&self, named: Option<&Path>) -> anyhow::Result<PathBuf> {
        if let Some(folder) = named {
            return Ok(folder.to_owned());
        }
        self.create()?;
        Ok(self.cache())
    }

    /// Folders of runners while they live.
    pub(crate) fn runners(&self) -> PathBuf {
        self.root.join("runners")
    }
}
