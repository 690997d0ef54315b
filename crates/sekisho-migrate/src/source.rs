//! Text to documents, with places.

use sekisho_workflow::Position;
use sekisho_workflow::yaml::{Key, Node, NodeValue, parse};
use serde_json::{Number, Value};

/// A file, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What errors call it.
    pub path: String,
    /// All of it: YAML, or JSON, which is YAML.
    pub text: String,
    /// What it is.
    pub kind: SourceKind,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Manifests, as `kubectl apply` takes them.
    Manifests,
    /// Values of the chart `gha-runner-scale-set`.
    HelmValues,
}

/// A file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}:{column}: {message}")]
pub struct SourceError {
    /// The file.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// Most documents of a file, those in a `List` counted.
const MAX_DOCUMENTS: usize = 10_000;

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The file.
    pub(crate) path: String,
    /// Its kind; `HelmValues` for values.
    pub(crate) kind: String,
    /// Its name; empty for values.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: Option<String>,
    /// All of it.
    pub(crate) node: Node,
    /// Where it begins.
    pub(crate) at: Position,
}

impl Document {
    /// For people: `RunnerDeployment ci/build`.
    pub(crate) fn title(&self) -> String {
        let name = match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        };
        format!("{} {name}", self.kind).trim_end().to_owned()
    }
}

/// All objects of a file; the items of a `List` are objects of their own.
pub(crate) fn documents(source: &Source) -> Result<Vec<Document>, SourceError> {
    let error = |at: Position, message: String| SourceError {
        path: source.path.clone(),
        line: at.line,
        column: at.column,
        message,
    };
    if source.kind == SourceKind::HelmValues {
        let node = parse(&source.text).map_err(|it| error(it.at, it.message))?;
        if !matches!(node.value, NodeValue::Mapping(_)) {
            return Err(error(
                node.at,
                format!("values are a mapping, and this is {}", node.kind()),
            ));
        }
        return Ok(vec![document(source, "HelmValues", node)]);
    }
    let mut found = vec![];
    for text in split(&source.text) {
        let node = parse(&text).map_err(|it| error(it.at, it.message))?;
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if node.value == NodeValue::Null {
                continue;
            }
            let kind = text_of(get(&node, "kind")).ok_or_else(|| {
                error(node.at, "there is no `kind`: this is no object of Kubernetes".to_owned())
            })?;
            match get(&node, "items").map(|items| &items.value) {
                // Taken from the end, so that they come in their order.
                Some(NodeValue::Sequence(items)) if kind.ends_with("List") => {
                    open.extend(items.iter().rev().cloned());
                }
                _ => found.push(document(source, &kind, node)),
            }
            if found.len() + open.len() > MAX_DOCUMENTS {
                return Err(error(Position::START, format!("more than {MAX_DOCUMENTS} objects")));
            }
        }
    }
    Ok(found)
}

fn document(source: &Source, kind: &str, node: Node) -> Document {
    let metadata = get(&node, "metadata");
    let of = |name: &str| text_of(metadata.and_then(|metadata| get(metadata, name)));
    Document {
        path: source.path.clone(),
        kind: kind.to_owned(),
        name: of("name").unwrap_or_default(),
        namespace: of("namespace"),
        at: node.at,
        node,
    }
}

/// The documents of a stream. What is before one is kept as empty lines, so that places stay true. In
/// YAML a line that begins with `---` or `...` ends a document wherever it stands.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (index, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
        let marker = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if marker {
            documents.push("\n".repeat(index));
        }
        if let Some(last) = documents.last_mut() {
            if marker {
                last.push_str("   ");
                last.push_str(line.get(3..).unwrap_or_default());
            } else {
                last.push_str(line);
            }
            last.push('\n');
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// The fields of a mapping; none of anything else.
pub(crate) fn fields(node: &Node) -> &[(Key, Node)] {
    match &node.value {
        NodeValue::Mapping(fields) => fields,
        _ => &[],
    }
}

/// The items of a sequence; none of anything else.
pub(crate) fn items(node: &Node) -> &[Node] {
    match &node.value {
        NodeValue::Sequence(items) => items,
        _ => &[],
    }
}

/// One field.
pub(crate) fn get<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    fields(node).iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
}

/// A text, or a number or boolean as one.
pub(crate) fn text_of(node: Option<&Node>) -> Option<String> {
    match json(node?) {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// A whole number.
pub(crate) fn integer(node: &Node) -> Option<i64> {
    json(node).as_i64()
}

/// `true`, `false`.
pub(crate) fn boolean(node: &Node) -> Option<bool> {
    match node.value {
        NodeValue::Bool(value) => Some(value),
        _ => None,
    }
}

/// A list of texts.
pub(crate) fn texts(node: &Node) -> Vec<String> {
    items(node).iter().filter_map(|item| text_of(Some(item))).collect()
}

/// Without places.
pub(crate) fn json(node: &Node) -> Value {
    match &node.value {
        NodeValue::Null => Value::Null,
        NodeValue::Bool(value) => Value::Bool(*value),
        NodeValue::Number(value) => number(*value),
        NodeValue::String(text) => Value::String(text.clone()),
        NodeValue::Sequence(items) => Value::Array(items.iter().map(json).collect()),
        NodeValue::Mapping(fields) => {
            fields.iter().map(|(key, value)| (key.text.clone(), json(value))).collect()
        }
    }
}

/// YAML has one kind of number, JSON as Kubernetes reads it has whole ones.
fn number(value: f64) -> Value {
    /// Whole numbers up to here are exact in `f64`.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and small enough")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
