//! ADD of an `http:` or `https:` address.
//!
//! Addresses are looked up here, judged, and then used as they are, so that a name cannot mean another
//! machine a moment later. Nothing is sent but the request: no credential, no cookie. Where the environment
//! names a proxy, that looks names up.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fs_err as fs;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Proxy, Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::options::BuildOptions;
use crate::room::Room;

/// Largest file that is fetched, in bytes: as large as a layer may reasonably be.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// Longest chain of redirects; browsers follow 20, downloads need two or three.
const MAX_REDIRECTS: usize = 10;

/// For a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// For the answer, and for each piece of it.
const READ_DEADLINE: Duration = Duration::from_mins(1);

/// Where clouds answer with credentials, besides the link-local addresses.
const METADATA: [&str; 2] = ["100.100.100.200", "fd00:ec2::254"];

/// Reads an address as ADD takes it.
pub(crate) fn parse(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a name or password in a URL is not taken, for others would see it");
    }
    Ok(url)
}

/// The last part of the path, which is what the file is called in a folder.
pub(crate) fn file_name(url: &Url) -> Option<String> {
    let name = url.path_segments()?.next_back()?.to_owned();
    let bad = name.is_empty() || matches!(name.as_str(), "." | "..") || name.contains('%');
    (!bad).then_some(name)
}

/// How other machines are reached.
#[derive(Debug)]
pub(crate) struct Link {
    proxies: Matcher,
    /// Trusted besides the machine's.
    trusted: Vec<Certificate>,
}

/// What was fetched before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The address that answered, after all redirects.
    at: String,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Known {
    /// The server's time of the file, seconds since 1970.
    pub(crate) fn modified(&self) -> Option<i64> {
        http_date(self.last_modified.as_deref()?)
    }

    fn of(at: &Url, answer: &Response) -> Self {
        let text = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        Self { at: at.to_string(), etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The file is what it was.
    Same,
    New(Known),
}

impl Link {
    /// By the variables for proxies, and certificates in files.
    pub(crate) fn new(options: &BuildOptions) -> anyhow::Result<Self> {
        let mut trusted = Vec::new();
        for path in &options.registries.ca_files {
            let bundle = Certificate::from_pem_bundle(&fs::read(path)?);
            trusted.extend(bundle.with_context(|| format!("cannot read `{}`", path.display()))?);
        }
        Ok(Self { proxies: Matcher::from_env(), trusted })
    }

    /// The proxy for an address; none for this machine's own.
    fn proxy(&self, url: &Url) -> Option<Intercept> {
        let here = match url.host()? {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => IpAddr::from(address).to_canonical().is_loopback(),
        };
        if here {
            return None;
        }
        self.proxies.intercept(&url.as_str().parse().ok()?)
    }

    /// The addresses of a host, none of which is one to keep away from; none where a proxy looks them up.
    async fn look_up(&self, url: &Url) -> anyhow::Result<Vec<SocketAddr>> {
        match url.host() {
            Some(Host::Domain(_)) if self.proxy(url).is_some() => Ok(Vec::new()),
            _ => look_up(url).await,
        }
    }

    /// Errors out when a repository's host (`name`, `name:port`) is one to keep away from; for programs that
    /// fetch.
    pub(crate) async fn permit(&self, remote: &str, host: &str) -> anyhow::Result<()> {
        let scheme = if remote.starts_with("https://") { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{host}/")).context("it is no host")?;
        let by_web = remote.starts_with("https://") || remote.starts_with("http://");
        let addresses = if by_web { self.look_up(&url).await } else { look_up(&url).await };
        addresses.map(drop)
    }

    fn client(&self, at: &Url, addresses: &[SocketAddr]) -> anyhow::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(READ_DEADLINE)
            .user_agent(concat!("sekisho/", env!("CARGO_PKG_VERSION")));
        if !self.trusted.is_empty() {
            builder = builder.tls_certs_merge(self.trusted.clone());
        }
        Ok(match self.proxy(at) {
            Some(found) => {
                let mut proxy = Proxy::all(found.uri().to_string())?;
                if let Some(auth) = found.basic_auth() {
                    proxy = proxy.custom_http_auth(auth.clone());
                }
                builder.proxy(proxy)
            }
            None => {
                let host = at.host_str().context("the URL names no host")?;
                builder.resolve_to_addrs(host, addresses)
            }
        }
        .build()?)
    }

    /// Fetches a file to `to`, unless it is `known` and still the same.
    pub(crate) async fn fetch(
        &self,
        url: &Url,
        known: Option<&Known>,
        to: &Path,
    ) -> anyhow::Result<Answer> {
        let mut at = url.clone();
        let mut outside = false;
        for _ in 0..=MAX_REDIRECTS {
            let addresses = self.look_up(&at).await?;
            let inside = addresses.iter().any(|address| is_private(address.ip()));
            ensure!(
                !(outside && inside),
                "`{at}`: a redirect leads from outside to a private address"
            );
            outside |= !inside;
            let mut request = self.client(&at, &addresses)?.get(at.clone());
            if let Some(known) = known.filter(|known| known.at == at.as_str()) {
                request = match (&known.etag, &known.last_modified) {
                    (Some(etag), _) => request.header(IF_NONE_MATCH, etag),
                    (None, Some(time)) => request.header(IF_MODIFIED_SINCE, time),
                    (None, None) => request,
                };
            }
            let answer = request.send().await?;
            if answer.status() == StatusCode::NOT_MODIFIED && known.is_some() {
                return Ok(Answer::Same);
            }
            if answer.status().is_redirection() {
                let location =
                    answer.headers().get(LOCATION).context("a redirect leads nowhere")?;
                let next = at.join(location.to_str()?)?;
                ensure!(
                    next.scheme() == "https" || next.scheme() == "http" && at.scheme() == "http",
                    "a redirect leads from `{}:` to `{}:`",
                    at.scheme(),
                    next.scheme()
                );
                at = next;
                continue;
            }
            ensure!(answer.status().is_success(), "the server says {}", answer.status());
            let known = Known::of(&at, &answer);
            save(answer, to).await?;
            return Ok(Answer::New(known));
        }
        bail!("there are more than {MAX_REDIRECTS} redirects")
    }
}

async fn save(mut answer: Response, to: &Path) -> anyhow::Result<()> {
    let too_large = || format!("it has more than {MAX_FILE_BYTES} bytes");
    ensure!(answer.content_length().is_none_or(|size| size <= MAX_FILE_BYTES), too_large());
    let mut file = fs::File::create(to)?;
    let (mut room, mut size) = (Room::default(), 0);
    while let Some(bytes) = answer.chunk().await? {
        size += bytes.len() as u64;
        ensure!(size <= MAX_FILE_BYTES, too_large());
        room.take(file.file(), bytes.len())?;
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// The addresses of a host, none of which is one to keep away from.
async fn look_up(url: &Url) -> anyhow::Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().context("the URL has no port")?;
    let addresses: Vec<SocketAddr> = match url.host().context("the URL names no host")? {
        Host::Ipv4(address) => vec![(address, port).into()],
        Host::Ipv6(address) => vec![(address, port).into()],
        Host::Domain(name) => tokio::net::lookup_host((name, port))
            .await
            .with_context(|| format!("cannot find `{name}`"))?
            .collect(),
    };
    ensure!(!addresses.is_empty(), "the host has no address");
    for address in &addresses {
        ensure!(!is_forbidden(address.ip()), "{} is not an address to fetch from", address.ip());
    }
    Ok(addresses)
}

/// Link-local, where clouds keep credentials; and what is no machine.
fn is_forbidden(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let metadata = METADATA.iter().any(|one| one.parse() == Ok(address));
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    metadata || local || address.is_unspecified() || address.is_multicast()
}

/// This machine, or its neighbours.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    let stamp = format!("{year}-{month:02}-{day}T{time}Z");
    stamp.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_keep_away_from() {
        for (address, forbidden, private) in [
            ("169.254.169.254", true, false),
            ("::ffff:169.254.169.254", true, false),
            ("fe80::1", true, false),
            ("fd00:ec2::254", true, true),
            ("100.100.100.200", true, false),
            ("0.0.0.0", true, false),
            ("224.0.0.1", true, false),
            ("127.0.0.1", false, true),
            ("10.1.2.3", false, true),
            ("::1", false, true),
            ("1.2.3.4", false, false),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(
                (is_forbidden(parsed), is_private(parsed)),
                (forbidden, private),
                "{address}"
            );
        }
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_what_is_elsewhere() {
        use std::io::{BufRead as _, Write as _};
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxies = Matcher::builder()
            .http(format!("http://me:pass@{address}"))
            .https(format!("http://{address}"))
            .no("inside.example");
        let link = Link { proxies: proxies.build(), trusted: Vec::new() };
        let proxied = |text: &str| link.proxy(&parse(text).unwrap()).is_some();
        assert!(proxied("http://files.example/a") && proxied("https://files.example/a"));
        for own in
            ["http://inside.example", "http://localhost", "http://127.0.0.1:1", "http://[::1]"]
        {
            assert!(!proxied(own), "{own}");
        }
        let proxy = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<_> =
                lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let said = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfile";
            stream.write_all(said.as_bytes()).unwrap();
            head
        });
        let to = tempfile::NamedTempFile::new().unwrap();
        // A name that nobody but the proxy could find.
        let url = parse("http://files.example/a").unwrap();
        let answer = link.fetch(&url, None, to.path()).await.unwrap();
        assert_eq!(
            answer,
            Answer::New(Known { at: url.to_string(), etag: None, last_modified: None })
        );
        assert_eq!(std::fs::read(to.path()).unwrap(), b"file");
        let head = proxy.join().unwrap();
        assert_eq!(head[0], "GET http://files.example/a HTTP/1.1");
        let auth = head.iter().find(|line| line.to_lowercase().starts_with("proxy-authorization"));
        assert!(auth.unwrap().ends_with("Basic bWU6cGFzcw=="), "{head:?}");
        // An address that needs no looking up is judged all the same.
        let forbidden = parse("http://169.254.169.254/").unwrap();
        let error = link.fetch(&forbidden, None, to.path()).await.unwrap_err().to_string();
        assert!(error.contains("not an address to fetch from"), "{error}");
    }

    #[test]
    fn names_and_times() {
        let name = |text: &str| file_name(&parse(text).unwrap());
        assert_eq!(name("http://h/a/b.tar?x=/y").as_deref(), Some("b.tar"));
        assert_eq!(name("http://h/a/"), None);
        assert_eq!(name("http://h"), None);
        assert!(parse("http://me:pw@h/a").is_err());
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
    }
}
