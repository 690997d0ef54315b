use sekisho_github::wire::scale_set::{Label, ScaleSetRequest};

use super::super::scale_sets::Definition;
use super::super::tests::World;
use super::super::{JobError, Message};
use super::*;

const ACME: &str = "orgs/acme";
/// Where the world's runners are.
const HERE: &str = "repos/acme/app";

const ONE: &str = "on: push\njobs:\n  a: { runs-on: x, steps: [{ run: a }] }\n";

fn change(name: &str) -> RunnerGroupChange {
    RunnerGroupChange { name: Some(name.to_owned()), ..Default::default() }
}

/// A world with a job that waits, and a group that `change` makes.
fn world(workflow: &str, change: RunnerGroupChange) -> (World, u64) {
    let mut world = World::new(workflow);
    let group = world.state.create_group(&ACME.into(), change).unwrap().id;
    (world, group)
}

fn in_group(world: &mut World, name: &str, group: u64) -> (u64, uuid::Uuid) {
    let runner = world.runner(name, &["x"]);
    assert!(world.state.move_runner(&HERE.into(), runner.0, group, world.now));
    runner
}

fn is_offered(world: &mut World, runner: (u64, uuid::Uuid)) -> bool {
    world.message(runner).is_some()
}

#[test]
fn a_runner_has_no_job_of_a_repository_that_its_group_does_not_allow() {
    let selected = RunnerGroupChange { visibility: Some("selected".to_owned()), ..change("gpu") };
    let (mut world, group) =
        world("on: push\njobs: { a: { runs-on: y, steps: [{ run: a }] } }\n", selected);
    let runner = in_group(&mut world, "r1", group);
    world.start(ONE);
    assert!(!is_offered(&mut world, runner));
    // `acme/app` is the only repository; its owner has the first id.
    let (state, now, acme) = (&mut world.state, world.now, Owner::from(ACME));
    let unknown = state.change_group_repository((&acme, group), 9, true, now);
    assert_eq!(unknown, Err(GroupError::NotFound));
    state.change_group_repository((&acme, group), 2, true, now).unwrap();
    let at = world.acquire(runner);
    let view = world.state.job(at).unwrap().3;
    let shown = (view.runner_group_id, view.runner_group_name.as_deref());
    assert_eq!(shown, (Some(group), Some("gpu")));
}

#[test]
fn a_group_may_be_for_some_workflows_alone() {
    let check = |selected: &str, want: bool| {
        let restricted = RunnerGroupChange {
            restricted_to_workflows: Some(true),
            selected_workflows: Some(vec![
                "other/x/.github/workflows/a.yml@main".into(),
                selected.into(),
            ]),
            ..change("g")
        };
        let (mut world, group) =
            world("on: push\njobs: { a: { runs-on: y, steps: [{ run: a }] } }\n", restricted);
        let runner = in_group(&mut world, "r1", group);
        world.start(ONE);
        assert_eq!(is_offered(&mut world, runner), want, "{selected}");
    };
    check("acme/app/.github/workflows/a.yml@refs/heads/main", true);
    check("Acme/App/.github/workflows/a.yml@main", true);
    check(&format!("acme/app/.github/workflows/a.yml@{}", "0".repeat(40)), true);
    check("acme/app/.github/workflows/a.yml@v1", false);
    check("acme/app/.github/workflows/b.yml@main", false);
    check("acme/app/.github/workflows/a.yml", false);
}

#[test]
fn a_job_may_name_a_group() {
    let workflow = "on: push\njobs:\n  a: { runs-on: { group: Large }, steps: [{ run: a }] }\n";
    let (mut world, group) = world(workflow, change("large"));
    let other = world.runner("r1", &["x"]);
    assert!(!is_offered(&mut world, other));
    let runner = in_group(&mut world, "r2", group);
    assert!(is_offered(&mut world, runner));
}

fn set(name: &str, group: u64) -> Definition {
    Definition {
        name: name.to_owned(),
        scope: Owner::from(ACME),
        group,
        labels: vec![Label::new("x")],
        disable_update: false,
        created_on: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn a_set_has_no_job_that_its_group_does_not_allow() {
    let selected = RunnerGroupChange { visibility: Some("selected".to_owned()), ..change("g") };
    let (mut world, group) = world(ONE, selected);
    let closed = world.state.create_set(set("closed", group)).unwrap();
    let assigned = |world: &World, set| world.state.scale_sets.of_job(100_000) == Some(set);
    assert!(!assigned(&world, closed));
    let open = world.state.create_set(set("open", 1)).unwrap();
    assert!(assigned(&world, open));
    // What nobody was told of goes where it may when that changes.
    let (owner, now) = (Owner::from(ACME), world.now);
    world.state.change_group_repository((&owner, group), 2, true, now).unwrap();
    world.state.delete_set(&owner, open, now).unwrap();
    assert!(assigned(&world, closed));
    world.state.change_group_repository((&owner, group), 2, false, now).unwrap();
    assert!(!assigned(&world, closed));
    assert_eq!(world.state.shown_set(closed, "").unwrap().runner_group_name, "g");
}

#[test]
fn a_group_that_something_is_in_is_not_removed() {
    let (mut world, group) = world(ONE, change("g"));
    let runner = in_group(&mut world, "r1", group);
    let id = world.state.create_set(set("s", group)).unwrap();
    let acme = Owner::from(ACME);
    assert_eq!(world.state.delete_group(&acme, group), Err(GroupError::InUse));
    assert!(world.state.move_runner(&HERE.into(), runner.0, DEFAULT_GROUP, world.now));
    assert_eq!(world.state.delete_group(&acme, group), Err(GroupError::InUse));
    let moved = ScaleSetRequest { runner_group_id: Some(1), ..Default::default() };
    world.state.update_set(&Owner::from(ACME), id, moved).unwrap();
    world.state.delete_group(&acme, group).unwrap();
    assert_eq!(world.state.delete_group(&acme, group), Err(GroupError::NotFound));
    assert!(matches!(world.state.delete_group(&acme, DEFAULT_GROUP), Err(GroupError::Invalid(_))));
}

#[test]
fn groups_survive_the_disk() {
    let selected = RunnerGroupChange {
        visibility: Some("selected".to_owned()),
        selected_repository_ids: Some(vec![2]),
        ..change("g")
    };
    let (world, _) = world(ONE, selected);
    let json = serde_json::to_string(&world.state.groups).unwrap();
    assert_eq!(serde_json::from_str::<Groups>(&json).unwrap(), world.state.groups);
}

#[test]
fn a_group_is_of_one_place() {
    let (mut world, gpu) = world(ONE, change("gpu"));
    let (acme, other, big) =
        (Owner::from(ACME), Owner::from("orgs/other"), Owner::from("enterprises/big"));
    let repository = Owner::from(HERE);
    let all = world.state.create_group(&big, change("all")).unwrap().id;
    let theirs = world.state.create_group(&other, change("gpu")).unwrap().id;
    let taken = world.state.create_group(&acme, change("ALL"));
    assert_eq!(taken, Err(GroupError::NameTaken), "an inherited one has the name");
    let seen = |state: &State, place: &Owner| -> Vec<(u64, bool)> {
        let seen = state.groups.seen_from(place);
        seen.map(|group| (group.id, group.is_inherited(place))).collect()
    };
    let (state, now) = (&mut world.state, world.now);
    assert_eq!(seen(state, &acme), [(1, false), (gpu, false), (all, true)]);
    assert_eq!(seen(state, &repository), [(1, false), (gpu, false), (all, true)]);
    assert_eq!(seen(state, &other), [(1, false), (all, true), (theirs, false)]);
    // Nobody changes what is another's, and a repository nothing.
    let renamed = || change("x");
    for (place, id) in
        [(&acme, theirs), (&acme, all), (&other, gpu), (&repository, gpu), (&repository, 1)]
    {
        let refused = state.update_group((place, id), renamed(), now);
        assert_eq!(refused, Err(GroupError::NotFound), "{place:?} {id}");
        assert!(id == 1 || state.delete_group(place, id) == Err(GroupError::NotFound));
    }
    assert_eq!(state.create_group(&repository, renamed()), Err(GroupError::NotFound));
    // Nor is a repository selected for it that is not of its place.
    let selected = RunnerGroupChange {
        visibility: Some("selected".to_owned()),
        selected_repository_ids: Some(vec![2]),
        ..Default::default()
    };
    let refused = state.update_group((&other, theirs), selected.clone(), now);
    assert_eq!(refused, Err(invalid("selected_repository_ids has one that is not there")));
    state.update_group((&acme, gpu), selected, now).unwrap();
    // Runners go to groups that their place sees.
    let runner = world.runner("r1", &["x"]);
    assert!(!world.state.move_runner(&repository, runner.0, theirs, world.now));
    assert!(!world.state.move_runner(&acme, runner.0, gpu, world.now), "it is the repository's");
    assert!(world.state.move_runner(&repository, runner.0, all, world.now));
}

#[test]
fn the_default_group_of_one_place_is_not_anothers() {
    let (mut world, _) = world(ONE, change("g"));
    let (acme, other) = (Owner::from(ACME), Owner::from("orgs/other"));
    let closed = RunnerGroupChange {
        visibility: Some("selected".to_owned()),
        selected_repository_ids: Some(Vec::new()),
        ..Default::default()
    };
    let now = world.now;
    world.state.update_group((&other, DEFAULT_GROUP), closed.clone(), now).unwrap();
    assert_eq!(world.state.groups.get(&acme, DEFAULT_GROUP).unwrap().visibility, "all");
    world.state.update_group((&acme, DEFAULT_GROUP), closed, now).unwrap();
    let runner = world.runner("r1", &["x"]);
    assert!(!is_offered(&mut world, runner), "its repository's account has closed it");
    let written = serde_json::to_string(&world.state.groups).unwrap();
    assert_eq!(serde_json::from_str::<Groups>(&written).unwrap(), world.state.groups);
    let opened = RunnerGroupChange { visibility: Some("all".to_owned()), ..Default::default() };
    world.state.update_group((&acme, DEFAULT_GROUP), opened, now).unwrap();
    assert!(is_offered(&mut world, runner));
}

/// What an organization may do to a group, and whether it is shown as another's.
#[test]
fn a_group_of_before_without_a_place_is_the_hubs() {
    let (mut world, gpu) = world(ONE, change("gpu"));
    // As a hub wrote it down that knew no places.
    let mut old = serde_json::to_value(&world.state.groups).unwrap();
    let group = old["all"][gpu.to_string()].as_object_mut().unwrap();
    assert!(group.remove("place").is_some());
    world.state.groups = serde_json::from_value(old).unwrap();
    let (state, now) = (&mut world.state, world.now);
    for place in ["orgs/acme", "orgs/other", "repos/acme/app"] {
        let place = Owner::from(place);
        assert!(state.groups.get(&place, gpu).is_some_and(|group| group.is_inherited(&place)));
        assert_eq!(state.update_group((&place, gpu), change("x"), now), Err(GroupError::NotFound));
        assert_eq!(state.delete_group(&place, gpu), Err(GroupError::NotFound));
        let added = state.change_group_repository((&place, gpu), 2, true, now);
        assert_eq!(added, Err(GroupError::NotFound));
        // The default group is each one's own, as before.
        assert!(!state.groups.get(&place, DEFAULT_GROUP).unwrap().is_inherited(&place));
    }
    let big = Owner::from("enterprises/big");
    assert!(!state.groups.get(&big, gpu).unwrap().is_inherited(&big));
    assert_eq!(state.update_group((&big, gpu), change("x"), now).unwrap().name, "x");
    state.delete_group(&big, gpu).unwrap();
}

#[test]
fn lists_of_groups_have_bounds() {
    let (mut world, group) = world(ONE, change("g"));
    let acme = Owner::from(ACME);
    let with = |workflows: Vec<String>| RunnerGroupChange {
        selected_workflows: Some(workflows),
        ..Default::default()
    };
    let now = world.now;
    let refused = |state: &mut State, group: u64, change, field: &str, bound: &str| {
        let Err(GroupError::Invalid(why)) = state.update_group((&acme, group), change, now) else {
            panic!("{field}: it is not refused")
        };
        assert!(why.contains(field) && why.contains(bound), "{why}");
    };
    let state = &mut world.state;
    let many = with(vec!["a/b/c@d".to_owned(); MAX_WORKFLOWS + 1]);
    refused(state, group, many, "selected_workflows", "100");
    let long = with(vec!["x".repeat(MAX_WORKFLOW + 1)]);
    refused(state, group, long, "selected_workflows", "1024");
    let ids = RunnerGroupChange {
        selected_repository_ids: Some(vec![2; MAX_REPOSITORIES + 1]),
        ..Default::default()
    };
    refused(state, group, ids, "selected_repository_ids", "10000");
    refused(state, group, change(&"n".repeat(MAX_NAME + 1)), "name", "100");
    // Each is as long as it may be, and all together are too long.
    let full = || with(vec!["x".repeat(MAX_WORKFLOW); MAX_WORKFLOWS]);
    let each = MAX_WORKFLOWS * (MAX_WORKFLOW + 3);
    for n in 0..MAX_LISTS / each {
        let group = state.create_group(&acme, change(&format!("g{n}"))).unwrap().id;
        state.update_group((&acme, group), full(), now).unwrap();
    }
    refused(state, group, full(), "selected_workflows", "4194304");
    refused(state, DEFAULT_GROUP, full(), "selected_workflows", "4194304");
    // What has no list is made all the same, and what has one is changed.
    let last = state.create_group(&acme, change("last")).unwrap().id;
    assert_eq!(last, group + (MAX_LISTS / each) as u64 + 1);
    state.update_group((&acme, group + 1), full(), now).unwrap();
    assert_eq!(state.update_group((&acme, group + 1), with(Vec::new()), now).map(drop), Ok(()));
    state.update_group((&acme, DEFAULT_GROUP), full(), now).unwrap();
}

#[test]
fn what_a_group_does_not_allow_any_more_is_not_taken() {
    let selected = |repositories: Vec<u64>| RunnerGroupChange {
        visibility: Some("selected".to_owned()),
        selected_repository_ids: Some(repositories),
        ..Default::default()
    };
    let (mut world, group) = world(
        "on: push\njobs: { a: { runs-on: y, steps: [{ run: a }] } }\n",
        RunnerGroupChange { name: Some("g".to_owned()), ..selected(vec![2]) },
    );
    let acme = Owner::from(ACME);
    let runner = in_group(&mut world, "r1", group);
    world.start(ONE);
    // It was told of the job when the group is closed: it does not get it, and another does.
    let Some(Message::Offer { request, .. }) = world.message(runner) else { panic!("no job") };
    let now = world.now;
    world.state.update_group((&acme, group), selected(Vec::new()), now).unwrap();
    assert_eq!(world.state.acquire(runner.0, request, now), Err(JobError::NotFound));
    assert!(!is_offered(&mut world, runner));
    let other = world.runner("r2", &["x"]);
    let at = world.acquire(other);
    assert_eq!(world.state.job(at).unwrap().3.runner_name.as_deref(), Some("r2"));
    // The same for one that is put into a group which may not have the job.
    world.start(ONE);
    let moved = world.runner("r3", &["x"]);
    let Some(Message::Offer { request, .. }) = world.message(moved) else { panic!("no job") };
    assert!(world.state.move_runner(&HERE.into(), moved.0, group, now));
    assert_eq!(world.state.acquire(moved.0, request, now), Err(JobError::NotFound));
    assert!(!is_offered(&mut world, runner));
    let next = world.runner("r4", &["x"]);
    assert_eq!(world.acquire(next).run, 3);
}
