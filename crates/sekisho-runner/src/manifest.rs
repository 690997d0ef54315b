//! `action.yml`: bytes in, an action out.

use sekisho_github::wire::context::Token;
use sekisho_workflow::expr::Scope;
use sekisho_workflow::token::from_yaml;
use sekisho_workflow::yaml::{self, Node, NodeValue};

use crate::spec::{SpecError, StepSpec, Work, script_name, uses};

/// Largest manifest, in bytes.
pub(crate) const MAX_MANIFEST_LEN: u64 = 512 * 1024;
/// Most steps of an action.
const MAX_STEPS: usize = 500;

/// Contexts that exist in an action's steps.
const STEP: Scope =
    Scope::new(&["github", "inputs", "env", "steps", "runner", "job", "strategy", "matrix"])
        .with_status_functions()
        .with_hash_files();
/// Contexts that exist in an input's default.
const DEFAULT: Scope = Scope::new(&["github", "strategy", "matrix", "job", "runner"]);

/// An action.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) inputs: Vec<Input>,
    /// Names and expressions, of a composite action; a JavaScript action sets its outputs itself.
    pub(crate) outputs: Vec<(String, Token)>,
    pub(crate) runs: Runs,
}

/// What an action does.
#[derive(Clone, Debug)]
pub(crate) enum Runs {
    /// Steps.
    Composite { steps: Vec<StepSpec> },
    /// Programs for Node.js.
    JavaScript(JavaScript),
}

/// The programs of a JavaScript action, relative to its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JavaScript {
    pub(crate) main: String,
    pub(crate) pre: Option<String>,
    /// Empty: in every case.
    pub(crate) pre_if: String,
    pub(crate) post: Option<String>,
    /// Empty: in every case.
    pub(crate) post_if: String,
}

/// An input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) default: Option<Token>,
    pub(crate) required: bool,
    pub(crate) deprecated: Option<String>,
}

/// Why a manifest cannot be used; each message begins with line and column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub(crate) struct ManifestError {
    line: u32,
    column: u32,
    message: String,
}

fn fail(node: &Node, message: impl Into<String>) -> ManifestError {
    ManifestError { line: node.at.line, column: node.at.column, message: message.into() }
}

/// The entries of a mapping; nothing is an empty one.
fn entries<'n>(node: &'n Node, what: &str) -> Result<Vec<(&'n str, &'n Node)>, ManifestError> {
    match &node.value {
        NodeValue::Null => Ok(Vec::new()),
        NodeValue::Mapping(entries) => {
            Ok(entries.iter().map(|(key, value)| (key.text.as_str(), value)).collect())
        }
        _ => Err(fail(node, format!("{what} must be a mapping, but is {}", node.kind()))),
    }
}

fn get<'n>(entries: &[(&str, &'n Node)], key: &str) -> Option<&'n Node> {
    let found = entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    found.map(|(_, node)| *node).filter(|node| node.value != NodeValue::Null)
}

fn text(node: &Node) -> Result<String, ManifestError> {
    match &node.value {
        NodeValue::String(text) => Ok(text.clone()),
        NodeValue::Bool(value) => Ok(value.to_string()),
        NodeValue::Number(value) => Ok(sekisho_workflow::expr::Value::Number(*value).to_text()),
        _ => Err(fail(node, format!("text is expected here, but this is {}", node.kind()))),
    }
}

fn token(node: &Node, scope: Option<&Scope>) -> Result<Token, ManifestError> {
    from_yaml(node, scope).map_err(|errors| match errors.first() {
        Some(error) => ManifestError {
            line: error.at.line,
            column: error.at.column,
            message: error.to_string(),
        },
        None => fail(node, "the value is wrong"),
    })
}

impl Manifest {
    /// Reads a manifest. A container action is an error that says what is supported.
    pub(crate) fn parse(bytes: &str) -> Result<Self, ManifestError> {
        let root = yaml::parse(bytes).map_err(|error| ManifestError {
            line: error.at.line,
            column: error.at.column,
            message: error.to_string(),
        })?;
        let top = entries(&root, "the manifest")?;
        let runs = get(&top, "runs").ok_or_else(|| fail(&root, "`runs` is missing"))?;
        let run = entries(runs, "`runs`")?;
        let using = get(&run, "using").ok_or_else(|| fail(runs, "`runs.using` is missing"))?;
        let kind = text(using)?;
        let inputs = get(&top, "inputs").map_or(Ok(Vec::new()), inputs)?;
        if kind.to_ascii_lowercase().starts_with("node") {
            let runs = Runs::JavaScript(javascript(runs, &run)?);
            return Ok(Self { inputs, outputs: Vec::new(), runs });
        }
        if !kind.eq_ignore_ascii_case("composite") {
            return Err(fail(
                using,
                format!(
                    "actions with `using: {kind}` are not supported by this runner, which has no \
                     container engine. It runs composite and JavaScript actions; use one of those, or \
                     a `run` step"
                ),
            ));
        }
        let steps = get(&run, "steps").ok_or_else(|| fail(runs, "`runs.steps` is missing"))?;
        let NodeValue::Sequence(items) = &steps.value else {
            return Err(fail(steps, "`runs.steps` must be a sequence"));
        };
        if items.len() > MAX_STEPS {
            return Err(fail(steps, format!("there are more than {MAX_STEPS} steps")));
        }
        let steps = items.iter().enumerate().map(|(index, item)| step(index, item));
        let outputs = get(&top, "outputs").map_or(Ok(Vec::new()), outputs)?;
        let runs = Runs::Composite { steps: steps.collect::<Result<_, _>>()? };
        Ok(Self { inputs, outputs, runs })
    }
}

fn javascript(node: &Node, run: &[(&str, &Node)]) -> Result<JavaScript, ManifestError> {
    let name = |key| get(run, key).map(text).transpose();
    Ok(JavaScript {
        main: name("main")?.ok_or_else(|| fail(node, "`runs.main` is missing"))?,
        pre: name("pre")?,
        pre_if: get(run, "pre-if").map_or(Ok(String::new()), condition)?,
        post: name("post")?,
        post_if: get(run, "post-if").map_or(Ok(String::new()), condition)?,
    })
}

fn inputs(node: &Node) -> Result<Vec<Input>, ManifestError> {
    let input = |(name, node): (&str, &Node)| {
        let fields = entries(node, "an input")?;
        let default = get(&fields, "default").map(|node| token(node, Some(&DEFAULT)));
        let required = get(&fields, "required").is_some_and(|node| {
            matches!(&node.value, NodeValue::Bool(true))
                || matches!(&node.value, NodeValue::String(text) if text == "true")
        });
        let deprecated = get(&fields, "deprecationMessage").map(text).transpose()?;
        Ok(Input { name: name.to_owned(), default: default.transpose()?, required, deprecated })
    };
    entries(node, "`inputs`")?.into_iter().map(input).collect()
}

fn outputs(node: &Node) -> Result<Vec<(String, Token)>, ManifestError> {
    let output = |(name, node): (&str, &Node)| {
        let fields = entries(node, "an output")?;
        let value = get(&fields, "value")
            .ok_or_else(|| fail(node, format!("output `{name}` has no `value`")))?;
        Ok((name.to_owned(), token(value, Some(&STEP))?))
    };
    entries(node, "`outputs`")?.into_iter().map(output).collect()
}

/// Keys of a step; another is an error rather than silence.
const STEP_KEYS: [&str; 10] = [
    "id",
    "name",
    "if",
    "run",
    "shell",
    "working-directory",
    "env",
    "uses",
    "with",
    "continue-on-error",
];

fn step(index: usize, node: &Node) -> Result<StepSpec, ManifestError> {
    let fields = entries(node, "a step")?;
    if let Some((key, value)) = fields.iter().find(|(key, _)| !STEP_KEYS.contains(key)) {
        return Err(fail(value, format!("`{key}` is not supported in a step of an action")));
    }
    let value = |key| get(&fields, key).map(|node| token(node, Some(&STEP))).transpose();
    let (work, default_name, inputs) = match (get(&fields, "run"), get(&fields, "uses")) {
        (Some(run), None) => {
            if get(&fields, "shell").is_none() {
                return Err(fail(run, "Required property is missing: shell"));
            }
            let script = token(run, Some(&STEP))?;
            let name = script_name(Some(&script));
            let mut inputs = vec![("script", script)];
            inputs.extend(value("shell")?.map(|token| ("shell", token)));
            inputs.extend(value("working-directory")?.map(|token| ("workingDirectory", token)));
            (Work::Script, name, Token::mapping(inputs))
        }
        (None, Some(action)) => {
            let action_text = text(action)?;
            let (work, name) =
                uses(&action_text).map_err(|error| fail(action, error.to_string()))?;
            (work, name, value("with")?.unwrap_or_default())
        }
        (Some(_), Some(action)) => return Err(fail(action, "a step has either `run` or `uses`")),
        (None, None) => {
            let error = SpecError::Nothing { name: format!("step {}", index + 1) };
            return Err(fail(node, error.to_string()));
        }
    };
    let condition = match get(&fields, "if") {
        Some(node) => condition(node)?,
        None => String::new(),
    };
    Ok(StepSpec {
        context_name: match get(&fields, "id") {
            Some(id) => text(id)?,
            None => format!("__step_{}", index + 1),
        },
        display: value("name")?,
        default_name,
        condition,
        work,
        inputs,
        environment: value("env")?,
        continue_on_error: value("continue-on-error")?,
        timeout: None,
        in_action: true,
    })
}

/// `if:` with or without `${{ }}` around it.
fn condition(node: &Node) -> Result<String, ManifestError> {
    let whole = text(node)?;
    let trimmed = whole.trim();
    let inner = trimmed.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}"));
    let expression = match inner {
        Some(inner) if !inner.contains("}}") => inner.trim(),
        _ => trimmed,
    };
    STEP.parse(expression).map_err(|error| fail(node, error.to_string()))?;
    Ok(expression.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
name: x
inputs:
  who: {required: true}
  greeting: {default: Hello}
outputs:
  said: {value: '${{ steps.say.outputs.said }}'}
runs:
  using: composite
  steps:
    - id: say
      if: ${{ inputs.who != '' }}
      shell: bash
      run: |
        echo ${{ inputs.greeting }}
    - uses: ./other
      with: {a: 1}
      continue-on-error: true
";

    #[test]
    fn a_composite_action_is_read() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(manifest.inputs.len(), 2);
        assert!(manifest.inputs[0].required && manifest.inputs[0].default.is_none());
        assert_eq!(manifest.outputs[0].0, "said");
        let Runs::Composite { steps } = manifest.runs else { panic!("it is composite") };
        assert_eq!(steps[0].condition, "inputs.who != ''");
        assert_eq!(steps[0].context_name, "say");
        assert_eq!(steps[1].context_name, "__step_2");
        assert_eq!(steps[1].work, Work::Local { path: "./other".to_owned() });
    }

    #[test]
    fn a_javascript_action_is_read() {
        let text = "inputs: {a: {default: 1}}\nruns: {using: node20, main: dist/index.js, \
                    pre: dist/pre.js, pre-if: '${{ runner.os == ''Linux'' }}', \
                    post: dist/post.js, post-if: success()}\noutputs: {b: {description: x}}";
        let manifest = Manifest::parse(text).unwrap();
        let Runs::JavaScript(action) = manifest.runs else { panic!("it is JavaScript") };
        let want = JavaScript {
            main: "dist/index.js".to_owned(),
            pre: Some("dist/pre.js".to_owned()),
            pre_if: "runner.os == 'Linux'".to_owned(),
            post: Some("dist/post.js".to_owned()),
            post_if: "success()".to_owned(),
        };
        assert_eq!((action, manifest.inputs.len(), manifest.outputs.len()), (want, 1, 0));
    }

    #[track_caller]
    fn check_error(runs: &str, want: &str) {
        let error = Manifest::parse(&format!("runs:\n{runs}")).unwrap_err().to_string();
        assert!(error.contains(want), "got: {error}\nwant: {want}");
    }

    #[test]
    fn what_cannot_run_is_said_with_its_place() {
        check_error("  using: node20", "`runs.main` is missing");
        check_error("  using: docker", "2:10: actions with `using: docker` are not supported");
        check_error("  using: composite", "`runs.steps` is missing");
        check_error("  using: composite\n  steps: [{run: x}]", "missing: shell");
        check_error("  using: composite\n  steps: [{uses: a/b}]", "`uses: a/b` is neither");
        check_error("  using: composite\n  steps: [{}]", "without `run` and `uses`");
        check_error(
            "  using: composite\n  steps: [{run: x, shell: sh, timeout-minutes: 1}]",
            "`timeout-minutes`",
        );
        check_error("  using: composite\n  steps: [{run: '${{ nope.x }}', shell: sh}]", "nope");
        assert!(Manifest::parse("a: [").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,120}") {
            let _ = Manifest::parse(&text);
        }
    }
}
