//! The runner with a registration that somebody made with a token, and not just in time.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::traits::PublicKeyParts as _;

use super::*;

async fn with_token(world: &World, method: Method, path: &str, token: &str, body: &Value) -> Value {
    let request = world.client.request(method, format!("{}{path}", world.url));
    let request = request.header("authorization", format!("RemoteAuth {token}")).json(body);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    json!({"status": status, "body": answer.json::<Value>().await.unwrap_or_default()})
}

async fn token(world: &World, kind: &str) -> String {
    let made = world.call(Method::POST, &format!("{RUNNERS}/{kind}"), &json!({})).await;
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_with_a_token_is_for_many_jobs_until_it_is_removed() {
    let Some(mut world) = World::new("echo first", Vec::new()).await else { return };
    let mut config = JitConfig::decode(&world.jit.clone().into()).unwrap();
    let key = config.private_key().unwrap();
    let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
    let (n, e) = (BASE64_STANDARD.encode(n), BASE64_STANDARD.encode(e));
    let body = json!({
        "url": format!("{}/acme/app", world.url), "group_id": 1, "name": "lasting",
        "version": "2.336.0", "ephemeral": false, "labels": [{"name": "default"}],
        "public_key":
            format!("<RSAKeyValue><Modulus>{n}</Modulus><Exponent>{e}</Exponent></RSAKeyValue>"),
    });
    let register = token(&world, "registration-token").await;
    let path = "/api/v3/actions/runners/register";
    let made = with_token(&world, Method::POST, path, &register, &body).await;
    assert_eq!(made["status"], json!(201), "{made}");
    let of = |name: &str| made["body"]["authorization"][name].as_str().unwrap().to_owned();
    config.credentials.data.client_id = of("client_id");
    config.credentials.data.authorization_url = of("authorization_url");
    config.runner.server_url_v2 = of("server_url");
    config.runner.ephemeral = false;
    world.jit = config.encode().expose_secret().to_owned();

    for script in ["echo first", "echo second"] {
        if script != "echo first" {
            world.run = world.push(&WORKFLOW.replace("SCRIPT", script)).await;
        }
        assert_eq!(world.runner().await.unwrap(), SUCCEEDED);
        let job = world.job().await;
        assert_eq!(
            (&job["runner_name"], &job["conclusion"]),
            (&json!("lasting"), &json!("success"))
        );
    }

    let remove = token(&world, "remove-token").await;
    let path = format!("{RUNNERS}/{}", made["body"]["id"]);
    let gone = with_token(&world, Method::DELETE, &path, &remove, &Value::Null).await;
    assert_eq!(gone["status"], json!(204));
    assert_eq!(world.runner().await.unwrap(), RunnerOutcome::Refused);
}
