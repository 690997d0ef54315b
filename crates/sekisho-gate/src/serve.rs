//! Connections: how many, and how long one may say nothing.
//!
//! ```text
//!  accept ─▶ headers within a minute, again after each answer ─▶ handler ─▶ answer
//!              └ else closed                                       (bodies have deadlines of their own)
//! ```
//!
//! A client that vanished without a word is found by keepalive probes; one that takes no byte of an
//! answer, by the kernel's deadline for what was sent.

mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub use self::tls::{Tls, TlsError};

/// Connections at once; who comes beyond that waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// How long a new request may take to come, from the first moment or from the last answer on. Longer
/// than clients keep a connection for the next request.
const HEADERS: Duration = Duration::from_secs(60);

/// Largest head of a request, in bytes: a token of 8 KiB twice, with room.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Silence after which the other end is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long what was sent may go without an acknowledgement or room for more.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// A pause after the kernel refused a connection, most often for want of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// What a server allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request.
    pub headers: Duration,
    /// Connections at once.
    pub connections: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { headers: HEADERS, connections: MAX_CONNECTIONS }
    }
}

/// Serves HTTP/1.1 until `stop`; then takes no connection any more, ends idle ones, and returns when the
/// last answer is out. Handlers find the other end's address as `ConnectInfo<SocketAddr>`.
///
/// Not cancel safe: dropped, it leaves connections to their own deadlines.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Patience,
    stop: CancellationToken,
) {
    serve_as(listener, None, router, patience, stop).await;
}

/// As [`serve`], over TLS.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    patience: Patience,
    stop: CancellationToken,
) {
    serve_as(listener, Some(tls), router, patience, stop).await;
}

async fn serve_as(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    patience: Patience,
    stop: CancellationToken,
) {
    let (connections, room) = (TaskTracker::new(), Arc::new(Semaphore::new(patience.connections)));
    loop {
        // Each arm is cancel safe: a permit that was not used goes back, a connection that was not
        // accepted stays in the queue.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, peer, seat)) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    begin(stream, peer, tls, router, patience, stop).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!("no connection accepted: {error}");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let seat = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, seat))
}

async fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    patience: Patience,
    stop: CancellationToken,
) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!("a connection that was over at once: {error}");
        return;
    }
    let Some(tls) = tls else { return connection(stream, peer, router, patience, stop).await };
    // Cancel safe: a handshake that is not over is given up.
    tokio::select! {
        () = stop.cancelled() => {}
        met = tokio::time::timeout(patience.headers, tls.meet(stream)) => match met {
            Ok(Ok(stream)) => connection(stream, peer, router, patience, stop.clone()).await,
            Ok(Err(error)) => tracing::debug!(%peer, "no TLS: {error}"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake that took too long"),
        },
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    patience: Patience,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer: Result<Response, Infallible> = router.oneshot(request).await;
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.headers)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(served);
    let mut stopping = false;
    loop {
        // Cancel safe: a connection goes on where it was.
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, "a connection ended: {error}");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 4)?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    let most = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, most)?)
}
