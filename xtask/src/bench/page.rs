//! `docs/benchmarks.md`: one part of it for each benchmark, so that one is measured without the others.

use std::path::Path;

use anyhow::Context as _;

const FILE: &str = "docs/benchmarks.md";

/// Replaces what stands before the first `## `, and keeps the rest.
pub(super) fn write_head(root: &Path, head: &str) -> anyhow::Result<()> {
    change(root, |old| match old.find("\n## ") {
        Some(at) => format!("{}\n{}", head.trim_end(), &old[at..]),
        None => head.to_owned(),
    })
}

/// Replaces the section of a heading, or adds it at the end.
pub(super) fn write_section(root: &Path, heading: &str, body: &str) -> anyhow::Result<()> {
    change(root, |old| with_section(old, heading, body))
}

fn change(root: &Path, change: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let old = fs_err::read_to_string(&path).unwrap_or_default();
    fs_err::write(&path, change(&old)).with_context(|| format!("writing {FILE}"))
}

fn with_section(old: &str, heading: &str, body: &str) -> String {
    let section = format!("## {heading}\n\n{}\n", body.trim());
    let title = format!("## {heading}\n");
    let Some(from) = old.match_indices(&title).map(|(at, _)| at).find(|at| is_line_start(old, *at))
    else {
        return format!("{}\n\n{section}", old.trim_end()).trim_start().to_owned();
    };
    let rest = &old[from + title.len()..];
    match rest.find("\n## ") {
        Some(end) => format!("{}{section}{}", &old[..from], &rest[end..]),
        None => format!("{}{section}", &old[..from]),
    }
}

fn is_line_start(text: &str, at: usize) -> bool {
    at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_and_replaced_and_others_stay() {
        let one = with_section("# Title\n\nhead\n", "A", "a");
        assert_eq!(one, "# Title\n\nhead\n\n## A\n\na\n");
        let two = with_section(&one, "B", "b");
        assert_eq!(two, "# Title\n\nhead\n\n## A\n\na\n\n## B\n\nb\n");
        let again = with_section(&two, "A", "new\n");
        assert_eq!(again, "# Title\n\nhead\n\n## A\n\nnew\n\n## B\n\nb\n");
        assert_eq!(with_section(&again, "B", "b"), again);
        assert_eq!(with_section("", "A", "a"), "## A\n\na\n");
    }
}
