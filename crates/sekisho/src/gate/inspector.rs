//! Gives the gate the scanner: the one place where the two meet.

use std::io::Read;

use sekisho_advisory::{Database, Threats};
use sekisho_gate::{Inspection, Inspector};
use sekisho_scanner::{ANALYSER, Attestors, FingerprintKey, LayerIndex, inspect, secrets_in};
use sekisho_types::{Digest, Document, LeakedSecret};
use serde::Deserialize as _;
use serde_json::Value;

use super::advisories::Advisories;
use super::analyser::Analyser;

/// The scanner over one set of advisories.
pub(super) struct Scanner {
    database: Database,
    threats: Threats,
    key: [u8; 32],
    /// Those whose signatures count, as the analyser's children are told.
    attestors: String,
    analyser: Analyser,
    /// Names all that is judged by.
    data: String,
}

impl Scanner {
    /// Knows what `advisories` and `threats` know; fingerprints of secrets are made with `key`; signatures of
    /// `attestors` count; layers and statements are read by `analyser`'s children.
    ///
    /// # Errors
    /// The attestors cannot be told to a child.
    pub(super) fn new(
        advisories: Advisories,
        threats: Threats,
        key: [u8; 32],
        attestors: &Attestors,
        analyser: Analyser,
    ) -> anyhow::Result<Self> {
        let attestors = serde_json::to_string(attestors)?;
        let Advisories { database, name } = advisories;
        let known = Digest::sha256(format!("{threats:?}").as_bytes());
        let signers = Digest::sha256(attestors.as_bytes());
        let data = format!("{name}, threats {known}, attestors {signers}");
        Ok(Self { database, threats, key, attestors, analyser, data })
    }
}

impl Inspector for Scanner {
    fn version(&self) -> String {
        ANALYSER.to_string()
    }

    fn data(&self) -> String {
        self.data.clone()
    }

    fn layer(&self, layer: &mut dyn Read) -> anyhow::Result<Value> {
        self.analyser.layer(&self.key, layer)
    }

    fn diff_id(&self, layer: &Value) -> anyhow::Result<Digest> {
        Ok(Digest::deserialize(&layer["diff_id"])?)
    }

    fn document(&self, document: &mut dyn Read) -> anyhow::Result<Document> {
        let said = self.analyser.document(&self.key, self.attestors.as_bytes(), document)?;
        Ok(serde_json::from_value(said)?)
    }

    fn attestors(&self) -> String {
        self.attestors.clone()
    }

    fn text(&self, what: &str, bytes: &[u8]) -> Vec<LeakedSecret> {
        secrets_in(what, bytes, Some(&FingerprintKey::new(&self.key)))
    }

    fn image(&self, layers: &[Value]) -> anyhow::Result<Inspection> {
        let layers: Vec<LayerIndex> = layers
            .iter()
            .map(|layer| serde_json::from_value(layer.clone()))
            .collect::<Result<_, _>>()?;
        let report = inspect(&layers, &self.database);
        let known = |finding: &sekisho_advisory::Finding| {
            Some((finding.id.clone(), self.threats.of(finding)?))
        };
        Ok(Inspection {
            threats: report.findings.iter().filter_map(known).collect(),
            secrets: report.secrets,
            more_secrets: report.more_secrets,
            packages: report.packages,
            findings: report.findings,
            not_assessed: report.not_assessed,
            records: report.data.records,
            newest: report.data.newest,
        })
    }
}
