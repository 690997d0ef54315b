//! Layers that were not read while they came are read beside each other when a manifest names them.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use sekisho_gate::{Inspection, Inspector};
use sekisho_types::{Digest, Document, LeakedSecret};
use serde_json::{Value, json};

use crate::support::{Lines, Options, World};

/// Reads no layer while it comes, and later none alone.
#[derive(Default)]
struct InCompany {
    lines: Lines,
    seen: Mutex<BTreeSet<Digest>>,
    /// Layers whose reading has begun for good.
    begun: Mutex<usize>,
    another: Condvar,
}

impl Inspector for InCompany {
    fn version(&self) -> String {
        self.lines.version()
    }

    fn data(&self) -> String {
        self.lines.data()
    }

    fn layer(&self, reader: &mut dyn Read) -> anyhow::Result<Value> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        anyhow::ensure!(!self.seen.lock().unwrap().insert(Digest::sha256(&bytes)), "not yet");
        let mut begun = self.begun.lock().unwrap();
        *begun += 1;
        self.another.notify_all();
        let patience = Duration::from_secs(120);
        let (begun, _) = self.another.wait_timeout_while(begun, patience, |it| *it < 2).unwrap();
        anyhow::ensure!(*begun >= 2, "nobody reads another layer");
        self.lines.layer(&mut &bytes[..])
    }

    fn diff_id(&self, layer: &Value) -> anyhow::Result<Digest> {
        self.lines.diff_id(layer)
    }

    fn document(&self, reader: &mut dyn Read) -> anyhow::Result<Document> {
        self.lines.document(reader)
    }

    fn attestors(&self) -> String {
        self.lines.attestors()
    }

    fn text(&self, what: &str, bytes: &[u8]) -> Vec<LeakedSecret> {
        self.lines.text(what, bytes)
    }

    fn image(&self, layers: &[Value]) -> anyhow::Result<Inspection> {
        self.lines.image(layers)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_read_beside_each_other() {
    let inspector: Arc<dyn Inspector> = Arc::new(InCompany::default());
    let options = Options { inspector: Some(inspector), ..Options::default() };
    let world = World::open(options).await;
    let token = world.session(json!({})).await;
    let layers = ["LAYER a\npkg one 1 fine\n", "LAYER b\npkg two 1 fine\n", "LAYER c\n"];
    let pushed = world.push("acme/app:v1", &token, &layers).await;
    // Their order is the image's, or its config would name other layers.
    assert_eq!(pushed.status(), 201, "{}", pushed.text().await.unwrap());
    assert_eq!(world.decisions("").await[0]["packages"], 2);
}
