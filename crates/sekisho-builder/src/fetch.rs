//! ADD of an `http:` or `https:` address.
//!
//! Addresses are looked up here, judged, and then used as they are, so that a name cannot mean another
//! machine a moment later. Nothing is sent but the request: no credential, no cookie, no proxy's.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fs_err as fs;
use reqwest::header::{LAST_MODIFIED, LOCATION};
use reqwest::redirect::Policy;
use url::{Host, Url};

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
        return Err("a name or password in a URL would stand in the image's history");
    }
    Ok(url)
}

/// The last part of the path, which is what the file is called in a folder.
pub(crate) fn file_name(url: &Url) -> Option<String> {
    let name = url.path_segments()?.next_back()?.to_owned();
    let bad = name.is_empty() || matches!(name.as_str(), "." | "..") || name.contains('%');
    (!bad).then_some(name)
}

/// Fetches a file to `to`; gives the server's time of it, seconds since 1970.
pub(crate) async fn fetch(url: &Url, to: &Path) -> anyhow::Result<Option<i64>> {
    let mut at = url.clone();
    let mut outside = false;
    for _ in 0..=MAX_REDIRECTS {
        let addresses = look_up(&at).await?;
        let inside = addresses.iter().any(|address| is_private(address.ip()));
        ensure!(!(outside && inside), "`{at}`: a redirect leads from outside to a private address");
        outside |= !inside;
        let host = at.host_str().context("the URL names no host")?.to_owned();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(READ_DEADLINE)
            .user_agent(concat!("sekisho/", env!("CARGO_PKG_VERSION")))
            .resolve_to_addrs(&host, &addresses)
            .build()?;
        let answer = client.get(at.clone()).send().await?;
        if answer.status().is_redirection() {
            let location = answer.headers().get(LOCATION).context("a redirect leads nowhere")?;
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
        let modified = answer.headers().get(LAST_MODIFIED).and_then(|text| text.to_str().ok());
        let modified = modified.and_then(http_date);
        save(answer, to).await?;
        return Ok(modified);
    }
    bail!("there are more than {MAX_REDIRECTS} redirects")
}

async fn save(mut answer: reqwest::Response, to: &Path) -> anyhow::Result<()> {
    let too_large = || format!("it has more than {MAX_FILE_BYTES} bytes");
    ensure!(answer.content_length().is_none_or(|size| size <= MAX_FILE_BYTES), too_large());
    let mut file = fs::File::create(to)?;
    let mut size = 0;
    while let Some(bytes) = answer.chunk().await? {
        size += bytes.len() as u64;
        ensure!(size <= MAX_FILE_BYTES, too_large());
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

/// Errors out when a host (`name`, `name:port`) is one to keep away from; for programs that fetch.
pub(crate) async fn permit(host: &str) -> anyhow::Result<()> {
    let url = Url::parse(&format!("http://{host}/")).context("it is no host")?;
    look_up(&url).await.map(drop)
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
