//! The process that reads layers: what it is, and what becomes of one that is too expensive.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{PIPELINE, World, eventually, example};

/// As the gate starts it.
fn start() -> Child {
    Command::new(env!("CARGO_BIN_EXE_sekisho"))
        .args(["gate", "analyse-layer"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn it_confines_itself_before_it_reads_a_byte() {
    let mut child = start();
    let status = format!("/proc/{}/status", child.id());
    let line = |name: &str| {
        let text = fs_err::read_to_string(&status).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().to_owned()
    };
    // The tests may run behind filters of somebody else's: one more than those.
    let ours: u32 = {
        let text = fs_err::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
        line.unwrap().trim().parse().unwrap()
    };
    eventually("the filter is there", || line("Seccomp_filters:") == (ours + 1).to_string());
    assert_eq!((line("Seccomp:").as_str(), line("NoNewPrivs:").as_str()), ("2", "1"));
    assert_eq!(line("Threads:"), "1");
    // It waits for a key and a layer; nothing is what it gets.
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// What the child says of a layer.
fn ask(layer: &[u8]) -> Value {
    let mut child = start();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[5; 32]).unwrap();
    // It may end before it has read all.
    let _ = stdin.write_all(layer);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(0), None));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn layers_of_every_kind_are_read_within_the_walls() {
    let mut tar = Vec::new();
    let mut header = [0_u8; 512];
    header[..19].copy_from_slice(b"etc/debian_version\0");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(b"00000000005");
    header[156] = b'0';
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend(header);
    tar.extend(b"12.5\n");
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let want = ask(&tar)["layer"]["diff_id"].clone();
    assert_eq!(want, sekisho_types::Digest::sha256(&tar).to_string());
    for (program, arguments) in [("gzip", "-c"), ("zstd", "-qc")] {
        let Ok(mut packer) = Command::new(program)
            .arg(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            crate::support::skipped(program);
            continue;
        };
        packer.stdin.take().unwrap().write_all(&tar).unwrap();
        let packed = packer.wait_with_output().unwrap().stdout;
        assert_eq!(ask(&packed)["layer"]["diff_id"], want, "{program}");
    }
    assert!(ask(b"\x1f\x8bno gzip at all")["error"].is_string());
}

const BOMB: &str = "FROM scratch
COPY status /var/lib/dpkg/status
USER 1
";

#[test]
fn a_layer_that_eats_memory_is_refused_and_the_gate_lives_on() {
    let world = World::new();
    world.configure("gate/analysis.toml", "memory_mib = 24\n");
    let up = world.up();
    // A package database is held as a whole while it is read.
    let database = "Package: a\nStatus: install ok installed\nVersion: 1\n\n".repeat(600_000);
    let files = [
        (".github/workflows/image.yml", PIPELINE),
        ("Dockerfile", BOMB),
        ("status", database.as_str()),
    ];
    let bomb = world.project("bomb", &files);
    let said = world.sekisho(&["run", bomb.to_str().unwrap()]).exits(10);
    said.says(&["unreadable-content", "out of memory", "layer "]);
    assert_eq!(said.stdout, "");
    // The same gate.
    let scratch = world.sekisho(&["run", &example("scratch"), "--output", "json"]).exits(0).json();
    let reference = scratch["images"][0]["reference"].as_str().unwrap();
    assert!(reference.starts_with(up.authority()), "{reference}");
    assert_eq!(up.stop(), 0);
    world.nothing_is_left();
}
