//! Names of hosts: registries of ECR, and where its API is.

use sekisho_github::http::is_loopback;
use url::Url;

/// Longest name of a region.
const MAX_REGION: usize = 40;

/// The registry's region if this host is one of ECR: `ACCOUNT.dkr.ecr[-fips].REGION.amazonaws.com[.cn]`, or
/// `ACCOUNT.dkr-ecr[-fips].REGION.on.aws`.
pub(crate) fn region(host: &str) -> Option<&str> {
    let (account, rest) = host.split_once('.')?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let of = |prefixes: [&str; 2]| prefixes.iter().find_map(|prefix| rest.strip_prefix(prefix));
    let (rest, domains) = match of(["dkr.ecr.", "dkr.ecr-fips."]) {
        Some(rest) => (rest, ["amazonaws.com", "amazonaws.com.cn"]),
        None => (of(["dkr-ecr.", "dkr-ecr-fips."])?, ["on.aws", "on.amazonwebservices.com.cn"]),
    };
    let (region, domain) = rest.split_once('.')?;
    let expected = domains[usize::from(is_chinese(region))];
    (is_account && is_region(region) && domain == expected).then_some(region)
}

pub(super) fn is_chinese(region: &str) -> bool {
    region.starts_with("cn-")
}

/// It becomes a part of a host's name.
pub(super) fn is_region(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let has_ends = !name.starts_with('-') && !name.ends_with('-') && name.contains('-');
    has_ends && name.len() <= MAX_REGION && name.bytes().all(is_plain)
}

/// The address of a service of AWS in a region.
pub(super) fn address(service: &str, region: &str) -> String {
    let suffix = if is_chinese(region) { ".cn" } else { "" };
    format!("https://{service}.{region}.amazonaws.com{suffix}/")
}

/// Whether a signed request may go there: it holds a session's token.
pub(super) fn is_endpoint(url: &Url) -> bool {
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
    let is_bare = url.query().is_none() && url.fragment().is_none();
    is_safe && is_bare && url.username().is_empty() && url.password().is_none()
}

/// An address without what may be secret in it.
pub(super) fn named(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
