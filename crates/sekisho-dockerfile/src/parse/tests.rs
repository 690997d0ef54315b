use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ast::{Command, HealthcheckTest, MountKind, Network, Script, Security, Source};

#[track_caller]
fn file(text: &str) -> Dockerfile {
    parse("Dockerfile", text).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]))
}

/// The only instruction after a FROM.
#[track_caller]
fn one(text: &str) -> Instruction {
    let mut file = file(&format!("FROM scratch\n{text}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1);
    file.stages.remove(0).instructions.remove(0).node
}

fn raws(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.raw.as_str()).collect()
}

#[test]
fn stages_and_global_args() {
    let text = "\u{feff}# syntax=docker/dockerfile:1\n# escape=`\n\nARG A=1 B\nfrom --platform=$P `\n \
                debian:$A as Build\nRUN x\nFROM build\n";
    let file = file(text);
    assert_eq!(file.escape, '`');
    assert_eq!(file.syntax.unwrap().node, "docker/dockerfile:1");
    let args = &file.global_args[0].node;
    assert_eq!((args[0].name.as_str(), args[1].name.as_str()), ("A", "B"));
    assert_eq!(args[0].default.as_ref().unwrap().raw, "1");
    assert_eq!(args[1].default, None);
    let stage = &file.stages[0];
    assert_eq!((stage.name.as_deref(), stage.base.raw.as_str()), (Some("build"), "debian:$A"));
    assert_eq!((stage.base.span.line, stage.base.span.column), (6, 2));
    assert_eq!(stage.platform.as_ref().unwrap().raw, "$P");
    assert_eq!((stage.span.line, stage.span.end_line), (5, 6));
    assert_eq!((file.stages[1].index, file.stages[1].name.as_deref()), (1, None));
    assert_eq!(stage.instructions[0].text, "RUN x");
}

#[test]
fn commands_in_both_forms() {
    let shell = |line: &str| Command::Shell { line: line.to_owned(), heredocs: vec![] };
    let exec = |words: &[&str]| Command::Exec(words.iter().map(|w| (*w).to_owned()).collect());
    assert_eq!(one("CMD a  'b c' $d"), Instruction::Cmd(shell("a  'b c' $d")));
    assert_eq!(one(r#"CMD ["a", "b\n"]"#), Instruction::Cmd(exec(&["a", "b\n"])));
    assert_eq!(one("ENTRYPOINT []"), Instruction::Entrypoint(exec(&[])));
    assert_eq!(one("CMD"), Instruction::Cmd(exec(&[])));
    assert_eq!(one("CMD [ -f x ] && y"), Instruction::Cmd(shell("[ -f x ] && y")));
    assert_eq!(one(r#"SHELL ["a","b"]"#), Instruction::Shell(vec!["a".into(), "b".into()]));
    let slip = file("FROM scratch\nCMD ['a']\n");
    assert_eq!(slip.warnings[0].hint.as_deref(), Some("JSON strings stand in double quotes"));
}

#[test]
fn run_flags() {
    let Instruction::Run(run) =
        one("RUN --mount=type=cache,target=/c --network=none --security=insecure \\\n \
         --mount=type=secret,id=s -- --x y")
    else {
        panic!()
    };
    assert_eq!((run.network, run.security), (Some(Network::None), Some(Security::Insecure)));
    assert!(matches!(run.mounts[0].kind, MountKind::Cache { .. }));
    assert!(matches!(run.mounts[1].kind, MountKind::Secret { .. }));
    assert_eq!((run.mounts[1].span.line, run.mounts[1].span.column), (3, 2));
    assert_eq!(run.command, Command::Shell { line: "--x y".into(), heredocs: vec![] });
}

#[test]
fn run_heredocs_become_scripts() {
    let script = |text: &str| match one(text) {
        Instruction::Run(run) => run.command.script().unwrap(),
        _ => panic!(),
    };
    let shell = |text: &str| Script::Shell(text.to_owned());
    assert_eq!(script("RUN echo a"), shell("echo a"));
    assert_eq!(script("RUN <<EOF\na\nb $c\nEOF"), shell("a\nb $c\n"));
    assert_eq!(
        script("RUN <<EOF\n#!/bin/x\na\nEOF"),
        Script::File { name: "EOF".into(), content: "#!/bin/x\na\n".into() }
    );
    assert_eq!(script("RUN cat <<A 3<<-B\na\nA\n\tb\nB"), shell("cat <<A 3<<-B\na\nA\nb\nB"));
    assert_eq!(script("RUN echo $((1<<2))\n"), shell("echo $((1<<2))"));
    let text = "FROM scratch\nRUN <<EOF\n# no comment\n\nRUN \\\nEOF\nUSER a\n";
    let file = file(text);
    assert_eq!(file.stages[0].instructions.len(), 2);
    assert_eq!(file.stages[0].instructions[0].span.end_line, 6);
    assert_eq!(file.warnings, []);
}

#[test]
fn copy_and_add() {
    let Instruction::Copy(copy) =
        one("COPY --from=build --chown=a:b --chmod=0755 --link --parents=false --exclude=*.o \
         --exclude=x a b /c/")
    else {
        panic!()
    };
    assert_eq!(copy.from.unwrap().raw, "build");
    assert_eq!(copy.chown.unwrap().raw, "a:b");
    assert_eq!(copy.chmod.unwrap().raw, "0755");
    assert_eq!((copy.link, copy.parents), (true, false));
    assert_eq!(raws(&copy.exclude), ["*.o", "x"]);
    assert_eq!(copy.destination.raw, "/c/");
    assert_eq!(copy.sources.len(), 2);
    let Instruction::Copy(copy) = one(r#"COPY ["a b", "c d/"]"#) else { panic!() };
    assert!(matches!(&copy.sources[0], Source::Path(word) if word.raw == "a b"));
    assert_eq!(copy.destination.raw, "c d/");
    let Instruction::Add(add) =
        one("ADD --checksum=sha256:00 --keep-git-dir --unpack=false http://a/b /")
    else {
        panic!()
    };
    assert_eq!((add.checksum.unwrap().raw.as_str(), add.keep_git_dir), ("sha256:00", true));
    assert_eq!(add.unpack, Some(false));
    let Instruction::Copy(copy) = one("COPY <<a x <<-\"b\" /d/\n1\na\n\t2\nb") else { panic!() };
    let Source::Heredoc(first) = &copy.sources[0] else { panic!() };
    let Source::Heredoc(third) = &copy.sources[2] else { panic!() };
    assert_eq!((first.content.as_str(), first.expand), ("1\n", true));
    assert_eq!((third.content.as_str(), third.expand), ("2\n", false));
    assert!(matches!(&copy.sources[1], Source::Path(word) if word.raw == "x"));
}

#[test]
fn pairs_and_lists() {
    let Instruction::Env(pairs) = one(r#"ENV a="b c" d=e\ f g="#) else { panic!() };
    let pairs: Vec<_> = pairs.iter().map(|p| (p.key.raw.as_str(), p.value.raw.as_str())).collect();
    assert_eq!(pairs, [("a", r#""b c""#), ("d", r"e\ f"), ("g", "")]);
    let Instruction::Env(pairs) = one("ENV a  b = c ") else { panic!() };
    assert_eq!((pairs[0].key.raw.as_str(), pairs[0].value.raw.as_str()), ("a", "b = c"));
    let Instruction::Label(pairs) = one(r#"LABEL "a b"=c"#) else { panic!() };
    assert_eq!(pairs[0].key.raw, "\"a b\"");
    let Instruction::Expose(ports) = one("EXPOSE 80 443/tcp $P") else { panic!() };
    assert_eq!(raws(&ports), ["80", "443/tcp", "$P"]);
    let Instruction::Volume(paths) = one(r#"VOLUME ["/a b"]"#) else { panic!() };
    assert_eq!(raws(&paths), ["/a b"]);
    let Instruction::Workdir(path) = one("WORKDIR  /a b ") else { panic!() };
    assert_eq!((path.raw.as_str(), path.span.column), ("/a b", 10));
    let Instruction::Arg(args) = one("ARG a=\"x y\" b") else { panic!() };
    assert_eq!((args[0].default.as_ref().unwrap().raw.as_str(), args.len()), ("\"x y\"", 2));
    assert_eq!(one("MAINTAINER me <m@x>"), Instruction::Maintainer("me <m@x>".into()));
}

#[test]
fn healthcheck_and_onbuild() {
    let Instruction::Healthcheck(check) =
        one("HEALTHCHECK --interval=1m30s --retries=2 CMD [\"a\"]")
    else {
        panic!()
    };
    assert_eq!((check.interval, check.retries), (Some(Duration::from_secs(90)), Some(2)));
    assert_eq!(check.test, HealthcheckTest::Command(Command::Exec(vec!["a".into()])));
    let Instruction::Healthcheck(none) = one("HEALTHCHECK none") else { panic!() };
    assert_eq!(none.test, HealthcheckTest::None);
    let Instruction::Onbuild(inner) = one("ONBUILD  COPY --link a /b") else { panic!() };
    assert_eq!((inner.node.name(), inner.text.as_str()), ("COPY", "COPY --link a /b"));
    assert_eq!(inner.span.column, 10);
    let Instruction::Onbuild(inner) = one("ONBUILD RUN <<E\nx\nE") else { panic!() };
    let Instruction::Run(run) = inner.node else { panic!() };
    assert_eq!(run.command.script(), Some(Script::Shell("x\n".into())));
}

#[track_caller]
fn mistake(text: &str, at: (u32, u32), message: &str, hint: Option<&str>) {
    let mistakes = parse("Dockerfile", text).unwrap_err();
    let first = &mistakes[0];
    assert_eq!(
        ((first.line, first.column), first.message.as_str(), first.hint.as_deref()),
        (at, message, hint),
        "{text}"
    );
}

#[test]
fn mistakes_say_where_and_what() {
    mistake("", (1, 1), "there is no FROM", Some("start with `FROM image` or `FROM scratch`"));
    mistake(
        "RUN x",
        (1, 1),
        "RUN stands before the first FROM",
        Some("only ARG may stand before FROM"),
    );
    let after =
        |text: &str, at, message, hint| mistake(&format!("FROM a\n{text}"), at, message, hint);
    after("COPPY a b", (2, 1), "unknown instruction `COPPY`", Some("did you mean `COPY`?"));
    after("apt-get x", (2, 1), "unknown instruction `apt-get`", None);
    after(
        "COPY --form=x a b",
        (2, 6),
        "unknown flag `--form` of COPY",
        Some("did you mean `--from`?"),
    );
    after("USER --x a", (2, 6), "unknown flag `--x` of USER", Some("USER has no flags"));
    after("COPY --link --link a b", (2, 13), "flag `--link` stands twice", None);
    after("COPY --link=yes a b", (2, 6), "flag `--link` is either `true` or `false`", None);
    after("COPY --from= a b", (2, 6), "flag `--from` needs a value", None);
    after(
        "COPY --from=$x a b",
        (2, 6),
        "variables are not allowed in `--from=$x`",
        Some("name a stage with `FROM … AS name`, whose FROM may use an ARG"),
    );
    after("COPY a", (2, 1), "COPY needs a source and a destination", None);
    after("RUN", (2, 1), "RUN needs a command", None);
    after(
        "RUN --network=x y",
        (2, 5),
        "unknown network `x`",
        Some("known are `default`, `none`, `host`"),
    );
    after("RUN \\\n --mount=target y", (3, 2), "mount field `target` needs a value", None);
    after("CMD [1]", (2, 5), "JSON array has something other than strings in it", None);
    after(
        "SHELL a",
        (2, 7),
        "SHELL needs a JSON array",
        Some("write `SHELL [\"/bin/bash\", \"-c\"]`"),
    );
    after("ENV a", (2, 1), "ENV needs two arguments, or `name=value`", None);
    after("ENV a=b c", (2, 9), "`c` has no `=`", Some("put quotes around a value with blanks"));
    after("ENV =b", (2, 5), "name of ENV is empty", None);
    after("ARG =b", (2, 5), "name of an ARG is empty", None);
    after("EXPOSE", (2, 1), "EXPOSE needs an argument", None);
    after("VOLUME [\"\"]", (2, 8), "VOLUME has an empty argument", None);
    after("ONBUILD ONBUILD RUN x", (2, 9), "ONBUILD is not allowed in ONBUILD", None);
    after("ONBUILD RNU x", (2, 9), "unknown instruction `RNU`", Some("did you mean `RUN`?"));
    after("HEALTHCHECK x", (2, 13), "HEALTHCHECK needs `CMD` or `NONE`, not `x`", None);
    after(
        "RUN <<EOF\nx",
        (2, 5),
        "heredoc `EOF` does not end",
        Some("put a line that is only `EOF` after its text"),
    );
    after(
        "FROM a b",
        (3 - 1, 8),
        "FROM has one argument, or three with `AS`",
        Some("write `FROM image AS name`"),
    );
    after(
        "FROM a AS 1x",
        (2, 11),
        "`1x` is no name of a stage",
        Some("use letters, digits, `-`, `_` and `.`, and a letter first"),
    );
}

#[test]
fn all_mistakes_are_told() {
    let mistakes = parse("D", "FROM a\nRNU x\nUSER a\nCOPY a\n").unwrap_err();
    let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [2, 4]);
    assert_eq!(mistakes[0].to_string(), "D:2:1: unknown instruction `RNU`\n  2 | RNU x\n    | ^");
    let many = format!("FROM a\n{}", "X\n".repeat(100));
    assert_eq!(parse("D", &many).unwrap_err().len(), MISTAKES_MAX);
    let after_bad_from = parse("D", "FROM\nRUN x\n").unwrap_err();
    assert_eq!(after_bad_from.len(), 1);
}

#[test]
fn warnings_do_not_stop() {
    let file = file("FROM a\nRUN x && \\\n\n y\nENV a b\n");
    let seen: Vec<_> = file.warnings.iter().map(|w| (w.line, w.message.as_str())).collect();
    assert_eq!(
        seen,
        [
            (5, "ENV has the old form with a blank"),
            (3, "empty line in the middle of an instruction")
        ]
    );
}

proptest! {
    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse("D", &text);
    }

    #[test]
    fn likely_text_never_panics(
        lines in prop::collection::vec(
            "(FROM|RUN|COPY|ADD|ENV|ARG|ONBUILD|HEALTHCHECK|LABEL|CMD|#|EOF|)( (--[a-z]{0,6}=?|<<-?\"?EOF\"?|\\[\"a\"\\]|[a-zé$\\{\\}=\"'\\\\]{0,6})){0,5}\\\\?",
            0..12,
        ),
    ) {
        let text = format!("FROM a\n{}", lines.join("\n"));
        match parse("D", &text) {
            Ok(file) => prop_assert!(!file.stages.is_empty()),
            Err(mistakes) => {
                for mistake in mistakes {
                    let count = u32::try_from(text.lines().count()).unwrap();
                    prop_assert!((1..=count.max(1)).contains(&mistake.line), "{mistake}");
                    prop_assert!(mistake.column >= 1);
                }
            }
        }
    }

    #[test]
    fn words_keep_their_place(words in prop::collection::vec("[a-zé]{1,8}", 1..6), cut in 0..5usize) {
        let mut text = "FROM a\nEXPOSE".to_owned();
        for (index, word) in words.iter().enumerate() {
            text.push_str(if index == cut { " \\\n  " } else { " " });
            text.push_str(word);
        }
        let file = parse("D", &text).unwrap();
        let Instruction::Expose(ports) = &file.stages[0].instructions[0].node else { panic!() };
        for (port, word) in ports.iter().zip(&words) {
            let line = text.lines().nth(port.span.line as usize - 1).unwrap();
            let at: String = line.chars().skip(port.span.column as usize - 1).collect();
            prop_assert!(at.starts_with(word.as_str()));
        }
    }
}
