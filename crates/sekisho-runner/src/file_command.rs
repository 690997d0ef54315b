//! File commands: what a step writes into the files that `GITHUB_ENV`, `GITHUB_OUTPUT`,
//! `GITHUB_STATE`, `GITHUB_PATH` and `GITHUB_STEP_SUMMARY` name.
//!
//! ```text
//! NAME=VALUE            the rest of the line, verbatim
//! NAME<<DELIMITER       the lines up to one that is exactly DELIMITER
//! ```

/// Largest file of each kind, in bytes. Outputs of a whole job are limited to 1 MiB anyway.
pub(crate) const MAX_FILE_LEN: u64 = 8 * 1024 * 1024;
/// Largest summary, in bytes.
pub(crate) const MAX_SUMMARY_LEN: u64 = 1024 * 1024;
/// Most entries of one file.
const MAX_ENTRIES: usize = 10_000;

/// Why a file cannot be used; the step fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileCommandError {
    #[error("Invalid format '{line}'")]
    NoSeparator { line: String },
    #[error("Invalid format '{line}'. Name must not be empty")]
    EmptyName { line: String },
    #[error("Invalid format '{line}'. Delimiter must not be empty")]
    EmptyDelimiter { line: String },
    #[error("Invalid value. Matching delimiter not found '{delimiter}'")]
    Unterminated { delimiter: String },
    #[error("Can't store {name} output parameter using '$GITHUB_ENV' command.")]
    Blocked { name: String },
    #[error("The file is not valid UTF-8")]
    NotUtf8,
    #[error("The file has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// Reads names and values, in order; a later duplicate wins, which is for the caller to do.
pub(crate) fn parse_pairs(bytes: &[u8]) -> Result<Vec<(String, String)>, FileCommandError> {
    let mut rest = text(bytes)?;
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (line, after) = take_line(rest);
        rest = after;
        if line.is_empty() {
            continue;
        }
        if pairs.len() >= MAX_ENTRIES {
            return Err(FileCommandError::TooMany);
        }
        let pair = match (line.find('='), line.find("<<")) {
            (Some(equals), heredoc) if heredoc.is_none_or(|h| equals < h) => {
                let name = &line[..equals];
                if name.is_empty() {
                    return Err(FileCommandError::EmptyName { line: shorten(line) });
                }
                (name.to_owned(), line[equals + 1..].to_owned())
            }
            (_, Some(heredoc)) => {
                let (name, delimiter) = (&line[..heredoc], &line[heredoc + 2..]);
                if name.is_empty() {
                    return Err(FileCommandError::EmptyName { line: shorten(line) });
                }
                if delimiter.is_empty() {
                    return Err(FileCommandError::EmptyDelimiter { line: shorten(line) });
                }
                let (value, after) = take_heredoc(rest, delimiter)?;
                rest = after;
                (name.to_owned(), value.to_owned())
            }
            _ => return Err(FileCommandError::NoSeparator { line: shorten(line) }),
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Reads `GITHUB_ENV`: pairs, without names that would change how the runner's own tools behave.
pub(crate) fn parse_env(bytes: &[u8]) -> Result<Vec<(String, String)>, FileCommandError> {
    let pairs = parse_pairs(bytes)?;
    match pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case("NODE_OPTIONS")) {
        Some((name, _)) => Err(FileCommandError::Blocked { name: name.clone() }),
        None => Ok(pairs),
    }
}

/// Reads `GITHUB_PATH`: one folder per line.
pub(crate) fn parse_path(bytes: &[u8]) -> Result<Vec<String>, FileCommandError> {
    let mut rest = text(bytes)?;
    let mut folders = Vec::new();
    while !rest.is_empty() {
        let (line, after) = take_line(rest);
        rest = after;
        if folders.len() >= MAX_ENTRIES {
            return Err(FileCommandError::TooMany);
        }
        if !line.is_empty() {
            folders.push(line.to_owned());
        }
    }
    Ok(folders)
}

fn text(bytes: &[u8]) -> Result<&str, FileCommandError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| FileCommandError::NotUtf8)
}

/// A line without its end, LF or CRLF, and what follows.
fn take_line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

/// The raw text up to the line that is the delimiter, without its last line end.
fn take_heredoc<'t>(
    text: &'t str,
    delimiter: &str,
) -> Result<(&'t str, &'t str), FileCommandError> {
    let mut at = 0;
    while at < text.len() {
        let (line, rest) = take_line(&text[at..]);
        if line == delimiter {
            let value = &text[..at];
            let value = value.strip_suffix('\n').unwrap_or(value);
            return Ok((value.strip_suffix('\r').unwrap_or(value), rest));
        }
        at = text.len() - rest.len();
    }
    Err(FileCommandError::Unterminated { delimiter: shorten(delimiter) })
}

/// Enough of a line to find it again.
fn shorten(line: &str) -> String {
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[(&str, &str)]) {
        let got = parse_pairs(text.as_bytes()).unwrap();
        let got: Vec<(&str, &str)> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn pairs_are_read() {
        check("", &[]);
        check("a=1\n\nb= 2 =3 \n", &[("a", "1"), ("b", " 2 =3 ")]);
        check("\u{feff}a=\nb=x<<y", &[("a", ""), ("b", "x<<y")]);
        check("a=1\r\nb<<E\r\nx\r\ny\r\nE\r\nc=3", &[("a", "1"), ("b", "x\r\ny"), ("c", "3")]);
        check("a<<E\nE\nb<<E\n\nE\n", &[("a", ""), ("b", "")]);
        check("a<<E=F\n E\nE=F", &[("a", " E")]);
        check("a=1\na=2", &[("a", "1"), ("a", "2")]);
    }

    #[test]
    fn wrong_files_are_refused() {
        let line = |text: &str| text.to_owned();
        for (text, want) in [
            ("word", FileCommandError::NoSeparator { line: line("word") }),
            ("=x", FileCommandError::EmptyName { line: line("=x") }),
            ("<<E\nE\n", FileCommandError::EmptyName { line: line("<<E") }),
            ("a<<\n\n", FileCommandError::EmptyDelimiter { line: line("a<<") }),
            ("a<<E\nx\n", FileCommandError::Unterminated { delimiter: line("E") }),
            ("a<<E\nxE", FileCommandError::Unterminated { delimiter: line("E") }),
        ] {
            assert_eq!(parse_pairs(text.as_bytes()), Err(want), "{text}");
        }
        assert_eq!(parse_pairs(b"a=\xff"), Err(FileCommandError::NotUtf8));
        let blocked = FileCommandError::Blocked { name: line("node_OPTIONS") };
        assert_eq!(parse_env(b"node_OPTIONS=x"), Err(blocked));
    }

    #[test]
    fn folders_are_read() {
        let want = vec![" /a b ".to_owned(), "/c".to_owned()];
        assert_eq!(parse_path(b"\n /a b \r\n\n/c"), Ok(want));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            pairs in proptest::collection::vec(("[a-zA-Z_]{1,8}", "[^\r]{0,40}"), 0..6),
        ) {
            let mut file = String::new();
            for (name, value) in &pairs {
                file.push_str(&format!("{name}<<ghadelimiter_7\n{value}\nghadelimiter_7\n"));
            }
            prop_assert_eq!(parse_pairs(file.as_bytes()), Ok(pairs));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_pairs(&bytes);
            let _ = parse_path(&bytes);
        }
    }
}
