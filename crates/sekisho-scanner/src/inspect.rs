//! An image's layers and advisory data in, everything that is to be said out.

use jiff::Timestamp;
use sekisho_advisory::{Database, Finding, NotAssessed, Package, match_packages};
use sekisho_types::LeakedSecret;
use serde::{Deserialize, Serialize};

use crate::index::LayerIndex;
use crate::merge::merge;
use crate::os::Os;

/// What is to be said of an image. The same layers and the same data give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The operating system; `None` when there is no trace of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<Os>,
    /// Every package, in order.
    pub packages: Vec<Package>,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// Secrets in any layer, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<LeakedSecret>,
    /// How many more there are.
    #[serde(default)]
    pub more_secrets: u64,
    /// What nobody judged, in order.
    pub not_assessed: Vec<NotAssessed>,
    /// What the findings rest on.
    pub data: DataAge,
}

/// How much advisory data there was, and how old it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataAge {
    /// Advisories in use.
    pub records: usize,
    /// When the newest of them last changed: the data's date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
}

/// Merges the layers, the lowest first, and matches what they hold.
pub fn inspect(layers: &[LayerIndex], database: &Database) -> Report {
    let inventory = merge(layers);
    let matches = match_packages(&inventory.packages, database);
    let mut not_assessed = inventory.not_assessed;
    not_assessed.extend(matches.not_assessed);
    not_assessed.sort();
    not_assessed.dedup();
    // Whoever pulls the image gets every layer, so that a file which is gone is still there.
    let of = |layer: &LayerIndex| {
        let diff_id = layer.diff_id.clone();
        let told = layer.secrets.clone().into_iter();
        told.map(move |secret| LeakedSecret { layer: Some(diff_id.clone()), ..secret })
    };
    let mut secrets: Vec<LeakedSecret> = layers.iter().flat_map(of).collect();
    secrets.sort();
    secrets.dedup();
    Report {
        os: inventory.os,
        packages: inventory.packages,
        findings: matches.findings,
        secrets,
        more_secrets: layers.iter().map(|layer| layer.more_secrets).sum(),
        not_assessed,
        data: DataAge { records: database.records(), newest: database.newest() },
    }
}
