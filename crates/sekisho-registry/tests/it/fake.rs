//! A registry in memory.

#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use sekisho_types::Digest;

/// What the registry asks for.
#[derive(Clone, Default)]
pub(crate) enum Wants {
    #[default]
    Nothing,
    Basic(&'static str),
    /// `Bearer TOKEN`, where the token service answers to this.
    Token {
        /// `Authorization` of a GET, or `refresh_token` of a POST; empty for anonymous.
        proof: &'static str,
        expires_in: u64,
    },
    /// Exactly this header.
    Fixed(&'static str),
}

/// An answer to be given once instead of the right one.
pub(crate) struct Fault {
    /// `METHOD path`, compared at its start.
    pub(crate) to: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) wants: Wants,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// By `name/reference`: content type and bytes.
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    uploads: BTreeMap<usize, Vec<u8>>,
    pub(crate) faults: VecDeque<Fault>,
    /// `METHOD path?query`, and `Authorization`.
    pub(crate) log: Vec<(String, Option<String>)>,
    pub(crate) redirect_blobs: Option<String>,
    pub(crate) warn: Option<&'static str>,
    pub(crate) mounts: bool,
    /// Parts of blobs are sent when they are asked for.
    pub(crate) ranges: bool,
    /// What `Content-Range` says instead of the truth.
    pub(crate) lie: Option<&'static str>,
    /// The link is cut after so many bytes of a blob, once each.
    pub(crate) cuts: VecDeque<usize>,
    /// `Range` of the requests for blobs.
    pub(crate) ranges_seen: Vec<Option<String>>,
    /// Requests to this path are never answered.
    pub(crate) silent: Option<&'static str>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) host: String,
    pub(crate) world: Arc<Mutex<World>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let fake = Self { host, world: Arc::default() };
        let router = Router::new().fallback(handle).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.change(|world| drop(world.blobs.insert(digest.to_string(), bytes.to_vec())));
        digest
    }

    pub(crate) fn fault(&self, to: &str, status: u16, body: &str) {
        let (to, body) = (to.to_owned(), body.to_owned());
        self.change(|world| world.faults.push_back(Fault { to, status, headers: vec![], body }));
    }

    /// The requests so far, without queries.
    pub(crate) fn requests(&self) -> Vec<String> {
        let world = self.world.lock().unwrap();
        let line = |line: &String| line.split('?').next().unwrap_or_default().to_owned();
        world.log.iter().map(|(request, _)| line(request)).collect()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.requests().iter().filter(|request| request.starts_with(start)).count()
    }
}

fn answer(status: u16, headers: &[(&str, String)], body: impl Into<Body>) -> Response {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder.body(body.into()).unwrap()
}

async fn handle(State(fake): State<Fake>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let method = parts.method;
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let authorization =
        parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let body = to_bytes(body, 64 << 20).await.unwrap_or_default();
    let line = format!("{method} {path}");
    let silent = {
        let mut world = fake.world.lock().unwrap();
        let logged = if query.is_empty() { line.clone() } else { format!("{line}?{query}") };
        world.log.push((logged, authorization.clone()));
        let hit = world.faults.iter().position(|fault| line.starts_with(&fault.to));
        if let Some(fault) = hit.and_then(|at| world.faults.remove(at)) {
            return answer(fault.status, &fault.headers, fault.body);
        }
        world.silent.is_some_and(|silent| path.contains(silent))
    };
    if silent {
        std::future::pending::<()>().await;
    }
    if path == "/token" {
        return token(&fake, &method, authorization.as_deref(), &body);
    }
    if let Some(refusal) = unauthorized(&fake, authorization.as_deref()) {
        return refusal;
    }
    serve(&fake, &method, &path, &query, &parts.headers, &body)
}

fn token(fake: &Fake, method: &Method, authorization: Option<&str>, body: &[u8]) -> Response {
    let world = fake.world.lock().unwrap();
    let Wants::Token { proof, expires_in } = world.wants else {
        return answer(404, &[], "");
    };
    let body = String::from_utf8_lossy(body);
    let proven = match *method {
        Method::POST => {
            body.contains("grant_type=refresh_token")
                && body.contains(&format!("refresh_token={proof}"))
        }
        _ => authorization.unwrap_or_default() == proof,
    };
    if !proven {
        return answer(401, &[], "{}");
    }
    answer(200, &[], format!(r#"{{"access_token":"TOKEN","expires_in":{expires_in}}}"#))
}

fn unauthorized(fake: &Fake, authorization: Option<&str>) -> Option<Response> {
    let world = fake.world.lock().unwrap();
    let (want, challenge) = match world.wants {
        Wants::Nothing => return None,
        Wants::Basic(want) => (want, "Basic realm=\"x\"".to_owned()),
        Wants::Fixed(want) => (want, "Bearer".to_owned()),
        Wants::Token { .. } => {
            let realm = format!("http://{}/token", fake.host);
            let challenge = format!(r#"Bearer realm="{realm}",service="fake""#);
            ("Bearer TOKEN", challenge)
        }
    };
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#;
    (authorization != Some(want))
        .then(|| answer(401, &[("www-authenticate", challenge)], body.to_owned()))
}

fn serve(
    fake: &Fake,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let mut world = fake.world.lock().unwrap();
    let world = &mut *world;
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    if path.is_empty() {
        return answer(200, &[], "{}");
    }
    if let Some((name, rest)) = path.split_once("/blobs/uploads/") {
        return upload(world, method, name, rest, query, body);
    }
    if let Some((_, digest)) = path.split_once("/blobs/") {
        if let Some(elsewhere) = &world.redirect_blobs {
            return answer(307, &[("location", format!("{elsewhere}/{digest}"))], "");
        }
        return match world.blobs.get(digest).cloned() {
            Some(bytes) if *method == Method::HEAD => {
                answer(200, &[("content-length", bytes.len().to_string())], vec![])
            }
            Some(bytes) => send(world, headers, bytes),
            None => answer(404, &[], r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
        };
    }
    let Some((name, reference)) = path.split_once("/manifests/") else {
        return answer(404, &[], "");
    };
    let key = format!("{name}/{reference}");
    if *method == Method::PUT {
        let digest = Digest::sha256(body).to_string();
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        for key in [key, format!("{name}/{digest}")] {
            world.manifests.insert(key, (kind.clone(), body.to_vec()));
        }
        let mut headers = vec![("docker-content-digest", digest)];
        headers.extend(world.warn.map(|text| ("warning", format!("299 - \"{text}\""))));
        return answer(201, &headers, "");
    }
    match world.manifests.get(&key) {
        Some((kind, bytes)) => {
            let digest = Digest::sha256(bytes).to_string();
            let headers = [("content-type", kind.clone()), ("docker-content-digest", digest)];
            answer(200, &headers, bytes.clone())
        }
        None => answer(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
    }
}

/// A blob, or a part of it, as far as the link holds.
fn send(world: &mut World, headers: &HeaderMap, bytes: Vec<u8>) -> Response {
    let asked = headers.get("range").map(|value| value.to_str().unwrap().to_owned());
    world.ranges_seen.push(asked.clone());
    let total = bytes.len();
    let (mut status, mut said, mut part) = (200, Vec::new(), bytes);
    if let Some((first, last)) = asked.filter(|_| world.ranges).and_then(|asked| {
        let (first, last) = asked.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
    }) {
        let truth = format!("bytes {first}-{last}/{total}");
        said.push(("content-range", world.lie.map_or(truth, str::to_owned)));
        (status, part) = (206, part[first..=last].to_vec());
    }
    said.push(("content-length", part.len().to_string()));
    let Some(cut) = world.cuts.pop_front().filter(|cut| *cut < part.len()) else {
        return answer(status, &said, part);
    };
    // Between pieces the connection gets to send what it has, so that something arrives.
    let pieces = part[..cut].chunks(16 << 10).map(|piece| Ok(piece.to_vec()));
    let pieces: Vec<_> = pieces.chain([Err(std::io::Error::other("cut"))]).collect();
    let pieces = futures_util::stream::unfold(pieces.into_iter(), async |mut pieces| {
        tokio::task::yield_now().await;
        pieces.next().map(|piece| (piece, pieces))
    });
    answer(status, &said, Body::from_stream(pieces))
}

fn upload(
    world: &mut World,
    method: &Method,
    name: &str,
    session: &str,
    query: &str,
    body: &[u8],
) -> Response {
    // Relative, and with a state that must come back.
    let place =
        |session: usize| ("location", format!("/v2/{name}/blobs/uploads/{session}?_state=a%3Db"));
    if *method == Method::POST {
        if query.contains("mount=") && world.mounts {
            return answer(201, &[], "");
        }
        let session = world.uploads.len() + 1;
        world.uploads.insert(session, Vec::new());
        return answer(202, &[place(session)], "");
    }
    let number: usize = session.parse().unwrap_or(0);
    let Some(bytes) = world.uploads.get_mut(&number).filter(|_| query.contains("_state=a%3Db"))
    else {
        return answer(404, &[], r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
    };
    bytes.extend_from_slice(body);
    match *method {
        Method::PATCH => answer(StatusCode::ACCEPTED.as_u16(), &[place(number)], ""),
        Method::DELETE => answer(204, &[], ""),
        _ => {
            let digest = query.rsplit_once("digest=").unwrap().1.replace("%3A", ":");
            let bytes = world.uploads.remove(&number).unwrap();
            let found = Digest::sha256(&bytes).to_string();
            if found != digest {
                return answer(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            world.blobs.insert(digest, bytes);
            answer(201, &[("docker-content-digest", found)], "")
        }
    }
}
