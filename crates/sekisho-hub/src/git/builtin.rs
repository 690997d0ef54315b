//! Repositories made from files that are part of the program.

use super::{Git, GitError};
use crate::config::BuiltinRepository;
use crate::names::{RepoName, is_plain_path, is_plain_ref};

/// Author, committer and time of the commit: fixed, so that the same files give the same sha.
const SIGNATURE: &str = "Sekisho <sekisho@sekisho.invalid> 1767225600 +0000";

impl Git {
    /// Makes the repository, or brings it up to date: one commit, named by every ref. Blocking.
    pub(crate) fn create_builtin(&self, builtin: &BuiltinRepository) -> Result<(), GitError> {
        let invalid =
            |message: String| GitError::Failed { verb: "fast-import".to_owned(), message };
        let name = RepoName::new(&builtin.owner, &builtin.name)
            .map_err(|error| invalid(error.to_string()))?;
        let stream = stream(builtin).map_err(invalid)?;
        let repository = self.create(&name)?;
        repository.fast_import(&stream)?;
        let branch = builtin.refs.iter().find_map(|name| name.strip_prefix("refs/heads/"));
        if let Some(branch) = branch {
            repository.set_default_branch(branch)?;
        }
        Ok(())
    }
}

/// The commit as `git fast-import` reads it (git-fast-import(1)).
fn stream(builtin: &BuiltinRepository) -> Result<Vec<u8>, String> {
    let Some((first, others)) = builtin.refs.split_first() else {
        return Err(format!("{}/{} has no refs", builtin.owner, builtin.name));
    };
    if let Some(bad) = builtin.refs.iter().find(|r| !is_plain_ref(r) || !r.starts_with("refs/")) {
        return Err(format!("bad ref {bad:?}"));
    }
    let mut files: Vec<&(String, Vec<u8>)> = builtin.files.iter().collect();
    files.sort();
    let message = "Built into Sekisho\n";
    let mut stream = format!(
        "commit {first}\nmark :1\nauthor {SIGNATURE}\ncommitter {SIGNATURE}\ndata {}\n{message}\n",
        message.len()
    )
    .into_bytes();
    for (path, content) in files {
        if !is_plain_path(path) {
            return Err(format!("bad path {path:?}"));
        }
        stream.extend(format!("M 100644 inline {path}\ndata {}\n", content.len()).into_bytes());
        stream.extend(content);
        stream.push(b'\n');
    }
    for name in others {
        stream.extend(format!("reset {name}\nfrom :1\n\n").into_bytes());
    }
    Ok(stream)
}
