//! `deploy/gate` and `deploy/promoter` at a real API server: what their pages say to type, as it is printed there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
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

/// Who keeps a cluster, in a folder beside `deploy`.
struct Keeper {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

impl Keeper {
    fn types(&self, text: &str, input: &Value) -> Said {
        let program = Path::new(env!("CARGO_BIN_EXE_sekisho")).parent().unwrap();
        let mut shell = Command::new("sh")
            .args(["-ec", text])
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", program.display()))
            .env("HOME", &self.folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What does not read it is gone before that.
        let _ = shell.stdin.take().unwrap().write_all(input.to_string().as_bytes());
        Said::of(shell.wait_with_output().unwrap())
    }

    fn get(&self, what: &str) -> Value {
        let said = self.types(&format!("kubectl -n sekisho-gate get {what} -o json"), &Value::Null);
        assert_eq!(said.code, Some(0), "{what}: {}", said.stderr);
        serde_json::from_str(&said.stdout).unwrap()
    }

    /// Whether the namespace, which takes restricted pods alone, takes this one.
    fn create(&self, pod: &Value) -> Said {
        self.types("kubectl -n sekisho-gate create --dry-run=server -f -", pod)
    }
}

/// A pod of a deployment.
fn pod_of(template: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "one", "labels": template["metadata"]["labels"] },
        "spec": template["spec"],
    })
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
    let keeper = Keeper { folder: world.folder.path().to_owned(), kubeconfig };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    std::os::unix::fs::symlink(deploy, keeper.folder.join("deploy")).unwrap();
    for (page, begins) in [
        ("gate-serve.md", "sekisho gate keys"),
        ("gate-serve.md", "kubectl apply"),
        ("promoter.md", "kubectl -n sekisho-gate create configmap"),
    ] {
        let block = blocks(page).into_iter().find(|it| it.starts_with(begins));
        let said = keeper.types(&block.unwrap(), &Value::Null);
        assert_eq!(said.code, Some(0), "{begins}\n{}\n{}", said.stdout, said.stderr);
        // Fields that the server does not know, and pods that the namespace would not have.
        assert!(!said.stderr.contains("Warning"), "{}", said.stderr);
    }
    gate(&keeper);
    promoter(&keeper);
}

fn gate(keeper: &Keeper) {
    let deployment = keeper.get("deployment sekisho-gate");
    let pod = &deployment["spec"]["template"];
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let named = |kind: &str, field: &str| {
        let name = volumes.iter().find_map(|it| it[kind][field].as_str());
        name.unwrap_or_else(|| panic!("no {kind}")).to_owned()
    };
    let files = keeper.get(&format!("configmap {}", named("configMap", "name")));
    let files: Vec<&String> = files["data"].as_object().unwrap().keys().collect();
    assert_eq!(files, ["gate.toml", "issuers.toml", "storage.toml"]);
    let keys = keeper.get(&format!("secret {}", named("secret", "secretName")));
    let keys = keys["data"].as_object().unwrap();
    for key in ["decisions.pk8", "fingerprints.key", "session.pk8"] {
        assert!(keys.contains_key(key), "{key}: {:?}", keys.keys());
    }
    let budget = keeper.get("poddisruptionbudget sekisho-gate");
    let service = keeper.get("service sekisho-gate");
    let labels = &pod["metadata"]["labels"];
    for selector in [&budget["spec"]["selector"]["matchLabels"], &service["spec"]["selector"]] {
        assert_eq!(selector, labels);
    }
    let mut one = pod_of(pod);
    let said = keeper.create(&one);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    one["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let said = keeper.create(&one);
    assert_eq!(said.code, Some(1), "{}", said.stdout);
    assert!(said.stderr.contains("violates PodSecurity \"restricted"), "{}", said.stderr);
}

/// It has the public half of the gate's key, its own file, and nothing else of the gate's.
fn promoter(keeper: &Keeper) {
    let (gate, promoter) =
        (keeper.get("deployment sekisho-gate"), keeper.get("deployment sekisho-promoter"));
    let (gate, promoter) = (&gate["spec"]["template"], &promoter["spec"]["template"]);
    let public = keeper.get("configmap sekisho-gate-public-keys");
    let public: Vec<&String> = public["data"].as_object().unwrap().keys().collect();
    assert!(public.len() == 1 && public[0].ends_with(".pub"), "{public:?}");
    assert!(!promoter["spec"]["volumes"].to_string().contains("secret"));
    assert_ne!(promoter["spec"]["serviceAccountName"], gate["spec"]["serviceAccountName"]);
    let service = keeper.get("service sekisho-promoter");
    let policy = keeper.get("networkpolicy sekisho-promoter");
    for selector in [&service["spec"]["selector"], &policy["spec"]["podSelector"]["matchLabels"]] {
        assert_eq!(*selector, promoter["metadata"]["labels"]);
    }
    let from = &policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(*from, gate["metadata"]["labels"]);
    let said = keeper.create(&pod_of(promoter));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}
