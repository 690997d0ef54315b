//! What a reason names of the image.

use crate::entities;
use crate::facts::Content;

/// What in the image a rule about the whole of it speaks of, by the attributes that it names.
pub(super) fn about(rule: &str, content: &Content) -> Vec<String> {
    let names = |attribute: &str| {
        let mut at = rule.match_indices(attribute).map(|(at, _)| (at, at + attribute.len()));
        at.any(|(begin, end)| {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let dotted = rule[..begin].ends_with(['.', '"']);
            dotted && !rule[end..].starts_with(word)
        })
    };
    let not_assessed = |unreadable: bool, missing: bool| {
        let all = content.not_assessed.iter();
        all.filter(move |it| {
            entities::is_unreadable(it.reason) == unreadable
                && entities::is_missing(it.reason) == missing
        })
    };
    let secrets = |sample: bool| content.secrets.iter().filter(move |it| it.sample == sample);
    // Of a set, what the rule itself names.
    let quoted = |text: &str| rule.contains(&format!("\"{text}\""));
    let mut about: Vec<String> = Vec::new();
    if names("unreadable") {
        about.extend(not_assessed(true, false).map(ToString::to_string));
    }
    if names("unjudged") {
        about.extend(not_assessed(false, false).map(ToString::to_string));
    }
    if names("missing_databases") {
        about.extend(not_assessed(false, true).map(ToString::to_string));
    }
    if names("secrets") {
        about.extend(secrets(false).map(ToString::to_string));
    }
    if names("sample_secrets") {
        about.extend(secrets(true).map(ToString::to_string));
    }
    if names("exposed_ports") {
        let named = content.exposed_ports.iter().filter(|port| quoted(port));
        about.extend(named.map(|port| format!("port {port}")));
    }
    if names("licences") {
        for (licence, packages) in content.licences.iter().filter(|(licence, _)| quoted(licence)) {
            let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
            about.push(format!("{licence} of {}", packages.join(", ")));
        }
    }
    if names("size_bytes") {
        about.push(format!("{} bytes in {} layers", content.size_bytes, content.layers));
    }
    let of_base = ["base_name", "base_digest", "base_known", "base_age_days"];
    if let Some(base) = content.base.as_ref().filter(|_| of_base.iter().any(|it| names(it))) {
        about.push(format!("base `{}`", base.name));
    }
    about
}
