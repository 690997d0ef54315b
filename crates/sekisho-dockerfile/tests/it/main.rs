//! The corpus: whole files, good and bad.
//!
//! A good one says the names of its stages in a line `# stages:`, a bad one its first mistake in a
//! line `# mistake:`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use sekisho_dockerfile::{parse, scope};

fn files(kind: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn said<'a>(text: &'a str, what: &str) -> &'a str {
    let start = format!("# {what}: ");
    text.lines().find_map(|line| line.strip_prefix(start.as_str())).unwrap()
}

#[test]
fn good_files_are_read() {
    for (path, text) in files("good") {
        let file = parse("Dockerfile", &text)
            .unwrap_or_else(|mistakes| panic!("{}: {}", path.display(), mistakes[0]));
        let names: Vec<_> =
            file.stages.iter().map(|stage| stage.name.as_deref().unwrap_or("-")).collect();
        assert_eq!(names.join(", "), said(&text, "stages").to_lowercase(), "{}", path.display());
        // Every instruction stands where its span says.
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            let line = text.lines().nth(instruction.span.line as usize - 1).unwrap();
            let at: String = line.chars().skip(instruction.span.column as usize - 1).collect();
            let name = instruction.node.name();
            assert!(at.to_ascii_uppercase().starts_with(name), "{}: {at}", path.display());
            assert!(instruction.span.end_line >= instruction.span.line);
        }
        let platform = [("BUILDPLATFORM".to_owned(), "linux/amd64".to_owned())].into();
        let globals = scope::globals(&file, &scope::BuildArgs::new(), &platform).unwrap();
        let lookup = |name: &str| globals.get(name).cloned();
        let graph = sekisho_dockerfile::graph::order(&file, None, &lookup, &Default::default())
            .unwrap_or_else(|mistake| panic!("{}: {mistake}", path.display()));
        assert_eq!(graph.order.last(), Some(&graph.target));
    }
}

#[test]
fn bad_files_are_refused_with_the_place() {
    for (path, text) in files("bad") {
        let mistakes = parse("Dockerfile", &text).unwrap_err();
        let first = &mistakes[0];
        let seen = format!("{}:{} {}", first.line, first.column, first.message);
        assert_eq!(seen, said(&text, "mistake"), "{}", path.display());
    }
}

/// Also when they are cut, doubled or mixed.
#[test]
fn no_part_of_the_corpus_panics() {
    for (_, text) in files("good").into_iter().chain(files("bad")) {
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = parse("Dockerfile", &text[..end]);
            let _ = parse("Dockerfile", &text[end..]);
        }
    }
}
