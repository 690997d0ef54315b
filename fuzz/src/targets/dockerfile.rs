//! Parts of the Dockerfile's language, by what they must mean.

use sekisho_dockerfile::expand::{expand, expand_words, unset};
use sekisho_dockerfile::{Dockerfile, Instruction, Source, parse};

use super::{must, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "heredocs",
        reads: "the text of a here-document, in a COPY and in a RUN",
        holds: "it is read as it stands, to its end, and what follows is an instruction again",
        seeds: || texts(&["#!/bin/sh\necho $A \\\n  b\n", "\ta\n\t\tb\n", "x <<F\n", ""]),
        words: &[
            "E\n", "\tE\n", "<<E", "<<-E", "\\\n", "\n", "$A", "${A}", "'", "\"", "\t", "#",
            "RUN x\n",
        ],
        cost: 1,
        run: heredocs,
    },
    Target {
        name: "mount-options",
        reads: "the value of a RUN's `--mount`",
        holds: "what is read is kept as it stands, and says where it is mounted unless it need not",
        seeds: || {
            texts(&[
                "type=cache,id=a,target=/x,sharing=locked,mode=0755,uid=1",
                "type=secret,id=a,env=B,required",
                "type=bind,from=a,src=/b,dst=/c,ro=false",
                "type=tmpfs,target=/t,size=10m",
                "type=ssh",
            ])
        },
        words: &[
            "type=",
            "bind",
            "cache",
            "secret",
            "ssh",
            "tmpfs",
            ",",
            "=",
            "target=/x",
            "id=",
            "from=",
            "$A",
            "${A:-",
            "\"",
            "size=",
            "g",
            "readonly",
            "sharing=private",
            "mode=",
        ],
        cost: 1,
        run: mounts,
    },
    Target {
        name: "expansion",
        reads: "a word of a Dockerfile with variables in it",
        holds: "plain text is itself; what all variables are known of lacks none; the same gives the same",
        seeds: || {
            texts(&["${A:-b}c$A", "${A#*.}", "${A//x/y}", "'$A' \"$A\" \\$A", "${A:?no} ${A+x}"])
        },
        words: &[
            "${",
            "}",
            "$A",
            ":-",
            ":+",
            ":?",
            "#",
            "##",
            "%",
            "%%",
            "/",
            "//",
            "'",
            "\"",
            "\\",
            "*",
            "?",
            "[a-z]",
            "${A:-${A:-",
            " ",
        ],
        cost: 2,
        run: expansion,
    },
];

/// The file with one stage, or why there is none.
fn read(text: &str) -> Option<Dockerfile> {
    parse("Dockerfile", text).ok()
}

fn heredocs(input: &[u8]) {
    let body = text(input).replace('\r', "");
    let body = if body.is_empty() || body.ends_with('\n') { body } else { body + "\n" };
    let ends = body.lines().any(|line| line == "EOF");
    for (mark, is_raw) in [("<<EOF", false), ("<<'EOF'", true)] {
        let file = format!("FROM a\nCOPY {mark} /x/\n{body}EOF\nRUN {mark}\n{body}EOF\nUSER me\n");
        let Some(file) = read(&file).filter(|_| !ends) else {
            assert!(
                ends || file.len() > sekisho_dockerfile::MAX_DOCKERFILE_BYTES
                    || body.contains('\0'),
                "{file}"
            );
            continue;
        };
        let stage = must(file.stages.first().ok_or("none"), "there is a stage");
        let [copy, run, user] = stage.instructions.as_slice() else {
            unreachable_here(&format!("{:?}", stage.instructions))
        };
        assert!(matches!(user.node, Instruction::User(_)));
        let Instruction::Copy(copied) = &copy.node else { return };
        assert!(matches!(copied.sources.as_slice(), [Source::Heredoc(_)]));
        for instruction in [copy, run] {
            let heredocs = instruction.node.heredocs();
            let [one] = heredocs.as_slice() else { unreachable_here("it has one text") };
            assert_eq!((one.content.as_str(), one.expand), (body.as_str(), !is_raw));
        }
    }
}

#[track_caller]
#[expect(clippy::panic, reason = "so a target says that something does not hold")]
fn unreachable_here(what: &str) -> ! {
    panic!("{what}")
}

fn mounts(input: &[u8]) {
    let value = text(input);
    if value.contains(|c: char| c.is_whitespace() || c.is_control() || "\\'\"".contains(c)) {
        return;
    }
    let Some(file) = read(&format!("FROM a\nRUN --mount={value} true\n")) else { return };
    let instruction = file.stages.first().and_then(|stage| stage.instructions.first());
    let Some(Instruction::Run(run)) = instruction.map(|it| &it.node) else { return };
    let [mount] = run.mounts.as_slice() else { unreachable_here("it has one mount") };
    assert_eq!(mount.raw, value);
    let (target, env) = (mount.target.is_some(), value.contains("env="));
    let named = value.contains("type=secret") || value.contains("type=ssh") || env;
    assert!(target || named || value.to_ascii_lowercase().contains("type"), "{value}");
}

fn expansion(input: &[u8]) {
    let raw = text(input);
    let known = |_: &str| Some("v.w".to_owned());
    let first = expand(&raw, '\\', &known);
    assert_eq!(expand(&raw, '\\', &known), first);
    if !raw.contains(['$', '\\', '\'', '"']) {
        assert_eq!(first.as_deref(), Ok(&*raw));
    }
    assert_eq!(unset(&raw, '\\', &known), Vec::<String>::new());
    if let Ok(words) = expand_words(&raw, '\\', &known) {
        let length: usize = words.iter().map(String::len).sum();
        assert!(first.is_ok_and(|whole| length <= whole.len()), "{words:?}");
    }
    let nothing = |_: &str| None;
    for name in unset(&raw, '\\', &nothing) {
        assert!(raw.contains(&name) && !name.is_empty(), "{name}");
    }
}
