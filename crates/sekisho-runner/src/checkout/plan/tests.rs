use super::*;

const SHA: &str = "0123456789012345678901234567890123456789";

fn facts() -> Facts {
    Facts {
        workspace: PathBuf::from("/w/app/app"),
        server_url: "http://127.0.0.1:1".to_owned(),
        repository: "acme/app".to_owned(),
        git_ref: "refs/heads/main".to_owned(),
        sha: SHA.to_owned(),
        has_token: true,
    }
}

fn with(inputs: &[(&str, &str)]) -> Result<CheckoutPlan, PlanError> {
    let inputs: Vec<_> = inputs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    plan(&inputs, &facts())
}

#[test]
fn without_inputs_the_exact_commit_is_taken() {
    let plan = with(&[]).unwrap();
    assert_eq!(plan.url, "http://127.0.0.1:1/acme/app");
    assert_eq!(plan.origin, "http://127.0.0.1:1");
    assert_eq!(plan.folder, Path::new("/w/app/app"));
    assert!(plan.clean && plan.persist_credentials);
    let fetch = plan.fetch().join(" ");
    assert!(fetch.ends_with(&format!(
        "--no-tags --prune --no-recurse-submodules --depth=1 origin +{SHA}:refs/remotes/origin/main"
    )), "{fetch}");
    assert!(plan.checkout(None).join(" ").ends_with(&format!("--no-track -B main {SHA}")));
}

#[test]
fn refs_of_all_kinds() {
    let check = |git_ref, fetch: &str, checkout: &str| {
        let plan = with(&[("ref", git_ref)]).unwrap();
        let (got, found) = (plan.fetch().join(" "), format!("refs/heads/{git_ref}"));
        assert!(got.ends_with(fetch), "{got}");
        let found = matches!(plan.target, Target::Name(_)).then_some(found.as_str());
        let got = plan.checkout(found).join(" ");
        assert!(got.ends_with(checkout), "{got}");
    };
    check("refs/tags/v1", "origin +refs/tags/v1:refs/tags/v1", "--detach refs/tags/v1");
    check(SHA, &format!("origin {SHA}"), &format!("--detach {SHA}"));
    check("dev", "+refs/tags/dev*:refs/tags/dev*", "-B dev refs/remotes/origin/dev");
    check(
        "refs/pull/3/merge",
        "+refs/pull/3/merge:refs/remotes/pull/3/merge",
        "--detach refs/remotes/pull/3/merge",
    );
    let all = with(&[("fetch-depth", "0")]).unwrap().fetch().join(" ");
    assert!(all.contains("+refs/heads/*:refs/remotes/origin/*") && !all.contains("--depth"));
    let other = with(&[("repository", "acme/lib")]).unwrap();
    assert_eq!(
        (other.url.as_str(), &other.target),
        ("http://127.0.0.1:1/acme/lib", &Target::Default)
    );
}

#[test]
fn what_cannot_be_done_is_an_error_and_what_is_unknown_a_warning() {
    for (name, value) in [("submodules", "recursive"), ("lfs", "true"), ("ssh-key", "x")] {
        let want = PlanError::NotSupported { name: name.to_owned() };
        assert_eq!(with(&[(name, value)]), Err(want));
    }
    for (name, value) in [
        ("repository", "../x"),
        ("repository", "a/-b"),
        ("ref", "-x"),
        ("ref", "a b"),
        ("ref", "a..b"),
        ("path", "../x"),
        ("path", "/etc"),
        ("fetch-depth", "-1"),
        ("clean", "maybe"),
    ] {
        assert!(matches!(with(&[(name, value)]), Err(PlanError::Wrong { .. })), "{name}={value}");
    }
    assert!(with(&[("github-server-url", "ssh://x")]).is_err());
    assert!(with(&[("github-server-url", "http://u:p@x")]).is_err());
    let plan = with(&[("lfs", "false"), ("Surprise", "1"), ("path", "./a/b")]).unwrap();
    assert_eq!(plan.unknown, ["surprise"]);
    assert_eq!(plan.folder, Path::new("/w/app/app/a/b"));
}

proptest::proptest! {
    #[test]
    fn no_input_becomes_an_option(value in "[ -~]{0,20}") {
        for name in ["ref", "repository", "path"] {
            if let Ok(plan) = with(&[(name, &value)]) {
                let fetch = plan.fetch();
                let at = fetch.iter().position(|arg| arg == "origin").unwrap();
                assert!(fetch[at + 1..].iter().all(|arg| !arg.starts_with('-')), "{fetch:?}");
                assert!(plan.folder.starts_with("/w/app/app"));
            }
        }
    }
}
