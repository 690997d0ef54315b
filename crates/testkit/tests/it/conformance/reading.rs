//! Reading, listing and watching.

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::Runner;
use serde_json::json;

use super::{check_refused, config_map, object, pod, refused, runner};

pub(super) async fn create_and_read(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let params = PostParams::default();
    let made = api.create(&params, &config_map("a", &json!({ "k": "1" }))).await.unwrap();
    assert_eq!(made.namespace(), Some(namespace.clone()));
    assert!(made.uid().is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(api.get("a").await.unwrap(), made);
    assert_eq!(api.get_opt("b").await.unwrap(), None);
    check_refused(api.get("b").await, 404, "NotFound");
    check_refused(api.create(&params, &config_map("a", &json!({}))).await, 409, "AlreadyExists");
    let missing: Api<ConfigMap> = Api::namespaced(client.clone(), "no-such-namespace");
    check_refused(missing.create(&params, &config_map("a", &json!({}))).await, 404, "NotFound");
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let secret = object(json!({ "metadata": { "name": "s" }, "stringData": { "t": "x" } }));
    let secret: Secret = secrets.create(&params, &secret).await.unwrap();
    assert_eq!(secret.data.unwrap()["t"].0, b"x");
    assert_eq!(secret.string_data, None);
    let patch = Patch::Merge(json!({ "stringData": { "t": "y" } }));
    let secret = secrets.patch("s", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(secret.data.unwrap()["t"].0, b"y");
}

pub(super) async fn names_and_versions(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let params = PostParams::default();
    let generated = object(json!({ "metadata": { "generateName": "x-" } }));
    let (one, two) = (api.create(&params, &generated).await, api.create(&params, &generated).await);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.name_any().starts_with("x-") && one.name_any() != two.name_any());
    assert_eq!(one.name_any().len(), 7);
    let version = |object: &ConfigMap| object.resource_version().unwrap().parse::<u64>().unwrap();
    assert!(version(&one) < version(&two));
    let mut stale = one.clone();
    stale.data = Some([("k".to_owned(), "1".to_owned())].into());
    let newer = api.replace(&one.name_any(), &params, &stale).await.unwrap();
    assert!(version(&newer) > version(&two));
    stale.data = Some([("k".to_owned(), "2".to_owned())].into());
    check_refused(api.replace(&one.name_any(), &params, &stale).await, 409, "Conflict");
    // What changes nothing makes no new version.
    let same = api.replace(&one.name_any(), &params, &newer).await.unwrap();
    assert_eq!(same.resource_version(), newer.resource_version());
    // One of ours cannot be replaced without its version.
    let runners: Api<Runner> = Api::namespaced(client, &namespace);
    let mut made = runners.create(&params, &runner("r")).await.unwrap();
    made.metadata.resource_version = None;
    check_refused(runners.replace("r", &params, &made).await, 422, "Invalid");
    made.metadata.resource_version = Some("1".to_owned());
    made.metadata.name = Some("q".to_owned());
    assert_eq!(refused(runners.create(&params, &made).await).0, 500);
}

pub(super) async fn lists_and_pages(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    for name in ["c", "a", "e", "b", "d"] {
        api.create(&PostParams::default(), &config_map(name, &json!({}))).await.unwrap();
    }
    // A real server has a ConfigMap of its own in every namespace, if its controllers run.
    let mut page = ListParams::default().limit(2);
    let mut found = Vec::new();
    for (size, rest) in [(2, Some(3)), (2, Some(1)), (1, None)] {
        let list = api.list(&page).await.unwrap();
        assert_eq!(list.items.len(), size);
        assert_eq!(list.metadata.remaining_item_count, rest);
        found.extend(list.items.iter().map(kube::ResourceExt::name_any));
        page.continue_token = list.metadata.continue_;
    }
    assert_eq!(found, ["a", "b", "c", "d", "e"]);
    assert!(page.continue_token.unwrap_or_default().is_empty());
}

pub(super) async fn selectors(client: Client, namespace: String) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    for (name, zone) in [("a", Some("one")), ("b", Some("two")), ("c", None)] {
        let mut pod = pod(name);
        pod.metadata.labels = zone.map(|zone| [("zone".to_owned(), zone.to_owned())].into());
        api.create(&PostParams::default(), &pod).await.unwrap();
    }
    for (labels, fields, want) in [
        ("zone=one", "", "a"),
        ("zone==one", "", "a"),
        ("zone!=one", "", "b c"),
        ("zone in (one, two)", "", "a b"),
        ("zone notin (one)", "", "b c"),
        ("zone", "", "a b"),
        ("!zone", "", "c"),
        ("zone,zone!=two", "", "a"),
        ("", "metadata.name=b", "b"),
        ("", "metadata.name!=b", "a c"),
        ("", "spec.nodeName=", "a b c"),
        ("", "status.phase=Pending,metadata.name!=a", "b c"),
    ] {
        let list = api.list(&ListParams::default().labels(labels).fields(fields)).await.unwrap();
        let names: Vec<String> = list.items.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names.join(" "), want, "{labels} {fields}");
    }
    let unknown = api.list(&ListParams::default().fields("spec.hostname=x")).await;
    check_refused(unknown, 400, "BadRequest");
}

/// The next events that tell of an object: kind and name.
async fn events(
    api: &Api<ConfigMap>,
    params: &WatchParams,
    from: &str,
    count: usize,
) -> Vec<String> {
    let mut stream = std::pin::pin!(api.watch(params, from).await.unwrap());
    let mut told = Vec::new();
    while told.len() < count {
        let (kind, object) = match stream.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(object) => ("added", object),
            WatchEvent::Modified(object) => ("modified", object),
            WatchEvent::Deleted(object) => ("deleted", object),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(error) => panic!("{error}"),
        };
        told.push(format!("{kind} {}", object.name_any()));
    }
    told
}

pub(super) async fn watch_from_a_version(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let params = PostParams::default();
    api.create(&params, &config_map("before", &json!({}))).await.unwrap();
    let from = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    api.create(&params, &config_map("a", &json!({}))).await.unwrap();
    let patch = Patch::Merge(json!({ "data": { "k": "v" } }));
    api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let all = events(&api, &WatchParams::default(), &from, 3).await;
    assert_eq!(all, ["added a", "modified a", "deleted a"]);
}

pub(super) async fn watch_with_a_selector(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let from = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    for name in ["a", "b"] {
        api.create(&PostParams::default(), &config_map(name, &json!({}))).await.unwrap();
    }
    for app in ["other", "b"] {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { "app": app } } }));
        api.patch("b", &PatchParams::default(), &patch).await.unwrap();
    }
    let params = WatchParams::default().labels("app=b");
    assert_eq!(events(&api, &params, &from, 3).await, ["added b", "deleted b", "added b"]);
}

pub(super) async fn metadata_alone(client: Client, namespace: String) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let secret: Secret = object(
        json!({ "metadata": { "name": "s", "labels": { "a": "b" } }, "stringData": { "t": "x" } }),
    );
    api.create(&PostParams::default(), &secret).await.unwrap();
    let list = api.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(list.items[0].labels()["a"], "b");
    assert_eq!(api.get_metadata("s").await.unwrap().name_any(), "s");
}
