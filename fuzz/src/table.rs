//! The table of docs/fuzzing.md.

use std::path::PathBuf;

use crate::{repository, targets};

const BEGIN: &str = "<!-- begin: `cargo run -p sekisho-fuzz -- --table` writes this -->\n";
const END: &str = "<!-- end -->\n";

/// Where the table is.
pub fn page() -> PathBuf {
    repository().join("docs/fuzzing.md")
}

/// A text with its table as it should be; `None` where there is no place for one.
pub fn renewed(text: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let row = |target: &crate::Target| {
        format!("| `{}` | {} | {} |\n", target.name, target.reads, target.holds)
    };
    let rows: String = targets::all().iter().map(row).collect();
    let head = "| target | reads | holds, beside that nothing panics |\n|---|---|---|\n";
    Some(format!("{before}{BEGIN}\n{head}{rows}\n{END}{after}"))
}
