//! The registry endpoint, decision, promotion.
//!
//! To its clients the gate is an ordinary OCI registry (distribution-spec 1.1). What they push goes
//! through these states:
//!
//! ```text
//!  receiving ─▶ staged ─▶ analysed ─▶ decided ─┬▶ denied: 403, nothing leaves the staging
//!   (upload)    (blob,     (layer, as           │
//!               private    its bytes            └▶ promoting ─▶ promoted
//!               to a run)  arrive)                 blobs, manifest, tag last
//! ```
//!
//! Blobs are staged where only the run that pushed them can see them. A manifest is what asks for a
//! decision: the facts are gathered, the policies are asked by a plain function, the decision is
//! written to a hash-chained log, and only then is anything copied upstream.
//!
//! Nothing about a push but blobs, analyses and decisions is kept, so a gate that was killed needs
//! no repair: an upload begins anew, a manifest is put again and lands where it would have.

mod admin;
mod analysis;
mod auth;
mod collect;
mod config;
mod decisions;
mod error;
mod evidence;
mod gate;
mod inspector;
mod lease;
mod mirror;
mod protocol;
mod push;
mod replay;
mod route;
mod staging;
mod upload;
mod upstream;

pub use auth::worker::{Place, Workers};
pub use collect::Collected;
pub use config::{
    ClaimNames, Clock, Config, Issuer, IssuersError, MAX_ISSUERS_BYTES, OpenError, Reading,
    load_issuers,
};
pub use decisions::{Decision, Decisions, Summary};
pub use evidence::{Explained, explain};
pub use gate::Gate;
pub use inspector::{Inspection, Inspector};
pub use mirror::{MirrorConfig, MirroredRegistry, load_mirrored};
pub use replay::{Replayed, judge, replay};
pub use upstream::{DiskUpstream, Upstream};
