//! As much of protobuf as Twirp's binary form needs: fields in, fields out.
//!
//! Rust and C++ cache clients send `application/protobuf` where others send JSON; the messages have
//! five fields at most, so they are read and written by hand (see [`super::cache`]).

/// The most fields of one message that are looked at.
const MAX_FIELDS: usize = 1_000;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// They end within a field.
    #[error("the message ends within a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Overlong,
    /// A wire type that protobuf no longer has, or never had, or field number 0.
    #[error("field {0} has an unknown form")]
    Form(u64),
    /// A field is of another type than it should be.
    #[error("field {0} has the wrong type")]
    Type(u64),
    /// A text is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Text(u64),
    /// More fields than anybody needs.
    #[error("the message has more than {MAX_FIELDS} fields")]
    TooMany,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Integers and booleans.
    Number(u64),
    /// Texts, bytes and messages.
    Bytes(&'a [u8]),
}

/// A message's fields, in order: number and content. Fixed-width fields are skipped.
///
/// # Errors
/// See [`ProtoError`].
pub fn read(mut bytes: &[u8]) -> Result<Vec<(u64, Field<'_>)>, ProtoError> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        if fields.len() >= MAX_FIELDS {
            return Err(ProtoError::TooMany);
        }
        let tag = varint(&mut bytes)?;
        let (number, form) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(ProtoError::Form(number));
        }
        match form {
            0 => fields.push((number, Field::Number(varint(&mut bytes)?))),
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = varint(&mut bytes)?;
                fields.push((number, Field::Bytes(take(&mut bytes, length)?)));
            }
            5 => drop(take(&mut bytes, 4)?),
            _ => return Err(ProtoError::Form(number)),
        }
    }
    Ok(fields)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtoError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ProtoError::Truncated)?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return Err(ProtoError::Overlong);
        }
        value |= bits << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtoError::Overlong)
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], ProtoError> {
    let length = usize::try_from(length).map_err(|_| ProtoError::Truncated)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(ProtoError::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

impl<'a> Field<'a> {
    /// As a text; `number` is for the error.
    ///
    /// # Errors
    /// When it is a number, or not UTF-8.
    pub fn text(self, number: u64) -> Result<&'a str, ProtoError> {
        match self {
            Field::Bytes(bytes) => str::from_utf8(bytes).map_err(|_| ProtoError::Text(number)),
            Field::Number(_) => Err(ProtoError::Type(number)),
        }
    }

    /// As an integer; `number` is for the error.
    ///
    /// # Errors
    /// When it is no number.
    pub fn integer(self, number: u64) -> Result<i64, ProtoError> {
        match self {
            // Negative numbers are written as their two's complement.
            Field::Number(value) => Ok(value.cast_signed()),
            Field::Bytes(_) => Err(ProtoError::Type(number)),
        }
    }
}

/// Writes a message. What is empty or zero is left out, as proto3 wants.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Adds an integer or boolean.
    #[must_use]
    pub fn number(mut self, number: u32, value: impl Into<i64>) -> Self {
        let value: i64 = value.into();
        if value != 0 {
            self.varint(u64::from(number) << 3);
            self.varint(value.cast_unsigned());
        }
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, number: u32, value: &str) -> Self {
        if value.is_empty() { self } else { self.item(number, value) }
    }

    /// Adds a text of a repeated field: an empty one counts.
    #[must_use]
    pub fn item(mut self, number: u32, value: &str) -> Self {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documentations_example() {
        // https://protobuf.dev/programming-guides/encoding/: field 1 is 150, field 2 is "testing".
        let bytes = b"\x08\x96\x01\x12\x07testing";
        let want = vec![(1, Field::Number(150)), (2, Field::Bytes(b"testing"))];
        assert_eq!(read(bytes), Ok(want));
        let written = Writer::default().number(1, 150).text(2, "testing").text(3, "").finish();
        assert_eq!(written, bytes);
    }

    #[test]
    fn what_is_no_message() {
        let check = |bytes: &[u8], want| assert_eq!(read(bytes), Err(want), "{bytes:?}");
        check(b"\x08", ProtoError::Truncated);
        check(b"\x12\x07test", ProtoError::Truncated);
        check(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ProtoError::Truncated);
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", ProtoError::Overlong);
        check(b"\x0b", ProtoError::Form(1));
        check(b"\x02\x00", ProtoError::Form(0));
        check(&[8, 1].repeat(MAX_FIELDS + 1), ProtoError::TooMany);
        assert_eq!(Field::Number(u64::MAX).integer(1), Ok(-1));
        assert_eq!(Field::Bytes(b"\xff").text(7), Err(ProtoError::Text(7)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(read(&bytes));
        }

        #[test]
        fn what_is_written_is_read(number in 1_u32..1000, value: i64, text in "\\PC{1,20}") {
            let bytes = Writer::default().number(number, value).text(number, &text).finish();
            let fields = read(&bytes).unwrap();
            let n = u64::from(number);
            prop_assert_eq!(fields.last().unwrap().1.text(n), Ok(text.as_str()));
            if value != 0 {
                prop_assert_eq!(fields[0].1.integer(n), Ok(value));
            }
        }
    }
}
