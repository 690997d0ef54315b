//! What the fuzz targets of `fuzz/` call, for they are not of this crate: no interface of it.
//!
//! Each function takes any bytes, and panics when something does not hold.

use std::path::{Component, Path};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::command::{Command, is_stop_token};
use crate::file_command::{parse_env, parse_pairs, parse_path};
use crate::hash_files::hash_files;
use crate::log::LineBuffer;
use crate::manifest::Manifest;
use crate::mask::Masker;
use crate::matcher::{self, Matchers};
use crate::remote::{repository_folder, unpack};
use crate::shell::Shell;
use crate::spec::{Work, uses};

/// Lines of a step's output.
pub fn workflow_command(input: &[u8]) {
    for line in String::from_utf8_lossy(input).split('\n') {
        let _ = is_stop_token(line);
        let Some(command) = Command::parse(line) else { continue };
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        assert!(!command.name.is_empty() && command.name.chars().all(word), "{}", command.name);
        assert!(command.properties.iter().all(|(key, value)| !key.is_empty() && !value.is_empty()));
        let escaped = command.message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let again = Command::parse(&format!("::{}::{escaped}", command.name));
        assert_eq!(again.map(|again| again.message), Some(command.message));
    }
}

/// The files that `GITHUB_ENV` and its like name.
pub fn file_commands(input: &[u8]) {
    const END: &str = "an_end_that_is_in_no_value";
    if let Ok(pairs) = parse_pairs(input) {
        // What a value in this form cannot say: that it ends with CR.
        let can_say = |(name, value): &(String, String)| {
            !name.ends_with('<') && !value.ends_with('\r') && !value.contains(END)
        };
        assert!(pairs.iter().all(|(name, _)| !name.is_empty() && !name.contains('\n')));
        let pairs: Vec<_> = pairs.into_iter().filter(can_say).collect();
        let mut written = "\n".to_owned();
        for (name, value) in &pairs {
            written.push_str(&format!("{name}<<{END}\n{value}\n{END}\n"));
        }
        assert_eq!(parse_pairs(written.as_bytes()), Ok(pairs));
    }
    if let Ok(pairs) = parse_env(input) {
        assert!(pairs.iter().all(|(name, _)| !name.eq_ignore_ascii_case("NODE_OPTIONS")));
    }
    if let Ok(folders) = parse_path(input) {
        assert!(folders.iter().all(|folder| !folder.is_empty() && !folder.contains('\n')));
    }
}

/// A file of problem matchers; after a NUL, lines that they look at.
pub fn problem_matcher(input: &[u8]) {
    const LINES: usize = 20;
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (config, lines) = input.split_at(at);
    let owners = matcher::owners(config);
    let Ok(found) = matcher::parse(config) else { return };
    assert_eq!(owners.map(|owners| owners.len()), Ok(found.len()));
    let mut matchers = Matchers::default();
    for matcher in found {
        assert_eq!(matchers.add(matcher), Ok(()));
    }
    let text = String::from_utf8_lossy(lines);
    for line in text.lines().take(LINES) {
        let Some(found) = matchers.look(line).found else { continue };
        for field in [found.file, found.line, found.column, found.code, found.message] {
            assert!(field.len() <= text.len(), "{field}");
        }
    }
}

/// A secret; after a NUL, text that is masked.
pub fn mask(input: &[u8]) {
    let input = String::from_utf8_lossy(input);
    let (secret, text) = input.split_once('\0').unwrap_or((&input, ""));
    let mut masker = Masker::default();
    // What replaces a secret must not be one.
    if secret.trim().is_empty() || secret.contains('*') || masker.add(secret).is_err() {
        return;
    }
    let encoded = STANDARD_NO_PAD.encode(secret);
    let json = serde_json::Value::from(secret);
    for text in [text.to_owned(), format!("{text}{secret}{text}"), format!("{encoded} {json}")] {
        let masked = masker.mask(&text);
        assert!(!masked.contains(secret) && !masker.finds(&masked), "{masked}");
        assert_eq!(masker.finds(&text), masked != text);
        // Three bytes and less have no form that says enough.
        assert!(encoded.len() < 4 || !masked.contains(&encoded), "{masked}");
    }
}

/// A step's output.
pub fn log_lines(input: &[u8]) {
    let mut first = None;
    for size in [input.len(), 1, 3, 7] {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for piece in input.chunks(size.max(1)) {
            buffer.push(piece);
            while let Some(line) = buffer.next_line(0, |_| Vec::new()) {
                lines.push(line.text.into_owned());
            }
        }
        assert_eq!(lines.len(), input.iter().filter(|byte| **byte == b'\n').count());
        lines.extend(buffer.last_line().map(|line| line.text.into_owned()));
        let first = first.get_or_insert_with(|| lines.clone());
        assert_eq!(*first, lines, "in pieces of {size}");
    }
}

/// An `action.yml`.
pub fn action_manifest(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Err(error) = Manifest::parse(&text) else { return };
    let error = error.to_string();
    let mut parts = error.splitn(3, ':').map(str::trim);
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<usize>().ok());
    let (line, column) = (number(parts.next()), number(parts.next()));
    // YAML's line ends, and the line after the last.
    let lines = text.split(['\n', '\r']).count() + 1;
    assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{error}");
    assert!(column.is_some_and(|column| column >= 1), "{error}");
    assert!(parts.next().is_some_and(|message| !message.is_empty()), "{error}");
}

/// Archives of actions, as tar.
pub fn action_archives() -> Vec<Vec<u8>> {
    let mut archives = Vec::new();
    for (kind, target) in [(tar::EntryType::Regular, ""), (tar::EntryType::Symlink, "../x")] {
        let mut builder = tar::Builder::new(Vec::new());
        for path in ["r-1/action.yml", "r-1/dist/index.js"] {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_entry_type(kind);
            header.set_size(u64::from(target.is_empty()));
            let _ = header.set_path(path);
            if !target.is_empty() {
                let _ = header.set_link_name(target);
            }
            header.set_cksum();
            let data: &[u8] = if target.is_empty() { b"x" } else { b"" };
            let _ = builder.append(&header, data);
        }
        archives.extend(builder.into_inner());
    }
    archives
}

/// An archive of an action: compressed, or the tar in it.
pub fn action_archive(input: &[u8]) {
    let mut packed = input.to_vec();
    if !input.starts_with(b"\x1f\x8b") {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let written = std::io::Write::write_all(&mut gzip, input);
        let Ok(bytes) = written.and_then(|()| gzip.finish()) else { return };
        packed = bytes;
    }
    let Ok(temp) = tempfile::tempdir() else { return };
    let _ = unpack(packed.as_slice(), &temp.path().join("deep/er/action"));
    let mut folder = temp.path().to_owned();
    for name in ["deep", "er", "action"] {
        let Ok(entries) = fs_err::read_dir(&folder) else { return };
        let inside: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(inside, [name], "in {}", folder.display());
        folder.push(name);
    }
}

/// `shell:`, `uses:`, a pattern of `hashFiles()`.
pub fn step_texts(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(shell) = Shell::parse(Some(&text), true) {
        assert!(shell.args.iter().any(|arg| arg.contains("{0}")), "{shell:?}");
    }
    if let Ok((Work::Remote(request), _)) = uses(&text)
        && let Ok(folder) = repository_folder(Path::new("/actions"), &request)
    {
        let rest = folder.strip_prefix("/actions").unwrap_or(Path::new("/"));
        let inside = rest.components().all(|part| matches!(part, Component::Normal(_)));
        assert!(inside && rest.components().count() >= 3, "{}", folder.display());
    }
    // Nothing is there, so nothing matches.
    if let Ok(hash) = hash_files(Path::new("/nonexistent"), &[text.into_owned()]) {
        assert_eq!(hash, "");
    }
}
