//! The long lists: version orders and CVSS scores of public projects. They lie outside the
//! repository; where they are absent, each test says so. Small cases of our own stand beside the code.

mod cvss;
mod versions;

use std::path::Path;

/// The text of a shared data file; `None`, and one line, when it is not there.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn shared(path: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let text = std::fs::read_to_string(root.join(path)).ok();
    if text.is_none() {
        eprintln!("skipped: needs shared/data/{path}");
    }
    text
}
