//! A disk that takes nothing for a while.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{ADMIN, World};

const GROUPS: &str = "/api/v3/orgs/acme/actions/runner-groups";

/// Status and words of the hub's health.
async fn health(world: &World) -> (u16, Value) {
    let asked = world.request(Method::GET, "/_hub/v1/health").bearer_auth(ADMIN);
    let answer = asked.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_said_and_is_written_when_it_can() {
    let world = World::new().await;
    assert_eq!(health(&world).await, (200, json!({"status": "ok"})));
    // Nothing can take this one's place.
    let file = world.dir.path().join("hub/runner-groups.json");
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let made = world.post(GROUPS, &json!({"name": "first"})).await;
    assert_eq!(made.status(), 503);
    let why: Value = made.json().await.unwrap();
    let said = why["message"].as_str().unwrap();
    assert!(said.contains("cannot write to its disk"), "{said}");
    let (status, why) = health(&world).await;
    assert_eq!((status, &why["code"]), (503, &json!("not_written")));
    // What is done meanwhile is done, and told to be as uncertain.
    assert_eq!(world.post(GROUPS, &json!({"name": "second"})).await.status(), 503);
    std::fs::remove_dir_all(&file).unwrap();
    let mut wait = 0;
    while health(&world).await.0 != 200 {
        wait += 1;
        assert!(wait < 1_000, "it is not tried again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(world.post(GROUPS, &json!({"name": "third"})).await.status(), 201);
    let world = World::on(world.kill()).await;
    let names = world.get(GROUPS).await["runner_groups"].clone();
    let names: Vec<&str> =
        names.as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Default", "first", "second", "third"]);
}
