//! A relay before a server, that falls silent when it is told to: no error, no end of a connection, nothing.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What a relay still says of each answer that it falls silent in, in bytes: more than any head.
const BEGINNING_BYTES: usize = 64 * 1024;

/// How much is handed on at once, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// What is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// All, in both directions.
    All,
    /// Each request, and the beginning of its answer.
    Beginnings,
    /// Nothing; connections are taken all the same.
    Nothing,
}

struct State {
    speech: Speech,
    /// Pieces that were not handed on.
    swallowed: usize,
    /// Both ends of each connection, and `None` once it is over.
    open: Option<Vec<TcpStream>>,
}

/// A relay on loopback; its connections end with it.
pub struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let open = self.state.lock().unwrap_or_else(PoisonError::into_inner).open.take();
        for stream in open.into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Who waits for the next connection has one, and sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Relay {
    /// Before the server at `host`, `ADDRESS:PORT`, handing on all.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn before(host: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = State { speech: Speech::All, swallowed: 0, open: Some(Vec::new()) };
        let state = Arc::new(Mutex::new(state));
        let (shared, host) = (Arc::clone(&state), host.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let is_up = client.and_then(|client| connect(client, &host, &shared));
                if !is_up.unwrap_or(true) {
                    return;
                }
            }
        });
        Ok(Self { address, state })
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What is handed on from now on, of connections that are open too. What was swallowed is gone.
    pub fn say(&self, speech: Speech) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).speech = speech;
    }

    /// How often something came that was not handed on.
    #[must_use]
    pub fn swallowed(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).swallowed
    }
}

/// Hands on what comes on one connection, on threads of their own; `false` when the relay is over.
fn connect(client: TcpStream, host: &str, state: &Arc<Mutex<State>>) -> io::Result<bool> {
    let server = TcpStream::connect(host)?;
    {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut state.open else { return Ok(false) };
        open.extend([client.try_clone()?, server.try_clone()?]);
    }
    let ways =
        [(client.try_clone()?, server.try_clone()?, usize::MAX), (server, client, BEGINNING_BYTES)];
    for (from, to, beginning) in ways {
        let state = Arc::clone(state);
        std::thread::spawn(move || hand_on(from, to, beginning, &state));
    }
    Ok(true)
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, beginning: usize, state: &Mutex<State>) {
    let (mut piece, mut begun) = (vec![0; PIECE_BYTES], 0_usize);
    while let Ok(read @ 1..) = from.read(&mut piece) {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let speech = state.speech;
        begun = if speech == Speech::Beginnings { begun.saturating_add(read) } else { 0 };
        let is_told = match speech {
            Speech::All => true,
            Speech::Beginnings => begun <= beginning,
            Speech::Nothing => false,
        };
        state.swallowed += usize::from(!is_told);
        drop(state);
        if is_told && to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
