//! A server that is reached by TLS alone, with the certificate of a private authority, and through a proxy
//! alone: by its name nobody but the proxy can find it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The name of the server behind the wall.
pub const WALLED: &str = "hub.test";
/// What the proxy asks for, as `user:password`.
pub const PROXY_CREDENTIALS: &str = "user:secret";
/// The same, as a client sends it.
const AUTHORIZATION: &str = "Basic dXNlcjpzZWNyZXQ=";

/// TLS before a server that has none, as [`WALLED`].
pub struct Front {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    /// PEM of the authority.
    pub authority: String,
}

impl Front {
    /// Before a server on loopback. In a runtime of tokio.
    ///
    /// # Errors
    /// No certificate can be made, or no port is free.
    pub async fn to(target: SocketAddr) -> anyhow::Result<Self> {
        // Another one is as good.
        let _ = default_provider().install_default();
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate()?;
        let params = rcgen::CertificateParams::new(vec![WALLED.to_owned()])?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut near) = acceptor.accept(near).await else { return };
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Ok(Self { address, authority })
    }
}

/// A proxy that knows [`WALLED`] alone, and asks for [`PROXY_CREDENTIALS`].
pub struct Proxy {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Before a [`Front`]. In a runtime of tokio.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(serve(near, target, Arc::clone(&told)));
            }
        });
        Ok(Self { address, asked })
    }

    /// With the credentials.
    pub fn url(&self) -> String {
        format!("http://{PROXY_CREDENTIALS}@{}", self.address)
    }

    /// First lines of all requests.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody came, and for [`WALLED`] alone.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_asked_for_the_walled_alone(&self) {
        let asked = self.asked();
        assert!(!asked.is_empty(), "nobody came by the proxy");
        assert!(asked.iter().all(|line| *line == connect()), "{asked:?}");
    }
}

fn connect() -> String {
    format!("CONNECT {WALLED}:443 HTTP/1.1")
}

async fn serve(
    mut near: TcpStream,
    target: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let line = head.lines().next()?.to_owned();
    let known = head.lines().any(|line| {
        let header = line.split_once(": ");
        header.is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value == AUTHORIZATION
        })
    });
    let is_walled = line == connect();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    let refused: &[u8] = match (known, is_walled) {
        (false, _) => b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        (true, false) => b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        (true, true) => b"",
    };
    if !refused.is_empty() {
        near.write_all(refused).await.ok()?;
        return None;
    }
    let mut far = TcpStream::connect(target).await.ok()?;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok()?;
    Some(())
}
