//! The registry endpoint, decision, promotion.
//!
//! To its clients the gate is an ordinary OCI registry (distribution-spec 1.1). What they push goes
//! through these states:
//!
//! ```text
//!  receiving ─▶ staged ─▶ analysed ─▶ decided ─┬▶ denied: 403, nothing leaves the staging
//!   (upload)    (blob,     (layer, as           ├▶ held: 403, until somebody approves or rejects
//!               private    its bytes            └▶ promoting ─▶ promoted
//!               to a run)  arrive)                 blobs, manifest, attestation, tag last
//! ```
//!
//! Blobs are staged where only the run that pushed them can see them. A manifest is what asks for a
//! decision: the facts are gathered, the policies are asked by a plain function, the decision is
//! written to a hash-chained log, and only then is anything copied upstream. From there another process, which
//! alone may write there, copies it to another registry, where one is configured ([`promoter`]).
//!
//! Where a push is stands in a journal ([`push::state`]): a gate that was killed goes on with what
//! may ship, and whoever puts the same manifest again is told the same again.

mod admin;
mod analysis;
mod archive;
mod auth;
mod collect;
mod config;
mod decisions;
mod error;
mod evidence;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod inspector;
mod key_file;
mod lease;
mod mirror;
mod owners;
mod places;
mod promoter;
mod protocol;
mod push;
mod quarantine;
mod reserve;
mod route;
mod serve;
mod staging;
mod upload;
mod upstream;
mod vsa;

pub use admin::{Prune, Pruned};
pub use archive::{Archive, Explained, Replayed, judge};
pub use auth::users::{User, load_users, new_user, users_text};
pub use auth::worker::{Place, Workers};
pub use collect::Collected;
pub use config::{
    ClaimNames, Clock, Config, Issuer, IssuersError, MAX_ISSUERS_BYTES, OpenError, Options,
    Reading, TokenPasswords, load_issuers,
};
pub use decisions::verify::{Fault, Verified};
pub use decisions::{Approval, Decision, Decisions, Summary};
pub use gate::{Gate, make_keys};
pub use inspector::{Busy, Inspection, Inspector};
pub use mirror::{MirrorConfig, Mirrored, MirroredRegistry, load_mirrored};
pub use promoter::{
    Login, Promoted, PromotedState, Promoter, PromoterConfig, PromoterSettings, Route, TlsFiles,
    Waiting, aws_environment, load_promoter,
};
pub use push::state::{Basis, Push, State};
pub use quarantine::{Held, Quarantine, Word};
pub use serve::{Patience, Tls, TlsError, serve, serve_tls};
