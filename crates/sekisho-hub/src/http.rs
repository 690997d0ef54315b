//! The hub's endpoints.

mod agents;
mod app;
mod artifacts;
mod authorize;
mod blobs;
mod broker;
mod caches;
mod caller;
mod faults;
mod feed;
mod guard;
mod hub_v1;
mod launch;
mod limits;
mod oauth;
mod oidc;
mod old_queue;
mod queue;
pub(crate) mod register;
mod registration;
mod reply;
mod rest;
mod rest_artifacts;
mod rest_caches;
mod rest_concurrency;
mod rest_groups;
mod rest_hooks;
mod rest_logs;
mod rest_pulls;
mod rest_registration;
mod rest_repositories;
mod rest_runs;
mod rest_workflows;
mod results;
mod run_service;
pub(crate) mod shown;
mod signed;
mod table;
mod tenant;
mod work;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, delete, get, patch, post, put};

pub(crate) use guard::{basic, bearer, check_base_url, is_local};
pub(crate) use limits::Rates;

use self::table::Table;
use crate::git;
use crate::shared::Shared;

/// The largest body of an ordinary request, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// The largest report about a job, in bytes: outputs, steps and annotations.
const MAX_REPORT: usize = 8 * 1024 * 1024;

/// Everything the hub answers to.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let (router, _) = table(&shared).into_parts();
    let router = router.layer(DefaultBodyLimit::max(MAX_BODY));
    let router = if shared.config.fault_switches {
        router.layer(from_fn_with_state(Arc::clone(&shared), faults::strike))
    } else {
        router
    };
    router
        .layer(from_fn_with_state(Arc::clone(&shared), guard::local_only))
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .layer(from_fn(reply::request_id))
        .with_state(shared)
}

/// The paths of [`router`], as axum writes them.
pub(crate) fn paths(shared: &Arc<Shared>) -> Vec<String> {
    table(shared).into_parts().1
}

fn table(shared: &Arc<Shared>) -> Table {
    let api = Table::new()
        .nest("/repos/{owner}/{name}", scope().merge(runs()))
        .nest("/orgs/{owner}", scope().route("/repos", get(rest_repositories::list)))
        .nest("/enterprises/{enterprise}", scope())
        .merge(as_app());
    let api = api.with(|api| {
        api.fallback(rest::not_found)
            .layer(from_fn_with_state(Arc::clone(shared), authorize::layer))
            .layer(from_fn_with_state(Arc::clone(shared), limits::layer))
    });
    let own = own();
    let own = if shared.config.fault_switches { own.merge(switches()) } else { own };
    let own = own.with(|own| {
        own.fallback(hub_v1::not_found)
            .layer(from_fn_with_state(Arc::clone(shared), guard::own_admin))
            .layer(from_fn(reply::problems))
    });
    Table::new()
        .route("/api/v3/actions/runner-registration", post(registration::register))
        .route("/api/v3/actions/runners/register", post(register::register))
        .nest("/_tenant", tenant())
        .nest("/api/v3", api)
        .nest("/_hub/v1", own)
        .nest("/_broker", broker())
        .nest("/_run", run_service())
        .route("/actions/build/{plan}/jobs/{job}/runnerresolve/actions", post(launch::resolve))
        .route("/_launch/{owner}/{name}/tarball/{sha}", get(launch::tarball))
        .nest("/twirp", twirp())
        .nest("/_results/twirp", twirp())
        .route("/_oauth/token", post(oauth::token))
        .route("/_blobs/{run}/{job}/{file}", put(blobs::put).get(rest_logs::log))
        .route("/_blobs/{run}/attempts/{attempt}/logs.zip", get(rest_logs::archive))
        .route("/devstoreaccount1/{container}/{blob}", put(signed::put).get(signed::get))
        .nest("/_services/token", issuer())
        .route("/{owner}/{name}/info/refs", get(git::info_refs))
        .route("/{owner}/{name}/git-upload-pack", post(git::upload_pack))
        .route("/{owner}/{name}/git-receive-pack", post(git::receive_pack))
}

/// The hub's own API.
fn own() -> Table {
    Table::new()
        .route("/health", get(hub_v1::health))
        .route("/queue", get(hub_v1::queue))
        .route("/runners/{id}/gone", post(hub_v1::gone))
        .route("/runs", get(hub_v1::runs))
        .route("/runs/{id}", get(hub_v1::run))
        .route("/runs/{id}/events", get(hub_v1::events))
        .route("/runs/{id}/cancel", post(hub_v1::cancel))
        .route("/pushes", get(hub_v1::pushes))
        .route("/repositories/{owner}/{name}/dispatch", post(hub_v1::dispatch))
}

/// Another service's endpoints, behind the same check of where a request comes from.
pub(crate) fn guard(shared: Arc<Shared>, router: Router) -> Router {
    router.layer(from_fn_with_state(shared, guard::local_only))
}

/// Runners and hooks of a repository, an organization or an enterprise: the hub has one pool for
/// all.
fn scope() -> Table {
    let labels = get(rest_registration::get_labels)
        .post(rest_registration::add_labels)
        .put(rest_registration::set_labels)
        .delete(rest_registration::clear_labels);
    let group = get(rest_groups::get_group)
        .patch(rest_groups::update_group)
        .delete(rest_groups::delete_group);
    let member = put(rest_groups::add_group_runner).delete(rest_groups::remove_group_runner);
    let repositories =
        get(rest_groups::group_repositories).put(rest_groups::set_group_repositories);
    let selected =
        put(rest_groups::add_group_repository).delete(rest_groups::remove_group_repository);
    Table::new()
        .route("/installation", get(app::installation))
        .route("/actions/runners/generate-jitconfig", post(rest::generate_jitconfig))
        .route("/actions/runners/registration-token", post(registration::registration_token))
        .route("/actions/runners/remove-token", post(registration::remove_token))
        .route("/actions/runners/downloads", get(rest_registration::downloads))
        .route("/actions/runners", get(rest::list_runners))
        .route("/actions/runners/{id}", get(rest::get_runner).delete(rest::delete_runner))
        .route("/actions/runners/{id}/labels", labels)
        .route("/actions/runners/{id}/labels/{label}", delete(rest_registration::remove_label))
        .route("/actions/runner-groups", get(rest_groups::groups).post(rest_groups::create_group))
        .route("/actions/runner-groups/{group}", group)
        .route("/actions/runner-groups/{group}/runners", get(rest_groups::group_runners))
        .route("/actions/runner-groups/{group}/runners/{runner}", member)
        .route("/actions/runner-groups/{group}/repositories", repositories)
        .route("/actions/runner-groups/{group}/repositories/{repository}", selected)
        .route("/hooks", get(rest_hooks::list))
        .route("/hooks/{hook}/pings", post(rest_hooks::ping))
        .route("/hooks/{hook}/deliveries", get(rest_hooks::deliveries))
        .route("/hooks/{hook}/deliveries/{delivery}", get(rest_hooks::delivery))
        .route("/hooks/{hook}/deliveries/{delivery}/attempts", post(rest_hooks::redeliver))
}

/// What a GitHub App does as itself, and what anybody may ask.
fn as_app() -> Table {
    Table::new()
        .route("/app", get(app::get))
        .route("/app/installations", get(app::installations))
        .route("/app/installations/{id}/access_tokens", post(app::access_token))
        .route("/rate_limit", get(limits::get))
}

fn runs() -> Table {
    Table::new()
        .route("/actions/runs", get(rest_runs::list))
        .route("/actions/runs/{run}", get(rest_runs::get))
        .route("/actions/runs/{run}/attempts/{attempt}", get(rest_runs::get))
        .route("/actions/runs/{run}/jobs", get(rest_runs::jobs))
        .route("/actions/runs/{run}/attempts/{attempt}/jobs", get(rest_runs::jobs))
        .route("/actions/runs/{run}/logs", get(rest_logs::run_logs))
        .route("/actions/runs/{run}/attempts/{attempt}/logs", get(rest_logs::run_logs))
        .route("/actions/runs/{run}/cancel", post(rest_runs::cancel))
        .route("/actions/runs/{run}/force-cancel", post(rest_runs::force_cancel))
        .route("/actions/runs/{run}/rerun", post(rest_runs::rerun))
        .route("/actions/runs/{run}/rerun-failed-jobs", post(rest_runs::rerun_failed))
        .route("/actions/runs/{run}/artifacts", get(rest_artifacts::of_run))
        .route("/actions/artifacts", get(rest_artifacts::list))
        .route(
            "/actions/artifacts/{artifact}",
            get(rest_artifacts::get).delete(rest_artifacts::delete),
        )
        .route("/actions/artifacts/{artifact}/zip", get(rest_artifacts::zip))
        .route("/actions/concurrency_groups", get(rest_concurrency::list))
        .route("/actions/concurrency_groups/{group}", get(rest_concurrency::get))
        .route(
            "/actions/runs/{run}/pending_deployments",
            get(rest_runs::pending_deployments).post(rest_runs::review_deployments),
        )
        .route("/actions/runs/{run}/concurrency_groups", get(rest_concurrency::of_run))
        .route("/actions/caches", get(rest_caches::list))
        .route("/actions/caches/{cache}", delete(rest_caches::delete))
        .route("/actions/cache/usage", get(rest_caches::usage))
        .route("/actions/jobs/{job}", get(rest_runs::job))
        .route("/actions/jobs/{job}/logs", get(rest_logs::job_logs))
        .route("/actions/jobs/{job}/rerun", post(rest_runs::rerun_job))
        .route("/actions/workflows/{workflow}/dispatches", post(rest_workflows::dispatch))
        .route("/pulls", get(rest_pulls::list).post(rest_pulls::open))
        .route("/pulls/{pull}", get(rest_pulls::get).patch(rest_pulls::update))
        .route("/pulls/{pull}/merge", put(rest_pulls::merge))
        .route("/contents/{*path}", get(rest_workflows::contents))
}

/// The Actions service, as clients of scale sets see it.
fn tenant() -> Table {
    let set = "/_apis/runtime/runnerscalesets/{id}";
    let agents = "/_apis/distributedtask/pools/0/agents";
    Table::new()
        .route("/_apis/runtime/runnerscalesets", get(tenant::list).post(tenant::create))
        .route(set, get(tenant::get).patch(tenant::update).delete(tenant::delete))
        .route(&format!("{set}/generatejitconfig"), post(tenant::generate_jitconfig))
        .route(&format!("{set}/sessions"), post(queue::create))
        .route(&format!("{set}/sessions/{{session}}"), patch(queue::renew).delete(queue::delete))
        .route(&format!("{set}/acquirejobs"), post(queue::acquire))
        .route(&format!("{set}/acquirablejobs"), get(tenant::acquirable))
        .route("/_apis/runtime/runnergroups/", get(tenant::groups))
        .route("/_apis/runtime/runnergroups", get(tenant::groups))
        .route(agents, get(agents::runners))
        .route(&format!("{agents}/{{id}}"), get(agents::runner).delete(agents::remove_runner))
        .merge(old_queue())
        .route("/scalesets/message", get(queue::poll))
        .route("/scalesets/message/{message}", delete(queue::delete_message))
}

/// The fault switches.
fn switches() -> Table {
    Table::new()
        .route("/faults", get(faults::struck).put(faults::set).delete(faults::clear))
        .route("/clock", post(faults::clock))
}

fn broker() -> Table {
    let calls = |slash: &str| {
        Table::new()
            .route(&format!("{slash}session"), post(broker::open).delete(broker::close))
            .route(&format!("{slash}message"), get(broker::message))
            .route(&format!("{slash}acknowledge"), post(broker::acknowledge))
    };
    // The second is how they are asked for by who puts a slash after that which the base ends with.
    calls("/").merge(calls("//")).merge(old_queue())
}

/// Where runners that know of no broker look for their messages: the place of their configuration.
fn old_queue() -> Table {
    let sessions = "/_apis/distributedtask/pools/{pool}/sessions";
    Table::new()
        .route("/_apis/connectionData", get(old_queue::connection_data))
        .route(sessions, post(old_queue::open))
        .route(&format!("{sessions}/{{session}}"), delete(old_queue::close))
}

fn run_service() -> Table {
    Table::new()
        .route("/acquirejob", post(run_service::acquire))
        .route("/renewjob", post(run_service::renew))
        .route("/completejob", post(run_service::complete))
        .route("/feed", any(feed::feed))
        .with(|router| router.layer(DefaultBodyLimit::max(MAX_REPORT)))
}

fn twirp() -> Table {
    Table::new()
        .route("/results.services.receiver.Receiver/{method}", post(results::receive))
        .route(
            "/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate",
            post(results::steps_update),
        )
        .route("/github.actions.results.api.v1.ArtifactService/{method}", post(artifacts::call))
        .route("/github.actions.results.api.v1.CacheService/{method}", post(caches::call))
        .with(|router| router.layer(DefaultBodyLimit::max(MAX_REPORT)))
}

fn issuer() -> Table {
    Table::new()
        .route("/.well-known/openid-configuration", get(oidc::discovery))
        .route("/.well-known/jwks", get(oidc::jwks))
        .route("/jwks", get(oidc::jwks))
        .route("/id", get(oidc::id_token))
}
