//! How a client gets to the tenant: a registration token, changed for an address and an admin token.

use serde::{Deserialize, Serialize};

use super::text::open_enum;
use crate::lenient::scalar;
use crate::secret::WireSecret;

/// Body of `POST /actions/runner-registration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// The repository, organization or enterprise, as people see it.
    pub url: String,
    /// What the token is for.
    #[serde(default)]
    pub runner_event: RunnerEvent,
}

open_enum! {
    /// What a registration is made for.
    #[derive(Default)]
    RunnerEvent {
        /// To add runners.
        #[default]
        Register = "register",
        /// To take them away.
        Remove = "remove",
    }
}

/// `token_schema` of a [`Registration`].
pub const TOKEN_SCHEMA: &str = "OAuthAccessToken";

/// Answer of `POST /actions/runner-registration`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// The tenant: paths of the Actions service are appended to it.
    pub url: String,
    /// A JWT: the tenant's admin token.
    pub token: WireSecret,
    /// [`TOKEN_SCHEMA`].
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub token_schema: String,
    /// Whether a runner that is not JIT registers over REST.
    #[serde(default, deserialize_with = "scalar::bool_or_text")]
    pub use_v2_flow: bool,
}
