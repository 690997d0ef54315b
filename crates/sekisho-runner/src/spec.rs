//! Steps in one shape, whether they come with the job or from a composite action.

use std::path::PathBuf;

use sekisho_github::wire::context::Token;
use sekisho_github::wire::job::{ReferenceType, Step};
use sekisho_github::wire::launch::ActionRequest;
use sekisho_workflow::token::TokenKind;

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// `run:`; its inputs are `script`, `shell`, `workingDirectory`.
    Script,
    /// `uses: actions/checkout@…`.
    Checkout,
    /// `uses: ./path`.
    Local { path: String },
    /// `uses: owner/repository/path@ref`.
    Remote(ActionRequest),
    /// What such an action wants to be done before the job's first step.
    Pre(ActionRequest),
    /// A script of the runner's owner, and the variable that names it.
    Hook { path: PathBuf, variable: String },
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) struct StepSpec {
    /// In the `steps` context; generated names start with `__`.
    pub(crate) context_name: String,
    /// `name:`.
    pub(crate) display: Option<Token>,
    /// What is shown without `name:`, if it needs no evaluation.
    pub(crate) default_name: String,
    pub(crate) condition: String,
    pub(crate) work: Work,
    pub(crate) inputs: Token,
    pub(crate) environment: Option<Token>,
    pub(crate) continue_on_error: Option<Token>,
    pub(crate) timeout: Option<Token>,
    /// Defaults of job and workflow do not apply.
    pub(crate) in_action: bool,
}

/// Why a step cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("`uses: {name}` is neither `./path` nor `owner/repository@ref`")]
    NoAction { name: String },
    #[error(
        "Container steps are not supported by this runner: `{image}`. Use `run` steps, or build \
         with `sekisho build`"
    )]
    Container { image: String },
    #[error("Background steps are not supported by this runner: `{name}`")]
    Background { name: String },
    #[error("A step without `run` and `uses`: `{name}`")]
    Nothing { name: String },
}

impl StepSpec {
    /// A step of the job message.
    pub(crate) fn from_wire(step: &Step) -> Result<Self, SpecError> {
        let name = || step.context_name.clone().or_else(|| step.name.clone()).unwrap_or_default();
        if step.background || !step.kind.eq_ignore_ascii_case("action") {
            return Err(SpecError::Background { name: name() });
        }
        let reference = &step.reference;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let inputs = step.inputs.clone().unwrap_or_default();
        let (work, default_name) = match reference.kind {
            ReferenceType::Script => (Work::Script, script_name(inputs.get("script"))),
            ReferenceType::ContainerRegistry => {
                return Err(SpecError::Container { image: text(&reference.image) });
            }
            ReferenceType::Repository => {
                let is_self = reference.repository_type.as_deref();
                if is_self.is_some_and(|kind| kind.eq_ignore_ascii_case("self")) {
                    uses(&text(&reference.path))?
                } else {
                    let path = reference.path.as_deref().filter(|path| !path.is_empty());
                    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
                    let name = text(&reference.name);
                    uses(&format!("{name}{path}@{}", text(&reference.git_ref)))?
                }
            }
        };
        Ok(Self {
            context_name: name(),
            display: step.display_name_token.clone().filter(|token| !token.is_null()),
            default_name,
            condition: step.condition.clone().unwrap_or_default(),
            work,
            inputs,
            environment: step.environment.clone().filter(|token| !token.is_null()),
            continue_on_error: step.continue_on_error.clone().filter(|token| !token.is_null()),
            timeout: step.timeout_in_minutes.clone().filter(|token| !token.is_null()),
            in_action: false,
        })
    }

    /// A step of the runner's own, which runs in every case.
    pub(crate) fn own(name: &str, work: Work) -> Self {
        Self {
            context_name: String::new(),
            display: None,
            default_name: name.to_owned(),
            condition: "always()".to_owned(),
            work,
            inputs: Token::default(),
            environment: None,
            continue_on_error: None,
            timeout: None,
            in_action: false,
        }
    }

    /// The step before the job's first one that runs the `pre` of this one's action.
    pub(crate) fn pre(&self, request: &ActionRequest, condition: &str) -> Self {
        let always = if condition.is_empty() { "always()" } else { condition };
        Self { work: Work::Pre(request.clone()), condition: always.to_owned(), ..self.clone() }
    }

    /// Whether it is in the `steps` context: generated names are not users' to see, and a `pre` has
    /// the name of its action's step.
    pub(crate) fn is_in_context(&self) -> bool {
        let name = &self.context_name;
        !name.is_empty() && !name.starts_with("__") && !matches!(self.work, Work::Pre(_))
    }

    /// `run` or the action's kind, for the service.
    pub(crate) fn kind(&self) -> &'static str {
        match self.work {
            Work::Script | Work::Hook { .. } => "run",
            Work::Checkout | Work::Local { .. } | Work::Remote(_) | Work::Pre(_) => "repository",
        }
    }
}

/// What `uses:` means, and how the step is called.
pub(crate) fn uses(text: &str) -> Result<(Work, String), SpecError> {
    let name = format!("Run {text}");
    if let Some(image) = text.strip_prefix("docker://") {
        return Err(SpecError::Container { image: image.to_owned() });
    }
    if text == "." || text.starts_with("./") {
        return Ok((Work::Local { path: text.to_owned() }, name));
    }
    let action = text.split_once('@').map_or(text, |(action, _)| action);
    if action.eq_ignore_ascii_case("actions/checkout") {
        return Ok((Work::Checkout, name));
    }
    let no_action = || SpecError::NoAction { name: text.to_owned() };
    let (action, version) = text.rsplit_once('@').ok_or_else(no_action)?;
    let mut parts = action.splitn(3, '/');
    let (owner, repository) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if owner.is_empty() || repository.is_empty() || version.is_empty() {
        return Err(no_action());
    }
    let request = ActionRequest {
        action: format!("{owner}/{repository}"),
        version: version.to_owned(),
        path: parts.next().unwrap_or_default().to_owned(),
    };
    Ok((Work::Remote(request), name))
}

/// `Run <first line of the script>`, as far as it is known without evaluating.
pub(crate) fn script_name(script: Option<&Token>) -> String {
    let text = match script.map(|token| &token.kind) {
        Some(TokenKind::String(text)) => text.as_str(),
        _ => "",
    };
    let line = text.trim_start().lines().next().unwrap_or_default().trim_end();
    if line.is_empty() { "Run script".to_owned() } else { format!("Run {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_can_run_is_taken() {
        let local = Work::Local { path: "./a".to_owned() };
        assert_eq!(uses("./a"), Ok((local, "Run ./a".to_owned())));
        let checkout = "Run Actions/Checkout@v4".to_owned();
        assert_eq!(uses("Actions/Checkout@v4"), Ok((Work::Checkout, checkout)));
        let remote = |text: &str| match uses(text) {
            Ok((Work::Remote(r), _)) => Some(format!("{} {} {}", r.action, r.path, r.version)),
            _ => None,
        };
        assert_eq!(remote("acme/setup@v1").as_deref(), Some("acme/setup  v1"));
        assert_eq!(remote("actions/checkout/a/b@x/y").as_deref(), Some("actions/checkout a/b x/y"));
        for bad in ["acme", "acme/setup", "acme/@v1", "/x@v1", "acme/setup@"] {
            let error = SpecError::NoAction { name: bad.to_owned() };
            assert_eq!(uses(bad), Err(error));
        }
        assert!(uses("docker://alpine").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_uses_is_read_without_panic(text in "[-a-zA-Z0-9./@:_ ]{0,40}") {
            if let Ok((Work::Remote(request), _)) = uses(&text) {
                proptest::prop_assert_eq!(request.action.matches('/').count(), 1);
                proptest::prop_assert!(!request.version.is_empty());
            }
        }
    }

    #[test]
    fn a_script_is_called_by_its_first_line() {
        let name = |text: &str| script_name(Some(&Token::string(text)));
        assert_eq!(name("\n  make test \nx"), "Run make test");
        assert_eq!(name(" "), "Run script");
        assert_eq!(script_name(None), "Run script");
    }
}
