//! A real API server: etcd and kube-apiserver, of the folder that `KUBEBUILDER_ASSETS` names.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt as _};
use tempfile::TempDir;

/// How long until the server answers, and until our kinds are known.
const START: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The bearer token of everybody's client.
const TOKEN: &str = "testkit";

/// A real API server. It ends when this is dropped, and with the thread that started it.
pub struct RealServer {
    config: Config,
    // In this order they end.
    _api: Guard,
    _etcd: Guard,
    dir: TempDir,
}

/// A child that is killed when it is dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The folder with the programs, if there is one.
#[expect(clippy::disallowed_methods, reason = "a switch of the test suite, read in one place")]
fn assets() -> Option<PathBuf> {
    std::env::var("KUBEBUILDER_ASSETS").ok().filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// A program: of the folder, or else of the system (Debian's `etcd-server` is there).
fn program(assets: &Path, name: &str) -> PathBuf {
    let own = assets.join(name);
    if own.exists() { own } else { PathBuf::from(name) }
}

/// A program that is killed when the thread that starts it ends, however that ends: a test that is killed
/// drops no [`Guard`]. Debian's util-linux has `setpriv`; without it the program is on its own.
fn ending_with_us(program: &Path) -> Command {
    let there = Command::new("setpriv").arg("--version").stdout(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl RealServer {
    /// Starts one, with our kinds installed. `None`, and a line that says so, without
    /// `KUBEBUILDER_ASSETS`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let Some(server) = Self::start_empty().await? else { return Ok(None) };
        install_crds(&server.client()?).await?;
        Ok(Some(server))
    }

    /// The same, without our kinds: as a new cluster is.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_empty() -> anyhow::Result<Option<Self>> {
        let Some(assets) = assets() else {
            #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
            {
                eprintln!("skipped on a real API server: KUBEBUILDER_ASSETS is not set");
            }
            return Ok(None);
        };
        // A port that was free may be taken before it is used.
        for _ in 0..2 {
            if let Ok(server) = Self::try_start(&assets).await {
                return Ok(Some(server));
            }
        }
        Self::try_start(&assets).await.map(Some)
    }

    async fn try_start(assets: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (client_port, peer_port, api_port) = (free_port()?, free_port()?, free_port()?);
        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let etcd = ending_with_us(&program(assets, "etcd"))
            .args(["--data-dir", &path("etcd")])
            .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer_port}")])
            .arg("--unsafe-no-fsync")
            .stdout(Stdio::null())
            .stderr(fs_err::File::create(path("etcd.log"))?.into_parts().0)
            .spawn()
            .context("starting etcd")?;
        let etcd = Guard(etcd);
        fs_err::write(path("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n"))?;
        fs_err::write(path("accounts.key"), signing_key()?)?;
        let api = ending_with_us(&program(assets, "kube-apiserver"))
            .args(["--etcd-servers", &etcd_url])
            .args(["--bind-address", "127.0.0.1", "--secure-port", &api_port.to_string()])
            .args(["--cert-dir", &path("certificates")])
            .args(["--service-account-issuer", "https://testkit"])
            .args(["--service-account-signing-key-file", &path("accounts.key")])
            .args(["--service-account-key-file", &path("accounts.key")])
            .args(["--token-auth-file", &path("tokens.csv")])
            .args(["--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24"])
            .args(["--disable-admission-plugins", "ServiceAccount"])
            // As in a cluster whose kubelets run Docker's daemon: admission decides who may.
            .arg("--allow-privileged=true")
            .stdout(Stdio::null())
            .stderr(fs_err::File::create(path("api.log"))?.into_parts().0)
            .spawn()
            .context("starting kube-apiserver")?;
        let api = Guard(api);
        let mut config = Config::new(format!("https://127.0.0.1:{api_port}").parse()?);
        // Its certificate is one that it made for itself.
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(TOKEN.to_owned().into());
        config.default_namespace = "default".to_owned();
        let mut server = Self { config, _api: api, _etcd: etcd, dir };
        server.ready().await?;
        Ok(server)
    }

    /// A client of its own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client(&self) -> anyhow::Result<Client> {
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Client::try_from(self.config.clone())?)
    }

    /// A client of somebody else, with the rights that he was given: `system:serviceaccount:NAMESPACE:NAME`
    /// is an account of a pod.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client_as(&self, user: &str) -> anyhow::Result<Client> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        Ok(Client::try_from(config)?)
    }

    /// Where it is, and the bearer token that everybody has, for a process of its own.
    pub fn access(&self) -> (String, &'static str) {
        (self.config.cluster_url.to_string(), TOKEN)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let client = self.client()?;
        let answered = async {
            loop {
                let request = http::Request::get("/readyz").body(Vec::new())?;
                if client.request_text(request).await.is_ok_and(|text| text == "ok") {
                    return anyhow::Ok(());
                }
                if let Some(status) = self._api.0.try_wait()? {
                    let log = fs_err::read_to_string(self.dir.path().join("api.log"))?;
                    let last: Vec<&str> = log.lines().rev().take(3).collect();
                    bail!("kube-apiserver ended with {status}: {last:?}");
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(START, answered).await.context("kube-apiserver does not answer")?
    }
}

fn signing_key() -> anyhow::Result<String> {
    use rsa::pkcs1::EncodeRsaPrivateKey as _;
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048)?;
    Ok(key.to_pkcs1_pem(rsa::pkcs1::LineEnding::LF)?.to_string())
}

/// Installs our kinds, and waits until the server knows them.
///
/// # Errors
/// Those of the API, and when they are not known in time.
pub async fn install_crds(client: &Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in sekisho_api::schema::crds() {
        let params = PatchParams::apply("testkit").force();
        api.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await?;
    }
    let established = async {
        for crd in sekisho_api::schema::crds() {
            let is = |crd: &CustomResourceDefinition| {
                let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions.is_some_and(|all| {
                    all.iter().any(|it| it.type_ == "Established" && it.status == "True")
                })
            };
            while !is(&api.get(&crd.name_any()).await?) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(START, established).await.context("our kinds are not established")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_with_who_started_it() {
        let name = |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap();
        let started = std::thread::spawn(move || {
            let child = ending_with_us(Path::new("sleep")).arg("1000").spawn().unwrap();
            // It is not `setpriv` any more: what is to be told is told to the kernel.
            while name(child.id()) != "sleep\n" {
                std::thread::yield_now();
            }
            Guard(child)
        });
        let mut child = started.join().unwrap();
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(child.0.wait().unwrap().signal(), Some(9));
    }
}
