//! The process that reads layers: what it is, and what becomes of one that is too expensive.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use sekisho_sandbox::{ParserLimits, Parsers};
use serde_json::{Value, json};

use crate::support::{PIPELINE, World, eventually, example};

const LIMITS: ParserLimits = ParserLimits {
    memory_bytes: 1 << 30,
    cpu: Duration::from_secs(600),
    silence: Duration::from_secs(600),
};

/// As the gate has it.
fn analyser() -> Parsers {
    Parsers::new(env!("CARGO_BIN_EXE_sekisho"), &["gate", "analyse-layers"])
}

/// The processes that this one started to read layers, and theirs.
fn readers() -> Vec<String> {
    let children = |pid: &str| {
        let tasks = fs_err::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        let of = |task: std::io::Result<fs_err::DirEntry>| {
            fs_err::read_to_string(task.ok()?.path().join("children")).ok()
        };
        let all: String = tasks.filter_map(of).collect();
        all.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let is_ours = |pid: &String| {
        let line = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"gate\0analyse-layers\0")
    };
    children("self").into_iter().filter(is_ours).flat_map(|server| children(&server)).collect()
}

/// Gives nothing until it may end.
struct Later(std::sync::mpsc::Receiver<()>);

impl std::io::Read for Later {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        // An error is the end too: the test has failed.
        let _ = self.0.recv();
        Ok(0)
    }
}

#[test]
fn it_confines_itself_before_it_reads_a_byte() {
    let (go, later) = channel();
    let asked = std::thread::spawn(move || analyser().ask(&LIMITS, &mut Later(later)));
    let line = |pid: &str, name: &str| {
        let text = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().to_owned()
    };
    // The tests may run behind filters of somebody else's: one more than those.
    let filters = |pid: &str| line(pid, "Seccomp_filters:").parse::<u32>().ok();
    let want = filters("self").unwrap() + 1;
    // Other tests' readers too.
    let confined = |pid: &String| {
        filters(pid) == Some(want)
            && line(pid, "Seccomp:") == "2"
            && line(pid, "NoNewPrivs:") == "1"
            && line(pid, "Threads:") == "1"
    };
    eventually("its filter is there", || {
        let found = readers();
        !found.is_empty() && found.iter().all(confined)
    });
    // It waits for a key and a layer; nothing is what it gets.
    go.send(()).unwrap();
    let error = asked.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("exit status: 1"), "{error}");
}

/// What the child says of a layer.
fn ask(layer: &[u8]) -> Value {
    let answer = analyser().ask(&LIMITS, &mut b"l".chain(&[5; 32][..]).chain(layer)).unwrap();
    serde_json::from_slice(&answer).unwrap()
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

#[test]
fn statements_are_read_within_the_walls() {
    let ask = |document: &str| -> Value {
        let attestors = format!("[{{\"name\":\"release\",\"kind\":\"P256\",\"key\":{POINT:?}}}]");
        let length = u32::try_from(attestors.len()).unwrap().to_be_bytes();
        let asked =
            [b"d", &[5; 32][..], &length, attestors.as_bytes(), document.as_bytes()].concat();
        let answer = analyser().ask(&LIMITS, &mut &asked[..]).unwrap();
        serde_json::from_slice(&answer).unwrap()
    };
    let said = ask("{\"payload\": [1, 2, {\"a\": null}]}\n");
    let of = |statement: &Value| json!({"document": {"statement": statement, "more_secrets": 0}});
    assert_eq!(said, of(&json!({"kind": "other"})));
    let said = ask(&json!({"args": format!("glpat-{}", "9yJ3kQ7wZ1xR5tB8mN2v")}).to_string());
    let found = &said["document"]["secrets"][0];
    assert_eq!(
        (&found["kind"], &found["path"], &found["offset"]),
        (&json!("gitlab-token"), &json!("(statement)"), &json!(9))
    );
    assert_eq!(found["fingerprint"].as_str().unwrap().len(), 24);
    assert!(!said.to_string().contains("9yJ3kQ7w"), "{said}");
    for no_json in ["", "{", "{} {}", "lodash 4.17.20", &"[".repeat(100_000)] {
        let said = ask(no_json);
        assert!(said["error"].as_str().unwrap().starts_with("it says it is JSON"), "{said}");
    }
    // A signature is verified there too; that of another text is none.
    let envelope = |payload: &str| {
        let signatures = json!([{"sig": SIGNATURE}]);
        let kind = "application/vnd.in-toto+json";
        json!({"payloadType": kind, "payload": payload, "signatures": signatures}).to_string()
    };
    let subject = format!("sha256:{}", "ab".repeat(32));
    let mut want = json!({"kind": "provenance", "subjects": [subject], "signers": ["release"]});
    assert_eq!(ask(&envelope(PAYLOAD)), of(&want));
    want.as_object_mut().unwrap().remove("signers");
    // The builder is called `c` there.
    let other = PAYLOAD.replace("ImlkIjoiYiJ9", "ImlkIjoiYyJ9");
    assert_ne!(other, PAYLOAD);
    assert_eq!(ask(&envelope(&other)), of(&want));
}

/// A statement, its signature in an envelope by a key that nobody has any more, and the key's public half.
const PAYLOAD: &str = "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdl\
    c3QiOnsic2hhMjU2IjoiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJh\
    YmFiYWJhYmFiYWJhYmFiYWJhYiJ9fV0sInByZWRpY2F0ZVR5cGUiOiJodHRwczovL3Nsc2EuZGV2L3By\
    b3ZlbmFuY2UvdjEiLCJwcmVkaWNhdGUiOnsiYnVpbGREZWZpbml0aW9uIjp7ImJ1aWxkVHlwZSI6InQi\
    fSwicnVuRGV0YWlscyI6eyJidWlsZGVyIjp7ImlkIjoiYiJ9fX19";
const SIGNATURE: &str = "MEQCIAVc8+Jfbk+lF1eGkNmJRpUmA5O/d1ZXgZMAkLcMc6WHAiBhqU8eUopCE2TmXk9iVPChatUE2QL9\
    Ck8zk9uzO7wG1g==";
const POINT: [u8; 65] = [
    4, 15, 10, 159, 22, 94, 198, 101, 123, 19, 171, 141, 111, 96, 1, 10, 188, 182, 64, 79, 99, 229,
    156, 113, 189, 133, 241, 17, 86, 236, 215, 176, 162, 62, 98, 55, 119, 173, 171, 170, 255, 212,
    166, 39, 150, 17, 229, 110, 229, 118, 46, 87, 14, 122, 144, 158, 186, 55, 78, 37, 197, 236, 2,
    38, 58,
];

/// Sends an image with this file to a gate with this limit. It is refused in these words, and the same gate
/// takes the next one.
fn refused_and_lives_on(limit: &str, dockerfile: &str, file: (&str, &str), why: &str) {
    let world = World::new();
    world.configure("gate/analysis.toml", limit);
    let up = world.up();
    let files = [(".github/workflows/image.yml", PIPELINE), ("Dockerfile", dockerfile), file];
    let costly = world.project("costly", &files);
    let said = world.sekisho(&["run", costly.to_str().unwrap()]).exits(10);
    said.says(&["unreadable-content", why, "layer "]);
    assert_eq!(said.stdout, "");
    let scratch = world.sekisho(&["run", &example("scratch"), "--output", "json"]).exits(0).json();
    let reference = scratch["images"][0]["reference"].as_str().unwrap();
    assert!(reference.starts_with(up.authority()), "{reference}");
    assert_eq!(up.stop(), 0);
    world.nothing_is_left();
}

#[test]
fn a_layer_that_eats_memory_is_refused_and_the_gate_lives_on() {
    // A package database is held as a whole while it is read.
    let database = "Package: a\nStatus: install ok installed\nVersion: 1\n\n".repeat(600_000);
    let dockerfile = "FROM scratch\nCOPY status /var/lib/dpkg/status\nUSER 1\n";
    let file = ("status", database.as_str());
    refused_and_lives_on("memory_mib = 24\n", dockerfile, file, "out of memory");
}

#[test]
fn a_layer_that_eats_time_is_refused_and_the_next_one_is_read() {
    // Far more than is read in that time: every line begins like a secret, and is none.
    let text = "aws_secret_access_key = AKIA ghp_ glpat- xoxb-\n".repeat(3_000_000);
    let dockerfile = "FROM scratch\nCOPY notes /notes\nUSER 1\n";
    let file = ("notes", text.as_str());
    let why = "more than 1s of processor time";
    refused_and_lives_on("cpu_seconds = 1\n", dockerfile, file, why);
}
