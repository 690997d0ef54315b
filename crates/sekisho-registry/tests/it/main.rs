//! The client against a registry of the tests, which can misbehave, and against a real one.

mod auth;
mod fake;
mod faults;
mod private_ca;
mod pull;
mod push;
mod real;
mod resume;

use sekisho_registry::{Client, Keyring, Options, Reference, Repository};
use std::time::Duration;

/// Of a client that gives up soon.
fn options() -> Options {
    // A second test has installed it already, which is all the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Options {
        attempts_max: 3,
        answer_deadline: Duration::from_secs(5),
        monolithic_bytes_max: 1000,
        ..Options::default()
    }
}

fn client(keyring: Keyring) -> Client {
    Client::with_options(keyring, options())
}

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn repository(registry: &str, name: &str) -> Repository {
    Repository { registry: registry.to_owned(), name: name.parse().unwrap() }
}

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn tag(name: &str) -> Reference {
    Reference::Tag(name.parse().unwrap())
}
