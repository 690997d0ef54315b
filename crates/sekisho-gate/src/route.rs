//! Paths of the distribution-spec.
//!
//! They are read from the right, for a repository may itself be called `blobs/uploads`.

use sekisho_types::{Digest, RepositoryName, Tag};
use uuid::Uuid;

use crate::error::{ApiError, Code};

/// A manifest by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(Tag),
    Digest(Digest),
    /// Neither: no such manifest can exist.
    Neither,
}

/// What a path below `/v2/` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tags,
    /// The collection.
    Uploads,
    /// One upload; an id that is none of ours is no upload.
    Upload(Option<Uuid>),
    Blob(Digest),
    Manifest(Reference),
    Referrers(Digest),
}

/// A path below `/v2/`, without that prefix.
pub(crate) fn parse(path: &str) -> Result<(RepositoryName, Endpoint), ApiError> {
    let mut segments: Vec<&str> = path.split('/').collect();
    let last = segments.pop().unwrap_or_default();
    let kind = segments.pop().unwrap_or_default();
    let name = |segments: &[&str]| -> Result<RepositoryName, ApiError> {
        let error = |error| ApiError::new(Code::NameInvalid, format!("{error}"));
        segments.join("/").parse().map_err(error)
    };
    let digest = |text: &str| -> Result<Digest, ApiError> {
        text.parse().map_err(|error| ApiError::new(Code::DigestInvalid, format!("{error}")))
    };
    match (segments.last().copied(), kind, last) {
        (_, "tags", "list") => Ok((name(&segments)?, Endpoint::Tags)),
        (Some("blobs"), "uploads", id) => {
            segments.pop();
            let endpoint = match id {
                "" => Endpoint::Uploads,
                id => Endpoint::Upload(id.parse().ok()),
            };
            Ok((name(&segments)?, endpoint))
        }
        (_, "blobs", "uploads") => Ok((name(&segments)?, Endpoint::Uploads)),
        (_, "blobs", text) => Ok((name(&segments)?, Endpoint::Blob(digest(text)?))),
        (_, "referrers", text) => Ok((name(&segments)?, Endpoint::Referrers(digest(text)?))),
        (_, "manifests", text) => {
            let reference = if text.contains(':') {
                Reference::Digest(digest(text)?)
            } else {
                text.parse().map_or(Reference::Neither, Reference::Tag)
            };
            Ok((name(&segments)?, Endpoint::Manifest(reference)))
        }
        _ => Err(ApiError::new(Code::NameUnknown, "there is nothing at this path")),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_from_the_right() {
        let digest = Digest::sha256(b"");
        let id = Uuid::nil();
        for (path, name, endpoint) in [
            ("a/tags/list".to_owned(), "a", Endpoint::Tags),
            ("a/b/blobs/uploads/".to_owned(), "a/b", Endpoint::Uploads),
            ("a/b/blobs/uploads".to_owned(), "a/b", Endpoint::Uploads),
            (format!("a/blobs/uploads/{id}"), "a", Endpoint::Upload(Some(id))),
            ("a/blobs/uploads/..".to_owned(), "a", Endpoint::Upload(None)),
            (
                format!("blobs/uploads/blobs/{digest}"),
                "blobs/uploads",
                Endpoint::Blob(digest.clone()),
            ),
            ("blobs/uploads/blobs/uploads/".to_owned(), "blobs/uploads", Endpoint::Uploads),
            (
                "blobs/uploads/manifests/v1".to_owned(),
                "blobs/uploads",
                Endpoint::Manifest(Reference::Tag("v1".parse().unwrap())),
            ),
            (
                format!("manifests/manifests/{digest}"),
                "manifests",
                Endpoint::Manifest(Reference::Digest(digest.clone())),
            ),
            ("a/manifests/.x".to_owned(), "a", Endpoint::Manifest(Reference::Neither)),
            (format!("a/referrers/{digest}"), "a", Endpoint::Referrers(digest.clone())),
        ] {
            assert_eq!(parse(&path).unwrap(), (name.parse().unwrap(), endpoint), "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for (path, status) in [
            ("", StatusCode::NOT_FOUND),
            ("_catalog", StatusCode::NOT_FOUND),
            ("a", StatusCode::NOT_FOUND),
            ("../tags/list", StatusCode::BAD_REQUEST),
            ("a/../../etc/tags/list", StatusCode::BAD_REQUEST),
            ("A/tags/list", StatusCode::BAD_REQUEST),
            ("a%2fb/tags/list", StatusCode::BAD_REQUEST),
            ("/tags/list", StatusCode::BAD_REQUEST),
            ("tags/list", StatusCode::BAD_REQUEST),
            ("a/blobs/sha256:00", StatusCode::BAD_REQUEST),
            ("a/blobs/..", StatusCode::BAD_REQUEST),
            ("a/manifests/sha256:../../x", StatusCode::NOT_FOUND),
            ("a/manifests/md5:00", StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(parse(path).unwrap_err().status(), status, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_parsed_or_refused(path in "(/|blobs|uploads|manifests|a|\\.\\.|sha256:|\\PC){0,12}") {
            if let Ok((name, _)) = parse(&path) {
                prop_assert!(path.starts_with(name.as_str()));
            }
        }
    }
}
