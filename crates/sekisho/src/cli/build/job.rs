//! What a build has to do with the job it runs in: the job's identity in, outputs out.

use std::io::Write as _;

use anyhow::Context as _;
use sekisho_builder::{BuildResult, Credential};

use super::settings;
use crate::session;

/// Where a step writes its outputs.
const OUTPUT_FILE: &str = "GITHUB_OUTPUT";

/// The job's identity, exchanged at the gate for a session that ends with the job. `None` outside
/// a job, or when the job may not have an identity.
pub(super) async fn credential(registry: &str) -> anyhow::Result<Option<Credential>> {
    let session = session::of_job(&session::gate_url(registry)?).await?;
    Ok(session.map(|session| Credential::Bearer(session.token)))
}

/// Tells later steps which image it is, when there is a job to tell.
pub(super) fn set_outputs(result: &BuildResult) -> anyhow::Result<()> {
    let Some(path) = settings::env(OUTPUT_FILE) else { return Ok(()) };
    let mut text = format!("digest={}\n", result.manifest_digest);
    if let Some(image) = result.pushed.first() {
        let digest = &result.manifest_digest;
        text.push_str(&format!("image={}/{}@{digest}\n", image.registry, image.repository));
    }
    let file = fs_err::OpenOptions::new().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).context("writing the step's outputs")
}
