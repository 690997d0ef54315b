//! Workflow files, their expressions and filters.

mod seeds;

use sekisho_workflow::diagnostic::{MAX_DIAGNOSTICS, MAX_MESSAGE_CHARS};
use sekisho_workflow::expr::{
    self, ContextData, Contexts, MAX_EVALUATION_BYTES, MAX_EXPRESSION_CHARS, NoFunctions, Value,
};
use sekisho_workflow::filter::Pattern;
use sekisho_workflow::plan::{
    MAX_PLANNED_JOBS, Plan, ResolveError, Resolved, WorkflowSource, expand,
};
use sekisho_workflow::token::{Token, from_text};
use sekisho_workflow::yaml::{self, MAX_DEPTH, MAX_NODES, Node, NodeValue};
use sekisho_workflow::{Diagnostic, Position, model};
use serde_json::json;

use self::seeds::{EXPRESSION_WORDS, LARGE, SMALL, YAML_WORDS};
use super::{lines, must, parts, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "workflow",
        reads: "a workflow file, and its plan",
        holds: "errors have a place in the file; a plan keeps its limits and can be written down",
        seeds: || texts(&[SMALL, LARGE]),
        words: YAML_WORDS,
        cost: 1,
        run: workflow,
    },
    Target {
        name: "yaml",
        reads: "YAML with places",
        holds: "depth and nodes keep their limits, aliases counted; places are in the file",
        seeds: || {
            texts(&[
                SMALL,
                LARGE,
                "a: &x [1, {b: *x}]\n",
                "&a [&b [1], *b, *b]\n",
                "? |\n a\n: >-\n b\n",
            ])
        },
        words: YAML_WORDS,
        cost: 1,
        run: read_yaml,
    },
    Target {
        name: "expression",
        reads: "`${{ }}`: parsing and evaluation",
        holds: "errors have a place in the text; evaluation keeps its memory limit and gives the same twice",
        seeds: || {
            texts(&[
                "github.event.a[0].*.b == 'x' && !contains(env.A, format('{0}-{1}', 1, 0x1F))",
                "fromJSON(toJSON(matrix)) || join(github.list.*, ', ')",
                "case(true, 1, 2) < -1.5e3 || startsWith(github.ref, 'refs/') && always()",
            ])
        },
        words: EXPRESSION_WORDS,
        cost: 1,
        run: expression,
    },
    Target {
        name: "template-token",
        reads: "text with `${{ }}`, and tokens as a job message has them",
        holds: "what is written is read again as the same",
        seeds: || {
            texts(&[
                "a ${{ github.ref }} b ${{ '}}' }}",
                r#"{"type":2,"map":[{"Key":"script","Value":{"type":3,"expr":"a.b","file":1,"line":2,"col":3}}]}"#,
                r#"[{"type":1,"seq":["a",{"type":5,"bool":true},{"type":6,"num":1.5},{"type":7}]}]"#,
            ])
        },
        words: EXPRESSION_WORDS,
        cost: 1,
        run: token,
    },
    Target {
        name: "context-data",
        reads: "contexts as a job message has them",
        holds: "what is written is read again as the same",
        seeds: || {
            texts(&[
                r#"{"t":2,"d":[{"k":"a","v":{"t":1,"a":["x",{"t":3,"b":true},{"t":4,"n":1.5},null]}}]}"#,
                r#"{"t":5,"d":[{"k":"a","v":{"t":0,"s":"x"}},{"k":"A","v":1}]}"#,
            ])
        },
        words: &[
            "\"t\":",
            "\"d\":",
            "\"k\":",
            "\"v\":",
            "{\"t\":2,\"d\":[",
            "null",
            "1e400",
            "NaN",
        ],
        cost: 1,
        run: context_data,
    },
    Target {
        name: "filter",
        reads: "a pattern of branches, tags or paths, and a name",
        holds: "plain text matches itself alone",
        seeds: || {
            texts(&["releases/**-[a-z0-9]+\0releases/x/y-a", "!docs/**\0docs/a", "**/*.rs\0a/b.rs"])
        },
        words: &["**", "*", "?", "+", "[", "]", "[a-z]", "[^", "\\", "!", "/", "("],
        cost: 5,
        run: filter,
    },
];

fn workflow(input: &[u8]) {
    let text = text(input);
    match model::parse("f.yml", &text) {
        Err(problems) => placed(&text, &problems),
        Ok(workflow) => {
            let source = WorkflowSource {
                repository: "o/r".to_owned(),
                path: "f.yml".to_owned(),
                git_ref: "refs/heads/main".to_owned(),
                sha: "0".repeat(40),
            };
            let root = Resolved { workflow, source };
            // Every call leads here again: calls have a limit.
            let contexts = contexts();
            let resolve = |_: &model::WorkflowReference,
                           _: &WorkflowSource|
             -> Result<_, ResolveError> { Ok(root.clone()) };
            let Ok(plan) = expand(&root, &resolve, &contexts) else { return };
            assert!(plan.jobs.len() <= MAX_PLANNED_JOBS, "{} jobs", plan.jobs.len());
            let written = must(serde_json::to_vec(&plan), "a plan is written");
            let read: Plan = must(serde_json::from_slice(&written), "what is written is read");
            let again = must(serde_json::to_vec(&read), "it is written again");
            assert_eq!(again, written);
        }
    }
}

fn placed(text: &str, problems: &[Diagnostic]) {
    assert!((1..=MAX_DIAGNOSTICS).contains(&problems.len()), "{} problems", problems.len());
    for problem in problems {
        is_in(text, Position { line: problem.line, column: problem.column });
        assert!(
            problem.message.chars().count() <= MAX_MESSAGE_CHARS && !problem.message.is_empty()
        );
    }
}

fn is_in(text: &str, at: Position) {
    assert!(at.line >= 1 && at.column >= 1, "{at:?}");
    assert!(at.line as usize <= lines(text), "{at:?}");
    assert!(at.column as usize <= text.chars().count() + 2, "{at:?}");
}

fn read_yaml(input: &[u8]) {
    let text = text(input);
    match yaml::parse(&text) {
        Err(error) => {
            is_in(&text, error.at);
            assert!(!error.message.is_empty());
        }
        Ok(node) => {
            let mut nodes = 0;
            look(&text, &node, 0, &mut nodes);
            assert!(nodes <= MAX_NODES, "{nodes} nodes");
        }
    }
}

fn look(text: &str, node: &Node, depth: usize, nodes: &mut usize) {
    assert!(depth <= MAX_DEPTH + 1, "{depth} levels");
    *nodes += 1;
    is_in(text, node.at);
    match &node.value {
        NodeValue::Sequence(items) => {
            items.iter().for_each(|item| look(text, item, depth + 1, nodes));
        }
        NodeValue::Mapping(entries) => {
            for (key, value) in entries {
                is_in(text, key.at);
                look(text, value, depth + 1, nodes);
            }
        }
        NodeValue::String(value) => is_in(text, node.position_of(value.chars().count())),
        NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) => {}
    }
}

fn contexts() -> Contexts {
    let github = json!({"ref": "refs/heads/main", "actor": "ann", "list": ["a", "B"],
        "event": {"a": [{"b": "x"}, null]}});
    Contexts::new()
        .with("github", github)
        .with("env", json!({"A": "a,b"}))
        .with("matrix", Value::object([("os", Value::from("x")), ("n", Value::Number(f64::NAN))]))
}

fn expression(input: &[u8]) {
    let text = text(input);
    let parsed = match expr::parse(&text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let place = error.position().unwrap_or(1);
            assert!((1..=text.chars().count() + 1).contains(&place), "{error}: {place}");
            return;
        }
    };
    assert!(text.chars().count() <= MAX_EXPRESSION_CHARS);
    let contexts = contexts();
    let value = expr::evaluate(&parsed, &contexts, &NoFunctions);
    match &value {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(value) => {
            // Twice: a text and what it is made of are counted both.
            assert!(value.to_text().len() <= 2 * MAX_EVALUATION_BYTES);
            let _ = (value.is_truthy(), value.to_number(), value.to_json());
        }
    }
    let again = expr::evaluate(&parsed, &contexts, &NoFunctions);
    // By their texts: NaN is not itself.
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
}

fn token(input: &[u8]) {
    let read = match serde_json::from_slice::<Token>(input) {
        Ok(token) => token,
        Err(_) => match from_text(&text(input), Some(&ANYWHERE)) {
            Ok(token) => token,
            Err(error) => return is_in(&text(input), error.at),
        },
    };
    let written = must(serde_json::to_string(&read), "a token is written");
    let again: Token = must(serde_json::from_str(&written), "what is written is read");
    assert_eq!(must(serde_json::to_string(&again), "it is written again"), written);
}

const ANYWHERE: expr::Scope =
    expr::Scope::new(&["github", "env", "matrix"]).with_status_functions().with_hash_files();

fn context_data(input: &[u8]) {
    let Ok(read) = serde_json::from_slice::<ContextData>(input) else { return };
    let written = must(serde_json::to_string(&read), "a context is written");
    let again: ContextData = must(serde_json::from_str(&written), "what is written is read");
    assert_eq!(must(serde_json::to_string(&again), "it is written again"), written);
}

fn filter(input: &[u8]) {
    let [pattern, name] = parts::<2>(input);
    let (pattern, name) = (text(pattern), text(name));
    let plain = !pattern.contains(|c| "*?+[]\\!".contains(c));
    match Pattern::parse(&pattern) {
        Ok(parsed) => {
            assert_eq!(parsed.as_str(), pattern);
            let _ = parsed.matches(&name);
            if plain {
                assert!(parsed.matches(&pattern));
                assert_eq!(parsed.matches(&name), name == pattern);
            }
        }
        Err(error) => {
            let too_long = pattern.len() > sekisho_workflow::filter::MAX_PATTERN_BYTES;
            assert!(!plain || pattern.is_empty() || too_long, "{error}");
        }
    }
}
