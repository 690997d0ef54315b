//! What the policies may know about one image: its config, its base, the statements about it, and what
//! the inspector found, as one value.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_advisory::{NotAssessed, Package};
use sekisho_oci::{Descriptor, ImageConfig, ImageManifest, media_type};
use sekisho_policy::{Base, Content};
use sekisho_store::ManifestRecord;
use sekisho_types::LeakedSecret;

use crate::inspector::Inspection;

/// Longest text of a label, annotation or command that policies see, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Most labels, ports or words of a command that policies see.
const MAX_ITEMS: usize = 256;

/// Packages that are named with a licence; what counts is the licence.
const NAMED_PACKAGES: usize = 5;

/// OCI image-spec 1.1, annotations.md.
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// Where BuildKit and cosign say what a statement is about.
const PREDICATE_TYPES: [&str; 3] =
    ["in-toto.io/predicate-type", "predicateType", "dev.sigstore.bundle.predicateType"];

/// Layers that are statements about an image, not part of one: each is a JSON document. As BuildKit and
/// ORAS have them, and cosign: `specs/SIGNATURE_SPEC.md`, `specs/ATTESTATION_SPEC.md`, `specs/SBOM_SPEC.md`
/// and `specs/BUNDLE_SPEC.md` in sigstore/cosign.
const EVIDENCE: [&str; 8] = [
    "application/vnd.in-toto+json",
    "application/vnd.dsse.envelope.v1+json",
    "application/vnd.dev.cosign.simplesigning.v1+json",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/spdx+json",
    "text/spdx+json",
    "application/vnd.cyclonedx+json",
    media_type::OCI_EMPTY,
];

/// What an image whose config runs nothing has as its user: an artifact's. No user is root in it.
pub(super) const NOBODY: &str = "nobody";

/// Whether a layer says that it is a statement.
pub(super) fn is_evidence(layer: &Descriptor) -> bool {
    EVIDENCE.contains(&layer.media_type.as_str())
}

/// What cosign has as the config of a signature that refers to its image: `pkg/oci/remote/write.go` in
/// sigstore/cosign. An artifact's config may be that, or what its layers may be.
const COSIGN_CONFIG: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// Whether an artifact's config says that it is a statement.
pub(super) fn is_evidence_config(config: &Descriptor) -> bool {
    config.media_type == COSIGN_CONFIG || is_evidence(config)
}

/// Which statements about an image there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statements {
    pub(super) sbom: bool,
    pub(super) provenance: bool,
}

impl Statements {
    /// Those that a manifest holds, by the types that its layers have.
    pub(super) fn in_manifest(manifest: &ImageManifest) -> Self {
        let mut types: Vec<&str> = manifest.artifact_type.as_deref().into_iter().collect();
        for layer in &manifest.layers {
            types.push(&layer.media_type);
            let named = PREDICATE_TYPES.iter().filter_map(|name| layer.annotations.get(*name));
            types.extend(named.map(String::as_str));
        }
        Self::of_types(&types)
    }

    /// Those of a manifest that refers to an image.
    pub(super) fn of_referrer(record: &ManifestRecord) -> Self {
        let named = PREDICATE_TYPES.iter().filter_map(|name| record.annotations[*name].as_str());
        let types: Vec<&str> = record.artifact_type.as_deref().into_iter().chain(named).collect();
        Self::of_types(&types)
    }

    fn of_types(types: &[&str]) -> Self {
        let sbom = |it: &&str| {
            it.starts_with("https://spdx.dev/Document")
                || it.starts_with("https://cyclonedx.org/bom")
                || it.starts_with("application/spdx+")
                || it.starts_with("text/spdx")
                || it.starts_with("application/vnd.cyclonedx")
        };
        let provenance = |it: &&str| it.starts_with("https://slsa.dev/provenance");
        Self { sbom: types.iter().any(sbom), provenance: types.iter().any(provenance) }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { sbom: self.sbom || other.sbom, provenance: self.provenance || other.provenance }
    }
}

/// Puts together what is known; `config` is `None` for an image that runs nothing.
pub(super) fn content(
    image: &ImageManifest,
    config: Option<&ImageConfig>,
    known_base: Option<Base>,
    config_secrets: Vec<LeakedSecret>,
    inspection: Inspection,
    not_assessed: Vec<NotAssessed>,
) -> Content {
    let none = BTreeMap::new();
    let labels = config.map_or(&none, |config| &config.config.labels);
    let run = config.map(|config| &config.config);
    let command = run.into_iter().flat_map(|run| {
        run.entrypoint.iter().flatten().chain(run.cmd.iter().flatten()).map(|word| short(word))
    });
    Content {
        user: run.map_or_else(|| NOBODY.to_owned(), |run| run.user.clone()),
        exposed_ports: run
            .into_iter()
            .flat_map(|run| run.exposed_ports.keys().take(MAX_ITEMS).map(|port| short(port)))
            .collect(),
        labels: labels
            .iter()
            .take(MAX_ITEMS)
            .map(|(name, value)| (short(name), short(value)))
            .collect(),
        command: command.take(MAX_ITEMS).collect(),
        base: known_base.or_else(|| base(&image.annotations, labels)),
        layers: image.layers.len(),
        size_bytes: image.layers.iter().fold(0, |sum, layer| layer.size.saturating_add(sum)),
        packages: inspection.packages.len(),
        package_names: inspection.packages.iter().map(name).collect(),
        licences: licences(&inspection.packages),
        findings: inspection.findings,
        not_assessed,
        secrets: [inspection.secrets, config_secrets].concat(),
        more_secrets: inspection.more_secrets,
        sbom: false,
        provenance: false,
        threats: inspection.threats,
        newest_advisory: inspection.newest,
    }
}

/// What whoever pushes says that it is built on.
fn base(annotations: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> Option<Base> {
    let said = |name: &str| annotations.get(name).or_else(|| labels.get(name));
    let name = said(BASE_NAME).filter(|name| !name.is_empty())?;
    let digest = said(BASE_DIGEST).map(|digest| short(digest)).unwrap_or_default();
    Some(Base { name: short(name), digest, created: None, known: false })
}

/// `Debian/openssl`: whatever the release is.
fn name(package: &Package) -> String {
    let ecosystem = package.ecosystem.to_string();
    let family = ecosystem.split(':').next().unwrap_or_default();
    short(&format!("{family}/{}", package.name))
}

/// The licences of packages. `A AND B` binds to both; a choice (`A OR B`) stays one.
fn licences(packages: &[Package]) -> BTreeMap<String, BTreeSet<String>> {
    let mut licences: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let Some(text) = package.licence.as_deref() else { continue };
        let parts = if text.contains(" OR ") { vec![text] } else { text.split(" AND ").collect() };
        for part in parts {
            let licence = part.trim_matches(['(', ')', ' ']).to_owned();
            let named = licences.entry(licence).or_default();
            if named.len() < NAMED_PACKAGES {
                named.insert(package.name.clone());
            }
        }
    }
    licences
}

/// Foreign text, cut at a character.
fn short(text: &str) -> String {
    text.chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= MAX_TEXT_BYTES).then_some(c)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(annotation: Option<(&str, &str)>, media_type: &str) -> ImageManifest {
        let mut layer = Descriptor::of(media_type, b"x");
        layer.annotations.extend(annotation.map(|(name, value)| (name.into(), value.into())));
        ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, b"{}"), vec![layer])
    }

    #[test]
    fn statements_are_known_by_their_types() {
        let json = "application/vnd.in-toto+json";
        let of = |name, value| Statements::in_manifest(&manifest(Some((name, value)), json));
        let (sbom, provenance) = (
            Statements { sbom: true, provenance: false },
            Statements { sbom: false, provenance: true },
        );
        let name = "in-toto.io/predicate-type";
        assert_eq!(of(name, "https://spdx.dev/Document"), sbom);
        assert_eq!(of(name, "https://cyclonedx.org/bom/v1.5"), sbom);
        assert_eq!(of(name, "https://slsa.dev/provenance/v1"), provenance);
        assert_eq!(of(name, "https://example.org/other"), Statements::default());
        assert_eq!(of("x", "https://spdx.dev/Document"), Statements::default());
        assert_eq!(Statements::in_manifest(&manifest(None, "application/spdx+json")), sbom);
        assert_eq!(sbom.and(provenance), Statements { sbom: true, provenance: true });
    }

    #[test]
    fn the_config_is_told() {
        let config = ImageConfig::parse(
            br#"{"rootfs": {"type": "layers", "diff_ids": []}, "config": {
                "User": "app", "ExposedPorts": {"80/tcp": {}}, "Labels": {"team": "web",
                "org.opencontainers.image.base.name": "docker.io/library/debian:12"},
                "Entrypoint": ["/bin/app"], "Cmd": ["--serve"]}}"#,
        )
        .unwrap();
        let image = manifest(None, media_type::OCI_LAYER);
        let told = |config| content(&image, config, None, vec![], Inspection::default(), vec![]);
        let content = told(Some(&config));
        assert_eq!(content.user, "app");
        assert_eq!(content.exposed_ports, ["80/tcp".to_owned()].into());
        assert_eq!(content.labels["team"], "web");
        assert_eq!(content.command, ["/bin/app", "--serve"]);
        assert_eq!((content.layers, content.size_bytes), (1, 1));
        let base = content.base.unwrap();
        assert_eq!((base.name.as_str(), base.known), ("docker.io/library/debian:12", false));
        assert_eq!(told(None).user, NOBODY);
    }

    #[test]
    fn packages_are_named_without_the_release() {
        let package = |ecosystem: &str, package: &str| -> Package {
            let text = format!(
                r#"{{"ecosystem": "{ecosystem}", "name": "{package}", "version": "1", "path": ""}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(name(&package("Debian:12", "hydra")), "Debian/hydra");
        assert_eq!(name(&package("Ubuntu:24.04:LTS", "hydra")), "Ubuntu/hydra");
        assert_eq!(name(&package("npm", "@types/node")), "npm/@types/node");
    }

    #[test]
    fn licences_are_taken_apart() {
        let package = |name: &str, licence: &str| -> Package {
            let text = format!(
                r#"{{"ecosystem": "npm", "name": "{name}", "version": "1", "path": "",
                   "licence": "{licence}"}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let found = licences(&[
            package("a", "MIT"),
            package("b", "(MIT AND AGPL-3.0-only)"),
            package("c", "MIT OR GPL-2.0-only"),
        ]);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["AGPL-3.0-only", "MIT", "MIT OR GPL-2.0-only"]);
        assert_eq!(found["MIT"], ["a".to_owned(), "b".to_owned()].into());
    }

    #[test]
    fn foreign_text_is_cut_at_a_character() {
        assert_eq!(short("ab"), "ab");
        assert_eq!(short(&"é".repeat(3000)).len(), MAX_TEXT_BYTES);
    }
}
