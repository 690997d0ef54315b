//! The packages of an image, and the findings about them.
//!
//! ```text
//!  layer ─▶ index_layer ─▶ LayerIndex ─┐   while its bytes arrive; kept by digest
//!  layer ─▶ index_layer ─▶ LayerIndex ─┼─▶ merge ─▶ Inventory ─▶ inspect ─▶ Report
//!  layer ─▶ index_layer ─▶ LayerIndex ─┘            at the manifest; reads no layer
//! ```
//!
//! What is read: os-release, the package databases of dpkg (also the split form of distroless
//! images) and apk, npm lock files and installed npm packages, installed Python packages and
//! pinned `requirements.txt`. What is recognised and not read, cannot be read, or lies beyond a
//! limit is listed in `not_assessed`, with the reason: an empty list of findings is only good news
//! together with an empty list of those.
//!
//! The files that a layer adds are also searched for secrets, in the same pass. What clients push as a
//! statement about an image is read by [`read_document`].

mod data;
mod format;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod inspect;
mod merge;
mod os;
mod secrets;
mod statement;
mod tree;
mod watch;

pub use data::embedded_advisories;
pub use index::{ANALYSER, Facts, Found, IndexError, LayerIndex, Limits, index_layer};
pub use inspect::{DataAge, Report, inspect};
pub use merge::{Inventory, merge};
pub use os::{Os, OsRelease};
pub use secrets::{FingerprintKey, secrets_in};
pub use statement::{Attestors, AttestorsError, read_document};
