//! Runs `git upload-pack` and `git receive-pack` for one request, streaming both ways.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use super::Repository;
use super::frames::{HoldLastFlush, progress};

/// How long one fetch or push may take: as long as a push of the largest size at 1 MiB/s.
const DEADLINE: Duration = Duration::from_secs(40 * 60);
/// How much is read from `git` at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for a slow client.
pub(super) const QUEUE: usize = 4;
/// A compressed body is fed to the decompressor in pieces of this size, in bytes, which bounds
/// what one step can blow it up to (deflate: 1032 times).
const INFLATE_PIECE: usize = 1024;
/// How much of a push's beginning is looked at for the client's capabilities, in bytes.
const MAX_PREAMBLE: usize = 64 * 1024;
/// What a client says that can print our messages.
const SIDEBAND: &[u8] = b" side-band-64k";

/// The program to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Fetch.
    UploadPack,
    /// Push.
    ReceivePack,
}

impl Service {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::UploadPack),
            "git-receive-pack" => Some(Self::ReceivePack),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::UploadPack => "upload-pack",
            Self::ReceivePack => "receive-pack",
        }
    }
}

/// A request's body and how to read it.
pub(super) struct Input {
    pub(super) body: Body,
    pub(super) gzip: bool,
    /// After decompression, in bytes.
    pub(super) max: u64,
}

/// A running program.
pub(super) struct Rpc {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

/// Starts the program. `protocol` is the client's `Git-Protocol` header, `hooks` the folder of the hooks that
/// have a say.
pub(super) fn start(
    repository: &Repository,
    service: Service,
    advertise: bool,
    protocol: Option<&str>,
    hooks: Option<&Path>,
) -> std::io::Result<Rpc> {
    let mut command = repository.command();
    if let Some(hooks) = hooks {
        // The command line has the last word over the variables.
        let mut setting = std::ffi::OsString::from("core.hooksPath=");
        setting.push(hooks);
        command.arg("-c").arg(setting);
    }
    command.arg(service.verb()).arg("--stateless-rpc");
    if advertise {
        command.arg("--advertise-refs");
    } else {
        command.stdin(Stdio::piped());
    }
    command.arg(repository.dir());
    if let Some(protocol) = protocol.filter(|text| is_protocol(text)) {
        command.env("GIT_PROTOCOL", protocol);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("no standard output"))?;
    Ok(Rpc { child, stdin, stdout })
}

/// `version=2` and the like: it goes into an environment variable.
fn is_protocol(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'.' | b'-'))
}

/// What a push's end has to say to the person who pushes.
pub(super) type Messages = std::pin::Pin<Box<dyn Future<Output = Vec<String>> + Send>>;

/// Feeds the body to the program and its output to `out`; then lets `after` have its say.
pub(super) async fn exchange(
    mut rpc: Rpc,
    input: Input,
    out: mpsc::Sender<Bytes>,
    after: Option<Messages>,
) {
    let stdin = rpc.stdin.take();
    let work = async {
        let pump = async {
            match stdin {
                Some(stdin) => pump(stdin, input).await,
                None => false,
            }
        };
        let mut hold = HoldLastFlush::default();
        let holding = after.is_some();
        let drain = drain(&mut rpc.stdout, &out, holding.then_some(&mut hold));
        let (sideband, ()) = tokio::join!(pump, drain);
        let ended = rpc.child.wait().await;
        if !ended.is_ok_and(|status| status.success()) {
            tracing::debug!("git ended with an error: the client has its message");
        }
        let Some(after) = after else { return };
        // The refs may have changed even if git or the client went away half way.
        for line in after.await {
            if sideband && hold.holds_flush() {
                let _ = out.send(progress(&line).into()).await;
            }
        }
        let _ = out.send(hold.finish().into()).await;
    };
    if tokio::time::timeout(DEADLINE, work).await.is_err() {
        tracing::warn!("a git request took longer than {} s and was ended", DEADLINE.as_secs());
    }
}

/// Reads the program's output to its end, also when nobody wants it any more.
async fn drain(
    stdout: &mut ChildStdout,
    out: &mpsc::Sender<Bytes>,
    mut hold: Option<&mut HoldLastFlush>,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match stdout.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let chunk = &buffer[..read];
        let chunk = match &mut hold {
            Some(hold) => hold.push(chunk),
            None => chunk.to_vec(),
        };
        // A fetch whose client is gone is not worth the work; a push is finished all the same.
        if out.send(chunk.into()).await.is_err() && hold.is_none() {
            return;
        }
    }
}

/// Feeds the body to the program. Says whether the client understands the sideband.
async fn pump(mut stdin: ChildStdin, input: Input) -> bool {
    let mut stream = input.body.into_data_stream();
    let mut inflate = input.gzip.then(|| flate2::write::GzDecoder::new(Vec::new()));
    let mut total = 0_u64;
    let mut preamble = Vec::new();
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else { break };
        let pieces = chunk.chunks(if inflate.is_some() { INFLATE_PIECE } else { CHUNK });
        for piece in pieces {
            let plain = match &mut inflate {
                None => piece.to_vec(),
                Some(decoder) => match decoder.write_all(piece) {
                    Ok(()) => std::mem::take(decoder.get_mut()),
                    Err(_) => return has_sideband(&preamble),
                },
            };
            total += plain.len() as u64;
            if preamble.len() < MAX_PREAMBLE {
                preamble.extend_from_slice(&plain);
            }
            // Ends the program's input in the middle: git refuses what it got.
            if total > input.max || stdin.write_all(&plain).await.is_err() {
                return has_sideband(&preamble);
            }
        }
    }
    if let Some(decoder) = &mut inflate
        && decoder.try_finish().is_ok()
    {
        let _ = stdin.write_all(decoder.get_ref()).await;
    }
    let _ = stdin.shutdown().await;
    has_sideband(&preamble)
}

/// The capabilities stand behind the first NUL, before the pack.
fn has_sideband(preamble: &[u8]) -> bool {
    let Some(nul) = preamble.iter().position(|byte| *byte == 0) else { return false };
    let rest = &preamble[nul..];
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
    line.windows(SIDEBAND.len()).any(|window| window == SIDEBAND)
}
