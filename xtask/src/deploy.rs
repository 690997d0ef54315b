//! Writes the kustomize base and the classes of `sekisho-install` into `deploy`.

use std::path::Path;

use anyhow::Context;

/// Writes each file; one that is right already is left alone.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for file in sekisho_install::files().context("render the manifests")? {
        crate::write_changed(&folder.join(file.path), &file.text)?;
    }
    Ok(())
}
