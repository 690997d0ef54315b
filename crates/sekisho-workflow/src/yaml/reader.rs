//! Parser events to nodes.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use thiserror::Error;

use super::{Key, MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES, Node, NodeValue, Style, scalar};
use crate::diagnostic::Position;

/// Why a file is no YAML that a workflow may be written in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct YamlError {
    /// Where.
    pub at: Position,
    /// What is wrong, in one sentence.
    pub message: String,
}

impl YamlError {
    fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// Reads the one document of a file. An empty file is null.
///
/// # Errors
/// [`YamlError`] for wrong YAML, a duplicate key, a second document, an unknown tag, a merge key,
/// and for each of the limits of this module.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_FILE_BYTES}", text.len());
        return Err(YamlError::new(Position::START, message));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        chars: text.chars().collect(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    reader.document()
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// The whole file; the parser counts in characters.
    chars: Vec<char>,
    /// Finished anchored nodes and how many nodes each holds.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

fn position(marker: Marker) -> Position {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: small(marker.line()), column: small(marker.col()).saturating_add(1) }
}

fn scan_error(error: &ScanError) -> YamlError {
    YamlError::new(position(*error.marker()), format!("invalid YAML: {}", error.info()))
}

impl<'a> Reader<'a> {
    fn event(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Node, YamlError> {
        let mut root = None;
        loop {
            let (event, span) = self.event()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                event => {
                    if root.is_some() {
                        let message = "a file holds one YAML document; this begins a second one";
                        return Err(YamlError::new(position(span.start), message));
                    }
                    root = Some(self.node(event, span, 0)?);
                }
            }
        }
        Ok(root.unwrap_or(Node {
            value: NodeValue::Null,
            at: Position::START,
            style: Style::Opaque,
        }))
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(YamlError::new(at, format!("the file has more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let at = position(span.start);
        if depth > MAX_DEPTH {
            let message = format!("the file is nested deeper than {MAX_DEPTH} levels");
            return Err(YamlError::new(at, message));
        }
        let before = self.nodes;
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let (node, count) = self.anchors.get(&id).cloned().ok_or_else(|| {
                    YamlError::new(at, "an alias may not refer to a value that contains it")
                })?;
                self.count(count, at)?;
                if depth + height(&node) > MAX_DEPTH {
                    let message = format!("the alias nests deeper than {MAX_DEPTH} levels");
                    return Err(YamlError::new(at, message));
                }
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, at)?;
                (self.scalar(&text, style, tag.as_deref(), span)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.count(1, at)?;
                check_tag(tag.as_deref(), "seq", at)?;
                let value = NodeValue::Sequence(self.items(depth)?);
                (Node { value, at, style: Style::Opaque }, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.count(1, at)?;
                check_tag(tag.as_deref(), "map", at)?;
                let value = NodeValue::Mapping(self.entries(depth)?);
                (Node { value, at, style: Style::Opaque }, anchor)
            }
            _ => return Err(YamlError::new(at, "a value was expected")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, YamlError> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.event()?;
            let at = position(span.start);
            let text = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, style, anchor, _) => {
                    if anchor != 0 {
                        let node = self.scalar(&text, style, None, span)?;
                        self.anchors.insert(anchor, (node, 1));
                    }
                    if text == "<<" && style == ScalarStyle::Plain {
                        let message = "merge keys (`<<`) are not part of the workflow syntax";
                        return Err(YamlError::new(at, message));
                    }
                    text.into_owned()
                }
                Event::Alias(id) => match self.anchors.get(&id) {
                    Some((Node { value: NodeValue::String(text), .. }, _)) => text.clone(),
                    _ => return Err(YamlError::new(at, "a key must be text")),
                },
                _ => return Err(YamlError::new(at, "a key must be text")),
            };
            self.count(1, at)?;
            if !seen.insert(text.clone()) {
                return Err(YamlError::new(at, format!("`{text}` is already defined")));
            }
            let (event, span) = self.event()?;
            let value = self.node(event, span, depth + 1)?;
            entries.push((Key { text, at }, value));
        }
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<Node, YamlError> {
        let at = position(span.start);
        let value = match tag {
            None if style == ScalarStyle::Plain => scalar::resolve(text),
            None => NodeValue::String(text.to_owned()),
            Some(tag) => tagged(text, style, tag).ok_or_else(|| unsupported_tag(tag, at))?,
        };
        Ok(Node { value, at, style: self.style(text, style, span) })
    }

    /// How the text stands in the file, so that places within it can be computed.
    fn style(&self, text: &str, style: ScalarStyle, span: Span) -> Style {
        // With an escape, a tag or a line break, the file has other characters than the text.
        let stands_at = |start: usize| {
            let own = self.chars.get(start..).unwrap_or_default();
            text.chars().eq(own.iter().copied().take(text.chars().count()))
        };
        match style {
            ScalarStyle::Plain if stands_at(span.start.index()) => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted
                if !text.contains('\n') && stands_at(span.start.index() + 1) =>
            {
                Style::Quoted
            }
            ScalarStyle::Literal if !text.trim_matches('\n').is_empty() => Style::Literal,
            _ => Style::Opaque,
        }
    }
}

/// How many levels of nesting a value has below itself.
fn height(node: &Node) -> usize {
    match &node.value {
        NodeValue::Sequence(items) => items.iter().map(height).max().map_or(0, |h| h + 1),
        NodeValue::Mapping(entries) => {
            entries.iter().map(|(_, value)| height(value)).max().map_or(0, |h| h + 1)
        }
        _ => 0,
    }
}

fn unsupported_tag(tag: &Tag, at: Position) -> YamlError {
    let name = standard(tag).map_or_else(|| tag.to_string(), |kind| format!("!!{kind}"));
    YamlError::new(at, format!("the tag `{name}` does not fit its value or the workflow syntax"))
}

/// The name of a standard tag, written `!!str` or `!<tag:yaml.org,2002:str>`.
fn standard(tag: &Tag) -> Option<&str> {
    if tag.is_yaml_core_schema() {
        return Some(&tag.suffix);
    }
    tag.handle.is_empty().then(|| tag.suffix.strip_prefix("tag:yaml.org,2002:")).flatten()
}

fn check_tag(tag: Option<&Tag>, kind: &str, at: Position) -> Result<(), YamlError> {
    match tag {
        Some(tag) if standard(tag) != Some(kind) => Err(unsupported_tag(tag, at)),
        _ => Ok(()),
    }
}

/// A scalar with a standard tag; `None` when the tag is another, or the text does not fit it.
fn tagged(text: &str, style: ScalarStyle, tag: &Tag) -> Option<NodeValue> {
    // `!` alone means: text, whatever it looks like.
    if tag.handle.is_empty() && tag.suffix == "!" {
        return Some(NodeValue::String(text.to_owned()));
    }
    let kind = standard(tag)?;
    if kind == "str" {
        return Some(NodeValue::String(text.to_owned()));
    }
    let value = scalar::resolve(text);
    let fits = matches!(
        (kind, &value),
        ("null", NodeValue::Null)
            | ("bool", NodeValue::Bool(_))
            | ("int" | "float", NodeValue::Number(_))
    );
    // What is quoted is text, and no tag but `str` fits it.
    (fits && style == ScalarStyle::Plain).then_some(value)
}
