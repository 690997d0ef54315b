//! A GitHub that is reached through a proxy alone, and whose certificate a private authority signed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sekisho_api::{GitHubConnection, Reason};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::refusals::{connection_says, is_waited_for};
use crate::world::{Server, World, until};

scenarios![github_is_reached_through_a_proxy_with_a_private_authority];

/// By its name nobody but the proxy can find it.
const NAME: &str = "hub.test";
/// `user:secret` in base64.
const CREDENTIALS: &str = "Basic dXNlcjpzZWNyZXQ=";

/// A proxy that knows one name, asks for credentials, and speaks TLS for who is behind it.
struct Wall {
    address: SocketAddr,
    /// PEM of the authority.
    authority: String,
    /// First line of every request that had the credentials.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Wall {
    async fn before(target: SocketAddr) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(serve(near, target, acceptor.clone(), Arc::clone(&told)));
            }
        });
        Self { address, authority, asked }
    }

    fn proxy(&self) -> Value {
        let credentials = json!({ "name": "proxy", "key": "credentials" });
        json!({ "url": format!("http://{}", self.address), "credentialsSecretRef": credentials })
    }
}

async fn serve(
    mut near: TcpStream,
    target: SocketAddr,
    acceptor: TlsAcceptor,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let known = head.lines().any(|line| {
        let header = line.split_once(": ");
        header.is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value == CREDENTIALS
        })
    });
    if !known {
        near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok()?;
        return None;
    }
    asked.lock().unwrap().push(head.lines().next()?.to_owned());
    let mut far = TcpStream::connect(target).await.ok()?;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    let mut near = acceptor.accept(near).await.ok()?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok()?;
    Some(())
}

async fn change(world: &World, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let api = world.api::<GitHubConnection>();
    api.patch("acme", &PatchParams::default(), &patch).await.unwrap();
}

async fn says(world: &World, reason: Reason) -> String {
    until(reason.name(), || connection_says(world, reason)).await
}

async fn github_is_reached_through_a_proxy_with_a_private_authority(server: Server) {
    let world = World::new(&server, |config| {
        config.base_url = format!("https://{NAME}");
    })
    .await;
    let wall = Wall::before(world.url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    world.secret().await;
    let token = json!({ "name": "github", "key": "token" });
    world
        .create::<GitHubConnection>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "GitHubConnection",
            "metadata": { "name": "acme" },
            "spec": {
                "url": format!("https://{NAME}/acme"), "auth": { "token": { "secretRef": token } },
                "proxy": wall.proxy()
            }
        }))
        .await;
    world.deployment(json!({ "scaling": { "min": 0, "max": 2 } })).await;
    let operator = world.operator("one").await;
    let message = says(&world, Reason::SecretNotFound).await;
    assert!(message.starts_with("there is no key `credentials` in secret `proxy`; "), "{message}");
    let secret = json!({
        "metadata": { "name": "proxy" }, "stringData": { "credentials": "user:secret" }
    });
    world.create::<Secret>(secret).await;
    let message = says(&world, Reason::GitHubUnreachable).await;
    assert!(message.contains("certificate"), "{message}");
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    change(&world, json!({ "caBundle": broken })).await;
    let message = says(&world, Reason::ConnectionInvalid).await;
    is_waited_for(&operator, Reason::ConnectionInvalid, &message).await;
    change(&world, json!({ "caBundle": wall.authority })).await;
    says(&world, Reason::Connected).await;
    world.says("AllRunnersReady").await;
    let asked = wall.asked.lock().unwrap().clone();
    assert!(!asked.is_empty());
    let hub = format!("CONNECT {NAME}:443 HTTP/1.1");
    assert!(asked.iter().all(|line| *line == hub), "{asked:?}");
    // Each trouble has its event, and so has its end.
    let told = || async {
        let all = world.list::<Event>().await;
        let reasons: BTreeSet<String> = all.into_iter().filter_map(|it| it.reason).collect();
        let wanted = ["SecretNotFound", "GitHubUnreachable", "ConnectionInvalid", "Connected"];
        wanted.iter().all(|reason| reasons.contains(*reason)).then_some(())
    };
    until("an event of each", told).await;
    operator.shutdown().await;
}
