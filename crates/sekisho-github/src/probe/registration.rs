//! Registration: tokens, JIT configurations, and a runner's way from one to the other end.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Assumption, Miss, Probe, expect, json as body, jwt, status};
use crate::rest::Scope;
use crate::wire::scale_set::{RegisterRequest, RunnerEvent};

pub(super) const ASSUMPTIONS: &[Assumption] = &[
    Assumption {
        id: "registration.token",
        what: "a registration token is made with exactly 201 and lives about an hour",
        source: "1.4",
        changes: false,
        check: |probe| Box::pin(token(probe, "registration-token")),
    },
    Assumption {
        id: "registration.remove-token",
        what: "so is a removal token",
        source: "1.4",
        changes: false,
        check: |probe| Box::pin(token(probe, "remove-token")),
    },
    Assumption {
        id: "registration.not-a-bearer",
        what: "a registration token is no API token: 401",
        source: "1.4",
        changes: false,
        check: |probe| Box::pin(not_a_bearer(probe)),
    },
    Assumption {
        id: "registration.tenant",
        what: "it is changed for a tenant's URL and a JWT with alg and exp",
        source: "1.10",
        changes: false,
        check: |probe| Box::pin(tenant(probe)),
    },
    Assumption {
        id: "registration.tenant-refused",
        what: "a registration token that is none is answered 401",
        source: "1.10",
        changes: false,
        check: |probe| Box::pin(tenant_refused(probe)),
    },
    Assumption {
        id: "groups.default",
        what: "an organization has a runner group that is the default one",
        source: "1.6",
        changes: false,
        check: |probe| Box::pin(default_group(probe)),
    },
    Assumption {
        id: "jit.group-is-needed",
        what: "a JIT configuration without runner_group_id is answered 422",
        source: "1.5",
        changes: false,
        check: |probe| Box::pin(group_is_needed(probe)),
    },
    Assumption {
        id: "jit.made",
        what: "a JIT runner is made with 201, offline, ephemeral, its labels in lower case and no more",
        source: "1.5",
        changes: true,
        check: |probe| Box::pin(made(probe)),
    },
    Assumption {
        id: "jit.blob",
        what: "the configuration is three files, the values of .runner are texts",
        source: "1.5.1",
        changes: true,
        check: |probe| Box::pin(blob(probe)),
    },
    Assumption {
        id: "jit.conflict",
        what: "a name that is taken is answered 409",
        source: "1.5",
        changes: true,
        check: |probe| Box::pin(conflict(probe)),
    },
    Assumption {
        id: "runners.by-name",
        what: "?name= finds exactly the runner of that name",
        source: "1.6",
        changes: true,
        check: |probe| Box::pin(by_name(probe)),
    },
    Assumption {
        id: "runners.gone",
        what: "a runner is removed with 204, and then with 404",
        source: "1.6",
        changes: true,
        check: |probe| Box::pin(gone(probe)),
    },
];

async fn new_token(probe: &Probe, kind: &str) -> Result<Value, Miss> {
    let path = probe.scoped(&format!("actions/runners/{kind}"));
    let answer = probe.authorized(Method::POST, &path).await?;
    status(&answer, 201)?;
    body(&answer)
}

async fn token(probe: &Probe, kind: &str) -> Result<(), Miss> {
    let made = new_token(probe, kind).await?;
    let text = made["token"].as_str().is_some_and(|token| !token.is_empty());
    expect(text, || "there is no token".to_owned())?;
    let until = made["expires_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let until = until.ok_or_else(|| Miss::Broken("expires_at is no time".into()))?;
    let left = until.duration_since(probe.now()).as_mins();
    expect((50..=70).contains(&left), || format!("it lives {left} minutes"))
}

async fn not_a_bearer(probe: &Probe) -> Result<(), Miss> {
    let made = new_token(probe, "registration-token").await?;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap_or_default());
    let path = probe.scoped("actions/runners");
    status(&probe.ask(Method::GET, &path, Some(&bearer), |r| r).await?, 401)
}

async fn register(probe: &Probe, token: &str) -> Result<crate::http::Answer, Miss> {
    let url = probe.address().place();
    let wanted = RegisterRequest { url, runner_event: RunnerEvent::Register };
    let authorization = format!("RemoteAuth {token}");
    let path = "actions/runner-registration";
    probe.ask(Method::POST, path, Some(&authorization), |request| request.json(&wanted)).await
}

async fn tenant(probe: &Probe) -> Result<(), Miss> {
    let made = new_token(probe, "registration-token").await?;
    let answer = register(probe, made["token"].as_str().unwrap_or_default()).await?;
    let good = (200..300).contains(&answer.status);
    expect(good, || format!("status {}", answer.status))?;
    let tenant = body(&answer)?;
    expect(tenant["url"].as_str().is_some_and(|url| url.starts_with("http")), || {
        format!("the tenant's url is {}", tenant["url"])
    })?;
    let (header, claims) = jwt(tenant["token"].as_str().unwrap_or_default())?;
    expect(header["alg"].is_string() && claims["exp"].is_number(), || {
        "the tenant's token has no alg or no exp".to_owned()
    })
}

async fn tenant_refused(probe: &Probe) -> Result<(), Miss> {
    status(&register(probe, "nonsense").await?, 401)
}

async fn default_group(probe: &Probe) -> Result<(), Miss> {
    if matches!(probe.address().scope(), Scope::Repository(_)) {
        return Err(Miss::Skipped("a repository has no runner groups"));
    }
    let path = probe.scoped("actions/runner-groups");
    let answer = probe.authorized(Method::GET, &path).await?;
    status(&answer, 200)?;
    let groups = body(&answer)?;
    let all = groups["runner_groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let default = all.iter().filter(|group| group["default"] == true).count();
    expect(default == 1, || format!("{default} of {} groups are the default one", all.len()))
}

const JIT: &str = "actions/runners/generate-jitconfig";

fn wanted(name: &str) -> Value {
    json!({"name": name, "runner_group_id": 1, "labels": ["Sekisho-Probe"]})
}

async fn group_is_needed(probe: &Probe) -> Result<(), Miss> {
    let mut body = wanted("sekisho-probe");
    if let Some(fields) = body.as_object_mut() {
        fields.remove("runner_group_id");
    }
    status(&probe.post(&probe.scoped(JIT), &body).await?, 422)
}

/// A runner that was registered for a check.
struct Registered {
    name: String,
    id: u64,
    answer: Value,
}

/// Registers a runner, looks, and removes it whatever was seen.
async fn with_runner<F>(probe: &Probe, look: F) -> Result<(), Miss>
where
    F: AsyncFnOnce(&Registered) -> Result<(), Miss>,
{
    let name = format!("sekisho-probe-{}", Uuid::new_v4().simple());
    let answer = probe.post(&probe.scoped(JIT), &wanted(&name)).await?;
    status(&answer, 201)?;
    let answer = body(&answer)?;
    let id = answer["runner"]["id"].as_u64();
    let id = id.ok_or_else(|| Miss::Broken("the runner has no id".into()))?;
    let registered = Registered { name, id, answer };
    let seen = look(&registered).await;
    let removed = remove(probe, id).await;
    seen?;
    match removed? {
        204 | 404 => Ok(()),
        other => Err(Miss::Broken(format!("the runner is not removed: status {other}"))),
    }
}

async fn remove(probe: &Probe, id: u64) -> Result<u16, Miss> {
    let path = probe.scoped(&format!("actions/runners/{id}"));
    Ok(probe.authorized(Method::DELETE, &path).await?.status)
}

async fn made(probe: &Probe) -> Result<(), Miss> {
    with_runner(probe, async |registered| {
        let runner = &registered.answer["runner"];
        let labels: Vec<&str> = runner["labels"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|label| label["name"].as_str())
            .collect();
        expect(labels == ["sekisho-probe"], || format!("the labels are {labels:?}"))?;
        let state = (&runner["status"], &runner["busy"], &runner["ephemeral"]);
        let good = state == (&json!("offline"), &json!(false), &json!(true));
        expect(good, || format!("status, busy and ephemeral are {state:?}"))
    })
    .await
}

async fn blob(probe: &Probe) -> Result<(), Miss> {
    with_runner(probe, async |registered| {
        let text = registered.answer["encoded_jit_config"].as_str().unwrap_or_default();
        let damaged = || Miss::Broken("the configuration is no base64 of JSON".into());
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| damaged())?;
        let files: BTreeMap<String, String> =
            serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let three = [".credentials", ".credentials_rsaparams", ".runner"];
        expect(names == three, || format!("the files are {names:?}"))?;
        let runner = files.get(".runner").and_then(|text| BASE64_STANDARD.decode(text).ok());
        let runner = runner.and_then(|bytes| {
            // Some services write a byte order mark before the JSON.
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            serde_json::from_slice::<BTreeMap<String, Value>>(bytes).ok()
        });
        let runner = runner.ok_or_else(damaged)?;
        let other = runner.iter().find(|(_, value)| !value.is_string());
        expect(other.is_none(), || format!("{:?} of .runner is no text", other.map(|it| it.0)))?;
        let v2 = runner.get("UseV2Flow").and_then(Value::as_str);
        expect(v2.is_some_and(|text| text.eq_ignore_ascii_case("true")), || {
            format!("UseV2Flow is {v2:?}")
        })
    })
    .await
}

async fn conflict(probe: &Probe) -> Result<(), Miss> {
    with_runner(probe, async |registered| {
        status(&probe.post(&probe.scoped(JIT), &wanted(&registered.name)).await?, 409)
    })
    .await
}

async fn by_name(probe: &Probe) -> Result<(), Miss> {
    with_runner(probe, async |registered| {
        let path = probe.scoped(&format!("actions/runners?name={}", registered.name));
        let found = body(&probe.authorized(Method::GET, &path).await?)?;
        let one = found["total_count"] == 1 && found["runners"][0]["id"] == registered.id;
        expect(one, || format!("{} are found", found["total_count"]))?;
        let part = registered.name.get(..20).unwrap_or_default();
        let path = probe.scoped(&format!("actions/runners?name={part}"));
        let found = body(&probe.authorized(Method::GET, &path).await?)?;
        expect(found["total_count"] == 0, || "a part of the name finds it too".to_owned())
    })
    .await
}

async fn gone(probe: &Probe) -> Result<(), Miss> {
    with_runner(probe, async |registered| {
        let first = remove(probe, registered.id).await?;
        expect(first == 204, || format!("status {first}, not 204"))?;
        let second = remove(probe, registered.id).await?;
        expect(second == 404, || format!("status {second}, not 404, the second time"))
    })
    .await
}
