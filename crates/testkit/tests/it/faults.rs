//! What the double does wrong when it is told to.

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use testkit::{ApiServer, Fault, FaultKind, Verb};

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map
}

fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    let kube::Error::Api(status) = result.unwrap_err() else { panic!() };
    status.code
}

#[tokio::test]
async fn calls_are_struck_as_they_were_armed() {
    let server = ApiServer::new();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("me"));
    let params = PostParams::default();
    server.arm(Fault::once(FaultKind::Status(409), &[Verb::Create], "configmaps"));
    server.arm(Fault { skip: 1, ..Fault::once(FaultKind::AnswerLost, &[Verb::Create], "") });
    assert_eq!(code(api.create(&params, &map("a")).await), 409);
    api.create(&params, &map("a")).await.unwrap();
    assert_eq!(code(api.create(&params, &map("b")).await), 504);
    assert!(api.get_opt("b").await.unwrap().is_some(), "only the answer was lost");
    let client = String::from("somebody else");
    server.arm(Fault { client, ..Fault::once(FaultKind::Status(500), &[], "") });
    api.create(&params, &map("c")).await.unwrap();
    let calls = server.calls();
    let writes: Vec<(u16, &str)> = calls
        .iter()
        .filter(|call| call.is_write())
        .map(|call| (call.status, call.client.as_str()))
        .collect();
    assert_eq!(writes, [(409, "me"), (201, "me"), (504, "me"), (201, "me")]);
}

#[tokio::test]
async fn what_was_compacted_is_gone() {
    let server = ApiServer::new();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("me"));
    let params = PostParams::default();
    api.create(&params, &map("a")).await.unwrap();
    api.create(&params, &map("b")).await.unwrap();
    let page = api.list(&ListParams::default().limit(1)).await.unwrap().metadata;
    server.compact();
    let from = page.resource_version.unwrap();
    let mut watch = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    let WatchEvent::Error(told) = watch.try_next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(told.code, 410);
    let next = ListParams::default().limit(1).continue_token(&page.continue_.unwrap());
    assert_eq!(code(api.list(&next).await), 410);
}

#[tokio::test]
async fn who_watches_well_sees_all_the_same() {
    let server = ApiServer::new();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("me"));
    let mut events = watcher(api.clone(), watcher::Config::default()).boxed();
    let mut seen = std::collections::BTreeSet::new();
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &map(name)).await.unwrap();
        server.lose_watch_events();
        while !seen.contains(name) {
            if let Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) =
                events.next().await.unwrap()
            {
                seen.insert(map.name_any());
            }
        }
    }
}

#[tokio::test]
async fn a_quiet_watch_gets_bookmarks() {
    let server = ApiServer::new();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("me"));
    let list = api.list(&ListParams::default()).await.unwrap();
    let other: Api<k8s_openapi::api::core::v1::Secret> =
        Api::default_namespaced(server.client("me"));
    let mut secret = k8s_openapi::api::core::v1::Secret::default();
    secret.metadata.name = Some("s".to_owned());
    let made = other.create(&PostParams::default(), &secret).await.unwrap();
    let from = list.metadata.resource_version.unwrap();
    let mut watch = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    let WatchEvent::Bookmark(mark) = watch.try_next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(Some(mark.metadata.resource_version), made.resource_version());
}
