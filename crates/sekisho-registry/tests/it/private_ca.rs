//! A registry whose certificate only a private authority vouches for.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sekisho_oci::Descriptor;
use sekisho_oci::media_type::OCI_LAYER;
use sekisho_registry::{Client, Keyring, Options, RegistryError};
use sekisho_types::Digest;

use crate::repository;

fn openssl(folder: &Path, arguments: &str) -> Option<()> {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(folder);
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then_some(())
}

/// An authority, and a certificate of it for 127.0.0.1.
fn certificates(folder: &Path) -> Option<()> {
    fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").ok()?;
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        folder,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=private -days 2"),
    )?;
    openssl(folder, &format!("req {key} -keyout key.pem -out request.pem -subj /CN=registry"))?;
    openssl(
        folder,
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 \
         -extfile san",
    )
}

/// Answers every request with the same bytes, over TLS.
#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn serve(folder: &Path, bytes: &'static [u8]) -> String {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    // Ends with the process: nobody else listens for it.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that does not trust us hangs up.
            let _ = answer(StreamOwned::new(connection, stream), bytes);
        }
    });
    host
}

fn answer(mut tls: StreamOwned<ServerConnection, TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte)?;
        request.extend(byte);
    }
    write!(tls, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
    tls.write_all(bytes)?;
    tls.conn.send_close_notify();
    tls.flush()
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn a_private_authority_is_trusted_when_it_is_named_and_only_then() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let bytes = b"what the blob holds";
    let digest = Digest::sha256(bytes);
    if certificates(folder.path()).is_none() {
        eprintln!("skipped: needs openssl");
        return;
    }
    let host = serve(folder.path(), bytes);
    let repository = repository(&format!("https://{host}"), "a/b");
    let want = Descriptor::new(OCI_LAYER, digest, bytes.len() as u64);
    let to = folder.path().join("pulled");
    let pull = async |ca: &[&str]| {
        let pem = ca.iter().map(|name| fs::read(folder.path().join(name)).unwrap());
        let options = Options { ca_pem: pem.collect(), attempts_max: 1, ..Options::default() };
        let client = Client::with_options(Keyring::anonymous(), options);
        client.pull_blob(&repository, &want, &to).await
    };
    pull(&["ca.pem"]).await.unwrap();
    assert_eq!(fs::read(&to).unwrap(), bytes);
    let error = pull(&[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error:?}");
    // Another authority's word is none.
    let other = tempfile::tempdir().unwrap();
    certificates(other.path()).unwrap();
    fs::copy(other.path().join("ca.pem"), folder.path().join("other.pem")).unwrap();
    assert!(pull(&["other.pem"]).await.is_err());
}
