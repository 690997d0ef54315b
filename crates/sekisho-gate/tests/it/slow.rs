//! Clients that connect and say nothing, or half of something.

use std::time::Duration;

use sekisho_gate::{Patience, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::World;

const REQUEST: &[u8] = b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n";

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    // Its folders live as long.
    _world: World,
}

impl Server {
    async fn start(connections: usize) -> Self {
        let world = World::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let patience = Patience { headers: Duration::from_millis(300), connections };
        let task = tokio::spawn(serve(listener, world.gate.router(), patience, stop.clone()));
        Self { address, stop, task, _world: world }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Everything until the other end closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_is_cut_off() {
    let server = Server::start(100).await;
    for said in ["", "GET", "GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "] {
        let mut stream = server.connect().await;
        stream.write_all(said.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(!answer.contains(" 200 "), "{said}: {answer}");
    }
    // One that trickles a byte now and then gains nothing by it.
    let mut stream = server.connect().await;
    let mut sent = 0;
    for byte in REQUEST.iter().cycle() {
        sent += 1;
        if stream.write_all(&[*byte]).await.is_err() || sent > 10_000 {
            break;
        }
        if sent == 20 {
            assert!(!rest(&mut stream).await.contains(" 200 "));
            break;
        }
    }
}

#[tokio::test]
async fn a_connection_without_another_request_ends() {
    let server = Server::start(100).await;
    let mut stream = server.connect().await;
    stream.write_all(REQUEST).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn half_open_clients_do_not_keep_others_out() {
    let server = Server::start(2).await;
    let mut silent = vec![server.connect().await, server.connect().await];
    // Both seats are taken, until those two have said nothing for long enough.
    let mut stream = server.connect().await;
    stream.write_all(REQUEST).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    for stream in &mut silent {
        assert!(!rest(stream).await.contains(" 200 "));
    }
}

#[tokio::test]
async fn a_server_that_stops_lets_nobody_wait() {
    let server = Server::start(100).await;
    let mut idle = server.connect().await;
    idle.write_all(REQUEST).await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 401");
    server.stop.cancel();
    server.task.await.unwrap();
    rest(&mut idle).await;
}
