//! The 512-byte header block: ustar, GNU, star and v7.

use super::BLOCK;

/// The fields of a header block, and where they stand: POSIX.1-2024, pax, "ustar Interchange
/// Format".
pub(super) const NAME: std::ops::Range<usize> = 0..100;
pub(super) const MODE: std::ops::Range<usize> = 100..108;
pub(super) const UID: std::ops::Range<usize> = 108..116;
pub(super) const GID: std::ops::Range<usize> = 116..124;
pub(super) const SIZE: std::ops::Range<usize> = 124..136;
pub(super) const MTIME: std::ops::Range<usize> = 136..148;
pub(super) const CHECKSUM: std::ops::Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: std::ops::Range<usize> = 157..257;
pub(super) const MAGIC: std::ops::Range<usize> = 257..265;
pub(super) const DEV_MAJOR: std::ops::Range<usize> = 329..337;
pub(super) const DEV_MINOR: std::ops::Range<usize> = 337..345;
pub(super) const PREFIX: std::ops::Range<usize> = 345..500;

/// star keeps times where ustar keeps the end of the prefix, and says so here.
const STAR_PREFIX: std::ops::Range<usize> = 345..476;
const STAR_TRAILER: std::ops::Range<usize> = 508..512;

/// A header as it stands, before PAX records change it.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) device: (u64, u64),
}

impl Header {
    /// Reads a block that is not all zero; the error says what is wrong.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        check_sum(block)?;
        let ustar = block[MAGIC].starts_with(b"ustar\0");
        let prefix = match (ustar, &block[STAR_TRAILER]) {
            (true, b"tar\0") => text(&block[STAR_PREFIX]),
            (true, _) => text(&block[PREFIX]),
            (false, _) => b"",
        };
        let name = text(&block[NAME]);
        let path = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
        let modern = ustar || block[MAGIC] == *b"ustar  \0";
        let device = |field| if modern { natural(&block[field]) } else { Ok(0) };
        Ok(Self {
            path,
            link: text(&block[LINK]).to_vec(),
            kind: block[TYPE],
            // Some programs put the file type above the permissions.
            mode: u32::try_from(natural(&block[MODE])? & 0o7777).unwrap_or_default(),
            uid: natural(&block[UID])?,
            gid: natural(&block[GID])?,
            size: natural(&block[SIZE])?,
            mtime: i64::try_from(number(&block[MTIME])?).map_err(|_| "time is out of range")?,
            device: match block[TYPE] {
                b'3' | b'4' => (device(DEV_MAJOR)?, device(DEV_MINOR)?),
                _ => (0, 0),
            },
        })
    }
}

/// Whether bytes begin with the header of an entry. Those of old archives (v7) say nothing but their sum.
pub fn is_header(bytes: &[u8]) -> bool {
    let block = bytes.first_chunk::<BLOCK>();
    block.is_some_and(|block| Header::parse(block).is_ok_and(|header| !header.path.is_empty()))
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// The sum of all bytes, with the field itself taken as blanks. Old programs summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), &'static str> {
    let said = number(&block[CHECKSUM])?;
    let byte = |at: usize| if CHECKSUM.contains(&at) { b' ' } else { block[at] };
    // 512 bytes cannot overflow either sum.
    let unsigned: u32 = (0..BLOCK).map(|at| u32::from(byte(at))).sum();
    let signed: i32 = (0..BLOCK).map(|at| i32::from(byte(at).cast_signed())).sum();
    if said == i128::from(unsigned) || said == i128::from(signed) {
        Ok(())
    } else {
        Err("checksum is wrong")
    }
}

fn natural(field: &[u8]) -> Result<u64, &'static str> {
    u64::try_from(number(field)?).map_err(|_| "number is out of range")
}

/// Octal text, or, when the first bit is set, a big-endian two's complement number (GNU, star).
fn number(field: &[u8]) -> Result<i128, &'static str> {
    let Some(first) = field.first() else { return Ok(0) };
    if first & 0x80 != 0 {
        // Bit 6 is the sign. Fields are at most 12 bytes, so an `i128` holds them.
        let start = if first & 0x40 == 0 { 0 } else { -1 };
        let head = (start << 6) | i128::from(first & 0x3f);
        return Ok(field[1..].iter().fold(head, |value, b| (value << 8) | i128::from(*b)));
    }
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = field[start..].split(blank).next().unwrap_or_default();
    let rest = &field[start + digits.len()..];
    if !rest.iter().all(blank) || !digits.iter().all(|b| (b'0'..=b'7').contains(b)) {
        return Err("number is not octal");
    }
    Ok(digits.iter().fold(0, |value, b| (value << 3) | i128::from(b - b'0')))
}

/// Writes octal digits and a NUL; `false` when the number needs more digits than there are.
#[must_use]
pub(super) fn put_octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}\0");
    if text.len() != field.len() {
        return false;
    }
    field.copy_from_slice(text.as_bytes());
    true
}

/// Completes a block: six digits, NUL, blank.
pub(super) fn put_checksum(block: &mut [u8; BLOCK]) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_in_all_their_forms() {
        for (field, want) in [
            (&b"0000644\0"[..], Ok(0o644)),
            (b"   644 \0", Ok(0o644)),
            (b"\0\0\0\0\0\0\0\0", Ok(0)),
            (b"77777777777\0", Ok(0o77_777_777_777)),
            (b"777777777777", Ok(0o777_777_777_777)),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Ok(1 << 33)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(-2)),
            (b"0000648\0", Err("number is not octal")),
            (b"12\x0034 \0\0", Err("number is not octal")),
            (b"-1\0\0\0\0\0\0", Err("number is not octal")),
        ] {
            assert_eq!(number(field), want, "{field:?}");
        }
        assert_eq!(natural(b"\xff\xff"), Err("number is out of range"));
    }

    #[test]
    fn writes_octal_that_fits() {
        let mut field = [0; 8];
        assert!(put_octal(&mut field, 0o7_777_777));
        assert_eq!(&field, b"7777777\0");
        assert!(!put_octal(&mut field, 0o10_000_000));
    }
}
