//! The files that name packages. Each reader takes the whole file and never fails as a whole: what
//! it understands is in `packages`, what it does not is in `problems`.

pub(crate) mod apk;
pub(crate) mod dpkg;
pub(crate) mod npm;
pub(crate) mod python;

use sekisho_advisory::Source;

use crate::index::Found;

/// Longest name or version that is kept, in bytes. npm allows 214, Debian names no limit.
const MAX_TEXT_BYTES: usize = 512;

/// Longest licence that is kept, in bytes: an expression, not the text itself.
const MAX_LICENCE_BYTES: usize = 200;

/// Most problems of one file that are listed; one more says how many there were.
const MAX_PROBLEMS: usize = 8;

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) packages: Vec<Found>,
    /// Sentences without a full stop.
    pub(crate) problems: Vec<String>,
}

impl Parsed {
    fn broken(problem: impl Into<String>) -> Self {
        Self { packages: Vec::new(), problems: vec![problem.into()] }
    }

    /// Takes a package, or says why not.
    fn push(&mut self, name: &str, version: &str, source: Option<Source>, dev: bool) {
        if name.is_empty() || version.is_empty() {
            self.problems.push("a package has no name or no version".to_owned());
            return;
        }
        // Both stand in lines that people and terminals are shown.
        let own = [name, version];
        let its = source.iter().flat_map(|source| [source.name.as_str(), source.version.as_str()]);
        if own.into_iter().chain(its).any(|text| text.contains(char::is_control)) {
            self.problems.push("a package has a control character in its name".to_owned());
            return;
        }
        let source_bytes =
            source.as_ref().map_or(0, |source| source.name.len() + source.version.len());
        if name.len().max(version.len()).max(source_bytes / 2) > MAX_TEXT_BYTES {
            self.problems.push("a package has a name or version of more than 512 bytes".to_owned());
            return;
        }
        let source = source.filter(|source| source.name != name || source.version != version);
        self.packages.push(Found {
            name: name.to_owned(),
            version: version.to_owned(),
            source,
            dev,
            licence: None,
        });
    }

    /// Says the licence of the package that was just taken.
    fn licence(&mut self, name: &str, licence: &str) {
        let licence = licence.trim();
        let good =
            (1..=MAX_LICENCE_BYTES).contains(&licence.len()) && !licence.contains(char::is_control);
        if let Some(package) = self.packages.last_mut().filter(|it| good && it.name == name) {
            package.licence = Some(licence.to_owned());
        }
    }

    /// Sorts, drops repeats, and shortens the list of problems.
    pub(crate) fn finish(mut self) -> Self {
        // Where one package is needed both ways, it is needed in production.
        self.packages.sort();
        self.packages.dedup_by(|next, kept| {
            next.name == kept.name && next.version == kept.version && next.source == kept.source
        });
        if self.problems.len() > MAX_PROBLEMS {
            let more = self.problems.len() - MAX_PROBLEMS;
            self.problems.truncate(MAX_PROBLEMS);
            self.problems.push(format!("and {more} more problems"));
        }
        self
    }
}
