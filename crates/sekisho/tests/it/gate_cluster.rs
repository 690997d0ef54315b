//! `deploy/gate` and `deploy/promoter` at a real API server: what their pages say to type, as it is printed there.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testkit::RealServer;

use crate::cluster::kubeconfig;
use crate::support::{Said, World, skipped};

/// A page's blocks of commands.
fn blocks(page: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let page = fs_err::read_to_string(page).unwrap();
    let indented = |text: &&str| text.lines().all(|line| line.starts_with("    "));
    let plain = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    page.split("\n\n").filter(indented).map(plain).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_takes_a_gate_and_its_pods_are_restricted() {
    if Command::new("kubectl").arg("help").output().is_err() {
        return skipped("kubectl");
    }
    let Some(server) = RealServer::start_empty().await.unwrap() else { return };
    let world = World::new();
    let (url, token) = server.access();
    let kubeconfig = kubeconfig(&world, "kubeconfig", &url, &json!({ "token": token }));
    let folder = world.folder.path().to_owned();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    std::os::unix::fs::symlink(deploy, folder.join("deploy")).unwrap();
    let types = |text: &str, input: &Value| {
        let program = Path::new(env!("CARGO_BIN_EXE_sekisho")).parent().unwrap();
        let mut shell = Command::new("sh")
            .args(["-ec", text])
            .current_dir(&folder)
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", program.display()))
            .env("HOME", &folder)
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What does not read it is gone before that.
        let _ = shell.stdin.take().unwrap().write_all(input.to_string().as_bytes());
        Said::of(shell.wait_with_output().unwrap())
    };
    let json_of = |what: &str| -> Value {
        let said = types(&format!("kubectl -n sekisho-gate get {what} -o json"), &Value::Null);
        assert_eq!(said.code, Some(0), "{what}: {}", said.stderr);
        serde_json::from_str(&said.stdout).unwrap()
    };

    for (page, begins) in [
        ("gate-serve.md", "sekisho gate keys"),
        ("gate-serve.md", "kubectl apply"),
        ("promoter.md", "kubectl -n sekisho-gate create configmap"),
    ] {
        let block = blocks(page).into_iter().find(|it| it.starts_with(begins));
        let said = types(&block.unwrap(), &Value::Null);
        assert_eq!(said.code, Some(0), "{begins}\n{}\n{}", said.stdout, said.stderr);
        // Fields that the server does not know, and pods that the namespace would not have.
        assert!(!said.stderr.contains("Warning"), "{}", said.stderr);
    }

    let deployment = json_of("deployment sekisho-gate");
    let pod = &deployment["spec"]["template"];
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let named = |kind: &str, field: &str| {
        let name = volumes.iter().find_map(|it| it[kind][field].as_str());
        name.unwrap_or_else(|| panic!("no {kind}")).to_owned()
    };
    let files = json_of(&format!("configmap {}", named("configMap", "name")));
    let files: Vec<&String> = files["data"].as_object().unwrap().keys().collect();
    assert_eq!(files, ["gate.toml", "issuers.toml", "storage.toml"]);
    let keys = json_of(&format!("secret {}", named("secret", "secretName")));
    let keys = keys["data"].as_object().unwrap();
    for key in ["decisions.pk8", "fingerprints.key", "session.pk8"] {
        assert!(keys.contains_key(key), "{key}: {:?}", keys.keys());
    }
    let budget = json_of("poddisruptionbudget sekisho-gate");
    let service = json_of("service sekisho-gate");
    let labels = &pod["metadata"]["labels"];
    for selector in [&budget["spec"]["selector"]["matchLabels"], &service["spec"]["selector"]] {
        assert_eq!(selector, labels);
    }

    // The promoter has the public half of the gate's key, its own file, and nothing else of the gate's.
    let promoter = json_of("deployment sekisho-promoter");
    let promoter = &promoter["spec"]["template"];
    let public = json_of("configmap sekisho-gate-public-keys");
    let public: Vec<&String> = public["data"].as_object().unwrap().keys().collect();
    assert!(public.len() == 1 && public[0].ends_with(".pub"), "{public:?}");
    let service = json_of("service sekisho-promoter");
    let policy = json_of("networkpolicy sekisho-promoter");
    for selector in [&service["spec"]["selector"], &policy["spec"]["podSelector"]["matchLabels"]] {
        assert_eq!(*selector, promoter["metadata"]["labels"]);
    }
    let from = &policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(from, labels);
    assert!(!promoter["spec"]["volumes"].to_string().contains("secret"));
    assert_ne!(promoter["spec"]["serviceAccountName"], pod["spec"]["serviceAccountName"]);

    // The namespace takes restricted pods alone, and these are.
    let pod_of = |template: &Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "one", "labels": template["metadata"]["labels"] },
            "spec": template["spec"],
        })
    };
    let said = types("kubectl -n sekisho-gate create --dry-run=server -f -", &pod_of(promoter));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let mut one = pod_of(pod);
    let create = "kubectl -n sekisho-gate create --dry-run=server -f -";
    let said = types(create, &one);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    one["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let said = types(create, &one);
    assert_eq!(said.code, Some(1), "{}", said.stdout);
    assert!(said.stderr.contains("violates PodSecurity \"restricted"), "{}", said.stderr);
}
