//! The distribution-spec's own conformance suite, where it is installed as `oci-conformance`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::replicas::Moto;
use crate::support::{Options, World};

/// Whatever the suite pushes may ship: what is tested is the protocol, with authentication on.
const ALLOW_ALL: &str = "@id(\"all\") permit (principal, action, resource);";

/// Runs the suite's program in the results folder; `None` when it is not installed.
async fn suite(world: &World, version: &'static str, results: &Path) -> Option<Output> {
    let mut command = Command::new("oci-conformance");
    command
        .env("OCI_REGISTRY", world.host())
        .env("OCI_TLS", "disabled")
        .env("OCI_REPO1", "acme/app")
        .env("OCI_REPO2", "acme/app/second")
        .env("OCI_USERNAME", "session")
        .env("OCI_PASSWORD", world.session(json!({})).await)
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", results)
        .current_dir(results);
    tokio::task::spawn_blocking(move || command.output().ok()).await.unwrap()
}

/// A number of the suite's summary: `  Skip..........:   12`.
fn count(summary: &str, name: &str) -> Option<usize> {
    let mut lines = summary.lines().map(str::trim);
    let line = lines.find(|line| line.starts_with(&format!("{name}..")))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn check(version: &'static str, least: usize) {
    let dir = tempfile::tempdir().unwrap();
    check_in(&World::on(dir, Some(ALLOW_ALL.to_owned())).await, version, least).await;
}

async fn check_in(world: &World, version: &'static str, least: usize) {
    let results = tempfile::tempdir().unwrap();
    let Some(output) = suite(world, version, results.path()).await else {
        eprintln!("skipped: needs oci-conformance");
        return;
    };
    let shown = String::from_utf8_lossy(&output.stdout);
    let counts = ["FAIL", "Skip", "Error"].map(|name| count(&shown, name));
    assert_eq!(counts, [Some(0); 3], "{shown}");
    assert!(count(&shown, "Pass").is_some_and(|passed| passed >= least), "{shown}");
    assert!(output.status.success(), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn profile_1_1() {
    check("1.1", 800).await;
}

/// On an S3-compatible store, moto's.
#[tokio::test(flavor = "multi_thread")]
async fn both_profiles_in_a_bucket() {
    let Some(moto) = Moto::start() else { return };
    let bucket = moto.bucket().await;
    for (version, least) in [("1.1", 800), ("dev", 900)] {
        let mut options = Options { policies: Some(ALLOW_ALL.to_owned()), ..Options::default() };
        options.gate.bucket = Some(bucket.below(version));
        check_in(&World::open(options).await, version, least).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profile_dev() {
    check("dev", 900).await;
}
