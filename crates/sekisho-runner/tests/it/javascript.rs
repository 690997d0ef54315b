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
fs.appendFileSync(env.GITHUB_OUTPUT, 'said=hello\n');
fs.appendFileSync(env.GITHUB_STATE, 'kept=from main\n');
console.log('::save-state name=old::also kept');
if (env['INPUT_WHO'] === 'fail') process.exit(3);
"#;

const POST: &str = r#"
const env = process.env;
console.log(`post: ${env.STATE_kept}, ${env.STATE_old}, ${env.INPUT_WHO}, later=${env.LATER}`);
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
