//! The gate of a plane as its keeper has it: what is held, decided, excepted; who may log in; and from
//! where a job's credential works.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{World, eventually, example, finish, has};

const WORKFLOW: &str = "on: push
jobs:
  image:
    permissions: { contents: read, id-token: write }
    uses: sekisho/pipeline/.github/workflows/image.yml@v1
";

const DOCKERFILE: &str = "FROM scratch
COPY os-release /etc/os-release
COPY status /var/lib/dpkg/status
USER 1
";

const OS_RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n";

fn status(package: &str) -> String {
    format!(
        "Package: {package}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n\n"
    )
}

/// A project whose image holds one package of Debian.
pub(crate) fn project(world: &World, name: &str, package: &str) -> String {
    let status = status(package);
    let files = [
        (".github/workflows/image.yml", WORKFLOW),
        ("Dockerfile", DOCKERFILE),
        ("os-release", OS_RELEASE),
        ("status", status.as_str()),
    ];
    world.project(name, &files).to_str().unwrap().to_owned()
}

fn held(world: &World) -> Vec<Value> {
    let said = world.sekisho(&["gate", "quarantine", "list", "--output", "json"]).exits(0);
    said.json()["held"].as_array().unwrap().clone()
}

#[test]
fn what_is_held_is_approved_or_rejected() {
    let world = World::new();
    world.sekisho(&["gate", "quarantine", "list"]).exits(3).says(&["nothing is held"]);
    let said = world.sekisho(&["run", &project(&world, "app", "hydra")]).exits(10);
    said.says(&["HELD BACK", "attack-tools", "held as q-000000000001"]);
    let one = &held(&world)[0];
    assert_eq!((&one["id"], &one["repository"]), (&json!("q-000000000001"), &json!("app")));
    let line = world.sekisho(&["gate", "quarantine", "list"]).exits(0).stdout;
    assert!(line.starts_with("q-000000000001  app:"), "{line}");
    let shown = world.sekisho(&["gate", "quarantine", "show", "q-000000000001"]).exits(0).stdout;
    assert!(shown.contains("pushed by local/app") && shown.contains("attack-tools"), "{shown}");

    let approve = ["gate", "quarantine", "approve", "q-000000000001", "--by", "ann"];
    let approve = [&approve[..], &["--reason", "a tool for our own tests"]].concat();
    world.sekisho(&approve).exits(0).says(&["q-000000000001 approved and promoted"]);
    assert_eq!(held(&world), [] as [Value; 0]);
    let said = world.sekisho(&["policy", "explain", "2", "--output", "json"]).exits(0).json();
    assert_eq!(said["decision"]["verdict"]["decision"], "warn");
    assert_eq!(said["decision"]["approval"]["approver"], "ann");
    assert_eq!(
        (&said["reproduced"], &said["decision"]["repository"]),
        (&json!(true), &json!("app"))
    );
    // Once is enough.
    world.sekisho(&approve).exits(3);

    world.sekisho(&["run", &project(&world, "other", "sqlmap")]).exits(10);
    let id = held(&world)[0]["id"].as_str().unwrap().to_owned();
    let reject = ["gate", "quarantine", "reject", &id, "--by", "bob", "--reason", "not ours"];
    world.sekisho(&reject).exits(0).says(&[&format!("{id} rejected")]);
    assert_eq!(held(&world), [] as [Value; 0]);
    world.sekisho(&["gate", "quarantine", "show", "q-000000000099"]).exits(3);
    // Another run is another push: somebody is asked anew.
    let again = world.sekisho(&["run", &project(&world, "other", "sqlmap")]);
    again.exits(10).says(&["HELD BACK", "held as q-000000000004"]);
}

#[test]
fn decisions_are_verified_and_exported() {
    let world = World::new();
    world.sekisho(&["run", &example("scratch")]).exits(0);
    world.sekisho(&["run", &example("vulnerable")]).exits(10);
    let verify = || world.sekisho(&["gate", "verify", "--output", "json"]);
    let whole = verify().exits(0).json();
    assert_eq!((&whole["records"], &whole["faults"]), (&json!(2), &json!([])));

    for (id, want) in [("000000000001", "PASSED"), ("000000000002", "FAILED")] {
        let said = world.sekisho(&["gate", "export", "vsa", id]).exits(0).json();
        assert_eq!(said["payloadType"], "application/vnd.in-toto+json");
        assert_eq!(said["signatures"].as_array().unwrap().len(), 1);
        let statement = decoded(said["payload"].as_str().unwrap());
        let summary = "https://slsa.dev/verification_summary/v1";
        assert_eq!(statement["predicateType"], summary);
        assert_eq!(statement["predicate"]["verificationResult"], want);
    }
    let none = world.sekisho(&["gate", "export", "vsa", "000000000099"]).exits(3);
    none.says(&["there is no such decision"]);

    // A refusal that somebody turns into leave.
    let path = world.data().join("gate/decisions/000000000002.json");
    let text = fs_err::read_to_string(&path).unwrap();
    assert!(text.contains("\"decision\":\"deny\""));
    fs_err::write(&path, text.replacen("\"decision\":\"deny\"", "\"decision\":\"warn\"", 1))
        .unwrap();
    let faulty = verify().exits(1).json();
    let faults = faulty["faults"].as_array().unwrap();
    assert!(faults.iter().any(|it| it.as_str().unwrap().contains("000000000002")), "{faulty}");
    fs_err::write(&path, text).unwrap();
    verify().exits(0);
    // One that is gone from the chain.
    fs_err::remove_file(world.data().join("gate/decisions/000000000001.json")).unwrap();
    let faulty = verify().exits(1).json();
    let faults = faulty["faults"].as_array().unwrap();
    assert!(faults.iter().any(|it| it.as_str().unwrap().contains("000000000001")), "{faulty}");
}

fn decoded(text: &str) -> Value {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn other_rules_are_compared_and_then_used() {
    let world = World::new();
    let diff = |file: &str| {
        let arguments = ["policy", "diff", "--against", "decisions", "--policies", file];
        world.sekisho(&[&arguments[..], &["--output", "json"]].concat())
    };
    let rules = "@id(\"default-permit\")\npermit (principal, action, resource);\n
@id(\"no-8080\")\n@mode(\"enforce\")\n@message(\"8080 is taken\")\n@fix(\"take another port\")
@docs(\"docs/policies.md\")\nforbid (principal, action == Action::\"ship\", resource)
when { resource.exposed_ports.containsAny([\"8080\", \"8080/tcp\"]) };\n";
    let folder = world.project("rules", &[("new.cedar", rules)]);
    let file = folder.join("new.cedar").display().to_string();
    world.sekisho(&["policy", "diff", "--against", "decisions"]).exits(3);

    world.sekisho(&["run", &example("scratch")]).exits(0);
    let said = diff(&file).exits(0).json();
    assert_eq!((&said["judged"], &said["withoutFacts"]), (&json!(1), &json!(0)));
    let change = &said["changed"][0];
    assert_eq!((&change["before"], &change["after"]), (&json!("warn"), &json!("deny")));
    assert_eq!(change["new"], json!(["no-8080"]));
    let text = world.sekisho(&["policy", "diff", "--against", "decisions", "--policies", &file]);
    let text = text.exits(0).stdout;
    assert!(text.contains("warn -> deny") && text.ends_with("1 of 1 decisions change\n"), "{text}");

    // The plane's own rules from now on.
    world.configure("gate/policies.cedar", rules);
    world.sekisho(&["run", &example("scratch")]).exits(10).says(&["no-8080", "take another port"]);
    let said = diff(&file).exits(0).json();
    assert_eq!((&said["judged"], said["changed"].as_array().unwrap().len()), (&json!(2), 1));
    world.configure(
        "gate/policies.cedar",
        "permit (principal, action, resource) when { principal.x };",
    );
    world.sekisho(&["up", "--port", "0"]).exits(1);
}

#[test]
fn an_exception_lets_one_finding_pass_until_it_ends() {
    let world = World::new();
    let run = || world.sekisho(&["run", &example("vulnerable"), "--output", "json"]);
    let refused = run().exits(10).json();
    let reasons = refused["decisions"][0]["verdict"]["reasons"].as_array().unwrap().clone();
    let enforced = reasons.iter().filter(|reason| reason["mode"] == "enforce");
    let findings: Vec<&Value> =
        enforced.flat_map(|reason| reason["findings"].as_array().unwrap()).collect();
    assert!(!findings.is_empty(), "{reasons:?}");
    for finding in &findings {
        let [advisory, package] = ["id", "package"].map(|name| finding[name].as_str().unwrap());
        let add = ["policy", "exceptions", "add", "--advisory", advisory, "--package", package];
        let more = ["--repository", "vulnerable", "--owner", "web team", "--approver", "ann"];
        let why = ["--reason", "the function is not called", "--days", "30"];
        world.sekisho(&[&add[..], &more, &why].concat()).exits(0);
    }
    let listed =
        world.sekisho(&["policy", "exceptions", "list", "--output", "json"]).exits(0).json();
    let listed = listed["exceptions"].as_array().unwrap();
    assert_eq!(listed.len(), findings.len());
    assert!(listed.iter().all(|one| one["state"] == "in-force" && one["approver"] == "ann"));
    let passed = run().exits(0).json();
    assert_eq!(passed["decisions"][0]["verdict"]["decision"], "warn");

    let first = &listed[0];
    let [advisory, package] = ["advisory", "package"].map(|name| first[name].as_str().unwrap());
    let expire = ["policy", "exceptions", "expire", "--advisory", advisory, "--package", package];
    world.sekisho(&[&expire[..], &["--repository", "vulnerable"]].concat()).exits(0);
    let listed =
        world.sekisho(&["policy", "exceptions", "list", "--output", "json"]).exits(0).json();
    let of = |one: &&Value| one["advisory"] == advisory && one["package"] == package;
    let ended = listed["exceptions"].as_array().unwrap().iter().find(of).unwrap();
    // One of today holds for today, and no longer.
    assert_eq!((&ended["state"], &ended["ends"]), (&json!("in-force"), &ended["approved"]));
    let file = world.data().join("gate/exceptions.toml");
    let text = fs_err::read_to_string(&file).unwrap();
    let past = |line: &str| match line.split_once(" = ") {
        Some((name @ ("approved" | "ends"), _)) => format!("{name} = \"2026-01-05\"\n"),
        _ => format!("{line}\n"),
    };
    fs_err::write(&file, text.lines().map(past).collect::<String>()).unwrap();
    let listed =
        world.sekisho(&["policy", "exceptions", "list", "--output", "json"]).exits(0).json();
    assert!(listed["exceptions"].as_array().unwrap().iter().all(|one| one["state"] == "expired"));
    run().exits(10);
    let unknown = ["policy", "exceptions", "expire", "--advisory", "CVE-1", "--package", "x"];
    world.sekisho(&[&unknown[..], &["--repository", "vulnerable"]].concat()).exits(3);
}

fn add_user(world: &World, name: &str, password: &str) -> crate::support::Said {
    let mut command = world.command(&["gate", "user", "add", name]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    finish(child)
}

#[test]
fn a_user_with_a_password_pushes_with_a_real_client() {
    let world = World::new();
    world.sekisho(&["gate", "user", "list"]).exits(3).says(&["there are no users"]);
    add_user(&world, "ann", "short\n").exits(1).says(&["a password has 8 to 1024 bytes"]);
    add_user(&world, "a/b", "correct horse\n").exits(1).says(&["`a/b` is no name"]);
    add_user(&world, "ann", "correct horse\n").exits(0).says(&["ann pushes to local/ann"]);
    add_user(&world, "bob", "battery staple\n").exits(0);
    let listed = world.sekisho(&["gate", "user", "list"]).exits(0).stdout;
    assert_eq!(listed, "ann  local/ann\nbob  local/bob\n");
    world.sekisho(&["gate", "user", "remove", "bob"]).exits(0);
    world.sekisho(&["gate", "user", "remove", "bob"]).exits(3);
    let file = world.data().join("gate/users.toml");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    if !has("skopeo") {
        return;
    }
    world.sekisho(&["run", &example("scratch")]).exits(0);
    let up = world.up();
    let authfile = world.folder.path().join("auth.json").display().to_string();
    let login = |user: &str, password: &str| {
        let mut child = Command::new("skopeo")
            .args(["login", "--tls-verify=false", "--authfile", &authfile, "--username", user])
            .args(["--password-stdin", up.authority()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    assert!(!login("bob", "battery staple") && !login("ann", "wrong password"));
    assert!(login("ann", "correct horse"));
    let tags = Command::new("skopeo")
        .args(["list-tags", "--tls-verify=false", &format!("docker://{}/scratch", up.authority())])
        .output()
        .unwrap();
    let tags: Value = serde_json::from_slice(&tags.stdout).unwrap();
    let tag = tags["Tags"][0].as_str().unwrap();
    let copy = |to: &str| {
        let from = format!("docker://{}/scratch:{tag}", up.authority());
        let to = format!("docker://{}/{to}:mine", up.authority());
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
            .args(["--dest-tls-verify=false", "--authfile", &authfile, &from, &to])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (pushed, said) = copy("ann/scratch");
    assert!(pushed, "{said}");
    let (pushed, said) = copy("scratch");
    assert!(!pushed && said.contains("own-namespace"), "{said}");
    assert_eq!(up.stop(), 0);
}

/// One job shows its session to the gate; another job, and this test, have it too.
fn lending(folder: &str) -> String {
    let code = "code() { curl -s -o /dev/null -w '%{http_code}' -H \"Authorization: Bearer $token\" \
                \"http://${{ vars.SEKISHO_GATE }}/v2/\"; }";
    format!(
        "on: push
jobs:
  one:
    runs-on: default
    permissions: {{ id-token: write }}
    steps:
      - run: |
          sekisho gate login '${{{{ vars.SEKISHO_GATE }}}}' --docker-config \"$HOME/docker\"
          token=$(sed -n 's/.*\"identitytoken\": *\"\\([^\"]*\\)\".*/\\1/p' \"$HOME/docker/config.json\")
          {code}
          code > {folder}/own
          printf %s \"$token\" > {folder}/token.new
          mv {folder}/token.new {folder}/token
          while [ ! -e {folder}/done ]; do sleep 0.1; done
  two:
    runs-on: default
    steps:
      - run: |
          while [ ! -e {folder}/token ]; do sleep 0.1; done
          token=$(cat {folder}/token)
          {code}
          code > {folder}/other.new
          mv {folder}/other.new {folder}/other
"
    )
}

#[test]
fn a_jobs_session_works_in_that_job_alone() {
    if !has("curl") {
        return;
    }
    let world = World::new();
    let up = world.up();
    let folder = world.folder.path().join("lent");
    fs_err::create_dir_all(&folder).unwrap();
    let workflow = lending(folder.to_str().unwrap());
    let project = world.project("app", &[(".github/workflows/ci.yml", workflow.as_str())]);
    let run = world.command(&["run", project.to_str().unwrap()]).spawn().unwrap();
    eventually("another job used it", || folder.join("other").exists());
    let read = |name: &str| fs_err::read_to_string(folder.join(name)).unwrap();
    let token = read("token");
    assert!(token.starts_with("skg1."), "{token}");
    let ask = || {
        let output = Command::new("curl")
            .args(["-s", "-H", &format!("Authorization: Bearer {token}")])
            .arg(format!("{}/v2/", up.url))
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = &answer["errors"][0];
        (error["code"].clone(), error["message"].clone())
    };
    let elsewhere = (json!("DENIED"), json!("the token was given to a job that runs elsewhere"));
    assert_eq!((read("own"), read("other")), ("200".to_owned(), "403".to_owned()));
    assert_eq!(ask(), elsewhere);
    fs_err::write(folder.join("done"), "").unwrap();
    finish(run).exits(0);
    // The job is over, and so is its session.
    assert_eq!(ask(), elsewhere);
    assert_eq!(up.stop(), 0);
}
