//! Writes the custom resource definitions of `sekisho-api` into `deploy/crds`.

use std::path::Path;

use anyhow::Context;

/// Writes each definition; a file that is right already is left alone.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    fs_err::create_dir_all(&folder)?;
    for (name, text) in sekisho_api::schema::files().context("render the definitions")? {
        let file = folder.join(name);
        if fs_err::read_to_string(&file).ok().as_deref() != Some(text.as_str()) {
            fs_err::write(&file, text)?;
        }
    }
    Ok(())
}
