//! `# syntax=`: which frontend a Dockerfile wants.
//!
//! Those of the `docker/dockerfile` family are what is built in here, whatever their version: the
//! language only grows. Any other image is a program that reads the file in BuildKit.

use std::collections::BTreeMap;

use sekisho_dockerfile::{Diagnostic, Dockerfile, Span};

/// Wins over `# syntax=`.
pub(crate) const SYNTAX_ARG: &str = "BUILDKIT_SYNTAX";

/// Repositories of frontends that are built in.
const BUILT_IN: [&str; 4] = [
    "docker/dockerfile",
    "docker/dockerfile-upstream",
    "docker.io/docker/dockerfile",
    "docker.io/docker/dockerfile-upstream",
];

/// The frontend that is asked for and is not built in, and where the file says so.
pub(crate) fn foreign(
    file: &Dockerfile,
    build_args: &BTreeMap<String, String>,
) -> Option<(String, Span)> {
    let top = Span { line: 1, column: 1, end_line: 1 };
    let (image, span) = match (build_args.get(SYNTAX_ARG), &file.syntax) {
        (Some(image), _) => (image.clone(), top),
        (None, Some(syntax)) => (syntax.node.clone(), syntax.span),
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

/// Errors out when the file needs a frontend that is not built in.
pub(crate) fn check(
    file: &Dockerfile,
    build_args: &BTreeMap<String, String>,
) -> Result<(), Diagnostic> {
    match foreign(file, build_args) {
        None => Ok(()),
        Some((image, span)) => {
            let message = format!("the frontend `{image}` is an image that only BuildKit can run");
            let hint = "build it with BuildKit itself, or write it for `docker/dockerfile:1`";
            Err(file.diagnostic(span, message).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use sekisho_dockerfile::parse;

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
            let file = parse("D", &format!("# syntax={syntax}\nFROM scratch")).unwrap();
            let seen = foreign(&file, &none).map(|(image, _)| image);
            assert_eq!(seen.as_deref(), want, "{syntax}");
        }
        let file = parse("D", "# syntax=x/y\nFROM scratch").unwrap();
        let error = check(&file, &none).unwrap_err();
        assert_eq!((error.line, error.column), (1, 1));
        assert_eq!(error.message, "the frontend `x/y` is an image that only BuildKit can run");
        let other = [(SYNTAX_ARG.to_owned(), "docker/dockerfile:1".to_owned())].into();
        assert!(check(&file, &other).is_ok(), "the argument wins");
    }
}
