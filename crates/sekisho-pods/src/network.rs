//! What a runner's pod may connect to: nothing but what its class lists, and never where a cloud
//! gives out credentials.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sekisho_api::{EgressRule, GROUP, LABEL_DEPLOYMENT, RunnerClassSpec, TrustZone, VERSION};
use serde_json::{Value, json};

use crate::pod::labels_of;

/// Networks in which clouds give out a machine's or a pod's credentials.
pub const METADATA_NETWORKS: &[&str] = &[
    // Link-local: 169.254.169.254 of all clouds, AWS's 169.254.170.2 and .23 of containers and pods.
    "169.254.0.0/16",
    "fe80::/10",
    // AWS: fd00:ec2::254 and fd00:ec2::23.
    "fd00:ec2::/32",
    // Google: fd20:ce::254.
    "fd20:ce::/32",
    // The first one, as a cluster of IPv6 alone reaches it through NAT64.
    "64:ff9b::a9fe:0/112",
    // Azure's machine agent.
    "168.63.129.16/32",
    // Alibaba.
    "100.100.100.200/32",
];

/// Networks that are not the public internet, <https://www.iana.org/assignments/iana-ipv4-special-registry>:
/// the cluster, its nodes, its API server and what else is at home. They contain those of
/// [`METADATA_NETWORKS`], but for Azure's.
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
    "168.63.129.16/32",
    "::/96",
    "64:ff9b::a9fe:0/112",
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// Where NodeLocal DNSCache listens on a node that has it.
/// <https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/>
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// A rule that would let a runner reach what it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The network is one of those in which clouds give out credentials.
    #[error(
        "RunnerClass: egress {index}: `{cidr}` lies in {metadata}, where a cloud gives out the machine's \
         credentials: a runner has none"
    )]
    Metadata {
        /// The rule, from 0.
        index: usize,
        /// As it is written.
        cidr: String,
        /// The network that it lies in.
        metadata: &'static str,
    },
    /// Not a network.
    #[error("RunnerClass: egress {index}: `{cidr}` is no network, for example 10.0.7.0/24")]
    NotANetwork {
        /// The rule, from 0.
        index: usize,
        /// As it is written.
        cidr: String,
    },
}

/// The network policies of a RunnerDeployment's pods, owned by it: nobody connects to them, and they
/// connect to the cluster's DNS and to what the class lists; without a list, to public addresses by
/// HTTPS.
///
/// # Errors
/// Where a rule of the class would open what stays closed.
pub fn network_policies(
    deployment: &str,
    namespace: &str,
    uid: &str,
    zone: TrustZone,
    class: &RunnerClassSpec,
) -> Result<Vec<NetworkPolicy>, EgressError> {
    let mut egress = vec![dns()];
    if class.egress.is_empty() {
        egress.push(public_https());
    }
    for (index, rule) in class.egress.iter().enumerate() {
        egress.push(allow(index, rule)?);
    }
    let spec = json!({
        "podSelector": { "matchLabels": { LABEL_DEPLOYMENT: deployment } },
        "policyTypes": ["Ingress", "Egress"],
        "egress": egress
    });
    let owner = OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "RunnerDeployment".to_owned(),
        name: deployment.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    Ok(vec![NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(format!("{deployment}-runners")),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels_of(deployment, zone.label())),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        // Made of literals and of strings; a test reads it.
        spec: serde_json::from_value(spec).ok(),
    }])
}

/// The rule of a network policy by which pods ask the cluster's names, wherever its DNS is.
pub fn dns() -> Value {
    json!({
        "to": [
            {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
                "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } }
            },
            { "ipBlock": { "cidr": NODE_LOCAL_DNS } }
        ],
        "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }]
    })
}

/// All addresses but those of `closed`, as the peers of a network policy.
pub fn everywhere_but(closed: &[&str]) -> Vec<Value> {
    let everything = ["0.0.0.0/0", "::/0"].into_iter().filter_map(Network::parse);
    everything.map(|network| block(&network, closed)).collect()
}

fn public_https() -> Value {
    json!({ "to": everywhere_but(PRIVATE), "ports": [{ "protocol": "TCP", "port": 443 }] })
}

fn allow(index: usize, rule: &EgressRule) -> Result<Value, EgressError> {
    let ports: Vec<Value> =
        rule.ports.iter().map(|port| json!({ "protocol": "TCP", "port": port })).collect();
    let Some(cidr) = &rule.cidr else {
        let mut to = json!({
            "namespaceSelector": { "matchLabels": rule.namespace_labels.clone().unwrap_or_default() }
        });
        if let Some(labels) = &rule.pod_labels {
            to["podSelector"] = json!({ "matchLabels": labels });
        }
        return Ok(json!({ "to": [to], "ports": ports }));
    };
    let network = Network::parse(cidr)
        .ok_or_else(|| EgressError::NotANetwork { index, cidr: cidr.clone() })?;
    let inside = METADATA_NETWORKS
        .iter()
        .find(|metadata| Network::parse(metadata).is_some_and(|it| it.contains(&network)));
    if let Some(metadata) = inside {
        return Err(EgressError::Metadata { index, cidr: cidr.clone(), metadata });
    }
    Ok(json!({ "to": [block(&network, METADATA_NETWORKS)], "ports": ports }))
}

/// `network` without those of `closed` that lie in it.
fn block(network: &Network, closed: &[&str]) -> Value {
    let except: Vec<&&str> = closed
        .iter()
        .filter(|closed| Network::parse(closed).is_some_and(|it| network.contains(&it)))
        .collect();
    let mut block = json!({ "cidr": network.to_string() });
    if !except.is_empty() {
        block["except"] = json!(except);
    }
    json!({ "ipBlock": block })
}

/// The addresses with the same first bits.
struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    fn parse(cidr: &str) -> Option<Self> {
        let (address, length) = cidr.split_once('/')?;
        let (address, length) = (address.parse().ok()?, length.parse().ok()?);
        let this = Self { address, length };
        if length > this.width() {
            return None;
        }
        Some(this.masked())
    }

    fn width(&self) -> u32 {
        match self.address {
            IpAddr::V4(_) => u32::BITS,
            IpAddr::V6(_) => u128::BITS,
        }
    }

    fn bits(&self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    /// The bits that all addresses of it have in common.
    fn prefix(&self, length: u32) -> u128 {
        self.bits().checked_shr(self.width() - length).unwrap_or(0)
    }

    fn masked(self) -> Self {
        let bits = self.prefix(self.length).checked_shl(self.width() - self.length).unwrap_or(0);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(bits).unwrap_or(0).into()),
            IpAddr::V6(_) => IpAddr::V6(bits.into()),
        };
        Self { address, ..self }
    }

    fn contains(&self, other: &Self) -> bool {
        self.width() == other.width()
            && self.length <= other.length
            && self.prefix(self.length) == other.prefix(self.length)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}
