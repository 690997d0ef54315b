//! The registration of a runner, and the secret that is its guard.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use secrecy::SecretString;
use sekisho_reconcile::runner::registration::{self, Progress, Seen, Step};
use sekisho_reconcile::{Failure, runner};

use super::Work;
use crate::failure;
use crate::github::{Account, Wanted};
use crate::record::{ANNOTATION_POD, ANNOTATION_REGISTRATION};

impl Work<'_> {
    /// Makes a registration, and the secret that is its guard.
    pub(super) async fn register(&self, pod_uid: &str) -> Result<(), Failure> {
        let Some(account) = self.account() else { return Err(self.no_account()) };
        let (namespace, name) = (self.name.0.as_str(), self.name.1.as_str());
        let deployment = ObjectRef::new(&self.runner.spec.deployment).within(namespace);
        let scale_set = self
            .context
            .stores
            .deployments
            .get(&deployment)
            .and_then(|it| it.status.as_ref()?.scale_set.as_ref().map(|set| set.id));
        let wanted = Wanted { name, spec: &self.runner.spec, scale_set };
        let (mut progress, mut seen, mut jit) = (Progress::default(), Seen::Start, None);
        loop {
            let (next, step) = registration::decide(&progress, &seen);
            progress = next;
            seen = match step {
                Step::Make => {
                    let (seen, made) = account.register(&wanted).await;
                    jit = made;
                    self.context.metrics.registrations.inc();
                    seen
                }
                Step::LookUp => account.holder(&wanted).await,
                Step::Remove { id } => {
                    match account.deregister(self.runner.spec.mode, Some(id), name).await {
                        Ok(()) => Seen::Removed,
                        Err(failure) => Seen::Failed(failure),
                    }
                }
                Step::CreateSecret { registration } => {
                    self.create_secret(&account, pod_uid, (registration, jit.take())).await
                }
                Step::RemoveOwn { id } => {
                    match account.deregister(self.runner.spec.mode, Some(id), name).await {
                        Ok(()) => Seen::OwnRemoved,
                        Err(failure) => Seen::Failed(failure),
                    }
                }
                Step::Done => return Ok(()),
                Step::GiveUp(failure) => return Err(failure),
            };
        }
    }

    async fn create_secret(
        &self,
        account: &Account,
        pod_uid: &str,
        (registration, jit): (i64, Option<SecretString>),
    ) -> Seen {
        let pod = self.pod.as_ref().filter(|pod| pod.metadata.uid.as_deref() == Some(pod_uid));
        let made = pod
            .zip(jit)
            .and_then(|(pod, jit)| sekisho_pods::jit_secret(&pod.metadata, &account.given(&jit)));
        let Some(mut secret) = made else {
            let detail = "its pod is another by now".to_owned();
            return Seen::SecretRefused(Failure::Conflict { detail });
        };
        secret.annotations_mut().extend([
            (ANNOTATION_POD.to_owned(), pod_uid.to_owned()),
            (ANNOTATION_REGISTRATION.to_owned(), registration.to_string()),
        ]);
        self.context.metrics.wrote("create");
        let api = self.context.api::<Secret>(&self.name.0);
        match api.create(&PostParams::default(), &secret).await {
            Ok(made) => {
                let secret = runner::Secret {
                    uid: made.uid().unwrap_or_default(),
                    pod_uid: pod_uid.to_owned(),
                    registration,
                };
                self.context.memory().secrets.insert(self.name.clone(), secret);
                Seen::SecretCreated
            }
            Err(error) if failure::is_conflict(&error) => Seen::SecretExists,
            Err(error) => Seen::SecretRefused(failure::kube(error)),
        }
    }
}
