//! The two files by which programs find a plane, or each other.

use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::settings::DataDir;

/// The data folder, held by this process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: std::fs::File,
}

impl Lock {
    /// `None` when another process holds it.
    pub(crate) fn try_take(data: &DataDir) -> anyhow::Result<Option<Self>> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(data.lock_file())
            .with_context(|| format!("opening `{}`", data.lock_file().display()))?;
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Whoever wrote it is dead, for we have its lock.
                Address::remove(data)?;
                Ok(Some(Self { _file: file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).context("locking the data folder"),
        }
    }
}

/// How to reach a plane.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `http://127.0.0.1:PORT/`.
    pub(crate) url: Url,
    /// Its process.
    pub(crate) pid: u32,
    /// Opens what is not GitHub's or a registry's.
    pub(crate) admin_token: SecretString,
}

/// [`Address`] on disk; the file is its owner's alone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    url: Url,
    pid: u32,
    admin_token: String,
}

impl Address {
    /// `None` when no plane says where it is.
    pub(crate) fn read(data: &DataDir) -> anyhow::Result<Option<Self>> {
        let bytes = match fs_err::read(data.plane_file()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("reading where the plane is"),
        };
        let raw: Raw = serde_json::from_slice(&bytes)
            .with_context(|| format!("reading `{}`", data.plane_file().display()))?;
        Ok(Some(Self { url: raw.url, pid: raw.pid, admin_token: raw.admin_token.into() }))
    }

    pub(crate) fn write(&self, data: &DataDir) -> anyhow::Result<()> {
        let raw = Raw {
            url: self.url.clone(),
            pid: self.pid,
            admin_token: self.admin_token.expose_secret().to_owned(),
        };
        // A temporary file is made with mode 0600, so the token is never readable by others.
        let file = tempfile::NamedTempFile::new_in(data.root()).context("making `plane.json`")?;
        serde_json::to_writer(&file, &raw).context("writing `plane.json`")?;
        file.persist(data.plane_file()).context("writing `plane.json`")?;
        Ok(())
    }

    pub(crate) fn remove(data: &DataDir) -> anyhow::Result<()> {
        match fs_err::remove_file(data.plane_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("removing `plane.json`")
            }
            _ => Ok(()),
        }
    }

    /// `127.0.0.1:PORT`, as image references have it.
    pub(crate) fn authority(&self) -> String {
        self.url.authority().to_owned()
    }
}

/// 256 bits from the kernel.
pub(crate) fn new_token() -> anyhow::Result<SecretString> {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    Ok(format!("{}{}", a.simple(), b.simple()).into())
}
