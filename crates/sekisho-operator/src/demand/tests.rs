//! Which numbers count.

use std::sync::Arc;

use sekisho_pods::Cluster;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::context::{Growth, Stores};
use crate::operator::Settings;
use crate::stored::Stored;

/// One that sees nothing.
fn context() -> Context {
    let stores = Stores {
        connections: Stored::new(vec![]),
        classes: Stored::new(vec![]),
        deployments: Stored::new(vec![]),
        sets: Stored::new(vec![]),
        runners: Stored::new(vec![]),
        pods: Stored::new(vec![]),
        secrets: Stored::new(vec![]),
        nodes: Stored::new(vec![]),
        namespaces: Stored::new(vec![]),
        watches: 0,
        full: Arc::default(),
    };
    let (client, cluster) =
        (testkit::ApiServer::new().client("me"), Cluster::of_version("1", "34"));
    Context::new(client, Settings::new("me"), stores, cluster, CancellationToken::new())
}

/// A set of so many jobs.
fn jobs(assigned: i64) -> Told {
    let statistics = Statistics { total_assigned_jobs: assigned, ..Statistics::default() };
    Told::by_session(statistics)
}

#[tokio::test]
async fn numbers_that_were_asked_for_do_not_undo_what_was_told_meanwhile() {
    let (context, name) = (context(), ("ci".to_owned(), "gpu".to_owned()));
    let known = || {
        let entry = context.memory().deployments.get(&name).cloned().unwrap_or_default();
        (entry.told, entry.demand.map(|it| it.assigned), entry.settled)
    };
    let settled = Some(At::from_secs(9));
    let read = |assigned, asked| Told { settled, asked: Some(asked), ..jobs(assigned) };
    tell(&context, &name, jobs(0), &[]);
    let (before, ..) = known();
    // A job comes, and its message is faster than the answer of before.
    tell(&context, &name, jobs(1), &[]);
    tell(&context, &name, read(0, before), &[]);
    let (now, ..) = known();
    assert_eq!(known(), (now, Some(1), None));
    // Nothing came between: but not all messages are heard.
    tell(&context, &name, read(2, now), &[]);
    assert_eq!(known(), (now + 1, Some(2), None));
    settles(&context, &name, Some(At::from_secs(5)));
    tell(&context, &name, read(3, now + 1), &[]);
    assert_eq!(known(), (now + 2, Some(3), settled));
}

#[test]
fn a_set_grows_by_the_newest_decision_of_its_deployment_alone() {
    let growth = |revision: &str| Growth { revision: revision.to_owned(), runners: 3 };
    let mut entry = DeploymentMemory { growth: Some(growth("a")), ..Default::default() };
    assert_eq!((entry.growth_now("a"), entry.growth_now("b")), (3, 0));
    assert!(entry.makes("a") && !entry.makes("b"));
    // GitHub told other numbers since.
    entry.told += 1;
    assert_eq!((entry.growth_now("a"), entry.makes("a")), (0, true));
    // Another held the lease meanwhile, and what its set was to have may be long past.
    (entry.decided, entry.growth) = (entry.told, None);
    assert_eq!((entry.growth_now("a"), entry.makes("a")), (0, false));
}
