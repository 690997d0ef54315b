//! Findings about a Dockerfile that builds and may still not mean what its author thinks.
//!
//! Names, conditions and words are those of BuildKit's build checks, which people and their
//! `# check=skip=…` know: <https://docs.docker.com/reference/build-checks/>. One function a rule; the
//! table [`RULES`] names them all.

mod instructions;
mod stages;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;

use crate::ast::{Check, Dockerfile, Span};
use crate::diagnostic::Diagnostic;
use crate::ignore::Ignore;

/// Wins over `# check=`, in the same words.
pub const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Most findings that are told: a generated file would only tire its reader.
pub const FINDINGS_MAX: usize = 1000;

/// The one rule that needs the base image.
const BASE_PLATFORM: &str = "InvalidBaseImagePlatform";

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// As in `# check=skip=`.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// Only with `# check=experimental=`.
    pub experimental: bool,
    check: fn(&Subject<'_>, &mut Findings),
}

impl Rule {
    const fn new(
        name: &'static str,
        description: &'static str,
        check: fn(&Subject<'_>, &mut Findings),
    ) -> Self {
        Self { name, description, experimental: false, check }
    }

    /// The page that explains it.
    pub fn url(&self) -> String {
        let mut slug = String::new();
        let mut before_lower = false;
        for character in self.name.chars() {
            if character.is_ascii_uppercase() && before_lower {
                slug.push('-');
            }
            before_lower = character.is_ascii_lowercase();
            slug.push(character.to_ascii_lowercase());
        }
        // The one name that begins with an abbreviation.
        let slug = slug.replace("jsonargs", "json-args");
        format!("https://docs.docker.com/go/dockerfile/rule/{slug}/")
    }
}

/// All rules, by what they are about.
pub const RULES: [Rule; 22] = [
    Rule::new("StageNameCasing", "Stage names should be lowercase", stages::stage_name_casing),
    Rule::new(
        "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
        stages::from_as_casing,
    ),
    Rule::new("DuplicateStageName", "Stage names should be unique", stages::duplicate_stage_name),
    Rule::new(
        "ReservedStageName",
        "Reserved words should not be used as stage names",
        stages::reserved_stage_name,
    ),
    Rule::new(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        stages::redundant_target_platform,
    ),
    Rule::new(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        stages::constant_platform,
    ),
    Rule::new(
        "UndefinedArgInFrom",
        "FROM command must use declared ARGs",
        variables::undefined_arg_in_from,
    ),
    Rule::new(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        variables::invalid_default_arg_in_from,
    ),
    Rule::new(
        "UndefinedVar",
        "Variables should be defined before their use",
        variables::undefined_var,
    ),
    Rule::new(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        variables::secrets_used_in_arg_or_env,
    ),
    Rule::new(
        "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
        instructions::no_empty_continuation,
    ),
    Rule::new(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        instructions::consistent_instruction_casing,
    ),
    Rule::new(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
        instructions::json_args_recommended,
    ),
    Rule::new(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        instructions::maintainer_deprecated,
    ),
    Rule::new(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
        instructions::workdir_relative_path,
    ),
    Rule::new(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
        instructions::multiple_instructions,
    ),
    Rule::new(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        instructions::legacy_key_value_format,
    ),
    Rule::new(
        "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
        instructions::copy_ignored_file,
    ),
    Rule::new(
        "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
        instructions::expose_proto_casing,
    ),
    Rule::new(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction",
        instructions::expose_invalid_format,
    ),
    // Told by who has the image: see [`base_platform`].
    Rule::new(
        BASE_PLATFORM,
        "Base image platform does not match expected target platform",
        |_, _| {},
    ),
    Rule {
        experimental: true,
        ..Rule::new(
            "InvalidDefinitionDescription",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`",
            stages::definition_description,
        )
    },
];

/// What is looked at.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The file.
    pub file: &'a Dockerfile,
    /// ARGs before the first FROM, the platform's among them: see [`crate::scope::globals`].
    pub globals: &'a BTreeMap<String, String>,
    /// Variables of base images, by what FROM says of them, variables expanded. Of an image that is
    /// not here, only slips of the finger are told.
    pub base_env: &'a BTreeMap<String, Vec<String>>,
    /// The context's `.dockerignore`.
    pub ignore: Option<&'a Ignore>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// Where.
    pub span: Span,
    /// What, in BuildKit's words.
    pub message: String,
}

/// Findings of one rule.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<(Span, String)>);

impl Findings {
    fn add(&mut self, span: Span, message: impl Into<String>) {
        self.0.push((span, message.into()));
    }
}

/// What `# check=` and [`CHECK_ARG`] say of a file.
///
/// # Errors
/// The argument is no such text.
pub fn settings(file: &Dockerfile, build_args: &BTreeMap<String, String>) -> Result<Check, String> {
    match (build_args.get(CHECK_ARG), &file.check) {
        (Some(text), _) => Check::parse(text),
        (None, Some(check)) => Ok(check.node.clone()),
        (None, None) => Ok(Check::default()),
    }
}

fn named(names: &[String], rule: &str) -> bool {
    names.iter().any(|name| name == "all" || name.eq_ignore_ascii_case(rule))
}

/// That a base image is for another platform than the stage, both as `os/architecture`; the place is that of
/// its name. `None` when they are the same, or nobody wants to know.
pub fn base_platform(
    check: &Check,
    span: Span,
    image: &str,
    expected: &str,
    actual: &str,
) -> Option<Finding> {
    let message = format!(
        "Base image {image} was pulled with platform {actual:?}, expected {expected:?} for current build"
    );
    let told = expected != actual && !named(&check.skip, BASE_PLATFORM);
    told.then_some(Finding { rule: BASE_PLATFORM, span, message })
}

/// All findings but those that `check` skips, in order of their lines.
pub fn lint(subject: &Subject<'_>, check: &Check) -> Vec<Finding> {
    let mut all = Vec::new();
    for rule in &RULES {
        let tried = !rule.experimental || named(&check.experimental, rule.name);
        if named(&check.skip, rule.name) || !tried {
            continue;
        }
        let mut findings = Findings::default();
        (rule.check)(subject, &mut findings);
        let of_rule = findings.0.into_iter();
        all.extend(of_rule.map(|(span, message)| Finding { rule: rule.name, span, message }));
    }
    all.sort_by_key(|finding| (finding.span, finding.rule));
    all.dedup();
    all.truncate(FINDINGS_MAX);
    all
}

impl Finding {
    /// With its place, for people.
    pub fn diagnostic(&self, file: &Dockerfile) -> Diagnostic {
        file.diagnostic(self.span, format!("{}: {}", self.rule, self.message))
    }

    /// The rule.
    pub fn rule(&self) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.name == self.rule)
    }
}
