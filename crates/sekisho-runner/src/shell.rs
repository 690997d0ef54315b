//! How a `run` step's script becomes a command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A shell: a program, its arguments (`{0}` is the script), the script's file extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shell {
    pub(crate) program: String,
    /// Taken where `program` is not there.
    pub(crate) fallback: Option<&'static str>,
    pub(crate) args: Vec<String>,
    pub(crate) extension: &'static str,
}

/// Why there is no shell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShellError {
    #[error("shell `{name}` is not supported: use bash, sh, python, or a template that has {{0}}")]
    Unsupported { name: String },
    #[error(
        "Invalid shell option. Shell must be a valid built-in (bash, sh, python) or a format string containing '{{0}}', but is `{text}`"
    )]
    NoPlaceholder { text: String },
}

impl Shell {
    /// The shell that `shell:` names; without one, bash if it is there, else sh.
    pub(crate) fn parse(text: Option<&str>, has_bash: bool) -> Result<Self, ShellError> {
        let built_in = |program: &str, args: &[&str], extension| Self {
            program: program.to_owned(),
            fallback: None,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            extension,
        };
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(built_in(if has_bash { "bash" } else { "sh" }, &["-e", "{0}"], ".sh"));
        };
        match text.to_ascii_lowercase().as_str() {
            "bash" => {
                let args = ["--noprofile", "--norc", "-e", "-o", "pipefail", "{0}"];
                return Ok(built_in("bash", &args, ".sh"));
            }
            "sh" => return Ok(built_in("sh", &["-e", "{0}"], ".sh")),
            "python" => {
                // Debian has no `python` unless it is asked for.
                let python = built_in("python", &["{0}"], ".py");
                return Ok(Self { fallback: Some("python3"), ..python });
            }
            name @ ("pwsh" | "powershell" | "cmd") => {
                return Err(ShellError::Unsupported { name: name.to_owned() });
            }
            _ => {}
        }
        if !text.contains("{0}") {
            return Err(ShellError::NoPlaceholder { text: text.to_owned() });
        }
        let mut words = split(text).into_iter();
        let program = words.next().filter(|word| !word.contains("{0}"));
        let Some(program) = program else {
            return Err(ShellError::NoPlaceholder { text: text.to_owned() });
        };
        Ok(Self { program, fallback: None, args: words.collect(), extension: "" })
    }

    /// The arguments with the script's path in them.
    pub(crate) fn args(&self, script: &Path) -> Vec<OsString> {
        let path = script.to_string_lossy();
        self.args.iter().map(|arg| arg.replace("{0}", &path).into()).collect()
    }

    /// The line of the step's header, `program` being where it was found.
    pub(crate) fn describe(&self, program: &Path) -> String {
        let mut text = program.display().to_string();
        for arg in &self.args {
            text.push(' ');
            text.push_str(arg);
        }
        text
    }
}

/// Splits a template at blanks; double quotes keep them.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut any) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

/// Finds a program in the folders of a `PATH`; a name with a slash is a path already.
pub(crate) fn find(program: &str, path: &str, folder: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program = |path: &Path| {
        let meta = fs_err::metadata(path);
        meta.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(folder.join(program)).filter(|path| is_program(path));
    }
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: Option<&str>, has_bash: bool, want: &str, extension: &str) {
        let shell = Shell::parse(text, has_bash).unwrap();
        let program = PathBuf::from(&shell.program);
        assert_eq!((shell.describe(&program).as_str(), shell.extension), (want, extension));
    }

    #[test]
    fn shells_have_their_command_lines() {
        check(None, true, "bash -e {0}", ".sh");
        check(None, false, "sh -e {0}", ".sh");
        check(Some(" Bash "), true, "bash --noprofile --norc -e -o pipefail {0}", ".sh");
        check(Some("sh"), true, "sh -e {0}", ".sh");
        check(Some("python"), true, "python {0}", ".py");
        check(Some("bash -x {0}"), true, "bash -x {0}", "");
    }

    #[test]
    fn only_python_has_another_name() {
        let fallback = |name| Shell::parse(Some(name), true).unwrap().fallback;
        assert_eq!(fallback("python"), Some("python3"));
        assert_eq!((fallback("bash"), fallback("python {0}")), (None, None));
    }

    #[test]
    fn quotes_keep_blanks() {
        let shell = Shell::parse(Some(r#"env "A=b c" "" sh {0}"#), true).unwrap();
        assert_eq!(shell.args, ["A=b c", "", "sh", "{0}"]);
        let args = shell.args(Path::new("/t/x y"));
        assert_eq!(args, ["A=b c", "", "sh", "/t/x y"]);
    }

    #[test]
    fn other_shells_are_refused() {
        for name in ["pwsh", "powershell", "cmd"] {
            let want = ShellError::Unsupported { name: name.to_owned() };
            assert_eq!(Shell::parse(Some(name), true), Err(want));
        }
        for text in ["zsh", "{0}"] {
            let want = ShellError::NoPlaceholder { text: text.to_owned() };
            assert_eq!(Shell::parse(Some(text), true), Err(want));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_shell_is_read_without_panic(text in "[ -~]{0,20}([{]0[}])?[\"' \\\\a-z]{0,8}") {
            if let Ok(shell) = Shell::parse(Some(&text), true) {
                let args = shell.args(Path::new("/script"));
                // A script that is not named would not run: it would be read from nowhere.
                let named = |arg: &OsString| arg.to_string_lossy().contains("/script");
                proptest::prop_assert!(args.iter().any(named), "{args:?}");
            }
        }
    }
}
