//! One instruction, by its name.

use crate::ast::{
    Add, Arg, Command, Copy, Heredoc, Instruction, Network, Pair, Run, Script, Security, Source,
    Spanned, Word,
};
use crate::parse::flags::Flags;
use crate::parse::words::Json;
use crate::parse::{Fail, Input, health, input, lines, mount, words};

const NO_FLAGS: &[&str] = &[];

pub(super) fn parse(input: &Input<'_>, warnings: &mut Vec<Fail>) -> Result<Instruction, Fail> {
    match input.name {
        "ADD" => Ok(Instruction::Add(add(input)?)),
        "COPY" => Ok(Instruction::Copy(copy(input)?)),
        "HEALTHCHECK" => Ok(Instruction::Healthcheck(health::parse(input, warnings)?)),
        "RUN" => Ok(Instruction::Run(run(input, warnings)?)),
        name => {
            let (flags, at) = Flags::split(input);
            flags.allow(NO_FLAGS, NO_FLAGS)?;
            let input = &Input { offset: at, ..*input };
            let rest = &input.line.text[at..];
            Ok(match name {
                "ARG" => Instruction::Arg(args(input)?),
                "CMD" => Instruction::Cmd(command(input, at, warnings)?),
                "ENTRYPOINT" => Instruction::Entrypoint(command(input, at, warnings)?),
                "ENV" => Instruction::Env(pairs(input, warnings)?),
                "LABEL" => Instruction::Label(pairs(input, warnings)?),
                "EXPOSE" => Instruction::Expose(at_least_one(input, spaced(input))?),
                "MAINTAINER" => {
                    let hint = "use `LABEL org.opencontainers.image.authors=…`";
                    warnings.push(Fail::new(0, "MAINTAINER is deprecated").hint(hint));
                    Instruction::Maintainer(one(input)?.raw)
                }
                "ONBUILD" => Instruction::Onbuild(Box::new(onbuild(input, warnings)?)),
                "SHELL" => match words::json(rest) {
                    Some(Json::Strings(words)) if !words.is_empty() => Instruction::Shell(words),
                    _ => {
                        let hint = "write `SHELL [\"/bin/bash\", \"-c\"]`";
                        return Err(Fail::new(at, "SHELL needs a JSON array").hint(hint));
                    }
                },
                "STOPSIGNAL" => Instruction::Stopsignal(one(input)?),
                "USER" => Instruction::User(one(input)?),
                "VOLUME" => Instruction::Volume(at_least_one(input, listed(input)?)?),
                "WORKDIR" => Instruction::Workdir(one(input)?),
                // FROM is taken before; nothing else is in the list of names.
                other => return Err(Fail::new(0, format!("{other} is not allowed here"))),
            })
        }
    }
}

impl Input<'_> {
    fn rest(&self) -> &str {
        &self.line.text[self.offset..]
    }

    fn word(&self, offset: usize, raw: impl Into<String>) -> Word {
        Word { raw: raw.into(), span: self.line.span(offset) }
    }

    fn needs(&self, what: &str) -> Fail {
        Fail::new(0, format!("{} needs {what}", self.name))
    }
}

/// The whole rest as one word.
fn one(input: &Input<'_>) -> Result<Word, Fail> {
    match input.rest() {
        "" => Err(input.needs("an argument")),
        rest => Ok(input.word(input.offset, rest)),
    }
}

/// Words between blanks.
fn spaced(input: &Input<'_>) -> Vec<Word> {
    let words = words::plain(input.rest()).into_iter();
    words.map(|(offset, raw)| input.word(input.offset + offset, raw)).collect()
}

/// A JSON array, or words between blanks.
fn listed(input: &Input<'_>) -> Result<Vec<Word>, Fail> {
    match words::json(input.rest()) {
        Some(Json::Strings(words)) => {
            Ok(words.into_iter().map(|raw| input.word(input.offset, raw)).collect())
        }
        Some(Json::NotStrings) => Err(not_strings(input.offset)),
        None => Ok(spaced(input)),
    }
}

fn not_strings(offset: usize) -> Fail {
    Fail::new(offset, "JSON array has something other than strings in it")
}

fn at_least_one(input: &Input<'_>, words: Vec<Word>) -> Result<Vec<Word>, Fail> {
    match words.iter().find(|word| word.raw.is_empty()) {
        Some(_) => Err(Fail::new(input.offset, format!("{} has an empty argument", input.name))),
        None if words.is_empty() => Err(input.needs("an argument")),
        None => Ok(words),
    }
}

/// The two forms of a command; empty means an empty list, which takes away what the base set.
pub(super) fn command(
    input: &Input<'_>,
    offset: usize,
    warnings: &mut Vec<Fail>,
) -> Result<Command, Fail> {
    let rest = &input.line.text[offset..];
    match words::json(rest) {
        Some(Json::Strings(words)) => return Ok(Command::Exec(words)),
        Some(Json::NotStrings) => return Err(not_strings(offset)),
        None => {}
    }
    if rest.is_empty() {
        return Ok(Command::Exec(Vec::new()));
    }
    // `[ -f x ] && y` is a shell's; `['a']` is a slip.
    if rest.starts_with("['") && rest.ends_with(']') {
        let fail = Fail::new(offset, "argument looks like JSON but is none; a shell will run it");
        warnings.push(fail.hint("JSON strings stand in double quotes"));
    }
    Ok(Command::Shell { line: rest.to_owned(), heredocs: input.line.heredocs.clone() })
}

fn run(input: &Input<'_>, warnings: &mut Vec<Fail>) -> Result<Run, Fail> {
    let (flags, at) = Flags::split(input);
    flags.allow(&["mount", "network", "security", "device"], &["mount", "device"])?;
    let mut mounts = Vec::new();
    for (offset, text) in flags.values("mount")? {
        let mount = mount::parse(text, flags.span(offset)).map_err(|(message, hint)| Fail {
            offset,
            message,
            hint,
        })?;
        mounts.push(mount);
    }
    let network = match flags.value("network")? {
        None => None,
        Some((_, "default")) => Some(Network::Default),
        Some((_, "none")) => Some(Network::None),
        Some((_, "host")) => Some(Network::Host),
        Some((offset, other)) => {
            let fail = Fail::new(offset, format!("unknown network `{other}`"));
            return Err(fail.hint("known are `default`, `none`, `host`"));
        }
    };
    let security = match flags.value("security")? {
        None => None,
        Some((_, "sandbox")) => Some(Security::Sandbox),
        Some((_, "insecure")) => Some(Security::Insecure),
        Some((offset, other)) => {
            let fail = Fail::new(offset, format!("unknown security `{other}`"));
            return Err(fail.hint("known are `sandbox`, `insecure`"));
        }
    };
    let devices = flags.values("device")?.into_iter().map(|(_, value)| value.to_owned()).collect();
    match command(input, at, warnings)? {
        Command::Exec(words) if words.is_empty() => Err(input.needs("a command")),
        command => Ok(Run { command, mounts, network, security, devices }),
    }
}

/// Sources and destination of COPY and ADD.
fn paths(input: &Input<'_>, offset: usize) -> Result<(Vec<Source>, Word), Fail> {
    let input = &Input { offset, ..*input };
    let mut words = listed(input)?;
    let destination = words.pop();
    let Some(destination) = destination.filter(|_| !words.is_empty()) else {
        let message = format!("{} needs a source and a destination", input.name);
        return Err(Fail::new(0, message));
    };
    if lines::heredoc_mark(&destination.raw).is_some() && !input.line.heredocs.is_empty() {
        return Err(Fail::new(0, format!("destination of {} is a heredoc", input.name)));
    }
    let mut heredocs = input.line.heredocs.iter();
    let sources = words
        .into_iter()
        .map(|word| match lines::heredoc_mark(&word.raw).and_then(|_| heredocs.next()) {
            Some(heredoc) => Source::Heredoc(heredoc.clone()),
            None => Source::Path(word),
        })
        .collect();
    Ok((sources, destination))
}

fn copy(input: &Input<'_>) -> Result<Copy, Fail> {
    let (flags, at) = Flags::split(input);
    flags.allow(&["from", "chown", "chmod", "link", "parents", "exclude"], &["exclude"])?;
    let from = flags.word("from")?;
    if let Some(word) = from.as_ref().filter(|word| word.raw.contains('$')) {
        let offset = flags.value("from")?.map_or(0, |(offset, _)| offset);
        let message = format!("variables are not allowed in `--from={}`", word.raw);
        let hint = "name a stage with `FROM … AS name`, whose FROM may use an ARG";
        return Err(Fail::new(offset, message).hint(hint));
    }
    let (sources, destination) = paths(input, at)?;
    Ok(Copy {
        sources,
        destination,
        from,
        chown: flags.word("chown")?,
        chmod: flags.word("chmod")?,
        link: flags.switch("link")?.unwrap_or(false),
        parents: flags.switch("parents")?.unwrap_or(false),
        exclude: flags.words("exclude")?,
    })
}

fn add(input: &Input<'_>) -> Result<Add, Fail> {
    let (flags, at) = Flags::split(input);
    let known = ["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"];
    flags.allow(&known, &["exclude"])?;
    let (sources, destination) = paths(input, at)?;
    Ok(Add {
        sources,
        destination,
        chown: flags.word("chown")?,
        chmod: flags.word("chmod")?,
        link: flags.switch("link")?.unwrap_or(false),
        exclude: flags.words("exclude")?,
        checksum: flags.word("checksum")?,
        keep_git_dir: flags.switch("keep-git-dir")?.unwrap_or(false),
        unpack: flags.switch("unpack")?,
    })
}

/// `name[=default]` …
fn args(input: &Input<'_>) -> Result<Vec<Arg>, Fail> {
    let words = words::quoted(input.rest(), input.escape);
    if words.is_empty() {
        return Err(input.needs("a name"));
    }
    words
        .into_iter()
        .map(|(offset, word)| {
            let offset = input.offset + offset;
            let (name, default) = match word.split_once('=') {
                Some((name, value)) => {
                    let at = offset + name.len() + 1;
                    (name, Some(input.word(at, value)))
                }
                None => (word.as_str(), None),
            };
            if name.is_empty() {
                return Err(Fail::new(offset, "name of an ARG is empty"));
            }
            Ok(Arg { name: name.to_owned(), default, span: input.line.span(offset) })
        })
        .collect()
}

/// `key=value` …, or the old form `key value`, whose value is the whole rest.
fn pairs(input: &Input<'_>, warnings: &mut Vec<Fail>) -> Result<Vec<Pair>, Fail> {
    let words = words::quoted(input.rest(), input.escape);
    let Some((_, first)) = words.first() else {
        return Err(input.needs("`name=value`"));
    };
    if !first.contains('=') {
        let (name, value) = words::split_first(input.rest());
        if value.is_empty() {
            return Err(input.needs("two arguments, or `name=value`"));
        }
        let message = format!("{} has the old form with a blank", input.name);
        warnings.push(Fail::new(0, message).hint("write `name=value`"));
        let at = input.line.text.len() - value.len();
        return Ok(vec![Pair {
            key: input.word(input.offset, name),
            value: input.word(at, value),
        }]);
    }
    words
        .into_iter()
        .map(|(offset, word)| {
            let offset = input.offset + offset;
            let Some((key, value)) = word.split_once('=') else {
                let fail = Fail::new(offset, format!("`{word}` has no `=`"));
                return Err(fail.hint("put quotes around a value with blanks"));
            };
            if key.is_empty() {
                return Err(Fail::new(offset, format!("name of {} is empty", input.name)));
            }
            let at = offset + key.len() + 1;
            Ok(Pair { key: input.word(offset, key), value: input.word(at, value) })
        })
        .collect()
}

fn onbuild(outer: &Input<'_>, warnings: &mut Vec<Fail>) -> Result<Spanned<Instruction>, Fail> {
    if outer.rest().is_empty() {
        return Err(outer.needs("an instruction"));
    }
    let inner = input(outer.line, outer.offset, outer.escape)?;
    if matches!(inner.name, "ONBUILD" | "FROM" | "MAINTAINER") {
        let message = format!("{} is not allowed in ONBUILD", inner.name);
        return Err(Fail::new(outer.offset, message));
    }
    let node = parse(&inner, warnings)?;
    let span = outer.line.span(outer.offset);
    Ok(Spanned { node, span, text: outer.rest().to_owned() })
}

/// What a shell is to run: see [`Command::script`].
pub(crate) fn script_of(line: &str, heredocs: &[Heredoc]) -> Script {
    if let [heredoc] = heredocs
        && lines::heredoc_mark(line).is_some()
    {
        let content = heredoc.content.clone();
        return match content.starts_with("#!") {
            true => Script::File { name: heredoc.name.clone(), content },
            false => Script::Shell(content),
        };
    }
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Script::Shell(text)
}
