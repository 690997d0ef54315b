//! The advisories in the binary.

use jiff::Timestamp;
use sekisho_advisory::{Database, DatabaseError};

/// Name and text of each record in `data/advisories`.
const RECORDS: &[(&str, &str)] = &[];

/// The advisories that come with the binary: a small, honest sample for the examples and for trying
/// things out, not a feed. `built` is the time that [`Database::built`] shall tell.
///
/// # Errors
/// One of the embedded records is damaged, which a test rules out.
pub fn embedded_advisories(built: Timestamp) -> Result<Database, DatabaseError> {
    Database::from_json(RECORDS.iter().copied(), built)
}
