//! `actions/checkout` against a real git server.

use serde_json::json;

use crate::fixture::{Finished, Fixture, Job, checkout, run, run_if};
use crate::git;

struct World {
    fixture: Fixture,
    first: String,
    second: String,
}

async fn world() -> Option<World> {
    if !git::is_there() {
        return None;
    }
    let fixture = Fixture::new().await;
    let (repositories, first, second) = git::repository(fixture.root.path());
    *fixture.server.repositories.lock().unwrap() = Some(repositories);
    Some(World { fixture, first, second })
}

impl World {
    async fn run(self, sha: &str, job: Job) -> Finished {
        let url = format!("{}/git", self.fixture.server.url);
        self.fixture.run(job.github("sha", sha).github("server_url", &url)).await
    }
}

#[tokio::test]
async fn the_exact_commit_is_fetched_with_the_token_in_a_header() {
    let Some(world) = world().await else { return };
    let first = world.first.clone();
    let done = world
        .run(
            &first,
            Job::new([
                checkout("checkout", &[]),
                run(
                    "look",
                    "cat file.txt; git rev-parse HEAD; git branch --show-current
                git config --show-origin --get-all include.path
                git fetch --depth=1 origin v1 && echo fetched again
                cat .git/config",
                ),
            ]),
        )
        .await;
    done.assert_conclusion("succeeded");
    done.assert_logged("look", "one");
    done.assert_logged("look", &first);
    done.assert_logged("look", "main");
    done.assert_logged("look", "fetched again");
    let headers = &done.told.git_headers;
    assert!(!headers.is_empty());
    // base64 of `x-access-token:ghs_the-token-of-the-job`.
    let want = "basic eC1hY2Nlc3MtdG9rZW46Z2hzX3RoZS10b2tlbi1vZi10aGUtam9i";
    assert!(headers.iter().all(|header| header == want), "{headers:?}");
    assert!(!done.stdout.contains("eC1hY2Nlc3M"));
    let conclusions: Vec<String> = done.conclusions().into_iter().map(|(n, _)| n).collect();
    assert_eq!(conclusions[0], "Run actions/checkout@v4");
    assert_eq!(conclusions[2], "Post Run actions/checkout@v4");
    let config = done.root.path().join("root/_work/app/app/.git/config");
    let config = std::fs::read_to_string(config).unwrap();
    assert!(!config.contains("credentials"), "{config}");
}

#[tokio::test]
async fn without_persisted_credentials_there_is_nothing_to_clean() {
    let Some(world) = world().await else { return };
    let second = world.second.clone();
    let done = world
        .run(
            &second,
            Job::new([
                checkout(
                    "checkout",
                    &[
                        ("persist-credentials", json!("false")),
                        ("path", json!("src")),
                        ("fetch-depth", json!("0")),
                        ("surprise", json!("x")),
                    ],
                ),
                run(
                    "look",
                    "cd src; cat file.txt; git log --oneline | wc -l; git tag
                git config --get-all include.path || echo none",
                ),
            ]),
        )
        .await;
    done.assert_conclusion("succeeded");
    for line in ["two", "2", "v1", "none"] {
        done.assert_logged("look", line);
    }
    assert_eq!(done.conclusions().len(), 2);
    assert!(done.stdout.contains("##[warning]Unexpected input 'surprise' of actions/checkout."));
}

#[tokio::test]
async fn refs_are_found_by_name_and_again_in_the_same_folder() {
    let Some(world) = world().await else { return };
    let (first, second) = (world.first.clone(), world.second.clone());
    let done = world
        .run(
            &second,
            Job::new([
                checkout("tag", &[("ref", json!("v1"))]),
                run("at-tag", "git rev-parse HEAD; touch untracked"),
                checkout("branch", &[("ref", json!("main"))]),
                run("at-branch", "git rev-parse HEAD; ls; test ! -e untracked"),
            ]),
        )
        .await;
    done.assert_conclusion("succeeded");
    done.assert_logged("at-tag", &first);
    done.assert_logged("at-branch", &second);
}

#[tokio::test]
async fn what_cannot_be_fetched_fails_with_what_git_said() {
    let Some(world) = world().await else { return };
    let second = world.second.clone();
    let done = world
        .run(
            &second,
            Job::new([
                checkout("lfs", &[("lfs", json!("true"))]),
                crate::fixture::with(
                    checkout("gone", &[("ref", json!("nope"))]),
                    json!({"condition": "always()"}),
                ),
                run_if("other", "failure()", "echo other"),
            ]),
        )
        .await;
    done.assert_conclusion("failed");
    assert!(done.stdout.contains("Input `lfs` of actions/checkout is not supported"));
    assert!(
        done.stdout.contains("A branch or tag with the name 'nope' could not be found"),
        "{}",
        done.stdout
    );
}
