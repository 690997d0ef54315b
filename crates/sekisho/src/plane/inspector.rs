//! Gives the gate the scanner: the one place where the two meet.

use std::io::Read;

use sekisho_advisory::Database;
use sekisho_gate::{Inspection, Inspector};
use sekisho_scanner::{ANALYSER, LayerIndex, Limits, index_layer, inspect};
use serde_json::Value;

/// The scanner over one set of advisories.
#[derive(Debug)]
pub(super) struct Scanner {
    database: Database,
}

impl Scanner {
    /// Knows what `database` knows.
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

impl Inspector for Scanner {
    fn version(&self) -> String {
        ANALYSER.to_string()
    }

    fn layer(&self, layer: &mut dyn Read) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(index_layer(layer, &Limits::default())?)?)
    }

    fn image(&self, layers: &[Value]) -> anyhow::Result<Inspection> {
        let layers: Vec<LayerIndex> = layers
            .iter()
            .map(|layer| serde_json::from_value(layer.clone()))
            .collect::<Result<_, _>>()?;
        let report = inspect(&layers, &self.database);
        Ok(Inspection {
            packages: report.packages,
            findings: report.findings,
            not_assessed: report.not_assessed,
            records: report.data.records,
            newest: report.data.newest,
        })
    }
}
