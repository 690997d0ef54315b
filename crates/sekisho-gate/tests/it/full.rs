//! A disk that is full, or nearly.

use std::process::{Child, Command, Stdio};

use sekisho_oci::media_type;
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::crash::{BE_A_GATE, Rig, image};
use crate::support::{ADMIN, Options, World, check_error, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";

#[tokio::test]
async fn below_the_reserve_nothing_comes_in_and_reads_go_on() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    let there = world.push_blobs("acme/app", &token, &[FINE], "app").await;
    let mut options = Options::default();
    options.gate.reserve_bytes = u64::MAX;
    let world = world.again(options).await;
    let token = &world.session(json!({})).await;
    for path in ["/v2/acme/app/blobs/uploads/", "/v2/acme/app/blobs/uploads/?digest=sha256:0"] {
        let refused = world.send("POST", path, token).await;
        assert_eq!(header(&refused, "retry-after"), "60");
        let message = check_error(refused, 503, "UNAVAILABLE").await;
        assert!(message.contains("it takes nothing in until there is more"), "{message}");
    }
    assert_eq!(world.send("GET", "/v2/acme/app/manifests/v1", "").await.status(), 200);
    let blob = format!("/v2/acme/app/blobs/{}", Digest::sha256(FINE.as_bytes()));
    assert_eq!(world.send("GET", &blob, "").await.text().await.unwrap(), FINE);
    // What is here already may be ended: that is what the space is kept for.
    let put = world.put_manifest("acme/app/manifests/v2", token, &there).await;
    assert_eq!(put.status(), 201);
}

/// A gate in a process of its own, whose folders are a disk of 8 MiB; `None` where none can be made.
struct Small {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Small {
    fn start(rig: &Rig) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs_err::create_dir_all(&disk).unwrap();
        let config = rig.world.config();
        let keys = config.options.keys_dir.unwrap();
        let (at, keys) = (dir.path().display(), keys.display());
        let told = format!("{}\n{keys}\n{}\n{at}", disk.display(), config.base_url);
        // The mount ends with its namespace, and that with the process.
        let script = "mount -t tmpfs -o size=8m none \"$1\" || exit 99; exec \"$2\" --exact \
                      crash::a_gate_of_its_own --nocapture";
        let mut process = Command::new("unshare")
            .args(["-rm", "sh", "-c", script, "sh"])
            .arg(&disk)
            .arg(std::env::current_exe().unwrap())
            .env(BE_A_GATE, &told)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let port = dir.path().join("port");
        while !port.exists() {
            if let Some(ended) = process.try_wait().unwrap() {
                eprintln!(
                    "skipped: needs to mount a small disk in a namespace of its own ({ended})"
                );
                return None;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let url = format!("http://127.0.0.1:{}", fs_err::read_to_string(&port).unwrap());
        Some(Self { process, url, _dir: dir })
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_said_clearly() {
    let rig = Rig::new();
    let Some(gate) = Small::start(&rig) else { return };
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = |method: &str, path: &str, token: &str, body: Vec<u8>| {
        let method = method.parse().unwrap();
        let request = http.request(method, format!("{}{path}", gate.url)).bearer_auth(token);
        let request = request.header("content-type", media_type::OCI_MANIFEST).body(body);
        rig.runtime.block_on(async {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.bytes().await.unwrap())
        })
    };
    let post = |blob: &[u8]| {
        let path = format!("/v2/acme/app/blobs/uploads/?digest={}", Digest::sha256(blob));
        send("POST", &path, &rig.token, blob.to_vec())
    };
    let good = image(1, true);
    for blob in &good.blobs {
        assert_eq!(post(blob).0, 201);
    }
    let put = |tag: &str, manifest: &[u8]| {
        send("PUT", &format!("/v2/acme/app/manifests/{tag}"), &rig.token, manifest.to_vec())
    };
    assert_eq!(put("v1", &good.manifest).0, 201);

    // Until the disk is full: the first are taken, and then each is refused in the same words.
    let (mut taken, mut refused) = (Vec::new(), 0);
    for number in 0..16_u8 {
        let blob = vec![number; 1024 * 1024];
        let (status, body) = post(&blob);
        if status == 201 {
            taken.push(Digest::sha256(&blob));
            continue;
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["errors"][0]["code"]), (503, &json!("UNAVAILABLE")));
        assert_eq!(body["errors"][0]["message"], "the gate is out of disk space");
        refused += 1;
    }
    assert!(taken.len() >= 4 && refused >= 4, "{} taken, {refused} refused", taken.len());
    // To the last byte.
    while post(&vec![200; 4096]).0 == 201 && refused < 5000 {
        refused += 1;
    }
    for blob in &taken {
        let (status, bytes) =
            send("GET", &format!("/v2/acme/app/blobs/{blob}"), &rig.token, vec![]);
        assert_eq!((status, &Digest::sha256(&bytes)), (200, blob), "an acknowledged blob");
    }
    let (status, manifest) = send("GET", "/v2/acme/app/manifests/v1", &rig.token, vec![]);
    assert_eq!((status, &manifest[..]), (200, &good.manifest[..]));
    // A decision that cannot be written down is none: 503, and the tag is not made.
    let other = image(1, true).manifest;
    let (status, _) = put("v2", &other);
    let (found, named) = send("GET", "/v2/acme/app/manifests/v2", &rig.token, vec![]);
    match status {
        201 => assert_eq!((found, &named[..]), (200, &other[..])),
        _ => assert_eq!((status, found), (503, 404)),
    }
    let (status, body) = send("GET", "/_gate/v1/verify", ADMIN, vec![]);
    let verified: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &verified["faults"]), (200, &json!([])));
}
