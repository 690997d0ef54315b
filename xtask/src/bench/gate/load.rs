//! What is pushed, and how long it takes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sekisho_types::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::MIB;
use super::http::Connection;
use super::peers::Peer;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const BYTES: &str = "application/octet-stream";

/// Times of single operations, and of all of them together.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    took: Vec<Duration>,
    wall: Duration,
}

impl Measured {
    pub(super) fn push(&mut self, took: Duration) {
        self.took.push(took);
        self.wall += took;
    }

    pub(super) fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.wall += other.wall;
    }

    pub(super) fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.wall.as_secs_f64()
    }

    /// In milliseconds.
    pub(super) fn percentile(&self, of: usize) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * of / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    }
}

/// Does something so many times, by so many clients at once.
pub(super) fn in_parallel(
    peer: &Peer,
    clients: usize,
    count: usize,
    work: &(dyn Fn(&mut Connection, usize) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<Measured> {
    let next = AtomicUsize::new(0);
    let took = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let client = || -> anyhow::Result<()> {
            let mut connection = peer.connect()?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                let began = Instant::now();
                work(&mut connection, number)?;
                let elapsed = began.elapsed();
                took.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?.push(elapsed);
            }
        };
        let threads: Vec<_> = (0..clients.min(count)).map(|_| scope.spawn(client)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        anyhow::Ok(())
    })
    .with_context(|| format!("at {}", peer.name))?;
    let took = took.into_inner().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    Ok(Measured { took, wall: began.elapsed() })
}

/// The head of a tar archive that has one file. Source: POSIX.1-1988, "ustar Interchange Format".
fn tar_head(name: &str, size: usize) -> Vec<u8> {
    let mut head = vec![0; 512];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

/// An image of one layer that no other image has.
pub(super) struct Image {
    layer: Vec<u8>,
    pub(super) layer_digest: Digest,
}

impl Image {
    pub(super) fn new(number: usize, bytes: usize) -> Self {
        let mut layer = tar_head(&format!("file-{number}"), bytes);
        // Not compressible, and different in every image.
        let mut random = number as u64 + 1;
        layer.extend((0..bytes / 8).flat_map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()
        }));
        layer.extend([0; 1024]);
        let layer_digest = Digest::sha256(&layer);
        Self { layer, layer_digest }
    }

    /// Its descriptor.
    pub(super) fn layer(&self) -> Value {
        json!({ "mediaType": LAYER, "digest": self.layer_digest, "size": self.layer.len() })
    }

    pub(super) fn push_layer(&self, at: &mut Connection, repository: &str) -> anyhow::Result<()> {
        push_blob(at, repository, &self.layer_digest, &self.layer)
    }

    pub(super) fn push(
        &self,
        at: &mut Connection,
        repository: &str,
        tag: &str,
    ) -> anyhow::Result<()> {
        self.push_layer(at, repository)?;
        push_manifest(at, repository, &[self.layer()], tag)
    }
}

/// POST, then one PUT with the body: as BuildKit and containerd do.
fn push_blob(
    at: &mut Connection,
    repository: &str,
    digest: &Digest,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let location = begin(at, repository, digest)?;
    let done = at.send("PUT", &location, BYTES, bytes)?;
    ensure!(done.status == 201, "a blob: {} {}", done.status, String::from_utf8_lossy(&done.body));
    Ok(())
}

/// Where the blob goes, with its digest.
fn begin(at: &mut Connection, repository: &str, digest: &Digest) -> anyhow::Result<String> {
    let begun = at.send("POST", &format!("/v2/{repository}/blobs/uploads/"), BYTES, b"")?;
    ensure!(begun.status == 202, "an upload: {}", begun.status);
    let location = begun.header("location").context("an upload has no location")?;
    let path = location.find("/v2/").map_or(location, |at| &location[at..]);
    let separator = if path.contains('?') { '&' } else { '?' };
    Ok(format!("{path}{separator}digest={digest}"))
}

fn push_manifest(
    at: &mut Connection,
    repository: &str,
    layers: &[Value],
    tag: &str,
) -> anyhow::Result<()> {
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "User": "app" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string().into_bytes();
    let digest = Digest::sha256(&config);
    push_blob(at, repository, &digest, &config)?;
    put(at, repository, layers, tag, &digest, config.len())
}

fn put(
    at: &mut Connection,
    repository: &str,
    layers: &[Value],
    tag: &str,
    config: &Digest,
    config_size: usize,
) -> anyhow::Result<()> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config, "size": config_size },
        "layers": layers,
    });
    let path = format!("/v2/{repository}/manifests/{tag}");
    let done = at.send("PUT", &path, MANIFEST, manifest.to_string().as_bytes())?;
    ensure!(
        done.status == 201,
        "a manifest: {} {}",
        done.status,
        String::from_utf8_lossy(&done.body)
    );
    Ok(())
}

/// Puts a manifest of layers that are there already, with its config.
pub(super) fn put_manifest(
    at: &mut Connection,
    peer: &Peer,
    layers: &[Value],
    tag: &str,
) -> anyhow::Result<()> {
    push_manifest(at, &peer.repository, layers, tag)
}

/// Large layers of one size, each different. They are sent as they are made: nobody holds one.
pub(super) struct BigLayers {
    mib: usize,
    /// The head of a file of zeros, and the first of them.
    head: Vec<u8>,
    zeros: Vec<u8>,
    /// Of all that is the same in each. A client that hashed its own on the way would be what is measured.
    same: Sha256,
}

impl BigLayers {
    /// Each of so many MiB, three at least.
    pub(super) fn new(mib: usize) -> Self {
        let mut head = tar_head("zeros", (mib - 2) * MIB);
        head.resize(MIB, 0);
        let zeros = vec![0; MIB];
        let mut same = Sha256::new();
        same.update(&head);
        (1..mib - 2).for_each(|_| same.update(&zeros));
        Self { mib, head, zeros, same }
    }

    /// Uploads one, and gives its descriptor.
    pub(super) fn upload(
        &self,
        at: &mut Connection,
        peer: &Peer,
        number: usize,
    ) -> anyhow::Result<Value> {
        let Self { mib, head, zeros, same } = self;
        // The end of the zeros, and a file that makes it different.
        let mut last = vec![0; 512];
        last.extend(tar_head(&format!("number-{number}"), MIB / 2));
        last.resize(1024 + MIB / 2, 1);
        last.resize(MIB, 0);
        let digest = {
            let hash = same.clone().chain_update(&last).chain_update(zeros);
            Digest::from_sha256(hash.finalize().into())
        };
        let location = begin(at, &peer.repository, &digest)?;
        let middle = std::iter::repeat_n(zeros, mib - 3);
        let pieces = [head].into_iter().chain(middle).chain([&last, zeros]);
        let done = at.stream("PUT", &location, BYTES, mib * MIB, pieces.map(Vec::as_slice))?;
        ensure!(done.status == 201, "a large layer: {}", done.status);
        Ok(json!({ "mediaType": LAYER, "digest": digest, "size": mib * MIB }))
    }
}
