//! The gate beside Debian's `docker-registry`, in one run and by turns: what one second of this machine
//! gives to one, the next gives to the other.
//!
//! What both serve is compared before a time is printed. Ours syncs every file, checks every push and
//! signs; theirs does neither.

mod http;
mod load;
mod peers;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sekisho_types::Digest;

use self::http::Connection;
use self::load::{BigLayers, Image, Measured, in_parallel};
use self::peers::{Peer, docker_registry, ours};
use super::disk::{self, Disk};
use super::{machine, memory::Sampler, page};

/// How much is done.
struct Size {
    rounds: usize,
    pushes: usize,
    reads: usize,
    /// Of each of 100 uploads at once, to compare with.
    small_mib: usize,
    /// Of each of 100 uploads at once, when the disk has room for that.
    upload_mib: usize,
    /// Of each of 20 layers, three at least.
    layer_mib: usize,
    verdicts: usize,
    blobs: u32,
}

const WHOLE: Size = Size {
    rounds: 5,
    pushes: 60,
    reads: 2000,
    small_mib: 37,
    upload_mib: 1024,
    layer_mib: 100,
    verdicts: 40,
    blobs: 100_000,
};

/// Shows that the bench works; its figures mean little.
const QUICK: Size = Size {
    rounds: 2,
    pushes: 20,
    reads: 200,
    small_mib: 3,
    upload_mib: 8,
    layer_mib: 3,
    verdicts: 8,
    blobs: 10_000,
};

/// Clients at once, but in the test of memory.
const CLIENTS: usize = 10;

/// Clients at once in the test of memory.
const UPLOADS: usize = 100;

/// Says how large each of those is; else as large as the free disk allows.
const UPLOAD_MIB: &str = "SEKISHO_BENCH_UPLOAD_MIB";

/// Names a folder for those, which must have room for all of them. It may lie in memory that is compressed:
/// nearly all that they send is zeros, and the time that they take is no promise.
const UPLOADS_IN: &str = "SEKISHO_BENCH_UPLOADS_IN";

/// What a gate writes beside what it is given, in bytes, with room to spare.
const BESIDE_BYTES: u64 = 2 << 30;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Measures `program`. `quick`: little of it, and to the terminal instead of the page.
#[expect(clippy::print_stdout, reason = "this is the chore's terminal")]
pub(super) fn run(root: &Path, program: &Path, quick: bool) -> anyhow::Result<()> {
    let size = if quick { QUICK } else { WHOLE };
    let peers = [ours(program, Disk::new()?)?, docker_registry()?];
    let mut lines = vec![
        "Written by `cargo xtask bench gate`, both by turns in one run; ours syncs every file, checks and signs.".to_owned(),
        format!(
            "Machine: {} Files of each on {}.",
            machine::describe(),
            peers::files_on(&peers[0])
        ),
        String::new(),
        "| what | ours | docker-registry | ratio | promised |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    compare(&size, &peers, &mut lines)?;
    drop(peers);
    lines.extend([String::new(), "| what | measured | promised |".into(), "|---|---|---|".into()]);
    alone(&size, program, &mut lines)?;
    let text = format!("{}\n", lines.join("\n"));
    if quick {
        println!("{text}");
        return Ok(());
    }
    page::write_section(root, "The gate beside docker-registry", &text)
}

/// Measures the memory of a hundred uploads alone, and says it on the terminal.
#[expect(clippy::print_stdout, reason = "this is the chore's terminal")]
pub(super) fn run_uploads(program: &Path) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    memory(&WHOLE, program, &mut lines)?;
    println!("{}", lines.join("\n"));
    Ok(())
}

/// One row: the better way to read `value` is told by the caller.
fn row(what: &str, ours: &Measured, theirs: &Measured, promised: f64) -> [String; 2] {
    let ratio = ours.per_second() / theirs.per_second();
    let rate = format!(
        "| {what}/s at {CLIENTS} clients | {:.0} | {:.0} | {ratio:.2}{} | ≥ {promised} |",
        ours.per_second(),
        theirs.per_second(),
        lost(ratio < promised),
    );
    let (p99, p50) = (ours.percentile(99), theirs.percentile(50));
    let tail = format!(
        "| {what}, p50 / p99 | {:.1} / {:.1} ms | {:.1} / {:.1} ms | p99 {:.2} of its p50{} | < 1 |",
        ours.percentile(50),
        p99,
        p50,
        theirs.percentile(99),
        p99 / p50,
        lost(p99 >= p50),
    );
    [rate, tail]
}

fn lost(is_lost: bool) -> &'static str {
    if is_lost { " **lost**" } else { "" }
}

fn compare(size: &Size, peers: &[Peer; 2], lines: &mut Vec<String>) -> anyhow::Result<()> {
    let mut pushed = [Measured::default(), Measured::default()];
    let mut read: [[Measured; 3]; 2] = Default::default();
    let image = Image::new(0, MIB);
    for peer in peers {
        image.push(&mut peer.connect()?, &peer.repository, "same")?;
    }
    // What both serve is the same, byte for byte.
    let paths = ["manifests/same".to_owned(), format!("blobs/{}", image.layer_digest)];
    for path in &paths {
        let mut bodies = Vec::new();
        for peer in peers {
            let answer = peer.connect()?.get("GET", &format!("/v2/{}/{path}", peer.repository))?;
            ensure!(answer.status == 200, "{} answers {} for {path}", peer.name, answer.status);
            bodies.push(answer.body);
        }
        ensure!(bodies[0] == bodies[1], "they serve different content for {path}");
    }
    for round in 0..size.rounds {
        // Made before the clock runs: it is more work than a push.
        let first = 1 + round * size.pushes;
        let images: Vec<Image> =
            (first..first + size.pushes).map(|number| Image::new(number, MIB)).collect();
        for (which, peer) in peers.iter().enumerate() {
            disk::settle()?;
            let work = |connection: &mut Connection, number: usize| {
                let tag = format!("t{round}-{number}");
                images[number].push(connection, &peer.repository, &tag)
            };
            pushed[which].add(in_parallel(peer, CLIENTS, size.pushes, &work)?);
            for (kind, method) in ["HEAD", "GET", "GET"].into_iter().enumerate() {
                let path = &paths[[1, 0, 1][kind]];
                let path = format!("/v2/{}/{path}", peer.repository);
                let count = if kind == 2 { size.reads / 4 } else { size.reads };
                let work = |connection: &mut Connection, _: usize| {
                    let answer = connection.get(method, &path)?;
                    ensure!(answer.status == 200, "{method} {path}: {}", answer.status);
                    Ok(())
                };
                read[which][kind].add(in_parallel(peer, CLIENTS, count, &work)?);
            }
        }
    }
    lines.extend(row("push of a new image of 1 MiB", &pushed[0], &pushed[1], 1.5));
    let names = ["HEAD of a blob", "GET of a manifest", "GET of a blob of 1 MiB"];
    for (kind, name) in names.into_iter().enumerate() {
        lines.extend(row(name, &read[0][kind], &read[1][kind], 2.0));
    }
    Ok(())
}

fn alone(size: &Size, program: &Path, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let peer = ours(program, Disk::new()?)?;
    verdicts(size, &peer, lines)?;
    drop(peer);
    memory(size, program, lines)?;
    start(size, program, lines)
}

/// From the PUT of a manifest, whose blobs are there, to the answer.
fn verdicts(size: &Size, peer: &Peer, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let mut connection = peer.connect()?;
    let mut layers = Vec::new();
    let large = BigLayers::new(size.layer_mib);
    for number in 0..20 {
        layers.push(large.upload(&mut connection, peer, number)?);
    }
    let (mut warm, mut new) = (Measured::default(), Measured::default());
    for number in 0..size.verdicts {
        let one = Image::new(1_000_000 + number, MIB);
        let began = Instant::now();
        load::put_manifest(&mut connection, peer, &layers, &format!("big{number}"))?;
        warm.push(began.elapsed());
        one.push_layer(&mut connection, &peer.repository)?;
        let with_new = [&layers[..], &[one.layer()]].concat();
        let began = Instant::now();
        load::put_manifest(&mut connection, peer, &with_new, &format!("new{number}"))?;
        new.push(began.elapsed());
    }
    let gib = (20 * size.layer_mib) as f64 / 1024.0;
    let (p50, p99) = (warm.percentile(50), warm.percentile(99));
    let is_lost = lost(p50 > 150.0 || p99 > 1000.0);
    lines.push(format!(
        "| manifest PUT to verdict, image of {gib:.1} GiB whose blobs are in, p50 / p99 | {p50:.0} / {p99:.0} ms{is_lost} | ≤ 150 / 1000 ms |",
    ));
    let (p50, p99) = (new.percentile(50), new.percentile(99));
    let is_lost = lost(p99 > 50.0);
    lines.push(format!(
        "| the same with one new layer, p50 / p99 | {p50:.0} / {p99:.0} ms{is_lost} | ≤ 50 ms |",
    ));
    Ok(())
}

/// A hundred uploads at once, small ones and then large ones: memory that is flat is the same for both.
/// They are kept by the gate, on a disk of their own.
fn memory(size: &Size, program: &Path, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let mib = |bytes: u64| bytes.div_ceil(MIB as u64);
    let small = size.small_mib;
    let (large, why, disk) = match std::env::var_os(UPLOADS_IN).map(PathBuf::from) {
        Some(folder) => {
            let free = disk::free_bytes(&folder)?.saturating_sub(bytes_of(small) + BESIDE_BYTES);
            let (large, why) = upload_mib(size, free, ", which the named folder has room for,")?;
            (large, why, Disk::below(&folder)?)
        }
        None => {
            let free = disk::free_bytes(&std::env::temp_dir())? / 2;
            let (large, why) = upload_mib(size, free, ", which half of the free disk allows,")?;
            (large, why, Disk::with(bytes_of(small) + bytes_of(large) + BESIDE_BYTES)?)
        }
    };
    let peer = ours(program, disk)?;
    let (mut peaks, mut took) = (Vec::new(), Duration::ZERO);
    for (which, upload_mib) in [small, large].into_iter().enumerate() {
        super::progress(&format!("{UPLOADS} uploads of {upload_mib} MiB at once"));
        let layers = BigLayers::new(upload_mib);
        let sampler = Sampler::start(peer.pid());
        let work = |connection: &mut Connection, number: usize| {
            let number = UPLOADS * (10 + which) + number;
            layers.upload(connection, &peer, number).map(drop)
        };
        let began = Instant::now();
        in_parallel(&peer, UPLOADS, UPLOADS, &work)?;
        took = began.elapsed();
        peaks.push(mib(sampler.peak()?));
    }
    // Ten to each side of what is between them.
    let is_lost = lost(peaks[0].abs_diff(peaks[1]) > 2 * 10 || peaks[1] > 128);
    lines.push(format!(
        "| memory, {UPLOADS} parallel uploads of {small} MiB, and of {large} MiB{why} in {:.0} s (PSS, analysers included) | {} / {} MiB{is_lost} | within ± 10 MiB, ≤ 128 MiB |",
        took.as_secs_f64(),
        peaks[0],
        peaks[1],
    ));
    Ok(())
}

/// Of a hundred uploads of so many MiB.
fn bytes_of(mib: usize) -> u64 {
    (mib * UPLOADS * MIB) as u64
}

/// How large each of a hundred uploads is when all have so many bytes at most, and why it is no larger.
fn upload_mib(size: &Size, free: u64, why: &'static str) -> anyhow::Result<(usize, &'static str)> {
    if let Some(text) = std::env::var_os(UPLOAD_MIB) {
        let mib = text.to_str().and_then(|text| text.parse().ok()).filter(|mib| *mib > 2);
        return Ok((mib.with_context(|| format!("{UPLOAD_MIB} is no number above 2"))?, ""));
    }
    let fits = usize::try_from(free / bytes_of(1))?;
    ensure!(fits > 2, "the disk has no room for {UPLOADS} uploads");
    Ok(if fits < size.upload_mib { (fits, why) } else { (size.upload_mib, "") })
}

/// From the start of the process to its first answer, on a store that has much in it.
fn start(size: &Size, program: &Path, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let data = Disk::new()?;
    for number in 0..size.blobs {
        let digest = Digest::sha256(&number.to_le_bytes());
        let hex = digest.hex();
        let folder = data.path().join("upstream/content/blobs/sha256").join(&hex[..2]);
        fs_err::create_dir_all(&folder)?;
        fs_err::write(folder.join(hex), b"")?;
    }
    // What was made by others is not private: the plane wants its folder so.
    peers::make_private(data.path())?;
    let mut measured = Measured::default();
    for _ in 0..5 {
        let began = Instant::now();
        let plane = super::Plane::start(program, data.path())?;
        let host = peers::host_of(data.path())?;
        let answer = Connection::open(&host, None)?.get("GET", "/v2/")?;
        measured.push(began.elapsed());
        ensure!(answer.status == 401, "/v2/ answers {}", answer.status);
        drop(plane);
    }
    let p50 = measured.percentile(50);
    lines.push(format!(
        "| start to first answer with {} blobs, p50 | {p50:.0} ms{} | ≤ 100 ms |",
        size.blobs,
        lost(p50 > 100.0)
    ));
    Ok(())
}
