//! Starting the binary, and asking what is left of it.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything here may take; a hang is a failure, not a timing.
const PATIENCE: Duration = Duration::from_secs(90);

/// The workflow of a repository that is to become an image.
pub(crate) const PIPELINE: &str = "on: push
jobs:
  image:
    permissions: { contents: read, id-token: write }
    uses: sekisho/pipeline/.github/workflows/image.yml@v1
";

/// Exit code of a shell that could not make what a test needs.
const NOT_APART: i32 = 99;

/// A data folder and a home of its own.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code, showing everything when it is another.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in:\n{}", self.stderr);
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a file of the data folder before there is a plane.
    pub(crate) fn configure(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.data().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        let private = std::fs::Permissions::from_mode(0o700);
        fs_err::set_permissions(self.data(), private).unwrap();
        fs_err::write(path, text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekisho"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("SEKISHO_DATA_DIR", self.data())
            .env("SEKISHO_PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn sekisho(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// The program, in a mount namespace of its own after a line of shell; `None` where that cannot be,
    /// which is said.
    pub(crate) fn apart(&self, line: &str, arguments: &[&str]) -> Option<Said> {
        let ours = self.command(arguments);
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-uc"]);
        command.arg(format!("{{ {line}; }} || exit {NOT_APART}; exec \"$0\" \"$@\""));
        command.arg(ours.get_program()).args(ours.get_args()).env_clear();
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().ok().filter(|output| {
            output.status.code() != Some(NOT_APART) && !output.stderr.starts_with(b"unshare:")
        });
        if output.is_none() {
            skipped(&format!("unshare, and leave to `{line}`"));
        }
        output.map(Said::of)
    }

    /// A folder with these files.
    pub(crate) fn project(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        for (path, text) in files {
            let path = folder.join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        folder
    }

    /// `sekisho run` on a folder whose one workflow this is.
    pub(crate) fn run_workflow(&self, workflow: &str) -> Said {
        let folder = self.project("app", &[(".github/workflows/ci.yml", workflow)]);
        self.sekisho(&["run", folder.to_str().unwrap()])
    }

    /// Starts `sekisho up` and waits until it says where it listens.
    pub(crate) fn up(&self) -> Up {
        self.up_with(&[])
    }

    /// `sekisho up` with more arguments.
    pub(crate) fn up_with(&self, more: &[&str]) -> Up {
        let child = Started::new(&mut self.command(&[&["up"], more].concat()));
        let file = self.data().join("plane.json");
        let read = || serde_json::from_slice(&fs_err::read(&file).ok()?).ok();
        // One that was killed leaves its file, so the file alone does not say that it is up.
        let is_ours = |json: Value| json["pid"] == child.id();
        eventually("the plane is up", || read().is_some_and(is_ours));
        let json: Value = read().unwrap();
        let url = json["url"].as_str().unwrap().trim_end_matches('/').to_owned();
        Up { child, url }
    }

    pub(crate) fn runs(&self) -> Vec<Value> {
        let said = self.sekisho(&["runs", "--output", "json"]);
        said.json()["runs"].as_array().unwrap().clone()
    }

    /// Nothing of a runner is left: no process with this data folder in its environment, no folder.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        let runners = self.data().join("runners");
        let left = fs_err::read_dir(&runners).map_or(0, Iterator::count);
        assert_eq!(left, 0, "folders left in {}", runners.display());
        assert_eq!(processes_with(&self.data()), Vec::<String>::new());
    }
}

/// A process that is killed when this is dropped: also when a test fails.
#[derive(Debug)]
pub(crate) struct Started(Option<Child>);

impl Started {
    pub(crate) fn new(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    /// What it says until it ends by itself.
    pub(crate) fn finish(mut self) -> Said {
        finish(self.0.take().unwrap())
    }
}

impl Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A plane in another process.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) child: Started,
    pub(crate) url: String,
}

impl Up {
    pub(crate) fn authority(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// SIGTERM, and what it said until it ended.
    pub(crate) fn stop(mut self) -> i32 {
        signal(&self.child, "TERM");
        self.child.wait().unwrap().code().unwrap()
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

pub(crate) fn finish(child: Child) -> Said {
    Said::of(child.wait_with_output().unwrap())
}

/// Waits for a state, not for a moment.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a test that hangs must end")]
pub(crate) fn eventually(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The command lines of living processes whose environment names the folder.
fn processes_with(folder: &Path) -> Vec<String> {
    let wanted = folder.to_str().unwrap().as_bytes();
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").unwrap().flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok());
        let environ = fs_err::read(entry.path().join("environ")).unwrap_or_default();
        if is_process && environ.windows(wanted.len()).any(|window| window == wanted) {
            let line = fs_err::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

/// A folder of the repository.
pub(crate) fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().parent().unwrap();
    root.join("examples").join(name).to_str().unwrap().to_owned()
}

/// Whether a program is there; says so in one line when it is not.
pub(crate) fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        skipped(program);
    }
    there
}

/// Says in one line what a test that is skipped would need.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skipped(needs: &str) {
    eprintln!("skipped: needs {needs}");
}
