//! One gzip member: bytes in, bytes out.

use std::io::{Read, Write};

use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use crate::MAX_MEMBER_TEXT;

/// ID1, ID2, CM = deflate, FLG = FEXTRA; MTIME 0 for equal bytes on equal text; OS unknown.
const FIXED: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];

/// Both subfields with their four-byte heads: `BC` + u16, `SK` + u64.
const EXTRA_LEN: u16 = 4 + 2 + 4 + 8;

/// Bytes before the deflate data.
pub(crate) const HEADER_LEN: usize = FIXED.len() + 2 + EXTRA_LEN as usize;

/// CRC-32 and size.
const TRAILER_LEN: usize = 8;

/// What a header says about its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The whole member, in bytes.
    pub(crate) len: usize,
    /// Number of its first line in the log, from 0.
    pub(crate) first_line: u64,
}

/// Makes one member. `text` is at most [`MAX_MEMBER_TEXT`] bytes.
pub(crate) fn encode(text: &[u8], first_line: u64) -> std::io::Result<Vec<u8>> {
    assert!(text.len() <= MAX_MEMBER_TEXT, "a member of {} bytes", text.len());
    let mut bytes = vec![0; HEADER_LEN];
    let mut deflate = DeflateEncoder::new(&mut bytes, Compression::default());
    deflate.write_all(text)?;
    deflate.finish()?;
    let mut crc = Crc::new();
    crc.update(text);
    bytes.extend_from_slice(&crc.sum().to_le_bytes());
    bytes.extend_from_slice(&crc.amount().to_le_bytes());

    let last = u16::try_from(bytes.len() - 1).map_err(std::io::Error::other)?;
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(&FIXED);
    header.extend_from_slice(&EXTRA_LEN.to_le_bytes());
    header.extend_from_slice(b"BC\x02\0");
    header.extend_from_slice(&last.to_le_bytes());
    header.extend_from_slice(b"SK\x08\0");
    header.extend_from_slice(&first_line.to_le_bytes());
    bytes[..HEADER_LEN].copy_from_slice(&header);
    Ok(bytes)
}

/// Reads a header; `None` when these bytes are not one of ours.
pub(crate) fn header(bytes: &[u8; HEADER_LEN]) -> Option<Header> {
    let (fixed, rest) = bytes.split_first_chunk::<10>()?;
    let (extra_len, rest) = rest.split_first_chunk::<2>()?;
    let (bc, rest) = rest.split_first_chunk::<4>()?;
    let (last, rest) = rest.split_first_chunk::<2>()?;
    let (sk, rest) = rest.split_first_chunk::<4>()?;
    let (first_line, _) = rest.split_first_chunk::<8>()?;
    let ours = *fixed == FIXED
        && u16::from_le_bytes(*extra_len) == EXTRA_LEN
        && bc == b"BC\x02\0"
        && sk == b"SK\x08\0";
    let len = usize::from(u16::from_le_bytes(*last)) + 1;
    (ours && len > HEADER_LEN + TRAILER_LEN)
        .then(|| Header { len, first_line: u64::from_le_bytes(*first_line) })
}

/// The text of a whole member, or what is wrong with it.
pub(crate) fn decode(member: &[u8]) -> Result<Vec<u8>, &'static str> {
    let body_end = member.len().checked_sub(TRAILER_LEN).ok_or("it is too short")?;
    let body = member.get(HEADER_LEN..body_end).ok_or("it is too short")?;
    let mut text = Vec::new();
    DeflateDecoder::new(body)
        .take(MAX_MEMBER_TEXT as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|_| "its data does not inflate")?;
    let mut crc = Crc::new();
    crc.update(&text);
    let (sum, size) = (crc.sum().to_le_bytes(), crc.amount().to_le_bytes());
    if member[body_end..] != [sum, size].concat() {
        return Err("its checksum does not match");
    }
    Ok(text)
}
