//! `Range` of a download and `Content-Range` of an upload.

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no header, or one that is not understood, as RFC 9110 14.2 has it.
    Whole,
    /// From the first to the last byte, both within the content.
    Part { first: u64, last: u64 },
    /// Nothing of it is there: 416.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes. Several ranges are answered with the whole.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|text| text.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    let number = |text: &str| {
        if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u64>().ok() } else { None }
    };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) => (first, last.min(size.saturating_sub(1))),
        (Some(first), None) if last.is_empty() => (first, size.saturating_sub(1)),
        // The last so many bytes.
        (None, Some(0)) if first.is_empty() => return Wanted::Unsatisfiable,
        (None, Some(count)) if first.is_empty() => {
            (size.saturating_sub(count), size.saturating_sub(1))
        }
        _ => return Wanted::Whole,
    };
    if first >= size || first > last { Wanted::Unsatisfiable } else { Wanted::Part { first, last } }
}

/// Reads a `Content-Range` of an upload: `first-last`, inclusive. Some clients write `bytes` in
/// front, and a size behind.
pub(crate) fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next().unwrap_or(text);
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u64>().ok() } else { None }
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        let part = |first, last| Wanted::Part { first, last };
        for (header, size, want) in [
            (None, 10, Wanted::Whole),
            (Some("bytes=500-1499"), 2048, part(500, 1499)),
            (Some("bytes=500-"), 2048, part(500, 2047)),
            (Some("bytes=-500"), 2048, part(1548, 2047)),
            (Some("bytes=-5000"), 2048, part(0, 2047)),
            (Some("bytes=2000-5000"), 2048, part(2000, 2047)),
            (Some("bytes=0-0"), 1, part(0, 0)),
            (Some("bytes=500-0"), 2048, Wanted::Unsatisfiable),
            (Some("bytes=5000-10000"), 2048, Wanted::Unsatisfiable),
            (Some("bytes=-0"), 2048, Wanted::Unsatisfiable),
            (Some("bytes=0-"), 0, Wanted::Unsatisfiable),
            (Some("bytes=-1"), 0, Wanted::Unsatisfiable),
            (Some("bytes=0-1,3-4"), 10, Wanted::Whole),
            (Some("lines=0-1"), 10, Wanted::Whole),
            (Some("bytes=+1-2"), 10, Wanted::Whole),
            (Some("bytes=-"), 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(header, size), want, "{header:?} of {size}");
        }
    }

    #[test]
    fn content_ranges() {
        for (text, want) in [
            ("0-99", Some((0, 99))),
            ("bytes 0-99/100", Some((0, 99))),
            ("0-0", Some((0, 0))),
            ("5-4", None),
            ("-4", None),
            ("4-", None),
            ("a-b", None),
            ("99999999999999999999-1", None),
        ] {
            assert_eq!(content_range(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within(header in "bytes=[0-9]{0,6}-[0-9]{0,6}", size in 0..100_000_u64) {
            if let Wanted::Part { first, last } = wanted(Some(&header), size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
