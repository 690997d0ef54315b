//! Text → [`Dockerfile`].
//!
//! ```text
//! directives   # syntax=, # escape=, # check=
//! lines        continuation lines joined, comments dropped, heredocs taken
//! instruction  name, --flags, arguments in the form of that instruction
//! stages       ARGs before the first FROM; then one stage per FROM
//! ```
//!
//! Source: the Dockerfile reference of the BuildKit project, and where that is silent, what
//! BuildKit does.

mod directive;
mod flags;
mod health;
mod instruction;
mod lines;
mod mount;
#[cfg(test)]
mod tests;
mod words;

use crate::ast::{Arg, Dockerfile, Instruction, Span, Spanned, Stage, Word};
use crate::diagnostic::Diagnostic;
use crate::suggest;

use flags::Flags;
use lines::{Line, LineError, Lines};

pub(crate) use directive::check;
pub use directive::syntax;
pub(crate) use instruction::script_of;

/// Words between blanks outside quotes.
pub(crate) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    words::quoted(text, escape).into_iter().map(|(_, word)| word).collect()
}

/// See [`crate::Mount::expanded`].
pub(crate) fn expand_mount(
    mount: &crate::Mount,
    escape: char,
    lookup: &crate::expand::Lookup<'_>,
) -> Result<crate::Mount, String> {
    mount::expand(mount, escape, lookup).map_err(|(message, _)| message)
}

/// Largest Dockerfile, in bytes: generated ones of a few hundred KiB exist.
pub const MAX_DOCKERFILE_BYTES: usize = 4 * 1024 * 1024;

/// After so many mistakes the rest would only tire the reader.
const MISTAKES_MAX: usize = 20;

/// The same for warnings.
const WARNINGS_MAX: usize = 100;

/// All instructions, for suggestions.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The arguments of one instruction.
#[derive(Debug)]
struct Input<'a> {
    /// In capitals.
    name: &'a str,
    line: &'a Line,
    /// Where the arguments start, in the line's text.
    offset: usize,
    escape: char,
}

/// A mistake in an instruction.
#[derive(Debug)]
struct Fail {
    /// Into the line's text.
    offset: usize,
    message: String,
    hint: Option<String>,
}

impl Fail {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Reads a Dockerfile; `file` is its name for diagnostics.
///
/// A mistake ends the reading of its instruction, not of the file: mistakes are returned in order
/// of their lines, twenty at most and one at least.
pub fn parse(file: &str, text: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::new(file, text);
    if text.len() > MAX_DOCKERFILE_BYTES {
        let message = format!("file is larger than {MAX_DOCKERFILE_BYTES} bytes");
        return Err(vec![reader.at(Span { line: 1, column: 1, end_line: 1 }, message)]);
    }
    let directives = match directive::parse(text) {
        Ok(directives) => directives,
        Err(error) => return Err(vec![reader.line_error(error)]),
    };
    let escape = directives.escape.unwrap_or('\\');
    let mut lines = Lines::new(text, escape);
    while let Some(line) = lines.next_line() {
        match line {
            Ok(line) => reader.instruction(&line, escape),
            Err(error) => {
                let mistake = reader.line_error(error);
                reader.mistakes.push(mistake);
            }
        }
        if reader.mistakes.len() >= MISTAKES_MAX {
            break;
        }
    }
    let empty_continuations = std::mem::take(&mut lines.blanks);
    for span in empty_continuations.iter().copied() {
        let warning = reader.at(span, "empty line in the middle of an instruction");
        reader.warnings.push(warning.with_hint("remove it, or start it with `#`"));
    }
    if reader.stages.is_empty() && reader.mistakes.is_empty() {
        let mistake = reader.at(Span { line: 1, column: 1, end_line: 1 }, "there is no FROM");
        reader.mistakes.push(mistake.with_hint("start with `FROM image` or `FROM scratch`"));
    }
    if !reader.mistakes.is_empty() {
        return Err(reader.mistakes);
    }
    Ok(Dockerfile {
        file: file.to_owned(),
        source: text.to_owned(),
        escape,
        syntax: directives.syntax,
        check: directives.check,
        global_args: reader.global_args,
        stages: reader.stages,
        empty_continuations,
        warnings: reader.warnings,
    })
}

/// What was read so far.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    global_args: Vec<Spanned<Vec<Arg>>>,
    stages: Vec<Stage>,
    warnings: Vec<Diagnostic>,
    mistakes: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            global_args: Vec::new(),
            stages: Vec::new(),
            warnings: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    fn at(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.file, self.text, span, message)
    }

    fn line_error(&self, error: LineError) -> Diagnostic {
        let diagnostic = self.at(error.span, error.message);
        Diagnostic { hint: error.hint, ..diagnostic }
    }

    fn instruction(&mut self, line: &Line, escape: char) {
        let mut warnings = Vec::new();
        if let Err(fail) = self.take(line, escape, &mut warnings) {
            let mistake = self.at(line.span(fail.offset), fail.message);
            self.mistakes.push(Diagnostic { hint: fail.hint, ..mistake });
        }
        let room = WARNINGS_MAX.saturating_sub(self.warnings.len());
        for fail in warnings.into_iter().take(room) {
            let warning = self.at(line.span(fail.offset), fail.message);
            self.warnings.push(Diagnostic { hint: fail.hint, ..warning });
        }
    }

    fn take(&mut self, line: &Line, escape: char, warnings: &mut Vec<Fail>) -> Result<(), Fail> {
        let input = input(line, 0, escape)?;
        let span = line.span(0);
        if input.name == "FROM" {
            let stage = self.from(&input, span)?;
            self.stages.push(stage);
            return Ok(());
        }
        let node = instruction::parse(&input, warnings)?;
        let text = line.text.clone();
        match (self.stages.last_mut(), node) {
            (Some(stage), node) => stage.instructions.push(Spanned { node, span, text }),
            (None, Instruction::Arg(args)) => {
                self.global_args.push(Spanned { node: args, span, text });
            }
            // After a bad FROM every instruction would be one too early.
            (None, _) if !self.mistakes.is_empty() => {}
            (None, node) => {
                let message = format!("{} stands before the first FROM", node.name());
                return Err(Fail::new(0, message).hint("only ARG may stand before FROM"));
            }
        }
        Ok(())
    }

    /// `FROM [--platform=P] image [AS name]`.
    fn from(&self, input: &Input<'_>, span: Span) -> Result<Stage, Fail> {
        let (flags, at) = Flags::split(input);
        flags.allow(&["platform"], &[])?;
        let words = words::plain(&input.line.text[at..]);
        let word = |(offset, raw): &(usize, String)| Word {
            raw: raw.clone(),
            span: input.line.span(at + offset),
        };
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, (_, between), name] if between.eq_ignore_ascii_case("AS") => {
                (base, Some((at + name.0, name.1.to_ascii_lowercase())))
            }
            [] => return Err(Fail::new(0, "FROM needs an image")),
            [_, (offset, _), ..] => {
                let message = "FROM has one argument, or three with `AS`";
                let hint = "write `FROM image AS name`";
                return Err(Fail::new(at + offset, message).hint(hint));
            }
        };
        let name = match name {
            Some((offset, name)) if !is_stage_name(&name) => {
                let message = format!("`{name}` is no name of a stage");
                let hint = "use letters, digits, `-`, `_` and `.`, and a letter first";
                return Err(Fail::new(offset, message).hint(hint));
            }
            name => name.map(|(_, name)| name),
        };
        Ok(Stage {
            index: self.stages.len(),
            name,
            base: word(base),
            platform: flags.word("platform")?,
            instructions: Vec::new(),
            span,
            text: input.line.text.clone(),
        })
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Splits the name of an instruction off at `offset`.
fn input(line: &Line, offset: usize, escape: char) -> Result<Input<'_>, Fail> {
    let text = &line.text[offset..];
    let (word, rest) = words::split_first(text);
    let Some(name) = INSTRUCTIONS.into_iter().find(|name| word.eq_ignore_ascii_case(name)) else {
        let shown: String = word.chars().take(40).collect();
        let fail = Fail::new(offset, format!("unknown instruction `{shown}`"));
        return Err(match suggest::nearest(word, INSTRUCTIONS) {
            Some(near) => fail.hint(format!("did you mean `{near}`?")),
            None => fail,
        });
    };
    Ok(Input { name, line, offset: line.text.len() - rest.len(), escape })
}
