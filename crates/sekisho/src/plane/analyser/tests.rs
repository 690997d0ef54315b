use std::time::Duration;

use super::*;

fn analyser(script: &str, limits: Limits) -> Analyser {
    Analyser::of("/bin/sh".into(), &["-c", script], limits)
}

fn short() -> Limits {
    let silence = Duration::from_millis(300);
    Limits { memory_bytes: 64 * 1024 * 1024, cpu: Duration::from_secs(1), silence }
}

/// Limits of which only memory and processor time are ever reached.
fn patient() -> Limits {
    Limits { silence: Duration::from_secs(60), ..short() }
}

/// Of a layer of so many bytes.
fn ask(script: &str, limits: Limits, bytes: u64) -> Result<Value, String> {
    let mut layer = std::io::repeat(7).take(bytes);
    analyser(script, limits).layer(&[0; 32], &mut layer).map_err(|error| format!("{error:#}"))
}

#[test]
fn an_answer_is_what_the_child_says() {
    let said = ask("cat >/dev/null; echo '{\"layer\": [1]}'", patient(), 1_000_000);
    assert_eq!(said, Ok(serde_json::json!([1])));
    let no_tar = "cat >/dev/null; echo '{\"error\": \"no tar\"}'";
    assert_eq!(ask(no_tar, patient(), 10), Err("no tar".to_owned()));
    // It need not read to the end.
    let hasty = "echo '{\"error\": \"no tar\"}'";
    assert_eq!(ask(hasty, patient(), 10_000_000), Err("no tar".to_owned()));
}

#[test]
fn the_key_comes_first_and_by_no_other_way() {
    // The shell's own variables are PWD, SHLVL, _ and the like.
    let script = "key=$(head -c 32 | tr '\\007' k); cat >/dev/null; \
                  printf '{\"layer\": \"%s %s\"}' $key $#";
    let said = analyser(script, patient()).layer(&[7; 32], &mut std::io::empty()).unwrap();
    assert_eq!(said.as_str().unwrap(), format!("{} 0", "k".repeat(32)));
}

#[test]
fn one_that_crashes_hangs_or_lies_is_an_error() {
    for (script, limits, bytes, want) in [
        ("kill -9 $$", patient(), 1_000_000, "ended without an answer (signal: 9"),
        ("cat >/dev/null; kill -SEGV $$", patient(), 10, "ended without an answer (signal: 11"),
        ("cat >/dev/null; kill -SYS $$", patient(), 10, "asked for what reading a layer does not"),
        ("cat >/dev/null; kill -ABRT $$", patient(), 10, "took more than 64 MiB of memory"),
        ("exit 4", patient(), 10, "ended without an answer (exit status: 4)"),
        // Takes nothing; takes all and says nothing.
        ("exec sleep 1000", short(), 1_000_000, "did nothing for 300ms"),
        ("cat >/dev/null; exec sleep 1000", short(), 10, "did nothing for 300ms"),
        // Closes its end and stays.
        ("cat >/dev/null; exec sleep 1000 >/dev/null", patient(), 10, "(signal: 9"),
        ("cat >/dev/null; echo '{\"layer\"'", patient(), 10, "damaged"),
        ("cat >/dev/null; echo '{\"verdict\": \"allow\"}'", patient(), 10, "damaged"),
    ] {
        let said = ask(script, limits, bytes).unwrap_err();
        assert!(said.contains(want), "{script}: {said}");
    }
}

#[test]
fn memory_and_time_are_bounded() {
    // Each of these would go on for ever. `tail` keeps a line without an end in memory.
    for (script, want) in [
        ("cat >/dev/null; exec tail -n 1 /dev/zero", "ended without an answer"),
        ("cat >/dev/null; while :; do :; done", "took more than 1s of processor time"),
    ] {
        let said = ask(script, patient(), 10).unwrap_err();
        assert!(said.contains(want), "{script}: {said}");
    }
}

#[test]
fn one_that_cannot_be_started_is_no_fault_of_the_layer() {
    let missing = Analyser::of("/nowhere/analyser".into(), &[], short());
    let error = missing.layer(&[0; 32], &mut std::io::empty()).unwrap_err();
    assert!(error.is::<Busy>(), "{error:#}");
}
