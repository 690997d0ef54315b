//! Which archives to ask: what is configured, else what this machine's apt has (sources.list(5)).

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::DebianError;
use crate::control::{Paragraph, paragraphs};

/// Largest file of sources that is read, in bytes.
const MAX_SOURCES_BYTES: u64 = 4 << 20;

/// Files of sources that are read, at most.
const MAX_SOURCES_FILES: usize = 256;

/// Where Debian keeps the keys of its archive.
pub const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What may follow a code name: the archives that a base is made of.
const POCKETS: [&str; 3] = ["", "-updates", "-security"];

/// What an archive of Debian may be called that apt knows without naming its keys: those of other
/// distributions, which are written the same way, have other names.
/// Source: <https://www.debian.org/releases/>.
const NAMES: [&str; 12] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// One archive of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Where the mirror begins, without a `/` at the end.
    pub url: String,
    /// Below `dists`.
    pub suite: String,
    /// Keys, one of which must have signed.
    pub keyring: PathBuf,
    /// Whether a release whose time has passed will do.
    pub allow_expired: bool,
}

/// The archives of a distribution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The distribution's own first.
    pub archives: Vec<Archive>,
}

impl Sources {
    /// The archives of one configured mirror, which has the security updates beside it as Debian's own
    /// mirrors do (`…/debian` and `…/debian-security`).
    ///
    /// # Errors
    /// [`DebianError::Credentials`]
    pub fn of_mirror(
        mirror: &str,
        suite: &str,
        keyring: &Path,
        allow_expired: bool,
    ) -> Result<Self, DebianError> {
        refuse_credentials(mirror)?;
        let mirror = mirror.trim_end_matches('/');
        let archives = POCKETS.map(|pocket| Archive {
            url: match pocket {
                "-security" => format!("{mirror}-security"),
                _ => mirror.to_owned(),
            },
            suite: format!("{suite}{pocket}"),
            keyring: keyring.to_owned(),
            allow_expired,
        });
        Ok(Self { archives: archives.into() })
    }

    /// What the apt below `etc` (usually `/etc/apt`) knows about a distribution.
    ///
    /// A machine of another Debian has the same mirrors: its code name is exchanged. Archives with other
    /// keys than Debian's are somebody else's, and left out.
    ///
    /// # Errors
    /// [`DebianError::NoSource`] when there are none; [`DebianError::Credentials`].
    pub fn of_apt(etc: &Path, suite: &str, allow_expired: bool) -> Result<Self, DebianError> {
        let mut all = Vec::new();
        for path in files(etc) {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.len() > MAX_SOURCES_BYTES {
                continue;
            }
            let text = fs::read_to_string(&path)
                .map_err(|source| DebianError::File { path: path.clone(), source })?;
            if path.extension().is_some_and(|extension| extension == "sources") {
                all.extend(paragraphs(&text).flat_map(stanza));
            } else {
                all.extend(text.lines().flat_map(one_line));
            }
        }
        let archives = choose(&all, suite, allow_expired);
        if archives.is_empty() {
            return Err(DebianError::NoSource { suite: suite.to_owned() });
        }
        archives.iter().try_for_each(|archive| refuse_credentials(&archive.url))?;
        Ok(Self { archives })
    }

    /// As a file of apt's, for a sandbox in which Debian's keyring is installed.
    pub fn to_apt(&self) -> String {
        let stanza = |archive: &Archive| {
            let check = if archive.allow_expired { "Check-Valid-Until: no\n" } else { "" };
            format!(
                "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {ARCHIVE_KEYRING}\n{check}",
                archive.url, archive.suite
            )
        };
        self.archives.iter().map(stanza).collect::<Vec<_>>().join("\n")
    }
}

/// An address goes into records, into what RUNs see and into the environment of jobs, so it must hold no secret.
///
/// # Errors
/// [`DebianError::Credentials`]
pub fn refuse_credentials(url: &str) -> Result<(), DebianError> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((_, host)) => Err(DebianError::Credentials { host: host.to_owned() }),
        None => Ok(()),
    }
}

/// `sources.list`, then the parts by name.
fn files(etc: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<_> = std::fs::read_dir(etc.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "sources" || extension == "list")
        })
        .take(MAX_SOURCES_FILES)
        .collect();
    parts.sort();
    let main = etc.join("sources.list");
    main.is_file().then_some(main).into_iter().chain(parts).collect()
}

/// One address and suite, as apt knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    url: String,
    suite: String,
    keyring: Option<String>,
    allow_expired: bool,
}

fn words(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split_whitespace()
}

pub(crate) fn stanza(text: &str) -> Vec<Known> {
    let fields = Paragraph::parse(text);
    let has = |field: &str, wanted: &str| words(fields.get(field)).any(|word| word == wanted);
    let off = fields.get("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if off || !has("Types", "deb") || !has("Components", "main") {
        return Vec::new();
    }
    let allow_expired =
        fields.get("Check-Valid-Until").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    let keyring = fields.get("Signed-By").map(str::to_owned);
    let mut known = Vec::new();
    for url in words(fields.get("URIs")) {
        for suite in words(fields.get("Suites")) {
            known.push(Known {
                url: url.trim_end_matches('/').to_owned(),
                suite: suite.to_owned(),
                keyring: keyring.clone(),
                allow_expired,
            });
        }
    }
    known
}

/// `deb [options] url suite component…`
pub(crate) fn one_line(line: &str) -> Option<Known> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut options = "";
    if let Some(after) = rest.strip_prefix('[') {
        (options, rest) = after.split_once(']')?;
    }
    let mut words = rest.split_whitespace();
    let (url, suite) = (words.next()?, words.next()?);
    words.any(|word| word == "main").then(|| Known {
        url: url.trim_end_matches('/').to_owned(),
        suite: suite.to_owned(),
        keyring: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned),
        allow_expired: options.split_whitespace().any(|option| option == "check-valid-until=no"),
    })
}

/// Debian's own among what apt knows, for one distribution.
pub(crate) fn choose(all: &[Known], suite: &str, allow_expired: bool) -> Vec<Archive> {
    let mut archives: Vec<Archive> = Vec::new();
    for pocket in POCKETS {
        for known in all {
            let code = known.suite.strip_suffix(pocket).unwrap_or_default();
            let plain = !code.is_empty() && code.chars().all(|letter| letter.is_ascii_lowercase());
            let http = known.url.starts_with("http://") || known.url.starts_with("https://");
            let debian = match &known.keyring {
                Some(keyring) => keyring
                    .split_whitespace()
                    .any(|one| one.ends_with("/debian-archive-keyring.gpg")),
                None => NAMES.contains(&code),
            };
            if !plain || !http || !debian {
                continue;
            }
            let keyring = known.keyring.as_ref().and_then(|keyring| {
                keyring.split_whitespace().find(|one| one.starts_with('/')).map(PathBuf::from)
            });
            let archive = Archive {
                url: known.url.clone(),
                suite: format!("{suite}{pocket}"),
                keyring: keyring.unwrap_or_else(|| ARCHIVE_KEYRING.into()),
                allow_expired: allow_expired || known.allow_expired,
            };
            // The first one that has a pocket serves it.
            if archives.iter().all(|other| other.suite != archive.suite) {
                archives.push(archive);
            }
        }
    }
    // Updates alone are no distribution.
    if archives.first().is_none_or(|first| first.suite != suite) {
        archives.clear();
    }
    archives
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "Types: deb deb-src\nURIs: http://mirror.example/debian/\n\
        Suites: bookworm bookworm-updates\nComponents: main contrib\n\
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n\
        Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: https://other.example\nSuites: bookworm\nComponents: main\n\
        Signed-By: /usr/share/keyrings/other.gpg\n\n\
        Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n";

    fn of(name: &str, text: &str, suite: &str) -> Result<Sources, DebianError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        Sources::of_apt(dir.path(), suite, false)
    }

    fn pairs(sources: &Sources) -> Vec<(&str, &str)> {
        let pair = |archive: &'_ Archive| (archive.url.clone(), archive.suite.clone());
        let pairs: Vec<_> = sources.archives.iter().map(pair).collect();
        pairs.leak().iter().map(|(url, suite)| (url.as_str(), suite.as_str())).collect()
    }

    #[test]
    fn apt_of_this_machine_serves_both_distributions() {
        let here = of("sources.list.d/debian.sources", DEB822, "bookworm").unwrap();
        let want = [
            ("http://mirror.example/debian", "bookworm"),
            ("http://mirror.example/debian", "bookworm-updates"),
            ("http://mirror.example/debian-security", "bookworm-security"),
        ];
        assert_eq!(pairs(&here), want);
        let other = of("sources.list.d/debian.sources", DEB822, "trixie").unwrap();
        assert_eq!(other.archives[2].suite, "trixie-security");
        assert_eq!(other.archives[2].url, "http://mirror.example/debian-security");
        // What is written for the sandbox is read back the same.
        let again = of("sources.list.d/x.sources", &here.to_apt(), "bookworm").unwrap();
        assert_eq!(again, here);
    }

    #[test]
    fn the_old_form_and_its_options() {
        let text = "# a comment\ndeb-src http://m.example/debian trixie main\n\
            deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no ] \
            http://m.example/debian trixie main non-free # said\n\
            deb http://m.example/debian trixie-backports main\ndeb cdrom:[x]/ trixie main\n";
        let sources = of("sources.list", text, "trixie").unwrap();
        assert_eq!(pairs(&sources), [("http://m.example/debian", "trixie")]);
        assert!(sources.archives[0].allow_expired);
    }

    #[test]
    fn no_source_is_told_with_a_way_out() {
        for text in [
            "",
            "deb http://m.example/debian bookworm-updates main\n",
            "deb x\n",
            // Another distribution.
            "deb http://m.example/ubuntu jammy main restricted\n",
        ] {
            let error = of("sources.list", text, "bookworm").unwrap_err();
            assert_eq!(
                error.to_string(),
                "no archive of Debian `bookworm` is known on this machine"
            );
            assert!(sekisho_types::Hint::hint(&error).unwrap().contains("--mirror"));
        }
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_not_repeated() {
        let of_mirror = |url: &str| Sources::of_mirror(url, "trixie", Path::new("/k"), true);
        for url in
            ["http://ann:hush@m.example/debian", "https://hush@m.example", "ann:hush@m.example"]
        {
            let error = of_mirror(url).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the address of the mirror on `m.example` holds a name or a password"
            );
            assert!(!format!("{error:?}").contains("hush"));
        }
        assert!(of_mirror("http://m.example/debian/pool/a@b").is_ok());
        let etc = tempfile::tempdir().unwrap();
        let line = "deb http://ann:hush@m.example/debian bookworm main\n";
        std::fs::write(etc.path().join("sources.list"), line).unwrap();
        let error = Sources::of_apt(etc.path(), "bookworm", false).unwrap_err();
        assert!(matches!(error, DebianError::Credentials { .. }), "{error:?}");
    }

    #[test]
    fn a_mirror_has_its_security_beside_it() {
        let sources =
            Sources::of_mirror("http://m.example/debian/", "trixie", Path::new("/k"), true)
                .unwrap();
        let urls: Vec<_> = sources.archives.iter().map(|archive| archive.url.as_str()).collect();
        let main = "http://m.example/debian";
        assert_eq!(urls, [main, main, "http://m.example/debian-security"]);
    }
}
