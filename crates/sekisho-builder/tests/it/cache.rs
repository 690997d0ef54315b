//! What is a hit, what is not, and that the same inputs give the same bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use sekisho_builder::{BuildResult, Event, Silent, build};

use crate::world::{World, cached, touch};

const DOCKERFILE: &str = "FROM BASE\nARG A=1\nWORKDIR /app\nCOPY lock ./\nRUN cat lock > made\n\
                          COPY src src\nENV B=$A\nRUN echo $B > last";

async fn start() -> World {
    let world = World::with_base().await;
    world.file("lock", "1");
    world.file("src/a", "a");
    world.file("src/d/b", "b");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn second_build_does_nothing() {
    let world = start().await;
    let first = world.build(DOCKERFILE).await;
    assert_eq!(cached(&first), "-c----c-");
    let second = world.build(DOCKERFILE).await;
    assert_eq!(cached(&second), "cccccccc");
    assert_eq!(first.manifest_digest, second.manifest_digest);
    world.assert_clean();
}

/// The steps are FROM, ARG, WORKDIR, COPY, RUN, COPY, ENV, RUN.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_decides_what_is_run() {
    let world = start().await;
    let first = world.build(DOCKERFILE).await;
    assert_eq!(cached(&first), "-c----c-");
    let again = async |what: &str, want: &str| {
        let result = world.build(DOCKERFILE).await;
        assert_eq!(cached(&result), want, "{what}");
        result
    };
    again("nothing", "cccccccc").await;
    touch(&world.context(), 1_234_567);
    again("times of files", "cccccccc").await;
    world.file("other", "x");
    again("a file that is not copied", "cccccccc").await;
    world.file("src/a", "changed");
    again("content of a late COPY", "ccccc-c-").await;
    world.file("src/a", "a");
    let back = again("and back", "cccccccc").await;
    assert_eq!(back.manifest_digest, first.manifest_digest);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(world.context().join("src/a"), mode).unwrap();
    again("a mode", "ccccc-c-").await;
    world.file("src/a", "a");
    world.file("lock", "2");
    again("an early file", "ccc---c-").await;
}

/// A file is not read again while its inode says that it is as it was; what it says cannot be made up.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_dated_back_is_read() {
    let world = World::with_base().await;
    world.file("a", "one");
    world.file("b", "b");
    // Only what lay still for some seconds is remembered.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let text = "FROM BASE\nCOPY a /\nCOPY b /";
    let first = world.build(text).await;
    let remembered = || fs::read_dir(world.cache().join("lay")).unwrap().count();
    assert_eq!(remembered(), 2, "how the files of each COPY lay");
    assert_eq!(cached(&world.build(text).await), "ccc");

    let dated = fs::metadata(world.context().join("a")).unwrap().modified().unwrap();
    fs::write(world.context().join("a"), "two").unwrap();
    fs::File::open(world.context().join("a")).unwrap().set_modified(dated).unwrap();
    let second = world.build(text).await;
    assert_eq!(cached(&second), "c--");
    assert_ne!(first.manifest_digest, second.manifest_digest);

    // Another file in its place, of the same size and time.
    fs::write(world.context().join("new"), "one").unwrap();
    fs::rename(world.context().join("new"), world.context().join("a")).unwrap();
    fs::File::open(world.context().join("a")).unwrap().set_modified(dated).unwrap();
    let third = world.build(text).await;
    assert_eq!(third.manifest_digest, first.manifest_digest);

    // What is written down of them may be lost or broken.
    for entry in fs::read_dir(world.cache().join("lay")).unwrap() {
        fs::write(entry.unwrap().path(), "[[").unwrap();
    }
    assert_eq!(cached(&world.build(text).await), "ccc");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_results_join_again() {
    let world = start().await;
    // A change that ends in the same layer as before is not seen further down.
    let text = "FROM BASE\nRUN echo same > /same\nRUN echo end > /end";
    let first = world.build(text).await;
    let other = text.replacen("echo same", "true; echo same", 1);
    let second = world.build(&other).await;
    assert_eq!(cached(&second), "c-c");
    assert_eq!(first.layers, second.layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_count_where_they_are_seen() {
    let world = start().await;
    let text =
        "FROM BASE\nRUN echo before > /1\nARG A\nRUN echo $A > /2\nRUN echo $http_proxy > /3";
    world.dockerfile(text);
    let with = async |a: &str, proxy: &str| -> BuildResult {
        let mut options = world.options();
        options.build_args.insert("A".to_owned(), a.to_owned());
        options.build_args.insert("http_proxy".to_owned(), proxy.to_owned());
        world.try_build(options).await.unwrap()
    };
    with("1", "p").await;
    assert_eq!(cached(&with("1", "p").await), "ccccc");
    assert_eq!(cached(&with("1", "q").await), "ccccc", "a proxy is no input");
    assert_eq!(cached(&with("2", "p").await), "ccc--");
    world.dockerfile("FROM BASE\nARG http_proxy\nRUN echo $http_proxy > /3");
    with("1", "p").await;
    assert_eq!(cached(&with("1", "q").await), "cc-", "an ARG makes it one");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_runs_everything_and_remembers() {
    let world = start().await;
    let first = world.build(DOCKERFILE).await;
    let mut options = world.options();
    options.no_cache = true;
    let second = world.try_build(options).await.unwrap();
    assert_eq!(cached(&second), "cc----c-");
    assert_eq!(first.manifest_digest, second.manifest_digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn same_inputs_same_bytes_anywhere() {
    let world = start().await;
    let first = world.build(DOCKERFILE).await;
    touch(&world.context(), 99);
    let mut options = world.options();
    options.cache_dir = world.dir.path().join("another-cache");
    let second = world.try_build(options).await.unwrap();
    assert_eq!(first.manifest_digest, second.manifest_digest);
    let mut options = world.options();
    options.cache_dir = world.dir.path().join("third-cache");
    options.created = 1_700_000_000;
    let third = world.try_build(options).await.unwrap();
    assert_ne!(first.manifest_digest, third.manifest_digest, "the config tells the time");
    assert_eq!(first.layers, third.layers, "the layers do not");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_layers_are_made_again() {
    let world = start().await;
    let first = world.build(DOCKERFILE).await;
    let last = first.layers.last().unwrap();
    fs::remove_file(world.cache().join("blobs/sha256").join(last.digest.hex())).unwrap();
    let second = world.build(DOCKERFILE).await;
    assert_eq!(cached(&second), "ccccccc-");
    assert_eq!(first.manifest_digest, second.manifest_digest);
    // Trees and indexes can always be had from the layers.
    for folder in ["trees-privileged", "trees-single-id-2", "indexes-2"] {
        let path = world.cache().join(folder);
        sekisho_sandbox::remove_tree(&path).unwrap();
    }
    let text = format!("{DOCKERFILE}\nRUN cat last made src/d/b");
    let third = world.build(&text).await;
    assert_eq!(cached(&third), "cccccccc-");
    assert_eq!(world.log(), ["1", "1b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_share_a_cache_at_once() {
    let world = start().await;
    world.dockerfile(DOCKERFILE);
    let all = async || {
        let one = build(world.options(), Arc::new(Silent));
        let two = build(world.options(), Arc::new(Silent));
        let three = build(world.options(), Arc::new(Silent));
        let (one, two, three) = tokio::join!(one, two, three);
        [one, two, three].map(|result| result.unwrap().manifest_digest)
    };
    let digests = all().await;
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    // Also where all of them find what is damaged.
    halve(&world, "indexes-2");
    halve(&world, "results");
    let again = all().await;
    assert!(again.iter().all(|digest| *digest == digests[0]), "{again:?} {digests:?}");
    world.assert_clean();
}

/// Cuts everything in a folder of the cache short.
fn halve(world: &World, folder: &str) {
    for entry in fs::read_dir(world.cache().join(folder)).unwrap().flatten() {
        let bytes = fs::read(entry.path()).unwrap();
        fs::write(entry.path(), &bytes[..bytes.len() / 2]).unwrap();
    }
}

/// Of how many blobs it was told that they were there before, and of how many that they were not.
fn pushed(world: &World) -> (usize, usize) {
    let events = world.events.0.lock().unwrap();
    let existed: Vec<bool> = events
        .iter()
        .filter_map(|event| match event {
            Event::BlobPushed { existed, .. } => Some(*existed),
            _ => None,
        })
        .collect();
    let there = existed.iter().filter(|existed| **existed).count();
    (there, existed.len() - there)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_image_under_a_name_has_is_not_asked_for_one_by_one() {
    let world = start().await;
    world.file("kept", "the same");
    world.dockerfile("FROM BASE\nCOPY kept /kept\nCOPY changes /changes\n");
    let mut options = world.options();
    options.destinations = vec![world.image("app:v1")];
    let build = async |text: &str| {
        world.file("changes", text);
        world.registry.content.lock().unwrap().requests.clear();
        let result = world.try_build(options.clone()).await.unwrap();
        let requests = world.registry.content.lock().unwrap().requests.clone();
        let asked = |request: &&String| request.starts_with("HEAD /v2/app/blobs/");
        (result, requests.iter().filter(asked).count(), world.registry.uploads())
    };
    let (first, asked, _) = build("one").await;
    assert_eq!(asked, first.layers.len() + 1, "nothing is known of a new name");
    let (_, asked, uploads) = build("two").await;
    assert_eq!((asked, uploads), (2, 2), "of the new layer and the new config alone");

    // A registry that lost what it has said to have gets it again.
    let lost = &first.layers[first.layers.len() - 2].digest.to_string();
    let blob = world.registry.content.lock().unwrap().blobs.remove(lost).unwrap();
    let (third, _, uploads) = build("three").await;
    assert_eq!(uploads, 3);
    let content = world.registry.content.lock().unwrap();
    assert_eq!(content.blobs[lost], blob);
    assert_eq!(
        sekisho_types::Digest::sha256(&content.manifests["app:v1"].1),
        third.manifest_digest
    );
    drop(content);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn push_sends_what_is_missing_only() {
    let world = start().await;
    world.dockerfile(DOCKERFILE);
    let mut options = world.options();
    options.destinations = vec![world.image("app:v1")];
    let result = world.try_build(options.clone()).await.unwrap();
    let base = "GET /v2/base/manifests/latest".to_owned();
    let (head, put) =
        ("HEAD /v2/app/manifests/v1".to_owned(), "PUT /v2/app/manifests/v1".to_owned());
    let by_digest = format!("HEAD /v2/app/manifests/{}", result.manifest_digest);
    let asked = async || {
        world.registry.content.lock().unwrap().requests.clear();
        world.try_build(options.clone()).await.unwrap();
        world.registry.content.lock().unwrap().requests.clone()
    };
    assert_eq!(asked().await, [&base, &head].map(String::clone), "all of it is there, by its name");
    let blobs = result.layers.len() + 1;
    assert_eq!(pushed(&world), (blobs, 0));
    world.registry.content.lock().unwrap().decides = true;
    assert_eq!(asked().await, [&base, &head, &put].map(String::clone), "it wants to decide");
    world.registry.content.lock().unwrap().decides = false;
    world.registry.content.lock().unwrap().manifests.remove("app:v1");
    let want = [&base, &head, &by_digest, &put].map(String::clone);
    assert_eq!(asked().await, want, "only its name is missing");
    assert_eq!(pushed(&world), (blobs, 0));
    // A registry that has the manifest, but lost a blob of it, gets it again.
    world.registry.content.lock().unwrap().manifests.remove("app:v1");
    let lost = &result.layers.last().unwrap().digest.to_string();
    let blob = world.registry.content.lock().unwrap().blobs.remove(lost);
    let before = world.registry.uploads();
    world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.registry.uploads(), before + 1);
    assert_eq!(world.registry.content.lock().unwrap().blobs.get(lost), blob.as_ref());
    assert_eq!(pushed(&world), (blobs - 1, 1), "each is told of once");
    // One that does not say whether it has it is asked for each blob.
    world.registry.content.lock().unwrap().no_head = true;
    let before = world.registry.uploads();
    world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.registry.uploads(), before);
    world.registry.content.lock().unwrap().no_head = false;
    let key = "app:v1".to_owned();
    let (kind, bytes) = world.registry.content.lock().unwrap().manifests[&key].clone();
    assert_eq!(kind, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(sekisho_types::Digest::sha256(&bytes), result.manifest_digest);

    // A new machine, nothing to do but metadata: no layer of the base is fetched.
    world.registry.content.lock().unwrap().requests.clear();
    world.dockerfile("FROM BASE\nLABEL only=metadata");
    options.cache_dir = world.dir.path().join("fresh");
    options.destinations = vec![world.image("base:labelled")];
    let result = world.try_build(options).await.unwrap();
    let requests = world.registry.content.lock().unwrap().requests.clone();
    for layer in &result.layers {
        let get = format!("GET /v2/base/blobs/{}", layer.digest);
        assert!(!requests.contains(&get), "{requests:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_things_are_never_used() {
    let world = start().await;
    let first = world.build(DOCKERFILE).await;
    // As after a crash: a session without a living owner, a record cut short, a blob cut short.
    let dead = world.cache().join("tmp/build-dead");
    fs::create_dir_all(dead.join("run-0/work/work")).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    ["results", "indexes-2"].iter().for_each(|folder| halve(&world, folder));
    let last = first.layers.last().unwrap();
    let blob = world.cache().join("blobs/sha256").join(last.digest.hex());
    fs::write(&blob, "short").unwrap();
    let second = world.build(DOCKERFILE).await;
    assert_eq!(first.manifest_digest, second.manifest_digest);
    assert_eq!(fs::metadata(blob).unwrap().len(), last.size_bytes);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn some_stages_may_be_run_again() {
    let world = World::with_base().await;
    let text =
        "FROM BASE AS One\nRUN echo 1 > /1\nFROM BASE\nCOPY --from=one /1 /\nRUN echo 2 > /2";
    let first = world.build(text).await;
    for (filter, want) in [("one", "c-ccc"), ("1", "ccc--"), ("ONE,1", "c-c--"), ("other", "ccccc")]
    {
        let mut options = world.options();
        options.no_cache_filter = filter.split(',').map(str::to_owned).collect();
        let again = world.try_build(options).await.unwrap();
        assert_eq!(cached(&again), want, "{filter}");
        assert_eq!(again.manifest_digest, first.manifest_digest);
    }
}
