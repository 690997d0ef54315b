//! Writes the tables of `docs` that are made of the code, between marks.

use std::path::Path;

use anyhow::Context;

/// Writes each table; a page that is right already is left alone.
pub(crate) fn run() -> anyhow::Result<()> {
    table("migrating-from-arc.md", &sekisho_migrate::table::markdown())?;
    table("operator.md", &sekisho_api::condition::markdown())
}

fn table(page: &str, text: &str) -> anyhow::Result<()> {
    const BEGIN: &str = "<!-- made by `cargo xtask tables` -->\n\n";
    const END: &str = "<!-- end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let before = fs_err::read_to_string(&path)?;
    let (head, rest) = before.split_once(BEGIN).with_context(|| format!("no mark in {page}"))?;
    let (_, tail) =
        rest.split_once(END).with_context(|| format!("no end of the mark in {page}"))?;
    crate::write_changed(&path, &format!("{head}{BEGIN}{text}{END}{tail}"))
}
