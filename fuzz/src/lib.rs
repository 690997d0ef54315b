//! Fuzz targets of everything that reads foreign bytes.
//!
//! ```text
//! seeds ─▶ mutate ─▶ a target: a parser, and what must hold of what it says ─▶ ok, or a finding
//! ```
//!
//! [`targets::all`] is the list; docs/fuzzing.md tells how to run them. A target is a function of
//! bytes that panics when something does not hold, so that the same list serves the test of every
//! change (up to a thousand mutations of a known seed each), hours of the program, and libFuzzer.

pub mod hunt;
pub mod mutate;
pub mod table;
pub mod targets;

use std::io;
use std::path::{Path, PathBuf};

/// Longest input that is made, in bytes. Limits that are larger have tests of their own.
pub const MAX_INPUT: usize = 32 * 1024;

/// A parser of foreign bytes, and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: lower case, with dashes.
    pub name: &'static str,
    /// What is read, in words.
    pub reads: &'static str,
    /// What must hold beyond that it does not panic.
    pub holds: &'static str,
    /// Inputs that are right, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What such inputs are made of: mutations put them in.
    pub words: &'static [&'static str],
    /// How slow it is: the test of every change divides its inputs by this.
    pub cost: u32,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

impl Target {
    /// The seeds, and every case that was found before: the files of `fuzz/cases/NAME`.
    ///
    /// # Errors
    /// When a case cannot be read.
    pub fn corpus(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut corpus = (self.seeds)();
        corpus.extend(files(&repository().join("fuzz/cases").join(self.name))?);
        Ok(corpus)
    }
}

/// The root of the checkout that this was built from.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// What is in the files of a folder, in the order of their names; nothing where there is no folder.
///
/// # Errors
/// When one cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.sort();
    paths.iter().filter(|path| path.is_file()).map(fs_err::read).collect()
}
