//! What the gate let pass, copied to another registry: by a process of its own, which alone can push there.
//!
//! ```text
//!  gate ── order: a decision that passes, signed a moment ago ──▶ promoter ──▶ 1. is it the gate's, fresh, and does
//!   ▲                                                              │  it let the image pass?   2. where to?
//!   └───── blobs and manifests by digest ◀── reads ────────────────┤
//!                                                                  └─ writes ──▶ ECR, or any registry:
//!                                                       blobs, manifests, the gate's word on it, the tag last
//! ```
//!
//! The gate parses what strangers push, and holds no credential of that registry. The promoter holds it, and takes
//! nothing but orders: it reads no layer, answers no client, and copies what an order names by digest.

mod ask;
mod copy;
mod ecr;
mod failure;
pub(crate) mod order;
mod outgoing;
mod routes;
mod serve;

pub(crate) use self::ask::{Asked, Promoters};
pub use self::ecr::identity::aws_environment;
pub(crate) use self::outgoing::Outgoing;
pub use self::outgoing::Waiting;
pub use self::routes::{Login, PromoterSettings, Route, TlsFiles, load_promoter};
pub use self::serve::{Promoter, PromoterConfig};

use serde::{Deserialize, Serialize};

/// What the promoter says to an order that it carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promoted {
    /// 1.
    pub schema_version: u32,
    /// What became of it.
    pub state: PromotedState,
    /// Where it is now: `registry/name:tag@digest`; nothing where it goes nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Bytes that were sent; the rest was there.
    pub sent_bytes: u64,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromotedState {
    /// It is there, under its tag.
    Promoted,
    /// The gate's tag names another image by now.
    Overtaken,
    /// No route is for this repository.
    Nowhere,
}
