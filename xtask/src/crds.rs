//! Writes the custom resource definitions of `sekisho-api` into `deploy/crds`.

use std::path::Path;

use anyhow::Context;

/// Writes each definition; a file that is right already is left alone.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    for (name, text) in sekisho_api::schema::files().context("render the definitions")? {
        crate::write_changed(&folder.join(name), &text)?;
    }
    Ok(())
}
