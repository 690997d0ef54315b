//! The job's log: every line masked, stamped, and sent to three places.
//!
//! ```text
//! line ─ mask ─ stamp ─┬─▶ output (the process' stdout): nothing is lost, backpressure
//!                      ├─▶ spool file of the step ─▶ results service: nothing is lost
//!                      └─▶ live feed: follows the spool file; what is left some seconds after the
//!                          job's end is counted
//! ```
//!
//! This is the only way out for text of a job: nothing else writes a line anywhere.

mod feed;
mod lines;
mod output;

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err::File;
use uuid::Uuid;

use crate::clock;
use crate::mask::Masker;
use crate::stop::Stop;

pub(crate) use feed::{Feed, FeedEnd};
pub(crate) use lines::{Line, LineBuffer};
pub(crate) use output::Output;

/// Bytes that may wait before they are handed to the output's thread.
const PENDING_LEN: usize = 64 * 1024;

/// The log of one job.
pub(crate) struct Log {
    masker: Masker,
    output: Output,
    feed: Option<Feed>,
    folder: PathBuf,
    step: Option<Spool>,
    pending: Vec<u8>,
    /// Lines and bytes of the current step that the feed has not heard of.
    fresh: (u64, u64),
    stamps: clock::Stamps,
    muted: bool,
}

/// The log of one step, complete.
#[derive(Clone, Debug)]
pub(crate) struct StepLog {
    pub(crate) step: Uuid,
    pub(crate) path: PathBuf,
    pub(crate) lines: i64,
}

struct Spool {
    step: Uuid,
    path: PathBuf,
    file: BufWriter<File>,
    lines: i64,
}

impl Log {
    /// A log whose spool files go into `folder`.
    pub(crate) fn new(masker: Masker, output: Output, feed: Option<Feed>, folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self {
            masker,
            output,
            feed,
            folder,
            step: None,
            pending: Vec::new(),
            fresh: (0, 0),
            stamps: clock::Stamps::default(),
            muted: false,
        }
    }

    /// What is masked.
    pub(crate) fn masker(&self) -> &Masker {
        &self.masker
    }

    /// To mask more.
    pub(crate) fn masker_mut(&mut self) -> &mut Masker {
        &mut self.masker
    }

    /// A secret cannot be masked: no text is let through any more.
    pub(crate) fn mute(&mut self) {
        self.muted = true;
    }

    /// Text with its secrets replaced.
    pub(crate) fn mask(&self, text: &str) -> String {
        if self.muted {
            return crate::mask::MASK.to_owned();
        }
        self.masker.mask(text).into_owned()
    }

    /// Lines from now on belong to this step.
    pub(crate) fn begin_step(&mut self, step: Uuid) -> anyhow::Result<()> {
        let path = self.folder.join(format!("{step}.log"));
        let file = File::create_new(&path).context("creating the spool file of a step's log")?;
        if let Some(feed) = &self.feed {
            let file = File::open(&path).context("opening the spool file of a step's log")?;
            feed.begin(step, file.into_parts().0);
        }
        self.step =
            Some(Spool { step, path, file: BufWriter::with_capacity(PENDING_LEN, file), lines: 0 });
        Ok(())
    }

    /// The step is over; `None` when it wrote nothing.
    pub(crate) async fn end_step(&mut self) -> anyhow::Result<Option<StepLog>> {
        self.flush().await;
        let Some(mut spool) = self.step.take() else { return Ok(None) };
        if let Some(feed) = &self.feed {
            feed.end();
        }
        spool.file.flush().context("writing a step's log")?;
        if spool.lines == 0 {
            return Ok(None);
        }
        Ok(Some(StepLog { step: spool.step, path: spool.path, lines: spool.lines }))
    }

    /// Writes text, which may have several lines.
    pub(crate) fn write(&mut self, text: &str) {
        if !self.muted && !self.masker.finds(text) {
            return self.write_masked(text);
        }
        let masked = self.mask(text);
        self.write_masked(&masked);
    }

    fn write_masked(&mut self, text: &str) {
        let stamp = self.stamps.stamp(clock::now());
        let begin = self.pending.len();
        let mut lines = 0;
        for line in text.split('\n') {
            self.pending.extend_from_slice(&stamp);
            self.pending.push(b' ');
            self.pending.extend_from_slice(line.strip_suffix('\r').unwrap_or(line).as_bytes());
            self.pending.push(b'\n');
            lines += 1;
        }
        if let Some(spool) = &mut self.step {
            let whole = &self.pending[begin..];
            // A full disk shows when the step ends; the output has the line all the same.
            if let Err(error) = spool.file.write_all(whole) {
                tracing::warn!(%error, "a line is missing from a step's log file");
                return;
            }
            spool.lines += lines;
            self.fresh.0 += lines.unsigned_abs();
            self.fresh.1 += whole.len() as u64;
        }
    }

    /// `##[error]…`
    pub(crate) fn error(&mut self, text: &str) {
        self.write(&format!("##[error]{text}"));
    }

    /// `##[warning]…`
    pub(crate) fn warning(&mut self, text: &str) {
        self.write(&format!("##[warning]{text}"));
    }

    /// Whether enough waits that [`Self::flush`] should be called before more is written.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_LEN
    }

    /// Hands everything on; waits while the output's reader is slow.
    pub(crate) async fn flush(&mut self) {
        self.feed();
        if !self.pending.is_empty() {
            let room = Vec::with_capacity(self.pending.len());
            self.output.write(std::mem::replace(&mut self.pending, room)).await;
        }
    }

    fn feed(&mut self) {
        let (Some(feed), Some(spool)) = (&self.feed, &mut self.step) else { return };
        let (lines, bytes) = std::mem::take(&mut self.fresh);
        // What did not get into the file must not be read from it.
        if lines > 0 && spool.file.flush().is_ok() {
            feed.wrote(lines, bytes);
        }
    }

    /// Ends all three places; what the feed lost is in the answer.
    pub(crate) async fn close(mut self, stop: &Stop) -> Option<FeedEnd> {
        self.flush().await;
        let end = match self.feed.take() {
            Some(feed) => Some(feed.close(stop).await),
            None => None,
        };
        self.output.close().await;
        end
    }
}
