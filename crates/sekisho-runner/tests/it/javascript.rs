//! JavaScript actions, of the repository itself and of others.

use serde_json::{Value, json};

use crate::fixture::{Finished, Fixture, Job, expr, finish, id, local, mapping, run, uses, with};

/// An action that tells what it sees, sets an output, and saves something for its post.
const MAIN: &str = r#"
const fs = require('fs');
const env = process.env;
console.log(`main: ${env['INPUT_WHO']} ${env['INPUT_WITH-DASH']} ${env['INPUT_A_B']} cwd=${process.cwd() === env.GITHUB_WORKSPACE}`);
console.log(`token: ${env.ACTIONS_RUNTIME_TOKEN ? 'there' : 'none'} ${env.ACTIONS_CACHE_SERVICE_V2}`);
console.log(`path: ${fs.existsSync(env.GITHUB_ACTION_PATH + '/action.yml')} ${env.GITHUB_ACTION_REPOSITORY} ${env.GITHUB_ACTION_REF}`);
console.log(`early: ${env.STATE_early}`);
fs.appendFileSync(env.GITHUB_OUTPUT, 'said=hello\n');
fs.appendFileSync(env.GITHUB_STATE, 'kept=from main\n');
console.log('::save-state name=old::also kept');
if (env['INPUT_WHO'] === 'fail') process.exit(3);
"#;

const POST: &str = r#"
const env = process.env;
console.log(`post: ${env.STATE_kept}, ${env.STATE_old}, ${env.INPUT_WHO}, later=${env.LATER}`);
console.log(`post, early: ${env.STATE_early}`);
"#;

/// What such an action does before the job's first step.
const PRE: &str = r#"
const fs = require('fs');
const env = process.env;
console.log(`pre: ${env['INPUT_WHO']} ${env.GITHUB_ACTION_REPOSITORY} ${env.ACTIONS_RUNTIME_TOKEN ? 'there' : 'none'}`);
fs.appendFileSync(env.GITHUB_STATE, 'early=from pre\n');
if (env['INPUT_WHO'] === 'fail-early') process.exit(4);
"#;

const MANIFEST: &str = "\
inputs:
  who: {default: world}
  with-dash: {default: '${{ github.ref_name }}'}
  a b: {default: blank}
runs: {using: node20, main: dist/main.js, post: dist/post.js}
";

fn is_there() -> bool {
    let there = std::process::Command::new("node").arg("--version").output().is_ok();
    if !there {
        println!("skipped: needs node");
    }
    there
}

/// A step that writes the action into a folder of the workspace.
fn write(folder: &str, manifest: &str) -> Value {
    let script = format!(
        "mkdir -p {folder}/dist\ncat > {folder}/action.yml <<'E1'\n{manifest}E1\n\
         cat > {folder}/dist/main.js <<'E2'\n{MAIN}E2\ncat > {folder}/dist/post.js <<'E3'\n{POST}E3\n"
    );
    run("write", &script)
}

fn conclusions(done: &Finished) -> Vec<String> {
    done.conclusions().into_iter().map(|(_, conclusion)| conclusion).collect()
}

#[tokio::test]
async fn a_local_action_has_inputs_outputs_state_and_a_post() {
    if !is_there() {
        return;
    }
    let mut job = Job::new([
        write("act", MANIFEST),
        local("use", "./act", &[("who", json!("you"))]),
        with(
            run(
                "see",
                "echo \"out $OUT token [$ACTIONS_RUNTIME_TOKEN]\"; echo LATER=1 >> $GITHUB_ENV",
            ),
            json!({"environment": mapping(&[("OUT", expr("steps.use.outputs.said"))])}),
        ),
    ]);
    job.variables = json!({"actions_uses_cache_service_v2": {"value": "true"}});
    let done = finish(job).await;
    done.assert_conclusion("succeeded");
    done.assert_logged("use", "main: you main blank cwd=true");
    done.assert_logged("use", "token: there True");
    done.assert_logged("use", "path: true undefined undefined");
    done.assert_logged("see", "out hello token []");
    assert!(
        done.stdout.contains("Z post: from main, also kept, you, later=1\n"),
        "{}",
        done.stdout
    );
    let names: Vec<String> = done.conclusions().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[3], "Post Run ./act");
}

#[tokio::test]
async fn an_action_that_fails_fails_its_step_and_its_post_runs() {
    if !is_there() {
        return;
    }
    let done = finish(Job::new([
        write("act", MANIFEST),
        local("use", "./act", &[("who", json!("fail"))]),
        run("next", "echo no"),
    ]))
    .await;
    done.assert_conclusion("failed");
    done.assert_logged("use", "##[error]Process completed with exit code 3.");
    assert_eq!(conclusions(&done), ["succeeded", "failed", "skipped", "succeeded"]);
    let manifest = MANIFEST.replace("dist/post.js", "dist/post.js, post-if: success()");
    let done = finish(Job::new([
        write("act", &manifest),
        local("use", "./act", &[("who", json!("fail"))]),
    ]))
    .await;
    assert!(!done.stdout.contains("Z post:"), "{}", done.stdout);
    let outside = MANIFEST.replace("dist/main.js", "../../../../../etc/passwd");
    let done = finish(Job::new([write("act", &outside), local("use", "./act", &[])])).await;
    done.assert_conclusion("failed");
    assert!(!done.stdout.contains("Z main:"), "{}", done.stdout);
}

/// An archive of an action, as the service gives it out.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("top-1/{path}"), text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn remote(name: &str, action: &str, path: &str, inputs: &[(&str, Value)]) -> Value {
    let reference = json!({"type": "repository", "repositoryType": "GitHub", "name": action,
        "ref": "v1", "path": path});
    uses(name, reference, inputs)
}

fn with_launch(fixture: &Fixture, mut job: Job) -> Job {
    let launch = json!({"value": format!("{}/ignored/", fixture.server.url)});
    job.variables = json!({"system.github.launch_endpoint": launch});
    job
}

#[tokio::test]
async fn actions_of_other_repositories_are_fetched_with_those_that_they_use() {
    if !is_there() {
        return;
    }
    let fixture = Fixture::new().await;
    let composite = "runs: {using: composite, steps: [{uses: acme/js@v1, with: {who: inner}}]}";
    for (key, files) in [
        ("acme/outer@v1", vec![("sub/action.yml", composite)]),
        (
            "acme/js@v1",
            vec![("action.yml", MANIFEST), ("dist/main.js", MAIN), ("dist/post.js", POST)],
        ),
    ] {
        let archives = &mut *fixture.server.archives.lock().unwrap();
        archives.insert(key.to_owned(), archive(&files));
    }
    let job = with_launch(&fixture, Job::new([remote("outer", "acme/outer", "sub", &[])]));
    let done = fixture.run(job).await;
    done.assert_conclusion("succeeded");
    done.assert_logged("outer", "main: inner main blank cwd=true");
    done.assert_logged("outer", "path: true acme/js v1");
    assert!(done.stdout.contains("Z post: from main, also kept, inner,"), "{}", done.stdout);
    for key in ["acme/outer@v1", "acme/js@v1"] {
        let line = format!("Z Download action repository '{key}' (SHA:0123");
        assert!(done.stdout.contains(&line), "no `{line}` in:\n{}", done.stdout);
    }
    let _ = id("outer");
}

/// A job whose second step uses an action of another repository, the action's `pre-if` given.
async fn with_pre(pre_if: &str, who: &str) -> Finished {
    let fixture = Fixture::new().await;
    let manifest =
        MANIFEST.replace("main:", &format!("pre: dist/pre.js, pre-if: \"{pre_if}\", main:"));
    let composite = "\
inputs: {name: {default: nobody}}
runs:
  using: composite
  steps:
    - {run: echo inside, shell: sh}
    - {uses: acme/js@v1, with: {who: '${{ inputs.name }}'}}
";
    let files = [
        ("action.yml", manifest.as_str()),
        ("dist/main.js", MAIN),
        ("dist/post.js", POST),
        ("dist/pre.js", PRE),
    ];
    {
        let archives = &mut *fixture.server.archives.lock().unwrap();
        archives.insert("acme/js@v1".to_owned(), archive(&files));
        archives.insert("acme/outer@v1".to_owned(), archive(&[("action.yml", composite)]));
    }
    let steps = [
        run("first", "echo the first step"),
        remote("use", "acme/js", "", &[("who", json!(who))]),
        remote("outer", "acme/outer", "", &[("name", json!("nested"))]),
    ];
    let job = with_launch(&fixture, Job::new(steps));
    fixture.run(job).await
}

fn names(done: &Finished) -> Vec<(String, String)> {
    let short = |name: String| name.replace("echo the ", "").replace(" step", "");
    done.conclusions().into_iter().map(|(name, end)| (short(name), end)).collect()
}

#[tokio::test]
async fn the_pre_of_an_action_runs_before_the_first_step_and_its_state_is_kept() {
    if !is_there() {
        return;
    }
    let done = with_pre("always()", "you").await;
    done.assert_conclusion("succeeded");
    let all: Vec<(String, String)> = names(&done);
    let got: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let want = [
        "Pre Run acme/js@v1",
        "Pre Run acme/outer@v1",
        "Run first",
        "Run acme/js@v1",
        "Run acme/outer@v1",
    ];
    assert_eq!(got[..5], want);
    assert_eq!(got[5..], ["Post Run acme/js@v1", "Post Run acme/js@v1"]);
    let at = |line: &str| {
        let found = done.stdout.find(&format!("Z {line}\n"));
        found.unwrap_or_else(|| panic!("no `{line}` in:\n{}", done.stdout))
    };
    assert!(at("pre: you acme/js there") < at("pre: nested acme/js there"));
    assert!(at("pre: nested acme/js there") < at("the first step"));
    assert!(at("the first step") < at("main: you main blank cwd=true"));
    assert_eq!(done.stdout.matches("Z early: from pre\n").count(), 2, "{}", done.stdout);
    assert_eq!(done.stdout.matches("Z post, early: from pre\n").count(), 2, "{}", done.stdout);
    // The steps of the composite action that have no `pre` are not run before.
    assert_eq!(done.stdout.matches("Z inside\n").count(), 1, "{}", done.stdout);
}

#[tokio::test]
async fn a_pre_has_a_condition_and_may_fail() {
    if !is_there() {
        return;
    }
    let done = with_pre("runner.os == 'Windows'", "you").await;
    done.assert_conclusion("succeeded");
    assert!(!done.stdout.contains("Z pre: "), "{}", done.stdout);
    assert_eq!(names(&done)[0], ("Pre Run acme/js@v1".to_owned(), "skipped".to_owned()));
    assert_eq!(done.stdout.matches("Z early: undefined\n").count(), 2, "{}", done.stdout);

    let done = with_pre("always()", "fail-early").await;
    done.assert_conclusion("failed");
    let ends: Vec<String> = names(&done).into_iter().map(|(_, end)| end).collect();
    let want = ["failed", "succeeded", "skipped", "skipped", "skipped"];
    assert_eq!(ends[..5], want, "{}", done.stdout);
    // What has begun is cleaned up: both have run their `pre`.
    assert_eq!(ends[5..], ["succeeded", "succeeded"]);
    assert_eq!(done.stdout.matches("Z post, early: from pre\n").count(), 2, "{}", done.stdout);
}

#[tokio::test]
async fn an_action_that_is_not_there_is_said_before_the_first_step() {
    let fixture = Fixture::new().await;
    let steps = [run("first", "echo ran"), remote("none", "acme/none", "", &[])];
    let job = with_launch(&fixture, Job::new(steps));
    let done = fixture.run(job).await;
    done.assert_conclusion("failed");
    let line = "##[error]Unable to resolve action `acme/none@v1`: not here";
    assert!(done.stdout.contains(line), "{}", done.stdout);
    assert!(!done.stdout.contains("Z ran\n"));
}
