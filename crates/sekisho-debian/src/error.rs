//! What can go wrong between a mirror and a base, and what to do about it.

use std::io;
use std::path::PathBuf;

use sekisho_types::Hint;

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// No archive for the distribution is known.
    #[error("no archive of Debian `{suite}` is known on this machine")]
    NoSource {
        /// The distribution's code name.
        suite: String,
    },
    /// The address of a mirror would give a name or password away.
    #[error("the address of the mirror on `{host}` holds a name or a password")]
    Credentials {
        /// Without them.
        host: String,
    },
    /// A file of this machine.
    #[error("cannot read `{}`", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The mirror did not answer, or not as it should.
    #[error("cannot fetch `{url}`")]
    Fetch {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The mirror refused.
    #[error("cannot fetch `{url}`: the mirror answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// More came than was announced, or than anything may have.
    #[error("`{url}` has more than {limit_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// What came is not what the signed index says.
    #[error("`{url}` is not what the signed index says: {found}, not {expected}")]
    Checksum {
        /// What was asked for.
        url: String,
        /// SHA-256, in hex, and size.
        expected: String,
        /// The same of what came.
        found: String,
    },
    /// No key of the keyring made the signature.
    #[error("`{url}` is not signed by a key of `{}`", .keyring.display())]
    Signature {
        /// The signed file.
        url: String,
        /// The keys that were tried.
        keyring: PathBuf,
    },
    /// The signature holds, but the time of the key that made it has passed.
    #[error("`{url}` is signed by a key of `{}` that ended {ended}", .keyring.display())]
    KeyExpired {
        /// The signed file.
        url: String,
        /// Where the key is.
        keyring: PathBuf,
        /// RFC 3339.
        ended: String,
    },
    /// The keyring holds no keys.
    #[error("`{}` is no keyring", .path.display())]
    Keyring {
        /// Which.
        path: PathBuf,
    },
    /// The release's own end has passed.
    #[error("`{url}` was valid until {until}")]
    Expired {
        /// The release.
        url: String,
        /// As it says.
        until: String,
    },
    /// The release is not of what was asked for, or has no form.
    #[error("`{url}` is not a release of `{suite}`: {reason}")]
    Release {
        /// The release.
        url: String,
        /// What was asked for.
        suite: String,
        /// What is wrong.
        reason: String,
    },
    /// A compressed file cannot be read.
    #[error("cannot read `{name}`: {reason}")]
    Archive {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// What packages need is not there.
    #[error("package `{package}` needs `{needs}`, which no package is")]
    Unresolved {
        /// Who needs it; empty for what was asked for.
        package: String,
        /// As written in the index.
        needs: String,
    },
}

impl Hint for DebianError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSource { suite } => format!(
                "name a mirror of Debian with `--mirror URL` (or SEKISHO_DEBIAN_MIRROR), for this machine's \
                 apt has none for `{suite}`; or build FROM another image, as `examples/scratch` does"
            ),
            Self::Credentials { .. } => "every RUN that uses the mirror sees its address, and so do records \
                                         and jobs: name one that wants no password, such as a proxy of \
                                         your own before it"
                .to_owned(),
            Self::Fetch { .. } => "check the network, and `http_proxy` where there is a proxy; or \
                                   name another mirror with `--mirror URL`"
                .to_owned(),
            Self::Status { status: 404, .. } => {
                "the mirror does not have it; it may be in the middle of an update: try again in a \
                 few minutes, or name another with `--mirror URL`"
                    .to_owned()
            }
            Self::Checksum { .. } => {
                "the mirror is in the middle of an update, or broken: try again in a few minutes, or \
                 name another with `--mirror URL`"
                    .to_owned()
            }
            Self::Signature { .. } | Self::KeyExpired { .. } | Self::Keyring { .. } => {
                "install or update the package `debian-archive-keyring`, or name the right keyring \
                 with `--keyring FILE`"
                    .to_owned()
            }
            Self::Expired { .. } => "the mirror is no longer updated, or this machine's clock is \
                                     wrong: name another mirror with `--mirror URL`, or accept it \
                                     with `--allow-expired`"
                .to_owned(),
            _ => return None,
        })
    }
}
