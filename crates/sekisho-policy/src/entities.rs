//! Facts as Cedar entities: each attribute of the schema, once.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use jiff::Timestamp;
use sekisho_advisory::{Finding, Reason};

use crate::facts::{Content, Identity, Target};

/// What an attribute may hold.
enum Attribute<'a> {
    Text(&'a str),
    Number(usize),
    Flag(bool),
}

/// The attributes that the schema gives to `Finding`; equal ones are judged once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FindingClass {
    severity: &'static str,
    has_fix: bool,
    ecosystem: String,
    age_days: usize,
    development: bool,
}

impl FindingClass {
    pub(crate) fn of(finding: &Finding, now: Timestamp) -> Self {
        Self {
            severity: finding.severity.as_str(),
            has_fix: finding.fixed.is_some(),
            ecosystem: finding.ecosystem.to_string(),
            age_days: finding.published.map_or(0, |then| days(then, now)),
            development: finding.dev,
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
                ("development", Attribute::Flag(self.development)),
            ],
        )
    }
}

pub(crate) fn workflow(identity: &Identity) -> Result<Entity, EntityError> {
    let (file, file_ref) =
        identity.job_workflow_ref.split_once('@').unwrap_or((&identity.job_workflow_ref, ""));
    entity(
        "Workflow",
        &identity.repository_id,
        [
            ("issuer", Attribute::Text(&identity.issuer)),
            ("repository", Attribute::Text(&identity.repository)),
            ("repository_id", Attribute::Text(&identity.repository_id)),
            ("repository_owner", Attribute::Text(&identity.repository_owner)),
            ("repository_owner_id", Attribute::Text(&identity.repository_owner_id)),
            ("git_ref", Attribute::Text(&identity.git_ref)),
            ("ref_type", Attribute::Text(&identity.ref_type)),
            ("event_name", Attribute::Text(&identity.event_name)),
            ("environment", Attribute::Text(&identity.environment)),
            ("runner_environment", Attribute::Text(&identity.runner_environment)),
            ("job_workflow", Attribute::Text(file)),
            ("job_workflow_git_ref", Attribute::Text(file_ref)),
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
        ],
    )
}

pub(crate) fn image(
    target: &Target,
    content: &Content,
    now: Timestamp,
) -> Result<Entity, EntityError> {
    let unreadable = content.not_assessed.iter().filter(|it| is_unreadable(it.reason)).count();
    entity(
        "Image",
        &target.repository,
        [
            ("name", Attribute::Text(&target.repository)),
            ("user", Attribute::Text(&content.user)),
            ("runs_as_root", Attribute::Flag(is_root(&content.user))),
            ("packages", Attribute::Number(content.packages)),
            ("unreadable", Attribute::Number(unreadable)),
            ("unjudged", Attribute::Number(content.not_assessed.len() - unreadable)),
            // Without data nothing is ever young enough.
            (
                "data_age_days",
                Attribute::Number(
                    content.newest_advisory.map_or(usize::MAX >> 1, |then| days(then, now)),
                ),
            ),
        ],
    )
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
    let kind: EntityTypeName = kind.parse().map_err(|_| EntityError)?;
    let uid = EntityUid::from_type_name_and_id(kind, EntityId::new(id));
    let attributes: HashMap<String, RestrictedExpression> = attributes
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Attribute::Text(text) => RestrictedExpression::new_string(text.to_owned()),
                Attribute::Flag(flag) => RestrictedExpression::new_bool(flag),
                Attribute::Number(number) => {
                    RestrictedExpression::new_long(i64::try_from(number).map_err(|_| EntityError)?)
                }
            };
            Ok((name.to_owned(), value))
        })
        .collect::<Result<_, EntityError>>()?;
    Entity::new(uid, attributes, HashSet::new()).map_err(|_| EntityError)
}
