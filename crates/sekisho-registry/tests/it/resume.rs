//! Links that are cut, registries that send parts, mirrors, helpers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use sekisho_oci::Descriptor;
use sekisho_oci::media_type::OCI_LAYER;
use sekisho_registry::{Client, Keyring, Options, RegistryError};
use sekisho_types::Digest;

use crate::fake::{Fake, Wants};
use crate::{client, repository};

fn blob() -> Vec<u8> {
    (0..200_000u32).flat_map(u32::to_be_bytes).collect()
}

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
async fn pull(fake: &Fake, client: &Client, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let digest = fake.blob(bytes);
    let want = Descriptor::new(OCI_LAYER, digest, bytes.len() as u64);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    let pulled = client.pull_blob(&repository(&fake.host, "a/b"), &want, &file).await;
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, usize::from(pulled.is_ok()), "nothing else is left");
    pulled.map(|()| fs::read(file).unwrap())
}

#[tokio::test]
async fn a_cut_link_goes_on_where_it_was_cut() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    // More cuts than attempts: each brought something.
    fake.change(|world| {
        world.ranges = true;
        world.cuts = [100_000, 50_000, 90_000, 200_000, 70_000].into();
    });
    assert!(pull(&fake, &client, &blob()).await.unwrap() == blob());
    let seen = fake.world.lock().unwrap().ranges_seen.clone();
    assert_eq!((seen.len(), &seen[0]), (6, &None), "{seen:?}");
    // How much of what was sent arrives before the cut is the kernel's affair.
    let starts: Vec<u64> = seen[1..]
        .iter()
        .map(|range| {
            let range = range.as_deref().unwrap().strip_prefix("bytes=").unwrap();
            range.strip_suffix("-799999").unwrap().parse().unwrap()
        })
        .collect();
    assert!(starts[0] > 0 && starts.is_sorted(), "each goes on where the last was cut: {starts:?}");
}

#[tokio::test]
async fn without_ranges_it_begins_again() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    fake.change(|world| world.cuts = [100_000, 300_000].into());
    assert!(pull(&fake, &client, &blob()).await.unwrap() == blob());
    // A link that is cut at its beginning each time is given up.
    fake.change(|world| world.cuts = [0, 0, 0, 0].into());
    let mut other = blob();
    other[0] = 1;
    let error = pull(&fake, &client, &other).await.unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
}

#[tokio::test]
async fn a_large_blob_comes_in_parts() {
    let fake = Fake::start().await;
    drop(client(Keyring::anonymous()));
    let options = Options { ranged_bytes_min: 1000, attempts_max: 3, ..Options::default() };
    let client = Client::with_options(Keyring::anonymous(), options);
    fake.change(|world| {
        world.ranges = true;
        world.cuts = [1 << 20, 10_000].into();
    });
    assert!(pull(&fake, &client, &blob()).await.unwrap() == blob());
    let mut seen: Vec<_> =
        fake.world.lock().unwrap().ranges_seen.iter().flatten().cloned().collect();
    seen.sort();
    assert_eq!(seen.len(), 5, "four parts, one of them twice: {seen:?}");
    for start in ["bytes=0-199999", "bytes=200000-", "bytes=400000-", "bytes=600000-"] {
        assert!(seen.iter().any(|range| range.starts_with(start)), "{seen:?}");
    }
    // One that sends all of it at once is taken as it is.
    fake.change(|world| world.ranges = false);
    assert!(pull(&fake, &client, &blob()).await.unwrap() == blob());
    // One that sends another part than it was asked for is not believed.
    fake.change(|world| (world.ranges, world.lie) = (true, Some("bytes 5-10/800000")));
    let error = pull(&fake, &client, &blob()).await.unwrap_err();
    let want = "it was asked for bytes 0 to 200000 and sends `bytes 5-10/800000`";
    assert!(error.to_string().ends_with(want), "{error}");
}

#[tokio::test]
async fn parts_are_held_to_the_digest() {
    let fake = Fake::start().await;
    drop(client(Keyring::anonymous()));
    let options = Options { ranged_bytes_min: 1000, attempts_max: 1, ..Options::default() };
    let client = Client::with_options(Keyring::anonymous(), options);
    let lie = Digest::sha256(b"lie");
    fake.change(|world| {
        world.ranges = true;
        world.blobs.insert(lie.to_string(), blob());
    });
    let want = Descriptor::new(OCI_LAYER, lie, blob().len() as u64);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    let error = client.pull_blob(&repository(&fake.host, "a/b"), &want, &file).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    assert!(!file.exists());
}

#[tokio::test]
async fn mirrors_are_asked_first_and_not_believed() {
    let (origin, liar, mirror) = (Fake::start().await, Fake::start().await, Fake::start().await);
    drop(client(Keyring::anonymous()));
    let mirrors = vec![liar.host.clone(), format!("http://{}", mirror.host)];
    let options = Options {
        mirrors: [(origin.host.clone(), mirrors)].into(),
        attempts_max: 1,
        answer_deadline: Duration::from_secs(5),
        ..Options::default()
    };
    let client = Client::with_options(Keyring::anonymous(), options);
    let digest = mirror.blob(&blob());
    liar.change(|world| drop(world.blobs.insert(digest.to_string(), vec![0; blob().len()])));
    let want = Descriptor::new(OCI_LAYER, digest, blob().len() as u64);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    let target = repository(&origin.host, "a/b");
    client.pull_blob(&target, &want, &file).await.unwrap();
    assert!(fs::read(&file).unwrap() == blob());
    assert_eq!((liar.count("GET"), mirror.count("GET"), origin.count("GET")), (1, 1, 0));
    let own = origin.blob(b"only here");
    let want = Descriptor::new(OCI_LAYER, own, 9);
    client.pull_blob(&target, &want, &file).await.unwrap();
    assert_eq!((mirror.count("GET"), origin.count("GET")), (2, 1));
}

#[tokio::test]
async fn helpers_are_asked_by_their_protocol() {
    let fake = Fake::start().await;
    drop(client(Keyring::anonymous()));
    fake.change(|world| world.wants = Wants::Basic("Basic bWU6cHc="));
    let digest = fake.blob(b"x");
    let folder = tempfile::tempdir().unwrap();
    let helper = |name: &str, script: &str| {
        let path = folder.path().join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let asked = folder.path().join("asked");
    helper(
        "good",
        &format!(
            "echo \"$@\" > {0}; cat >> {0}\necho '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"pw\"}}'",
            asked.display()
        ),
    );
    helper("none", "echo 'credentials not found in native keychain'; exit 1");
    helper("bad", "echo 'my secret is pw'; exit 3");
    helper("slow", "sleep 60");
    helper("loud", "head -c 100000 /dev/zero");
    let ask = async |name: &str| {
        let config = format!(r#"{{"credHelpers":{{"{}":"{name}"}}}}"#, fake.host);
        let keyring = Keyring::from_docker_config(config.as_bytes()).unwrap();
        let options = Options {
            helpers_dir: Some(folder.path().to_owned()),
            answer_deadline: Duration::from_secs(2),
            attempts_max: 1,
            ..Options::default()
        };
        let client = Client::with_options(keyring, options);
        let target = repository(&fake.host, "a/b");
        client.has_blob(&target, &digest).await.map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.unwrap_or_else(|| error.to_string())
        })
    };
    assert_eq!(ask("good").await, Ok(Some(1)));
    assert_eq!(fs::read_to_string(&asked).unwrap(), format!("get\n{}\n", fake.host));
    for (name, want) in [
        ("none", "not authorised"),
        ("bad", "failed with exit status: 3"),
        ("slow", "did not answer within 2 s"),
        ("loud", "answers with more than 65536 bytes"),
        ("missing", "cannot be started"),
        ("../x", "has a name that is none"),
    ] {
        let error = ask(name).await.unwrap_err();
        assert!(error.contains(want) && !error.contains("secret is"), "{name}: {error}");
    }
    fake.change(|world| world.wants = Wants::Token { proof: "idtoken", expires_in: 300 });
    helper("token", "echo '{\"Username\":\"<token>\",\"Secret\":\"idtoken\"}'");
    assert_eq!(ask("token").await, Ok(Some(1)), "an identity token is exchanged");
}
