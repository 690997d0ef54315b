//! PAX extended header records: `LENGTH KEY=VALUE\n`.

use std::collections::BTreeMap;

/// Extended attributes, as star, GNU tar, Go and so all container engines write them.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// Most records of one header. GNU tar writes a dozen; each xattr is one.
const RECORDS_MAX: usize = 1024;

/// What the records of one `x` header change.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// A GNU sparse file: its data is not what it seems.
    pub(super) sparse: bool,
}

/// Reads the records of an `x` header.
pub(super) fn parse(bytes: &[u8]) -> Result<Records, &'static str> {
    let mut records = Records::default();
    for (key, value) in split(bytes)? {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() {
                return Err("PAX record has an empty attribute name");
            }
            records.xattrs.insert(name.to_vec(), value.to_vec());
            continue;
        }
        if key.starts_with(b"GNU.sparse.") {
            records.sparse = true;
            continue;
        }
        // An empty value takes a record away, so that the header's own field counts.
        let value = Some(value).filter(|value| !value.is_empty());
        match key {
            b"path" => records.path = value.map(<[u8]>::to_vec),
            b"linkpath" => records.link = value.map(<[u8]>::to_vec),
            b"size" => records.size = value.map(natural).transpose()?,
            b"uid" => records.uid = value.map(natural).transpose()?,
            b"gid" => records.gid = value.map(natural).transpose()?,
            b"mtime" => records.mtime = value.map(seconds).transpose()?,
            // Names of owners, other times, comments, what other programs keep for themselves.
            _ => {}
        }
    }
    Ok(records)
}

/// Checks a `g` header. Go's reader, and so container engines, do not apply it, and tar programs
/// do: it is harmless only when it changes nothing that matters. git writes a comment.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), &'static str> {
    let matters = |key: &[u8]| {
        matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid")
            || key.starts_with(b"GNU.sparse.")
            || key.starts_with(XATTR)
    };
    match split(bytes)?.iter().any(|(key, _)| matters(key)) {
        true => Err("global PAX record that programs read in different ways"),
        false => Ok(()),
    }
}

/// A key and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Takes the records apart.
fn split(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    const MALFORMED: &str = "PAX record is malformed";
    let mut records = Vec::new();
    while !bytes.is_empty() {
        if records.len() == RECORDS_MAX {
            return Err("PAX header has too many records");
        }
        // Five digits would do for what the limits allow; ten never overflow.
        let blank = bytes.iter().take(10).position(|b| *b == b' ').ok_or(MALFORMED)?;
        let digits = std::str::from_utf8(&bytes[..blank]).map_err(|_| MALFORMED)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(MALFORMED);
        }
        let length: usize = digits.parse().map_err(|_| MALFORMED)?;
        let record = bytes.get(blank + 1..length).ok_or(MALFORMED)?;
        let record = record.strip_suffix(b"\n").ok_or(MALFORMED)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(MALFORMED)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let names = matches!(key, b"path" | b"linkpath");
        if key.is_empty() || key.contains(&0) || (names && value.contains(&0)) {
            return Err(MALFORMED);
        }
        records.push((key, value));
        bytes = &bytes[length..];
    }
    Ok(records)
}

fn natural(value: &[u8]) -> Result<u64, &'static str> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("PAX number is malformed");
    }
    text.parse().map_err(|_| "PAX number is out of range")
}

/// `12.5` is 12, `-1.5` is -2: rounded down.
fn seconds(value: &[u8]) -> Result<i64, &'static str> {
    const MALFORMED: &str = "PAX time is malformed";
    let text = std::str::from_utf8(value).map_err(|_| MALFORMED)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || whole.starts_with('+') {
        return Err(MALFORMED);
    }
    let seconds: i64 = whole.parse().map_err(|_| MALFORMED)?;
    let below = whole.starts_with('-') && fraction.bytes().any(|b| b != b'0');
    seconds.checked_sub(i64::from(below)).ok_or(MALFORMED)
}

/// Appends a record; its length counts itself.
pub(super) fn put(output: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    output.extend_from_slice(format!("{length} ").as_bytes());
    output.extend_from_slice(key);
    output.push(b'=');
    output.extend_from_slice(value);
    output.push(b'\n');
}

/// The key of an extended attribute.
pub(super) fn xattr_key(name: &[u8]) -> Vec<u8> {
    [XATTR, name].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_records() {
        let records = parse(b"12 path=a/b\n10 size=5\n15 mtime=-1.50\n7 uid=\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!((records.size, records.mtime, records.uid), (Some(5), Some(-2), None));
    }

    #[test]
    fn refuses_malformed_records() {
        for bytes in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"3 a=b\n",
            b"0 a=b\n",
            b" a=b\n",
            b"+6 a=b\n",
            b"6 =bc\n",
            b"6 abc\n",
            b"11 path=a\0b\n",
        ] {
            assert!(split(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(parse(b"10 size=-\n").unwrap_err(), "PAX number is malformed");
        assert!(check_global(b"13 comment=x\n").is_ok());
        assert!(check_global(b"10 size=1\n").is_err());
    }

    proptest! {
        #[test]
        fn records_round_trip(
            key in "[a-z.]{1,20}",
            value in prop::collection::vec(any::<u8>(), 0..1200),
        ) {
            let mut bytes = Vec::new();
            let key = format!("SCHILY.xattr.{key}");
            put(&mut bytes, key.as_bytes(), &value);
            put(&mut bytes, b"comment", b"");
            let records = split(&bytes).unwrap();
            prop_assert_eq!(records, vec![(key.as_bytes(), &value[..]), (b"comment", b"")]);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = check_global(&bytes);
        }
    }
}
