//! Trees to values.

use std::collections::BTreeMap;

use super::MAX_EVALUATION_BYTES;
use super::ast::{Expr, Kind, Node, Operator};
use super::error::ExprError;
use super::functions::{self, Function, Functions};
use super::value::Value;

/// The contexts an expression sees: `github`, `env`, `needs` … by name, in any case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contexts {
    values: BTreeMap<String, Value>,
}

impl Contexts {
    /// No context at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with context `name` set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets context `name`.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_ascii_lowercase(), value.into());
    }

    /// Context `name`, if it is there.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(&name.to_ascii_lowercase())
    }

    /// Names (lower case) and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// Evaluates an expression. A context that was not supplied is null.
///
/// # Errors
/// [`ExprError`] for what only shows when evaluated: a bad format string, text that is no JSON,
/// a function that does not exist here, the memory limit.
pub fn evaluate(
    expr: &Expr,
    contexts: &Contexts,
    functions: &dyn Functions,
) -> Result<Value, ExprError> {
    let mut evaluation = Evaluation { contexts, functions, bytes: 0 };
    evaluation.value(&expr.root)
}

pub(super) struct Evaluation<'a> {
    contexts: &'a Contexts,
    pub(super) functions: &'a dyn Functions,
    bytes: usize,
}

/// A value, and whether it is the result of `.*`, on which further access maps over the items.
struct Found {
    value: Value,
    filtered: bool,
}

impl Found {
    fn plain(value: Value) -> Self {
        Self { value, filtered: false }
    }

    fn filtered(items: Vec<Value>) -> Self {
        Self { value: Value::from(items), filtered: true }
    }
}

impl Evaluation<'_> {
    /// Takes `length` bytes of text from the budget of this evaluation. They count twice, as the
    /// official runner holds text in UTF-16 and stops a job where this must stop too.
    pub(super) fn charge(&mut self, length: usize) -> Result<(), ExprError> {
        self.bytes = self.bytes.saturating_add(length.saturating_mul(2));
        if self.bytes > MAX_EVALUATION_BYTES { Err(ExprError::TooMuchMemory) } else { Ok(()) }
    }

    fn value(&mut self, node: &Node) -> Result<Value, ExprError> {
        self.found(node).map(|found| found.value)
    }

    fn found(&mut self, node: &Node) -> Result<Found, ExprError> {
        match &node.kind {
            Kind::Literal(value) => Ok(Found::plain(value.clone())),
            Kind::Context { name } => {
                Ok(Found::plain(self.contexts.get(name).cloned().unwrap_or_default()))
            }
            Kind::Index { base, index } => {
                let base = self.found(base)?;
                let index = self.value(index)?;
                self.index(&base, &index)
            }
            Kind::Wildcard { base } => {
                let base = self.found(base)?;
                self.wildcard(&base)
            }
            Kind::Call { function: Function::Case, arguments } => {
                self.case(arguments).map(Found::plain)
            }
            Kind::Call { function, arguments } => {
                let arguments =
                    arguments.iter().map(|node| self.value(node)).collect::<Result<Vec<_>, _>>()?;
                functions::call(*function, &arguments, self).map(Found::plain)
            }
            Kind::Not(inner) => Ok(Found::plain(Value::Bool(!self.value(inner)?.is_truthy()))),
            Kind::Compare { operator, left, right } => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                Ok(Found::plain(Value::Bool(compare(*operator, &left, &right))))
            }
            Kind::And(nodes) => self.first_that(nodes, false),
            Kind::Or(nodes) => self.first_that(nodes, true),
        }
    }

    /// The first operand whose truth is `wanted`, else the last: what `||` and `&&` return.
    fn first_that(&mut self, nodes: &[Node], wanted: bool) -> Result<Found, ExprError> {
        let mut last = Value::Null;
        for node in nodes {
            last = self.value(node)?;
            if last.is_truthy() == wanted {
                break;
            }
        }
        Ok(Found::plain(last))
    }

    fn case(&mut self, arguments: &[Node]) -> Result<Value, ExprError> {
        let (pairs, default) = arguments.as_chunks::<2>();
        for [predicate, value] in pairs {
            match self.value(predicate)? {
                Value::Bool(true) => return self.value(value),
                Value::Bool(false) => {}
                _ => return Err(ExprError::CasePredicate),
            }
        }
        default.first().map_or(Ok(Value::Null), |node| self.value(node))
    }

    fn index(&mut self, base: &Found, index: &Value) -> Result<Found, ExprError> {
        if !base.filtered {
            return Ok(Found::plain(member(&base.value, index).unwrap_or_default()));
        }
        let items = base.value.as_array().unwrap_or_default();
        let members: Vec<Value> = items.iter().filter_map(|item| member(item, index)).collect();
        self.charge(members.len() * size_of::<Value>())?;
        Ok(Found::filtered(members))
    }

    fn wildcard(&mut self, base: &Found) -> Result<Found, ExprError> {
        let mut items = Vec::new();
        if base.filtered {
            for item in base.value.as_array().unwrap_or_default() {
                items.extend(members(item));
            }
        } else {
            items.extend(members(&base.value));
        }
        self.charge(items.len() * size_of::<Value>())?;
        Ok(Found::filtered(items))
    }
}

/// What `.*` yields of one value.
fn members(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => Vec::clone(items),
        Value::Object(object) => object.values().cloned().collect(),
        _ => Vec::new(),
    }
}

/// `base[index]`; `None` when there is no such member, which is not the same as a null one.
fn member(base: &Value, index: &Value) -> Option<Value> {
    match base {
        Value::Array(items) => items.get(array_index(index)?).cloned(),
        Value::Object(object) if index.is_primitive() => object.get(&index.to_text()).cloned(),
        _ => None,
    }
}

fn array_index(index: &Value) -> Option<usize> {
    let number = index.to_number().trunc();
    // The length of an array is far below 2^53, so comparison and conversion are exact.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked")]
    (0.0..9_007_199_254_740_992.0).contains(&number).then_some(number as usize)
}

fn compare(operator: Operator, left: &Value, right: &Value) -> bool {
    let order =
        |test: fn(std::cmp::Ordering) -> bool| left.loosely_compares(right).is_some_and(test);
    match operator {
        Operator::Equal => left.loosely_equals(right),
        Operator::NotEqual => !left.loosely_equals(right),
        Operator::Less => order(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order(std::cmp::Ordering::is_le),
        Operator::Greater => order(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order(std::cmp::Ordering::is_ge),
    }
}
