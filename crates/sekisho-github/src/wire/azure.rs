//! The dialect of Azure's blob storage that signed URLs are used with: lists of blocks, ranges.

/// The version of the dialect that answers claim.
pub const VERSION: &str = "2026-02-06";
/// The most blocks of one blob, as on Azure.
pub const MAX_BLOCKS: usize = 50_000;
/// Longest block id, in characters of base64: 64 bytes.
pub const MAX_BLOCK_ID: usize = 88;

/// Where a block of a list is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// In what is uploaded but in no list yet, else in the blob.
    Latest,
    /// In the blob as it is.
    Committed,
    /// In what is uploaded but in no list yet.
    Uncommitted,
}

/// Why a list of blocks is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockListError {
    /// Not `<BlockList>…</BlockList>` with `Latest`, `Committed` and `Uncommitted` within.
    #[error("the list of blocks is not understood")]
    Xml,
    /// An id is no base64, or too long.
    #[error("a block id is not base64 of at most 64 bytes")]
    Id,
    /// More than [`MAX_BLOCKS`].
    #[error("the list has more than {MAX_BLOCKS} blocks")]
    TooMany,
}

/// Whether a block id may be one.
pub fn is_block_id(id: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_');
    (1..=MAX_BLOCK_ID).contains(&id.len()) && id.chars().all(known)
}

/// Reads the body of a `comp=blocklist` request.
///
/// # Errors
/// See [`BlockListError`].
pub fn block_list(xml: &str) -> Result<Vec<(From, &str)>, BlockListError> {
    let bad = BlockListError::Xml;
    let mut rest = xml.trim_start_matches('\u{feff}').trim();
    if rest.starts_with("<?xml") {
        rest = rest.split_once("?>").ok_or(bad)?.1.trim_start();
    }
    if matches!(rest, "<BlockList/>" | "<BlockList />") {
        return Ok(Vec::new());
    }
    rest = rest.strip_prefix("<BlockList>").ok_or(bad)?;
    rest = rest.strip_suffix("</BlockList>").ok_or(bad)?.trim();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix('<').ok_or(bad)?.split_once('>').ok_or(bad)?;
        let from = match name {
            "Latest" => From::Latest,
            "Committed" => From::Committed,
            "Uncommitted" => From::Uncommitted,
            _ => return Err(bad),
        };
        let (id, after) = after.split_once("</").ok_or(bad)?;
        let after = after.strip_prefix(name).and_then(|after| after.strip_prefix('>'));
        rest = after.ok_or(bad)?.trim_start();
        let id = id.trim();
        if !is_block_id(id) {
            return Err(BlockListError::Id);
        }
        if blocks.len() >= MAX_BLOCKS {
            return Err(BlockListError::TooMany);
        }
        blocks.push((from, id));
    }
    Ok(blocks)
}

/// The body of a refusal.
pub fn error_xml(code: &str, message: &str) -> String {
    let escaped = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <Error><Code>{code}</Code><Message>{escaped}</Message></Error>"
    )
}

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Everything: there is none, or one that is not understood, which RFC 9110 has ignored.
    Whole,
    /// These bytes: the first, and the one after the last; never empty.
    Part(u64, u64),
    /// Bytes that there are not.
    Unsatisfiable,
}

/// Reads `bytes=0-99`, `bytes=100-` and `bytes=-100` for content of `size` bytes.
pub fn range(header: Option<&str>, size: u64) -> Range {
    let Some((unit, range)) = header.and_then(|header| header.split_once('=')) else {
        return Range::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Range::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Range::Whole;
    }
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Range::Whole,
        (Ok(first), _) if first >= size && (last.is_empty() || last.parse::<u64>().is_ok()) => {
            Range::Unsatisfiable
        }
        (Ok(first), Ok(last)) => Range::Part(first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => Range::Part(first, size),
        (Err(_), Ok(count)) if first.is_empty() => match count.min(size) {
            0 => Range::Unsatisfiable,
            count => Range::Part(size - count, size),
        },
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists() {
        let xml = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n \
                   <Latest>QQ==</Latest><Committed>Qg==</Committed>\n\
                   <Uncommitted> Qw== </Uncommitted></BlockList>\n";
        let want = [(From::Latest, "QQ=="), (From::Committed, "Qg=="), (From::Uncommitted, "Qw==")];
        assert_eq!(block_list(xml).unwrap(), want);
        assert_eq!(block_list("<BlockList />").unwrap(), []);
        assert_eq!(block_list("<BlockList></BlockList>").unwrap(), []);
        let check = |xml: &str, want| assert_eq!(block_list(xml), Err(want), "{xml}");
        check("", BlockListError::Xml);
        check("<BlockList><Latest>QQ==</BlockList>", BlockListError::Xml);
        check("<BlockList><Other>QQ==</Other></BlockList>", BlockListError::Xml);
        check("<BlockList><Latest>QQ==</Committed></BlockList>", BlockListError::Xml);
        check("<BlockList><Latest>../x</Latest></BlockList>", BlockListError::Id);
        check("<BlockList><Latest></Latest></BlockList>", BlockListError::Id);
        let many = "<Latest>QQ==</Latest>".repeat(MAX_BLOCKS + 1);
        check(&format!("<BlockList>{many}</BlockList>"), BlockListError::TooMany);
    }

    #[test]
    fn ranges() {
        let check = |header: &str, want| assert_eq!(range(Some(header), 10), want, "{header}");
        check("bytes=0-4", Range::Part(0, 5));
        check("bytes=5-", Range::Part(5, 10));
        check("BYTES=9-99", Range::Part(9, 10));
        check("bytes=-3", Range::Part(7, 10));
        check("bytes=-99", Range::Part(0, 10));
        check("bytes=10-", Range::Unsatisfiable);
        check("bytes=10-12", Range::Unsatisfiable);
        check("bytes=-0", Range::Unsatisfiable);
        for ignored in ["", "bytes", "bytes=", "bytes=-", "bytes=4-3", "bytes=a-b", "lines=0-1"] {
            check(ignored, Range::Whole);
        }
        check("bytes=0-1,3-4", Range::Whole);
        assert_eq!(range(Some("bytes=0-"), 0), Range::Unsatisfiable);
        assert_eq!(range(None, 10), Range::Whole);
    }

    proptest! {
        #[test]
        fn a_range_is_within(header in "bytes=[0-9]{0,20}-[0-9]{0,20}", size: u64) {
            if let Range::Part(first, end) = range(Some(&header), size) {
                prop_assert!(first < end && end <= size);
            }
        }

        #[test]
        fn any_text_is_a_list_or_refused(xml in "(<BlockList>)?[<>/A-Za-z= ]{0,40}(</BlockList>)?") {
            drop(block_list(&xml));
        }
    }
}
