//! Golden bases, of a mirror that `SEKISHO_TEST_DEBIAN_MIRROR` names.

use std::sync::Arc;

use sekisho_builder::{BaseOptions, BuildError, DebianOptions, base};
use sekisho_types::Hint as _;

use crate::world::{World, cached, launcher};

/// None when no mirror is named: tests go nowhere by themselves.
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn mirror() -> Option<DebianOptions> {
    let mirror = std::env::var_os("SEKISHO_TEST_DEBIAN_MIRROR");
    if mirror.is_none() {
        println!("skipped: needs SEKISHO_TEST_DEBIAN_MIRROR");
    }
    let mirror = Some(mirror?.into_string().unwrap());
    Some(DebianOptions { mirror, allow_expired: true, ..DebianOptions::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn bookworm_is_made_once_is_the_same_again_and_installs_packages() {
    made_once_the_same_again_and_usable("bookworm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trixie_is_made_once_is_the_same_again_and_installs_packages() {
    made_once_the_same_again_and_usable("trixie").await;
}

async fn made_once_the_same_again_and_usable(suite: &str) {
    let Some(debian) = mirror() else { return };
    let world = World::new().await;
    world.dockerfile(&format!(
        "FROM sekisho.local/debian:{suite}\n\
         RUN apt-get update && apt-get install -y --no-install-recommends tini && \
         useradd --create-home app && chown app:app /srv && tini --version\n\
         RUN stat -c %U:%G /srv /home/app && su app -c 'id -un' && ls /etc/apt/sources.list.d | wc -l",
    ));
    let build = async || {
        let mut options = world.options();
        options.debian = debian.clone();
        match world.try_build(options).await {
            Ok(result) => result,
            Err(error) => panic!("{error:?}\n{}", world.log().join("\n")),
        }
    };
    let first = build().await;
    let log = world.log();
    let end: Vec<_> = log[log.len() - 4..].iter().map(String::as_str).collect();
    assert_eq!(end, ["app:app", "app:app", "app", "1"]);
    let made = &first.bases[0];
    let names: Vec<_> = made.packages.iter().map(|package| package.name.as_str()).collect();
    for name in ["apt", "base-files", "bash", "dpkg", "libc6", "perl-base"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(!names.contains(&"systemd"), "{names:?}");
    assert_eq!(cached(&build().await), "ccc");
    // No mirror's name is in the base, and owners are the distribution's.
    let layer = world.layer(&first.layers[0].digest);
    assert!(
        !layer.iter().any(|line| line.starts_with("etc/apt/sources.list.d/")),
        "a source is stored"
    );
    let has = |wanted: &str| layer.iter().any(|line| line.starts_with(wanted));
    assert!(has("etc/shadow f640 0:42 "), "shadow is not of the group shadow");
    assert!(has("usr/bin/passwd f4755 0:0 "), "passwd is not setuid");
    assert!(has("bin l777 0:0 usr/bin"), "usr is not merged");
    // Another folder, and so another moment: the same bytes.
    let dir = tempfile::tempdir().unwrap();
    let options = BaseOptions {
        cache_dir: dir.path().to_owned(),
        launcher: launcher(),
        debian,
        cancel: Default::default(),
    };
    let progress: Arc<dyn sekisho_builder::Progress> = Arc::new(sekisho_builder::Silent);
    let again =
        base::make(options.clone(), suite.into(), false, Arc::clone(&progress)).await.unwrap();
    assert_eq!(again.manifest_digest, made.manifest_digest);
    assert_eq!(base::list(dir.path()).unwrap(), std::slice::from_ref(&again));
    let same = base::make(options, suite.into(), true, progress).await.unwrap();
    assert_eq!(same, again);
    println_digest(suite, &again.manifest_digest);
    world.assert_clean();
}

#[expect(clippy::print_stdout, reason = "root and an ordinary user can be compared by it")]
fn println_digest(suite: &str, digest: &sekisho_types::Digest) {
    println!("base of {suite} {digest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_says_why_and_what_to_do() {
    let world = World::new().await;
    let empty = tempfile::tempdir().unwrap();
    let mut options = world.options();
    options.debian.apt_dir = empty.path().to_owned();
    world.dockerfile("FROM sekisho.local/debian:trixie\nRUN true");
    let error = world.try_build(options).await.unwrap_err();
    let BuildError::Base { line: 1, source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "no archive of Debian `trixie` is known on this machine");
    assert!(error.hint().unwrap().contains("--mirror"), "{error:?}");
    // A RUN would see the password.
    let mut options = world.options();
    options.debian.mirror = Some("http://ann:hush@m.example/debian".to_owned());
    let error = world.try_build(options).await.unwrap_err();
    let BuildError::Base { line: 1, source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(
        source.to_string(),
        "the address of the mirror on `m.example` holds a name or a password"
    );
    assert!(error.hint().unwrap().contains("wants no password"), "{error:?}");
    assert!(!format!("{error:?} {:?}", world.log()).contains("hush"));
    let error = world.fail("FROM sekisho.local/debian:sid\nRUN true").await;
    assert!(error.to_string().contains("there is no such base"), "{error}");
}
