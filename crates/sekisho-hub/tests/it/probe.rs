//! What `sekisho hub probe` finds here: everything holds.

use sekisho_github::http::ClientOptions;
use sekisho_github::probe::{ASSUMPTIONS, Outcome, Probe, Row};
use sekisho_github::rest::{Address, Clock, Credential, GithubClient};
use sekisho_hub::Config;

use crate::runner::Runner;
use crate::world::{ADMIN, WORKFLOW, World};

async fn probe(world: &World, of: &str, changes: bool) -> Vec<Row> {
    let address = Address::parse(&format!("{}/{of}", world.url), false).unwrap();
    let credential = Credential::Token(ADMIN.to_owned().into());
    let options = ClientOptions::default();
    let client = GithubClient::new(address, credential, &options, Clock::default()).unwrap();
    Probe::new(client, &options, Clock::default()).await.unwrap().run(changes).await
}

fn ids(rows: &[Row], wanted: impl Fn(&Outcome) -> bool) -> Vec<&'static str> {
    rows.iter().filter(|row| wanted(&row.outcome)).map(|row| row.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_assumption_holds_of_a_repository() {
    let limit = |config: &mut Config| config.rest_requests_per_hour = Some(1000);
    let world = World::with(tempfile::tempdir().unwrap(), limit).await;
    let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
    world.push(&folder, "acme/app").await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    runner.complete(&world, "failed").await;
    let rows = probe(&world, "acme/app", true).await;
    let other: Vec<&Row> = rows.iter().filter(|row| row.outcome != Outcome::Held).collect();
    assert_eq!(other.iter().map(|row| row.id).collect::<Vec<_>>(), ["groups.default"], "{other:?}");
    let names: Vec<&str> = ASSUMPTIONS.iter().flat_map(|part| part.iter()).map(|a| a.id).collect();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), names);
    // Whatever was registered is gone.
    assert_eq!(world.get("/api/v3/orgs/acme/actions/runners").await["total_count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_without_being_asked_to() {
    let world = World::new().await;
    let rows = probe(&world, "acme", false).await;
    assert_eq!(ids(&rows, |outcome| matches!(outcome, Outcome::Broken(_))), [""; 0], "{rows:?}");
    let skipped = ids(&rows, |outcome| matches!(outcome, Outcome::Skipped(_)));
    assert!(skipped.contains(&"jit.made") && skipped.contains(&"runs.list"), "{skipped:?}");
    // The server may count nothing, as a GHES does.
    assert!(skipped.contains(&"rest.rate-limit") && !skipped.contains(&"groups.default"));
}
