//! Times of job messages: RFC 3339, and .NET's zero time where there is none.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

/// What .NET and Go write for a time that is not set.
const UNSET: &str = "0001-01-01T00:00:00Z";

/// Writes `None` as [`UNSET`].
pub(super) fn serialize<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => time.serialize(serializer),
        None => serializer.serialize_str(UNSET),
    }
}

/// Reads [`UNSET`], `null`, and what is no time as `None`: a job is not lost for a time that
/// nothing is decided on.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let time = text.and_then(|text| text.parse::<Timestamp>().ok());
    Ok(time.filter(|time| time.as_second() > YEAR_ONE_END))
}

/// The second after which a time is one: the end of the year 1, in seconds before 1970.
const YEAR_ONE_END: i64 = -62_104_060_800;
