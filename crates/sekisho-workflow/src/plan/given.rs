//! What a caller gives, against what the called workflow declares.

use super::expand::Expander;
use super::inputs::typed;
use crate::diagnostic::did_you_mean;
use crate::expr::{Contexts, NoFunctions};
use crate::model::{CallJob, CallSecrets, CallTrigger};
use crate::token::{self, Token};

impl Expander<'_> {
    /// Whether what is given is declared, what is required is given, and literals fit.
    pub(super) fn check_inputs(&mut self, call: &CallJob, trigger: &CallTrigger) -> bool {
        let before = self.problems.len();
        let entries = call.with.as_ref().and_then(Token::entries).unwrap_or_default();
        for (key, value) in entries {
            let Some(name) = key.as_str() else { continue };
            let at = key.at.unwrap_or(call.uses_at);
            let Some(input) = trigger.inputs.iter().find(|i| i.name.eq_ignore_ascii_case(name))
            else {
                let hint = did_you_mean(name, trigger.inputs.iter().map(|i| i.name.as_str()));
                self.fail(at, format!("`{}` declares no input `{name}`{hint}", call.uses));
                continue;
            };
            if value.is_literal()
                && let Ok(value) = token::eval(value, &Contexts::new(), &NoFunctions)
                && let Err(message) = typed(input, &value)
            {
                self.fail(at, message);
            }
        }
        // An expression as the whole of `with`, or `insert`, may give anything.
        let open = call.with.as_ref().is_some_and(|with| with.entries().is_none())
            || entries.iter().any(|(key, _)| key.as_str().is_none());
        for input in trigger.inputs.iter().filter(|i| i.required && i.default.is_none() && !open) {
            if call.with.as_ref().and_then(|with| with.get(&input.name)).is_none() {
                let message =
                    format!("`{}` requires input `{}`, which is not given", call.uses, input.name);
                self.fail(call.uses_at, message);
            }
        }
        self.problems.len() == before
    }

    pub(super) fn check_secrets(&mut self, call: &CallJob, trigger: &CallTrigger) -> bool {
        let before = self.problems.len();
        let given = match &call.secrets {
            CallSecrets::Inherit => return true,
            CallSecrets::None => None,
            CallSecrets::Map(map) => Some(map),
        };
        for (key, _) in given.and_then(Token::entries).unwrap_or_default() {
            let Some(name) = key.as_str() else { continue };
            if !trigger.secrets.iter().any(|secret| secret.name.eq_ignore_ascii_case(name)) {
                let hint = did_you_mean(name, trigger.secrets.iter().map(|s| s.name.as_str()));
                let at = key.at.unwrap_or(call.uses_at);
                self.fail(at, format!("`{}` declares no secret `{name}`{hint}", call.uses));
            }
        }
        for secret in trigger.secrets.iter().filter(|secret| secret.required) {
            if given.and_then(|map| map.get(&secret.name)).is_none() {
                let message = format!(
                    "`{}` requires secret `{}`, which is not given",
                    call.uses, secret.name
                );
                self.fail(call.uses_at, message);
            }
        }
        self.problems.len() == before
    }
}
