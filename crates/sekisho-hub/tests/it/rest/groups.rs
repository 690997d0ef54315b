//! Runner groups: an organization's own, for some of its repositories, many of them, many at once.

use sekisho_github::jit::JitConfig;
use sekisho_github::rest::RunnerGroup;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_an_organization() {
    let world = world().await;
    let client = client(&world, "acme", app(CLIENT_ID, Some(5)));
    let named =
        |name: &str| RunnerGroupChange { name: Some(name.to_owned()), ..Default::default() };
    let made = client.create_runner_group(&named("big")).await.unwrap();
    assert_eq!((made.name.as_str(), made.is_default), ("big", false));
    assert_eq!(client.create_runner_group(&named("BIG")).await.unwrap_err().status(), Some(409));
    let names: Vec<String> =
        client.runner_groups().await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["Default", "big"]);
    let change = RunnerGroupChange { visibility: Some("private".into()), ..named("huge") };
    let changed = client.update_runner_group(made.id, &change).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.visibility.as_str()), ("huge", "private"));
    assert_eq!(client.runner_group(made.id).await.unwrap(), changed);
    // 2 is the hosted runners' group, which nobody has here.
    assert_eq!(client.generate_jit_config(&jit("r", 2)).await.unwrap_err().status(), Some(404));
    let in_group = client.generate_jit_config(&jit("r1", made.id)).await.unwrap().runner;
    let other = client.generate_jit_config(&jit("r2", 1)).await.unwrap().runner;
    client.add_group_runner(made.id, other.id).await.unwrap();
    let ids: Vec<u64> =
        client.group_runners(made.id).await.unwrap().iter().map(|runner| runner.id).collect();
    assert_eq!(ids, [in_group.id, other.id]);
    // Not while something is in it.
    assert_eq!(client.delete_runner_group(made.id).await.unwrap_err().status(), Some(409));
    assert!(client.remove_group_runner(made.id, in_group.id).await.unwrap());
    assert!(!client.remove_group_runner(made.id, in_group.id).await.unwrap());
    assert_eq!(client.runner(in_group.id).await.unwrap().runner_group_id, Some(1));
    assert!(client.delete_runner(other.id).await.unwrap());
    assert!(client.delete_runner_group(made.id).await.unwrap());
    assert!(!client.delete_runner_group(made.id).await.unwrap());
    assert_eq!(client.delete_runner_group(1).await.unwrap_err().status(), Some(422));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_for_selected_repositories() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    push(&world, &folder).await;
    let client = client(&world, "acme", app(CLIENT_ID, Some(5)));
    let id = world.get("/api/v3/repos/acme/app/actions/runs").await;
    let id = id["workflow_runs"][0]["repository"]["id"].clone();
    let group = RunnerGroupChange {
        name: Some("few".into()),
        visibility: Some("selected".into()),
        ..Default::default()
    };
    let group = client.create_runner_group(&group).await.unwrap().id;
    let path = format!("/api/v3/orgs/acme/actions/runner-groups/{group}/repositories");
    let put = async |path: String, body: serde_json::Value| {
        let put = world.request(Method::PUT, &path).bearer_auth(ADMIN).json(&body);
        put.send().await.unwrap().status().as_u16()
    };
    let listed = async || {
        let list = world.get(&path).await;
        let all = list["repositories"].as_array().unwrap().clone();
        assert_eq!(list["total_count"], all.len());
        all.into_iter().map(|one| one["full_name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [serde_json::Value::Null; 0]);
    assert_eq!(put(path.clone(), json!({"selected_repository_ids": [id]})).await, 204);
    assert_eq!(listed().await, ["acme/app"]);
    assert_eq!(put(path.clone(), json!({"selected_repository_ids": [999]})).await, 422);
    let one = format!("{path}/{id}");
    let gone = world.request(Method::DELETE, &one).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(listed().await, [serde_json::Value::Null; 0]);
    assert_eq!(put(one, json!({})).await, 204);
    assert_eq!(put(format!("{path}/999"), json!({})).await, 404);
    // Groups outlive the process, as the scale sets in them do.
    world.hub.shutdown().await;
    let world = World::on(world.kill()).await;
    assert_eq!(world.get(&path).await["repositories"][0]["full_name"], "acme/app");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_has_no_job_of_a_repository_that_may_not_use_its_group() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let first = push(&world, &folder).await;
    let client = client(&world, "acme", app(CLIENT_ID, Some(5)));
    client.force_cancel(&repository(), first).await.unwrap();
    let id = world.get("/api/v3/repos/acme/app/actions/runs").await;
    let id = id["workflow_runs"][0]["repository"]["id"].as_u64().unwrap();
    let few = RunnerGroupChange {
        name: Some("few".into()),
        visibility: Some("selected".into()),
        ..Default::default()
    };
    let few = client.create_runner_group(&few).await.unwrap().id;
    let listening = async |name: &str, group: u64| {
        let made = client.generate_jit_config(&jit(name, group)).await.unwrap();
        let config = JitConfig::decode(&made.encoded_jit_config.into()).unwrap();
        Runner::of(&world, made.runner.id, config).await
    };
    // It is free, has the labels, and was there first.
    let mut closed = listening("closed", few).await;
    let mut open = listening("open", 1).await;
    let second = push_again(&world, &folder).await;
    open.acquire(&world).await;
    assert_eq!(world.run(second).await["jobs"][0]["runner_name"], "open");
    open.complete(&world, "succeeded").await;
    let selected =
        RunnerGroupChange { selected_repository_ids: Some(vec![id]), ..Default::default() };
    client.update_runner_group(few, &selected).await.unwrap();
    let third = push_again(&world, &folder).await;
    closed.acquire(&world).await;
    let job = &world.run(third).await["jobs"][0];
    assert_eq!((&job["runner_name"], &job["runner_group_name"]), (&json!("closed"), &json!("few")));
}

async fn push_again(world: &World, folder: &Folder) -> u64 {
    folder.commit(&[]);
    push(world, folder).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_its_organizations_alone() {
    let world = world().await;
    let named =
        |name: &str| RunnerGroupChange { name: Some(name.to_owned()), ..Default::default() };
    let (ours, theirs) = (
        client(&world, "acme", app(CLIENT_ID, Some(5))),
        client(&world, "other", app(CLIENT_ID, Some(6))),
    );
    let group = ours.create_runner_group(&named("gpu")).await.unwrap().id;
    let names = async |client: &GithubClient| -> Vec<String> {
        client.runner_groups().await.unwrap().into_iter().map(|group| group.name).collect()
    };
    assert_eq!(names(&ours).await, ["Default", "gpu"]);
    assert_eq!(names(&theirs).await, ["Default"]);
    let status = |error: RestError| error.status();
    let missing = Err(Some(404));
    assert_eq!(theirs.runner_group(group).await.map(drop).map_err(status), missing);
    let renamed = theirs.update_runner_group(group, &named("mine")).await;
    assert_eq!(renamed.map(drop).map_err(status), missing);
    assert!(!theirs.delete_runner_group(group).await.unwrap());
    assert_eq!(theirs.group_runners(group).await.map(drop).map_err(status), missing);
    let made = theirs.generate_jit_config(&jit("r", group)).await;
    assert_eq!(made.map(drop).map_err(status), missing);
    // Nor does anybody move another's runners.
    let runner = ours.generate_jit_config(&jit("r", group)).await.unwrap().runner.id;
    assert_eq!(theirs.add_group_runner(1, runner).await.map_err(status), missing);
    assert!(!theirs.remove_group_runner(1, runner).await.unwrap());
    assert_eq!(ours.group_runners(group).await.unwrap().len(), 1);
    // A default group is each one's own.
    let closed = RunnerGroupChange { visibility: Some("selected".into()), ..Default::default() };
    theirs.update_runner_group(1, &closed).await.unwrap();
    let default = |groups: Vec<RunnerGroup>| groups.into_iter().find(|group| group.id == 1);
    let seen = default(theirs.runner_groups().await.unwrap()).unwrap().visibility;
    assert_eq!(seen, "selected");
    assert_eq!(default(ours.runner_groups().await.unwrap()).unwrap().visibility, "all");
    // Those of an enterprise are everybody's, to look at; a repository makes none.
    let path = |place: &str| format!("/api/v3/{place}/actions/runner-groups");
    let all = world.post(&path("enterprises/big"), &json!({"name": "all"})).await;
    assert_eq!(all.status(), 201);
    let seen = ours.runner_groups().await.unwrap();
    let inherited: Vec<(&str, bool)> =
        seen.iter().map(|group| (group.name.as_str(), group.inherited)).collect();
    assert_eq!(inherited, [("Default", false), ("gpu", false), ("all", true)]);
    let own = world.post(&path("repos/acme/app"), &json!({"name": "own"})).await;
    assert_eq!(own.status(), 404);
    // Scale sets are made in groups that their place has.
    let tenant = |place: &'static str| crate::credentials::tenant(&world, place);
    let (acme, other) = (tenant("orgs/acme").await, tenant("orgs/other").await);
    let make = async |token: &str, name: &str| {
        let sets = "/_tenant/_apis/runtime/runnerscalesets";
        let body = json!({"name": name, "runnerGroupId": group});
        let post = world.request(Method::POST, sets).bearer_auth(token).json(&body);
        post.send().await.unwrap().status().as_u16()
    };
    assert_eq!([make(&acme, "a").await, make(&other, "b").await], [200, 400]);
    let groups = "/_tenant/_apis/runtime/runnergroups/?groupName=gpu";
    for (token, count) in [(&acme, 1), (&other, 0)] {
        let found = world.request(Method::GET, groups).bearer_auth(token).send().await.unwrap();
        let found: Value = found.json().await.unwrap();
        assert_eq!(found["count"], json!(count));
    }
}

/// More than a page, and made at the same time: all are listed, and all are written down.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_pages_is_read_whole_and_costs_nothing_when_nothing_has_changed() {
    let limit = |config: &mut Config| config.rest_requests_per_hour = Some(1000);
    let world = World::with(tempfile::tempdir().unwrap(), limit).await;
    let path = "/api/v3/orgs/acme/actions/runner-groups";
    let mut all = tokio::task::JoinSet::new();
    for n in 0..204 {
        let body = json!({"name": format!("g{n}")});
        let request = world.request(Method::POST, path).bearer_auth(ADMIN).json(&body);
        all.spawn(async move { request.send().await.unwrap().status() });
    }
    assert!(all.join_all().await.iter().all(|status| *status == 201));
    let used = async || world.get("/api/v3/rate_limit").await["rate"]["used"].as_u64().unwrap();
    let reader = client(&world, "acme", admin());
    let before = used().await;
    let names = async |client: &GithubClient| -> std::collections::BTreeSet<String> {
        client.runner_groups().await.unwrap().into_iter().map(|group| group.name).collect()
    };
    let read = names(&reader).await;
    assert_eq!(read.len(), 205, "the default group too");
    assert_eq!(used().await, before + 3, "three pages");
    // All three are asked for again, and answered 304, the way to the next page included.
    assert_eq!(names(&reader).await, read);
    assert_eq!(used().await, before + 3);
    // Without a word to the process before: whoever was told that a group is made finds it.
    let world = World::on(world.kill()).await;
    assert_eq!(names(&client(&world, "acme", admin())).await, read);
}
