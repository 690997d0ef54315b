//! `sekisho cache`: room on the disk.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sekisho_builder::cache::{CacheLimit, InUse, Pruned};
use sekisho_types::parse_size;
use serde::Serialize;

use crate::exit::{Exit, hinted};
use crate::printer::Printer;
use crate::settings::DataDir;

/// The builder's cache: layers, results, cache mounts
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sekisho cache prune --keep 20G\n  \
                        sekisho cache prune --keep 0 --output json")]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Folder of the cache [default: `cache` in the data folder]
    #[arg(long, value_name = "DIR", env = "SEKISHO_CACHE_DIR", global = true)]
    cache_dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Remove what was used longest ago; golden bases stay, and so does all while a build is running
    Prune(PruneArgs),
}

#[derive(Args, Debug)]
struct PruneArgs {
    /// How much may stay: a number of bytes, or one with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = size)]
    keep: u64,
}

/// Reads `20G`, `512MiB`, `1000`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let form = || "write it as a number with K, M, G or T, such as 20G".to_owned();
    parse_size(text).ok_or_else(form)
}

/// Reads the same, or `none`.
pub(crate) fn limit(text: &str) -> Result<CacheLimit, String> {
    match text {
        "none" => Ok(CacheLimit::Off),
        text => size(text).map(CacheLimit::Bytes).map_err(|form| format!("{form}, or as none")),
    }
}

#[derive(Serialize)]
struct Answer {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(flatten)]
    pruned: Pruned,
}

/// Makes room.
pub(crate) fn run(args: &CacheArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let Verb::Prune(PruneArgs { keep }) = &args.verb;
    let folder = data.cache_or(args.cache_dir.as_deref())?;
    let pruned = sekisho_builder::cache::prune(&folder, *keep).map_err(|error| {
        match error.is::<InUse>() {
            true => hinted(error.to_string(), "run it again when no build is running"),
            false => error,
        }
    })?;
    if printer.is_json() {
        printer.answer_json(&Answer { schema_version: 1, pruned })?;
    } else {
        let mib = |bytes: u64| bytes >> 20;
        let Pruned { removed, freed_bytes, kept_bytes } = pruned;
        let (freed, kept) = (mib(freed_bytes), mib(kept_bytes));
        printer.answer(&format!("removed {removed}, {freed} MiB; kept {kept} MiB"))?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_all_forms() {
        for (text, want) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("20G", Some(20 << 30)),
            ("512MiB", Some(512 << 20)),
            ("1tb", Some(1 << 40)),
            ("", None),
            ("G", None),
            ("1X", None),
            ("-1", None),
            ("99999999T", None),
        ] {
            assert_eq!(size(text).ok(), want, "{text}");
            assert_eq!(limit(text).ok(), want.map(CacheLimit::Bytes), "{text}");
        }
        assert_eq!(limit("none"), Ok(CacheLimit::Off));
    }
}
