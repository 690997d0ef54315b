//! The cluster of the current context, as `kubectl` finds it.

pub(crate) mod seen;

use std::fmt::Debug;

use anyhow::Context as _;
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use sekisho_reconcile::At;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How many objects are asked for at once.
const PAGE: usize = 250;
/// The most objects of a kind that are read.
const OBJECTS_MAX: usize = 50_000;

/// A client, of `KUBECONFIG`, `~/.kube/config` or the pod that this runs in.
pub(crate) async fn client() -> anyhow::Result<Client> {
    Client::try_default()
        .await
        .context("finding the cluster: set `KUBECONFIG`, or see `kubectl config current-context`")
}

/// All objects of a kind, in a namespace or in all.
pub(crate) async fn list<K>(client: &Client, namespace: Option<&str>) -> anyhow::Result<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let kind = K::plural(&());
    let mut params = ListParams::default().limit(u32::try_from(PAGE)?);
    let mut all = vec![];
    loop {
        let page = api.list(&params).await.with_context(|| format!("listing {kind}"))?;
        all.extend(page.items);
        anyhow::ensure!(all.len() <= OBJECTS_MAX, "more than {OBJECTS_MAX} {kind}");
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(all),
        }
    }
}

/// All objects at `path`, page by page; nothing if the cluster does not know the kind.
pub(crate) async fn list_raw(path: &str) -> anyhow::Result<Option<Vec<Value>>> {
    let client = client().await?;
    let mut all = vec![];
    let mut next = String::new();
    loop {
        let from = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let request = http::Request::get(format!("{path}?limit={PAGE}{from}")).body(vec![])?;
        let page: Value = match client.request(request).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("listing `{path}`")),
        };
        let kind = page["kind"].as_str().and_then(|kind| kind.strip_suffix("List"));
        for item in page["items"].as_array().into_iter().flatten() {
            let mut item = item.clone();
            // The items of a list do not say what they are.
            if let (Some(kind), None) = (kind, item["kind"].as_str()) {
                item["kind"] = kind.into();
            }
            all.push(item);
        }
        anyhow::ensure!(all.len() <= OBJECTS_MAX, "more than {OBJECTS_MAX} objects at `{path}`");
        next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if next.is_empty() {
            return Ok(Some(all));
        }
    }
}

/// What time it is.
#[expect(clippy::disallowed_methods, reason = "the shell reads the clock for the decisions")]
pub(crate) fn now() -> At {
    let seconds = jiff::Timestamp::now().as_second();
    At::from_secs(u64::try_from(seconds).unwrap_or(0))
}
