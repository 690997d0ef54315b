//! What a server of parsers holds to: each input in a process of its own, within limits, and nobody else hurt.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sekisho_sandbox::{ParserError, ParserLimits, Parsers};

const HELPER: &str = env!("CARGO_BIN_EXE_sekisho-sandbox-helper");

/// How often something is looked for, a hundredth of a second apart: a minute.
const LOOKS: usize = 6000;

fn short() -> ParserLimits {
    let silence = Duration::from_millis(300);
    ParserLimits { memory_bytes: 64 << 20, cpu: Duration::from_secs(1), silence }
}

/// Limits of which only memory and processor time are ever reached.
fn patient() -> ParserLimits {
    ParserLimits { silence: Duration::from_secs(60), ..short() }
}

/// A server with a word by which its processes are known.
fn parsers() -> (Arc<Parsers>, String) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let mark = format!("mark-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    (Arc::new(Parsers::new(HELPER, &["parsers", &mark])), mark)
}

fn ask(parsers: &Parsers, word: &str, limits: ParserLimits) -> Result<String, String> {
    let mut input = word.as_bytes().chain(&b"\n"[..]).chain(std::io::repeat(7).take(1_000_000));
    let answer = parsers.ask(&limits, &mut input).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(answer).unwrap())
}

/// As [`ask`], on a thread of its own and without any limit that is reached.
fn ask_beside(parsers: &Arc<Parsers>, word: &'static str) -> JoinHandle<Result<String, String>> {
    let limits = ParserLimits { cpu: Duration::from_secs(600), ..patient() };
    let limits = ParserLimits { silence: Duration::from_secs(600), ..limits };
    let parsers = Arc::clone(parsers);
    std::thread::spawn(move || ask(&parsers, word, limits))
}

/// The processes with a word among their arguments.
fn processes(mark: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    };
    let mut found: Vec<i32> = pids.filter(has).collect();
    found.sort_unstable();
    found
}

fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn status(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim().to_owned()
}

/// Waits until something is there.
#[track_caller]
fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within a minute");
}

/// The server, once it has so many parsers, and these.
#[track_caller]
fn at_work(mark: &str, count: usize) -> (i32, Vec<i32>) {
    // The tests may run behind a filter of somebody else's.
    let filters = |pid: i32| status(pid, "Seccomp_filters:").parse::<u32>().ok();
    let ours = filters(std::process::id().cast_signed()).unwrap();
    eventually("parsers at work", || {
        // A caller that is a process of its own, and parsers, have the mark too.
        processes(mark).into_iter().find_map(|server| {
            let found = children(server);
            let ready = found.iter().filter(|pid| filters(**pid) == Some(ours + 1)).count();
            (ready == count).then_some((server, found))
        })
    })
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn an_answer_is_what_the_parser_says() {
    let (parsers, _) = parsers();
    assert_eq!(ask(&parsers, "count", patient()), Ok("1000000".to_owned()));
    // It need not read to the end.
    assert_eq!(ask(&parsers, "hasty", patient()), Ok("enough".to_owned()));
    assert_eq!(ask(&parsers, "environment", patient()), Ok("[]".to_owned()));
}

#[test]
fn one_that_fails_hangs_or_gives_up_is_an_error_and_hurts_nobody() {
    let (parsers, _) = parsers();
    for (word, limits, want) in [
        ("fail", patient(), "ended without an answer (exit status: 4)"),
        ("panic", patient(), "ended without an answer (exit status: 101)"),
        ("silent", patient(), "ended without an answer (exit status: 0)"),
        ("abort", patient(), "more than 64 MiB of memory"),
        // What it said before does not count.
        ("half", patient(), "more than 64 MiB of memory"),
        ("open", patient(), "asked for what parsing does not need"),
        ("connect", patient(), "asked for what parsing does not need"),
        ("sleep", short(), "did nothing for 300ms"),
        ("spin", patient(), "more than 1s of processor time"),
        ("eat", ParserLimits { cpu: Duration::from_secs(60), ..patient() }, "64 MiB of memory"),
    ] {
        let said = ask(&parsers, word, limits).unwrap_err();
        assert!(said.contains(want), "{word}: {said}");
        assert_eq!(ask(&parsers, "count", patient()), Ok("1000000".to_owned()), "after {word}");
    }
}

#[test]
fn a_parser_has_nothing_but_its_input_and_its_answer() {
    let (parsers, mark) = parsers();
    let asked = [ask_beside(&parsers, "sleep"), ask_beside(&parsers, "sleep")];
    let (server, found) = at_work(&mark, 2);
    for pid in found {
        assert_eq!(status(pid, "Threads:"), "1");
        assert_eq!(status(pid, "NoNewPrivs:"), "1");
        // Not those of the other one. Of a process that nobody may look into, root alone sees this.
        match std::fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => assert_eq!(files.count(), 3),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
        }
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        if let (Ok(theirs), Ok(ours)) = (network(&pid.to_string()), network("self")) {
            assert_ne!(theirs, ours);
        }
    }
    kill(server);
    for asked in asked {
        let said = asked.join().unwrap().unwrap_err();
        assert!(said.contains("no parser can be started"), "{said}");
    }
}

#[test]
fn a_killed_parser_or_server_ends_nobody_elses_work() {
    let (parsers, mark) = parsers();
    let asked = ask_beside(&parsers, "sleep");
    let (server, found) = at_work(&mark, 1);
    kill(found[0]);
    let said = asked.join().unwrap().unwrap_err();
    assert!(said.contains("ended without an answer (signal: 9"), "{said}");
    assert_eq!(ask(&parsers, "count", patient()), Ok("1000000".to_owned()));
    assert_eq!(processes(&mark), [server], "the same one");

    // With the server goes who parses at the moment; the next input has another.
    let asked = ask_beside(&parsers, "spin");
    at_work(&mark, 1);
    kill(server);
    let limits = patient();
    let said = asked.join().unwrap().unwrap_err();
    assert!(said.contains("no parser can be started"), "{said}");
    assert_eq!(ask(&parsers, "count", limits), Ok("1000000".to_owned()));
    let left = eventually("only the new server", || {
        let left = processes(&mark);
        (left.len() == 1).then_some(left)
    });
    assert_ne!(left, [server]);
    drop(parsers);
    assert_eq!(processes(&mark), Vec::<i32>::new());
}

#[test]
fn nothing_is_left_of_a_caller_that_was_killed() {
    let (_, mark) = parsers();
    let mut command = Command::new(HELPER);
    command.args(["ask", &mark]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut caller = command.spawn().unwrap();
    // The parser turns in circles: no end of a file tells it anything.
    at_work(&mark, 1);
    caller.kill().unwrap();
    caller.wait().unwrap();
    eventually("nothing is left", || processes(&mark).is_empty().then_some(()));
}

#[test]
fn a_caller_that_gives_up_kills_its_parser_alone() {
    let (parsers, mark) = parsers();
    let other = ask_beside(&parsers, "sleep");
    let (server, _) = at_work(&mark, 1);
    assert!(ask(&parsers, "sleep", short()).unwrap_err().contains("did nothing"));
    let left = eventually("one is left", || {
        let left = children(server);
        (left.len() == 1).then_some(left)
    });
    kill(left[0]);
    assert!(other.join().unwrap().unwrap_err().contains("signal: 9"));
}

#[test]
fn what_is_no_server_is_no_fault_of_the_input() {
    for program in [PathBuf::from("/nowhere/parsers"), "/bin/true".into()] {
        let error = Parsers::new(program, &[]).ask(&short(), &mut std::io::empty()).unwrap_err();
        assert!(matches!(error, ParserError::Unavailable(_)), "{error}");
    }
}
