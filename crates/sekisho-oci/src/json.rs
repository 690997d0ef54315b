//! Serde pieces that several types share.

use serde::{Deserialize, Deserializer, Serialize};

/// Reads `null` as the default value: Docker writes `"Cmd": null` where OCI leaves the field out.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Compact JSON. Struct fields keep their order and maps are sorted, so equal values give equal
/// bytes.
#[expect(
    clippy::expect_used,
    reason = "strings, numbers and maps with string keys always serialise into memory"
)]
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a document of ours serialises")
}
