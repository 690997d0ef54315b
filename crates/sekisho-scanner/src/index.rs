//! What one layer says, in a few kilobytes.
//!
//! An index is made once, while the layer's bytes arrive, and kept by the layer's digest and
//! [`ANALYSER`]. It holds no verdict: new advisories need no second look at a layer.

mod facts;
mod hashing;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use sekisho_advisory::{NotAssessed, Reason};
use sekisho_oci::layer::{self, AbsolutePaths, Entry, EntryKind, ReadError, Whiteout};
use sekisho_types::{Digest, LeakedSecret};
use serde::{Deserialize, Serialize};

pub use self::facts::{Facts, Found};
use self::hashing::Hashing;
use crate::format::{Parsed, apk, dpkg, npm, python};
use crate::os::parse_os_release;
use crate::secrets::{Finder, FingerprintKey, Language, MAX_SECRETS};
use crate::watch::{Kind, kind, leads_to_system};

/// The version of the analysis. An index of another version is to be made anew.
pub const ANALYSER: u32 = 4;

/// What one index may cost at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of the tar archive. Unlike the reader's own default a leading `/` is accepted: container
    /// runtimes do so, and the scan must see what they see.
    pub layer: layer::Limits,
    /// Bytes of one package file. 64 MiB: the largest lock file we know has 12 MiB.
    pub file_bytes: u64,
    /// Bytes of all package files together. 1 GiB: it bounds the time, only one is held at once.
    pub total_bytes: u64,
    /// Packages in one layer. 200,000: ten times the largest image we know.
    pub packages: usize,
    /// Whiteouts, links and folders that are kept. 100,000.
    pub paths: usize,
    /// What fingerprints of secrets are made with; without it they are empty.
    pub fingerprint_key: Option<FingerprintKey>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer: layer::Limits {
                absolute_paths: AbsolutePaths::MakeRelative,
                ..layer::Limits::default()
            },
            file_bytes: 64 * 1024 * 1024,
            total_bytes: 1024 * 1024 * 1024,
            packages: 200_000,
            paths: 100_000,
            fingerprint_key: None,
        }
    }
}

/// The facts of one layer. Paths are relative to the root, without `./`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerIndex {
    /// [`ANALYSER`] of the program that made it.
    pub analyser: u32,
    /// The digest of the layer's uncompressed bytes, as in the image's config.
    pub diff_id: Digest,
    /// How many entries the layer has.
    pub entries: u64,
    /// Uncompressed size of the layer.
    pub size_bytes: u64,
    /// Paths that this layer removes from lower ones.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<String>,
    /// Folders whose content in lower layers this layer hides.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub opaque: BTreeSet<String>,
    /// Symbolic links that may lead to a package file, with their targets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Folders that may stand where a lower layer has a link.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub directories: BTreeSet<String>,
    /// Other files that may stand where a lower layer has a folder.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub others: BTreeSet<String>,
    /// What the package files say, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Facts>,
    /// Secrets in the layer's files, also in those that a later layer hides; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<LeakedSecret>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_secrets: u64,
    /// What the layer as a whole keeps from being assessed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_assessed: Vec<NotAssessed>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Why a layer has no index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It cannot be read to its end.
    #[error("the layer cannot be analysed")]
    Layer(#[source] ReadError),
}

/// Reads a layer (gzip, zstd or plain) to its end and says what is in it.
///
/// # Errors
/// The layer is damaged, hostile or larger than the limits. Nothing about it can be said then.
pub fn index_layer<R: Read>(reader: R, limits: &Limits) -> Result<LayerIndex, IndexError> {
    let budget = limits.layer.total_bytes;
    let decoder =
        layer::decompress(reader, budget).map_err(ReadError::Io).map_err(IndexError::Layer)?;
    let mut hashing = Hashing::new(decoder);
    let finder = Finder::new(limits.fingerprint_key.clone());
    let mut indexer =
        Indexer { limits, index: empty(), finder: Some(finder), bytes: 0, packages: 0, paths: 0 };
    let summary =
        layer::walk(&mut hashing, &limits.layer, &mut |entry, data| indexer.visit(entry, data))
            .map_err(IndexError::Layer)?;
    // What follows the archive's end belongs to the digest all the same.
    io::copy(&mut hashing, &mut io::sink()).map_err(ReadError::Io).map_err(IndexError::Layer)?;
    let (diff_id, size_bytes) = hashing.finish();
    Ok(LayerIndex { diff_id, size_bytes, entries: summary.entries, ..indexer.index })
}

fn empty() -> LayerIndex {
    LayerIndex {
        analyser: ANALYSER,
        diff_id: Digest::sha256(b""),
        entries: 0,
        size_bytes: 0,
        removed: BTreeSet::new(),
        opaque: BTreeSet::new(),
        links: BTreeMap::new(),
        directories: BTreeSet::new(),
        others: BTreeSet::new(),
        files: BTreeMap::new(),
        secrets: Vec::new(),
        more_secrets: 0,
        not_assessed: Vec::new(),
    }
}

struct Indexer<'a> {
    limits: &'a Limits,
    index: LayerIndex,
    /// Away while it looks.
    finder: Option<Finder>,
    bytes: u64,
    packages: usize,
    paths: usize,
}

impl Indexer<'_> {
    fn visit(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        match entry.whiteout() {
            Some(Whiteout::Opaque { directory }) => {
                if self.room_for_path() {
                    self.index.opaque.insert(text_of(&directory));
                }
                return Ok(());
            }
            Some(Whiteout::Removed { path }) => {
                if self.room_for_path() {
                    self.index.removed.insert(text_of(&path));
                }
                return Ok(());
            }
            // Runtimes leave such files out, so they are not part of the image.
            None if entry.is_whiteout_name() => return Ok(()),
            None => {}
        }
        let path = text_of(&entry.path);
        self.forget(&path, entry.kind == EntryKind::Directory);
        let kind = kind(&path);
        match &entry.kind {
            EntryKind::File { size } => {
                match kind {
                    Some(kind) => {
                        let facts = self.read_file(kind, &path, *size, data)?;
                        self.index.files.insert(path.clone(), facts);
                    }
                    None => {
                        if let Some(language) = self.look_for_secrets(&path, data)? {
                            self.keep_program(&path, language);
                        }
                    }
                }
                self.keep_other(&path);
            }
            EntryKind::HardLink { target } => {
                if let Some(kind) = kind {
                    let facts = self.facts_of_link(kind, &text_of(target));
                    self.index.files.insert(path.clone(), facts);
                }
                self.keep_other(&path);
            }
            EntryKind::Symlink { target } => {
                if (is_high(&path) || kind.is_some()) && self.room_for_path() {
                    self.index.links.insert(path, text_of(target));
                }
            }
            EntryKind::Directory => {
                if kind.is_some() {
                    self.index.files.insert(path.clone(), Facts::Absent);
                }
                if is_high(&path) && self.room_for_path() {
                    self.index.directories.insert(path);
                }
            }
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => {
                if kind.is_some() {
                    self.index.files.insert(path.clone(), Facts::Absent);
                }
                self.keep_other(&path);
            }
        }
        Ok(())
    }

    /// Within a layer a later entry replaces an earlier one of the same path, and what was below
    /// it unless both are folders.
    fn forget(&mut self, path: &str, directory: bool) {
        let index = &mut self.index;
        index.files.remove(path);
        index.directories.remove(path);
        let stood = index.links.remove(path).is_some() | index.others.remove(path);
        if directory && stood {
            // What stood here for a moment has already replaced the lower layers' folder.
            index.removed.insert(path.to_owned());
        }
        if !directory {
            let below = format!("{path}/");
            let end = format!("{path}0"); // '0' follows '/'.
            let gone: Vec<_> =
                index.files.range(below..end).map(|(path, _)| path.clone()).collect();
            for path in gone {
                index.files.remove(&path);
            }
        }
    }

    fn keep_other(&mut self, path: &str) {
        let replaces = !path.contains('/') || leads_to_system(path);
        if replaces && !self.index.files.contains_key(path) && self.room_for_path() {
            self.index.others.insert(path.to_owned());
        }
    }

    fn room_for_path(&mut self) -> bool {
        self.paths += 1;
        if self.paths == self.limits.paths + 1 {
            let detail = format!("it has more than {} whiteouts and links", self.limits.paths);
            self.whole_layer(detail);
        }
        self.paths <= self.limits.paths
    }

    fn whole_layer(&mut self, detail: String) {
        self.index.not_assessed.push(NotAssessed {
            reason: Reason::OverLimit,
            subject: "layer".to_owned(),
            detail,
            path: None,
            layer: None,
        });
    }

    fn facts_of_link(&self, kind_here: Kind, target: &str) -> Facts {
        match self.index.files.get(target) {
            Some(facts) if kind(target) == Some(kind_here) => facts.clone(),
            _ => problem(Reason::UnreadableFile, "it is a hard link to a file that was not read"),
        }
    }

    /// A program whose packages are not read yet.
    fn keep_program(&mut self, path: &str, language: Language) {
        if self.room_for_path() {
            let facts = unread(&format!(
                "it was built of packages of {language:?}, which are not read yet"
            ));
            self.index.files.insert(path.to_owned(), facts);
        }
    }

    fn look_for_secrets(
        &mut self,
        path: &str,
        data: &mut dyn Read,
    ) -> io::Result<Option<Language>> {
        let Some(mut finder) = self.finder.take() else { return Ok(None) };
        let looked = finder.look(path, data, &mut |secret| {
            if self.index.secrets.len() < MAX_SECRETS {
                self.index.secrets.push(secret);
            } else {
                self.index.more_secrets += 1;
            }
        });
        self.finder = Some(finder);
        looked
    }

    fn read_file(
        &mut self,
        kind: Kind,
        path: &str,
        size: u64,
        data: &mut dyn Read,
    ) -> io::Result<Facts> {
        let known = match kind {
            Kind::Loader => Some(Facts::Present),
            Kind::Rpm => Some(unread("RPM databases are not read yet")),
            Kind::OtherNpmLock => Some(unread("this kind of lock file is not read yet")),
            Kind::Unread(language) => {
                Some(unread(&format!("packages of {language} are not read yet")))
            }
            _ => None,
        };
        if let Some(facts) = known {
            self.look_for_secrets(path, data)?;
            return Ok(facts);
        }
        self.bytes = self.bytes.saturating_add(size);
        if size > self.limits.file_bytes || self.bytes > self.limits.total_bytes {
            self.look_for_secrets(path, data)?;
            return Ok(problem(Reason::OverLimit, "it is too large to be read"));
        }
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        self.look_for_secrets(path, &mut &bytes[..])?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let parsed = match kind {
            Kind::OsRelease => return Ok(Facts::OsRelease(parse_os_release(text))),
            Kind::AlpineRelease | Kind::DebianVersion => {
                let line = text.lines().next().unwrap_or_default().trim();
                return Ok(Facts::Line(line.chars().take(64).collect()));
            }
            Kind::Dpkg | Kind::DpkgPart => dpkg::parse(text),
            Kind::Apk => apk::parse(text),
            Kind::NpmLock => npm::parse_lock(text),
            Kind::NpmPackage => npm::parse_manifest(text),
            Kind::PythonPackage => python::parse_metadata(text),
            Kind::PythonRequirements => python::parse_requirements(text),
            Kind::Loader | Kind::Rpm | Kind::OtherNpmLock | Kind::Unread(_) => Parsed::default(),
        };
        Ok(self.take(parsed.finish()))
    }

    fn take(&mut self, parsed: Parsed) -> Facts {
        self.packages = self.packages.saturating_add(parsed.packages.len());
        if self.packages > self.limits.packages {
            return problem(Reason::OverLimit, "the layer holds too many packages");
        }
        let problems =
            parsed.problems.into_iter().map(|text| (Reason::UnreadableFile, text)).collect();
        Facts::Packages { found: parsed.packages, problems }
    }
}

/// What is there and nobody reads yet.
fn unread(detail: &str) -> Facts {
    problem(Reason::UnsupportedFile, detail)
}

fn problem(reason: Reason, detail: &str) -> Facts {
    Facts::Packages { found: Vec::new(), problems: vec![(reason, detail.to_owned())] }
}

/// Whether a link or folder here can matter to the path of a package file. Deeper ones are left
/// out to keep the index small: what a link there hides is still reported, which is the safe error.
fn is_high(path: &str) -> bool {
    path.bytes().filter(|byte| *byte == b'/').count() < 2 || leads_to_system(path)
}

/// Names need not be UTF-8. Escaping keeps different names different.
fn text_of(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.contains(|c: char| c == '\\' || c.is_control()) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}
