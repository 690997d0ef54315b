//! `cosign` signs and attests what the gate let pass, and verifies what the gate itself says.

use std::path::PathBuf;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use peers::is_installed;
use serde_json::{Value, json};

use crate::clients::{GOOD, check_done, docker_config, pulled, run};
use crate::support::{ADMIN, World};

/// For a registry on loopback, and without a public log.
const VERIFY: [&str; 2] = ["--allow-http-registry", "--insecure-ignore-tlog=true"];
const SIGN: [&str; 2] = ["--allow-http-registry", "--tlog-upload=false"];

/// What a cosign of version 3 is to be told so that it asks no file of Sigstore's where the log is; older ones
/// do not know the words.
const SIGN_OF_3: [&str; 3] =
    ["--allow-http-registry", "--tlog-upload=false", "--use-signing-config=false"];

/// Version 3 takes the new form for what goes without saying.
const OLD_FORM_OF_3: [&str; 1] = ["--new-bundle-format=false"];

/// `cosign` in a folder of its own, which has a key.
struct Signer {
    dir: tempfile::TempDir,
    config: PathBuf,
    sign: &'static [&'static str],
    old_form: &'static [&'static str],
}

impl Signer {
    async fn new(config: PathBuf) -> Self {
        let mut version = Command::new("cosign");
        version.args(["version", "--json"]);
        let version: Value = serde_json::from_slice(&run(version).await.stdout).unwrap();
        let (sign, old_form): (&[&str], &[&str]) = match version["gitVersion"].as_str() {
            Some(text) if text.starts_with("v3") => (&SIGN_OF_3, &OLD_FORM_OF_3),
            _ => (&SIGN, &[]),
        };
        let signer = Self { dir: tempfile::tempdir().unwrap(), config, sign, old_form };
        check_done(&signer.run(&[&["generate-key-pair"]]).await);
        signer
    }

    async fn run(&self, args: &[&[&str]]) -> Output {
        let mut command = Command::new("cosign");
        command.current_dir(self.dir.path()).args(args.concat());
        command.env("DOCKER_CONFIG", &self.config).env("HOME", self.dir.path());
        command.env("COSIGN_PASSWORD", "").env("COSIGN_YES", "true");
        // Referrers, of signatures too.
        command.env("COSIGN_EXPERIMENTAL", "1");
        run(command).await
    }
}

/// An image that was let pass, by its digest; `None`, and one line, without the program.
async fn image() -> Option<(World, String)> {
    if !is_installed("cosign", "version") {
        return None;
    }
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let layer = format!("LAYER\n{GOOD}");
    assert_eq!(world.push("acme/app:v1", &session, &[&layer]).await.status(), 201);
    let image = format!("{}/acme/app@{}", world.host(), pulled(&world, "v1").await);
    Some((world, image))
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_signs_and_attests_in_its_old_form() {
    let Some((world, image)) = image().await else { return };
    let signer = Signer::new(docker_config(&world, json!({})).await).await;
    let image = [&image[..]];
    check_done(
        &signer
            .run(&[&["sign", "--key", "cosign.key"], signer.sign, signer.old_form, &image])
            .await,
    );
    let verify = async |key: &str| {
        signer.run(&[&["verify", "--key", key], &VERIFY, signer.old_form, &image]).await
    };
    check_done(&verify("cosign.pub").await);
    let tag = pulled(&world, "v1").await.replace(':', "-");
    assert!(pulled(&world, &format!("{tag}.sig")).await.starts_with("sha256:"));

    fs_err::write(signer.dir.path().join("predicate.json"), "{\"a\":\"b\"}").unwrap();
    let attest = ["attest", "--key", "cosign.key", "--predicate", "predicate.json"];
    check_done(&signer.run(&[&attest, signer.sign, signer.old_form, &image]).await);
    assert!(pulled(&world, &format!("{tag}.att")).await.starts_with("sha256:"));
    let attested = ["verify-attestation", "--key", "cosign.pub"];
    check_done(&signer.run(&[&attested, &VERIFY, signer.old_form, &image]).await);

    // Somebody else's key vouches for nothing.
    let stranger = Signer::new(signer.config.clone()).await;
    let strange = stranger.dir.path().join("cosign.pub").display().to_string();
    assert!(!verify(&strange).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_signs_and_attests_by_referrers() {
    let Some((world, image)) = image().await else { return };
    let signer = Signer::new(docker_config(&world, json!({})).await).await;
    let image = [&image[..]];
    let sign = ["sign", "--key", "cosign.key", "--registry-referrers-mode=oci-1-1"];
    check_done(&signer.run(&[&sign, signer.sign, signer.old_form, &image]).await);
    let verify = ["verify", "--key", "cosign.pub", "--experimental-oci11"];
    check_done(&signer.run(&[&verify, &VERIFY, signer.old_form, &image]).await);

    // A bundle, which says by an annotation what kind of statement it is.
    let predicate = json!({"builder": {"id": "https://example.org/builder"}, "buildType": "x"});
    fs_err::write(signer.dir.path().join("predicate.json"), predicate.to_string()).unwrap();
    let attest = ["attest", "--key", "cosign.key", "--type", "slsaprovenance02"];
    let bundle = ["--new-bundle-format", "--predicate", "predicate.json"];
    check_done(&signer.run(&[&attest, &bundle, signer.sign, &image]).await);
    let path = format!("/v2/acme/app/referrers/{}", pulled(&world, "v1").await);
    let referrers: Value = world.send("GET", &path, "").await.json().await.unwrap();
    let mut types: Vec<&str> = referrers["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["artifactType"].as_str().unwrap())
        .collect();
    types.sort_unstable();
    // Beside what the gate said.
    let want = [
        "application/vnd.dev.cosign.artifact.sig.v1+json",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.sekisho.vsa.v1+json",
    ];
    assert_eq!(types, want);
    let attested = ["verify-attestation", "--key", "cosign.pub", "--type", "slsaprovenance02"];
    // Nobody is trusted but who has the key; without the file it would ask the network.
    let trusted = json!({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"});
    fs_err::write(signer.dir.path().join("trusted.json"), trusted.to_string()).unwrap();
    let bundle = ["--new-bundle-format", "--trusted-root", "trusted.json"];
    check_done(&signer.run(&[&attested, &bundle, &VERIFY, &image]).await);
    let tag = pulled(&world, "v1").await.replace(':', "-");
    assert_eq!(pulled(&world, &format!("{tag}.sig")).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_shows_why_it_may_not_sign() {
    let Some((world, image)) = image().await else { return };
    // A session of another repository, which may read and not push here.
    let other = json!({"repository": "acme/other", "repository_id": "4712"});
    let signer = Signer::new(docker_config(&world, other).await).await;
    let output = signer.run(&[&["sign", "--key", "cosign.key"], signer.sign, &[&image]]).await;
    assert!(!output.status.success());
    let shown = String::from_utf8_lossy(&output.stderr);
    for word in ["DENIED", "own-namespace", "acme/other"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

/// An Ed25519 key as SPKI: RFC 8410, section 4.
fn pem(public: &[u8]) -> String {
    let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let spki = BASE64_STANDARD.encode([&head[..], public].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n")
}

/// The gate's signed word on an image, to a verifier that nobody here wrote.
#[tokio::test(flavor = "multi_thread")]
async fn cosign_verifies_what_the_gate_said() {
    let Some((world, _)) = image().await else { return };
    let manifest = world.send("GET", "/v2/acme/app/manifests/v1", "").await.bytes().await.unwrap();
    let word = world.send("GET", "/_gate/v1/decisions/000000000001/vsa", ADMIN).await;
    let word = word.bytes().await.unwrap();

    let dir = world.dir.path();
    let mut keys = fs_err::read_dir(dir.join("gate/keys")).unwrap().map(|it| it.unwrap().path());
    let public = keys.find(|it| it.extension().is_some_and(|it| it == "pub")).unwrap();
    let public = BASE64_STANDARD.decode(fs_err::read(public).unwrap()).unwrap();
    let mut changed: Value = serde_json::from_slice(&word).unwrap();
    let payload = BASE64_STANDARD.decode(changed["payload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    assert!(payload.contains("PASSED"), "{payload}");
    changed["payload"] = BASE64_STANDARD.encode(payload.replace("PASSED", "FAILED")).into();
    for (name, bytes) in [
        ("key.pem", pem(&public).as_bytes()),
        ("vsa.json", &word[..]),
        ("manifest", &manifest[..]),
        ("other", b"{}"),
        ("changed.json", changed.to_string().as_bytes()),
    ] {
        fs_err::write(dir.join(name), bytes).unwrap();
    }
    let verify = async |word: &str, blob: &str| {
        let mut command = Command::new("cosign");
        command.current_dir(dir).env("HOME", dir);
        command.args(["verify-blob-attestation", "--key", "key.pem", "--signature", word]);
        command.args(["--insecure-ignore-tlog=true", "--type"]);
        command.args(["https://slsa.dev/verification_summary/v1", blob]);
        run(command).await
    };
    check_done(&verify("vsa.json", "manifest").await);
    assert!(!verify("vsa.json", "other").await.status.success(), "of another image");
    assert!(!verify("changed.json", "manifest").await.status.success(), "with another verdict");
}
