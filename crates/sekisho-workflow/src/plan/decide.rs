//! The run's state machine.

use super::{JobAction, RunObserved};

/// What can be done now. Empty: wait for a runner, or the run is completed.
///
/// The same observation gives the same actions; an action that was applied is not given again.
pub fn decide(_seen: &RunObserved<'_>) -> Vec<JobAction> {
    Vec::new()
}
