use super::*;

fn installation(permissions: &[(&str, &str)], only: Option<&[&str]>) -> Caller {
    let text = |(name, access): &(&str, &str)| ((*name).to_owned(), (*access).to_owned());
    Caller::Installation(InstallationClaims {
        installation: 1,
        account: "acme".to_owned(),
        repositories: only.map(|names| names.iter().map(|n| (*n).to_owned()).collect()),
        permissions: permissions.iter().map(text).collect(),
    })
}

#[track_caller]
fn check(caller: &Caller, method: Method, path: &str, want: u16) {
    let got = decide(caller, &target(&method, path)).map_or_else(|e| e.0.as_u16(), |()| 200);
    assert_eq!(got, want, "{caller:?} {method} {path}");
}

fn job(permissions: &[(&str, &str)]) -> Caller {
    let text = |(name, access): &(&str, &str)| ((*name).to_owned(), (*access).to_owned());
    let permissions = permissions.iter().map(text).collect();
    Caller::Job(GithubClaims { repository: "acme/app".to_owned(), permissions, run: 1, job: 1 })
}

#[test]
fn a_job_may_what_its_permissions_say() {
    let (pulls, pull) = ("/repos/acme/app/pulls", "/repos/acme/app/pulls/1");
    let merge = "/repos/acme/app/pulls/1/merge";
    let reads = job(&[("pull_requests", "read")]);
    check(&reads, Method::GET, pulls, 200);
    check(&reads, Method::GET, "/repos/acme/other/pulls", 404);
    check(&reads, Method::POST, pulls, 403);
    check(&reads, Method::GET, "/repos/acme/app/actions/runs", 403);
    let writes = job(&[("pull_requests", "write")]);
    check(&writes, Method::POST, pulls, 200);
    check(&writes, Method::PATCH, pull, 200);
    // What it puts into the base is content.
    check(&writes, Method::PUT, merge, 403);
    check(&job(&[("contents", "write")]), Method::PUT, merge, 200);
    check(&job(&[("contents", "write")]), Method::PATCH, pull, 403);
    check(&job(&[("actions", "write")]), Method::POST, "/repos/acme/app/actions/runs/1/rerun", 200);
}

#[test]
fn who_may_what() {
    let runners = "/repos/acme/app/actions/runners";
    let jit = "/repos/acme/app/actions/runners/generate-jitconfig";
    let all = installation(
        &[("administration", "write"), ("actions", "read"), ("contents", "read")],
        None,
    );
    check(&all, Method::POST, jit, 200);
    check(&all, Method::GET, "/repos/Acme/App/actions/runs", 200);
    check(&all, Method::POST, "/repos/acme/app/actions/runs/1/rerun", 403);
    check(&all, Method::GET, "/repos/other/app/actions/runs", 404);
    check(&all, Method::GET, "/orgs/acme/actions/runners", 403);
    check(&all, Method::GET, "/orgs/acme/repos", 200);
    let fleet = installation(&[("organization_self_hosted_runners", "write")], None);
    check(&fleet, Method::GET, "/orgs/acme/actions/runners", 200);
    for path in ["runners", "runner-groups", "runners/7", "runners/registration-token"] {
        let path = format!("/enterprises/acme/actions/{path}");
        check(&fleet, Method::GET, &path, 404);
        check(&fleet, Method::POST, &path, 404);
    }
    check(&all, Method::POST, "/repos/acme/app/pulls", 403);
    check(
        &installation(&[("pull_requests", "write")], None),
        Method::POST,
        "/repos/acme/app/pulls",
        200,
    );
    check(&all, Method::GET, "/orgs/other/repos", 404);
    check(&all, Method::GET, "/repos/acme/app/hooks", 403);
    check(&all, Method::GET, "/app", 401);
    check(&all, Method::GET, "/rate_limit", 200);
    let one = installation(&[("administration", "read")], Some(&["acme/app"]));
    check(&one, Method::GET, runners, 200);
    check(&one, Method::POST, jit, 403);
    check(&one, Method::GET, "/repos/acme/other/actions/runners", 404);
    let job = job(&[("actions", "read"), ("contents", "read")]);
    check(&job, Method::GET, "/repos/acme/app/actions/runs", 200);
    check(&job, Method::GET, "/repos/acme/other/actions/runs", 404);
    check(&job, Method::POST, "/repos/acme/app/actions/runs/1/cancel", 403);
    check(&job, Method::GET, "/repos/acme/app/contents/a", 200);
    check(&job, Method::GET, "/repos/acme/app/pulls", 403);
    check(&job, Method::GET, runners, 403);
    check(&job, Method::POST, jit, 403);
    let registrar = |remove| Caller::Registrar { scope: "repos/acme/app".to_owned(), remove };
    check(&registrar(false), Method::GET, runners, 200);
    check(&registrar(false), Method::GET, "/repos/acme/app/actions/runner-groups", 200);
    check(&registrar(false), Method::DELETE, "/repos/acme/app/actions/runners/7", 403);
    check(&registrar(true), Method::DELETE, "/repos/acme/app/actions/runners/7", 200);
    check(&registrar(true), Method::DELETE, "/repos/acme/other/actions/runners/7", 404);
    check(&registrar(false), Method::POST, jit, 401);
    for remove in [false, true] {
        let groups = "/repos/acme/app/actions/runner-groups";
        check(&registrar(remove), Method::POST, groups, 401);
        check(&registrar(remove), Method::POST, runners, 401);
        check(&registrar(remove), Method::DELETE, &format!("{groups}/2"), 401);
        check(&registrar(remove), Method::PUT, &format!("{runners}/7"), 401);
        check(&registrar(remove), Method::GET, &format!("{runners}/7"), 200);
    }
    check(&registrar(false), Method::GET, "/repos/acme/app/actions/runs", 401);
    check(&Caller::App, Method::GET, "/app", 200);
    check(&Caller::App, Method::GET, "/repos/acme/app/installation", 200);
    check(&Caller::App, Method::GET, "/repos/acme/app/actions/runs", 401);
    check(&Caller::Admin, Method::GET, "/app", 200);
}

#[test]
fn who_may_read_what_is_in_a_repository() {
    let app = installation(&[("contents", "read"), ("pull_requests", "write")], None);
    let one = installation(&[("contents", "read")], Some(&["acme/app"]));
    let blind = installation(&[("pull_requests", "write")], None);
    let job = job(&[("contents", "write")]);
    for (caller, [own, beside, foreign]) in [
        (&Caller::Admin, [true, true, true]),
        (&app, [true, true, false]),
        (&one, [true, false, false]),
        (&blind, [false, false, false]),
        (&job, [true, false, false]),
        (&Caller::App, [false, false, false]),
    ] {
        let read =
            ["acme/app", "Acme/web", "other/app"].map(|name| reads(caller, &name.parse().unwrap()));
        assert_eq!(read, [own, beside, foreign], "{caller:?}");
    }
}
