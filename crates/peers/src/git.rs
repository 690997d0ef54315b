//! Repositories by git's own protocol.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Serves the repositories of a folder, `git://HOST/NAME`, by `git daemon`: a process for each connection, that ends
/// with it. `None` where git is not installed.
///
/// # Errors
/// There is no port.
pub fn serve_git(folder: &Path) -> anyhow::Result<Option<String>> {
    if !crate::is_installed("git", "--version") {
        return Ok(None);
    }
    let listener = TcpListener::bind("127.0.0.1:0").context("git: no port")?;
    let host = listener.local_addr().context("git: no port")?.to_string();
    let base = format!("--base-path={}", folder.display());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who cannot be served sees the end of the connection.
            drop(serve(stream, &base));
        }
    });
    Ok(Some(host))
}

fn serve(stream: TcpStream, base: &str) -> anyhow::Result<()> {
    let input: OwnedFd = stream.try_clone()?.into();
    let output: OwnedFd = stream.into();
    let mut daemon = Command::new("git");
    daemon.args(["daemon", "--inetd", "--export-all", base]);
    // Nor does the machine's configuration count.
    daemon.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    daemon.stdin(input).stdout(output).stderr(Stdio::null());
    daemon.spawn()?.wait()?;
    Ok(())
}
