//! OCI distribution client.
//!
//! Speaks distribution-spec 1.1 to any registry: pull with digests verified while streaming, push in
//! the two ways that registries take, Bearer, Basic and anonymous authentication. One [`Client`]
//! serves many registries and many tasks at once; its [`Keyring`] says who it is at which registry.
//!
//! What a refused push says reaches the user as the server wrote it: [`RegistryError::Denied`].
//!
//! Every await has a deadline, every body a limit, and what may help is tried again with growing
//! pauses (5xx, 429, a broken connection; never a refusal). Credentials go to the registry and to the
//! token service that it names, and nowhere else; no error, log line or debug output holds one.

mod answer;
mod auth;
mod blob;
mod challenge;
mod config_json;
mod endpoint;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod helper;
mod http;
mod pull;
mod push;
mod retry;
mod token;

pub use auth::{Auth, Keyring};
pub use config_json::{AuthError, MAX_CONFIG_JSON_BYTES};
pub use endpoint::{Reference, Repository};
pub use error::{PullError, PushError, RegistryError};
pub use http::{Client, Options};
pub use pull::{Fetched, Resolved};
pub use push::{BlobPush, Pushed, Standing};
