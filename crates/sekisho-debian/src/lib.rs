//! From a distribution's mirror to the packages of a base, with every byte checked.
//!
//! ```text
//!  apt's own sources, or a configured mirror ── [`sources`] ──▶ which archives
//!    InRelease      OpenPGP signature by the archive's keyring   [`release`]
//!      └ Packages   size and SHA-256 from the release            [`index`]
//!          └ .deb   size and SHA-256 from the index              [`archive`]
//!  wanted + all packages ── [`resolve`] (pure) ──▶ the set to install
//! ```
//!
//! No mirror's name is in this code: it is the configuration's, or the machine's.
//!
//! Sources: deb-control(5), deb(5), sources.list(5), and <https://wiki.debian.org/DebianRepository/Format>.

pub mod archive;
pub mod control;
mod error;
pub mod fetch;
#[doc(hidden)]
pub mod fuzzing;
pub mod index;
pub mod release;
pub mod resolve;
pub mod sources;

pub use error::DebianError;
pub use fetch::{Mirror, Selection};
pub use index::Package;
pub use sources::{Archive, Sources};
