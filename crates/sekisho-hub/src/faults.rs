//! Fault switches: what the hub is to do wrong, so that a test sees how its clients take it.
//!
//! Off unless [`crate::Config::fault_switches`] is set. A [`Rule`] says what goes wrong, at which
//! call, how often; which requests it strikes depends on nothing but the order of requests and the
//! plan's seed. What was struck is told by [`Plan::struck`].

use http::Method;
use serde::{Deserialize, Serialize};

/// Rules of one plan, at most.
pub const MAX_RULES: usize = 100;
/// Strikes that are remembered.
const MAX_STRUCK: usize = 10_000;

/// What is to go wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Of the dice for [`Rule::percent`].
    #[serde(default)]
    pub seed: u64,
    /// Looked at in order: the first that fits strikes.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One thing that is to go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What.
    pub fault: Fault,
    /// At which call; at any that the fault can be had at, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// How many calls that fit are spared first.
    #[serde(default)]
    pub skip: u32,
    /// How many are struck then.
    #[serde(default = "once")]
    pub times: u32,
    /// Of a hundred that fit, so many are struck.
    #[serde(default = "always")]
    pub percent: u8,
}

fn once() -> u32 {
    1
}

fn always() -> u8 {
    100
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An answer with this status, after a while.
    Status {
        /// 500 to 599.
        status: u16,
        /// How long it takes, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// 401, after a while: also in the middle of a poll.
    Unauthorized {
        /// How long it takes, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// The connection ends in the middle of the answer.
    Cut {
        /// Whether what was asked for is done all the same: only the answer is lost.
        #[serde(default)]
        done: bool,
    },
    /// The right answer, late.
    Slow {
        /// How late, in milliseconds.
        after_ms: u64,
    },
    /// 429, and the headers of a limit that is reached.
    RateLimit {
        /// `Retry-After`, in seconds.
        wait_s: u64,
    },
    /// The set's session is somebody else's.
    SessionConflict,
    /// The session is forgotten.
    SessionExpired,
    /// The message that was sent last comes again, deleted or not.
    DuplicateMessage,
    /// The newest message comes before those before it. A runner is told one thing at a time: what it
    /// would be told now comes after what it is told next.
    ReorderedMessage,
    /// The oldest message that was not deleted comes, seen or not.
    ReplayedMessage,
    /// The runner's name is taken.
    JitConflict,
    /// The runner's registration outlives its job.
    Ghost {
        /// So many tries to remove it are told that it is busy.
        refusals: u32,
    },
    /// The runner's registration is gone, whatever it does.
    RunnerVanishes,
    /// Labels but the first are dropped without a word.
    LabelsDropped,
}

/// A call, as far as switches tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `POST …/registration-token`, `…/remove-token`
    RegistrationToken,
    /// `POST /actions/runner-registration`, `POST /actions/runners/register`
    Registration,
    /// Scale sets and groups.
    ScaleSet,
    /// `POST …/sessions`
    CreateSession,
    /// `PATCH …/sessions/{id}`
    RenewSession,
    /// `DELETE …/sessions/{id}`
    DeleteSession,
    /// A poll of the queue.
    Poll,
    /// The deletion of a message.
    DeleteMessage,
    /// `POST …/acquirejobs`
    AcquireJobs,
    /// `POST …/generatejitconfig` of a set, and `generate-jitconfig` of REST.
    Jit,
    /// Looking a runner up, and removing it.
    Runner,
    /// A runner's token.
    RunnerToken,
    /// A runner's session.
    RunnerSession,
    /// A runner's poll.
    RunnerPoll,
    /// A runner's acknowledgement.
    Acknowledge,
    /// `POST acquirejob`
    AcquireJob,
    /// `POST renewjob`
    RenewJob,
    /// `POST completejob`
    CompleteJob,
    /// Results: steps, logs, summaries, artifacts, caches.
    Results,
    /// What is left of REST.
    Rest,
}

/// Body of `POST clock`: the switches of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetClock {
    /// So much time passes at once, in seconds.
    #[serde(default)]
    pub advance_s: u32,
    /// The time that others are told is so wrong from now on, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_s: Option<i32>,
}

impl Call {
    /// Which call a request is; `None`: one that nothing is done to, as the switches' own.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let last = parts.last().copied().unwrap_or_default();
        Some(match parts.as_slice() {
            ["_tenant", "scalesets", "message", ..] if method == Method::DELETE => {
                Self::DeleteMessage
            }
            ["_tenant", "scalesets", ..] => Self::Poll,
            ["_tenant", "_apis", "connectionData"] => Self::RunnerSession,
            ["_tenant", "_apis", "distributedtask", "pools", _, "sessions", ..] => {
                Self::RunnerSession
            }
            ["_tenant", .., "sessions"] => Self::CreateSession,
            ["_tenant", .., "sessions", _] if method == Method::PATCH => Self::RenewSession,
            ["_tenant", .., "sessions", _] => Self::DeleteSession,
            ["_tenant", .., "acquirejobs"] => Self::AcquireJobs,
            ["_tenant", .., "generatejitconfig"] | ["api", .., "generate-jitconfig"] => Self::Jit,
            ["_tenant", "_apis", "distributedtask", ..] => Self::Runner,
            ["_tenant", ..] => Self::ScaleSet,
            ["api", .., "registration-token" | "remove-token"] => Self::RegistrationToken,
            ["api", .., "runner-registration"] | ["api", _, "actions", "runners", "register"] => {
                Self::Registration
            }
            ["api", .., "runners"] | ["api", .., "runners", _] => Self::Runner,
            ["api", ..] => Self::Rest,
            ["_oauth", ..] => Self::RunnerToken,
            ["_broker", "_apis", ..] => Self::RunnerSession,
            ["_broker", ..] => match last {
                "session" => Self::RunnerSession,
                "message" => Self::RunnerPoll,
                _ => Self::Acknowledge,
            },
            ["_run", "acquirejob"] => Self::AcquireJob,
            ["_run", "renewjob"] => Self::RenewJob,
            ["_run", "completejob"] => Self::CompleteJob,
            ["_results" | "twirp" | "_blobs" | "devstoreaccount1", ..] => Self::Results,
            _ => return None,
        })
    }
}

impl Fault {
    /// Whether it is something that can be done to any request, before it is looked at.
    pub(crate) fn is_of_the_wire(&self) -> bool {
        match self {
            Self::Status { .. }
            | Self::Unauthorized { .. }
            | Self::Cut { .. }
            | Self::Slow { .. }
            | Self::RateLimit { .. } => true,
            Self::SessionConflict
            | Self::SessionExpired
            | Self::DuplicateMessage
            | Self::ReorderedMessage
            | Self::ReplayedMessage
            | Self::JitConflict
            | Self::Ghost { .. }
            | Self::RunnerVanishes
            | Self::LabelsDropped => false,
        }
    }
}

/// A plan, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Armed {
    rules: Vec<(Rule, u32)>,
    dice: u64,
    struck: Vec<Strike>,
}

/// Something that went wrong as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// At which call.
    pub call: Call,
    /// What.
    pub fault: Fault,
}

impl Armed {
    pub(crate) fn new(plan: Plan) -> Self {
        let rules = plan.rules.into_iter().take(MAX_RULES).map(|rule| (rule, 0)).collect();
        // Any seed but zero will do.
        Self { rules, dice: plan.seed.wrapping_mul(2).wrapping_add(1), struck: Vec::new() }
    }

    /// What happens at a call, of what the caller can do (`fits`). Counts.
    pub(crate) fn strike(&mut self, call: Call, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        for (rule, met) in &mut self.rules {
            if rule.call.is_some_and(|wanted| wanted != call) || !fits(&rule.fault) {
                continue;
            }
            *met = met.saturating_add(1);
            let spent = met.saturating_sub(rule.skip) > rule.times;
            if *met <= rule.skip || spent {
                continue;
            }
            if rule.percent < 100 && roll(&mut self.dice) >= u64::from(rule.percent) {
                // It was not its turn: the count is of strikes.
                *met -= 1;
                continue;
            }
            let fault = rule.fault.clone();
            if self.struck.len() < MAX_STRUCK {
                self.struck.push(Strike { call, fault: fault.clone() });
            }
            return Some(fault);
        }
        None
    }

    /// What went wrong so far, in order.
    pub(crate) fn struck(&self) -> Vec<Strike> {
        self.struck.clone()
    }
}

/// 0 to 99; xorshift64*, the same everywhere.
fn roll(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(fault: Fault) -> Rule {
        Rule { fault, call: None, skip: 0, times: 1, percent: 100 }
    }

    #[test]
    fn a_rule_spares_then_strikes_then_rests() {
        let conflict = Rule { skip: 1, times: 2, ..rule(Fault::SessionConflict) };
        let slow = Rule { call: Some(Call::Poll), ..rule(Fault::Slow { after_ms: 1 }) };
        let mut armed = Armed::new(Plan { seed: 0, rules: vec![conflict, slow] });
        let mut create =
            || armed.strike(Call::CreateSession, |fault| *fault == Fault::SessionConflict);
        assert_eq!(
            [create(), create(), create(), create()].map(|f| f.is_some()),
            [false, true, true, false]
        );
        assert_eq!(armed.strike(Call::Jit, Fault::is_of_the_wire), None);
        assert_eq!(
            armed.strike(Call::Poll, Fault::is_of_the_wire),
            Some(Fault::Slow { after_ms: 1 })
        );
        assert_eq!(armed.struck().len(), 3);
    }

    #[test]
    fn one_seed_strikes_the_same_requests() {
        let run = |seed| {
            let some = Rule { times: 1_000, percent: 30, ..rule(Fault::Cut { done: false }) };
            let mut armed = Armed::new(Plan { seed, rules: vec![some] });
            let mut hit = || armed.strike(Call::Rest, Fault::is_of_the_wire).is_some();
            (0..1_000).map(|_| hit()).collect::<Vec<bool>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
        let struck = run(5).into_iter().filter(|hit| *hit).count();
        assert!((250..350).contains(&struck), "{struck}");
    }

    #[test]
    fn calls_are_told_apart() {
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        for (method, path, want) in [
            (&get, "/_tenant/scalesets/message", Some(Call::Poll)),
            (&delete, "/_tenant/scalesets/message/7", Some(Call::DeleteMessage)),
            (&post, "/_tenant/_apis/runtime/runnerscalesets/4/sessions", Some(Call::CreateSession)),
            (
                &Method::PATCH,
                "/_tenant/_apis/runtime/runnerscalesets/4/sessions/x",
                Some(Call::RenewSession),
            ),
            (&post, "/_tenant/_apis/runtime/runnerscalesets/4/generatejitconfig", Some(Call::Jit)),
            (&post, "/api/v3/orgs/o/actions/runners/generate-jitconfig", Some(Call::Jit)),
            (&get, "/_tenant/_apis/distributedtask/pools/0/agents", Some(Call::Runner)),
            (&get, "/_tenant/_apis/runtime/runnergroups/", Some(Call::ScaleSet)),
            (&post, "/api/v3/actions/runner-registration", Some(Call::Registration)),
            (&post, "/api/v3/actions/runners/register", Some(Call::Registration)),
            (&post, "/_tenant/_apis/distributedtask/pools/1/sessions", Some(Call::RunnerSession)),
            (&get, "/_broker/message", Some(Call::RunnerPoll)),
            (&get, "/_broker/_apis/connectionData", Some(Call::RunnerSession)),
            (&get, "/_hub/v1/faults", None),
            (&get, "/acme/app/info/refs", None),
        ] {
            assert_eq!(Call::of(method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn plans_are_read_strictly() {
        let plan: Plan = serde_json::from_str(
            r#"{"rules":[{"fault":{"kind":"status","status":503},"call":"poll"}]}"#,
        )
        .unwrap();
        let fault = Fault::Status { status: 503, after_ms: 0 };
        assert_eq!(plan.rules, [Rule { call: Some(Call::Poll), ..rule(fault) }]);
        assert!(serde_json::from_str::<Plan>(r#"{"rules":[],"seeed":1}"#).is_err());
    }
}
