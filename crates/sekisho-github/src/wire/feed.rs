//! Frames of the live log websocket.

use serde::{Deserialize, Serialize};

/// Lines in one frame, at most.
pub const MAX_LINES: usize = 100;
/// Characters in one line, at most; longer ones are cut, in the live feed only.
pub const MAX_LINE_CHARS: usize = 1024;

/// One text message: lines of one step, masked and timestamped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedFrame {
    /// `value.len()`.
    pub count: usize,
    /// The lines, without line ends.
    pub value: Vec<String>,
    /// The step they belong to.
    pub step_id: uuid::Uuid,
    /// 1-based number of the first line in its step's log; it jumps where the feed dropped lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_line: Option<u64>,
}
