//! A gate of one's own: what its files say, and what looks into layers.
//!
//! The plane opens one on one machine, `sekisho gate serve` opens one for itself. Both read the same files,
//! from the folder `gate` of the data folder, or from where `SEKISHO_GATE_CONFIG` says.

mod advisories;
pub(crate) mod analyser;
mod inspector;
pub(crate) mod service;
pub(crate) mod storage;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::SecretString;
use sekisho_advisory::Threats;
use sekisho_gate::{Clock, Config, Gate, Issuer, MirrorConfig, Options, TokenPasswords, Workers};
use sekisho_policy::Exceptions;
use sekisho_scanner::Attestors;
use url::Url;

use self::analyser::{Analyser, parse_limits};
use crate::settings::{self, DataDir};

/// The key that fingerprints of secrets in images are made with.
const FINGERPRINTS: &str = "fingerprints.key";

/// Who a gate is and whom it knows, which its files do not say.
pub(crate) struct Who {
    /// How clients reach it.
    pub(crate) url: Url,
    /// What `/_gate/` asks for.
    pub(crate) admin_token: SecretString,
    /// Who is trusted beside those that the file names.
    pub(crate) issuers: Vec<Issuer>,
    /// Who knows which job runs where.
    pub(crate) workers: Option<Arc<dyn Workers>>,
    /// The owner that leaves its name away.
    pub(crate) local_owner: Option<String>,
    /// What becomes of OIDC tokens as passwords.
    pub(crate) token_passwords: TokenPasswords,
    /// What copies on what passes.
    pub(crate) promoter: Option<Url>,
}

/// Opens the gate of a data folder.
#[expect(clippy::disallowed_methods, reason = "the advisory data is as old as it is now")]
pub(crate) fn open(data: &DataDir, who: Who) -> anyhow::Result<Gate> {
    let files = data.gate_config();
    let advisories = advisories::read(&files.join("advisories"), jiff::Timestamp::now())
        .context("reading the gate's advisories")?;
    let options =
        Options { token_passwords: who.token_passwords, promoter: who.promoter, ..storage(data)? };
    let keys = options.keys_dir.clone().unwrap_or_else(|| data.gate().join("keys"));
    let config = Config {
        dir: data.gate(),
        upstream_dir: data.upstream(),
        base_url: who.url,
        service: "sekisho-gate".to_owned(),
        admin_token: who.admin_token,
        issuers: [who.issuers, issuers(&files)?].concat(),
        users: crate::cli::gate::users::read(&files.join("users.toml"))?,
        workers: who.workers,
        mirror: mirror(&files)?,
        local_owner: who.local_owner,
        inspector: Arc::new(inspector::Scanner::new(
            advisories,
            threats(&files)?,
            fingerprint_key(&keys)?,
            &attestors(&files)?,
            analyser(&files)?,
        )?),
        policies: optional(&files.join("policies.cedar")).context("reading the gate's rules")?,
        exceptions: exceptions(&files)?,
        clock: Clock::default(),
        options,
    };
    Gate::open(config).context("opening the gate")
}

/// Makes the keys of a gate in a folder, for gates that share them; those that are there stay.
///
/// # Errors
/// The folder cannot be written, or holds a key that is damaged.
pub(crate) fn make_keys(folder: &Path) -> anyhow::Result<()> {
    fs_err::create_dir_all(folder).context("making a folder of keys")?;
    sekisho_gate::make_keys(folder).context("making the gate's keys")?;
    fingerprint_key(folder).map(drop)
}

/// What the gate wrote down, wherever it keeps that.
pub(crate) fn archive(data: &DataDir) -> anyhow::Result<sekisho_gate::Archive> {
    Ok(sekisho_gate::Archive::of(&data.gate(), &storage(data)?))
}

/// `issuers.toml`, where there is one: who is trusted.
fn issuers(files: &Path) -> anyhow::Result<Vec<Issuer>> {
    let path = files.join("issuers.toml");
    let load = |text: String| Ok(sekisho_gate::load_issuers(&path, &text)?);
    let issuers = optional(&path).and_then(|text| text.map_or_else(|| Ok(Vec::new()), load));
    issuers.context("reading the gate's issuers")
}

/// `mirror.toml`, where there is one: which other registries are read through the gate. They are asked as
/// anybody.
fn mirror(files: &Path) -> anyhow::Result<Option<MirrorConfig>> {
    let path = files.join("mirror.toml");
    let Some(text) = optional(&path).context("reading what the gate mirrors")? else {
        return Ok(None);
    };
    let mirrored = sekisho_gate::load_mirrored(&text)
        .map_err(|error| anyhow::anyhow!("{}:{error}", path.display()))?;
    let client = Arc::new(sekisho_registry::Client::new(sekisho_registry::Keyring::anonymous()));
    let keep_bytes = mirrored.keep_bytes();
    Ok(Some(MirrorConfig { registries: mirrored.registries, keep_bytes, client }))
}

/// What `kev.json` (CISA's catalogue) and `epss.csv` (FIRST's forecast) say, where they are.
fn threats(files: &Path) -> anyhow::Result<Threats> {
    let read = |name: &str| settings::optional(&files.join(name));
    let mut threats = Threats::default();
    if let Some(bytes) = read("kev.json")? {
        threats = threats.with_catalogue(&bytes).context("reading `gate/kev.json`")?;
    }
    if let Some(bytes) = read("epss.csv")? {
        let text = String::from_utf8(bytes).context("reading `gate/epss.csv`")?;
        threats = threats.with_forecast(&text).context("reading `gate/epss.csv`")?;
    }
    Ok(threats)
}

/// Where the gate keeps what, as `storage.toml` says, where there is one.
fn storage(data: &DataDir) -> anyhow::Result<Options> {
    let path = data.gate_config().join("storage.toml");
    match optional(&path).context("reading where the gate keeps what")? {
        Some(text) => storage::parse(&text).with_context(|| path.display().to_string()),
        None => Ok(Options::default()),
    }
}

/// `attestors.toml`, where there is one: whose signatures on statements about images count.
fn attestors(files: &Path) -> anyhow::Result<Attestors> {
    let path = files.join("attestors.toml");
    let text = optional(&path).context("reading whose signatures count")?;
    Attestors::load(text.as_deref().unwrap_or_default()).with_context(|| path.display().to_string())
}

/// What reads layers, within the limits of `analysis.toml`, where there is one.
fn analyser(files: &Path) -> anyhow::Result<Analyser> {
    let path = files.join("analysis.toml");
    let text = optional(&path).context("reading the limits of the gate's analyser")?;
    let limits = parse_limits(text.as_deref().unwrap_or_default());
    let limits = limits.with_context(|| path.display().to_string())?;
    Ok(Analyser::new(limits))
}

/// `exceptions.toml`, where there is one.
fn exceptions(files: &Path) -> anyhow::Result<Exceptions> {
    let path = files.join("exceptions.toml");
    let load = |text: String| Ok(Exceptions::load(&path, &text)?);
    let exceptions =
        optional(&path).and_then(|text| text.map_or_else(|| Ok(Exceptions::default()), load));
    exceptions.context("reading the exceptions of the gate's rules")
}

/// The key that fingerprints of secrets in images are made with; made where there is none.
fn fingerprint_key(keys: &Path) -> anyhow::Result<[u8; 32]> {
    let path = keys.join(FINGERPRINTS);
    let context = || format!("the key of fingerprints `{}` cannot be used", path.display());
    match fs_err::read(&path) {
        Ok(bytes) => bytes.as_slice().try_into().with_context(context),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            std::fs::File::open("/dev/urandom")
                .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut bytes))
                .context("reading random bytes")?;
            fs_err::create_dir_all(keys).with_context(context)?;
            sekisho_store::write_atomic(&path, &bytes, true).with_context(context)?;
            Ok(bytes)
        }
        Err(error) => Err(error).with_context(context),
    }
}

/// As [`settings::optional`], as text.
fn optional(path: &Path) -> anyhow::Result<Option<String>> {
    let bytes = settings::optional(path)?;
    let text = bytes.map(String::from_utf8).transpose();
    text.with_context(|| format!("`{}` is no UTF-8", path.display()))
}
