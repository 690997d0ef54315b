//! An inspector of layers that are lines of text.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use sekisho_advisory::{Finding, NotAssessed, Package, Reason};
use sekisho_gate::{Inspection, Inspector};
use sekisho_types::{Digest, Document, LeakedSecret};
use serde_json::{Value, json};

use super::{NOW, at};

/// Reads layers of lines: `pkg NAME VERSION SEVERITY [FIXED]`, and `gap` for what is unreadable.
pub(crate) struct Lines {
    pub(crate) layers_read: AtomicUsize,
    /// Whose signatures count, as JSON.
    pub(crate) attestors: String,
}

impl Default for Lines {
    fn default() -> Self {
        Self { layers_read: AtomicUsize::new(0), attestors: "[]".to_owned() }
    }
}

impl Inspector for Lines {
    fn version(&self) -> String {
        "lines 2".to_owned()
    }

    fn data(&self) -> String {
        "100 records".to_owned()
    }

    fn layer(&self, reader: &mut dyn Read) -> anyhow::Result<Value> {
        let mut head = [0; 5];
        reader.read_exact(&mut head)?;
        anyhow::ensure!(&head == b"LAYER" || head[..2] == [0x1f, 0x8b], "this is no layer");
        let mut bytes = Vec::new();
        let mut whole = std::io::Cursor::new(head).chain(reader);
        sekisho_oci::layer::decompress(&mut whole, 1 << 30)?.read_to_end(&mut bytes)?;
        self.layers_read.fetch_add(1, Ordering::SeqCst);
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.split(['\n', '\0']).filter(|l| l.starts_with("pkg ") || *l == "gap");
        let lines: Vec<&str> = lines.collect();
        Ok(json!({"diff_id": Digest::sha256(&bytes), "lines": lines}))
    }

    fn diff_id(&self, layer: &Value) -> anyhow::Result<Digest> {
        Ok(serde_json::from_value(layer["diff_id"].clone())?)
    }

    fn text(&self, what: &str, bytes: &[u8]) -> Vec<LeakedSecret> {
        let at = String::from_utf8_lossy(bytes).find("secret-of-a-test");
        at.into_iter().map(|at| secret(what, at as u64)).collect()
    }

    fn document(&self, reader: &mut dyn Read) -> anyhow::Result<Document> {
        let known: sekisho_scanner::Attestors = serde_json::from_str(&self.attestors)?;
        Ok(sekisho_scanner::read_document(reader, &known, None)?)
    }

    fn attestors(&self) -> String {
        self.attestors.clone()
    }

    fn image(&self, layers: &[Value]) -> anyhow::Result<Inspection> {
        let mut inspection =
            Inspection { records: 100, newest: Some(at(NOW - 86_400)), ..Inspection::default() };
        for line in layers.iter().flat_map(|layer| layer["lines"].as_array().unwrap()) {
            let words: Vec<&str> = line.as_str().unwrap().split(' ').collect();
            if let ["pkg", name, version, severity, rest @ ..] = &words[..] {
                inspection.packages.push(package(name, version));
                if *severity != "fine" {
                    let found = finding(name, version, severity, rest.first().copied());
                    inspection.findings.push(found);
                }
            } else {
                inspection.not_assessed.push(NotAssessed {
                    reason: Reason::UnreadableFile,
                    subject: "etc/strange".into(),
                    detail: "the file is damaged".into(),
                    path: None,
                    layer: None,
                });
            }
        }
        Ok(inspection)
    }
}

fn secret(path: &str, offset: u64) -> LeakedSecret {
    LeakedSecret {
        kind: "token".into(),
        layer: None,
        path: path.into(),
        line: 1,
        offset,
        fingerprint: String::new(),
        sample: false,
    }
}

fn package(name: &str, version: &str) -> Package {
    Package {
        ecosystem: "npm".parse().unwrap(),
        name: name.into(),
        version: version.into(),
        source: None,
        layer: None,
        path: "app/package-lock.json".into(),
        dev: false,
        licence: None,
    }
}

fn finding(name: &str, version: &str, severity: &str, fixed: Option<&str>) -> Finding {
    Finding {
        id: "GHSA-35jh-r3h4-6jhm".into(),
        aliases: vec!["CVE-2021-23337".into()],
        severity: severity.parse().unwrap(),
        score: None,
        ecosystem: "npm".parse().unwrap(),
        package: name.into(),
        installed: version.into(),
        fixed: fixed.map(str::to_owned),
        summary: "Command Injection".into(),
        url: "https://osv.dev/GHSA-35jh-r3h4-6jhm".into(),
        published: None,
        layer: None,
        path: "app/package-lock.json".into(),
        dev: false,
    }
}
