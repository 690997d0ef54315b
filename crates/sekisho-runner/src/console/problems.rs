//! Problem matchers at work: their files, and the files that they speak of.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use sekisho_github::wire::run_service::AnnotationLevel;

use super::Console;
use crate::command::Command;
use crate::matcher::{self, Found, MAX_CONFIG_LEN};

impl Console<'_> {
    /// A line that is no command: into the log, marked if a matcher finds a problem in it.
    pub(super) fn text(&mut self, line: &str) {
        if self.matchers.is_empty() {
            return self.log.write(line);
        }
        let outcome = self.matchers.look(line);
        for owner in outcome.removed {
            self.warn(&format!(
                "Problem matcher '{owner}' is removed: its expression takes too long."
            ));
        }
        let Some(found) = outcome.found.filter(|found| !found.message.is_empty()) else {
            return self.log.write(line);
        };
        let (level, tag) = match found.severity.to_ascii_lowercase().as_str() {
            "" | "error" => (AnnotationLevel::Failure, "error"),
            "warning" => (AnnotationLevel::Warning, "warning"),
            "notice" | "info" => (AnnotationLevel::Notice, "notice"),
            _ => return self.log.write(line),
        };
        let path = path_of(&found, &self.dirs.workspace);
        self.commands.annotations.add_found(self.log.masker(), level, &found, path.as_deref());
        self.log.write(&format!("##[{tag}]{line}"));
    }

    /// `::add-matcher::FILE`
    pub(super) fn add_matchers(&mut self, file: &str) {
        let added = self.read_matchers(file).and_then(|bytes| {
            let matchers = matcher::parse(&bytes).map_err(|error| error.to_string())?;
            let mut owners = Vec::new();
            for matcher in matchers {
                owners.push(matcher.owner().to_owned());
                self.matchers.add(matcher).map_err(|error| error.to_string())?;
            }
            Ok(owners)
        });
        match added {
            Ok(owners) => {
                for owner in owners {
                    self.log.write(&format!("##[add-matcher]{file} ({owner})"));
                }
            }
            Err(error) => {
                self.warn(&format!("Unable to add problem matchers of '{file}': {error}"))
            }
        }
    }

    /// `::remove-matcher owner=OWNER::` or `::remove-matcher::FILE`
    pub(super) fn remove_matchers(&mut self, command: &Command) {
        match (command.get("owner"), command.message.trim()) {
            (Some(owner), "") => self.matchers.remove(owner),
            (None, file) if !file.is_empty() => {
                let owners = self
                    .read_matchers(file)
                    .and_then(|bytes| matcher::owners(&bytes).map_err(|error| error.to_string()));
                match owners {
                    Ok(owners) => owners.iter().for_each(|owner| self.matchers.remove(owner)),
                    Err(error) => {
                        self.warn(&format!(
                            "Unable to remove problem matchers of '{file}': {error}"
                        ));
                    }
                }
            }
            _ => self.warn("remove-matcher needs either an owner or a file."),
        }
    }

    fn read_matchers(&self, file: &str) -> Result<Vec<u8>, String> {
        let path = self.dirs.workspace.join(file.trim());
        if !path.is_file() {
            return Err("it is not a file".to_owned());
        }
        let file = fs_err::File::open(&path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        file.take(MAX_CONFIG_LEN + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_CONFIG_LEN {
            return Err(format!("it is larger than {} KiB", MAX_CONFIG_LEN / 1024));
        }
        Ok(bytes)
    }
}

/// The file that a match means, relative to its repository; `None` when there is no such file in the
/// workspace, for an annotation must not name one that does not exist.
fn path_of(found: &Found, workspace: &Path) -> Option<String> {
    if found.file.is_empty() {
        return None;
    }
    let base = match Path::new(&found.from_path).parent() {
        Some(folder) if !found.from_path.is_empty() => workspace.join(folder),
        _ => workspace.to_owned(),
    };
    let candidates = [base.join(&found.file), workspace.join(&found.file)];
    let file = candidates.iter().find(|path| path.is_file())?;
    let file = fs_err::canonicalize(file).ok()?;
    let workspace = fs_err::canonicalize(workspace).ok()?;
    if !file.starts_with(&workspace) {
        return None;
    }
    let root = repository(&file, &workspace);
    Some(file.strip_prefix(root).ok()?.to_string_lossy().into_owned())
}

/// The nearest folder with a `.git` in it, within the workspace; else the workspace.
fn repository(file: &Path, workspace: &Path) -> PathBuf {
    let within = file.ancestors().skip(1).take_while(|folder| folder.starts_with(workspace));
    let mut found = within.filter(|folder| folder.join(".git").exists());
    found.next().unwrap_or(workspace).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_workspace_are_named() {
        let temp = tempfile::tempdir().unwrap();
        let workspace = temp.path().join("w");
        for folder in ["w/src", "w/sub/.git", "w/sub/lib"] {
            fs_err::create_dir_all(temp.path().join(folder)).unwrap();
        }
        for file in ["w/src/a.c", "w/sub/lib/b.c", "outside.c"] {
            fs_err::write(temp.path().join(file), "").unwrap();
        }
        let absolute = workspace.join("src/a.c").to_string_lossy().into_owned();
        for (file, from_path, want) in [
            ("src/a.c", "", Some("src/a.c")),
            (absolute.as_str(), "", Some("src/a.c")),
            ("./a.c", "src/project.xml", Some("src/a.c")),
            ("sub/lib/b.c", "", Some("lib/b.c")),
            ("../outside.c", "", None),
            ("none.c", "", None),
            ("", "", None),
        ] {
            let found = Found {
                file: file.to_owned(),
                from_path: from_path.to_owned(),
                ..Found::default()
            };
            assert_eq!(path_of(&found, &workspace).as_deref(), want, "{file}");
        }
    }
}
