//! A set of policies: loaded strictly, then asked.

mod about;
mod error;

use std::collections::{BTreeMap, HashMap};

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Effect, Entities, Entity, EntityUid, Policy,
    PolicyId, PolicySet, Request, Schema, ValidationMode, Validator,
};
use jiff::Timestamp;
use sekisho_advisory::Finding;
use sekisho_types::Digest;

use self::about::about;
pub(crate) use self::error::place_of;
pub use self::error::{Place, PolicyError};
use self::error::{invalid, places_of_policies};
use crate::entities::{self, EntityError, FindingClass};
use crate::exceptions::Exceptions;
use crate::facts::{Content, Identity, Target};
use crate::verdict::{Mode, Reason, Verdict};

/// The largest text of policies, in bytes: some thousand rules.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;

const SCHEMA: &str = include_str!("../policies/schema.cedarschema");
const DEFAULT: &str = include_str!("../policies/default.cedar");

/// What an action is done to, and with.
type Asked = (Result<Entity, EntityError>, Result<Context, EntityError>);

/// What a rule says of itself.
#[derive(Clone, Debug)]
struct Rule {
    mode: Mode,
    message: String,
    fix: String,
    docs: String,
    /// As Cedar prints it: tells what the rule speaks of.
    text: String,
}

/// Policies that were validated, and can be asked.
#[derive(Debug)]
pub struct Policies {
    schema: Schema,
    /// Every permit, with the rules that enforce.
    enforced: PolicySet,
    /// Every permit, with the other rules.
    softer: PolicySet,
    rules: BTreeMap<String, Rule>,
    exceptions: Exceptions,
    text: String,
    hash: Digest,
}

impl Policies {
    /// The policies of a gate that was not told otherwise.
    #[expect(clippy::expect_used, reason = "the text is part of this crate, and tested")]
    pub fn default_set() -> Self {
        Self::load(DEFAULT).expect("the default policies are valid")
    }

    /// Reads policies in Cedar's syntax and validates them against the schema.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], with the line where Cedar knows it.
    pub fn load(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLarge(text.len()));
        }
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
            .map_err(|error| PolicyError::Invalid { place: None, message: error.to_string() })?;
        let parsed: PolicySet =
            text.parse().map_err(|error: cedar_policy::ParseErrors| invalid(text, &error))?;
        let validation = Validator::new(schema.clone()).validate(&parsed, ValidationMode::Strict);
        if let Some(error) = validation.validation_errors().next() {
            return Err(invalid(text, error));
        }
        let hash = Digest::sha256(format!("{SCHEMA}\0{text}").as_bytes());
        let mut this = Self {
            schema,
            enforced: PolicySet::new(),
            softer: PolicySet::new(),
            rules: BTreeMap::new(),
            exceptions: Exceptions::default(),
            text: text.to_owned(),
            hash,
        };
        let places = places_of_policies(text);
        let mut seen = Vec::new();
        for policy in parsed.policies() {
            // Cedar numbers them as they stand in the text.
            let number = policy.id().to_string();
            let number = number.strip_prefix("policy").and_then(|number| number.parse().ok());
            let place = number.and_then(|number: usize| places.get(number).copied());
            let id = annotation(policy, place, policy.id().as_ref(), "id")?;
            if seen.contains(&id) {
                return Err(PolicyError::Duplicate { place, policy: id });
            }
            this.add(policy, place, &id)?;
            seen.push(id);
        }
        Ok(this)
    }

    fn add(&mut self, policy: &Policy, place: Option<Place>, id: &str) -> Result<(), PolicyError> {
        let named = policy.new_id(PolicyId::new(id));
        let duplicate = |_| PolicyError::Duplicate { place, policy: id.to_owned() };
        let known = ["id", "mode", "message", "fix", "docs"];
        if let Some((name, _)) = policy.annotations().find(|(name, _)| !known.contains(name)) {
            let (policy, annotation) = (id.to_owned(), name.to_owned());
            return Err(PolicyError::UnknownAnnotation { place, policy, annotation });
        }
        if policy.effect() == Effect::Permit {
            self.enforced.add(named.clone()).map_err(duplicate)?;
            return self.softer.add(named).map_err(duplicate);
        }
        let said = annotation(policy, place, id, "mode")?;
        let mode = Mode::ALL.into_iter().find(|mode| mode.as_str() == said);
        let mode = mode.ok_or_else(|| PolicyError::Mode {
            place,
            policy: id.to_owned(),
            mode: said.clone(),
        })?;
        let rule = Rule {
            mode,
            message: annotation(policy, place, id, "message")?,
            fix: annotation(policy, place, id, "fix")?,
            docs: annotation(policy, place, id, "docs")?,
            text: policy.to_string(),
        };
        self.rules.insert(id.to_owned(), rule);
        let set = match mode {
            Mode::Enforce => &mut self.enforced,
            Mode::Quarantine | Mode::Warn | Mode::Audit => &mut self.softer,
        };
        set.add(named).map_err(duplicate)
    }

    /// The same policies, with findings that somebody answers for.
    #[must_use]
    pub fn with_exceptions(self, exceptions: Exceptions) -> Self {
        Self { exceptions, ..self }
    }

    /// What was loaded.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The exceptions.
    pub fn exceptions(&self) -> &Exceptions {
        &self.exceptions
    }

    /// Names schema and policies: equal hashes, equal verdicts on equal facts.
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// May this identity read here? `None`: whoever asks does not say who he is.
    pub fn may_pull(&self, identity: Option<&Identity>, target: &Target) -> Verdict {
        let nobody = Identity::default();
        let who = identity.map_or("somebody", |identity| &identity.repository);
        let about = format!("{who} reads `{}`", target.repository);
        let asked = (entities::repository(target), Ok(Context::empty()));
        let matched = self.ask(identity.unwrap_or(&nobody), "pull", asked);
        Verdict::of(matched.into_iter().map(|id| self.reason(&id, vec![about.clone()])).collect())
    }

    /// May this identity push here?
    pub fn may_push(&self, identity: &Identity, target: &Target) -> Verdict {
        let about = [
            format!("{} (event `{}`)", identity.repository, identity.event_name),
            match &target.tag {
                Some(tag) => format!("to `{}:{tag}`", target.repository),
                None => format!("to `{}`", target.repository),
            },
        ];
        let about = about.join(" ");
        let asked = (entities::repository(target), entities::context(target));
        let matched = self.ask(identity, "push", asked);
        Verdict::of(matched.into_iter().map(|id| self.reason(&id, vec![about.clone()])).collect())
    }

    /// May this identity delete here? Who may not push may not delete.
    pub fn may_delete(&self, identity: &Identity, target: &Target) -> Verdict {
        let about = format!("{} deletes in `{}`", identity.repository, target.repository);
        let mut matched = Vec::new();
        for action in ["push", "delete"] {
            let asked = (entities::repository(target), entities::context(target));
            matched.extend(self.ask(identity, action, asked));
        }
        matched.sort_unstable();
        matched.dedup();
        Verdict::of(matched.into_iter().map(|id| self.reason(&id, vec![about.clone()])).collect())
    }

    /// May this content ship? `now` tells how old findings and data are.
    pub fn may_ship(
        &self,
        identity: &Identity,
        target: &Target,
        content: &Content,
        now: Timestamp,
    ) -> Verdict {
        // A secret that somebody answers for does not count.
        let (counted, waived_secrets) = self.exceptions.split_secrets(target, content, now);
        let content = &counted;
        let asked = (entities::image(target, content, now), Ok(Context::empty()));
        let mut reasons: Vec<Reason> = self
            .ask(identity, "ship", asked)
            .into_iter()
            .map(|id| {
                let rule = self.rules.get(&id).map_or("", |rule| rule.text.as_str());
                self.reason(&id, about(rule, content))
            })
            .collect();

        let mut answers: HashMap<FindingClass, Vec<String>> = HashMap::new();
        let mut carried: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        let mut waived: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        for finding in &content.findings {
            let exception = self.exceptions.covering(&target.repository, finding, now);
            if let Some(exception) = exception {
                waived.entry(exception.message()).or_default().push(finding.clone());
            }
            let threat = content.threats.get(&finding.id).copied().unwrap_or_default();
            let class = FindingClass::of(finding, threat, now);
            let matched = answers.entry(class).or_insert_with_key(|class| {
                self.ask(identity, "carry", (class.entity(), Ok(Context::empty())))
            });
            // Only a rule can be waived: what could not be asked stays refused.
            let counts = |id: &&String| {
                exception.is_none() || self.rules.get(*id).is_none_or(|it| !it.mode.holds_back())
            };
            for id in matched.iter().filter(counts) {
                carried.entry(id.clone()).or_default().push(finding.clone());
            }
        }
        for (id, mut findings) in carried {
            findings.sort_by(worst_first);
            reasons.push(Reason { findings, ..self.reason(&id, vec![]) });
        }
        for (message, mut findings) in waived {
            findings.sort_by(worst_first);
            reasons.push(Reason { findings, ..waived_reason(message, vec![]) });
        }
        for (message, secrets) in waived_secrets {
            reasons.push(waived_reason(message, secrets));
        }
        Verdict::of(reasons)
    }

    /// The ids of the rules that match, of every mode.
    fn ask(&self, identity: &Identity, action: &str, asked: Asked) -> Vec<String> {
        match self.try_ask(identity, action, asked) {
            Ok(ids) => ids,
            // What cannot be asked was not permitted.
            Err(EntityError) => vec![UNANSWERED.to_owned()],
        }
    }

    fn try_ask(
        &self,
        identity: &Identity,
        action: &str,
        (resource, context): Asked,
    ) -> Result<Vec<String>, EntityError> {
        let (principal, resource, context) = (entities::workflow(identity)?, resource?, context?);
        let action: EntityUid = format!("Action::\"{action}\"").parse().map_err(|_| EntityError)?;
        let (principal_uid, resource_uid) = (principal.uid(), resource.uid());
        let entities = Entities::from_entities([principal, resource], Some(&self.schema))
            .map_err(|_| EntityError)?;
        let request =
            Request::new(principal_uid, action, resource_uid, context, Some(&self.schema))
                .map_err(|_| EntityError)?;

        let enforced = Authorizer::new().is_authorized(&request, &self.enforced, &entities);
        let softer = Authorizer::new().is_authorized(&request, &self.softer, &entities);
        let mut ids = Vec::new();
        if enforced.decision() == CedarDecision::Deny {
            ids.extend(enforced.diagnostics().reason().map(ToString::to_string));
            if ids.is_empty() {
                ids.push(NO_PERMIT.to_owned());
            }
        }
        // Cedar passes over a rule that it cannot evaluate; a gate must not, whatever its mode.
        let mut errors = [&enforced, &softer].into_iter().map(|a| a.diagnostics().errors().count());
        if errors.any(|count| count > 0) {
            ids.push(UNANSWERED.to_owned());
        }
        if softer.decision() == CedarDecision::Deny {
            ids.extend(softer.diagnostics().reason().map(ToString::to_string));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn reason(&self, id: &str, about: Vec<String>) -> Reason {
        match self.rules.get(id) {
            Some(rule) => Reason {
                rule: id.to_owned(),
                mode: rule.mode,
                message: rule.message.clone(),
                fix: rule.fix.clone(),
                docs: rule.docs.clone(),
                about,
                findings: vec![],
            },
            None => Reason {
                rule: id.to_owned(),
                mode: Mode::Enforce,
                message: match id {
                    NO_PERMIT => "no policy permits it".to_owned(),
                    _ => "a policy could not be evaluated".to_owned(),
                },
                fix: "ask who keeps the gate's policies".to_owned(),
                docs: String::new(),
                about,
                findings: vec![],
            },
        }
    }
}

/// A total order, so that what a message names does not depend on how findings were listed.
fn worst_first(a: &Finding, b: &Finding) -> std::cmp::Ordering {
    let worse = (b.severity, b.score).cmp(&(a.severity, a.score));
    let name = |of: &Finding| {
        (of.package.clone(), of.installed.clone(), of.id.clone(), of.path.clone(), of.fixed.clone())
    };
    worse.then_with(|| name(a).cmp(&name(b)))
}

/// No rule matched, but nothing permits either.
const NO_PERMIT: &str = "no-permit";

/// What the findings with an exception are shown under.
const WAIVED: &str = "waived";

/// A rule failed while it was evaluated, or the facts could not be told.
const UNANSWERED: &str = "policy-error";

/// What is said about something that an exception covers.
fn waived_reason(message: String, about: Vec<String>) -> Reason {
    Reason {
        rule: WAIVED.to_owned(),
        mode: Mode::Warn,
        message,
        fix: "mend it before the exception ends".to_owned(),
        docs: "docs/policies.md#exceptions".to_owned(),
        about,
        findings: vec![],
    }
}

fn annotation(
    policy: &Policy,
    place: Option<Place>,
    id: &str,
    name: &'static str,
) -> Result<String, PolicyError> {
    let text = policy.annotation(name).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| PolicyError::Annotation {
        place,
        policy: id.to_owned(),
        annotation: name,
    })
}
