//! The advisories in the binary.

use jiff::Timestamp;
use sekisho_advisory::{Database, DatabaseError};

macro_rules! record {
    ($name:literal) => {
        ($name, include_str!(concat!("../data/advisories/", $name, ".json")))
    };
}

/// Name and text of each record in `data/advisories`.
const RECORDS: &[(&str, &str)] = &[
    record!("CVE-2011-4116"),
    record!("CVE-2016-2781"),
    record!("CVE-2022-3219"),
    record!("CVE-2024-6119"),
    record!("CVE-2025-26519"),
    record!("DSA-5514-1"),
    record!("DSA-5523-1"),
    record!("DSA-5532-1"),
    record!("DSA-5724-1"),
    record!("DSA-5770-1"),
    record!("GHSA-29mw-wpgm-hmr9"),
    record!("GHSA-35jh-r3h4-6jhm"),
    record!("GHSA-3h5v-q93c-6h6q"),
    record!("GHSA-c2qf-rxjj-qqgw"),
    record!("GHSA-hrpp-h998-j3pp"),
    record!("GHSA-jf85-cpcp-j695"),
    record!("GHSA-p6mc-m468-83gw"),
    record!("GHSA-xvch-5gv4-984h"),
    record!("PYSEC-2019-217"),
    record!("PYSEC-2023-192"),
    record!("PYSEC-2023-212"),
    record!("PYSEC-2023-74"),
];

/// The advisories that come with the binary: a small, honest sample for the examples and for trying
/// things out, not a feed. `built` is the time that [`Database::built`] shall tell.
///
/// # Errors
/// One of the embedded records is damaged, which a test rules out.
pub fn embedded_advisories(built: Timestamp) -> Result<Database, DatabaseError> {
    Database::from_json(RECORDS.iter().copied(), built)
}
