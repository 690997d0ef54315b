//! The one way to make an HTTP client and to read an answer: every call has a deadline and a limit.

use std::time::Duration;

pub use reqwest::Client;
use reqwest::header::HeaderMap;
use reqwest::{Certificate, NoProxy, Proxy, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

/// Longest text of a service that is kept, in characters.
pub(crate) const MAX_TEXT_CHARS: usize = 500;
/// Bytes of a body that are looked at for its first line.
const MAX_FIRST_LINE: usize = 4096;
/// This machine's own addresses.
const LOCAL: &str = "localhost,127.0.0.0/8,::1";
/// Until a connection stands.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How to reach GitHub.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `User-Agent`: GitHub refuses requests without.
    pub user_agent: String,
    /// A proxy, `http://[user:password@]host:port`. Without one, the environment's `HTTPS_PROXY`,
    /// `HTTP_PROXY` and `ALL_PROXY` count. None is ever used for this machine's own addresses, nor
    /// for the hosts of [`Self::no_proxy`].
    pub proxy: Option<SecretString>,
    /// Hosts that are reached without a proxy, as the environment's `NO_PROXY` has them: names, each
    /// with those below it, addresses and networks, with commas between. `None`: what the environment
    /// says.
    pub no_proxy: Option<String>,
    /// PEM text of authorities that are trusted beside the system's: those of a private GHES.
    pub certificates: Option<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let user_agent = concat!("sekisho/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { user_agent, proxy: None, no_proxy: None, certificates: None }
    }
}

/// Why there is no answer. No variant holds a URL: signed ones are credentials.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The proxy's address cannot be used.
    #[error("the proxy's address cannot be used")]
    Proxy(#[source] reqwest::Error),
    /// The certificates cannot be read.
    #[error("the private certificates are not PEM")]
    Certificates(#[source] reqwest::Error),
    /// The client could not be made.
    #[error("the HTTP client cannot be made")]
    Build(#[source] reqwest::Error),
    /// The network failed.
    #[error("the request failed")]
    Transport(#[source] reqwest::Error),
    /// No whole answer in time.
    #[error("there was no whole answer within {0:?}")]
    Deadline(Duration),
    /// The answer is too long.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl HttpError {
    /// Whether the same request may succeed later. It may have been done all the same: only the answer
    /// did not arrive.
    pub fn is_lost_answer(&self) -> bool {
        matches!(self, Self::Transport(_) | Self::Deadline(_))
    }
}

/// A service's words, fit for a log: one line of at most 500 characters.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect()
}

/// What an answer says that is in none of the forms that errors have.
pub(crate) fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..MAX_FIRST_LINE).unwrap_or(body));
    shorten(text.lines().next().unwrap_or("no message"))
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl ClientOptions {
    /// A client for these addresses. It follows no redirect: where one is expected, it is followed
    /// by hand, without the credential.
    ///
    /// Where all are plain HTTP (one machine), the system's certificates are not read: that is most
    /// of the time it takes to make a client.
    ///
    /// # Errors
    /// `Proxy`, `Certificates` or `Build`.
    pub fn client(&self, urls: &[&Url]) -> Result<Client, HttpError> {
        // The whole tree has one provider; the binary may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(CONNECT_DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            // A websocket is opened over it; and what is spoken must not depend on which features of the
            // library another crate asks for.
            .http1_only();
        if urls.iter().all(|url| is_loopback(url)) {
            builder = builder.no_proxy();
        } else {
            // What the library would read from the environment, it would use for 127.0.0.1 too.
            builder = builder.no_proxy();
            for proxy in self.proxies()? {
                builder = builder.proxy(proxy);
            }
        }
        if urls.iter().all(|url| url.scheme() == "http") {
            builder = builder.tls_certs_only([]);
        } else if let Some(pem) = &self.certificates {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes());
            builder = builder.tls_certs_merge(certificates.map_err(HttpError::Certificates)?);
        }
        builder.build().map_err(HttpError::Build)
    }

    /// The proxies that count.
    fn proxies(&self) -> Result<Vec<Proxy>, HttpError> {
        let named = self.no_proxy.clone().or_else(|| environment("NO_PROXY"));
        let direct = NoProxy::from_string(&format!("{LOCAL},{}", named.unwrap_or_default()));
        let found = match &self.proxy {
            Some(proxy) => vec![Proxy::all(proxy.expose_secret())],
            None => {
                let https = environment("HTTPS_PROXY").map(Proxy::https);
                let http = environment("HTTP_PROXY").map(Proxy::http);
                let all = environment("ALL_PROXY").map(Proxy::all);
                https.into_iter().chain(http).chain(all).collect()
            }
        };
        let proxies = found.into_iter().map(|proxy| Ok(proxy?.no_proxy(direct.clone())));
        proxies.collect::<Result<_, _>>().map_err(HttpError::Proxy)
    }
}

/// A variable that is known in both letter cases, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "what every HTTP client takes its proxies from")]
fn environment(name: &str) -> Option<String> {
    let found = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase()));
    found.ok().filter(|value| !value.is_empty())
}

/// Whether the address can only be this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Sends, and reads the whole answer of at most `max_body` bytes, all within `deadline`.
///
/// Cancel-safe: dropping it closes the request.
///
/// # Errors
/// `Transport`, `Deadline` or `TooLong`.
pub async fn send(
    request: RequestBuilder,
    deadline: Duration,
    max_body: usize,
) -> Result<Answer, HttpError> {
    let transport = |source: reqwest::Error| HttpError::Transport(source.without_url());
    let exchange = async {
        let mut response = request.send().await.map_err(transport)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > max_body {
                return Err(HttpError::TooLong(max_body));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    };
    match tokio::time::timeout(deadline, exchange).await {
        Ok(result) => result,
        Err(_) => Err(HttpError::Deadline(deadline)),
    }
}
