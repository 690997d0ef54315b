//! `# syntax=`: which frontend a Dockerfile wants.
//!
//! Those of the `docker/dockerfile` family are what is built in here, whatever their version: the
//! language only grows. Any other image is a program that reads the file in BuildKit.

use std::collections::BTreeMap;

use sekisho_dockerfile::{Diagnostic, Span, syntax};

/// Wins over `# syntax=`.
pub(crate) const SYNTAX_ARG: &str = "BUILDKIT_SYNTAX";

/// Repositories of frontends that are built in.
const BUILT_IN: [&str; 4] = [
    "docker/dockerfile",
    "docker/dockerfile-upstream",
    "docker.io/docker/dockerfile",
    "docker.io/docker/dockerfile-upstream",
];

/// The frontend that is asked for and is not built in, and where the text says so.
pub(crate) fn foreign(text: &str, build_args: &BTreeMap<String, String>) -> Option<(String, Span)> {
    let top = Span { line: 1, column: 1, end_line: 1 };
    let (image, span) = match (build_args.get(SYNTAX_ARG), syntax(text)) {
        (Some(image), _) => (image.clone(), top),
        (None, Some(syntax)) => (syntax.node, syntax.span),
        (None, None) => return None,
    };
    // Words after the image are arguments to the frontend.
    let name = image.split_whitespace().next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    (!BUILT_IN.contains(&repository)).then_some((image, span))
}

/// Errors out when the text needs a frontend that is not built in. Looked at before the text is parsed,
/// which may be no Dockerfile at all.
pub(crate) fn check(
    name: &str,
    text: &str,
    build_args: &BTreeMap<String, String>,
) -> Result<(), Diagnostic> {
    match foreign(text, build_args) {
        None => Ok(()),
        Some((image, span)) => {
            let message = format!("the frontend `{image}` is an image that only BuildKit can run");
            let hint = "build it with `--engine buildkit` where there is one, or write it for `docker/dockerfile:1`";
            Err(Diagnostic::new(name, text, span, message).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dockerfile_family_is_built_in() {
        let none = BTreeMap::new();
        for (syntax, want) in [
            ("docker/dockerfile:1", None),
            ("docker/dockerfile:1.7-labs", None),
            ("docker.io/docker/dockerfile@sha256:00", None),
            ("docker/dockerfile-upstream:master", None),
            ("localhost:5000/docker/dockerfile", Some("localhost:5000/docker/dockerfile")),
            ("ghcr.io/x/y:1", Some("ghcr.io/x/y:1")),
        ] {
            let text = format!("# syntax={syntax}\nFROM scratch");
            let seen = foreign(&text, &none).map(|(image, _)| image);
            assert_eq!(seen.as_deref(), want, "{syntax}");
        }
        let file = "# syntax=x/y\nFROM scratch";
        let error = check("D", file, &none).unwrap_err();
        assert_eq!((error.line, error.column), (1, 1));
        assert_eq!(error.message, "the frontend `x/y` is an image that only BuildKit can run");
        let other = [(SYNTAX_ARG.to_owned(), "docker/dockerfile:1".to_owned())].into();
        let other_language = check("D", "// syntax=x/y\npackage main", &none).unwrap_err();
        assert_eq!(other_language.message, error.message, "not what a parser would say of it");
        assert!(check("D", file, &other).is_ok(), "the argument wins");
    }
}
