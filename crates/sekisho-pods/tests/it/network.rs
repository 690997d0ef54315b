//! Where a runner may connect to.

use std::net::IpAddr;

use sekisho_api::TrustZone;
use sekisho_pods::{EgressError, network_policies};
use serde_json::{Value, json};

use crate::class;

fn try_policy(egress: Value) -> Result<Value, EgressError> {
    let class = class(json!({ "egress": egress }));
    let zone = TrustZone::ForkPullRequest;
    let policies = network_policies("image-build", "ci", "deployment-uid", zone, &class)?;
    assert_eq!(policies.len(), 1);
    Ok(serde_json::to_value(&policies[0]).unwrap())
}

#[track_caller]
fn policy(egress: Value) -> Value {
    try_policy(egress).unwrap()
}

/// Whether the policy lets a pod connect to `address`; only its blocks of addresses are looked at.
fn reaches(policy: &Value, address: &str, port: u16) -> bool {
    let address: IpAddr = address.parse().unwrap();
    policy["spec"]["egress"].as_array().unwrap().iter().any(|rule| {
        let open = rule["ports"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["port"] == port && it["protocol"] == "TCP");
        let to = rule["to"].as_array().unwrap().iter().filter_map(|to| to.get("ipBlock"));
        open && to.into_iter().any(|block| {
            let except = block["except"].as_array().into_iter().flatten();
            is_in(address, block["cidr"].as_str().unwrap())
                && !except.into_iter().any(|cidr| is_in(address, cidr.as_str().unwrap()))
        })
    })
}

/// By the text of the bits, so as not to ask the code under test.
fn is_in(address: IpAddr, cidr: &str) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(it) => format!("{:032b}", it.to_bits()),
        IpAddr::V6(it) => format!("{:0128b}", it.to_bits()),
    };
    let (network, length) = cidr.split_once('/').unwrap();
    let (network, length): (IpAddr, usize) = (network.parse().unwrap(), length.parse().unwrap());
    network.is_ipv4() == address.is_ipv4() && bits(network)[..length] == bits(address)[..length]
}

const METADATA: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "64:ff9b::a9fe:a9fe",
    "168.63.129.16",
    "100.100.100.200",
    "fe80::1",
];

#[test]
fn public_addresses_by_https_and_nothing_else() {
    let policy = policy(json!([]));
    for address in ["140.82.121.4", "2606:50c0:8000::154", "1.1.1.1", "64:ff9b::8c52:7904"] {
        assert!(reaches(&policy, address, 443), "{address}");
        assert!(!reaches(&policy, address, 22), "{address}");
    }
    for address in
        ["10.0.0.1", "172.20.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd00::1"]
    {
        assert!(!reaches(&policy, address, 443), "{address}");
    }
}

#[test]
fn metadata_is_closed_whatever_is_written() {
    let default = policy(json!([]));
    let open = policy(json!([
        { "cidr": "0.0.0.0/0", "ports": [80, 443] }, { "cidr": "::/0", "ports": [80, 443] },
        { "cidr": "169.0.0.0/8", "ports": [80, 443] }, { "cidr": "fd00::/8", "ports": [80, 443] }
    ]));
    assert!(reaches(&open, "10.0.0.1", 80));
    assert!(reaches(&open, "fd01::1", 80));
    for address in METADATA {
        for port in [80, 443] {
            assert!(!reaches(&default, address, port), "{address}:{port}");
            assert!(!reaches(&open, address, port), "{address}:{port}");
        }
    }
    for (cidr, metadata) in [
        ("169.254.169.254/32", "169.254.0.0/16"),
        ("169.254.0.0/16", "169.254.0.0/16"),
        ("fd00:ec2::254/128", "fd00:ec2::/32"),
        ("168.63.129.16/32", "168.63.129.16/32"),
    ] {
        let error = try_policy(
            json!([{ "cidr": "10.0.0.0/8", "ports": [1] }, { "cidr": cidr, "ports": [80] }]),
        );
        let EgressError::Metadata { index, metadata: found, .. } = error.unwrap_err() else {
            panic!("{cidr}")
        };
        assert_eq!((index, found), (1, metadata));
    }
}

#[test]
fn what_is_listed_replaces_the_default() {
    let policy = policy(json!([
        { "cidr": "10.0.7.9/24", "ports": [8443] },
        { "namespaceLabels": { "kubernetes.io/metadata.name": "sekisho" },
          "podLabels": { "app": "gate" }, "ports": [443] }
    ]));
    assert!(reaches(&policy, "10.0.7.200", 8443));
    assert!(!reaches(&policy, "10.0.8.1", 8443));
    assert!(!reaches(&policy, "140.82.121.4", 443));
    // As the API server wants it: without the bits of a host.
    assert_eq!(policy["spec"]["egress"][1]["to"][0]["ipBlock"]["cidr"], "10.0.7.0/24");
    assert_eq!(
        policy["spec"]["egress"][2]["to"],
        json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "sekisho" } },
                 "podSelector": { "matchLabels": { "app": "gate" } } }])
    );
}

#[test]
fn nobody_connects_to_a_runner_and_it_asks_the_clusters_dns() {
    let policy = policy(json!([]));
    let spec = &policy["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec.get("ingress"), None);
    assert_eq!(
        spec["podSelector"],
        json!({ "matchLabels": { "runners.sekisho.dev/deployment": "image-build" } })
    );
    assert_eq!(spec["egress"][0]["to"][0]["podSelector"]["matchLabels"]["k8s-app"], "kube-dns");
    assert_eq!(
        spec["egress"][0]["ports"],
        json!([{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }])
    );
    let owner = &policy["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&json!("RunnerDeployment"), &json!("deployment-uid"))
    );
    assert_eq!(policy["metadata"]["labels"]["runners.sekisho.dev/trust-zone"], "fork-pull-request");
}

/// Nobody connects to the pods, and they connect to what is listed and never to the machine's credentials.
#[track_caller]
fn shields(policy: &Value) {
    let spec = &policy["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec.get("ingress"), None);
    assert_eq!(
        spec["podSelector"]["matchLabels"],
        json!({ "runners.sekisho.dev/deployment": "image-build" })
    );
    for rule in spec["egress"].as_array().unwrap() {
        for part in ["to", "ports"] {
            let listed = rule[part].as_array().is_some_and(|all| !all.is_empty());
            assert!(listed, "a rule without `{part}` is open to all: {rule}");
        }
    }
    for address in METADATA {
        for port in [80, 443] {
            assert!(!reaches(policy, address, port), "{address}:{port}");
        }
    }
}

/// The test above is worth something: make a hole, and it fails.
#[test]
fn each_hole_in_the_shield_is_missed() {
    let open = json!([{ "cidr": "0.0.0.0/0", "ports": [80] }, { "cidr": "::/0", "ports": [80] }]);
    for whole in [policy(json!([])), policy(open)] {
        shields(&whole);
        let holes = [
            ("/spec/policyTypes", json!(["Ingress"])),
            ("/spec/policyTypes", json!(["Egress"])),
            ("/spec/ingress", json!([{}])),
            ("/spec/podSelector/matchLabels", json!({ "another": "pod" })),
            ("/spec/egress/0", json!({})),
            ("/spec/egress/0/to", Value::Null),
            ("/spec/egress/1/ports", Value::Null),
            ("/spec/egress/1/to/0/ipBlock/except", json!([])),
        ];
        for (place, hole) in holes {
            let mut policy = whole.clone();
            match policy.pointer_mut(place) {
                Some(there) => *there = hole.clone(),
                None => policy["spec"]["ingress"] = hole.clone(),
            }
            let passes = std::panic::catch_unwind(|| shields(&policy)).is_ok();
            assert!(!passes, "nobody misses {place}, which is {hole}");
        }
    }
}

#[test]
fn no_network_is_told() {
    for cidr in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129"] {
        let error = try_policy(json!([{ "cidr": cidr, "ports": [1] }])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("RunnerClass: egress 0: `{cidr}` is no network, for example 10.0.7.0/24")
        );
    }
}
