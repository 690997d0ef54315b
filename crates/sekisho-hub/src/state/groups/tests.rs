use sekisho_github::wire::scale_set::{Label, ScaleSetRequest};

use super::super::scale_sets::{Definition, Owner};
use super::super::tests::World;
use super::*;

const ONE: &str = "on: push\njobs:\n  a: { runs-on: x, steps: [{ run: a }] }\n";

fn change(name: &str) -> RunnerGroupChange {
    RunnerGroupChange { name: Some(name.to_owned()), ..Default::default() }
}

/// A world with a job that waits, and a group that `change` makes.
fn world(workflow: &str, change: RunnerGroupChange) -> (World, u64) {
    let mut world = World::new(workflow);
    let group = world.state.create_group(change).unwrap().id;
    (world, group)
}

fn in_group(world: &mut World, name: &str, group: u64) -> (u64, uuid::Uuid) {
    let runner = world.runner(name, &["x"]);
    assert!(world.state.move_runner(runner.0, group, world.now));
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
    let (state, now) = (&mut world.state, world.now);
    assert_eq!(state.change_group_repository(group, 9, true, now), Err(GroupError::NotFound));
    state.change_group_repository(group, 2, true, now).unwrap();
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
        scope: Owner::from("orgs/acme"),
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
    let (owner, now) = (Owner::from("orgs/acme"), world.now);
    world.state.change_group_repository(group, 2, true, now).unwrap();
    world.state.delete_set(&owner, open, now).unwrap();
    assert!(assigned(&world, closed));
    world.state.change_group_repository(group, 2, false, now).unwrap();
    assert!(!assigned(&world, closed));
    assert_eq!(world.state.shown_set(closed, "").unwrap().runner_group_name, "g");
}

#[test]
fn a_group_that_something_is_in_is_not_removed() {
    let (mut world, group) = world(ONE, change("g"));
    let runner = in_group(&mut world, "r1", group);
    let id = world.state.create_set(set("s", group)).unwrap();
    assert_eq!(world.state.delete_group(group), Err(GroupError::InUse));
    assert!(world.state.move_runner(runner.0, DEFAULT_GROUP, world.now));
    assert_eq!(world.state.delete_group(group), Err(GroupError::InUse));
    let moved = ScaleSetRequest { runner_group_id: Some(1), ..Default::default() };
    world.state.update_set(&Owner::from("orgs/acme"), id, moved).unwrap();
    world.state.delete_group(group).unwrap();
    assert_eq!(world.state.delete_group(group), Err(GroupError::NotFound));
    assert!(matches!(world.state.delete_group(DEFAULT_GROUP), Err(GroupError::Invalid(_))));
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
