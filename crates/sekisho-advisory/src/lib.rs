//! Package versions, version ranges, advisories, and which of them apply to which package.
//!
//! Everything here is pure: records and packages in, findings out. No file, clock or network.
//!
//! ```text
//!  OSV records ─▶ Database ─┐
//!                           ├─▶ match_packages ─▶ Matches { findings, not_assessed }
//!  packages of an image ────┘
//! ```
//!
//! What cannot be judged is said: a version that does not parse, or an ecosystem without data,
//! becomes a [`NotAssessed`], never an empty list.

pub mod cvss;
mod database;
mod ecosystem;
mod matching;
pub mod osv;
mod package;
mod threat;
pub mod version;

pub use database::{Builder, Database, DatabaseError, Ignored, MAX_RECORDS};
pub use ecosystem::Ecosystem;
pub use matching::{Finding, Matches, match_packages};
pub use package::{NotAssessed, Package, Reason, Source};
pub use threat::{MAX_THREAT_BYTES, Threat, ThreatError, Threats};
