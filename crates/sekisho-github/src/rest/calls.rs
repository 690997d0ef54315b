//! The calls, by what they are about.

mod installations;
mod runners;
mod runs;
mod workflows;

pub use runs::{RunFilter, RunJobs};
pub use workflows::WorkflowFile;
