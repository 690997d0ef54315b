//! A client as small as can be, so that what is measured is the server: HTTP/1.1, one request after
//! the other on a connection that stays open.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// A registry that does not answer for so long has failed. A hundred large uploads end at once, and each
/// is synced before it is answered.
const DEADLINE: Duration = Duration::from_secs(900);

/// Without it `docker-registry` has no OCI manifest.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, */*";

/// One connection.
pub(super) struct Connection {
    host: String,
    authorization: Option<String>,
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Connection {
    /// With a value of the `Authorization` header for each request, if there is one.
    pub(super) fn open(host: &str, authorization: Option<&str>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let authorization = authorization.map(|value| format!("authorization: {value}\r\n"));
        Ok(Self { host: host.to_owned(), authorization, stream: BufReader::new(stream) })
    }

    /// Sends a request with a body.
    pub(super) fn send(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        self.stream(method, path, kind, body.len(), std::iter::once(body))
    }

    /// Sends a request whose body comes in pieces.
    pub(super) fn stream<'a>(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        length: usize,
        body: impl Iterator<Item = &'a [u8]>,
    ) -> anyhow::Result<Answer> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{}accept: {ACCEPT}\r\n\
             content-type: {kind}\r\ncontent-length: {length}\r\n\r\n",
            self.host,
            self.authorization.as_deref().unwrap_or_default(),
        )
        .into_bytes();
        let out = self.stream.get_mut();
        for piece in body {
            // Head and a small body in one packet.
            head.extend_from_slice(piece);
            out.write_all(&head)?;
            head.clear();
        }
        out.write_all(&head)?;
        self.receive(method == "HEAD").with_context(|| format!("{method} {path}"))
    }

    pub(super) fn get(&mut self, method: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(method, path, "application/octet-stream", b"")
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the connection was closed");
        Ok(line.trim_end().to_owned())
    }

    fn receive(&mut self, is_head: bool) -> anyhow::Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|text| text.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status: status.context("no status")?, headers, body: Vec::new() };
        if is_head || matches!(answer.status, 204 | 304) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let length = usize::from_str_radix(&self.line()?, 16).context("a chunk")?;
                let at = answer.body.len();
                answer.body.resize(at + length, 0);
                self.stream.read_exact(&mut answer.body[at..])?;
                self.line()?;
                if length == 0 {
                    return Ok(answer);
                }
            }
        }
        let length = answer.header("content-length").unwrap_or("0").parse().context("a length")?;
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }
}
