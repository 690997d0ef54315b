//! Who is heard, and how a refusal looks.

use reqwest::Method;

use super::{Assumption, Miss, Probe, expect, header, json, status};
use crate::http::Answer;

pub(super) const ASSUMPTIONS: &[Assumption] = &[
    Assumption {
        id: "rest.credential",
        what: "the credential may list the runners of the address",
        source: "1.6",
        changes: false,
        check: |probe| Box::pin(credential(probe)),
    },
    Assumption {
        id: "rest.request-id",
        what: "every answer has an X-GitHub-Request-Id",
        source: "1.2",
        changes: false,
        check: |probe| Box::pin(request_id(probe)),
    },
    Assumption {
        id: "rest.user-agent",
        what: "a request without a User-Agent is answered 403",
        source: "1.2",
        changes: false,
        check: |probe| Box::pin(user_agent(probe)),
    },
    Assumption {
        id: "rest.anonymous",
        what: "runners are not shown to nobody: 401",
        source: "1.2",
        changes: false,
        check: |probe| Box::pin(anonymous(probe)),
    },
    Assumption {
        id: "rest.bad-token",
        what: "an unknown token is answered 401 `Bad credentials`",
        source: "1.2",
        changes: false,
        check: |probe| Box::pin(bad_token(probe)),
    },
    Assumption {
        id: "rest.token-scheme",
        what: "`Authorization: token` is taken as `Bearer` is",
        source: "1.2",
        changes: false,
        check: |probe| Box::pin(token_scheme(probe)),
    },
    Assumption {
        id: "rest.error-body",
        what: "an error has message, documentation_url and the status as text",
        source: "1.2",
        changes: false,
        check: |probe| Box::pin(error_body(probe)),
    },
];

const RUNNERS: &str = "actions/runners?per_page=1";

async fn runners(probe: &Probe) -> Result<Answer, Miss> {
    probe.authorized(Method::GET, &probe.scoped(RUNNERS)).await
}

async fn credential(probe: &Probe) -> Result<(), Miss> {
    let answer = runners(probe).await?;
    let said = || json(&answer).ok().and_then(|body| body["message"].as_str().map(str::to_owned));
    expect(answer.status == 200, || {
        format!("status {}: {}", answer.status, said().unwrap_or_default())
    })
}

async fn request_id(probe: &Probe) -> Result<(), Miss> {
    header(&runners(probe).await?.headers, "x-github-request-id").map(drop)
}

async fn user_agent(probe: &Probe) -> Result<(), Miss> {
    // The client's own header cannot be left away, but an empty one counts as none.
    let path = probe.scoped(RUNNERS);
    let answer = probe.ask(Method::GET, &path, None, |r| r.header("user-agent", "")).await?;
    status(&answer, 403)
}

async fn anonymous(probe: &Probe) -> Result<(), Miss> {
    let answer = probe.ask(Method::GET, &probe.scoped(RUNNERS), None, |r| r).await?;
    status(&answer, 401)
}

async fn bad_token(probe: &Probe) -> Result<(), Miss> {
    let bearer = Some("Bearer ghp_000000000000000000000000000000000000");
    let answer = probe.ask(Method::GET, &probe.scoped(RUNNERS), bearer, |r| r).await?;
    status(&answer, 401)?;
    let body = json(&answer)?;
    expect(body["message"] == "Bad credentials", || format!("the message is {}", body["message"]))
}

async fn token_scheme(probe: &Probe) -> Result<(), Miss> {
    use secrecy::ExposeSecret as _;
    let token = format!("token {}", probe.token.expose_secret());
    let answer = probe.ask(Method::GET, &probe.scoped(RUNNERS), Some(&token), |r| r).await?;
    status(&answer, 200)
}

async fn error_body(probe: &Probe) -> Result<(), Miss> {
    let path = probe.scoped("actions/runners/9007199254740991");
    let answer = probe.authorized(Method::GET, &path).await?;
    status(&answer, 404)?;
    let body = json(&answer)?;
    let good = body["message"].is_string()
        && body["documentation_url"].is_string()
        && body["status"] == "404";
    expect(good, || format!("the body is {body}"))
}
