//! The images that Sekisho ships: the recipes of `deploy/images`, built as they are.

use std::fs;
use std::path::PathBuf;

use sekisho_builder::{BuildError, BuildOptions, BuildResult};
use sekisho_types::Digest;

use crate::add::{answer, server};
use crate::world::{World, launcher};

fn recipe(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/images").join(name)
}

/// Options for a recipe, with `programs` as `cargo build` leaves them.
fn options(world: &World, name: &str) -> BuildOptions {
    let programs = world.dir.path().join("programs");
    if !programs.exists() {
        fs::create_dir(&programs).unwrap();
        for program in ["sekisho", "sekisho-runner", "sekisho.d"] {
            fs::write(programs.join(program), format!("program {program}")).unwrap();
        }
    }
    let mut options = BuildOptions::new(recipe(name), world.cache());
    options.launcher = launcher();
    options.add_context("programs", &programs.display().to_string()).unwrap();
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_is_one_program_and_what_it_trusts() {
    let world = World::new().await;
    let authorities = world.dir.path().join("certs");
    fs::create_dir(&authorities).unwrap();
    fs::write(authorities.join("ca-certificates.crt"), "authorities").unwrap();
    fs::write(authorities.join("other.pem"), "x").unwrap();
    let mut options = options(&world, "tool");
    options.add_context("authorities", &authorities.display().to_string()).unwrap();
    options.destinations = vec![world.image("sekisho")];
    let result = world.try_build(options.clone()).await.unwrap();
    let mut lines: Vec<String> =
        result.layers.iter().flat_map(|layer| world.layer(&layer.digest)).collect();
    lines.retain(|line| !line.contains(" d755 0:0"));
    assert_eq!(
        lines,
        [
            "etc/ssl/certs/ca-certificates.crt f644 0:0 authorities",
            "usr/bin/sekisho f755 0:0 program sekisho"
        ]
    );
    let config = world.config(&result).config;
    assert_eq!(config.entrypoint, Some(vec!["/usr/bin/sekisho".to_owned()]));
    assert_eq!(
        (config.user.as_str(), config.env),
        ("65532:65532", vec!["PATH=/usr/bin".to_owned()])
    );
    // The same programs are the same image, wherever and whenever.
    options.cache_dir = world.dir.path().join("another");
    assert_eq!(world.try_build(options).await.unwrap().manifest_digest, result.manifest_digest);
    world.assert_clean();
}

/// A registry with what the recipe asks of Debian: programs that take its arguments and unpack nothing.
async fn with_debian() -> World {
    let world = World::with_base().await;
    for (program, script) in [
        ("apt-get", "echo \"$@\" >> /asked"),
        ("useradd", "echo \"$@\" >> /asked"),
        ("tar", "test \"$1 $3\" = '-xzf -C' && cp \"$2\" \"$4/run.sh\""),
    ] {
        world.file(program, &format!("#!/bin/sh\nset -eu\n{script}\n"));
    }
    world.dockerfile("FROM BASE\nCOPY --chmod=0755 apt-get useradd tar /bin/");
    let mut options = world.options();
    options.destinations = vec![world.image("debian")];
    world.try_build(options).await.unwrap();
    world
}

async fn runner(
    world: &World,
    change: impl FnOnce(&mut BuildOptions),
) -> Result<BuildResult, BuildError> {
    let mut options = options(world, "runner");
    let debian = format!("docker-image://{}", world.image("debian"));
    options.add_context("sekisho.local/debian:bookworm", &debian).unwrap();
    change(&mut options);
    world.try_build(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_made_of_a_golden_base_and_pinned_downloads() {
    let world = with_debian().await;
    let own = runner(&world, |options| options.target = Some("own".to_owned())).await.unwrap();
    let files = world.files(&own);
    assert_eq!(files["usr/local/bin/sekisho-runner"], "program sekisho-runner");
    let asked = &files["asked"];
    assert!(asked.contains(" uidmap ") && asked.contains("--uid 1001 "), "{asked}");
    let config = world.config(&own).config;
    assert_eq!(config.entrypoint, Some(vec!["/usr/local/bin/sekisho-runner".to_owned()]));
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1001:1001", "/home/runner"));

    // GitHub's: nothing without a version and a checksum, and nothing that is not what they name.
    assert!(runner(&world, |_| ()).await.is_err());
    let (host, asked) = server(vec![answer("another"), answer("the runner")]);
    let pinned = |options: &mut BuildOptions| {
        let sum = Digest::sha256(b"the runner").hex().to_owned();
        for (name, value) in [
            ("RUNNER_RELEASES", host.as_str()),
            ("RUNNER_VERSION", "2.336.0"),
            ("RUNNER_SHA256", &sum),
        ] {
            options.build_args.insert(name.to_owned(), value.to_owned());
        }
    };
    let wrong = runner(&world, pinned).await.unwrap_err().to_string();
    assert!(wrong.contains(Digest::sha256(b"the runner").hex()), "{wrong}");
    let made = runner(&world, pinned).await.unwrap();
    let path = "GET /v2.336.0/actions-runner-linux-x64-2.336.0.tar.gz ";
    assert!(asked.join().unwrap().iter().all(|head| head.starts_with(path)));
    let files = world.files(&made);
    assert_eq!(files["home/runner/run.sh"], "the runner");
    assert!(!files.contains_key("runner.tar.gz"), "the archive is in no layer");
    let layers = made.layers.iter().flat_map(|layer| world.layer(&layer.digest));
    let script: Vec<String> = layers.filter(|line| line.contains("home/runner/run.sh")).collect();
    assert!(script[0].contains(" 1001:1001 "), "{script:?}");
    let config = world.config(&made).config;
    assert_eq!(
        (config.user.as_str(), config.cmd),
        ("1001:1001", Some(vec!["/home/runner/run.sh".to_owned()]))
    );
    assert!(config.env.contains(&"RUNNER_MANUALLY_TRAP_SIG=1".to_owned()), "{:?}", config.env);
    world.assert_clean();
}
