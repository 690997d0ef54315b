//! Workflow commands: lines of a step's output that speak to the runner.
//!
//! ```text
//! ::name key=value,key=value::message      at the start of a line
//! ##[name key=value;key=value]message      the old form, anywhere in a line
//! ```

/// Longest line in which a command is looked for, in bytes.
pub(crate) const MAX_COMMAND_LEN: usize = 1024 * 1024;

/// A command, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// In lower case.
    pub(crate) name: String,
    /// Keys in lower case; empty values are left out.
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) message: String,
}

impl Command {
    /// The value of a property.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Reads either form; `None` when the line is not a command.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // Almost no line is one, and there may be a million of them.
        let bytes = line.as_bytes();
        if memchr::memchr2(b':', b'#', bytes).is_none_or(|at| bytes.get(at + 1).is_none()) {
            return None;
        }
        if line.len() > MAX_COMMAND_LEN {
            return None;
        }
        Self::parse_new(line).or_else(|| Self::parse_old(line))
    }

    fn parse_new(line: &str) -> Option<Self> {
        let rest = line.trim_start().strip_prefix("::")?;
        let (head, message) = rest.split_once("::")?;
        Self::build(head, ',', message, unescape_new_property, unescape_message)
    }

    fn parse_old(line: &str) -> Option<Self> {
        let start = line.find("##[")?;
        let (head, message) = line[start + 3..].split_once(']')?;
        Self::build(head, ';', message, unescape_old, unescape_old)
    }

    fn build(
        head: &str,
        separator: char,
        message: &str,
        unescape_property: fn(&str) -> String,
        unescape_message: fn(&str) -> String,
    ) -> Option<Self> {
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(word) {
            return None;
        }
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            let key = key.trim().to_ascii_lowercase();
            let value = unescape_property(value);
            (!key.is_empty() && !value.is_empty()).then_some((key, value))
        };
        Some(Self {
            name: name.to_ascii_lowercase(),
            properties: properties.split(separator).filter_map(pair).collect(),
            message: unescape_message(message),
        })
    }
}

/// Escapes in order of their undoing: `%25` last, or `%250A` would become a line end.
fn unescape(text: &str, table: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (escaped, plain) in table {
        if text.contains(escaped) {
            text = text.replace(escaped, plain);
        }
    }
    text
}

fn unescape_message(text: &str) -> String {
    unescape(text, &[("%0D", "\r"), ("%0A", "\n"), ("%25", "%")])
}

fn unescape_new_property(text: &str) -> String {
    unescape(text, &[("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")])
}

fn unescape_old(text: &str) -> String {
    unescape(text, &[("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%")])
}

/// Whether `token` may end a `stop-commands`: one that output could hold by chance may not.
pub(crate) fn is_stop_token(token: &str) -> bool {
    let known = ["pause-logging", "stop-commands"];
    let is_name = known.iter().chain(&NAMES).any(|name| name.eq_ignore_ascii_case(token));
    !token.trim().is_empty() && !is_name
}

/// All commands that exist; a line with another name is ordinary output.
pub(crate) const NAMES: [&str; 17] = [
    "debug",
    "notice",
    "warning",
    "error",
    "group",
    "endgroup",
    "add-mask",
    "add-matcher",
    "remove-matcher",
    "echo",
    "stop-commands",
    "set-output",
    "save-state",
    "set-env",
    "add-path",
    "internal-set-repo-path",
    "add-artifact",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(name: &str, properties: &[(&str, &str)], message: &str) -> Option<Command> {
        let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        Some(Command {
            name: name.to_owned(),
            properties: properties.iter().map(pair).collect(),
            message: message.to_owned(),
        })
    }

    #[test]
    fn both_forms_are_read() {
        let table = [
            ("::warning::m", command("warning", &[], "m")),
            (
                "  ::Error File=a.c,line=3,title=::m::n",
                command("error", &[("file", "a.c"), ("line", "3")], "m::n"),
            ),
            (
                "::notice title=a%3Ab%2Cc%25::x%0Ay%250A",
                command("notice", &[("title", "a:b,c%")], "x\ny%0A"),
            ),
            ("::endgroup::", command("endgroup", &[], "")),
            ("text ##[warning a=1;b=2]m%5D", command("warning", &[("a", "1"), ("b", "2")], "m]")),
            ("::", None),
            ("::::", None),
            ("::warning", None),
            ("text ::warning::m", None),
            ("##[]x", None),
            ("std::vec::Vec", None),
            ("::a b\u{e9}::", command("a", &[], "")),
        ];
        for (line, want) in table {
            assert_eq!(Command::parse(line), want, "{line}");
        }
    }

    #[test]
    fn stop_tokens_that_output_could_hold_are_refused() {
        for token in ["", " ", "pause-logging", "Error", "stop-commands"] {
            assert!(!is_stop_token(token), "{token}");
        }
        assert!(is_stop_token("3f0c"));
    }

    proptest! {
        #[test]
        fn a_message_comes_back(message in ".{0,60}") {
            let escaped =
                message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
            let read = Command::parse(&format!("::debug::{escaped}")).unwrap();
            prop_assert_eq!(read.message, message);
        }

        #[test]
        fn any_line_is_read_without_panic(line in "(::|##\\[)?.{0,60}") {
            let _ = Command::parse(&line);
        }
    }
}
