//! Lists, limits, runs, tokens of jobs, git.

use reqwest::Method;
use serde_json::Value;

use super::{Assumption, Miss, Probe, expect, header, json, status};
use crate::oidc::KeySet;
use crate::rest::budget::RateSeen;
use crate::rest::{Hosting, WorkflowJobs, WorkflowRuns};

pub(super) const ASSUMPTIONS: &[Assumption] = &[
    Assumption {
        id: "rest.list",
        what: "a list is {total_count, runners} and keeps to per_page",
        source: "1.6",
        changes: false,
        check: |probe| Box::pin(list(probe)),
    },
    Assumption {
        id: "rest.etag",
        what: "what has not changed is answered 304 to If-None-Match",
        source: "1.8",
        changes: false,
        check: |probe| Box::pin(etag(probe)),
    },
    Assumption {
        id: "rest.rate-limit",
        what: "every answer counts in x-ratelimit headers; a GHES may have none",
        source: "1.8",
        changes: false,
        check: |probe| Box::pin(rate_limit(probe)),
    },
    Assumption {
        id: "runs.list",
        what: "runs have the fields and words that the client reads",
        source: "1.7",
        changes: false,
        check: |probe| Box::pin(runs(probe)),
    },
    Assumption {
        id: "runs.unknown",
        what: "a run that does not exist is answered 404",
        source: "1.7",
        changes: false,
        check: |probe| Box::pin(unknown_run(probe)),
    },
    Assumption {
        id: "runs.completed",
        what: "a run that is over cannot be cancelled: 409",
        source: "1.7",
        changes: true,
        check: |probe| Box::pin(completed_run(probe)),
    },
    Assumption {
        id: "oidc.discovery",
        what: "the issuer of jobs' tokens names itself, RS256, and keys at its own host",
        source: "7.2",
        changes: false,
        check: |probe| Box::pin(discovery(probe)),
    },
    Assumption {
        id: "oidc.keys",
        what: "the issuer has RSA keys with a kid",
        source: "7.2",
        changes: false,
        check: |probe| Box::pin(keys(probe)),
    },
    Assumption {
        id: "git.smart-http",
        what: "git is served over smart HTTP, version 2",
        source: "git-http-backend",
        changes: false,
        check: |probe| Box::pin(smart_http(probe)),
    },
];

async fn list(probe: &Probe) -> Result<(), Miss> {
    let answer = probe.authorized(Method::GET, &probe.scoped("actions/runners?per_page=1")).await?;
    status(&answer, 200)?;
    let body = json(&answer)?;
    let good = body["total_count"].is_u64()
        && body["runners"].as_array().is_some_and(|page| page.len() <= 1);
    expect(good, || "the body is not {total_count, runners} with at most one of them".to_owned())
}

async fn etag(probe: &Probe) -> Result<(), Miss> {
    use secrecy::ExposeSecret as _;
    let path = probe.scoped("actions/runners?name=sekisho-probe-nobody");
    let first = probe.authorized(Method::GET, &path).await?;
    let tag = header(&first.headers, "etag")?.to_owned();
    let bearer = format!("Bearer {}", probe.token.expose_secret());
    let again = probe
        .ask(Method::GET, &path, Some(&bearer), |request| request.header("if-none-match", tag))
        .await?;
    status(&again, 304)
}

async fn rate_limit(probe: &Probe) -> Result<(), Miss> {
    let answer = probe.authorized(Method::GET, &probe.scoped("actions/runners?per_page=1")).await?;
    let has_limit = answer.headers.contains_key("x-ratelimit-limit");
    if probe.address().hosting() == Hosting::Ghes && !has_limit {
        return Err(Miss::Skipped("this server counts nothing"));
    }
    let seen = RateSeen::read(&answer.headers);
    expect(seen.is_some(), || "the x-ratelimit headers are not understood".to_owned())
}

async fn runs(probe: &Probe) -> Result<(), Miss> {
    let path = format!("repos/{}/actions/runs?per_page=5", probe.repository()?);
    let answer = probe.authorized(Method::GET, &path).await?;
    status(&answer, 200)?;
    let found: WorkflowRuns = read(&answer.body, "the runs")?;
    let Some(run) = found.workflow_runs.first() else {
        return Err(Miss::Skipped("the repository has no runs"));
    };
    let path = format!("repos/{}/actions/runs/{}/jobs", probe.repository()?, run.id);
    let answer = probe.authorized(Method::GET, &path).await?;
    status(&answer, 200)?;
    let jobs: WorkflowJobs = read(&answer.body, "the jobs")?;
    let words = serde_json::to_string(&(&found, &jobs)).unwrap_or_default();
    expect(!words.contains("\"unknown\""), || {
        "a status or a conclusion is a word that this version does not know".to_owned()
    })
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Miss> {
    serde_json::from_slice(body)
        .map_err(|error| Miss::Broken(format!("{what} have another shape: {error}")))
}

async fn unknown_run(probe: &Probe) -> Result<(), Miss> {
    let path = format!("repos/{}/actions/runs/1", probe.repository()?);
    let path = path.replace("/runs/1", "/runs/9007199254740991");
    status(&probe.authorized(Method::GET, &path).await?, 404)
}

async fn completed_run(probe: &Probe) -> Result<(), Miss> {
    let repository = probe.repository()?;
    let path = format!("repos/{repository}/actions/runs?status=completed&per_page=1");
    let body = json(&probe.authorized(Method::GET, &path).await?)?;
    let Some(run) = body["workflow_runs"][0]["id"].as_u64() else {
        return Err(Miss::Skipped("the repository has no run that is over"));
    };
    let path = format!("repos/{repository}/actions/runs/{run}/cancel");
    status(&probe.authorized(Method::POST, &path).await?, 409)
}

/// The discovery document, and the address it is about.
async fn discovered(probe: &Probe) -> Result<(Value, String), Miss> {
    let issuer = probe.address().token_issuer();
    let url = format!("{issuer}/.well-known/openid-configuration");
    let answer = probe.send(probe.http.get(url)).await?;
    status(&answer, 200)?;
    Ok((json(&answer)?, issuer))
}

async fn discovery(probe: &Probe) -> Result<(), Miss> {
    let (document, issuer) = discovered(probe).await?;
    expect(document["issuer"] == issuer.as_str(), || {
        format!("it names {}, not {issuer}", document["issuer"])
    })?;
    let algorithms = &document["id_token_signing_alg_values_supported"];
    let known = algorithms.as_array().is_some_and(|all| all.iter().any(|one| one == "RS256"));
    expect(known, || format!("its algorithms are {algorithms}"))?;
    let keys = document["jwks_uri"].as_str().unwrap_or_default();
    expect(keys.starts_with(&issuer), || format!("its keys are at {keys}"))
}

async fn keys(probe: &Probe) -> Result<(), Miss> {
    let (document, _) = discovered(probe).await?;
    let url = document["jwks_uri"].as_str().unwrap_or_default();
    let answer = probe.send(probe.http.get(url)).await?;
    status(&answer, 200)?;
    let keys = KeySet::parse(&answer.body).map_err(|error| Miss::Broken(error.to_string()))?;
    expect(!keys.is_empty(), || "it has no key that signs with RS256".to_owned())
}

async fn smart_http(probe: &Probe) -> Result<(), Miss> {
    use secrecy::ExposeSecret as _;
    let url = format!(
        "{}{}.git/info/refs?service=git-upload-pack",
        probe.address().web(),
        probe.repository()?
    );
    let request = probe.http.get(url).header("git-protocol", "version=2");
    let request = request.basic_auth("x-access-token", Some(probe.token.expose_secret()));
    let answer = probe.send(request).await?;
    if answer.status == 404 {
        return Err(Miss::Skipped("the repository does not exist, or cannot be read"));
    }
    status(&answer, 200)?;
    let kind = header(&answer.headers, "content-type")?;
    expect(kind == "application/x-git-upload-pack-advertisement", || format!("it is {kind}"))?;
    let text = String::from_utf8_lossy(&answer.body);
    expect(text.contains("version 2"), || "it does not speak version 2".to_owned())
}
