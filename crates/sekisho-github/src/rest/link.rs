//! The `Link` header: where the next page is (RFC 8288, as far as GitHub uses it).

use reqwest::header::{HeaderMap, LINK};
use url::Url;

/// Longest header that is looked at, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// The page after `current`, if the answer names one of the same place: a link that leads
/// elsewhere would carry the credential there.
pub fn next(current: &Url, headers: &HeaderMap) -> Option<Url> {
    let text = headers.get(LINK)?.to_str().ok().filter(|text| text.len() <= MAX_BYTES)?;
    let target = links(text).find(|(_, rel)| *rel == "next")?.0;
    let next = current.join(target).ok()?;
    (next.origin() == current.origin() && next.path() == current.path()).then_some(next)
}

/// Target and relation of each link. What is damaged ends the list.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find('<')?;
        let (target, after) = rest.get(start + 1..)?.split_once('>')?;
        // Parameters go on to the comma before the next `<`; a quoted comma is not GitHub's.
        let (params, next) = after.split_once(',').unwrap_or((after, ""));
        rest = next;
        let rel = params.split(';').find_map(|param| {
            let (name, value) = param.split_once('=')?;
            name.trim().eq_ignore_ascii_case("rel").then(|| value.trim().trim_matches('"'))
        });
        Some((target, rel.unwrap_or_default()))
    })
}

/// The header's value for a page of a list; `None` where there is one page only. `url` has the
/// query of the request, `page` counts from 1.
pub fn write(url: &Url, page: usize, pages: usize) -> Option<String> {
    if pages <= 1 {
        return None;
    }
    let link = |page: usize, rel: &str| {
        let mut target = url.clone();
        let others = url.query_pairs().filter(|(name, _)| name != "page");
        let others: Vec<_> = others.map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
        target
            .query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair("page", &page.to_string());
        format!("<{target}>; rel=\"{rel}\"")
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(link((page - 1).min(pages), "prev"));
    }
    if page < pages {
        links.push(link(page + 1, "next"));
        links.push(link(pages, "last"));
    }
    if page > 1 {
        links.push(link(1, "first"));
    }
    Some(links.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(link: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(value) = link.parse() {
            headers.insert(LINK, value);
        }
        headers
    }

    #[test]
    fn the_next_page_is_at_the_same_place() {
        let here: Url = "https://api.example/a/b?per_page=2".parse().unwrap();
        let check = |link: &str, want: Option<&str>| {
            let got = next(&here, &headers(link));
            assert_eq!(got.as_ref().map(Url::as_str), want, "{link}");
        };
        let page = "https://api.example/a/b?page=2";
        check(&format!("<{page}>; rel=\"next\", <x>; rel=\"last\""), Some(page));
        check(&format!("<x>; rel=\"prev\", <{page}>; title=x; REL=next"), Some(page));
        check("<?page=2>; rel=next", Some(page));
        for bad in [
            "",
            "<",
            "<>",
            "<a",
            "next",
            "<https://evil.example/a/b?page=2>; rel=\"next\"",
            "<https://api.example/other?page=2>; rel=\"next\"",
            "<http://[>; rel=next",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let at = |page: usize| -> Url {
            format!("https://h/x?per_page=2&page={page}&name=a%26b").parse().unwrap()
        };
        let text = write(&at(2), 2, 3).unwrap();
        let rels: Vec<&str> = links(&text).map(|(_, rel)| rel).collect();
        assert_eq!(rels, ["prev", "next", "last", "first"]);
        let third = next(&at(2), &headers(&text)).unwrap();
        assert_eq!(third.as_str(), "https://h/x?per_page=2&name=a%26b&page=3");
        assert_eq!(next(&third, &headers(&write(&third, 3, 3).unwrap())), None);
        assert_eq!(write(&at(1), 1, 1), None);
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read_or_not(text in "[<>;=,\" a-z?/:]{0,120}") {
            let here: Url = "https://api.example/a".parse().unwrap();
            if let Some(next) = next(&here, &headers(&text)) {
                assert_eq!(next.origin(), here.origin());
            }
        }
    }
}
