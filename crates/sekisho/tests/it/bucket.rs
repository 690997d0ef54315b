//! A plane whose gate keeps everything in a bucket: moto stands for the S3-compatible service.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{World, eventually, example, has, signal};

/// moto's server.
pub(crate) struct Moto(peers::Moto);

impl Moto {
    /// With one bucket, `images`.
    pub(crate) fn start() -> Option<Self> {
        let moto = Self(peers::Moto::start().unwrap()?);
        assert!(moto.ask("PUT", "/images").starts_with("HTTP/1.1 200"));
        Some(moto)
    }

    pub(crate) fn host(&self) -> &str {
        self.0.host()
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.0.host()).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.0.host());
        write!(stream, "{head}Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// The gate's part of a data folder, but for its configuration and its keys.
fn forget(world: &World) {
    for entry in fs_err::read_dir(world.data().join("gate")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs_err::remove_dir_all(path).unwrap();
        }
    }
}

/// Has the plane keep what its gate has in the bucket at an address.
fn storage(world: &World, host: &str, silence_seconds: u64) {
    world.configure("gate/storage.toml", &storage_text(world, host, silence_seconds));
}

/// What `storage.toml` says then; the keys are in a folder of the world.
pub(crate) fn storage_text(world: &World, host: &str, silence_seconds: u64) -> String {
    let secret = world.folder.path().join("secret");
    fs_err::write(&secret, "test\n").unwrap();
    format!(
        "[bucket]\nname = \"images\"\nprefix = \"gate\"\nregion = \"us-east-1\"\n\
         endpoint = \"http://{host}\"\naccess_key_id = \"test\"\n\
         secret_access_key_file = \"{}\"\nkeys_dir = \"{}\"\n\
         silence_seconds = {silence_seconds}\n",
        secret.display(),
        world.folder.path().join("keys").display(),
    )
}

#[test]
fn a_plane_with_a_bucket_outlives_its_disk() {
    let Some(moto) = Moto::start() else { return };
    let world = World::new();
    storage(&world, moto.0.host(), 60);
    // Builds, pushes through the gate, and is judged; one passes and one does not.
    world.sekisho(&["run", &example("scratch")]).exits(0);
    world.sekisho(&["run", &example("vulnerable")]).exits(10);
    let listed = moto.ask("GET", "/images?list-type=2&prefix=gate/upstream/");
    assert!(listed.contains("/content/blobs/sha256/"), "{listed:.1000}");

    let whole = || {
        let said = world.sekisho(&["gate", "verify", "--output", "json"]).exits(0).json();
        assert_eq!((&said["records"], &said["faults"]), (&json!(2), &json!([])));
        let said = world.sekisho(&["policy", "explain", "2", "--output", "json"]).exits(0).json();
        assert_eq!(said["reproduced"], true);
        assert_eq!(said["decision"]["verdict"]["decision"], "deny");
    };
    whole();
    let digest = pull(&world);

    // Another machine: the bucket, the keys and the configuration are all that is left.
    forget(&world);
    whole();
    assert_eq!(pull(&world), digest);
    world.sekisho(&["run", &example("scratch")]).exits(0);
    let said = world.sekisho(&["gate", "verify", "--output", "json"]).exits(0).json();
    assert_eq!((&said["records"], &said["faults"]), (&json!(3), &json!([])));
    let prune = world.sekisho(&["gate", "prune", "--keep-days", "1"]).exits(3);
    prune.says(&["no signed checkpoint is that old"]);
    world.sekisho(&["gate", "prune", "--keep-days", "0"]).exits(2);
}

#[test]
fn a_bucket_that_fell_silent_does_not_keep_the_plane() {
    let Some(moto) = Moto::start() else { return };
    let relay = peers::Relay::before(moto.0.host()).unwrap();
    let world = World::new();
    // Longer than anybody here waits.
    storage(&world, &relay.host(), 3600);
    let mut up = world.up();
    let ask = |tag: &str| {
        let mut stream = TcpStream::connect(up.authority()).unwrap();
        let path = format!("/v2/nobody/app/manifests/{tag}");
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n", up.authority());
        write!(stream, "{head}connection: close\r\n\r\n").unwrap();
        stream
    };
    let mut answer = String::new();
    ask("v1").read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    relay.say(peers::Speech::Nothing);
    let waiting = ask("v2");
    eventually("the bucket was asked", || relay.swallowed() > 0);
    signal(&up.child, "TERM");
    let ended = std::cell::RefCell::new(None);
    let child = std::cell::RefCell::new(&mut up.child);
    eventually("the plane has ended", || {
        *ended.borrow_mut() = child.borrow_mut().try_wait().unwrap();
        ended.borrow().is_some()
    });
    assert_eq!(ended.borrow().and_then(|status| status.code()), Some(0));
    drop(waiting);

    // One that begins says what is wrong.
    storage(&world, &relay.host(), 1);
    let said = world.sekisho(&["up", "--port", "0"]).exits(1);
    said.says(&["opening the gate"]);
}

/// The digest of what a client gets that nobody here wrote; `None` without one.
fn pull(world: &World) -> Option<String> {
    if !has("skopeo") {
        return None;
    }
    let up = world.up();
    let image = format!("docker://{}/scratch", up.authority());
    let skopeo = |arguments: &[&str]| {
        let output = Command::new("skopeo").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let tags: Value =
        serde_json::from_slice(&skopeo(&["list-tags", "--tls-verify=false", &image])).unwrap();
    let image = format!("{image}:{}", tags["Tags"][0].as_str().unwrap());
    let to = format!("dir:{}", tempfile::tempdir_in(world.folder.path()).unwrap().path().display());
    skopeo(&["--insecure-policy", "copy", "--src-tls-verify=false", &image, &to]);
    let format = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &image];
    let digest = String::from_utf8(skopeo(&format)).unwrap();
    assert_eq!(up.stop(), 0);
    Some(digest.trim().to_owned())
}
