//! Pushing with git, as a person does.

use std::path::Path;
use std::process::Command;

/// Commits all of a folder and pushes it as `main`; the commit.
pub(crate) fn push(folder: &Path, home: &Path, remote: &str) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .current_dir(folder)
            .args(["-c", "user.name=A", "-c", "user.email=a@example.com"])
            .args(args)
            .env_clear()
            .env("PATH", sekisho_hub::DEFAULT_SEARCH_PATH)
            .env("HOME", home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message=change"]);
    git(&["push", "--quiet", remote, "main"]);
    git(&["rev-parse", "HEAD"]).trim().to_owned()
}
