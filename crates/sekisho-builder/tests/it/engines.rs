//! Other engines: buildah where it is installed, BuildKit where one answers.

use std::collections::BTreeMap;
use std::process::Command;

use sekisho_builder::{BuildError, BuildOptions, BuildResult, Engine};
use sekisho_oci::layer;

use crate::buildkit::{Daemon, Kind};
use crate::world::{self, World, cached};

const FILE: &str = "FROM scratch AS unused\nCOPY b /b\nFROM scratch AS app\nARG WHO=nobody\n\
    COPY a /d/a\nENV WHO=$WHO\nLABEL of=file\nUSER 7\nCMD [\"/d/a\"]\n";

fn options(world: &World, engine: Engine) -> BuildOptions {
    let mut options = world.options();
    options.engine = engine;
    options.build_args.insert("WHO".to_owned(), "me".to_owned());
    options.labels.insert("from".to_owned(), "outside".to_owned());
    options.destinations = vec![world.image("out")];
    if engine == Engine::Buildah {
        // Where hard limits cannot be raised, and nothing but our process is isolated.
        let limits =
            ["--isolation=chroot", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        options.engine_args = limits.map(str::to_owned).into();
    }
    options
}

/// Files and what is in them; times are each engine's own.
fn files(world: &World, result: &BuildResult) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for made in &result.layers {
        let bytes = world.blob(&made.digest);
        layer::read(bytes.as_slice(), &layer::Limits::default(), &mut |entry, data| {
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes)?;
            if matches!(entry.kind, layer::EntryKind::File { .. }) {
                files.insert(entry.display_path(), String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(())
        })
        .unwrap();
    }
    files
}

/// The same files and the same metadata as our own engine's, also in the registry.
async fn the_same(world: &World, engine: Engine, host: Option<String>) {
    world.file("a", "from the context");
    world.file("b", "not in the image");
    world.file("Dockerfile", FILE);
    let ours = world.try_build(options(world, Engine::Native)).await.unwrap();
    let mut other = options(world, engine);
    other.engine_host = host;
    let theirs = match world.try_build(other).await {
        Ok(theirs) => theirs,
        Err(error) => panic!("{error}\n{}", world.log().join("\n")),
    };
    assert_eq!(files(world, &theirs), files(world, &ours));
    let (one, two) = (world.config(&theirs).config, world.config(&ours).config);
    assert_eq!((&one.env, &one.cmd, &one.user), (&two.env, &two.cmd, &two.user));
    for (name, value) in [("of", "file"), ("from", "outside")] {
        assert_eq!(one.labels.get(name).map(String::as_str), Some(value));
    }
    // What it pushed is an image like any other: the next build starts from it.
    let child = world.build(&format!("FROM {}\nCOPY b /more", world.image("out"))).await;
    assert_eq!(files(world, &child)["d/a"], "from the context");
    assert_eq!(cached(&child), "c-", "its manifest is here");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn buildah_builds_and_its_image_goes_our_way() {
    if Command::new("buildah").arg("info").output().is_ok_and(|said| said.status.success()) {
        the_same(&World::new().await, Engine::Buildah, None).await;
    } else {
        assert!(!world::is_wanted("buildah"), "buildah is wanted, and does not work here");
        eprintln!("skipped: needs buildah, and to be somebody it works for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buildkit_builds_and_its_image_goes_our_way() {
    let world = World::new().await;
    let Some(daemon) = Daemon::start(&world.dir.path().join("daemon")) else { return };
    the_same(&world, Engine::Buildkit, Some(daemon.host())).await;
    // A command of its that fails is told as one of ours.
    world.file("Dockerfile", "FROM scratch\nCOPY missing /\n");
    let mut options = world.options();
    (options.engine, options.engine_host) = (Engine::Buildkit, Some(daemon.host()));
    let error = world.try_build(options).await.unwrap_err();
    let BuildError::StepFailed(failed) = &error else { panic!("{error}") };
    assert!(failed.tail.iter().any(|line| line.contains("missing")), "{:?}", failed.tail);
    world.assert_clean();
}

/// `auto` takes BuildKit for a frontend that is an image, and for what it alone can do.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn auto_takes_buildkit_for_what_it_alone_can_do() {
    let world = World::with_base().await;
    let Some(daemon) = Daemon::start(&world.dir.path().join("daemon")) else { return };
    let mut options = world.options();
    (options.engine, options.engine_host) = (Engine::Auto, Some(daemon.host()));
    let frontend = world.image("no-frontend").to_string();
    world.file("Dockerfile", &format!("# syntax={frontend}\nno language of ours\n"));
    let error = world.try_build(options.clone()).await.unwrap_err();
    let BuildError::StepFailed(failed) = &error else { panic!("{error}") };
    let told = failed.tail.join("\n");
    assert!(told.contains("no-frontend") && told.contains("not found"), "{told}");
    // The same file is refused with its place where nobody but us is asked.
    let mut native = options.clone();
    native.engine = Engine::Native;
    let error = world.try_build(native).await.unwrap_err().to_string();
    assert!(error.starts_with("Dockerfile:1:"), "{error}");
    if daemon.kind != Kind::Buildkitd {
        eprintln!("skipped in part: `RUN --security=insecure` needs a buildkitd of today");
        return;
    }
    world.dockerfile("FROM BASE\nRUN --security=insecure cat /proc/self/status > /caps\n");
    let error = world.try_build(options.clone()).await.unwrap_err().to_string();
    assert!(error.starts_with("Dockerfile:2:1: this RUN needs leave for"), "{error}");
    options.allow.insert(sekisho_builder::Entitlement::SecurityInsecure);
    let built = match world.try_build(options).await {
        Ok(built) => built,
        Err(error) => panic!("{error}\n{}", world.log().join("\n")),
    };
    let status = &files(&world, &built)["caps"];
    let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let caps = u64::from_str_radix(caps.trim(), 16).unwrap();
    assert!(caps & (1 << 21) != 0, "CAP_SYS_ADMIN is among {caps:x}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_is_ours_unless_it_cannot() {
    let world = World::new().await;
    world.file("a", "x");
    world.file("Dockerfile", "FROM scratch\nCOPY a /a\n");
    let mut options = options(&world, Engine::Auto);
    options.labels.clear();
    let built = world.try_build(options.clone()).await.unwrap();
    assert_eq!(cached(&built), "c-", "our own steps");
    // A mistake in what no other engine was asked for is told as ever.
    world.file("Dockerfile", "FROM scratch\nCOPPY a /a\n");
    let error = world.try_build(options).await.unwrap_err().to_string();
    assert!(error.starts_with("Dockerfile:2:1: unknown instruction `COPPY`"), "{error}");
}
