//! A gate that serves by itself, as `gate.toml` says.
//!
//! ```toml
//! url = "https://gate.example.org"          # how clients reach it
//! listen = "0.0.0.0:7350"
//! admin_token_file = "/run/secrets/admin"   # what `/_gate/` asks for; without `[tls]` else a new one at each start
//! drain_seconds = 10                        # from "not ready" to the end of listening
//! token_passwords = "anywhere"              # or "one-address", "never": OIDC tokens as passwords
//! promoter = "http://promoter:7360"         # what copies on what passes; else it stays here
//!
//! [tls]                                     # left out behind a proxy that ends TLS
//! certificate = "/etc/tls/tls.crt"
//! key = "/etc/tls/tls.key"
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::routing::get;
use http::StatusCode;
use secrecy::SecretString;
use sekisho_gate::{Patience, Tls, TlsFiles, TokenPasswords, serve, serve_tls};
use sekisho_github::http::is_loopback;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Who, open};
use crate::exit::hinted;
use crate::plane::Address;
use crate::plane::files::{Lock, new_token};
use crate::settings::{DataDir, small};

/// Until a load balancer has seen that it is not to send any more.
const DRAIN: Duration = Duration::from_secs(10);

/// Longest that can be asked for.
const MAX_DRAIN_SECONDS: u64 = 600;

/// How long requests that are under way get when the gate stops.
const CLOSE_DEADLINE: Duration = Duration::from_secs(15);

/// Longest secret, certificate or key, in bytes.
const MAX_SECRET_BYTES: u64 = 256 * 1024;

/// Shortest admin token, in characters: nobody guesses 128 bits.
const MIN_ADMIN_TOKEN: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    url: Url,
    listen: SocketAddr,
    admin_token_file: Option<PathBuf>,
    drain_seconds: Option<u64>,
    #[serde(default)]
    token_passwords: TokenPasswords,
    promoter: Option<Url>,
    tls: Option<TlsFiles>,
}

/// What `gate.toml` says.
pub(crate) struct Settings {
    url: Url,
    listen: SocketAddr,
    admin_token: SecretString,
    drain: Duration,
    token_passwords: TokenPasswords,
    promoter: Option<Url>,
    tls: Option<Tls>,
}

impl Settings {
    /// Where it is.
    pub(crate) fn file(data: &DataDir) -> PathBuf {
        data.gate_config().join("gate.toml")
    }

    /// `None` where there is no such file.
    ///
    /// # Errors
    /// It is no TOML of these names, what it names cannot be read, or tokens would go in the clear.
    pub(crate) fn read(data: &DataDir) -> anyhow::Result<Option<Self>> {
        let path = Self::file(data);
        let text = super::optional(&path).context("reading what the gate is told")?;
        text.map(|text| Self::parse(&text)).transpose().with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let raw: Raw = toml::from_str(text).context("it is not TOML of the known names")?;
        ensure!(
            raw.url.scheme() == "https" || raw.url.scheme() == "http" && is_loopback(&raw.url),
            "`url` is neither `https` nor of this machine: tokens would go in the clear"
        );
        let drain = raw.drain_seconds.map_or(DRAIN, Duration::from_secs);
        ensure!(
            drain <= Duration::from_secs(MAX_DRAIN_SECONDS),
            "`drain_seconds` is above {MAX_DRAIN_SECONDS}"
        );
        // By the name of its certificate the commands of one replica may reach another.
        ensure!(
            raw.tls.is_none() || raw.admin_token_file.is_some(),
            "`[tls]` takes an `admin_token_file`, the same for each replica: commands reach the gate by `url`, which \
             may lead to any of them"
        );
        let admin_token = match &raw.admin_token_file {
            None => new_token()?,
            Some(file) => {
                let token = String::from_utf8(small(file, MAX_SECRET_BYTES)?);
                let token = token.with_context(|| format!("`{}` is no UTF-8", file.display()))?;
                let token = token.trim().to_owned();
                ensure!(
                    token.len() >= MIN_ADMIN_TOKEN,
                    "the admin token has fewer than {MIN_ADMIN_TOKEN} characters"
                );
                token.into()
            }
        };
        let tls = raw.tls.as_ref().map(tls).transpose()?;
        let Raw { url, listen, token_passwords, promoter, .. } = raw;
        if let Some(promoter) = &promoter {
            let is_http = matches!(promoter.scheme(), "http" | "https") && promoter.has_host();
            ensure!(is_http, "`promoter` is `{promoter}`: write it as http://HOST:PORT");
        }
        Ok(Self { url, listen, admin_token, drain, token_passwords, promoter, tls })
    }

    /// How this machine reaches a gate that listens there.
    fn local_url(&self, bound: SocketAddr) -> anyhow::Result<Url> {
        if self.tls.is_some() {
            // Its certificate speaks of that name alone.
            return Ok(self.url.clone());
        }
        let ip = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let here = SocketAddr::from((ip, bound.port()));
        format!("http://{here}/").parse().context("naming the gate's address")
    }
}

/// Certificate and key of a server.
pub(crate) fn tls(files: &TlsFiles) -> anyhow::Result<Tls> {
    let read = |path: &Path| small(path, MAX_SECRET_BYTES);
    let tls = Tls::of_pem(&read(&files.certificate)?, &read(&files.key)?);
    let (certificate, key) = (files.certificate.display(), files.key.display());
    tls.with_context(|| format!("using `{certificate}` with `{key}`"))
}

/// A gate that serves.
pub(crate) struct Service {
    data: DataDir,
    url: Url,
    bound: SocketAddr,
    drain: Duration,
    leaving: CancellationToken,
    stop: CancellationToken,
    server: JoinHandle<()>,
    // Last: the lock is freed when all else is.
    _lock: Lock,
}

impl Service {
    /// Opens the gate and begins to serve.
    ///
    /// # Errors
    /// The data folder is in use, nobody could push, keys are missing, or the gate does not open.
    pub(crate) async fn start(data: &DataDir, settings: Settings) -> anyhow::Result<Self> {
        let lock = Lock::try_take(data)?.ok_or_else(|| {
            let message = format!("another program holds `{}`", data.root().display());
            hinted(message, "end it, or name another folder with `--data-dir`")
        })?;
        let files = data.gate_config();
        if super::issuers(&files)?.is_empty() {
            return Err(hinted(
                format!(
                    "`{}` names nobody whose tokens are taken",
                    files.join("issuers.toml").display()
                ),
                "name an issuer there, as docs/gate.md says under \"Other issuers\"",
            ));
        }
        if let Some(keys) = super::storage(data)?.keys_dir
            && !keys.join(super::FINGERPRINTS).exists()
        {
            // Two gates that begin at once would make two.
            return Err(hinted(
                format!("the keys that gates on one bucket share are not in `{}`", keys.display()),
                "make them once with `sekisho gate keys DIR`, and give them to each gate",
            ));
        }
        let listener = TcpListener::bind(settings.listen).await;
        let listener = listener.with_context(|| format!("listening on {}", settings.listen))?;
        let bound = listener.local_addr().context("asking for the port")?;
        let gate = open(
            data,
            Who {
                url: settings.url.clone(),
                admin_token: settings.admin_token.clone(),
                issuers: Vec::new(),
                workers: None,
                local_owner: None,
                token_passwords: settings.token_passwords,
                promoter: settings.promoter.clone(),
            },
        )?;
        let (leaving, stop) = (CancellationToken::new(), CancellationToken::new());
        let router = gate.router().merge(health(leaving.clone()));
        let address = Address {
            url: settings.local_url(bound)?,
            pid: std::process::id(),
            admin_token: settings.admin_token,
        };
        address.write(data)?;
        let (patience, stopped) = (Patience::default(), stop.clone());
        let server = match settings.tls {
            Some(tls) => tokio::spawn(serve_tls(listener, tls, router, patience, stopped)),
            None => tokio::spawn(serve(listener, router, patience, stopped)),
        };
        let (data, url, drain) = (data.clone(), settings.url, settings.drain);
        Ok(Self { data, url, bound, drain, leaving, stop, server, _lock: lock })
    }

    /// How clients reach it.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Where it listens.
    pub(crate) fn listens_on(&self) -> SocketAddr {
        self.bound
    }

    /// Says that it is not ready, and after a while ends.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.leaving.cancel();
        tokio::time::sleep(self.drain).await;
        Address::remove(&self.data)?;
        self.stop.cancel();
        match tokio::time::timeout(CLOSE_DEADLINE, self.server).await {
            // A client that keeps its connection open does not keep the gate.
            Err(_) => Ok(()),
            Ok(ended) => ended.context("the server panicked"),
        }
    }
}

/// For whoever runs it: `/healthz` while it lives, `/readyz` while it is to be sent requests.
fn health(leaving: CancellationToken) -> Router {
    let ready = move || async move {
        match leaving.is_cancelled() {
            true => (StatusCode::SERVICE_UNAVAILABLE, "leaving\n"),
            false => (StatusCode::OK, "ready\n"),
        }
    };
    Router::new().route("/healthz", get(|| async { "alive\n" })).route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const LEAST: &str = "url = \"https://gate.example.org\"\nlisten = \"0.0.0.0:7350\"\n";

    #[test]
    fn settings_are_read() {
        let settings = Settings::parse(LEAST).unwrap();
        assert_eq!(settings.url.as_str(), "https://gate.example.org/");
        assert_eq!((settings.drain, settings.tls.is_some()), (DRAIN, false));
        assert_eq!(settings.token_passwords, TokenPasswords::Anywhere);
        let never = Settings::parse(&format!("{LEAST}token_passwords = \"never\"")).unwrap();
        assert_eq!(never.token_passwords, TokenPasswords::Never);
        assert_eq!(settings.admin_token.expose_secret().len(), 64);
        let here = |bound: &str| settings.local_url(bound.parse().unwrap()).unwrap().to_string();
        assert_eq!(here("0.0.0.0:7350"), "http://127.0.0.1:7350/");
        assert_eq!(here("[::]:7350"), "http://[::1]:7350/");
        assert_eq!(here("10.0.0.7:80"), "http://10.0.0.7/");
    }

    /// What `deploy/gate` has is what a gate reads.
    #[test]
    fn the_files_of_a_cluster_are_read() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = Settings::parse(include_str!("../../../../deploy/gate/gate.toml")).unwrap();
        let issuers = include_str!("../../../../deploy/gate/issuers.toml");
        let issuers = sekisho_gate::load_issuers("issuers.toml".as_ref(), issuers).unwrap();
        assert_eq!(issuers[0].audience, settings.url.as_str().trim_end_matches('/'));
        let storage = include_str!("../../../../deploy/gate/storage.toml");
        let options = super::super::storage::parse(storage).unwrap();
        let manifest = include_str!("../../../../deploy/gate/gate.yaml");
        for named in [
            format!("mountPath: {}", options.keys_dir.unwrap().display()),
            format!("containerPort: {}", settings.listen.port()),
        ] {
            assert!(manifest.contains(&named), "{named}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let short = dir.path().join("short");
        fs_err::write(&short, "secret\n").unwrap();
        let token = dir.path().join("token");
        fs_err::write(&token, "t".repeat(MIN_ADMIN_TOKEN)).unwrap();
        let (short, token) = (short.display(), token.display());
        for (text, want) in [
            (LEAST.replace("https:", "http:"), "in the clear"),
            (LEAST.replace("listen", "lissen"), "unknown field `lissen`"),
            (format!("{LEAST}drain_seconds = 601"), "above 600"),
            (format!("{LEAST}token_passwords = \"once\""), "unknown variant `once`"),
            (format!("{LEAST}promoter = \"unix:/x\""), "write it as http://HOST:PORT"),
            (format!("{LEAST}admin_token_file = \"{short}\""), "fewer than 32"),
            (format!("{LEAST}admin_token_file = \"/nowhere/x\""), "/nowhere/x"),
            (
                format!("{LEAST}[tls]\ncertificate = \"{short}\"\nkey = \"{short}\""),
                "takes an `admin_token_file`",
            ),
            (
                format!(
                    "{LEAST}admin_token_file = \"{token}\"\n[tls]\ncertificate = \"{short}\"\nkey = \"{short}\""
                ),
                "no certificate",
            ),
        ] {
            let error = Settings::parse(&text).err().map(|error| format!("{error:#}")).unwrap();
            assert!(error.contains(want), "{want}: {error}");
        }
    }
}
