//! The socket of an ssh agent inside a sandbox.
//!
//! Commands get a socket of ours, with the owner and mode that the Dockerfile wants, and every
//! connection to it is passed on to the real agent as it is: keys stay where they are.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use fs_err as fs;
use tempfile::TempDir;

/// Connections that one command may have at once; git and ssh have one or two.
const MAX_CONNECTIONS: usize = 16;

/// A socket that leads to an agent until it is dropped.
pub(crate) struct Agent {
    /// Removed with the socket in it.
    _folder: TempDir,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens in `folder`. `owner`: uid and gid, where they can be given.
    pub(crate) fn start(
        folder: TempDir,
        real: &Path,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> io::Result<Self> {
        let path = folder.path().join("agent");
        let listener = UnixListener::bind(&path)?;
        if let Some((uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid))?;
        }
        fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (real, stopped) = (real.to_owned(), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || serve(&listener, &real, &stopped))?;
        Ok(Self { _folder: folder, path, stop, thread: Some(thread) })
    }

    /// Where commands connect to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread from its wait for a connection.
        let _ = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, real: &Path, stop: &AtomicBool) {
    let mut open: Vec<(UnixStream, JoinHandle<()>)> = Vec::new();
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        open.retain(|(_, thread)| !thread.is_finished());
        let (Ok(stream), true) = (stream, open.len() < MAX_CONNECTIONS) else { continue };
        let Ok(ours) = stream.try_clone() else { continue };
        // An agent that is gone is a connection that ends, as it would be outside.
        let Ok(agent) = UnixStream::connect(real) else { continue };
        let thread = std::thread::spawn(move || pass(&stream, &agent));
        open.push((ours, thread));
    }
    for (stream, thread) in open {
        let _ = stream.shutdown(Shutdown::Both);
        let _ = thread.join();
    }
}

/// Passes bytes both ways until either side ends.
fn pass(client: &UnixStream, agent: &UnixStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut from, mut to) = (agent, client);
            let _ = io::copy(&mut from, &mut to);
            let _ = client.shutdown(Shutdown::Both);
        });
        let (mut from, mut to) = (client, agent);
        let _ = io::copy(&mut from, &mut to);
        let _ = agent.shutdown(Shutdown::Both);
    });
}
