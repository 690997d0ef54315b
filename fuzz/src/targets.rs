//! The list of targets.

mod advisory;
mod bodies;
mod builder;
mod debian;
mod dockerfile;
mod formats;
mod gate;
mod github;
mod hub;
mod image;
mod policy;
mod register;
mod registry;
mod rest;
mod runner;
mod scan;
mod storage;
mod workflow;

use std::borrow::Cow;
use std::fmt::Debug;

use crate::Target;

/// All of them.
pub fn all() -> Vec<Target> {
    [
        workflow::TARGETS,
        github::TARGETS,
        rest::TARGETS,
        storage::TARGETS,
        bodies::TARGETS,
        hub::TARGETS,
        register::TARGETS,
        runner::TARGETS,
        formats::TARGETS,
        dockerfile::TARGETS,
        builder::TARGETS,
        debian::TARGETS,
        image::TARGETS,
        scan::TARGETS,
        advisory::TARGETS,
        policy::TARGETS,
        gate::TARGETS,
        registry::TARGETS,
    ]
    .concat()
}

/// The one of a name.
pub fn named(name: &str) -> Option<Target> {
    all().into_iter().find(|target| target.name == name)
}

/// Seeds that are texts.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// An input of several parts, with a NUL between them; what is missing is empty.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// What a parser of texts gets of an input.
fn text(input: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(input)
}

/// What must not fail.
#[track_caller]
#[expect(clippy::panic, reason = "so a target says that something does not hold")]
fn must<T, E: Debug>(result: Result<T, E>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

/// The lines of a text, whatever ends one, and the one after the last.
fn lines(text: &str) -> usize {
    text.split(['\n', '\r']).count() + 1
}
