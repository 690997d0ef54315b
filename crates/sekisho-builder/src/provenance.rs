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
use url::{Url, form_urlencoded};

use crate::BuildError;
use crate::ages::Age;
use crate::decide::CopyStep;
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

/// What was taken from elsewhere: its URI, and the kind and value of the digest that it had.
pub(crate) type Material = (String, &'static str, String);

/// What a build took from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Materials {
    /// Contexts, which are the same for all platforms.
    pub(crate) for_all: BTreeSet<Material>,
    /// What the image of one platform took, by its place among those asked for.
    by_target: BTreeMap<usize, BTreeSet<Material>>,
}

impl Materials {
    fn of(&self, target: usize) -> BTreeSet<&Material> {
        self.for_all.iter().chain(self.by_target.get(&target).into_iter().flatten()).collect()
    }
}

/// A commit of a repository.
pub(crate) fn commit(remote: &str, commit: &str) -> Material {
    (format!("git+{}", without_user(remote)), "gitCommit", commit.to_owned())
}

/// A file that a context is made of. A query may be a signature that lets one fetch it, so it is left out.
pub(crate) fn context_file(url: &Url, digest: &Digest) -> Material {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    (url.into(), "sha256", digest.hex().to_owned())
}

impl Engine {
    /// Notes what is taken from another machine.
    pub(crate) fn took(&self, uri: String, digest: &Digest) {
        self.note((uri, "sha256", digest.hex().to_owned()));
    }

    pub(crate) fn took_commit(&self, remote: &str, commit: &str) {
        self.note(self::commit(remote, commit));
    }

    /// Those of a step that checked none of them out.
    pub(crate) fn took_commits(&self, step: &CopyStep, commits: &[String]) {
        let both = step.repositories().zip(commits);
        both.for_each(|(git, commit)| self.took_commit(&git.remote, commit));
    }

    pub(crate) fn took_image(&self, reference: &ImageReference, digest: &Digest, on: &Platform) {
        self.took(package(reference, on), digest);
    }

    /// An image of a layout, which is known here by the name of its context only.
    pub(crate) fn took_of_layout(&self, context: &str, digest: &Digest, on: &Platform) {
        self.took(layout_package(context, digest, on), digest);
    }

    /// A context is the same for the images of all platforms.
    pub(crate) fn took_for_all(&self, one: Option<Material>) {
        self.materials.lock().unwrap_or_else(PoisonError::into_inner).for_all.extend(one);
    }

    fn note(&self, one: Material) {
        // A set is right after each insertion.
        let mut materials = self.materials.lock().unwrap_or_else(PoisonError::into_inner);
        match self.target {
            Some(target) => materials.by_target.entry(target).or_default().insert(one),
            None => materials.for_all.insert(one),
        };
    }

    /// The statements about images, as further images of the index.
    pub(crate) fn provenance(&self, images: &[Image]) -> Result<Vec<Image>, BuildError> {
        let Some(how) = self.options.provenance else { return Ok(Vec::new()) };
        let materials = self.materials.lock().unwrap_or_else(PoisonError::into_inner);
        // Images are in the order of the platforms that were asked for.
        let made = images.iter().enumerate().map(|(target, subject)| {
            let taken = materials.of(target);
            let text = statement(&self.options, &self.file.source, how, subject, &taken);
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

/// One of `oci`'s kind, whose name is the last part of a repository's.
fn layout_package(context: &str, digest: &Digest, platform: &Platform) -> String {
    let last = context.rsplit('/').next().unwrap_or(context);
    let name = last.split([':', '@']).next().unwrap_or(last).to_ascii_lowercase();
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let (digest, arch) = (digest.to_string().replace(':', "%3A"), &platform.architecture);
    format!("pkg:oci/{name}@{digest}?arch={arch}")
}

fn statement(
    options: &BuildOptions,
    dockerfile: &str,
    how: Provenance,
    subject: &Image,
    materials: &BTreeSet<&Material>,
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
    fn an_image_of_a_layout_is_named_by_its_context() {
        let (platform, digest) = (Platform::new("linux", "arm64"), Digest::sha256(b"x"));
        let end = format!("@sha256%3A{}?arch=arm64", digest.hex());
        for (context, want) in
            [("tools", "tools"), ("docker.io/library/Alpine:3", "alpine"), ("a&b", "a%26b")]
        {
            let want = format!("pkg:oci/{want}{end}");
            assert_eq!(layout_package(context, &digest, &platform), want);
        }
    }

    #[test]
    fn a_context_is_told_without_what_lets_one_fetch_it() {
        let url = Url::parse("https://h/a.tar?X-Signature=secret#x").unwrap();
        let digest = Digest::sha256(b"x");
        let want = ("https://h/a.tar".to_owned(), "sha256", digest.hex().to_owned());
        assert_eq!(context_file(&url, &digest), want);
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
