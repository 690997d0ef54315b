//! A GitHub that is reached through a proxy alone, and whose certificate a private authority signed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams};
use peers::{Front, PROXY_CREDENTIALS, Proxy, WALLED};
use sekisho_api::{GitHubConnection, Reason};
use serde_json::{Value, json};

use crate::refusals::{connection_says, is_waited_for};
use crate::world::{Server, World, until};

scenarios![github_is_reached_through_a_proxy_with_a_private_authority];

async fn change(world: &World, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let api = world.api::<GitHubConnection>();
    api.patch("acme", &PatchParams::default(), &patch).await.unwrap();
}

async fn says(world: &World, reason: Reason) -> String {
    until(reason.name(), || connection_says(world, reason)).await
}

async fn github_is_reached_through_a_proxy_with_a_private_authority(server: Server) {
    let world = World::new(&server, |config| {
        config.base_url = format!("https://{WALLED}");
    })
    .await;
    let hub = world.url.strip_prefix("http://").unwrap().parse().unwrap();
    let front = Front::to(hub).await.unwrap();
    let proxy = Proxy::to(front.address).await.unwrap();
    world.secret().await;
    let token = json!({ "name": "github", "key": "token" });
    let credentials = json!({ "name": "proxy", "key": "credentials" });
    let url = format!("http://{}", proxy.address);
    world
        .create::<GitHubConnection>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "GitHubConnection",
            "metadata": { "name": "acme" },
            "spec": {
                "url": format!("https://{WALLED}/acme"), "auth": { "token": { "secretRef": token } },
                "proxy": { "url": url, "credentialsSecretRef": credentials }
            }
        }))
        .await;
    world.deployment(json!({ "scaling": { "min": 0, "max": 2 } })).await;
    let operator = world.operator("one").await;
    let message = says(&world, Reason::SecretNotFound).await;
    assert!(message.starts_with("there is no key `credentials` in secret `proxy`; "), "{message}");
    let secret = json!({
        "metadata": { "name": "proxy" }, "stringData": { "credentials": PROXY_CREDENTIALS }
    });
    world.create::<Secret>(secret).await;
    let message = says(&world, Reason::GitHubUnreachable).await;
    assert!(message.contains("certificate"), "{message}");
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    change(&world, json!({ "caBundle": broken })).await;
    let message = says(&world, Reason::ConnectionInvalid).await;
    is_waited_for(&operator, Reason::ConnectionInvalid, &message).await;
    change(&world, json!({ "caBundle": front.authority })).await;
    says(&world, Reason::Connected).await;
    world.says("AllRunnersReady").await;
    proxy.assert_asked_for_the_walled_alone();
    // Each trouble has its event, and so has its end.
    let told = || async {
        let all = world.list::<Event>().await;
        let reasons: BTreeSet<String> = all.into_iter().filter_map(|it| it.reason).collect();
        let wanted = ["SecretNotFound", "GitHubUnreachable", "ConnectionInvalid", "Connected"];
        wanted.iter().all(|reason| reasons.contains(*reason)).then_some(())
    };
    until("an event of each", told).await;
    operator.shutdown().await;
}
