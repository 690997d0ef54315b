//! How much is read of a foreign body: bytes and depth, looked at before it is parsed.

use serde::de::DeserializeOwned;

use crate::lenient;

/// The largest body that is read, in bytes: a batch of 50 jobs is some 40 KiB.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// The deepest nesting that is read: real bodies have 4.
pub const MAX_DEPTH: usize = 16;

/// Why a body was not read. No variant holds what the body says.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// It is too long.
    #[error("the body has {bytes} bytes, and at most {MAX_BODY} are read")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It is nested too deep.
    #[error("the body is nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// It is not JSON, or JSON of another shape.
    #[error("the body is not the JSON that was asked for ({reason}, line {line}, column {column})")]
    Shape {
        /// `syntax`, `end of file`, or `data`.
        reason: &'static str,
        /// From 1; 0 where it is not known.
        line: usize,
        /// From 1; 0 where it is not known.
        column: usize,
    },
}

/// Reads a body leniently, within [`MAX_BODY`] and [`MAX_DEPTH`].
///
/// # Errors
/// See [`BudgetError`].
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, BudgetError> {
    if body.len() > MAX_BODY {
        return Err(BudgetError::TooLong { bytes: body.len() });
    }
    if depth(body) > MAX_DEPTH {
        return Err(BudgetError::TooDeep);
    }
    lenient::from_slice(body).map_err(|error| BudgetError::Shape {
        reason: match error.classify() {
            serde_json::error::Category::Eof => "end of file",
            serde_json::error::Category::Syntax => "syntax",
            _ => "data",
        },
        line: error.line(),
        column: error.column(),
    })
}

/// How deep arrays and objects are nested, at most; right for JSON, and finite for all else.
pub(crate) fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut text, mut escaped) = (0usize, 0, false, false);
    for byte in body {
        match (text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => text = !text,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_of_the_json() {
        for (text, want) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[1,[2]]}"#, 3),
            (r#"{"a":"[[[[","b":"\"[["}"#, 1),
            ("]]][", 1),
        ] {
            assert_eq!(depth(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
        assert!(matches!(read::<serde_json::Value>(deep.as_bytes()), Err(BudgetError::TooDeep)));
        let long = vec![b' '; MAX_BODY + 1];
        let refused = read::<serde_json::Value>(&long);
        assert!(matches!(refused, Err(BudgetError::TooLong { bytes }) if bytes == MAX_BODY + 1));
        let cut = read::<serde_json::Value>(b"{\"a\":");
        assert!(matches!(cut, Err(BudgetError::Shape { reason: "end of file", line: 1, .. })));
    }
}
