//! What a process that confined itself cannot do, each beside one that did not and can.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

/// `SIGSYS` and `SIGABRT`, signal(7).
const SIGSYS: i32 = 31;
const SIGABRT: i32 = 6;

const HELPER: &str = env!("CARGO_BIN_EXE_sekisho-sandbox-helper");

fn run(what: &str, how: &str, argument: &str) -> (ExitStatus, String) {
    let mut child = Command::new(HELPER)
        .args([what, how])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(argument.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
fn is_refused(what: &str, argument: &str) {
    let (free, _) = run(what, "free", argument);
    assert_eq!(free.code(), Some(0), "without walls `{what}` works");
    let (confined, _) = run(what, "confined", argument);
    assert_eq!(confined.signal(), Some(SIGSYS), "`{what}` in the walls: {confined}");
}

#[test]
fn a_parser_can_parse() {
    let (status, said) = run("parse", "confined", "");
    assert_eq!((status.code(), said.as_str()), (Some(0), "ready\n234881024\n"));
}

#[test]
fn a_parser_has_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    is_refused("connect", &listener.local_addr().unwrap().to_string());
    is_refused("listen", "");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    is_refused("unix", socket.to_str().unwrap());
}

#[test]
fn a_parser_has_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("session.pk8");
    std::fs::write(&key, "the key").unwrap();
    for what in ["open", "look", "write"] {
        is_refused(what, key.to_str().unwrap());
    }
}

#[test]
fn a_parser_starts_and_signals_nobody() {
    is_refused("run", "/bin/true");
    is_refused("thread", "");
    is_refused("signal", &std::process::id().to_string());
}

#[test]
fn a_parser_may_give_up() {
    assert_eq!(run("abort", "confined", "").0.signal(), Some(SIGABRT));
}

#[test]
fn a_parser_loses_files_that_it_was_not_meant_to_have() {
    for how in ["confined", "free"] {
        // The shell becomes the parser, with one descriptor too many.
        let script = format!("exec '{HELPER}' parse {how} 9</etc/passwd");
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"ready\n");
        let folder = format!("/proc/{}", child.id());
        match std::fs::read_dir(format!("{folder}/fd")) {
            Ok(files) => assert_eq!(files.count() == 3, how == "confined", "{how}"),
            // Of a process that nobody may look into, root alone sees this.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
        }
        drop(stdin);
        child.wait().unwrap();
    }
}
