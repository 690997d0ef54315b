//! `--provenance`: what an image was made of and how, beside it in its index, where BuildKit's clients look.
//!
//! ```text
//!  index ─┬─ manifest of linux/amd64
//!         └─ manifest of unknown/unknown, `vnd.docker.reference.digest` = that of the image
//!              └─ one layer: an in-toto statement with a SLSA predicate
//! ```
//!
//! It is what the builder says of itself, unsigned; what the gate attests is signed. No time of the build is in
//! it, so that the same inputs give the same bytes.
//!
//! Sources: "Image Attestation Storage" in BuildKit's documentation; SLSA 1.0, "Provenance".

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;

use sekisho_oci::{Descriptor, Platform};
use sekisho_types::{Digest, ImageReference};
use serde_json::{Value, json};

use crate::BuildError;
use crate::ages::Age;
use crate::decide::{CopySource, CopyStep};
use crate::engine::Engine;
use crate::finish::Image;
use crate::image::{self, Layer, Parts};
use crate::options::BuildOptions;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE: &str = "https://sekisho.dev/dockerfile@v1";
const BUILDER: &str = "https://sekisho.dev/builder";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The Dockerfile's digest, the target, what was taken from elsewhere.
    Min,
    /// Also the Dockerfile, the values of arguments, names of secrets and agents.
    Max,
}

/// What a build took from elsewhere: by its URI, and the digests that it had.
pub(crate) type Materials = BTreeSet<(String, &'static str, String)>;

impl Engine {
    /// Notes what is taken from another machine.
    pub(crate) fn took(&self, uri: String, digest: &Digest) {
        self.note((uri, "sha256", digest.hex().to_owned()));
    }

    pub(crate) fn took_commit(&self, remote: &str, commit: &str) {
        self.note((format!("git+{}", without_user(remote)), "gitCommit", commit.to_owned()));
    }

    /// Those of a step that checked none of them out.
    pub(crate) fn took_commits(&self, step: &CopyStep, commits: &[String]) {
        let remotes = step.sources.iter().filter_map(|source| match source {
            CopySource::Git { git, .. } => Some(&git.remote),
            _ => None,
        });
        remotes.zip(commits).for_each(|(remote, commit)| self.took_commit(remote, commit));
    }

    pub(crate) fn took_image(&self, reference: &ImageReference, digest: &Digest, on: &Platform) {
        self.took(package(reference, on), digest);
    }

    fn note(&self, one: (String, &'static str, String)) {
        // A set is right after each insertion.
        self.materials.lock().unwrap_or_else(PoisonError::into_inner).insert(one);
    }

    /// The statements about images, as further images of the index.
    pub(crate) fn provenance(&self, images: &[Image]) -> Result<Vec<Image>, BuildError> {
        let Some(how) = self.options.provenance else { return Ok(Vec::new()) };
        let materials = self.materials.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let made = images.iter().map(|subject| {
            let text = statement(&self.options, &self.file.source, how, subject, &materials);
            let mut descriptor = Descriptor::of(STATEMENT_TYPE, text.as_bytes());
            descriptor.annotations.insert(PREDICATE_TYPE.to_owned(), PREDICATE.to_owned());
            let store = &self.layers.store;
            let diff_id = store.put_blob(&self.layers.session, text.as_bytes())?;
            let (descriptor, age) = (Some(descriptor), Age::default());
            let layer = Layer { diff_id, descriptor, origin: None, age };
            let platform = Platform::new("unknown", "unknown");
            let documents = image::documents(Parts {
                platform: &platform,
                created: self.options.created,
                author: None,
                config: sekisho_oci::RunConfig::default(),
                history: Vec::new(),
                layers: std::slice::from_ref(&layer),
            })?;
            Ok(Image { platform, chain: vec![layer], documents })
        });
        made.collect()
    }
}

/// What ties a statement's manifest to its image, in the index.
pub(crate) fn annotations(subject: &Digest) -> BTreeMap<String, String> {
    let kind = ("vnd.docker.reference.type", "attestation-manifest".to_owned());
    let digest = ("vnd.docker.reference.digest", subject.to_string());
    [kind, digest].map(|(name, value)| (name.to_owned(), value)).into()
}

/// A name before the host may be a token.
fn without_user(remote: &str) -> String {
    let Some((scheme, rest)) = remote.split_once("://") else { return remote.to_owned() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/{path}")
}

/// A package URL: <https://github.com/package-url/purl-spec>.
fn package(reference: &ImageReference, platform: &Platform) -> String {
    let tag = reference.tag.as_ref().map(|tag| format!("@{tag}")).unwrap_or_default();
    let registry = match reference.registry.as_str() {
        "docker.io" => String::new(),
        other => format!("{other}/"),
    };
    let platform = platform.to_string().replace('/', "%2F");
    format!("pkg:docker/{registry}{}{tag}?platform={platform}", reference.repository)
}

fn statement(
    options: &BuildOptions,
    dockerfile: &str,
    how: Provenance,
    subject: &Image,
    materials: &Materials,
) -> String {
    let names = options.destinations.iter().chain(&options.names);
    let names: BTreeSet<String> = names.map(|name| package(name, &subject.platform)).collect();
    let names = if names.is_empty() { ["_".to_owned()].into() } else { names };
    let digest = Digest::sha256(&subject.documents.manifest);
    let subjects: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "digest": { "sha256": digest.hex() } }))
        .collect();
    let dependencies: Vec<Value> = materials
        .iter()
        .map(|(uri, kind, digest)| json!({ "uri": uri, "digest": { *kind: digest } }))
        .collect();
    let mut request = json!({
        "target": options.target,
        "platform": subject.platform.to_string(),
        "sourceDateEpoch": options.created,
    });
    // Where this machine has it, beside the context, is nobody's business.
    let path = match options.dockerfile.is_absolute() {
        true => options.dockerfile.file_name().map(Path::new).unwrap_or(&options.dockerfile),
        false => &options.dockerfile,
    };
    let mut source = json!({
        "path": path.display().to_string(),
        "digest": { "sha256": Digest::sha256(dockerfile.as_bytes()).hex() },
    });
    if how == Provenance::Max {
        request["args"] = json!(options.build_args);
        request["labels"] = json!(options.labels);
        request["secrets"] = json!(options.secrets.keys().collect::<Vec<_>>());
        request["ssh"] = json!(options.ssh.keys().collect::<Vec<_>>());
        source["content"] = json!(dockerfile);
    }
    json!({
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "configSource": source, "request": request },
                "internalParameters": { "builderPlatform": Platform::host().to_string() },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "sekisho": env!("CARGO_PKG_VERSION") } },
            },
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_urls_of_packages() {
        let platform = Platform::new("linux", "amd64");
        for (image, want) in [
            ("debian:12", "pkg:docker/library/debian@12?platform=linux%2Famd64"),
            ("ghcr.io/a/b:v1", "pkg:docker/ghcr.io/a/b@v1?platform=linux%2Famd64"),
        ] {
            assert_eq!(package(&image.parse().unwrap(), &platform), want);
        }
    }

    #[test]
    fn no_user_of_a_remote_is_told() {
        for (remote, want) in [
            ("https://h/a/b.git", "https://h/a/b.git"),
            ("https://me:token@h:1/a@b.git", "https://h:1/a@b.git"),
            ("git@h:a.git", "git@h:a.git"),
        ] {
            assert_eq!(without_user(remote), want);
        }
    }
}
