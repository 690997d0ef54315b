//! What looks into images. The gate knows only this trait: scanners are another service's work.

use std::collections::BTreeMap;
use std::io::Read;

use jiff::Timestamp;
use sekisho_advisory::{Finding, NotAssessed, Package, Threat};
use sekisho_types::{Digest, Document, LeakedSecret};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A layer could not be looked into, and nothing is wrong with it: worth trying again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("layers cannot be looked into now: {0}")]
pub struct Busy(pub String);

/// Looks into layers, then into the image that they make.
pub trait Inspector: Send + Sync {
    /// Names the program and the form of its [`Inspector::layer`] values. They are kept by digest
    /// under this name, so it changes whenever the same layer would give another value.
    fn version(&self) -> String;

    /// Names the data that [`Inspector::image`] judges by: equal names, equal answers.
    fn data(&self) -> String;

    /// Reads one layer as it was pushed, compressed or not, to its end or to an error.
    ///
    /// Called on a thread of its own while the bytes arrive: before the digest is verified, and on
    /// blobs that turn out to be no layers. The value is small and a function of the bytes alone.
    ///
    /// # Errors
    /// [`Busy`], or it is no layer that can be read.
    fn layer(&self, reader: &mut dyn Read) -> anyhow::Result<Value>;

    /// The digest of a layer's uncompressed bytes, by its [`Inspector::layer`] value.
    ///
    /// # Errors
    /// The value is none of this inspector's.
    fn diff_id(&self, layer: &Value) -> anyhow::Result<Digest>;

    /// Reads a statement about an image to its end: one JSON document. Secrets in it are of no layer.
    ///
    /// # Errors
    /// [`Busy`], or it is something else.
    fn document(&self, reader: &mut dyn Read) -> anyhow::Result<Document>;

    /// Names those whose signatures on statements count: equal names, equal [`Inspector::document`]s.
    fn attestors(&self) -> String;

    /// Looks for secrets in what comes with the layers: a config has the environment, labels and the commands
    /// that made the image, a manifest has annotations. `what` stands in the place of a path.
    fn text(&self, what: &str, bytes: &[u8]) -> Vec<LeakedSecret>;

    /// Puts the layers of one image together, base first.
    fn image(&self, layers: &[Value]) -> anyhow::Result<Inspection>;
}

/// What is in one image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Every package.
    pub packages: Vec<Package>,
    /// Every advisory that applies.
    pub findings: Vec<Finding>,
    /// What is known about attacks, by the id of a finding.
    #[serde(default)]
    pub threats: BTreeMap<String, Threat>,
    /// Secrets in its layers.
    #[serde(default)]
    pub secrets: Vec<LeakedSecret>,
    /// Further ones, which are not named.
    #[serde(default)]
    pub more_secrets: u64,
    /// What nobody could judge.
    pub not_assessed: Vec<NotAssessed>,
    /// How many advisories it was judged by.
    pub records: usize,
    /// When the youngest of them was changed.
    pub newest: Option<Timestamp>,
}
