//! `docs/operator.md`, from an empty cluster to the first job and away again: every command and every
//! manifest of its walk, as it is printed there, on a real API server. The hub's address stands where
//! GitHub's does; scheduler, kubelets and runners are played, and what a Deployment starts is started here.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use sekisho_hub::App;
use serde_json::{Value, json};
use testkit::{Cluster, ClusterOptions, RealServer};
use tokio::sync::Semaphore;

use crate::cluster::{GitHub, Runners, kubeconfig, until};
use crate::support::{Said, Started, World};

/// What stands on the page for something of the reader's own, and what it is here.
const IMAGE: &str = "registry.example/sekisho@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const CLIENT: &str = "Iv23liTest";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is printed between two headings: indented blocks, and the commands within sentences.
struct Walk {
    blocks: VecDeque<String>,
    inline: Vec<String>,
}

impl Walk {
    fn read() -> Self {
        let page = fs_err::read_to_string(repository().join("docs/operator.md")).unwrap();
        let begin = page.find("## From an empty cluster").unwrap();
        let end = page.find("\n## Classes").unwrap();
        let (walk, later) = (&page[begin..end], &page[page.find("## When something").unwrap()..]);
        let mut blocks = VecDeque::new();
        for paragraph in walk.split("\n\n") {
            if paragraph.lines().all(|line| line.starts_with("    ")) {
                let indent = paragraph.len() - paragraph.trim_start().len();
                let lines: Vec<&str> = paragraph.lines().map(|line| &line[indent..]).collect();
                blocks.push_back(lines.join("\n"));
            }
        }
        let spans = walk.split('`').skip(1).step_by(2).chain(later.split('`').skip(1).step_by(2));
        let inline = spans.filter(|it| it.starts_with("kubectl ")).map(str::to_owned).collect();
        Self { blocks, inline }
    }

    /// The next block, which begins so: the page and this test go on together.
    #[track_caller]
    fn next(&mut self, begins: &str) -> String {
        let block = self.blocks.pop_front().unwrap_or_default();
        assert!(block.starts_with(begins), "`{begins}` is awaited, and the page has:\n{block}");
        block
    }

    /// A command within a sentence.
    #[track_caller]
    fn inline(&mut self, begins: &str) -> String {
        let at = self.inline.iter().position(|it| it.starts_with(begins));
        self.inline.remove(at.unwrap_or_else(|| panic!("`{begins}` is not on the page")))
    }
}

/// The reader's machine.
struct Reader {
    world: World,
    github: GitHub,
    server: RealServer,
    kubeconfig: PathBuf,
}

impl Reader {
    async fn new(server: RealServer) -> Self {
        let world = World::new();
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let public_key = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
        let permissions = [("organization_self_hosted_runners".to_owned(), "write".to_owned())];
        let github = GitHub::start(&world, |config| {
            config.app = Some(App {
                id: 7,
                client_id: CLIENT.to_owned(),
                public_key,
                permissions: permissions.into(),
                installations: [(1, "acme".to_owned())].into(),
            });
        })
        .await;
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        fs_err::write(world.folder.path().join("key.pem"), pem.as_bytes()).unwrap();
        let deploy = world.folder.path().join("deploy");
        std::os::unix::fs::symlink(repository().join("deploy"), deploy).unwrap();
        let (url, token) = server.access();
        let kubeconfig = kubeconfig(&world, "kubeconfig", &url, &json!({ "token": token }));
        Self { world, github, server, kubeconfig }
    }

    /// What he writes in the place of what is not his.
    fn his(&self, text: &str) -> String {
        text.replace("REGISTRY/sekisho@sha256:…", IMAGE)
            .replace("--image …", &format!("--image {IMAGE}"))
            .replace("https://github.com/acme", &format!("{}/acme", self.github.url))
            .replace("Iv23…", CLIENT)
            .replace("NAME", "image-build")
    }

    /// Types it into his shell.
    async fn types(&self, text: &str) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_sekisho")).parent().unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-ec", &self.his(text)])
            .current_dir(self.world.folder.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", program.display()))
            .env("HOME", self.world.folder.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap();
        let said = Said::of(output.unwrap());
        assert_eq!(
            said.code,
            Some(0),
            "{text}\nstdout:\n{}\nstderr:\n{}",
            said.stdout,
            said.stderr
        );
        said.stdout
    }

    /// Applies a manifest of the page.
    async fn applies(&self, manifest: &str) -> String {
        self.types(&format!("kubectl apply -f - <<'END'\n{manifest}\nEND")).await
    }

    async fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.types(command).await).unwrap()
    }

    /// What the Deployment's pod does, with the rights of its account and no others.
    async fn operator(&self) -> Started {
        let get = "kubectl -n sekisho-system get deployment sekisho-operator -o json";
        let deployment = self.json(get).await;
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], IMAGE);
        let arguments = pod["containers"][0]["args"].as_array().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|it| it.as_str().unwrap()).collect();
        let (url, token) = self.server.access();
        let account = pod["serviceAccountName"].as_str().unwrap();
        let account = format!("system:serviceaccount:sekisho-system:{account}");
        let user = json!({ "token": token, "as": account });
        let kubeconfig = kubeconfig(&self.world, "operator", &url, &user);
        // Of a pod's own, every port is free.
        let here = |argument: &&str| argument.replace("0.0.0.0:8080", "127.0.0.1:0");
        let arguments: Vec<String> = arguments.iter().map(here).collect();
        let mut command =
            self.world.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        Started::new(command.env("KUBECONFIG", kubeconfig).stderr(Stdio::null()))
    }
}

const WORKFLOW: &str =
    "on: push\njobs:\n  image: { runs-on: image-build, steps: [{ run: 'true' }] }\n";

/// Whether there is a kubectl, and a real API server.
async fn reader() -> Option<Reader> {
    // Another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubectl = Command::new("kubectl").arg("--help").stdout(Stdio::null()).status();
    if !kubectl.is_ok_and(|status| status.success()) {
        #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("skipped: there is no kubectl");
        }
        return None;
    }
    let server = RealServer::start_empty().await.unwrap()?;
    Some(Reader::new(server).await)
}

/// Away, in the order of the page.
async fn goes_away(reader: &Reader, walk: &mut Walk, operator: Started) {
    let away = walk.next("kubectl delete rdeploy --all --all-namespaces");
    let (first, then) = away.split_once('\n').unwrap();
    reader.types(first).await;
    // The lease is the last.
    until("nothing that is left", async || {
        let left = reader.json("kubectl get rn,pods,leases -n sekisho-runners -o json").await;
        (left["items"] == json!([])).then_some(())
    })
    .await;
    let runners = reader.github.get("/api/v3/orgs/acme/actions/runners").await;
    assert_eq!(runners["total_count"], 0, "{runners}");
    drop(operator);
    reader.types(then).await;
    let namespaces = reader.types("kubectl get namespaces -o name").await;
    assert!(!namespaces.contains("sekisho"), "{namespaces}");
    let definitions = reader.types("kubectl get crd -o name").await;
    assert_eq!(definitions, "");
    assert_eq!(walk.blocks, VecDeque::<String>::new(), "what nobody has walked");
    let rest: Vec<&String> = walk.inline.iter().filter(|it| !is_about_a_pod(it)).collect();
    assert_eq!(rest, Vec::<&String>::new(), "what nobody has walked");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_the_page_leads_from_an_empty_cluster_to_the_first_job_and_away() {
    let Some(reader) = reader().await else { return };
    let mut walk = Walk::read();

    // 1. Install.
    let install = walk.next("sekisho operator render");
    reader.types(&install).await;
    let runners = Arc::new(Semaphore::new(0));
    let played = Arc::new(Runners(Arc::clone(&runners)));
    let client = reader.server.client().unwrap();
    let cluster = Cluster::start(client, ClusterOptions::default(), played).await.unwrap();
    // 2. Classes.
    let classes = walk.inline("kubectl apply --server-side -k deploy/classes");
    let said = reader.types(&classes).await;
    for class in ["default", "cpu", "memory"] {
        assert!(said.contains(&format!("runnerclass.runners.sekisho.dev/{class} ")), "{said}");
    }
    // 3. Sign in.
    let secret = walk.next("kubectl -n sekisho-runners create secret");
    reader.types(&secret).await;
    reader.applies(&walk.next("apiVersion: runners.sekisho.dev")).await;
    // 4. Take jobs.
    reader.applies(&walk.next("apiVersion: runners.sekisho.dev")).await;
    let operator = reader.operator().await;
    let page = reader.github.push(&reader.world, WORKFLOW).await;
    let look = walk.inline("kubectl get rdeploy,rn -A");
    let looked = until("a job on its runner", async || {
        let said = reader.types(&look).await;
        said.contains(" Busy").then_some(said)
    })
    .await;
    assert!(looked.contains("image-build") && looked.contains("sekisho-runners"), "{looked}");
    // A status is written once a second at most.
    let describe = walk_describe(&mut walk);
    until("a condition with a reason", async || {
        let said = reader.types(&describe).await;
        (said.contains("Conditions:") && said.contains("AllRunnersReady")).then_some(())
    })
    .await;
    for of_another_namespace in ["kubectl get rn", "kubectl get runners", "kubectl get events"] {
        assert_eq!(reader.types(&walk.inline(of_another_namespace)).await, "");
    }
    runners.add_permits(1);
    let run = page.rsplit('/').next().unwrap();
    until("the end of the job", async || {
        let run = reader.github.get(&format!("/_hub/v1/runs/{run}")).await;
        (run["conclusion"] == "success").then_some(())
    })
    .await;

    // Webhooks, and an upgrade: the same again is nothing new.
    reader.types(&walk.next("kubectl -n sekisho-runners patch ghc acme")).await;
    until("a condition that misses its secret", async || {
        let get = "kubectl -n sekisho-runners get ghc acme -o json";
        let conditions = reader.json(get).await["status"]["conditions"].clone();
        let all = conditions.as_array()?;
        all.iter().any(|it| it["reason"] == "SecretNotFound").then_some(())
    })
    .await;
    let generation = "kubectl -n sekisho-system get deployment sekisho-operator \
                      -o jsonpath={.metadata.generation}";
    let before = reader.types(generation).await;
    reader.types(&install).await;
    assert_eq!(reader.types(generation).await, before);
    // The other way to install has the same objects.
    let kustomized = walk.inline("kubectl apply --server-side -k deploy/base");
    reader.types(&format!("{kustomized} --dry-run=server --force-conflicts")).await;

    goes_away(&reader, &mut walk, operator).await;
    drop(cluster);
}

/// `describe`, in the namespace of the walk.
fn walk_describe(walk: &mut Walk) -> String {
    format!("{} -n sekisho-runners", walk.inline("kubectl describe rdeploy NAME"))
}

/// Kubelets serve logs, and there is none.
fn is_about_a_pod(command: &str) -> bool {
    command.starts_with("kubectl logs ")
}
