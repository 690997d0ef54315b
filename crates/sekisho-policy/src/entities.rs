//! Facts as Cedar entities: each attribute of the schema, once.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use jiff::Timestamp;
use sekisho_advisory::{Finding, Reason, Threat};

use crate::facts::{Base, Content, Identity, Target};

/// What an attribute may hold.
enum Attribute<'a> {
    Text(&'a str),
    Number(usize),
    Flag(bool),
    Texts(Vec<&'a str>),
}

/// The attributes that the schema gives to `Finding`; equal ones are judged once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FindingClass {
    severity: &'static str,
    has_fix: bool,
    ecosystem: String,
    age_days: usize,
    fix_age_days: usize,
    development: bool,
    threat: Threat,
}

impl FindingClass {
    pub(crate) fn of(finding: &Finding, threat: Threat, now: Timestamp) -> Self {
        let age_days = finding.published.map_or(0, |then| days(then, now));
        Self {
            severity: finding.severity.as_str(),
            has_fix: finding.fixed.is_some(),
            ecosystem: finding.ecosystem.to_string(),
            age_days,
            // An advisory that names a fix is published with it, or before it.
            fix_age_days: if finding.fixed.is_some() { age_days } else { 0 },
            development: finding.dev,
            threat,
        }
    }

    pub(crate) fn entity(&self) -> Result<Entity, EntityError> {
        entity(
            "Finding",
            "finding",
            [
                ("severity", Attribute::Text(self.severity)),
                ("has_fix", Attribute::Flag(self.has_fix)),
                ("ecosystem", Attribute::Text(&self.ecosystem)),
                ("age_days", Attribute::Number(self.age_days)),
                ("fix_age_days", Attribute::Number(self.fix_age_days)),
                ("development", Attribute::Flag(self.development)),
                ("known_exploited", Attribute::Flag(self.threat.exploited)),
                ("epss_ppm", Attribute::Number(self.threat.epss_ppm as usize)),
            ],
        )
    }
}

pub(crate) fn workflow(identity: &Identity) -> Result<Entity, EntityError> {
    let (file, file_ref) =
        identity.job_workflow_ref.split_once('@').unwrap_or((&identity.job_workflow_ref, ""));
    entity(
        "Workflow",
        // Each issuer numbers its own.
        &format!("{}#{}", identity.issuer, identity.repository_id),
        [
            ("issuer", Attribute::Text(&identity.issuer)),
            ("repository", Attribute::Text(&identity.repository)),
            ("repository_id", Attribute::Text(&identity.repository_id)),
            ("repository_owner", Attribute::Text(&identity.repository_owner)),
            ("repository_owner_id", Attribute::Text(&identity.repository_owner_id)),
            ("git_ref", Attribute::Text(&identity.git_ref)),
            ("ref_type", Attribute::Text(&identity.ref_type)),
            ("ref_protected", Attribute::Flag(identity.ref_protected)),
            ("repository_visibility", Attribute::Text(&identity.repository_visibility)),
            ("event_name", Attribute::Text(&identity.event_name)),
            ("environment", Attribute::Text(&identity.environment)),
            ("runner_environment", Attribute::Text(&identity.runner_environment)),
            ("job_workflow", Attribute::Text(file)),
            ("job_workflow_git_ref", Attribute::Text(file_ref)),
            ("job_workflow_sha", Attribute::Text(&identity.job_workflow_sha)),
        ],
    )
}

pub(crate) fn repository(target: &Target) -> Result<Entity, EntityError> {
    entity(
        "Repository",
        &target.repository,
        [
            ("name", Attribute::Text(&target.repository)),
            ("in_namespace", Attribute::Flag(target.in_namespace)),
            ("same_owner", Attribute::Flag(target.same_owner)),
        ],
    )
}

pub(crate) fn image(
    target: &Target,
    content: &Content,
    now: Timestamp,
) -> Result<Entity, EntityError> {
    let unreadable = content.not_assessed.iter().filter(|it| is_unreadable(it.reason)).count();
    let missing = content.not_assessed.iter().filter(|it| is_missing(it.reason)).count();
    let none = Base::default();
    let base = content.base.as_ref().unwrap_or(&none);
    let samples = content.secrets.iter().filter(|secret| secret.sample).count();
    let secrets = content.secrets.len() - samples;
    let labels = content
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), RestrictedExpression::new_string(value.clone())));
    let command = content.command.join(" ");
    entity_with_tags(
        "Image",
        &target.repository,
        [
            ("name", Attribute::Text(&target.repository)),
            ("user", Attribute::Text(&content.user)),
            ("runs_as_root", Attribute::Flag(is_root(&content.user))),
            (
                "exposed_ports",
                Attribute::Texts(content.exposed_ports.iter().map(String::as_str).collect()),
            ),
            ("command", Attribute::Text(&command)),
            ("layers", Attribute::Number(content.layers)),
            ("size_bytes", Attribute::Number(number(content.size_bytes))),
            ("base_name", Attribute::Text(&base.name)),
            ("base_digest", Attribute::Text(&base.digest)),
            ("base_known", Attribute::Flag(base.known)),
            ("has_base_age", Attribute::Flag(base.created.is_some())),
            ("base_age_days", Attribute::Number(base.created.map_or(0, |then| days(then, now)))),
            ("licences", Attribute::Texts(content.licences.keys().map(String::as_str).collect())),
            ("secrets", Attribute::Number(secrets.saturating_add(number(content.more_secrets)))),
            ("sample_secrets", Attribute::Number(samples)),
            ("sbom", Attribute::Flag(content.sbom)),
            ("provenance", Attribute::Flag(content.provenance)),
            ("statement", Attribute::Flag(content.statement)),
            (
                "sbom_signers",
                Attribute::Texts(content.sbom_signers.iter().map(String::as_str).collect()),
            ),
            (
                "provenance_signers",
                Attribute::Texts(content.provenance_signers.iter().map(String::as_str).collect()),
            ),
            ("packages", Attribute::Number(content.packages)),
            (
                "package_names",
                Attribute::Texts(content.package_names.iter().map(String::as_str).collect()),
            ),
            ("unreadable", Attribute::Number(unreadable)),
            ("missing_databases", Attribute::Number(missing)),
            ("unjudged", Attribute::Number(content.not_assessed.len() - unreadable - missing)),
            // Without data nothing is ever young enough.
            (
                "data_age_days",
                Attribute::Number(
                    content.newest_advisory.map_or(usize::MAX >> 1, |then| days(then, now)),
                ),
            ),
        ],
        labels,
    )
}

/// A number that Cedar can hold.
fn number(of: u64) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX).min(usize::MAX >> 1)
}

/// Content that is there and was not looked at, as against content that no data speaks of.
pub(crate) fn is_unreadable(reason: Reason) -> bool {
    match reason {
        Reason::UnreadableFile | Reason::OverLimit | Reason::StaleIndex => true,
        Reason::UnknownOs
        | Reason::UnsupportedOs
        | Reason::MissingDatabase
        | Reason::UnsupportedFile
        | Reason::NoAdvisoryData
        | Reason::UnusableAdvisory
        | Reason::UnparsableVersion => false,
    }
}

/// There is a system whose packages nobody can know, for its own list of them is not there.
pub(crate) fn is_missing(reason: Reason) -> bool {
    reason == Reason::MissingDatabase
}

/// What the action is done with.
pub(crate) fn context(target: &Target) -> Result<Context, EntityError> {
    let pairs = [
        ("tag", RestrictedExpression::new_string(target.tag.clone().unwrap_or_default())),
        ("by_digest", RestrictedExpression::new_bool(target.tag.is_none())),
        ("overwrites", RestrictedExpression::new_bool(target.overwrites)),
    ];
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
    Context::from_pairs(pairs).map_err(|_| EntityError)
}

/// `USER` may be a name or a number, with a group behind a colon.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

fn days(then: Timestamp, now: Timestamp) -> usize {
    usize::try_from(now.duration_since(then).as_hours() / 24).unwrap_or(0)
}

/// Why facts could not be told to Cedar: an id it does not take, or a number above its own.
#[derive(Debug, thiserror::Error)]
#[error("the facts cannot be told to the policies")]
pub(crate) struct EntityError;

fn entity<'a>(
    kind: &str,
    id: &str,
    attributes: impl IntoIterator<Item = (&'static str, Attribute<'a>)>,
) -> Result<Entity, EntityError> {
    entity_with_tags(kind, id, attributes, [])
}

fn entity_with_tags<'a>(
    kind: &str,
    id: &str,
    attributes: impl IntoIterator<Item = (&'static str, Attribute<'a>)>,
    tags: impl IntoIterator<Item = (String, RestrictedExpression)>,
) -> Result<Entity, EntityError> {
    let kind: EntityTypeName = kind.parse().map_err(|_| EntityError)?;
    let uid = EntityUid::from_type_name_and_id(kind, EntityId::new(id));
    let attributes: HashMap<String, RestrictedExpression> = attributes
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Attribute::Text(text) => RestrictedExpression::new_string(text.to_owned()),
                Attribute::Flag(flag) => RestrictedExpression::new_bool(flag),
                Attribute::Texts(texts) => RestrictedExpression::new_set(
                    texts.into_iter().map(|text| RestrictedExpression::new_string(text.to_owned())),
                ),
                Attribute::Number(number) => {
                    RestrictedExpression::new_long(i64::try_from(number).map_err(|_| EntityError)?)
                }
            };
            Ok((name.to_owned(), value))
        })
        .collect::<Result<_, EntityError>>()?;
    Entity::new_with_tags(uid, attributes, HashSet::new(), tags).map_err(|_| EntityError)
}
