//! Formats of images: the files they are made of.

use std::io::Read as _;

use sekisho_dockerfile::ignore::Ignore;
use sekisho_dockerfile::{MAX_DOCKERFILE_BYTES, parse};
use sekisho_oci::layer::{self, Entry, Limits};

use super::{lines, text, texts};
use crate::{Target, files, repository};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "dockerfile",
        reads: "a Dockerfile",
        holds: "errors have a place in the file, twenty at most; instructions stand in its order",
        seeds: || {
            let folder = repository().join("crates/sekisho-builder/tests/language");
            let mut seeds = files(&folder).unwrap_or_default();
            seeds
                .push(b"# syntax=docker/dockerfile:1\nFROM scratch AS a\nRUN <<E\nx\nE\n".to_vec());
            seeds
        },
        words: &[
            "FROM ",
            " AS ",
            "RUN ",
            "COPY --from=",
            "ADD ",
            "ARG ",
            "ENV A=",
            "<<EOF\n",
            "EOF\n",
            "--mount=type=",
            "cache,target=/x",
            "secret,id=",
            "# escape=`\n",
            "# syntax=",
            "\\\n",
            "`\n",
            "${A:-",
            "}",
            "$",
            "[\"",
            "\"]",
            "HEALTHCHECK --interval=",
            "ONBUILD ",
            "SHELL ",
            "--chown=",
            "--chmod=",
            "\r\n",
            "\u{feff}",
        ],
        cost: 1,
        run: dockerfile,
    },
    Target {
        name: "dockerignore",
        reads: "a `.dockerignore`, and a path",
        holds: "a folder that can be skipped has nothing that is kept",
        seeds: || texts(&["*.log\n!keep.log\n# c\n/a/**\0a/b", "**/x?[a-c]\n!**/xya\0d/xya"]),
        words: &["**", "*", "?", "[", "]", "!", "/", "\\", "#", "\n", "..", "\0"],
        cost: 5,
        run: dockerignore,
    },
    Target {
        name: "layer",
        reads: "a layer: tar, plain or compressed",
        holds: "paths are relative and stay inside; sizes, names and entries keep their limits; data is as long as its entry says",
        seeds: layers,
        words: &[
            "ustar\0",
            "././@LongLink",
            "PaxHeaders",
            "30 mtime=1700000000.000000000\n",
            "12 path=a/b\n",
            "../",
            "/etc/passwd",
            ".wh.",
            ".wh..wh..opq",
            "GNU.sparse.size=",
            "SCHILY.xattr.user.a=",
            "00000000000\0",
            "\0\0\0\0\0\0\0\0",
        ],
        cost: 1,
        run: layer,
    },
];

fn dockerfile(input: &[u8]) {
    let text = text(input);
    match parse("Dockerfile", &text) {
        Ok(file) => {
            assert!(text.len() <= MAX_DOCKERFILE_BYTES);
            let spans = file.stages.iter().flat_map(|stage| &stage.instructions);
            let mut last = 0;
            for span in spans.map(|instruction| instruction.span) {
                assert!(
                    span.line >= 1 && span.column >= 1 && span.end_line >= span.line,
                    "{span:?}"
                );
                assert!(span.line > last && span.end_line as usize <= lines(&text), "{span:?}");
                last = span.end_line;
            }
        }
        Err(problems) => {
            assert!((1..=20).contains(&problems.len()), "{} problems", problems.len());
            for problem in problems {
                assert!(problem.line >= 1 && problem.line as usize <= lines(&text), "{problem}");
                assert!(problem.column >= 1 && !problem.message.is_empty(), "{problem}");
            }
        }
    }
}

fn dockerignore(input: &[u8]) {
    let [patterns, path] = super::parts::<2>(input);
    let (patterns, path) = (text(patterns), text(path));
    // Paths of a context are never anything else.
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    // Each of a path's folders is held against the patterns with all of its own: few are enough.
    if !path.split('/').all(plain) || path.split('/').count() > 40 {
        return;
    }
    let Ok(ignore) = Ignore::parse(&patterns) else { return };
    let ignored = ignore.is_ignored(&path);
    let mut parents = path.match_indices('/').map(|(at, _)| &path[..at]);
    if parents.any(|parent| ignore.can_skip(parent)) {
        assert!(ignored, "{path} is kept in a folder that can be skipped");
    }
}

fn layers() -> Vec<Vec<u8>> {
    let mut writer = layer::Writer::new(Vec::new());
    let entries =
        [Entry::directory("etc"), Entry::file("etc/a", 5), Entry::file("x".repeat(180), 0)];
    for entry in entries {
        let data = if entry.size() > 0 { &b"hello"[..] } else { b"" };
        let _ = writer.append_data(&entry, &mut { data });
    }
    let plain = writer.finish().unwrap_or_default();
    let mut seeds = vec![plain, Vec::new()];
    seeds.extend(sekisho_builder::fuzzing::archive_seeds());
    seeds
}

fn layer(input: &[u8]) {
    let limits = Limits { total_bytes: 4 * 1024 * 1024, entries: 5_000, ..Limits::default() };
    let mut count = 0;
    let summary = layer::read(input, &limits, &mut |entry, data| {
        count += 1;
        assert!(entry.path.len() <= limits.path_bytes && !entry.path.starts_with(b"/"));
        assert!(entry.path.split(|byte| *byte == b'/').all(|part| part != b".."));
        let mut content = Vec::new();
        data.take(limits.total_bytes).read_to_end(&mut content)?;
        assert_eq!(content.len() as u64, entry.size());
        Ok(())
    });
    if let Ok(summary) = summary {
        assert_eq!(summary.entries, count);
        assert!(summary.bytes <= limits.total_bytes);
    }
}
