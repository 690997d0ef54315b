//! A cable between runner and services that can be cut and joined again.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections while it is whole.
pub(crate) struct Cable {
    address: SocketAddr,
    target: SocketAddr,
    task: Mutex<JoinHandle<()>>,
}

impl Cable {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = Mutex::new(tokio::spawn(forward(listener, target)));
        Self { address, target, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every connection ends, and none is accepted.
    pub(crate) async fn cut(&self) {
        self.task.lock().unwrap().abort();
        while !self.task.lock().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// As before, on the same address.
    pub(crate) async fn join(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.task.lock().unwrap() = tokio::spawn(forward(listener, self.target));
    }
}

async fn forward(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(target).await {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
