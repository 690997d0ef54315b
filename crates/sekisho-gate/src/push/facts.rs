//! What the policies may know about one image: its config, its base, the statements about it, and what
//! the inspector found, as one value.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_advisory::{NotAssessed, Package};
use sekisho_oci::{Descriptor, ImageConfig, ImageManifest, dsse, media_type};
use sekisho_policy::{Base, Content};
use sekisho_types::{Digest, Statement, StatementKind, UNSIGNED};

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

/// Layers that are statements about an image, not part of one: each is a JSON document. As BuildKit and
/// ORAS have them, and cosign: `specs/SIGNATURE_SPEC.md`, `specs/ATTESTATION_SPEC.md`, `specs/SBOM_SPEC.md`
/// and `specs/BUNDLE_SPEC.md` in sigstore/cosign.
const EVIDENCE: [&str; 8] = [
    dsse::IN_TOTO,
    dsse::ENVELOPE,
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

/// Which statements about an image there are, each with those who signed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statements {
    sbom: BTreeSet<String>,
    provenance: BTreeSet<String>,
}

impl Statements {
    /// Takes in what others heard.
    pub(super) fn join(&mut self, other: &Self) {
        self.sbom.extend(other.sbom.iter().cloned());
        self.provenance.extend(other.provenance.iter().cloned());
    }

    /// Takes in what a document says, if it speaks of that manifest.
    pub(super) fn hear(&mut self, statement: &Statement, about: &Digest) {
        if statement.subjects.as_ref().is_some_and(|subjects| !subjects.contains(about)) {
            return;
        }
        let signers = match statement.kind {
            StatementKind::Sbom => &mut self.sbom,
            StatementKind::Provenance => &mut self.provenance,
            StatementKind::Other => return,
        };
        signers.extend(statement.signers.iter().cloned());
        if statement.signers.is_empty() {
            signers.insert(UNSIGNED.to_owned());
        }
    }

    /// Tells the policies.
    pub(super) fn tell(self, content: &mut Content) {
        content.sbom = !self.sbom.is_empty();
        content.provenance = !self.provenance.is_empty();
        content.sbom_signers = self.sbom;
        content.provenance_signers = self.provenance;
    }
}

/// Puts together what is known; `config` is `None` for an image that runs nothing.
pub(super) fn content(
    image: &ImageManifest,
    config: Option<&ImageConfig>,
    known_base: Option<Base>,
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
        secrets: inspection.secrets,
        more_secrets: inspection.more_secrets,
        sbom: false,
        provenance: false,
        statement: false,
        sbom_signers: BTreeSet::new(),
        provenance_signers: BTreeSet::new(),
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
    fn a_statement_counts_for_what_it_speaks_of() {
        let (image, other) = (Digest::sha256(b"image"), Digest::sha256(b"other"));
        let of = |kind, subjects: Option<&Digest>, signer: Option<&str>| Statement {
            kind,
            subjects: subjects.map(|subject| [subject.clone()].into()),
            signers: signer.map(str::to_owned).into_iter().collect(),
        };
        let told = |statements: &[Statement]| {
            let mut heard = Statements::default();
            statements.iter().for_each(|statement| heard.hear(statement, &image));
            let mut content = Content::default();
            heard.tell(&mut content);
            let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
            let (sbom, provenance) = (content.sbom, content.provenance);
            (sbom, names(content.sbom_signers), provenance, names(content.provenance_signers))
        };
        let (sbom, provenance) = (StatementKind::Sbom, StatementKind::Provenance);
        let nothing = || (false, String::new(), false, String::new());
        assert_eq!(told(&[of(StatementKind::Other, Some(&image), Some("ci"))]), nothing());
        assert_eq!(told(&[of(provenance, Some(&other), Some("ci"))]), nothing());
        assert_eq!(
            told(&[of(sbom, None, None), of(provenance, Some(&image), Some("ci"))]),
            (true, "unsigned".to_owned(), true, "ci".to_owned())
        );
        let both = [of(provenance, Some(&image), None), of(provenance, Some(&image), Some("ci"))];
        assert_eq!(told(&both).3, "ci unsigned");
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
        let told = |config| content(&image, config, None, Inspection::default(), vec![]);
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
