//! Secrets, as the kubelets wait for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;

use super::Shared;

type Key = (String, String);
type Data = BTreeMap<String, Vec<u8>>;

/// All secrets, and who waits for one.
#[derive(Default)]
pub(crate) struct Secrets {
    known: Mutex<BTreeMap<Key, watch::Sender<Option<Arc<Data>>>>>,
}

impl Secrets {
    fn subscribe(&self, key: Key) -> watch::Receiver<Option<Arc<Data>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(key).or_default().subscribe()
    }

    fn set(&self, key: Key, data: Option<Data>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if data.is_none() && known.get(&key).is_none_or(|known| known.receiver_count() == 0) {
            known.remove(&key);
            return;
        }
        known.entry(key).or_default().send_replace(data.map(Arc::new));
    }

    /// The content of a secret, as soon as there is one of this name.
    async fn wait(&self, namespace: &str, name: &str) -> Arc<Data> {
        let mut receiver = self.subscribe((namespace.to_owned(), name.to_owned()));
        loop {
            if let Some(data) = receiver.borrow_and_update().clone() {
                return data;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Environment and files of the main container of a pod, when all its secrets are there.
    pub(crate) async fn resolve(
        &self,
        pod: &Pod,
    ) -> (BTreeMap<String, String>, BTreeMap<String, Vec<u8>>) {
        let namespace = pod.namespace().unwrap_or_default();
        let (mut env, mut files) = (BTreeMap::new(), BTreeMap::new());
        let Some(spec) = &pod.spec else { return (env, files) };
        let main = spec.containers.iter().find(|it| it.name == "runner");
        let Some(main) = main.or(spec.containers.first()) else { return (env, files) };
        for variable in main.env.iter().flatten() {
            let from = variable.value_from.as_ref().and_then(|it| it.secret_key_ref.as_ref());
            let value = match from {
                Some(from) if from.optional != Some(true) => {
                    let data = self.wait(&namespace, &from.name).await;
                    let bytes = data.get(&from.key).cloned().unwrap_or_default();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                Some(_) => continue,
                None => variable.value.clone().unwrap_or_default(),
            };
            env.insert(variable.name.clone(), value);
        }
        for volume in spec.volumes.iter().flatten() {
            let Some(secret) = &volume.secret else { continue };
            let Some(name) = secret.secret_name.as_ref().filter(|_| secret.optional != Some(true))
            else {
                continue;
            };
            let data = self.wait(&namespace, name).await;
            let mounts = main.volume_mounts.iter().flatten().filter(|it| it.name == volume.name);
            for mount in mounts {
                for (key, bytes) in data.iter() {
                    files.insert(format!("{}/{key}", mount.mount_path), bytes.clone());
                }
            }
        }
        (env, files)
    }
}

/// Keeps [`Secrets`] as the API has them.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let api: Api<Secret> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let key = |secret: &Secret| (secret.namespace().unwrap_or_default(), secret.name_any());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) => {
                let data = secret.data.clone().unwrap_or_default();
                let data = data.into_iter().map(|(name, bytes)| (name, bytes.0)).collect();
                shared.secrets.set(key(&secret), Some(data));
            }
            Ok(watcher::Event::Delete(secret)) => shared.secrets.set(key(&secret), None),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!("the watch of secrets: {error}"),
        }
    }
}
