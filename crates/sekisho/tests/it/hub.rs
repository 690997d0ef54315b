//! `sekisho hub probe`: against the plane that is up, and against servers that are wrong.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use crate::support::World;

/// A server that answers everything with `status` and an empty object.
fn wrong_server(status: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/acme", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 8192]);
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{{}}").as_bytes());
        }
    });
    url
}

fn outcomes<'a>(answer: &'a Value, outcome: &str) -> Vec<&'a str> {
    let rows = answer["assumptions"].as_array().unwrap();
    let wanted = rows.iter().filter(|row| row["outcome"] == outcome);
    wanted.map(|row| row["id"].as_str().unwrap()).collect()
}

#[test]
fn a_server_that_is_wrong_is_told_row_by_row() {
    let world = World::new();
    let token = world.folder.path().join("token");
    fs_err::write(&token, "secret-of-the-test\n").unwrap();
    let token = token.display().to_string();
    let url = wrong_server("200 OK");
    let probe = ["hub", "probe", &url, "--token-file", &token];
    let said = world.sekisho(&[&probe[..], &["--output", "json"]].concat()).exits(1);
    let answer = said.json();
    assert_eq!((&answer["schemaVersion"], &answer["url"]), (&1.into(), &url.clone().into()));
    let broken = outcomes(&answer, "broken");
    assert!(broken.contains(&"rest.anonymous") && broken.contains(&"registration.token"));
    assert_eq!(outcomes(&answer, "held"), ["rest.credential", "rest.token-scheme"]);
    assert!(outcomes(&answer, "skipped").contains(&"jit.made"));
    let row = &answer["assumptions"][3];
    assert_eq!(
        (&row["id"], &row["seen"]),
        (&"rest.anonymous".into(), &"status 200, not 401".into())
    );
    assert!(!said.stdout.contains("secret-of-the-test"));

    let said = world.sekisho(&probe).exits(1);
    assert!(said.stdout.contains("broken  rest.anonymous "), "{}", said.stdout);
    assert!(said.stdout.contains("status 200, not 401"), "{}", said.stdout);
    said.says(&["2 held, "]);
}

#[test]
fn what_cannot_be_probed_says_what_to_do() {
    let world = World::new();
    world.sekisho(&["hub", "probe"]).exits(1).says(&["no plane is up", "sekisho up"]);
    let nobody = ["hub", "probe", "https://github.example/acme"];
    world.sekisho(&nobody).exits(1).says(&["no credential", "--token-file"]);
    world.sekisho(&["hub", "probe", "https://github.com/a/b/c"]).exits(1);
    let key = world.folder.path().join("key");
    fs_err::write(&key, "no key").unwrap();
    let key = key.display().to_string();
    let app = ["hub", "probe", "https://github.example/acme", "--app", "1", "--app-key", &key];
    world.sekisho(&app).exits(1).says(&["no RSA private key"]);
    let half = ["hub", "probe", "https://github.example/acme", "--app", "1"];
    world.sekisho(&half).exits(2);
}

#[test]
fn the_plane_that_is_up_holds_what_is_assumed() {
    let world = World::new();
    let up = world.up();
    let probe = ["hub", "probe", "sekisho/pipeline", "--changes", "--output", "json"];
    let answer = world.sekisho(&probe).exits(0).json();
    assert_eq!(outcomes(&answer, "broken"), [""; 0]);
    assert_eq!(answer["url"], format!("{}/sekisho/pipeline", up.url));
    // The plane has that repository from the start.
    let held = outcomes(&answer, "held");
    assert!(held.contains(&"jit.blob") && held.contains(&"registration.tenant"), "{held:?}");
    assert_eq!(up.stop(), 0);
    world.nothing_is_left();
}

/// Asks the plane, and gives the status and the answer.
fn ask(world: &World, method: &str, path: &str, auth: &str, body: &Value) -> (u16, Value) {
    let plane: Value =
        serde_json::from_slice(&fs_err::read(world.data().join("plane.json")).unwrap()).unwrap();
    let auth = auth.replace("ADMIN", plane["admin_token"].as_str().unwrap());
    let url = plane["url"].as_str().unwrap().trim_end_matches('/').to_owned();
    let host = url.strip_prefix("http://").unwrap();
    let body = body.to_string().replace("PLANE", &url);
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: test\r\nauthorization: {auth}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Status of an acquisition of jobs, by a listener of its own.
fn acquisition(world: &World) -> u16 {
    let admin = "Bearer ADMIN";
    let path = "/api/v3/orgs/acme/actions/runners/registration-token";
    let (_, made) = ask(world, "POST", path, admin, &json!({}));
    let token = format!("RemoteAuth {}", made["token"].as_str().unwrap());
    let body = json!({"url": "PLANE/acme", "runner_event": "register"});
    let (_, made) = ask(world, "POST", "/api/v3/actions/runner-registration", &token, &body);
    let tenant = format!("Bearer {}", made["token"].as_str().unwrap());
    let sets = "/_tenant/_apis/runtime/runnerscalesets";
    let (_, set) = ask(world, "POST", sets, &tenant, &json!({"name": "gpu"}));
    let set = format!("{sets}/{}", set["id"]);
    let (_, session) =
        ask(world, "POST", &format!("{set}/sessions"), &tenant, &json!({"ownerName": "me"}));
    let queue = format!("Bearer {}", session["messageQueueAccessToken"].as_str().unwrap());
    ask(world, "POST", &format!("{set}/acquirejobs"), &queue, &json!([1])).0
}

#[test]
fn a_plane_for_tests_of_clients_says_so_at_its_start() {
    let plan =
        json!({"rules": [{"fault": {"kind": "session_conflict"}, "call": "create_session"}]});
    let arm = |world: &World| ask(world, "PUT", "/_hub/v1/faults", "Bearer ADMIN", &plan).0;
    let world = World::new();
    let up = world.up();
    assert_eq!((arm(&world), acquisition(&world)), (404, 404));
    assert_eq!(up.stop(), 0);
    let world = World::new();
    let up = world.up_with(&["--fault-switches", "--assignment", "explicit"]);
    assert_eq!((acquisition(&world), arm(&world)), (200, 204));
    let (_, struck) = ask(&world, "GET", "/_hub/v1/faults", "Bearer ADMIN", &json!({}));
    assert_eq!(struck, json!({"struck": []}));
    assert_eq!(up.stop(), 0);
}
