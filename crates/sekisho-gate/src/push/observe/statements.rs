//! What is said about the images that are pushed: beside them, and in manifests that refer to them or to an
//! index that names them.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_oci::{Descriptor, Manifest, parse_manifest};
use sekisho_policy::Content;
use sekisho_types::{Digest, Document, LeakedSecret, Statement};

use super::referrers::{MAX_REFERRERS, referrers};
use super::{Observer, missing};
use crate::error::{ApiResult, OrFail as _};
use crate::push::facts::{Statements, is_evidence};

/// Largest document that is looked at as evidence, in bytes: provenance and SBOM of a large image
/// have some tens of MB.
const MAX_EVIDENCE_BYTES: u64 = 64 * 1024 * 1024;

/// Secrets that were found.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    pub(super) named: Vec<LeakedSecret>,
    /// How many more there are.
    pub(super) more: u64,
}

impl Leaks {
    /// Takes the secrets of a document; gives what it says.
    pub(super) fn take_of(&mut self, document: Document) -> Statement {
        self.named.extend(document.secrets);
        self.more = self.more.saturating_add(document.more_secrets);
        document.statement
    }
}

impl Observer<'_> {
    /// The contents, with the statements that there are about each, or about an index that names it: who
    /// speaks of the index by its digest speaks of all that it names by theirs.
    pub(super) fn with_statements(&mut self) -> ApiResult<Vec<Content>> {
        let contents = std::mem::take(&mut self.contents);
        // Each once, however many images an index names.
        let all: BTreeSet<Digest> =
            contents.iter().flat_map(|(digest, _)| self.above(digest)).collect();
        let mut said: BTreeMap<Digest, Statements> = BTreeMap::new();
        for about in all {
            let mut heard = self.statements.get(&about).cloned().unwrap_or_default();
            self.hear_referrers(&about, &mut heard)?;
            said.insert(about, heard);
        }
        let with = |(digest, mut content): (Digest, Content)| {
            let mut heard = Statements::default();
            self.above(&digest).iter().filter_map(|it| said.get(it)).for_each(|it| heard.join(it));
            heard.tell(&mut content);
            content
        };
        let mut contents: Vec<Content> = contents.into_iter().map(with).collect();
        // Of the first, for an index has no content of its own; one of nothing has it for that.
        if contents.is_empty() && !self.secrets.is_empty() {
            contents.push(Content::default());
        }
        if let Some(first) = contents.first_mut() {
            first.secrets.append(&mut self.secrets);
        }
        Ok(contents)
    }

    /// A manifest, and every index that it is in.
    fn above(&self, digest: &Digest) -> BTreeSet<Digest> {
        let mut all = BTreeSet::new();
        let mut left = vec![digest.clone()];
        while let Some(digest) = left.pop() {
            left.extend(self.named_by.get(&digest).into_iter().flatten().cloned());
            all.insert(digest);
        }
        all
    }

    /// What the manifests that refer to one say about it. What cannot be read was said when it was pushed, and
    /// so were secrets.
    fn hear_referrers(&self, about: &Digest, heard: &mut Statements) -> ApiResult<()> {
        let referrers = referrers(self.view, about);
        let referrers = referrers.or_fail("looking for statements about an image")?;
        let mut left = MAX_REFERRERS;
        for record in referrers {
            let found = self.view.manifest(&record.digest).or_fail("reading a referrer")?;
            let Some((_, bytes)) = found else { continue };
            let Ok(Manifest::Image(image)) = parse_manifest(&bytes, &record.media_type) else {
                continue;
            };
            for layer in image.layers.iter().filter(|layer| is_evidence(layer)).take(left) {
                left -= 1;
                if let Some(Ok(document)) = self.statement_if_here(layer)? {
                    heard.hear(&document.statement, about);
                }
            }
        }
        Ok(())
    }

    /// Has a statement read that must be here; the inner error says why it is none.
    pub(super) fn statement(&self, layer: &Descriptor) -> ApiResult<anyhow::Result<Document>> {
        self.statement_if_here(layer)?.ok_or_else(|| missing(layer))
    }

    /// The same; `None` where it is not here.
    fn statement_if_here(&self, layer: &Descriptor) -> ApiResult<Option<anyhow::Result<Document>>> {
        let blob = self.view.open(&layer.digest).or_fail("reading a statement")?;
        let Some(blob) = blob else { return Ok(None) };
        if blob.size > MAX_EVIDENCE_BYTES {
            let why = format!("it has {} bytes, more than {MAX_EVIDENCE_BYTES}", blob.size);
            return Ok(Some(Err(anyhow::anyhow!(why))));
        }
        let read = self.analyses.document(&layer.digest, || blob.reader(0));
        let read = read.or_fail("reading a statement")?;
        Ok(Some(read.map(|mut document| {
            document.secrets.iter_mut().for_each(|it| it.layer = Some(layer.digest.clone()));
            document
        })))
    }
}
