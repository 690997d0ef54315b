//! Questions for registrations, asked together.
//!
//! Hundreds of runners that start at the same time are asked for at the same time. One question takes one
//! request, and a page of the list answers a hundred. So questions that come while others are asked wait,
//! and are then asked at once: by name where they are few, with the list where that is less.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use sekisho_github::rest::{GithubClient, Runner};
use sekisho_reconcile::Failure;
use sekisho_reconcile::runner::Registration;
use tokio::sync::oneshot;

use crate::failure;

/// Runners on a page of the list.
const PAGE: usize = 100;
/// How many are asked for by name at a time.
const AT_ONCE: usize = 8;

type Answer = Result<Registration, Failure>;

#[derive(Default)]
struct State {
    waiting: Vec<(String, oneshot::Sender<Answer>)>,
    /// Somebody asks.
    asks: bool,
    /// How many runners the list had.
    listed: usize,
}

/// The questions of an account.
pub(crate) struct Asks {
    rest: Arc<GithubClient>,
    state: Arc<Mutex<State>>,
}

impl Asks {
    pub(crate) fn new(rest: Arc<GithubClient>) -> Self {
        Self { rest, state: Arc::default() }
    }

    /// How a registration is, asked from now on.
    pub(crate) async fn ask(&self, name: &str) -> Answer {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.push((name.to_owned(), sender));
            !std::mem::replace(&mut state.asks, true)
        };
        if begins {
            // A task of its own: who asks may be given up, and others wait for the answer.
            tokio::spawn(work(Arc::clone(&self.rest), Arc::clone(&self.state)));
        }
        let detail = || "the question was given up".to_owned();
        answer.await.unwrap_or_else(|_| Err(Failure::Unreachable { detail: detail() }))
    }
}

/// Asks until nobody waits. Every request has its deadline.
async fn work(rest: Arc<GithubClient>, state: Arc<Mutex<State>>) {
    loop {
        let (waiting, listed) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = std::mem::take(&mut state.waiting);
            state.asks = !waiting.is_empty();
            (waiting, state.listed)
        };
        if waiting.is_empty() {
            return;
        }
        if waiting.len() <= pages(listed) {
            by_name(&rest, waiting).await;
            continue;
        }
        let found = rest.runners(None).await.map_err(|error| failure::rest(&error));
        if let Ok(found) = &found {
            state.lock().unwrap_or_else(PoisonError::into_inner).listed = found.len();
        }
        let found: Result<HashMap<&str, &Runner>, Failure> = match &found {
            Ok(found) => Ok(found.iter().map(|it| (it.name.as_str(), it)).collect()),
            Err(failure) => Err(failure.clone()),
        };
        for (name, sender) in waiting {
            let answer = found.as_ref().map(|all| read(all.get(name.as_str()).copied()));
            drop(sender.send(answer.map_err(Clone::clone)));
        }
    }
}

/// How many requests the list takes.
fn pages(listed: usize) -> usize {
    listed.div_ceil(PAGE).max(1)
}

async fn by_name(rest: &GithubClient, waiting: Vec<(String, oneshot::Sender<Answer>)>) {
    let ask = |(name, sender): (String, oneshot::Sender<Answer>)| async move {
        let found = rest.runners(Some(&name)).await.map_err(|error| failure::rest(&error));
        let answer = found.map(|all| read(all.iter().find(|runner| runner.name == name)));
        drop(sender.send(answer));
    };
    futures_util::stream::iter(waiting.into_iter().map(ask))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

fn read(runner: Option<&Runner>) -> Registration {
    runner.map_or(Registration::Absent { sweeps: 1 }, present)
}

/// What the list says of a registration.
pub(crate) fn present(runner: &Runner) -> Registration {
    Registration::Present {
        id: runner.id.try_into().unwrap_or_default(),
        online: runner.status == "online",
        busy: runner.busy,
    }
}

#[cfg(test)]
mod tests;
