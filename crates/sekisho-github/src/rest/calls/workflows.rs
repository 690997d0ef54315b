//! The workflow files of a repository, by the contents API.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::super::address::Repository;
use super::super::client::{Call, GithubClient};
use super::super::error::RestError;
use super::super::group::ContentEntry;

/// Where workflows are.
const WORKFLOWS: [&str; 2] = [".github", "workflows"];

/// Workflow files of a repository that are read.
const MAX_FILES: usize = 200;

/// Largest workflow file, in bytes, as on GitHub.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A workflow file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowFile {
    /// `.github/workflows/image.yml`.
    pub path: String,
    /// The blob's id.
    pub sha: String,
    /// What it says.
    pub content: Vec<u8>,
}

impl GithubClient {
    /// All workflow files at a ref, in the order of their paths; none if there is no such folder.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn workflow_files(
        &self,
        repository: &Repository,
        git_ref: &str,
    ) -> Result<Vec<WorkflowFile>, RestError> {
        const OPERATION: &str = "listing the workflow files";
        let listed = self.json(contents(OPERATION, repository, &WORKFLOWS, git_ref)).await;
        let listed: Vec<ContentEntry> = match listed {
            Err(error) if error.status() == Some(404) => return Ok(Vec::new()),
            listed => listed?,
        };
        let is_workflow = |entry: &&ContentEntry| {
            let known = entry.name.ends_with(".yml") || entry.name.ends_with(".yaml");
            entry.kind == "file" && known
        };
        let mut names: Vec<&str> =
            listed.iter().filter(is_workflow).map(|entry| entry.name.as_str()).collect();
        if names.len() > MAX_FILES {
            return Err(RestError::TooMany { operation: OPERATION, limit: MAX_FILES });
        }
        names.sort_unstable();
        let mut files = Vec::new();
        for name in names {
            files.push(self.workflow_file(repository, name, git_ref).await?);
        }
        Ok(files)
    }

    async fn workflow_file(
        &self,
        repository: &Repository,
        name: &str,
        git_ref: &str,
    ) -> Result<WorkflowFile, RestError> {
        const OPERATION: &str = "reading a workflow file";
        let path = [WORKFLOWS[0], WORKFLOWS[1], name];
        let call = contents(OPERATION, repository, &path, git_ref);
        let entry: ContentEntry = self.json(call).await?;
        let bad = |reason: String| RestError::Body { operation: OPERATION, reason };
        if entry.size > MAX_FILE_BYTES {
            return Err(bad(format!("`{}`, which is larger than 1 MiB", entry.path)));
        }
        let text = match (entry.encoding.as_deref(), entry.content) {
            (Some("base64"), Some(content)) => content.replace(['\n', '\r'], ""),
            _ => return Err(bad(format!("no content of `{}`", entry.path))),
        };
        let content = BASE64_STANDARD.decode(text);
        let content = content.map_err(|_| bad(format!("a damaged `{}`", entry.path)))?;
        Ok(WorkflowFile { path: entry.path, sha: entry.sha, content })
    }
}

fn contents<'a>(
    operation: &'static str,
    repository: &'a Repository,
    file: &[&'a str],
    git_ref: &str,
) -> Call<'a> {
    let mut path = vec!["repos", &repository.owner, &repository.name, "contents"];
    path.extend(file);
    Call::get(operation, path).needs("contents: read").query("ref", git_ref)
}
