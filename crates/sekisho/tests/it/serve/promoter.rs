//! A gate and its promoter, each a process, and a registry that others wrote.

use peers::{DockerRegistry, Log};
use sekisho_oci::media_type;
use sekisho_types::Digest;

use super::{Cluster, client, image, least};
use crate::support::{Said, Started, eventually, signal};

#[tokio::test(flavor = "multi_thread")]
async fn a_promoter_of_its_own_copies_on_what_a_gate_let_pass() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(folder.path(), Log::Off).unwrap() else { return };
    let cluster = Cluster::new().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let admin = cluster.world.folder.path().join("admin");
    let more = format!("promoter = \"http://127.0.0.1:{port}\"\n");
    cluster.configure("gate.toml", &least(&admin, &more));
    let gate = cluster.gate();
    let keys = gate.world.data().join("gate/keys");
    let told = |registry: &str| {
        let file = cluster.world.folder.path().join("promoter.toml");
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\ngate = \"{}\"\ngate_keys = \"{}\"\n\
             [[to]]\nrepositories = \"acme/*\"\nname = \"prod/{{repository}}\"\nregistry = \"{registry}\"\n",
            gate.url,
            keys.display()
        );
        fs_err::write(&file, text).unwrap();
        let command = ["gate", "promoter", file.to_str().unwrap()];
        cluster.world.command(&command)
    };
    let wrong = Said::of(told("r\"\nlogin = \"keys").output().unwrap()).exits(1);
    wrong.says(&["promoter.toml:", "unknown variant `keys`"]);

    let session = gate.session(&cluster.token("1")).await;
    let [layer, config, manifest] = image("srv/index.html", b"<p>hello</p>");
    gate.blob(&session, &layer).await;
    gate.blob(&session, &config).await;
    let away = gate.manifest(&session, "v1", &manifest).await;
    assert_eq!(away.status(), 503);
    assert!(away.text().await.unwrap().contains("sekisho gate promote 000000000001"));

    let mut promoter = Started::new(&mut told(registry.host()));
    let url = format!("http://127.0.0.1:{port}/healthz");
    let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    eventually("the promoter is up", up);
    assert_eq!(client().get(url).send().await.unwrap().status(), 200);
    let said = gate.sekisho(&["gate", "promote", "000000000001", "--output", "json"]).exits(0);
    let digest = Digest::sha256(&manifest);
    let image = format!("{}/prod/acme/app:v1@{digest}", registry.host());
    assert_eq!(said.json()["image"], image);
    let pulled = format!("http://{}/v2/prod/acme/app/manifests/v1", registry.host());
    let pulled = client().get(pulled).header("accept", media_type::OCI_MANIFEST);
    assert_eq!(pulled.send().await.unwrap().bytes().await.unwrap(), manifest);
    // By a push too, and what is on its way when it is told to stop is finished.
    assert_eq!(gate.manifest(&session, "v2", &manifest).await.status(), 201);
    gate.sekisho(&["gate", "promote", "000000000099"]).exits(3);
    signal(&promoter, "TERM");
    assert_eq!(promoter.wait().unwrap().code(), Some(0));
    gate.stop();
}
