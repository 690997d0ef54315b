//! Who may ask: this machine's programs, not a web page; and for the administrator's endpoints,
//! who has the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret as _;
use sekisho_github::http::is_loopback;
use url::Url;

use super::reply::Problem;
use crate::OpenError;
use crate::shared::Shared;
use crate::tokens::same_secret;

/// Checks a base URL and takes the slash from its end.
pub(crate) fn check_base_url(text: &str) -> Result<String, OpenError> {
    let bad = || OpenError::BaseUrl(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url.as_str().trim_end_matches('/').to_owned()) } else { Err(bad()) }
}

/// Refuses what a web page in the user's browser may have sent: requests for a foreign name that
/// was pointed at this machine (DNS rebinding), and requests of foreign origin.
pub(super) async fn local_only(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if shared.stopping.is_cancelled() && request.method() != http::Method::DELETE {
        let text = "the plane is stopping\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    match check_origin(&shared.config.base_url, request.headers(), request.uri().authority()) {
        Ok(()) => next.run(request).await,
        Err(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
    }
}

fn check_origin(
    base: &str,
    headers: &HeaderMap,
    authority: Option<&http::uri::Authority>,
) -> Result<(), &'static str> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = authority.map(http::uri::Authority::as_str).or(host);
    let host = host.ok_or("the request has no Host header")?;
    if !is_local(base, host) {
        return Err("the Host header names another machine");
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let own = origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(base));
        if !own {
            return Err("requests of other web pages are refused");
        }
    }
    match headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err("requests of other web pages are refused"),
    }
}

/// Whether a Host header means us: our own name, or one that can only be this machine.
pub(crate) fn is_local(base: &str, host: &str) -> bool {
    if base.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host)) {
        return true;
    }
    // What a URL would take apart further, as `a@b` and `%6c`, no client sends.
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)) {
        return false;
    }
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    is_loopback(&url) || url.domain().is_some_and(|name| name.ends_with(".localhost"))
}

/// For the hub's own API.
pub(super) async fn own_admin(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if is_admin(&shared, request.headers()) {
        return next.run(request).await;
    }
    let title = "the plane's admin token is wanted as a bearer";
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", title).into_response()
}

/// Whether the bearer is the plane's admin token.
pub(super) fn is_admin(shared: &Shared, headers: &HeaderMap) -> bool {
    let admin = shared.config.admin_token.expose_secret();
    bearer(headers).is_some_and(|token| same_secret(token, admin))
}

/// The bearer token. `token` is another word for it, as on GitHub.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
    known.then(|| token.trim())
}

/// User and password of `Authorization: Basic`.
pub(crate) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine() {
        let base = "http://127.0.0.1:8080";
        for host in ["127.0.0.1:8080", "localhost:1", "hub.localhost", "[::1]:9", "127.0.0.2"] {
            assert!(is_local(base, host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", "a b"]
        {
            assert!(!is_local(base, host), "{host}");
        }
        assert!(is_local("http://hub.example:80", "HUB.example:80"));
    }

    proptest::proptest! {
        #[test]
        fn credentials_are_read_back_and_anything_else_is_none(
            user in "[^:\\pC]{0,9}", password in "\\PC{0,9}", junk in "[ -~]{0,30}",
        ) {
            let with = |text: &str| {
                let value = http::HeaderValue::from_str(text).unwrap();
                HeaderMap::from_iter([(AUTHORIZATION, value)])
            };
            let encoded = STANDARD.encode(format!("{user}:{password}"));
            let wanted = Some((user, password));
            proptest::prop_assert_eq!(basic(&with(&format!("bAsIc {encoded}"))), wanted);
            let basic_alone = with(&format!("Basic {encoded}"));
            proptest::prop_assert_eq!(bearer(&basic_alone), None);
            let _ = (basic(&with(&junk)), basic(&with(&format!("Basic {junk}"))));
            let _ = (bearer(&with(&junk)), is_local("http://127.0.0.1:1", &junk));
        }

        #[test]
        fn a_host_of_the_net_is_not_this_machine(name in "[a-z0-9.-]{0,20}", end in "[a-z]{2,5}") {
            proptest::prop_assume!(end != "localhost");
            let host = format!("{name}.{end}");
            proptest::prop_assert!(!is_local("http://127.0.0.1:1", &host), "{}", host);
        }
    }

    #[test]
    fn base_urls() {
        assert_eq!(check_base_url("http://127.0.0.1:1/").unwrap(), "http://127.0.0.1:1");
        for bad in ["", "127.0.0.1:1", "ftp://x/", "http://x/a", "http://x/?q"] {
            assert!(check_base_url(bad).is_err(), "{bad}");
        }
    }
}
