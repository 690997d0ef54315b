//! What GitHub's REST API and the machine's surroundings say: addresses, headers, proxies.

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use sekisho_github::http::ClientOptions;
use sekisho_github::rest::budget::{RateSeen, retry_after};
use sekisho_github::rest::{Address, Hosting, link};
use url::Url;

use super::{must, parts, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "link-header",
        reads: "the `Link` header of a list",
        holds: "the next page is at the same origin and path",
        seeds: || {
            texts(&[
                "<https://api.example/a?page=2>; rel=\"next\", <https://api.example/a?page=9>; rel=\"last\"",
            ])
        },
        words: &[
            "<",
            ">",
            "; rel=\"next\"",
            "rel=next",
            ",",
            "https://api.example/a",
            "//evil.example/a",
            "?page=2",
            "..",
            "@",
        ],
        cost: 1,
        run: link_header,
    },
    Target {
        name: "github-address",
        reads: "the address of a repository, organization or enterprise",
        holds: "the API is at the same scheme, and at a host of the address's own; the place is read again as the same",
        seeds: || {
            texts(&[
                "https://github.com/o/r",
                "http://127.0.0.1:8080/o/r/",
                "https://x.ghe.com/enterprises/e",
            ])
        },
        words: &[
            "https://",
            "github.com",
            ".ghe.com",
            "/enterprises/",
            ":443",
            "@",
            "?",
            "#",
            "%2e",
            "..",
            "\\",
            "[::1]",
            "xn--",
        ],
        cost: 1,
        run: address,
    },
    Target {
        name: "rate-limit",
        reads: "`x-ratelimit-…` and `Retry-After` headers",
        holds: "no more is left than there is; no wait is longer than an hour",
        seeds: || {
            texts(&[
                "x-ratelimit-limit: 5000\nx-ratelimit-remaining: 4999\nx-ratelimit-reset: 1800000000\nretry-after: 60",
            ])
        },
        words: &[
            "x-ratelimit-limit: ",
            "x-ratelimit-remaining: ",
            "x-ratelimit-reset: ",
            "x-ratelimit-resource: ",
            "retry-after: ",
            "\n",
        ],
        cost: 1,
        run: rate_limit,
    },
    Target {
        name: "proxy",
        reads: "the address of a proxy, `NO_PROXY`, and an address",
        holds: "a client is made or refused; an error quotes no password",
        seeds: || {
            texts(&[
                "http://user:hunter2@proxy.example:3128\0a.example,10.0.0.0/8\0https://api.example/",
            ])
        },
        words: &["http://", "socks5://", "hunter2", "@", ":", "*", ",", "/33", "[::1]", ".example"],
        cost: 1,
        run: proxy,
    },
];

fn link_header(input: &[u8]) {
    let here = must(Url::parse("https://api.example/a?per_page=2"), "a URL");
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let headers = HeaderMap::from_iter([(http::header::LINK, value)]);
    if let Some(next) = link::next(&here, &headers) {
        assert_eq!((next.origin(), next.path()), (here.origin(), here.path()));
    }
}

fn address(input: &[u8]) {
    let text = text(input);
    for force in [false, true] {
        let Ok(address) = Address::parse(&text, force) else { continue };
        let (web, api) = (address.web(), address.api());
        assert!(web.as_str().ends_with('/') && api.as_str().ends_with('/'), "{web} {api}");
        let own = web.host_str().unwrap_or_default();
        let host = api.host_str().unwrap_or_default();
        match address.hosting() {
            Hosting::Ghes => assert_eq!((host, api.path()), (own, "/api/v3/")),
            Hosting::GithubCom | Hosting::GheCom => {
                assert!(!force);
                assert!(host.starts_with("api.") && own.ends_with(&host[4..]), "{own} {host}");
            }
        }
        let again = must(Address::parse(&address.place(), force), "a place is an address");
        assert_eq!(again, address);
        let _ = address.token_issuer();
    }
}

fn rate_limit(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Some(seen) = RateSeen::read(&headers) {
        assert!(seen.remaining <= seen.limit && seen.resource.len() <= 64);
    }
    if let Some(wait) = retry_after(&headers) {
        assert!(wait.as_secs() <= 3600);
    }
}

fn proxy(input: &[u8]) {
    let [proxy, direct, url] = parts::<3>(input);
    let Ok(url) = Url::parse(&text(url)) else { return };
    // The system's certificates are read for TLS alone, which takes long.
    if url.scheme() != "http" {
        return;
    }
    let options = ClientOptions {
        proxy: Some(SecretString::from(text(proxy).into_owned())),
        no_proxy: Some(text(direct).into_owned()),
        ..ClientOptions::default()
    };
    if let Err(error) = options.client(&[&url]) {
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
