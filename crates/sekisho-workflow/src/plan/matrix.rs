//! A matrix and its combinations.

use std::sync::Arc;

use super::MAX_MATRIX_JOBS;
use crate::expr::{Contexts, NoFunctions, Object, Value};
use crate::token::{self, Token};

/// The combinations of a matrix, in order: the last vector varies fastest, `exclude` removes,
/// `include` extends or adds.
///
/// # Errors
/// A sentence about what is wrong.
pub(super) fn combinations(matrix: &Token, contexts: &Contexts) -> Result<Vec<Object>, String> {
    let value = token::eval(matrix, contexts, &NoFunctions).map_err(|error| error.to_string())?;
    let Value::Object(matrix) = value else {
        return Err(format!("`matrix` must be a mapping, but is {}", value.kind()));
    };
    let mut vectors: Vec<(&str, &[Value])> = Vec::new();
    let (mut include, mut exclude) = (Vec::new(), Vec::new());
    for (key, value) in matrix.iter() {
        let items = value
            .as_array()
            .ok_or_else(|| format!("`matrix.{key}` must be a sequence, but is {}", value.kind()))?;
        if key.eq_ignore_ascii_case("include") {
            include = entries(items, "include")?;
        } else if key.eq_ignore_ascii_case("exclude") {
            exclude = entries(items, "exclude")?;
        } else if items.is_empty() {
            return Err(format!("`matrix.{key}` must not be empty"));
        } else {
            vectors.push((key, items));
        }
    }
    let originals = cross(&vectors)?;
    for entry in &exclude {
        for (key, _) in entry.iter() {
            if !matrix.contains_key(key) {
                return Err(format!("`exclude` names `{key}`, which is no key of the matrix"));
            }
        }
    }
    let originals: Vec<Object> = originals
        .into_iter()
        .filter(|combination| !exclude.iter().any(|entry| is_part(entry, combination)))
        .collect();
    let all = extend(originals, &include, &vectors);
    match all.len() {
        0 => Err("the matrix has no combination left".to_owned()),
        1..=MAX_MATRIX_JOBS => Ok(all),
        many => Err(format!("the matrix makes {many} jobs, more than {MAX_MATRIX_JOBS}")),
    }
}

fn entries(items: &[Value], what: &str) -> Result<Vec<Arc<Object>>, String> {
    items
        .iter()
        .map(|item| match item {
            Value::Object(object) => Ok(Arc::clone(object)),
            other => {
                Err(format!("an entry of `{what}` must be a mapping, but is {}", other.kind()))
            }
        })
        .collect()
}

fn cross(vectors: &[(&str, &[Value])]) -> Result<Vec<Object>, String> {
    /// Before `exclude`, which may bring the number down again.
    const MAX_RAW: usize = 16 * MAX_MATRIX_JOBS;
    if vectors.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = vec![Object::new()];
    for (key, items) in vectors {
        if all.len().saturating_mul(items.len()) > MAX_RAW {
            return Err(format!("the matrix makes more than {MAX_RAW} combinations"));
        }
        all = all
            .iter()
            .flat_map(|object| {
                items.iter().map(|item| {
                    let mut object = object.clone();
                    object.insert(*key, item.clone());
                    object
                })
            })
            .collect();
    }
    Ok(all)
}

fn extend(
    originals: Vec<Object>,
    include: &[Arc<Object>],
    vectors: &[(&str, &[Value])],
) -> Vec<Object> {
    let is_vector = |key: &str| vectors.iter().any(|(name, _)| name.eq_ignore_ascii_case(key));
    let mut extended = originals.clone();
    let mut added = Vec::new();
    for entry in include {
        let mut fitted = false;
        for (original, combination) in originals.iter().zip(&mut extended) {
            // Only values of the vectors must agree; what an earlier entry added may change.
            let agrees = entry.iter().all(|(key, value)| {
                !is_vector(key) || original.get(key).is_some_and(|own| deep_equal(own, value))
            });
            if agrees {
                fitted = true;
                for (key, value) in entry.iter().filter(|(key, _)| !is_vector(key)) {
                    combination.insert(key, value.clone());
                }
            }
        }
        if !fitted {
            added.push(Object::clone(entry));
        }
    }
    extended.extend(added);
    extended
}

/// Whether every key of `part` is in `whole` with an equal value.
fn is_part(part: &Object, whole: &Object) -> bool {
    part.iter().all(|(key, value)| whole.get(key).is_some_and(|own| deep_equal(own, value)))
}

/// Equality by content, where the language's `==` would compare identities.
fn deep_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| deep_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && is_part(a, b),
        _ => a.loosely_equals(b),
    }
}
