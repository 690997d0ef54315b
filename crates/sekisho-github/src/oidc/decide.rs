//! Which key to use, and when to ask the issuer for its keys.

use jiff::{SignedDuration, Timestamp};

/// Keys are fetched anew when they are older.
pub const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// Keys are used this long when the issuer cannot be reached.
pub const USABLE: SignedDuration = SignedDuration::from_hours(24);

/// An issuer is asked at most this often, however many tokens name unknown keys.
pub const ASKED_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// What is known when a token names a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyObserved {
    /// The time.
    pub now: Timestamp,
    /// Whether the newest key set has a key of that name.
    pub known: bool,
    /// When the newest key set was fetched; `None` if there is none.
    pub fetched_at: Option<Timestamp>,
    /// When the issuer was asked last, with whatever success.
    pub asked_at: Option<Timestamp>,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyDecision {
    /// The key is known, and young or still usable while the issuer is silent.
    Use,
    /// Ask the issuer, then decide again.
    Fetch,
    /// The issuer was asked just now, and has no such key: the token is at fault.
    Refuse,
    /// Nobody can say: the issuer did not answer, or the keys are too old. The token may be good.
    Unavailable,
}

/// Decides on one token's key.
///
/// After a fetch that has set `asked_at` to `now`, the answer is never [`KeyDecision::Fetch`]
/// again.
pub fn decide(observed: &KeyObserved) -> KeyDecision {
    let KeyObserved { now, known, fetched_at, asked_at } = *observed;
    // An age that is negative is none: a clock was set back, and nothing can be said about it.
    let within = |at: Timestamp, limit: SignedDuration| {
        (SignedDuration::ZERO..=limit).contains(&now.duration_since(at))
    };
    let asked_lately = asked_at
        .is_some_and(|at| (SignedDuration::ZERO..ASKED_EVERY).contains(&now.duration_since(at)));
    if known && fetched_at.is_some_and(|at| within(at, FRESH)) {
        return KeyDecision::Use;
    }
    if !asked_lately {
        return KeyDecision::Fetch;
    }
    let usable = fetched_at.is_some_and(|at| within(at, USABLE));
    let answered = fetched_at >= asked_at;
    match (known, usable, answered) {
        (true, true, _) => KeyDecision::Use,
        (false, true, true) => KeyDecision::Refuse,
        _ => KeyDecision::Unavailable,
    }
}
