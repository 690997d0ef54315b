//! What is to go wrong.

use std::time::Duration;

use super::request::{Request, Verb};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing is done, and this status is answered: 500, 503, 429, 409, 403, 410, …
    Status(u16),
    /// It is done, but the answer is lost: 504.
    AnswerLost,
    /// The right answer, so much later.
    Late(Duration),
}

/// Something that goes wrong, and when.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Only for these verbs; empty for all.
    pub verbs: Vec<Verb>,
    /// Only for this resource (plural); empty for all.
    pub resource: String,
    /// Only for this client; empty for all.
    pub client: String,
    /// How many calls that fit are spared first.
    pub skip: u32,
    /// How many are struck then.
    pub times: u32,
}

impl Fault {
    /// Strikes the next call of these verbs on this resource, once.
    pub fn once(kind: FaultKind, verbs: &[Verb], resource: &str) -> Self {
        Self {
            kind,
            verbs: verbs.to_vec(),
            resource: resource.to_owned(),
            client: String::new(),
            skip: 0,
            times: 1,
        }
    }
}

#[derive(Debug)]
pub(super) struct Armed {
    fault: Fault,
    seen: u32,
}

impl Armed {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, seen: 0 }
    }

    fn strikes(&mut self, client: &str, request: &Request) -> Option<FaultKind> {
        let fault = &self.fault;
        let fits = (fault.verbs.is_empty() || fault.verbs.contains(&request.verb))
            && (fault.resource.is_empty() || fault.resource == request.resource.plural)
            && (fault.client.is_empty() || fault.client == client);
        if !fits || self.seen >= fault.skip.saturating_add(fault.times) {
            return None;
        }
        self.seen += 1;
        (self.seen > fault.skip).then_some(fault.kind)
    }
}

/// What strikes this call.
pub(super) fn strike(armed: &mut [Armed], client: &str, request: &Request) -> Option<FaultKind> {
    armed.iter_mut().find_map(|armed| armed.strikes(client, request))
}
