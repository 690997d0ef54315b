//! One RUN in the sandbox.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use fs_err as fs;
use sekisho_sandbox::{Control, Isolation, Network, SandboxError, SecretBytes, Spec, Stream, User};

use crate::engine::now;
use crate::progress::{Event, Progress};
use crate::{BuildOptions, MAX_LOG_LINE_BYTES};

/// How many of a failed command's last lines its error shows.
const TAIL_LINES: usize = 20;

/// What `hostname` says in a RUN unless something else was asked for: the same on every machine.
const HOST_NAME: &str = "sekisho";

/// What to run on what.
pub(crate) struct Job<'a> {
    pub(crate) number: usize,
    pub(crate) isolation: Isolation,
    /// The topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// Holds `upper`, `work` and `mnt` afterwards.
    pub(crate) folder: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) current_dir: String,
    pub(crate) user: User,
    pub(crate) network: Network,
    pub(crate) mounts: Vec<sekisho_sandbox::Mount>,
    pub(crate) secret_env: Vec<(String, SecretBytes)>,
    /// Values that are not to be shown.
    pub(crate) masks: &'a [String],
}

/// How it went.
pub(crate) struct Ran {
    pub(crate) outcome: Result<sekisho_sandbox::Outcome, SandboxError>,
    pub(crate) tail: Vec<String>,
    pub(crate) took: Duration,
}

/// Runs it; every line goes to `progress`.
pub(crate) fn run(
    job: Job<'_>,
    options: &BuildOptions,
    control: &Control,
    progress: &dyn Progress,
) -> anyhow::Result<Ran> {
    for name in ["upper", "work", "mnt"] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = job.folder.join(name);
        fs::create_dir(&path).context("cannot make a folder for the sandbox")?;
        // `upper` is the root that the command sees.
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    let spec = Spec {
        isolation: job.isolation,
        lower: job.lower,
        writable: job.folder.to_owned(),
        mountpoint: job.folder.join("mnt"),
        args: job.args,
        env: job.env,
        current_dir: job.current_dir,
        user: job.user,
        hostname: options.hostname()?.unwrap_or(HOST_NAME).to_owned(),
        network: job.network,
        mounts: job.mounts,
        secret_env: job.secret_env,
        timeout: options.run_timeout,
        max_processes: sekisho_sandbox::MAX_PROCESSES,
        max_memory_bytes: options.run_memory_bytes,
        min_free_bytes: sekisho_sandbox::MIN_FREE_BYTES,
    };
    let mut log = Log::new(job.number, progress, job.masks);
    let began = now();
    let outcome = options.launcher.run(&spec, control, &mut |stream, bytes| log.add(stream, bytes));
    Ok(Ran { outcome, tail: log.finish(), took: began.elapsed() })
}

/// Cuts output into lines, and remembers the last ones.
struct Log<'a> {
    number: usize,
    progress: &'a dyn Progress,
    /// Unfinished line of each stream, and whether its rest is being dropped.
    open: [(Vec<u8>, bool); 2],
    tail: VecDeque<String>,
    masks: &'a [String],
}

impl<'a> Log<'a> {
    fn new(number: usize, progress: &'a dyn Progress, masks: &'a [String]) -> Self {
        Self { number, progress, open: Default::default(), tail: VecDeque::new(), masks }
    }

    fn slot(&mut self, stream: Stream) -> &mut (Vec<u8>, bool) {
        match stream {
            Stream::Stdout => &mut self.open[0],
            Stream::Stderr => &mut self.open[1],
        }
    }

    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let (line, cut) = self.slot(stream);
            let room = MAX_LOG_LINE_BYTES - line.len();
            line.extend_from_slice(&text[..text.len().min(room)]);
            *cut |= text.len() > room;
            if ended {
                self.emit(stream);
            }
        }
    }

    fn emit(&mut self, stream: Stream) {
        let (line, cut) = std::mem::take(self.slot(stream));
        let mut line = String::from_utf8_lossy(&line).into_owned();
        // A progress bar overwrites its line: what counts is what stood there last.
        if let Some(last) = line.trim_end_matches('\r').rsplit('\r').next() {
            line = last.to_owned();
        }
        for mask in self.masks {
            line = line.replace(mask.as_str(), "***");
        }
        if cut {
            line.push_str(" […]");
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.progress.event(Event::Log { number: self.number, stream, line });
    }

    fn finish(mut self) -> Vec<String> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.slot(stream).0.is_empty() {
                self.emit(stream);
            }
        }
        self.tail.into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Progress for Lines {
        fn event(&self, event: Event) {
            if let Event::Log { line, .. } = event {
                self.0.lock().unwrap().push(line);
            }
        }
    }

    #[test]
    fn output_becomes_lines() {
        let lines = Lines::default();
        let masks = ["secret".to_owned()];
        let mut log = Log::new(1, &lines, &masks);
        log.add(Stream::Stdout, b"one\ntw");
        log.add(Stream::Stderr, b"err\xff\n");
        log.add(Stream::Stdout, b"o\n\n10%\r20%\r\n");
        log.add(Stream::Stdout, &vec![b'x'; MAX_LOG_LINE_BYTES]);
        log.add(Stream::Stdout, b"yy\nend");
        let tail = log.finish();
        let cut = format!("{} […]", "x".repeat(MAX_LOG_LINE_BYTES));
        assert_eq!(tail, ["one", "err\u{fffd}", "two", "", "20%", &cut, "end"]);
        assert_eq!(*lines.0.lock().unwrap(), tail);
    }

    #[test]
    fn tail_is_short() {
        let mut log = Log::new(1, &crate::Silent, &[]);
        for number in 0..100 {
            log.add(Stream::Stdout, format!("{number}\n").as_bytes());
        }
        let tail = log.finish();
        assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (20, "80", "99"));
    }
}
