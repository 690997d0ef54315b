//! What a manifest holds, gathered before anybody judges it.

mod config;
mod layers;
mod referrers;
mod statements;

use std::collections::{BTreeMap, BTreeSet};

use sekisho_advisory::{NotAssessed, Reason};
use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, Manifest, parse_manifest};
use sekisho_policy::Content;
use sekisho_store::ManifestRecord;
use sekisho_types::{Digest, LeakedSecret, Statement, causes};
use serde_json::Value;

use self::config::{names_layers, whole};
use self::layers::Layers;
use self::referrers::referrers;
use super::Put;
use super::facts::{self, Statements, is_evidence};
use super::promote::Item;
use super::view::View;
use crate::analysis::Analyses;
use crate::decisions::Summary;
use crate::error::{ApiError, ApiResult, Code, OrFail as _};
use crate::inspector::Inspection;

/// How deep indexes may lie in each other.
const MAX_INDEX_DEPTH: usize = 2;

/// Most images under one index, counted once each.
const MAX_IMAGES: usize = 256;

/// Largest sum of their manifests, in bytes: they are held in memory until all are promoted.
const MAX_INDEXED_BYTES: usize = 32 * 1024 * 1024;

/// Where BuildKit says which image of an index a manifest beside it is about.
const ABOUT: &str = "vnd.docker.reference.digest";

/// What the policies ask about.
pub(crate) struct Judged {
    pub(crate) contents: Vec<Content>,
    pub(crate) summary: Summary,
    /// How many advisories there were to judge by.
    pub(crate) advisories: usize,
}

/// The manifests under what was put, and what they need.
struct Walk<'a> {
    view: &'a View<'a>,
    items: Vec<Item>,
    /// Manifests that were looked at: one that is named twice is one.
    seen: BTreeSet<Digest>,
    manifest_bytes: usize,
}

struct Observer<'a> {
    view: &'a View<'a>,
    analyses: &'a Analyses,
    /// With the digest of each one's manifest.
    contents: Vec<(Digest, Content)>,
    /// The indexes that name a manifest.
    named_by: BTreeMap<Digest, BTreeSet<Digest>>,
    /// What stands in an index about a manifest of it.
    statements: BTreeMap<Digest, Statements>,
    /// Found in indexes.
    secrets: Vec<LeakedSecret>,
    summary: Summary,
    advisories: usize,
    seen: BTreeSet<Digest>,
}

/// Reads what was put.
pub(crate) fn parse(put: &Put) -> ApiResult<Manifest> {
    parse_manifest(&put.bytes, &put.content_type).map_err(|error| invalid(&error))
}

/// All that must be there when the manifest is: itself, and what it refers to.
pub(crate) fn needed(manifest: &Manifest, put: &Put) -> Vec<Digest> {
    let named = manifest.references().into_iter().map(|it| it.descriptor.digest.clone());
    named.chain([put.digest.clone()]).collect()
}

/// What was put, with all that is under it: each part after what it needs, the root last. Blocks.
///
/// # Errors
/// Something that it names is not here, or is not what it says.
pub(crate) fn items(view: &View<'_>, put: &Put, manifest: &Manifest) -> ApiResult<Vec<Item>> {
    let (items, seen) = (Vec::new(), BTreeSet::new());
    let mut walk = Walk { view, items, seen, manifest_bytes: 0 };
    let blobs = match manifest {
        Manifest::Image(image) => walk.present(image)?,
        Manifest::Index(index) => {
            walk.index(index, 1)?;
            Vec::new()
        }
    };
    let annotations = manifest.annotations();
    let record = ManifestRecord {
        digest: put.digest.clone(),
        media_type: put.content_type.clone(),
        size: put.bytes.len() as u64,
        subject: manifest.subject().map(|subject| subject.digest.clone()),
        artifact_type: manifest.artifact_type().map(str::to_owned),
        annotations: if annotations.is_empty() {
            Value::Null
        } else {
            serde_json::to_value(annotations).unwrap_or_default()
        },
    };
    walk.items.push(Item { record, bytes: put.bytes.clone(), blobs });
    Ok(walk.items)
}

/// Names what others said about the manifests so far; `None` when nobody did. Blocks.
pub(crate) fn said(view: &View<'_>, items: &[Item]) -> ApiResult<Option<Digest>> {
    let mut all = String::new();
    for item in items {
        let referrers = referrers(view, &item.record.digest);
        for record in referrers.or_fail("looking for statements")? {
            all.push_str(&format!("{}\n", record.digest));
        }
    }
    Ok(if all.is_empty() { None } else { Some(Digest::sha256(all.as_bytes())) })
}

/// Looks into everything under the manifest. Blocks.
pub(crate) fn judge(
    view: &View<'_>,
    analyses: &Analyses,
    put: &Put,
    manifest: &Manifest,
) -> ApiResult<Judged> {
    let mut observer = Observer {
        view,
        analyses,
        contents: Vec::new(),
        named_by: BTreeMap::new(),
        statements: BTreeMap::new(),
        secrets: Vec::new(),
        summary: Summary::default(),
        advisories: 0,
        seen: BTreeSet::new(),
    };
    match manifest {
        Manifest::Image(image) => drop(observer.image(image, &put.digest)?),
        Manifest::Index(index) => observer.index(index, &put.digest)?,
    }
    let contents = observer.with_statements()?;
    let Observer { summary, advisories, .. } = observer;
    Ok(Judged { contents, summary, advisories })
}

/// A manifest that an index names.
fn child(view: &View<'_>, child: &Descriptor) -> ApiResult<(ManifestRecord, Vec<u8>, Manifest)> {
    let found = view.manifest(&child.digest).or_fail("reading a manifest")?;
    let (record, bytes) = found.ok_or_else(|| missing(child))?;
    check_size(child, record.size)?;
    if child.media_type != record.media_type {
        let message = format!("{} was pushed as {}", child.digest, record.media_type);
        return Err(ApiError::new(Code::ManifestInvalid, message));
    }
    let manifest = parse_manifest(&bytes, &record.media_type).map_err(|error| invalid(&error))?;
    Ok((record, bytes, manifest))
}

fn invalid(error: &dyn std::error::Error) -> ApiError {
    ApiError::new(Code::ManifestInvalid, causes(error))
}

fn missing(descriptor: &Descriptor) -> ApiError {
    let message = format!("{} {} was not pushed here", descriptor.media_type, descriptor.digest);
    ApiError::new(Code::ManifestBlobUnknown, message)
        .with_detail(serde_json::json!({"digest": descriptor.digest}))
}

fn check_size(descriptor: &Descriptor, found: u64) -> ApiResult<()> {
    if descriptor.size == found {
        return Ok(());
    }
    let Descriptor { digest, size, .. } = descriptor;
    let message = format!("{digest} has {found} bytes, not {size} as the manifest says");
    Err(ApiError::new(Code::ManifestInvalid, message))
}

impl Walk<'_> {
    /// The blobs of an image, all of which are here with the size that the manifest says.
    ///
    /// A layer that lies elsewhere need not be here; then nobody can judge it.
    fn present(&self, image: &ImageManifest) -> ApiResult<Vec<Digest>> {
        let mut blobs = Vec::new();
        for descriptor in [&image.config].into_iter().chain(&image.layers) {
            match self.view.size(&descriptor.digest).or_fail("looking for a blob")? {
                Some(size) => {
                    check_size(descriptor, size)?;
                    if !blobs.contains(&descriptor.digest) {
                        blobs.push(descriptor.digest.clone());
                    }
                }
                None if descriptor.is_distributable() => return Err(missing(descriptor)),
                None => {}
            }
        }
        Ok(blobs)
    }

    fn index(&mut self, index: &ImageIndex, depth: usize) -> ApiResult<()> {
        for named in &index.manifests {
            if !self.seen.insert(named.digest.clone()) {
                continue;
            }
            if self.seen.len() > MAX_IMAGES || depth > MAX_INDEX_DEPTH {
                let message = format!(
                    "an index holds at most {MAX_IMAGES} images, {MAX_INDEX_DEPTH} levels deep"
                );
                return Err(ApiError::new(Code::ManifestInvalid, message));
            }
            let (record, bytes, manifest) = child(self.view, named)?;
            self.manifest_bytes += bytes.len();
            if self.manifest_bytes > MAX_INDEXED_BYTES {
                let message =
                    format!("the manifests of an index have at most {MAX_INDEXED_BYTES} bytes");
                return Err(ApiError::new(Code::ManifestInvalid, message));
            }
            let blobs = match manifest {
                Manifest::Image(image) => self.present(&image)?,
                Manifest::Index(index) => {
                    self.index(&index, depth + 1)?;
                    Vec::new()
                }
            };
            self.items.push(Item { record, bytes: bytes.into(), blobs });
        }
        Ok(())
    }
}

impl Observer<'_> {
    /// How deep and how much was seen to by [`items`].
    fn index(&mut self, index: &ImageIndex, digest: &Digest) -> ApiResult<()> {
        let said = self.analyses.inspector().text("(image index)", &index.to_bytes());
        self.secrets.extend(said);
        for named in &index.manifests {
            self.named_by.entry(named.digest.clone()).or_default().insert(digest.clone());
            if !self.seen.insert(named.digest.clone()) {
                continue;
            }
            match child(self.view, named)?.2 {
                Manifest::Image(image) => {
                    let said = self.image(&image, &named.digest)?;
                    let about = named.annotations.get(ABOUT);
                    if let Some(about) = about.and_then(|text| text.parse::<Digest>().ok()) {
                        let heard = self.statements.entry(about.clone()).or_default();
                        said.iter().for_each(|statement| heard.hear(statement, &about));
                    }
                }
                Manifest::Index(index) => self.index(&index, &named.digest)?,
            }
        }
        Ok(())
    }

    /// Gives the statements that are among its layers.
    fn image(&mut self, image: &ImageManifest, digest: &Digest) -> ApiResult<Vec<Statement>> {
        let Layers { values, diff_ids, statements, mut leaks, mut not_assessed } =
            self.layers(image)?;
        let config = self.config(image, &mut leaks, &mut not_assessed)?;
        let only_evidence = values.is_empty()
            && (config.is_none()
                || !image.layers.is_empty() && image.layers.iter().all(is_evidence));
        let mut inspection = if only_evidence {
            Inspection::default()
        } else {
            self.analyses.inspector().image(&values).unwrap_or_else(|error| {
                not_assessed.push(unreadable("the image".to_owned(), &error, None));
                Inspection::default()
            })
        };
        not_assessed.append(&mut inspection.not_assessed);
        leaks.named.extend(self.analyses.inspector().text("(image manifest)", &image.to_bytes()));
        inspection.secrets.append(&mut leaks.named);
        inspection.more_secrets = inspection.more_secrets.saturating_add(leaks.more);
        let config = config.filter(|_| !only_evidence);

        self.advisories = self.advisories.max(inspection.records);
        if let Some(Err(why)) = config.as_ref().map(|it| names_layers(it, image, &diff_ids)) {
            not_assessed.push(unreadable("the image's config".to_owned(), &why, None));
        }
        let base = config.as_ref().and_then(|_| whole(image, diff_ids));
        let base = base.map(|diff_ids| self.view.base_of(&diff_ids)).transpose();
        let base = base.or_fail("looking for the base")?.flatten();
        let mut content = facts::content(image, config.as_ref(), base, inspection, not_assessed);
        content.statement = only_evidence && image.layers.iter().all(is_evidence);
        let summary = &mut self.summary;
        summary.images += 1;
        summary.layers += content.layers;
        summary.size_bytes = summary.size_bytes.saturating_add(content.size_bytes);
        summary.not_assessed += content.not_assessed.len();
        for finding in &content.findings {
            *summary.findings.entry(finding.severity).or_default() += 1;
        }
        self.contents.push((digest.clone(), content));
        Ok(statements)
    }
}

fn unreadable(subject: String, error: &anyhow::Error, layer: Option<Digest>) -> NotAssessed {
    // Foreign bytes can be part of the text.
    let detail = format!("{error:#}").chars().take(200).collect();
    NotAssessed { reason: Reason::UnreadableFile, subject, detail, path: None, layer }
}
