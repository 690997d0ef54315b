//! Wrong input: what, where, the next step, the right exit code, nothing left.

use crate::support::{PIPELINE, Said, World, has, skipped};

#[test]
fn a_workflow_with_a_syntax_error_is_named_with_its_place() {
    let world = World::new();
    let said = world.run_workflow("on: push\njobs:\n  a:\n    steps: [\n").exits(1);
    said.says(&["error:", ".github/workflows/ci.yml:", "hint:"]);
    assert_eq!(world.sekisho(&["runs"]).exits(3).stdout, "");
    world.nothing_is_left();
}

#[test]
fn one_broken_workflow_does_not_stop_the_others() {
    let world = World::new();
    let good = "on: push\njobs:\n  a:\n    runs-on: default\n    steps: [{ run: 'echo fine' }]\n";
    let folder = world.project(
        "app",
        &[(".github/workflows/bad.yml", "on: push\n"), (".github/workflows/good.yml", good)],
    );
    let said = world.sekisho(&["run", folder.to_str().unwrap()]).exits(1);
    said.says(&[".github/workflows/bad.yml:1:1: ", "fine", "`a` succeeded"]);
}

#[test]
fn unknown_needs_and_keys_are_named_with_their_place() {
    let world = World::new();
    let step = "    runs-on: default\n    steps: [{ run: 'true' }]\n";
    let said = world.run_workflow(&format!("on: push\njobs:\n  a:\n    needs: b\n{step}")).exits(1);
    said.says(&[".github/workflows/ci.yml:4:12: ", "`b`"]);
    let said = world.run_workflow(&format!("on: push\njobs:\n  a:\n    need: b\n{step}")).exits(1);
    said.says(&[".github/workflows/ci.yml:4:5: ", "`need`", "`needs`"]);
}

#[test]
fn without_a_workflow_there_is_nothing_to_do() {
    let world = World::new();
    let folder = world.project("app", &[("file", "")]);
    let said = world.sekisho(&["run", folder.to_str().unwrap()]).exits(3);
    said.says(&["no workflow listens to this push", "uses: sekisho/pipeline/"]);
    let said = world.sekisho(&["run", "/nowhere"]).exits(1);
    said.says(&["error: `/nowhere` cannot be run", "hint:"]);
    world.sekisho(&["run", "--nonsense"]).exits(2);
}

#[test]
fn a_missing_dockerfile_is_named() {
    let world = World::new();
    let said = world.run_workflow(PIPELINE).exits(1);
    said.says(&["there is no Dockerfile at", "name another file with `--file`", "logs 1"]);
    world.nothing_is_left();
}

#[test]
fn an_instruction_that_is_not_supported_is_named_with_its_place() {
    let world = World::new();
    let dockerfile = "FROM scratch\nCOPY . /\nRUN --security=insecure x\n";
    let folder =
        world.project("app", &[(".github/workflows/ci.yml", PIPELINE), ("Dockerfile", dockerfile)]);
    let said = world.sekisho(&["run", folder.to_str().unwrap()]).exits(1);
    said.says(&["Dockerfile:3:1: ", "`RUN --security=insecure` is not supported"]);
}

#[test]
fn a_step_that_fails_and_one_that_never_ends_fail_the_run() {
    let world = World::new();
    let workflow = "on: push
jobs:
  a:
    runs-on: default
    steps:
      - run: exit 3
      - if: always()
        timeout-minutes: 0.01
        run: sleep 600
      - run: echo never
";
    let said = world.run_workflow(workflow).exits(1);
    said.says(&["Process completed with exit code 3.", "has timed out after"]);
    assert!(!said.stderr.contains("echo never"), "{}", said.stderr);
    world.nothing_is_left();
}

#[test]
fn a_port_in_use_is_named() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = world.sekisho(&["up", "--port", &port]).exits(1);
    said.says(&[&format!("cannot listen on 127.0.0.1:{port}"), "choose another with `--port`"]);
    assert!(!world.data().join("plane.json").exists());
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let world = World::new();
    let said = world.sekisho(&["run", ".", "--data-dir", "/proc/none"]).exits(1);
    said.says(&["the data folder `/proc/none` cannot be written", "--data-dir"]);
}

#[test]
fn a_folder_with_other_things_in_it_is_not_taken_for_the_data_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let folder = world.folder.path().join("shared");
    let mode = || fs_err::metadata(&folder).unwrap().permissions().mode() & 0o777;
    fs_err::create_dir(&folder).unwrap();
    fs_err::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    fs_err::write(folder.join("file"), "").unwrap();
    let up = ["up", "--port", "0", "--data-dir", folder.to_str().unwrap()];
    world.sekisho(&up).exits(1).says(&["holds what is not Sekisho's", "--data-dir"]);
    assert_eq!(mode(), 0o755, "it was left as it is");
}

#[test]
fn a_second_plane_on_one_folder_is_refused() {
    let world = World::new();
    let up = world.up();
    let said = world.sekisho(&["up"]).exits(1);
    said.says(&["a plane is already up", &up.url, "--data-dir"]);
    assert_eq!(up.stop(), 0);
}

#[test]
fn an_unknown_run_has_no_log() {
    let world = World::new();
    let said = world.sekisho(&["logs", "7"]).exits(1);
    said.says(&["there is no run 7", "`sekisho runs` lists them"]);
}

/// Inside a user namespace that allows no other, and without the capabilities that would make one
/// unnecessary: what a kernel without them, or a locked-down pod, looks like.
#[test]
fn a_kernel_without_user_namespaces_is_named() {
    if !has("unshare") || !has("setpriv") {
        return;
    }
    let world = World::new();
    let folder = world.project("app", &[("Dockerfile", "FROM scratch\nRUN [\"/x\"]\n")]);
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces || exit 77
        exec setpriv --bounding-set=-all --inh-caps=-all -- {} build {}",
        env!("CARGO_BIN_EXE_sekisho"),
        folder.display()
    );
    let mut inside = std::process::Command::new("unshare");
    inside.args(["--user", "--map-root-user", "sh", "-c", &script]);
    let inside = inside.env("SEKISHO_DATA_DIR", world.data()).output().unwrap();
    let said = Said::of(inside);
    if said.code == Some(77) || said.stderr.starts_with("unshare:") {
        skipped("a user namespace whose limits can be set");
        return;
    }
    said.exits(1).says(&["Dockerfile:2", "user namespace", "hint:"]);
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let world = World::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = world.command(&["runs", "--output", "json"]).stdout(full).output().unwrap();
    Said::of(output).exits(1).says(&["error: writing the answer", "No space left"]);
}

#[test]
fn runs_that_cannot_be_read_are_not_said_to_be_none() {
    let world = World::new();
    fs_err::create_dir_all(world.data()).unwrap();
    fs_err::write(world.data().join("hub"), "no folder").unwrap();
    world.sekisho(&["runs"]).exits(1).says(&["error: ", "hub/runs"]);
}

#[test]
fn a_job_that_is_not_there_has_no_log() {
    let world = World::new();
    world
        .run_workflow("on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{ run: 'true' }]\n")
        .exits(0);
    world.sekisho(&["logs", "1", "--job", "b"]).exits(3).says(&["whose name has `b`"]);
}
