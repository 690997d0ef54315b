//! A hub that is reached by TLS alone, with the certificate of a private authority, and through a proxy
//! alone: by its name nobody but the proxy can find it.

use std::sync::Arc;

use peers::{Front, Proxy, WALLED};
use secrecy::ExposeSecret as _;
use sekisho_github::http::ClientOptions;
use sekisho_github::rest::{Address, Clock, Credential, GithubClient};
use sekisho_github::scale_set::wanted::Wanted;
use sekisho_github::scale_set::{Event, Listener, ListenerOptions, Tenant, TenantOptions};
use serde_json::json;
use url::Url;

use crate::fixture::{Fixture, Job, blob, run};
use crate::hub::{ADMIN, World};
use crate::process;

/// A hub with a job, and the only way to it.
async fn behind_the_wall(script: &str) -> Option<(World, Front, Proxy)> {
    let world = World::known_as(Some(&format!("https://{WALLED}")), script, Vec::new()).await?;
    let front = Front::to(world.address).await.unwrap();
    let proxy = Proxy::to(front.address).await.unwrap();
    Some((world, front, proxy))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_works_through_a_proxy_with_a_private_authority() {
    let script = "echo over the wall; echo '# fine' >> $GITHUB_STEP_SUMMARY";
    let Some((world, front, proxy)) = behind_the_wall(script).await else { return };
    let file = world.fixture.root.path().join("authority.pem");
    std::fs::write(&file, &front.authority).unwrap();
    let output = process::runner(&world.fixture, &world.jit)
        .env("HTTPS_PROXY", proxy.url())
        .env("SSL_CERT_FILE", &file)
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let job = world.job().await;
    assert_eq!(job["conclusion"], json!("success"), "{job}");
    // These come by the live feed: a websocket.
    let events = world.events().await;
    let live = events.lines().filter(|line| line.contains("\"log\"")).collect::<Vec<_>>();
    assert!(live.iter().any(|line| line.contains("over the wall")), "{events}");
    proxy.assert_asked_for_the_walled_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_nobody_named_is_not_trusted() {
    let Some((world, _front, proxy)) = behind_the_wall("echo no").await else { return };
    let output = process::runner(&world.fixture, &world.jit)
        .env("HTTPS_PROXY", proxy.url())
        .output()
        .await
        .unwrap();
    // Not reachable: it may be put right meanwhile.
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("left: 2"), "{stderr}");
    assert_eq!(world.job().await["conclusion"], json!(null));
    proxy.assert_asked_for_the_walled_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_and_scale_sets_work_through_a_proxy_with_a_private_authority() {
    let Some((_world, front, proxy)) = behind_the_wall("echo no").await else { return };
    let client = |options: &ClientOptions| {
        let address = Address::parse(&format!("https://{WALLED}/acme"), true).unwrap();
        let token = Credential::Token(ADMIN.to_owned().into());
        GithubClient::new(address, token, options, Clock::default()).unwrap()
    };
    let mut options = ClientOptions {
        proxy: Some(proxy.url().into()),
        certificates: Some(front.authority.clone()),
        ..ClientOptions::default()
    };
    let github = client(&options);
    let token = github.registration_token().await.unwrap();
    assert!(!token.token.expose().is_empty());
    let tenant = TenantOptions { http: options.clone(), ..TenantOptions::default() };
    let tenant = Arc::new(Tenant::new(Arc::new(github), tenant).unwrap());
    let wanted =
        Wanted { name: "far".to_owned(), group: 1, labels: Vec::new(), disable_update: true };
    let set = tenant.ensure_set(&wanted, None).await.unwrap().set.id;
    let listening = ListenerOptions { owner: "far".to_owned(), previous: None };
    let mut listener = Listener::new(tenant, set, listening);
    let event = listener.next(1).await.unwrap();
    assert!(matches!(event, Event::Opened { .. }), "{event:?}");
    listener.close().await.unwrap();
    proxy.assert_asked_for_the_walled_alone();
    // Without the authority there is no answer, and no status either.
    options.certificates = None;
    let error = client(&options).registration_token().await.unwrap_err();
    assert!(error.is_transient() && error.status().is_none(), "{error:?}");
}

/// A runner's process whose services are at an address that is this machine's, but does not look so.
async fn with_no_proxy(hosts: &str) -> (Fixture, Proxy, std::process::Output) {
    let fixture = Fixture::new().await;
    fixture.set_job(&Job::new([run("hello", "echo hello")]));
    let proxy = Proxy::to("127.0.0.1:1".parse().unwrap()).await.unwrap();
    let jit = blob(&fixture.server.url.replace("127.0.0.1", "0.0.0.0"));
    let output = process::runner(&fixture, jit.expose_secret())
        .env("http_proxy", proxy.url())
        .env("NO_PROXY", hosts)
        .output()
        .await
        .unwrap();
    (fixture, proxy, output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_reaches_the_hosts_of_no_proxy_without_it() {
    let (fixture, proxy, output) = with_no_proxy("example.test, 0.0.0.0").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let complete = fixture.server.told.lock().unwrap().complete.clone();
    assert_eq!(complete.unwrap()["conclusion"], json!("succeeded"));
    assert_eq!(proxy.asked().as_slice(), [] as [&str; 0]);
    let (fixture, proxy, output) = with_no_proxy("example.test").await;
    assert!(!output.status.success());
    assert_eq!(fixture.server.told.lock().unwrap().complete, None);
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|line| line.starts_with("POST http://0.0.0.0:")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_the_hosts_of_no_proxy_without_it() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::to("127.0.0.1:1".parse().unwrap()).await.unwrap();
    let port = Url::parse(&fixture.server.url).unwrap().port().unwrap();
    let status = async |host: &str, no_proxy: &str| {
        let options = ClientOptions {
            proxy: Some(proxy.url().into()),
            no_proxy: Some(no_proxy.to_owned()),
            ..ClientOptions::default()
        };
        // Another host beside it: one of this machine alone would need no proxy.
        let github = Url::parse("https://github.example").unwrap();
        let url = Url::parse(&format!("http://{host}:{port}/nothing")).unwrap();
        let client = options.client(&[&github, &url]).unwrap();
        client.get(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("0.0.0.0", "0.0.0.0,example.test").await, 404);
    assert_eq!(status("0.0.0.0", "0.0.0.0/8").await, 404);
    assert_eq!(status("127.0.0.1", "").await, 404);
    assert_eq!(proxy.asked().as_slice(), [] as [&str; 0]);
    assert_eq!(status("0.0.0.0", "example.test").await, 502);
    let asked = [format!("GET http://0.0.0.0:{port}/nothing HTTP/1.1")];
    assert_eq!(proxy.asked().as_slice(), asked);
}
