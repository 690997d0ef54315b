//! The operator on an API server, with the hub as GitHub and runners that speak its wire.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

/// A scenario is written once: each is a test on the double, and all are in `ALL` for a real API server.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[(&str, crate::world::Scenario)] =
            &[$((stringify!($name), |server| Box::pin($name(server)))),*];

        mod on_the_double {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::world::Server::double()).await;
            })*
        }
    };
}

mod containers;
mod deadlines;
mod git;
mod hardening;
mod install;
mod installed;
mod jobs;
mod losses;
mod ownership;
mod played;
mod pushes;
mod refusals;
mod refused;
mod registration;
mod rights;
mod sentences;
mod server;
mod sets;
mod told;
mod troubles;
mod walls;
mod world;
mod zones;

use std::sync::Arc;

use testkit::RealServer;
use world::Server;

/// All scenarios, one after the other on one server, with the operator's own rights.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_all_scenarios_on_a_real_api_server() {
    let Some(real) = RealServer::start().await.unwrap() else { return };
    let server = Server::Real(Arc::new(real));
    let mut failed = Vec::new();
    let all = jobs::ALL.iter().chain(troubles::ALL).chain(losses::ALL).chain(refusals::ALL);
    let all = all
        .chain(deadlines::ALL)
        .chain(sets::ALL)
        .chain(ownership::ALL)
        .chain(walls::ALL)
        .chain(zones::ALL)
        .chain(registration::ALL)
        .chain(install::ALL)
        .chain(hardening::ALL)
        .chain(sentences::ALL);
    for (name, scenario) in all {
        #[expect(clippy::print_stderr, reason = "which one fails, and where")]
        {
            eprintln!("real: {name}");
        }
        if tokio::spawn(scenario(server.clone())).await.is_err() {
            failed.push(*name);
        }
        server.clear().await;
    }
    assert!(failed.is_empty(), "{failed:?}");
}
