//! What a gate is told when it opens.

mod issuers;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use sekisho_github::oidc::IssuerError;
use sekisho_policy::{Exceptions, PolicyError};
use sekisho_store::Bucket;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::auth::users::User;
use crate::auth::worker::Workers;
use crate::inspector::Inspector;
use crate::mirror::MirrorConfig;

pub(crate) use issuers::check_prefixes;
pub use issuers::{ClaimNames, Issuer, IssuersError, MAX_ISSUERS_BYTES, Reading, load_issuers};

/// What stays free on the disk unless something else is said: a day of decisions of a busy gate.
const RESERVE_BYTES: u64 = 256 * 1024 * 1024;

/// What a gate is told when it opens.
#[derive(Clone)]
pub struct Config {
    /// Staged content, decisions, analyses and keys: the gate's alone, made where there is none.
    pub dir: PathBuf,
    /// The namespace of what was promoted.
    pub upstream_dir: PathBuf,
    /// How clients reach the gate: `http://127.0.0.1:7350/`.
    pub base_url: Url,
    /// The gate's name in token requests, such as `sekisho-gate`.
    pub service: String,
    /// What `/_gate/` asks for.
    pub admin_token: SecretString,
    /// Who may say who somebody is.
    pub issuers: Vec<Issuer>,
    /// Who has a password, on one machine; none where others can reach the gate.
    pub users: Vec<User>,
    /// Who runs which job where; `None` when nobody knows, and a token works from anywhere.
    pub workers: Option<Arc<dyn Workers>>,
    /// Other registries whose content is read through the gate.
    pub mirror: Option<MirrorConfig>,
    /// The owner whose repositories push under their bare names, on one machine.
    pub local_owner: Option<String>,
    /// What looks into layers.
    pub inspector: Arc<dyn Inspector>,
    /// Cedar text; `None` for the default set.
    pub policies: Option<String>,
    /// Findings that somebody answers for.
    pub exceptions: Exceptions,
    /// Where the time comes from.
    pub clock: Clock,
    /// What need not be said.
    pub options: Options,
}

/// What a gate may be told beside what it must.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything but keys in a bucket that several gates may share, instead of in folders; the
    /// folder then holds what is being written.
    pub bucket: Option<Bucket>,
    /// The folder of the gate's keys; gates on one bucket must share it. `None`: in its own folder.
    pub keys_dir: Option<PathBuf>,
    /// Whether a manifest that is put by digest goes upstream by itself. Else it waits for the index
    /// that names it, where only its own run sees it.
    pub promote_untagged: bool,
    /// Whether a promoted image gets the decision as a signed referrer.
    pub attest: bool,
    /// Bytes of the gate's disk that stay free: below that it takes nothing in, and goes on to serve.
    pub reserve_bytes: u64,
    /// How long decisions and their evidence are kept; `None`: for ever.
    pub retention: Option<SignedDuration>,
    /// What becomes of an OIDC token that is shown as a password.
    pub token_passwords: TokenPasswords,
    /// The promoter that copies what passes to another registry; `None`: it stays here.
    pub promoter: Option<Url>,
}

/// What becomes of an OIDC token that a client shows as a password, again and again, instead of exchanging it once.
/// Where [`Config::workers`] knows its job it opens nothing from elsewhere, whatever stands here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenPasswords {
    /// It is taken for the minutes that it lives.
    #[default]
    Anywhere,
    /// The same, from the address alone that it was shown from first. For a gate that sees its clients' addresses.
    OneAddress,
    /// It is refused: a session is all that is taken as a password.
    Never,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bucket: None,
            keys_dir: None,
            promote_untagged: false,
            attest: true,
            reserve_bytes: RESERVE_BYTES,
            retention: None,
            token_passwords: TokenPasswords::default(),
            promoter: None,
        }
    }
}

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock of one's own, for tests.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system's.
    #[expect(clippy::disallowed_methods, reason = "the one place where the gate reads the clock")]
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Why a gate did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file could not be made or read; the path is in the source.
    #[error("gate could not open its {what}")]
    Io {
        /// Which part.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The policies are not valid.
    #[error("gate has bad policies")]
    Policy(#[source] PolicyError),
    /// An issuer cannot be asked.
    #[error("gate cannot trust an issuer")]
    Issuer(#[source] IssuerError),
    /// Two issuers could have one name for two things.
    #[error("{0}")]
    Prefix(String),
    /// The signing key is damaged.
    #[error("gate's signing key `{0}` is damaged: remove it, and a new one is made")]
    Key(PathBuf),
    /// Passwords are for one machine.
    #[error("a gate at `{0}` has no users with passwords: they are for loopback alone")]
    Users(Url),
    /// The base URL cannot have paths below it.
    #[error("`{0}` is no base URL")]
    BaseUrl(Url),
}

/// Line and column of a byte, both from 1; a column counts characters.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (before.matches('\n').count() + 1, column)
}

/// Reads a file of TOML; an error is `line:column: message`.
pub(crate) fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = place(text, error.span().unwrap_or_default().start);
        format!("{line}:{column}: {}", error.message())
    })
}
