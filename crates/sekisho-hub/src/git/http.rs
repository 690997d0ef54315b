//! The smart HTTP protocol (gitprotocol-http(5)): checks the request, lets `git` answer it.

use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::ExposeSecret as _;
use sekisho_workflow::model::Access;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::frames::service_header;
use super::serve::{self, Input, Messages, Rpc, Service, exchange};
use super::{MAX_PUSH_BYTES, Repository, peer};
use crate::event::Actor;
use crate::http::basic;
use crate::names::RepoName;
use crate::push::{changed_refs, pushed};
use crate::shared::Shared;
use crate::state::RepositoryIds;
use crate::tokens::{GithubClaims, same_secret};

/// The largest request of a fetch, in bytes: what a client has and wants, by object id.
const MAX_FETCH_BYTES: u64 = 64 * 1024 * 1024;
/// How long a push, or a merge, waits for another one to the same repository.
pub(crate) const PUSH_WAIT: Duration = Duration::from_secs(60);
/// What whoever still has a job's token is told.
const JOB_IS_OVER: &str = "the job whose token this is is over";
/// Repositories there may be.
const MAX_REPOSITORIES: usize = 10_000;
/// Longest user name that becomes an actor, in characters, as on GitHub.
const MAX_ACTOR: usize = 39;

/// Query of `info/refs`.
#[derive(Debug, Deserialize)]
pub(crate) struct InfoRefs {
    #[serde(default)]
    service: String,
}

type Refused = (StatusCode, String);
type At = Path<(String, String)>;
/// The other end of the connection, if the server tells it.
type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

/// `GET /{owner}/{name}/info/refs?service=…`
pub(crate) async fn info_refs(
    State(shared): State<Arc<Shared>>,
    at: At,
    Query(query): Query<InfoRefs>,
    peer: Peer,
    headers: HeaderMap,
) -> Response {
    answer(advertise(&shared, &at, &query, &headers, peer).await)
}

/// `POST /{owner}/{name}/git-upload-pack`
pub(crate) async fn upload_pack(
    State(shared): State<Arc<Shared>>,
    at: At,
    peer: Peer,
    request: Request,
) -> Response {
    answer(fetch(&shared, &at, peer, request).await)
}

/// `POST /{owner}/{name}/git-receive-pack`
pub(crate) async fn receive_pack(
    State(shared): State<Arc<Shared>>,
    at: At,
    peer: Peer,
    request: Request,
) -> Response {
    answer(push(shared, &at, peer, request).await)
}

fn answer(result: Result<Response, Refused>) -> Response {
    // git shows the text of an error answer if it is plain text.
    result.unwrap_or_else(|(status, text)| {
        let mut response = (status, text + "\n").into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"sekisho\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    })
}

async fn advertise(
    shared: &Arc<Shared>,
    at: &At,
    query: &InfoRefs,
    headers: &HeaderMap,
    peer: Peer,
) -> Result<Response, Refused> {
    let service = Service::parse(&query.service).ok_or_else(|| {
        (StatusCode::FORBIDDEN, "only git's smart HTTP protocol is served".to_owned())
    })?;
    let repository = match service {
        Service::UploadPack => {
            may_fetch(shared, headers, peer).await?;
            find(shared, at)?.1
        }
        Service::ReceivePack => {
            may_push(shared, at, headers, peer).await?;
            find_or_create(shared, at).await?.1
        }
    };
    let protocol = protocol(headers);
    let mut body = Vec::new();
    if !protocol.is_some_and(|text| text.contains("version=2")) || service == Service::ReceivePack {
        body = service_header(service.name());
    }
    let rpc = start(&repository, service, true, protocol, None)?;
    let stream = stream(shared, rpc, Input { body: Body::empty(), gzip: false, max: 0 }, None);
    let first =
        futures_util::stream::once(async move { Ok::<_, std::io::Error>(Bytes::from(body)) });
    let kind = format!("application/x-{}-advertisement", service.name());
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache".to_owned())];
    Ok((headers, Body::from_stream(first.chain(stream))).into_response())
}

async fn fetch(
    shared: &Arc<Shared>,
    at: &At,
    peer: Peer,
    request: Request,
) -> Result<Response, Refused> {
    let service = Service::UploadPack;
    let gzip = check(service, request.headers())?;
    may_fetch(shared, request.headers(), peer).await?;
    let (_, repository) = find(shared, at)?;
    let rpc = start(&repository, service, false, protocol(request.headers()), None)?;
    let input = Input { body: request.into_body(), gzip, max: MAX_FETCH_BYTES };
    Ok(result(service, stream(shared, rpc, input, None)))
}

async fn push(
    shared: Arc<Shared>,
    at: &At,
    peer: Peer,
    request: Request,
) -> Result<Response, Refused> {
    let service = Service::ReceivePack;
    let gzip = check(service, request.headers())?;
    let actor = may_push(&shared, at, request.headers(), peer).await?;
    let (ids, repository) = find_or_create(&shared, at).await?;
    if shared.config.builtin_repositories.iter().any(|b| ids.name.key() == key(&b.owner, &b.name)) {
        return Err((StatusCode::FORBIDDEN, format!("{} is built in: it takes no push", ids.name)));
    }
    let hooks = if actor.is_job { Some(hooks(&shared)?) } else { None };
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "another push is under way".to_owned());
    let lock = shared.push_lock(&ids.name).acquire_owned();
    let lock = tokio::time::timeout(PUSH_WAIT, lock).await.map_err(|_| busy())?;
    let lock = lock.map_err(|_| busy())?;
    let before = {
        let repository = repository.clone();
        blocking(move || repository.refs()).await?.map_err(|error| internal(&error))?
    };
    let rpc = start(&repository, service, false, protocol(request.headers()), hooks)?;
    let input = Input { body: request.into_body(), gzip, max: MAX_PUSH_BYTES };
    let held = Arc::clone(&shared);
    let after: Messages = Box::pin(async move {
        let work = blocking(move || {
            let after = repository.refs()?;
            let updates = changed_refs(&before, &after);
            set_default_branch(&repository, &after)?;
            Ok::<_, super::GitError>(pushed(&held, &ids, &updates, &actor))
        });
        let messages = match work.await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => vec![format!("error: {}", internal(&error).1)],
            Err((_, text)) => vec![format!("error: {text}")],
        };
        drop(lock);
        messages
    });
    Ok(result(service, stream(&shared, rpc, input, Some(after))))
}

/// Who looks at what a job pushes. Nobody else can: where it cannot be run, no job pushes.
fn hooks(shared: &Shared) -> Result<&FilePath, Refused> {
    shared.git.hooks.as_deref().ok_or_else(|| {
        let why = "no job pushes here: the hub's hook cannot be run, see its log";
        (StatusCode::FORBIDDEN, why.to_owned())
    })
}

/// The first branch of a repository is its default branch, whatever its name.
fn set_default_branch(
    repository: &Repository,
    refs: &std::collections::BTreeMap<String, String>,
) -> Result<(), super::GitError> {
    let known = repository.default_branch()?;
    let there = known.is_some_and(|branch| refs.contains_key(&format!("refs/heads/{branch}")));
    let first = refs.keys().find_map(|name| name.strip_prefix("refs/heads/"));
    match first {
        Some(branch) if !there => repository.set_default_branch(branch),
        _ => Ok(()),
    }
}

fn start(
    repository: &Repository,
    service: Service,
    advertise: bool,
    protocol: Option<&str>,
    hooks: Option<&FilePath>,
) -> Result<Rpc, Refused> {
    serve::start(repository, service, advertise, protocol, hooks).map_err(|error| internal(&error))
}

/// Runs the exchange on a task of its own: a push is finished even if its client goes away.
fn stream(
    shared: &Arc<Shared>,
    rpc: Rpc,
    input: Input,
    after: Option<Messages>,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + use<> {
    let (sender, receiver) = mpsc::channel(serve::QUEUE);
    shared.tasks.spawn(exchange(rpc, input, sender, after));
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (Ok(chunk), receiver))
    })
}

fn result(
    service: Service,
    stream: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response {
    let kind = format!("application/x-{}-result", service.name());
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache".to_owned())];
    (headers, Body::from_stream(stream)).into_response()
}

/// Checks a request's headers; whether its body is compressed.
fn check(service: Service, headers: &HeaderMap) -> Result<bool, Refused> {
    // No web page can send this type without asking first, and we answer no such question.
    let wanted = format!("application/x-{}-request", service.name());
    if headers.get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != wanted.as_bytes()) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("expected {wanted}")));
    }
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "only gzip is understood".to_owned())),
    }
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get("git-protocol")?.to_str().ok()
}

/// Programs of the plane's own user may push, unless they run in a sandbox, and whoever has the
/// admin token; a job while it runs, to its own repository, if its `contents` permission says so. A
/// server that does not tell the other end's address (see [`crate::Hub::router`]) lets every program of
/// this machine push.
async fn may_push(
    shared: &Shared,
    at: &At,
    headers: &HeaderMap,
    peer: Peer,
) -> Result<Actor, Refused> {
    let (user, password) = basic(headers).unwrap_or_default();
    if let Some(claims) = shared.tokens.read::<GithubClaims>(&password) {
        let own = name_of(at)?.key() == claims.repository.to_ascii_lowercase();
        let why = match (own, shared.is_running(claims.at())) {
            (true, true) if claims.allows("contents", Access::Write) => return Ok(Actor::job()),
            (true, true) => "the job's token may not push: it needs `permissions: contents: write`",
            (true, false) => JOB_IS_OVER,
            (false, _) => "a job's token may push to the repository of the job alone",
        };
        return Err((StatusCode::FORBIDDEN, why.to_owned()));
    }
    let is_admin = is_admin(shared, &password);
    if !is_admin {
        no_stranger(peer).await?;
    }
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let plain = !user.is_empty() && user.len() <= MAX_ACTOR && user.chars().all(known);
    let name = (plain && !is_admin && user != "x-access-token").then_some(user);
    Ok(Actor::user(name.as_deref().unwrap_or(&shared.config.actor)))
}

/// Who may push may fetch, and every job while it runs.
async fn may_fetch(shared: &Shared, headers: &HeaderMap, peer: Peer) -> Result<(), Refused> {
    let (_, password) = basic(headers).unwrap_or_default();
    if let Some(claims) = shared.tokens.read::<GithubClaims>(&password) {
        let running = shared.is_running(claims.at());
        return if running { Ok(()) } else { Err((StatusCode::FORBIDDEN, JOB_IS_OVER.to_owned())) };
    }
    if is_admin(shared, &password) { Ok(()) } else { no_stranger(peer).await }
}

fn is_admin(shared: &Shared, password: &str) -> bool {
    same_secret(password, shared.config.admin_token.expose_secret())
}

async fn no_stranger(peer: Peer) -> Result<(), Refused> {
    let Some(Extension(ConnectInfo(peer))) = peer else { return Ok(()) };
    if blocking(move || peer::is_ours(peer)).await? {
        return Ok(());
    }
    let why = "you are not the user who runs the plane, or run in a sandbox: give the plane's admin \
               token as the password";
    Err((StatusCode::UNAUTHORIZED, why.to_owned()))
}

fn key(owner: &str, name: &str) -> String {
    format!("{owner}/{name}").to_ascii_lowercase()
}

fn name_of(Path((owner, name)): &At) -> Result<RepoName, Refused> {
    RepoName::new(owner, name).map_err(|error| (StatusCode::NOT_FOUND, error.to_string()))
}

fn find(shared: &Shared, at: &At) -> Result<(RepositoryIds, Repository), Refused> {
    let name = name_of(at)?;
    let known = shared.look(|state| state.repositories.get(&name));
    let found = known.and_then(|ids| {
        let repository = shared.git.repository(&ids.name)?;
        Some((ids, repository))
    });
    found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no repository {name}")))
}

async fn find_or_create(
    shared: &Arc<Shared>,
    at: &At,
) -> Result<(RepositoryIds, Repository), Refused> {
    if let Ok(found) = find(shared, at) {
        return Ok(found);
    }
    let name = name_of(at)?;
    let held = Arc::clone(shared);
    let made = blocking(move || {
        if held.look(|state| state.repositories.len()) >= MAX_REPOSITORIES {
            let why = "the hub holds too many repositories".to_owned();
            return Err((StatusCode::INSUFFICIENT_STORAGE, why));
        }
        let (ids, new) = held.change(|state, _| state.repositories.register(&name));
        if new {
            held.save_repositories();
        }
        let repository = held.git.create(&ids.name).map_err(|error| internal(&error))?;
        Ok((ids, repository))
    });
    let made = made.await??;
    // Its id is given once.
    let written = shared.saver.flushed().await;
    written.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(made)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))
}

/// The detail goes to the log, the person who pushes is told that it is ours.
fn internal(error: &dyn std::error::Error) -> Refused {
    tracing::error!("git over HTTP: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, "an error of the hub: see its log".to_owned())
}
