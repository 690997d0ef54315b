//! What the fuzz targets of `fuzz/` call, for they are not of this crate: no interface of it.
//!
//! Each function takes any bytes, and panics when something does not hold.

use crate::secrets::{Hit, search};

/// A window much smaller than a file: what is found must not depend on where pieces end.
const SMALL_WINDOW_BYTES: usize = 4 * 1024;

/// A file with secrets in it.
pub fn secrets(input: &[u8]) {
    let whole = found(input, input.len() + 1);
    assert_eq!(found(input, SMALL_WINDOW_BYTES), whole, "in pieces");
    let mut end = 0;
    for (_, line, offset, value) in whole {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        assert!(at >= end && !value.is_empty(), "one at {at} begins before {end}");
        end = at.saturating_add(value.len());
        assert_eq!(input.get(at..end), Some(value.as_slice()));
        let lines = input[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(line, lines + 1, "at {at}");
    }
}

type Found = (&'static str, u64, u64, Vec<u8>);

fn found(input: &[u8], window: usize) -> Vec<Found> {
    let mut all = Vec::new();
    // Reading from memory cannot fail.
    let _ = search(&mut vec![0; window], &mut &*input, &mut |hit| {
        if let Hit::Secret(it) = hit {
            all.push((it.kind, it.line, it.offset, it.value.to_vec()));
        }
    });
    all
}
