//! `sekisho base`: the golden bases of this machine.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use sekisho_builder::{Base, BaseOptions, DebianOptions, Event, Progress};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, hinted};
use crate::printer::Printer;
use crate::settings::DataDir;
use crate::signals::Signals;

/// Bases for `FROM sekisho.local/debian:NAME`, made of the distribution's own signed packages
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sekisho base build trixie\n  \
                        sekisho base build --mirror http://mirror.example/debian\n  \
                        sekisho base list --output json")]
pub(crate) struct BaseArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Folder of the cache [default: `cache` in the data folder]
    #[arg(long, value_name = "DIR", env = "SEKISHO_CACHE_DIR", global = true)]
    cache_dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the bases that are here
    List,
    /// Make a base, unless it is here
    Build(MakeArgs),
    /// Make a base anew where the distribution has newer packages
    Refresh(MakeArgs),
}

#[derive(Args, Debug)]
struct MakeArgs {
    /// The distribution
    #[arg(default_value = "bookworm")]
    suite: Suite,
    #[command(flatten)]
    debian: MirrorArgs,
}

/// Where packages come from
#[derive(Args, Debug)]
pub(crate) struct MirrorArgs {
    /// Mirror of Debian, with its security updates beside it as `URL-security` [default: apt's sources]
    #[arg(
        long,
        value_name = "URL",
        env = "SEKISHO_DEBIAN_MIRROR",
        hide_env_values = true,
        help_heading = "Golden bases"
    )]
    mirror: Option<String>,
    /// Keys of the mirror [default: Debian's]
    #[arg(
        long,
        value_name = "FILE",
        env = "SEKISHO_DEBIAN_KEYRING",
        help_heading = "Golden bases"
    )]
    keyring: Option<PathBuf>,
    /// Take a release whose time has passed
    #[arg(long, env = "SEKISHO_DEBIAN_ALLOW_EXPIRED", help_heading = "Golden bases")]
    allow_expired: bool,
}

impl MirrorArgs {
    pub(crate) fn options(&self) -> DebianOptions {
        DebianOptions {
            mirror: self.mirror.clone(),
            keyring: self.keyring.clone(),
            allow_expired: self.allow_expired,
            ..DebianOptions::default()
        }
    }

    /// The same as variables that say it to another process of ours.
    pub(crate) fn settings(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        // Jobs of anybody see them.
        self.options().check().map_err(with_hint)?;
        let keyring = self.keyring.as_ref().map(|path| {
            let path = std::path::absolute(path).context("finding the keyring")?;
            path.into_os_string().into_string().ok().context("the keyring's path is no UTF-8")
        });
        let all = [
            ("SEKISHO_DEBIAN_MIRROR", self.mirror.clone()),
            ("SEKISHO_DEBIAN_KEYRING", keyring.transpose()?),
            ("SEKISHO_DEBIAN_ALLOW_EXPIRED", self.allow_expired.then(|| "true".to_owned())),
        ];
        Ok(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Suite {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

#[derive(Serialize)]
struct Answer<T> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(flatten)]
    answer: T,
}

#[derive(Serialize)]
struct List<'a> {
    bases: &'a [Base],
}

/// Remarks on stderr.
struct Remarks(Printer);

impl Progress for Remarks {
    fn event(&self, event: Event) {
        if let Event::Note { text } = event {
            self.0.note(&text);
        }
    }
}

/// Lists or makes bases.
pub(crate) async fn run(args: &BaseArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let cache_dir = data.cache_or(args.cache_dir.as_deref())?;
    match &args.verb {
        Verb::List => list(&cache_dir, printer),
        Verb::Build(wanted) => make(cache_dir, wanted, false, printer).await,
        Verb::Refresh(wanted) => make(cache_dir, wanted, true, printer).await,
    }
}

/// The error with the next step that it knows.
fn with_hint(error: anyhow::Error) -> anyhow::Error {
    match sekisho_builder::base::hint(&error) {
        Some(hint) => hinted(format!("{error:#}"), hint),
        None => error,
    }
}

fn list(cache_dir: &std::path::Path, printer: Printer) -> anyhow::Result<Exit> {
    let bases = sekisho_builder::base::list(cache_dir).context("reading the bases")?;
    if printer.is_json() {
        printer.answer_json(&Answer { schema_version: 1, answer: List { bases: &bases } })?;
    } else if bases.is_empty() {
        printer.note("no bases here; `sekisho base build` makes one");
    }
    if !printer.is_json() {
        for base in &bases {
            printer.answer(&line(base))?;
        }
    }
    Ok(if bases.is_empty() { Exit::Nothing } else { Exit::Done })
}

fn line(base: &Base) -> String {
    let date =
        jiff::Timestamp::from_second(base.date).map(|date| date.strftime("%Y-%m-%d").to_string());
    format!(
        "{}  {}  {}  {} packages  {} MB  {}",
        base.reference,
        base.architecture,
        date.unwrap_or_default(),
        base.packages.len(),
        base.size_bytes / 1_000_000,
        base.manifest_digest
    )
}

async fn make(
    cache_dir: PathBuf,
    wanted: &MakeArgs,
    refresh: bool,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let cancel = CancellationToken::new();
    let options = BaseOptions {
        cache_dir,
        launcher: sekisho_sandbox::Launcher::default(),
        debian: wanted.debian.options(),
        cancel: cancel.clone(),
    };
    let mut signals = Signals::listen()?;
    let suite = wanted.suite.name();
    let remarks = Arc::new(Remarks(printer));
    let mut making =
        std::pin::pin!(sekisho_builder::base::make(options, suite.to_owned(), refresh, remarks));
    let made = tokio::select! {
        made = &mut making => made,
        () = signals.next() => {
            cancel.cancel();
            // The sandbox is ended and its folders are removed before this returns.
            let _ = making.await;
            printer.always("interrupted: no base was made; what was fetched is kept for the next time");
            return Ok(Exit::Interrupted);
        }
    };
    let base = made.map_err(|error| match sekisho_builder::base::hint(&error) {
        Some(_) => with_hint(error),
        None => error.context(format!("making the base of Debian {suite}")),
    })?;
    if printer.is_json() {
        printer.answer_json(&Answer { schema_version: 1, answer: &base })?;
    } else {
        printer.answer(&line(&base))?;
    }
    Ok(Exit::Done)
}
