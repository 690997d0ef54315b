//! `sekisho why`.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_api::{GitHubConnection, JobResult, Runner, RunnerDeployment, SecretKeyRef};
use sekisho_github::rest::{
    Address, Clock, Credential, GithubClient, KeySigner, Repository, RunConclusion, RunJobs,
    RunStatus, WorkflowJob,
};
use sekisho_reconcile::{At, why};
use serde::Serialize;

use crate::cluster::{self, seen};
use crate::exit::{Exit, hinted};
use crate::printer::{Printer, Style};

/// Say why a job waits, where it runs, or how it was lost
#[derive(Args, Debug)]
#[command(
    after_help = "GitHub is asked with the credentials of the GitHubConnection that the run belongs \
                        to; the cluster is that of the current context.\n\nExamples:\n  \
                        sekisho why https://github.com/acme/app/actions/runs/4711\n  \
                        sekisho why https://github.com/acme/app/actions/runs/4711/job/99"
)]
pub(crate) struct WhyArgs {
    /// The page of a run, or of one of its jobs
    #[arg(value_name = "RUN-URL")]
    url: String,
    /// The job whose name contains this
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
}

/// What the URL names.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// `https://github.com/acme/app`.
    repository_url: String,
    owner: String,
    name: String,
    run: u64,
    job: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    schema_version: u32,
    job: &'a str,
    sentence: &'a str,
    evidence: &'a [String],
}

/// Asks GitHub and the cluster.
pub(crate) async fn run(args: &WhyArgs, printer: Printer) -> anyhow::Result<Exit> {
    let target = parse(&args.url)?;
    let client = cluster::client().await?;
    let connections: Vec<GitHubConnection> = cluster::list(&client, None).await?;
    let connection = covering(&connections, &target.repository_url).ok_or_else(|| {
        hinted(
            format!("no GitHubConnection has `{}`", target.repository_url),
            "create one for the organization or the repository",
        )
    })?;
    let (jobs, repository) = jobs(&client, connection, &target).await?;
    let name = match target.job {
        Some(id) => {
            let job = jobs.iter().find(|job| job.id == id);
            Some(job.with_context(|| format!("run {} has no job {id}", target.run))?.name.clone())
        }
        None => args.job.clone(),
    };
    let run = why::Run {
        id: i64::try_from(target.run).context("the run's number")?,
        repository,
        jobs: jobs.iter().map(seen_job).collect(),
    };
    let deployments: Vec<RunnerDeployment> = cluster::list(&client, None).await?;
    let runners: Vec<Runner> = cluster::list(&client, None).await?;
    let deployments = of_repository(&deployments, &connections, &target.repository_url);
    let deployments: Vec<_> = deployments.into_iter().map(seen::deployment).collect();
    let runners: Vec<_> = runners.iter().map(seen::runner).collect();
    let answer = why::why(&run, name.as_deref(), &deployments, &runners, cluster::now());
    show(&answer, printer)?;
    Ok(if answer.job.is_empty() { Exit::Nothing } else { Exit::Done })
}

fn show(answer: &why::Answer, printer: Printer) -> anyhow::Result<()> {
    let why::Answer { job, sentence, evidence } = answer;
    if printer.is_json() {
        return printer.answer_json(&Answer { schema_version: 1, job, sentence, evidence });
    }
    printer.answer(sentence)?;
    for fact in evidence {
        printer.answer(&printer.paint(Style::Dim, &format!("  {fact}")))?;
    }
    Ok(())
}

/// `https://HOST/OWNER/REPOSITORY/actions/runs/RUN[/attempts/N][/job/JOB]`.
fn parse(text: &str) -> anyhow::Result<Target> {
    let wrong = || {
        hinted(
            format!("`{text}` is no page of a run"),
            "give https://HOST/OWNER/REPOSITORY/actions/runs/NUMBER, as the browser shows it",
        )
    };
    let url: url::Url = text.parse().map_err(|_| wrong())?;
    let path: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
    let [owner, name, "actions", "runs", run, rest @ ..] = path.as_slice() else {
        return Err(wrong());
    };
    let job = match rest {
        [.., "job", job] => Some(job.parse().map_err(|_| wrong())?),
        _ => None,
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = url.host_str().ok_or_else(wrong)?;
    Ok(Target {
        repository_url: format!("{}://{host}{port}/{owner}/{name}", url.scheme()),
        owner: (*owner).to_owned(),
        name: (*name).to_owned(),
        run: run.parse().map_err(|_| wrong())?,
        job,
    })
}

/// The connection of the repository, or else of what it belongs to: the longest url.
fn covering<'a>(all: &'a [GitHubConnection], repository: &str) -> Option<&'a GitHubConnection> {
    all.iter().filter(|it| covers(it, repository)).max_by_key(|it| it.spec.url.len())
}

fn covers(connection: &GitHubConnection, repository: &str) -> bool {
    let repository = format!("{}/", repository.to_ascii_lowercase());
    repository.starts_with(&format!("{}/", connection.spec.url.to_ascii_lowercase()))
}

/// Those that get jobs of the repository: by a connection of its own, of its organization, or of an
/// enterprise at the same place, of which nobody here knows what belongs to it.
fn of_repository<'a>(
    all: &'a [RunnerDeployment],
    connections: &[GitHubConnection],
    repository: &str,
) -> Vec<&'a RunnerDeployment> {
    let host = |url: &str| url.split('/').nth(2).unwrap_or_default().to_ascii_lowercase();
    let enterprise = |it: &GitHubConnection| {
        it.spec.url.split('/').nth(3) == Some("enterprises")
            && host(&it.spec.url) == host(repository)
    };
    let connected = |deployment: &&RunnerDeployment| {
        connections.iter().any(|it| {
            it.namespace() == deployment.namespace()
                && it.name_any() == deployment.spec.connection_ref
                && (covers(it, repository) || enterprise(it))
        })
    };
    all.iter().filter(connected).collect()
}

async fn jobs(
    client: &Client,
    connection: &GitHubConnection,
    target: &Target,
) -> anyhow::Result<(Vec<WorkflowJob>, String)> {
    let credential = credential(client, connection).await?;
    let address = Address::parse(&connection.spec.url, false)?;
    let proxy = connection.spec.proxy.as_ref().and_then(|it| it.credentials_secret_ref.as_ref());
    let proxy = match proxy {
        Some(reference) => Some(read_key(client, connection, reference).await?),
        None => None,
    };
    let options = sekisho_operator::client_options(&connection.spec, proxy.as_ref())?;
    let github = GithubClient::new(address, credential, &options, Clock::default())?;
    let repository = Repository::new(&target.owner, &target.name)
        .with_context(|| format!("`{}/{}` is no repository", target.owner, target.name))?;
    let jobs = github
        .jobs(&repository, target.run, RunJobs::Latest)
        .await
        .with_context(|| format!("asking GitHub for the jobs of run {}", target.run))?;
    Ok((jobs, format!("{}/{}", target.owner, target.name)))
}

async fn read_key(
    client: &Client,
    connection: &GitHubConnection,
    of: &SecretKeyRef,
) -> anyhow::Result<SecretString> {
    let namespace = connection.namespace().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let secret = secrets
        .get(&of.name)
        .await
        .with_context(|| format!("reading secret `{namespace}/{}`", of.name))?;
    let value = secret.data.and_then(|mut data| data.remove(&of.key));
    let value = value
        .with_context(|| format!("secret `{namespace}/{}` has no key `{}`", of.name, of.key))?;
    let text = String::from_utf8(value.0);
    Ok(text.map_err(|_| anyhow::anyhow!("key `{}` is no text", of.key))?.into())
}

async fn credential(client: &Client, connection: &GitHubConnection) -> anyhow::Result<Credential> {
    let read = async |of: &SecretKeyRef| read_key(client, connection, of).await;
    let auth = &connection.spec.auth;
    if let Some(app) = &auth.app {
        let key = read(&app.private_key_secret_ref).await?;
        let signer = KeySigner::from_pem(key.expose_secret())
            .with_context(|| format!("reading the key of `{}`", connection.name_any()))?;
        return Ok(Credential::App {
            issuer: app.client_id.clone(),
            installation: app.installation_id.and_then(|id| u64::try_from(id).ok()),
            signer: Arc::new(signer),
        });
    }
    let token = auth.token.as_ref().context("the GitHubConnection has neither App nor token")?;
    let token = read(&token.secret_ref).await?;
    Ok(Credential::Token(token.expose_secret().trim().into()))
}

fn seen_job(job: &WorkflowJob) -> why::Job {
    let at = |time: jiff::Timestamp| At::from_secs(u64::try_from(time.as_second()).unwrap_or(0));
    why::Job {
        name: job.name.clone(),
        labels: job.labels.clone(),
        state: match (job.status, job.conclusion) {
            (RunStatus::Queued, _) => why::JobState::Queued,
            (RunStatus::InProgress, _) => why::JobState::Running,
            (RunStatus::Completed, conclusion) => why::JobState::Over(result(conclusion)),
            (
                RunStatus::Waiting | RunStatus::Requested | RunStatus::Pending | RunStatus::Unknown,
                _,
            ) => why::JobState::Held,
        },
        runner: job.runner_name.clone().filter(|name| !name.is_empty()),
        queued: Some(at(job.created_at)),
    }
}

fn result(conclusion: Option<RunConclusion>) -> JobResult {
    match conclusion {
        Some(RunConclusion::Success) => JobResult::Succeeded,
        Some(RunConclusion::Failure) => JobResult::Failed,
        Some(RunConclusion::Cancelled) => JobResult::Cancelled,
        _ => JobResult::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_run_or_a_job_is_read() {
        let target = parse("https://github.com/acme/app/actions/runs/4711").unwrap();
        assert_eq!(target.repository_url, "https://github.com/acme/app");
        assert_eq!((target.run, target.job), (4711, None));
        let target =
            parse("http://127.0.0.1:7350/a/b/actions/runs/1/attempts/2/job/99?pr=3").unwrap();
        assert_eq!(target.repository_url, "http://127.0.0.1:7350/a/b");
        assert_eq!((target.run, target.job), (1, Some(99)));
        for wrong in [
            "acme/app",
            "https://github.com/acme/app/pull/1",
            "https://github.com/a/b/actions/runs/x",
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert_eq!(error, format!("`{wrong}` is no page of a run"));
        }
    }

    #[test]
    fn only_deployments_that_get_the_repositorys_jobs_count() {
        let connection = |name: &str, url: &str| -> GitHubConnection {
            let metadata = serde_json::json!({ "name": name, "namespace": "ci" });
            serde_json::from_value(
                serde_json::json!({ "metadata": metadata, "spec": { "url": url, "auth": {} } }),
            )
            .unwrap()
        };
        let connections = [
            connection("org", "https://github.com/acme"),
            connection("repository", "https://github.com/acme/app"),
            connection("sibling", "https://github.com/acme/other"),
            connection("stranger", "https://github.com/acm"),
            connection("enterprise", "https://github.com/enterprises/big"),
            connection("elsewhere", "https://ghe.test/enterprises/big"),
        ];
        let deployment = |namespace: &str, connection: &str| -> RunnerDeployment {
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": connection, "namespace": namespace },
                "spec": { "connectionRef": connection, "classRef": "default", "labels": ["x"] }
            }))
            .unwrap()
        };
        let mut all: Vec<_> =
            connections.iter().map(|it| deployment("ci", &it.name_any())).collect();
        all.push(deployment("other", "org"));
        let found = of_repository(&all, &connections, "https://github.com/Acme/app");
        let names: Vec<_> = found.iter().map(|it| it.name_any()).collect();
        assert_eq!(names, ["org", "repository", "enterprise"]);
    }

    #[test]
    fn the_nearest_connection_is_asked() {
        let of = |url: &str| -> GitHubConnection {
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": "a" },
                "spec": { "url": url, "auth": {} }
            }))
            .unwrap()
        };
        let all = [
            of("https://github.com/acme"),
            of("https://github.com/acme/app"),
            of("https://github.com/acm"),
        ];
        let url = |repository: &str| covering(&all, repository).map(|it| it.spec.url.as_str());
        assert_eq!(url("https://github.com/Acme/app"), Some("https://github.com/acme/app"));
        assert_eq!(url("https://github.com/acme/other"), Some("https://github.com/acme"));
        assert_eq!(url("https://github.com/other/app"), None);
    }
}
