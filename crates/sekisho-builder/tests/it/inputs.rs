//! Contexts of every kind, platforms, and what an image can be written as.

use std::fs;
use std::path::Path;
use std::process::Command;

use sekisho_builder::{ContextInput, Output};
use sekisho_oci::layer::{Entry, Writer};

use crate::world::{World, cached};

#[tokio::test(flavor = "multi_thread")]
async fn named_contexts_are_folders_images_layouts_and_stages() {
    let world = World::with_base().await;
    let side = world.dir.path().join("side");
    fs::create_dir(&side).unwrap();
    fs::write(side.join("f"), "side").unwrap();
    fs::write(side.join("no"), "x").unwrap();
    fs::write(side.join(".dockerignore"), "no\n").unwrap();
    let layout = world.dir.path().join("layout");
    world.dockerfile("FROM BASE\nENV FROM_LAYOUT=1\nRUN echo l > /l");
    let mut options = world.options();
    options.outputs = vec![Output::OciDirectory(layout.clone())];
    options.names = vec!["x/y:v1".parse().unwrap()];
    world.try_build(options).await.unwrap();
    world.dockerfile(
        "FROM alpine:3\nCOPY --from=src / /side/\nCOPY --from=base /bin/cat /cat\n\
         COPY --from=other /o /o\nRUN --mount=from=src,target=/m cat /m/f /l && test ! -e /m/no\n\
         FROM scratch AS unused\nFROM BASE AS made\nRUN echo o > /o\nFROM src AS last\nFROM 0",
    );
    let mut options = world.options();
    for (name, value) in [
        ("src", side.display().to_string()),
        ("Alpine:3", format!("oci-layout://{}:v1", layout.display())),
        ("base", format!("docker-image://{}", world.image("base"))),
        ("other", "target:made".to_owned()),
    ] {
        options.add_context(name, &value).unwrap();
    }
    options.target = Some("0".to_owned());
    let result = world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.log(), ["sidel"]);
    let files = world.files(&result);
    assert_eq!((files["side/f"].as_str(), files["o"].as_str()), ("side", "o\n"));
    assert!(files.contains_key("cat") && !files.contains_key("side/no"));
    assert!(world.config(&result).config.env.contains(&"FROM_LAYOUT=1".to_owned()));
    options.target = Some("last".to_owned());
    let last = world.try_build(options).await.unwrap();
    let names: Vec<_> = world.files(&last).into_keys().collect();
    assert_eq!(names, [".dockerignore", "f"], "a folder as a base");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_nothing_is_told_as_such() {
    let world = World::with_base().await;
    let error = world
        .fail("FROM BASE AS build\nFROM scratch\nCOPY --from=127.0.0.1:1/tools /a /a")
        .await
        .to_string();
    let start = "Dockerfile:3:6: `127.0.0.1:1/tools` is no stage and no build context, and cannot";
    assert!(error.starts_with(start), "{error}");
}

/// Serves a folder to git's "dumb" protocol, which is plain files.
pub(crate) async fn serve(folder: &Path) -> String {
    serve_to(folder, None).await
}

/// The same, to who sends this `Authorization` only.
pub(crate) async fn serve_to(folder: &Path, who: Option<&'static str>) -> String {
    let folder = folder.to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answer = move |uri: axum::http::Uri, headers: axum::http::HeaderMap| {
        let path = folder.join(uri.path().trim_start_matches('/'));
        let said = headers.get("authorization").map(|one| one.as_bytes());
        let known = who.is_none_or(|who| said == Some(who.as_bytes()));
        async move {
            match known {
                true => fs::read(path).map_err(|_| axum::http::StatusCode::NOT_FOUND),
                false => Err(axum::http::StatusCode::UNAUTHORIZED),
            }
        }
    };
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    host
}

pub(crate) fn git(at: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn git_repositories_are_contexts_and_sources_of_add() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: needs git");
        return;
    }
    let world = World::new().await;
    let (work, served) = (world.dir.path().join("work"), world.dir.path().join("served"));
    fs::create_dir_all(work.join("sub")).unwrap();
    git(&work, &["init", "-q"]);
    fs::write(work.join("Dockerfile"), "FROM scratch\nCOPY f /ctx").unwrap();
    fs::write(work.join("sub/g"), "g").unwrap();
    fs::write(work.join("f"), "one").unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-qm", "one"]);
    git(&work, &["tag", "v1"]);
    let first = git(&work, &["rev-parse", "HEAD"]);
    fs::write(work.join("f"), "two").unwrap();
    git(&work, &["commit", "-qam", "two"]);
    fs::create_dir(&served).unwrap();
    git(&served, &["clone", "-q", "--bare", work.to_str().unwrap(), "r.git"]);
    git(&served.join("r.git"), &["update-server-info"]);
    let url = format!("http://{}/r.git", serve(&served).await);

    let added = world
        .build(&format!(
            "FROM scratch\nADD {url}#v1 /v1\nADD --chown=3 {url}#main:sub /sub/\nADD --checksum={first} {url}#v1 /c\n\
             ADD --keep-git-dir --exclude=sub {url}?ref=main /kept"
        ))
        .await;
    let files = world.files(&added);
    assert_eq!((files["v1/f"].as_str(), files["c/f"].as_str()), ("one", "one"));
    assert_eq!((files["sub/g"].as_str(), files["kept/f"].as_str()), ("g", "two"));
    assert!(files.contains_key("kept/.git/HEAD") && !files.contains_key("v1/.git/HEAD"));
    assert!(!files.contains_key("kept/sub/g"));
    let wrong = world.fail(&format!("FROM scratch\nADD --checksum={first} {url}#main /c")).await;
    let wrong = wrong.to_string();
    assert!(wrong.contains(&format!("not {first}")), "{wrong}");
    assert!(wrong.starts_with("Dockerfile:2:"), "{wrong}");

    let mut options = world.options();
    options.context = Some(ContextInput::Remote(format!("{url}#{first}")));
    let built = world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.files(&built)["ctx"], "one");
    options.context = Some(ContextInput::Remote(format!("{url}#none")));
    let error = format!("{:#}", anyhow::Error::new(world.try_build(options).await.unwrap_err()));
    assert!(error.contains("cannot fetch the repository"), "{error}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn an_unchanged_reference_is_not_fetched_again() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: needs git");
        return;
    }
    let world = World::new().await;
    let (work, served) = (world.dir.path().join("work"), world.dir.path().join("served"));
    fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q"]);
    let commit = |text: &str| {
        fs::write(work.join("f"), text).unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-qm", text]);
    };
    commit("one");
    git(&work, &["tag", "-am", "with a message", "v1"]);
    fs::create_dir(&served).unwrap();
    git(&served, &["clone", "-q", "--bare", work.to_str().unwrap(), "r.git"]);
    let bare = served.join("r.git");
    git(&bare, &["update-server-info"]);
    let (objects, away) = (bare.join("objects"), bare.join("away"));
    let url = format!("http://{}/r.git", serve(&served).await);
    let text = format!("FROM scratch\nADD {url} /head\nADD {url}#v1 /v1\nADD {url}#main /main");
    let first = world.build(&text).await;
    assert_eq!(cached(&first), "c---");

    // Names can be asked for, and nothing can be fetched.
    fs::rename(&objects, &away).unwrap();
    let again = world.build(&text).await;
    assert_eq!(cached(&again), "cccc");
    assert_eq!(again.manifest_digest, first.manifest_digest);
    let pinned = git(&work, &["rev-parse", "HEAD"]);
    // What is here is used by other steps too, and as a context; the three names meant one commit.
    let other = world.build(&format!("FROM scratch\nADD {url}#{pinned} /other")).await;
    assert_eq!(world.files(&other)["other/f"], "one");
    let mut options = world.options();
    options.context = Some(ContextInput::Remote(format!("{url}#main")));
    options.dockerfile_text = Some("FROM scratch\nCOPY f /ctx".to_owned());
    let as_context = world.try_build(options).await.unwrap();
    assert_eq!(world.files(&as_context)["ctx"], "one");
    let kept = || fs::read_dir(world.cache().join("checkouts")).unwrap().count();
    assert_eq!(kept(), 1);
    let with_git = format!("FROM scratch\nADD --keep-git-dir {url}#{pinned} /other");
    let with_git = world.fail(&with_git).await.to_string();
    assert!(with_git.starts_with("Dockerfile:2:"), "{with_git}");
    fs::rename(&away, &objects).unwrap();

    // Of one that means something else now, that is taken.
    commit("two");
    git(&bare, &["fetch", "-q", work.to_str().unwrap(), "main:main"]);
    git(&bare, &["update-server-info"]);
    let moved = world.build(&text).await;
    assert_eq!(cached(&moved), "c---", "what lies on another layer is another step");
    let files = world.files(&moved);
    let of = |folder: &str| files[&format!("{folder}/f")].as_str();
    assert_eq!((of("head"), of("v1"), of("main")), ("two", "one", "two"));
    assert_eq!(kept(), 2);
    let wrong = world.fail(&format!("FROM scratch\nADD --checksum={pinned} {url} /head")).await;
    assert!(wrong.to_string().contains(&format!("not {pinned}")), "{wrong}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_contexts() {
    let world = World::new().await;
    let mut tar = Writer::new(Vec::new());
    for (name, text) in [("Dockerfile", "FROM scratch\nCOPY d /"), ("d/f", "from a tar")] {
        tar.append_data(&Entry::file(name, text.len() as u64), &mut text.as_bytes()).unwrap();
    }
    let path = world.dir.path().join("context.tar");
    fs::write(&path, tar.finish().unwrap()).unwrap();
    let mut options = world.options();
    options.context = Some(ContextInput::Archive(path));
    let built = world.try_build(options).await.unwrap();
    assert_eq!(world.files(&built)["f"], "from a tar");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn an_archive_is_a_context_however_it_is_packed_and_its_names_are_plain_names() {
    let world = World::new().await;
    world.file("Dockerfile", "FROM scratch\nCOPY d/f /");
    world.file("d/f", "kept");
    // In a layer this name would remove `f`.
    world.file("d/.wh.f", "");
    for (program, flag) in [("gzip", "-cz"), ("bzip2", "-cj"), ("xz", "-cJ"), ("zstd", "--zstd")] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("skipped a part: needs {program}");
            continue;
        }
        let mut tar = Command::new("tar");
        if flag == "--zstd" {
            tar.arg("-c");
        }
        let tar = tar.arg(flag).args(["--owner=77", "."]).current_dir(world.context());
        let tar = tar.output().unwrap();
        assert!(tar.status.success());
        let path = world.dir.path().join("context.tar.x");
        fs::write(&path, tar.stdout).unwrap();
        let mut options = world.options();
        options.context = Some(ContextInput::Archive(path));
        let built = world.try_build(options).await.unwrap();
        assert_eq!(world.last_layer(&built), ["f f644 0:0 kept"], "{program}");
    }
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_can_be_files_and_archives() {
    let world = World::with_base().await;
    world.file("f", "x");
    world.dockerfile(
        "FROM scratch\nCOPY --chmod=640 f /d/a\nCOPY --from=s /k /k\nFROM BASE AS s\n\
         RUN mkdir /k && echo 1 > /k/b && ln /k/b /k/a && ln -s b /k/l && chmod 700 /k",
    );
    let folder = world.dir.path().join("out");
    let (files, docker) = (world.dir.path().join("f.tar"), world.dir.path().join("d.tar"));
    let mut options = world.options();
    options.target = Some("0".to_owned());
    options.names = vec!["example.org/app:v2".parse().unwrap()];
    options.outputs = vec![
        Output::Local(folder.clone()),
        Output::Tar(files.clone()),
        Output::DockerTar(docker.clone()),
    ];
    world.try_build(options.clone()).await.unwrap();
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    assert_eq!(fs::read_to_string(folder.join("d/a")).unwrap(), "x");
    let mode = |path: &str| fs::metadata(folder.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("d/a"), mode("k")), (0o640, 0o755));
    let inode = |path: &str| fs::metadata(folder.join(path)).unwrap().ino();
    assert_eq!(inode("k/a"), inode("k/b"));
    assert_eq!(fs::read_link(folder.join("k/l")).unwrap(), Path::new("b"));
    let listed = |tar: &Path| -> String {
        let output = Command::new("tar").arg("tf").arg(tar).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let names: Vec<_> = listed(&files).lines().map(str::to_owned).collect();
    assert_eq!(names, ["d/", "d/a", "k/", "k/a", "k/b", "k/l"]);
    let out = Command::new("tar").arg("xOf").arg(&docker).arg("manifest.json").output().unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], "example.org/app:v2");
    let layer = manifest[0]["Layers"][0].as_str().unwrap();
    assert!(listed(&docker).lines().any(|line| line == layer), "{layer}");
    let before = fs::read(&files).unwrap();
    world.try_build(options).await.unwrap();
    assert_eq!(fs::read(&files).unwrap(), before, "the same image, the same bytes");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_run_side_by_side_and_are_told_in_order() {
    let world = World::with_base().await;
    let text = "FROM BASE AS a\nRUN echo a > /a\nFROM BASE AS b\nRUN echo b > /b\n\
                FROM scratch\nCOPY --from=b /b /\nCOPY --from=a /a /";
    world.dockerfile(text);
    let mut options = world.options();
    options.jobs = 4;
    let wide = world.try_build(options.clone()).await.unwrap();
    let texts: Vec<_> = wide.steps.iter().map(|step| step.stage.clone()).collect();
    assert_eq!(
        texts,
        ["b", "b", "a", "a", "2", "2", "2"],
        "in the order that the target needs them"
    );
    options.jobs = 1;
    options.no_cache = true;
    let narrow = world.try_build(options.clone()).await.unwrap();
    assert_eq!(narrow.manifest_digest, wide.manifest_digest);
    // A failure ends what runs beside it: the sleeper began first, and one after the other it would
    // be waited for.
    world.dockerfile(
        "FROM BASE AS a\nRUN sleep 600\nFROM BASE AS b\nRUN exit 7\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /",
    );
    options.jobs = 4;
    let error = world.try_build(options).await.unwrap_err().to_string();
    assert!(error.starts_with("Dockerfile:4: `exit 7` exited with code 7"), "{error}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_copy_is_kept_whatever_is_below() {
    let world = World::with_base().await;
    world.file("f", "x");
    let text =
        |below: &str| format!("FROM BASE\nRUN echo {below} > /below\nCOPY --link --chown=1:2 f /f");
    world.build(&text("one")).await;
    let second = world.build(&text("two")).await;
    assert_eq!(cached(&second), "c-c");
    assert_eq!(world.files(&second)["below"], "two\n");
    assert_eq!(world.last_layer(&second), ["f f644 1:2 x"]);
}
