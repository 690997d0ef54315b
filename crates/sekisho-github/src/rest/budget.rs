//! How much may still be asked, and what is kept back for what must not fail.
//!
//! Source: protocol reference 1.8. The service counts requests by resource (`core` and others) in
//! windows of an hour, and says so on every answer; beyond that it has secondary limits that it
//! tells of only when they are reached. A tenth of every window is a reserve: only deregistrations,
//! reruns and cancellations may use it, for a fleet that cannot clean up is worse than one that is
//! slow.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Requests that are not named otherwise.
pub const CORE: &str = "core";

/// Registrations of runners.
pub const REGISTRATION: &str = "actions_runner_registration";

/// A window's part that is kept back: one in so many.
const RESERVE_DIVISOR: u64 = 10;

/// Resources that are remembered; the service has about a dozen.
const MAX_RESOURCES: usize = 32;

/// Longest name of a resource, in bytes.
const MAX_RESOURCE_BYTES: usize = 64;

/// The wait after a secondary limit that names none, as GitHub asks for.
const PAUSE: Duration = Duration::from_secs(60);

/// The longest wait that is believed, and the longest of our own.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// May wait.
    Ordinary,
    /// Removes a runner, reruns or cancels: may use the reserve.
    Reserved,
}

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Now.
    Go,
    /// Not before this time.
    Wait {
        /// When to ask again.
        until: Timestamp,
        /// A secondary limit was reached, not the window's.
        secondary: bool,
    },
}

/// What an answer says about a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateSeen {
    /// Which window.
    pub resource: String,
    /// Requests in it.
    pub limit: u64,
    /// Of these, left.
    pub remaining: u64,
    /// When it begins anew.
    pub resets_at: Timestamp,
}

impl RateSeen {
    /// Reads the `x-ratelimit-…` headers; `None` where they are missing or make no sense, as on a
    /// GHES without limits.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let limit = number("x-ratelimit-limit")?;
        let resets = i64::try_from(number("x-ratelimit-reset")?).ok()?;
        let resource = text("x-ratelimit-resource").unwrap_or(CORE);
        (resource.len() <= MAX_RESOURCE_BYTES).then_some(())?;
        Some(Self {
            resource: resource.to_owned(),
            limit,
            remaining: number("x-ratelimit-remaining")?.min(limit),
            resets_at: Timestamp::from_second(resets).ok()?,
        })
    }
}

/// `Retry-After` in seconds; dates are not used by GitHub.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    limit: u64,
    remaining: u64,
    resets_at: Timestamp,
}

/// Everything that is known of one credential's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    windows: BTreeMap<String, Window>,
    /// Requests that are out, by resource: their answers have not been counted.
    out: BTreeMap<String, u64>,
    paused_until: Option<Timestamp>,
    /// Secondary limits in a row.
    strikes: u32,
}

impl Budget {
    /// Whether a request may go out now.
    pub fn decide(&self, resource: &str, purpose: Purpose, now: Timestamp) -> Permit {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return Permit::Wait { until, secondary: true };
        }
        let Some(window) = self.windows.get(resource).filter(|window| now < window.resets_at)
        else {
            return Permit::Go;
        };
        let reserve = match purpose {
            Purpose::Ordinary => window.limit.div_ceil(RESERVE_DIVISOR),
            Purpose::Reserved => 0,
        };
        let out = self.out.get(resource).copied().unwrap_or(0);
        if window.remaining.saturating_sub(out) > reserve {
            return Permit::Go;
        }
        Permit::Wait { until: window.resets_at, secondary: false }
    }

    /// A request goes out.
    pub fn begin(&mut self, resource: &str) {
        *self.out.entry(resource.to_owned()).or_default() += 1;
    }

    /// A request has ended, with an answer or without.
    pub fn end(&mut self, resource: &str) {
        if let Some(out) = self.out.get_mut(resource) {
            *out = out.saturating_sub(1);
        }
    }

    /// Notes what an answer says. Answers may overtake each other: within a window less counts, and
    /// an older window counts not at all.
    pub fn observe(&mut self, seen: RateSeen) {
        let RateSeen { resource, limit, remaining, resets_at } = seen;
        if self.windows.len() >= MAX_RESOURCES && !self.windows.contains_key(&resource) {
            return;
        }
        let new = Window { limit, remaining, resets_at };
        match self.windows.get_mut(&resource) {
            Some(known) if known.resets_at == resets_at => {
                known.limit = limit;
                known.remaining = known.remaining.min(remaining);
            }
            Some(known) if known.resets_at > resets_at => {}
            _ => drop(self.windows.insert(resource, new)),
        }
    }

    /// A secondary limit was reached: nothing goes out for a while, twice as long each time. Gives
    /// when it may again.
    pub fn strike(&mut self, retry_after: Option<Duration>, now: Timestamp) -> Timestamp {
        let pause = PAUSE.saturating_mul(1 << self.strikes.min(10));
        let pause = retry_after.unwrap_or(pause).clamp(Duration::from_secs(1), MAX_PAUSE);
        self.strikes += 1;
        let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        let until = self.paused_until.map_or(until, |before| before.max(until));
        self.paused_until = Some(until);
        until
    }

    /// A request was answered without a limit being reached.
    pub fn went_well(&mut self) {
        self.strikes = 0;
    }
}

#[cfg(test)]
mod tests;
