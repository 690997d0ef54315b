//! GitHub, as whom a GitHubConnection says.

use std::sync::Arc;

use secrecy::SecretString;
use sekisho_api::{AcquisitionMode, GitHubConnectionSpec, RunnerSpec};
use sekisho_github::http::ClientOptions;
use sekisho_github::rest::{
    Address, Clock, Credential, GenerateJitConfig, GithubClient, KeySigner,
};
use sekisho_github::scale_set::{Tenant, TenantOptions};
use sekisho_pods::Given;
use sekisho_reconcile::Failure;
use sekisho_reconcile::runner::Registration;
use sekisho_reconcile::runner::registration::{Holder, Seen};

use crate::asks::Asks;
use crate::failure;
use crate::reach::client_options;

/// The folder of a job's files, below the runner's own.
const WORK_FOLDER: &str = "_work";

/// An account of GitHub. To be shared.
pub(crate) struct Account {
    pub(crate) rest: Arc<GithubClient>,
    pub(crate) tenant: Arc<Tenant>,
    /// How it is reached, for runners.
    reach: ClientOptions,
    asks: Asks,
}

/// The content of the keys that a connection names.
pub(crate) struct Secrets {
    /// The App's key, or the token.
    pub(crate) auth: SecretString,
    /// Of the proxy: `user:password`.
    pub(crate) proxy: Option<SecretString>,
}

/// What a registration is made of.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) spec: &'a RunnerSpec,
    /// GitHub's number of the scale set, where there is one.
    pub(crate) scale_set: Option<i64>,
}

impl Account {
    pub(crate) fn new(spec: &GitHubConnectionSpec, secrets: &Secrets) -> Result<Self, Failure> {
        use secrecy::ExposeSecret as _;
        let secret = &secrets.auth;
        let unreachable = |detail: String| Failure::Unreachable { detail };
        let address = Address::parse(&spec.url, false).map_err(|it| unreachable(it.to_string()))?;
        let credential = match &spec.auth.app {
            Some(app) => {
                let signer = KeySigner::from_pem(secret.expose_secret())
                    .map_err(|it| Failure::CredentialsRefused { detail: it.to_string() })?;
                Credential::App {
                    issuer: app.client_id.clone(),
                    installation: app.installation_id.and_then(|id| id.try_into().ok()),
                    signer: Arc::new(signer),
                }
            }
            None => Credential::Token(secret.expose_secret().trim().to_owned().into()),
        };
        let http = client_options(spec, secrets.proxy.as_ref())
            .map_err(|error| Failure::ConnectionInvalid { detail: error.to_string() })?;
        let rest = GithubClient::new(address, credential, &http, Clock::default());
        let rest = Arc::new(rest.map_err(|error| failure::rest(&error))?);
        let mut reach = http.clone();
        if secrets.proxy.is_none() {
            // Its address is no secret, and stands in the pod.
            reach.proxy = None;
        }
        let options = TenantOptions { http, subsystem: "operator", ..Default::default() };
        let tenant = Tenant::new(Arc::clone(&rest), options);
        let tenant = Arc::new(tenant.map_err(|error| failure::scale_set(&error))?);
        Ok(Self { asks: Asks::new(Arc::clone(&rest)), rest, tenant, reach })
    }

    /// Whether the credentials are good for runners here.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        self.rest.runners(Some("sekisho-check")).await.map(drop).map_err(|it| failure::rest(&it))
    }

    /// What a runner is given with its registration.
    pub(crate) fn given<'a>(&'a self, jit: &'a SecretString) -> Given<'a> {
        let authorities = self.reach.certificates.as_deref();
        Given { jit, authorities, proxy: self.reach.proxy.as_ref() }
    }

    /// Makes a registration. The configuration is the runner's only credential.
    pub(crate) async fn register(&self, wanted: &Wanted<'_>) -> (Seen, Option<SecretString>) {
        let made = match (wanted.spec.mode, wanted.scale_set) {
            (AcquisitionMode::ScaleSet, Some(set)) => {
                match self.tenant.jit_config(set, wanted.name, WORK_FOLDER).await {
                    Ok(made) => Ok((made.runner.id, made.encoded.to_secret())),
                    Err(error) => Err(match failure::scale_set(&error) {
                        Failure::NameTaken { detail } => Seen::NameForeign { detail },
                        other => Seen::Failed(other),
                    }),
                }
            }
            (AcquisitionMode::ScaleSet, None) => Err(Seen::Failed(Failure::ScaleSetGone)),
            (AcquisitionMode::Registration, _) => self.register_over_rest(wanted).await,
        };
        match made {
            Ok((id, secret)) => (Seen::Made { id }, Some(secret)),
            Err(seen) => (seen, None),
        }
    }

    async fn register_over_rest(&self, wanted: &Wanted<'_>) -> Result<(i64, SecretString), Seen> {
        let group = self.group(&wanted.spec.group).await.map_err(Seen::Failed)?;
        let request = GenerateJitConfig {
            name: wanted.name.to_owned(),
            runner_group_id: group,
            labels: wanted.spec.labels.clone(),
            work_folder: Some(WORK_FOLDER.to_owned()),
        };
        match self.rest.generate_jit_config(&request).await {
            Ok(made) => {
                Ok((made.runner.id.try_into().unwrap_or_default(), made.encoded_jit_config.into()))
            }
            Err(error) if error.status() == Some(409) => Err(Seen::NameTaken),
            Err(error) => Err(Seen::Failed(failure::rest(&error))),
        }
    }

    /// The number of a runner group, over REST. Repositories have the first alone.
    pub(crate) async fn group(&self, name: &str) -> Result<u64, Failure> {
        if name.eq_ignore_ascii_case("default") {
            return Ok(1);
        }
        let groups = self.rest.runner_groups().await.map_err(|error| failure::rest(&error))?;
        let found = groups.into_iter().find(|group| group.name.eq_ignore_ascii_case(name));
        found.map(|group| group.id).ok_or_else(|| Failure::GroupNotFound { group: name.to_owned() })
    }

    /// Who has a name.
    pub(crate) async fn holder(&self, wanted: &Wanted<'_>) -> Seen {
        match self.rest.runners(Some(wanted.name)).await {
            Err(error) => Seen::Failed(failure::rest(&error)),
            Ok(found) => {
                Seen::Holder(found.into_iter().find(|it| it.name == wanted.name).map(|it| {
                    let has = |label: &String| {
                        it.labels.iter().any(|l| l.name.eq_ignore_ascii_case(label))
                    };
                    let ours = wanted.spec.labels.iter().all(has);
                    Holder { id: it.id.try_into().unwrap_or_default(), busy: it.busy, ours }
                }))
            }
        }
    }

    /// Removes a registration; that there is none is as good.
    pub(crate) async fn deregister(
        &self,
        mode: AcquisitionMode,
        id: Option<i64>,
        name: &str,
    ) -> Result<(), Failure> {
        let id = match (mode, id) {
            (_, Some(id)) => Some(id),
            (AcquisitionMode::ScaleSet, None) => {
                let found = self.tenant.runner_by_name(name).await;
                found.map_err(|error| failure::scale_set(&error))?.map(|runner| runner.id)
            }
            (AcquisitionMode::Registration, None) => {
                let found = self.rest.runners(Some(name)).await;
                let found = found.map_err(|error| failure::rest(&error))?;
                let found = found.into_iter().find(|runner| runner.name == name);
                found.and_then(|runner| runner.id.try_into().ok())
            }
        };
        let Some(id) = id else { return Ok(()) };
        match mode {
            AcquisitionMode::ScaleSet => {
                let removed = self.tenant.remove_runner(id).await;
                removed.map(drop).map_err(|error| failure::scale_set(&error))
            }
            AcquisitionMode::Registration => {
                let removed = self.rest.delete_runner(id.try_into().unwrap_or_default()).await;
                removed.map(drop).map_err(|error| failure::removal(&error))
            }
        }
    }

    /// How a registration is.
    pub(crate) async fn ask(&self, name: &str) -> Result<Registration, Failure> {
        self.asks.ask(name).await
    }
}
