//! COPY, WORKDIR and metadata: no sandbox needed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use sekisho_builder::{BuildError, Output};
use sekisho_types::Hint as _;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn files_folders_modes_and_owners() {
    let world = World::new().await;
    world.file("app/main", "binary");
    world.file("app/sub/data", "d");
    symlink("main", world.context().join("app/link")).unwrap();
    let mode = fs::Permissions::from_mode(0o4755);
    fs::set_permissions(world.context().join("app/main"), mode).unwrap();
    fs::set_permissions(world.context().join("app/sub"), fs::Permissions::from_mode(0o750))
        .unwrap();
    fs::set_permissions(world.context().join("app"), fs::Permissions::from_mode(0o711)).unwrap();
    let result = world.build("FROM scratch\nWORKDIR /srv\nCOPY --chown=7:8 app ./app").await;
    assert_eq!(result.layers.len(), 2);
    assert_eq!(world.layer(&result.layers[0].digest), ["srv d755 0:0 "]);
    assert_eq!(
        world.last_layer(&result),
        [
            "srv d755 0:0 ",
            "srv/app d755 7:8 ",
            "srv/app/link l777 7:8 main",
            "srv/app/main f4755 7:8 binary",
            "srv/app/sub d750 7:8 ",
            "srv/app/sub/data f644 7:8 d",
        ]
    );
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn context_is_a_wall() {
    let world = World::new().await;
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "of the host").unwrap();
    fs::create_dir(world.dir.path().join("outside")).unwrap();
    fs::write(world.dir.path().join("outside/file"), "of the host").unwrap();
    world.file("inside/file", "inside");
    let context = world.context();
    symlink(&secret, context.join("absolute")).unwrap();
    symlink("../secret", context.join("relative")).unwrap();
    symlink("../outside", context.join("folder")).unwrap();
    symlink("/inside/file", context.join("rooted")).unwrap();
    for source in ["absolute", "relative", "folder/file", "../secret"] {
        let error = world.fail(&format!("FROM scratch\nCOPY {source} /x")).await;
        let BuildError::Dockerfile(diagnostics) = &error else { panic!("{error:?}") };
        assert_eq!((diagnostics[0].line, diagnostics[0].column), (2, 6), "{source}");
        let want = format!("`{source}` is not there in the build context");
        assert_eq!(diagnostics[0].message, want);
    }
    let result = world.build("FROM scratch\nCOPY rooted /x").await;
    assert_eq!(world.last_layer(&result), ["x f644 0:0 inside"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_folders_are_copied_as_links() {
    let world = World::new().await;
    world.file("d/file", "x");
    symlink("/etc/shadow", world.context().join("d/evil")).unwrap();
    let result = world.build("FROM scratch\nCOPY d /d").await;
    assert_eq!(
        world.last_layer(&result),
        ["d d755 0:0 ", "d/evil l777 0:0 /etc/shadow", "d/file f644 0:0 x"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dockerignore_leaves_out_and_brings_back() {
    let world = World::new().await;
    world.file(
        ".dockerignore",
        "# comment\n**/*.log\nsecret\n!keep.log\nDockerfile\n.dockerignore\n",
    );
    for path in ["a", "x.log", "keep.log", "d/y.log", "d/z", "secret/key"] {
        world.file(path, path);
    }
    let result = world.build("FROM scratch\nCOPY . /").await;
    let files: Vec<_> = world.files(&result).into_keys().collect();
    assert_eq!(files, ["a", "d/z", "keep.log"]);
    let error = world.fail("FROM scratch\nCOPY secret/key /").await;
    assert!(error.hint().unwrap().contains(".dockerignore"), "{error:?}");
    world.file("Dockerfile.dockerignore", "*\n!x.log\n");
    let result = world.build("FROM scratch\nCOPY . /").await;
    let files: Vec<_> = world.files(&result).into_keys().collect();
    assert_eq!(files, ["x.log"], "the file beside the Dockerfile wins");
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_follow_links_of_the_image_and_keep_its_folders() {
    let world = World::new().await;
    world.file("root/usr/lib/old", "old");
    symlink("usr/lib", world.context().join("root/lib")).unwrap();
    fs::set_permissions(world.context().join("root/usr"), fs::Permissions::from_mode(0o1777))
        .unwrap();
    world.file("new", "new");
    let result =
        world.build("FROM scratch\nCOPY root /\nCOPY new /lib/\nCOPY --link new /lib/").await;
    assert_eq!(
        world.layer(&result.layers[1].digest),
        ["usr d1777 0:0 ", "usr/lib d755 0:0 ", "usr/lib/new f644 0:0 new"]
    );
    assert_eq!(world.last_layer(&result), ["lib d755 0:0 ", "lib/new f644 0:0 new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_copy_from_each_other_and_from_images() {
    let world = World::new().await;
    world.file("a", "a");
    world.file("b", "b");
    let mut options = world.options();
    world.dockerfile("FROM scratch\nCOPY --chown=5:6 a /from/image");
    options.destinations = vec![world.image("other:v1")];
    world.try_build(options).await.unwrap();
    let other = world.image("other:v1");
    let result = world
        .build(&format!(
            "FROM scratch AS unused\nCOPY nowhere /\nFROM scratch AS one\nCOPY a /x/a\nCOPY b /x/b\n\
             FROM one AS two\nENV E=1\nFROM scratch\nCOPY --from=one /x /y\nCOPY --from=two x/a /z\n\
             COPY --from={other} /from/image /"
        ))
        .await;
    let files = world.files(&result);
    let got: Vec<_> = files.iter().map(|(path, text)| format!("{path}={text}")).collect();
    assert_eq!(got, ["image=a", "y/a=a", "y/b=b", "z=a"]);
    assert_eq!(world.last_layer(&result), ["image f644 5:6 a"], "owners are kept");
    assert!(
        result.steps.iter().all(|step| !step.text.contains("nowhere")),
        "not needed, not built"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn target_ends_the_build_there() {
    let world = World::new().await;
    world.file("a", "a");
    world.dockerfile("FROM scratch AS One\nCOPY a /\nFROM one AS two\nCOPY nowhere /");
    let mut options = world.options();
    options.target = Some("one".to_owned());
    let result = world.try_build(options).await.unwrap();
    assert_eq!(world.files(&result).len(), 1);
    let mut options = world.options();
    options.target = Some("three".to_owned());
    let error = world.try_build(options).await.unwrap_err();
    assert!(matches!(error, BuildError::Dockerfile(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_in_the_config() {
    let world = World::new().await;
    world.dockerfile(
        "ARG base=scratch\nFROM $base\nARG version=1\nENV V=$version W=two\nLABEL a=$W b=b\n\
         EXPOSE 80/udp\nUSER 7\nWORKDIR /w\nENTRYPOINT [\"/run\"]\nCMD [\"now\"]",
    );
    let mut options = world.options();
    options.build_args.insert("version".to_owned(), "9".to_owned());
    options.labels.insert("b".to_owned(), "given".to_owned());
    options.created = 86_400;
    let result = world.try_build(options).await.unwrap();
    let config = world.config(&result);
    assert_eq!(config.created.as_deref(), Some("1970-01-02T00:00:00Z"));
    assert_eq!(config.config.env[1..], ["V=9", "W=two"]);
    assert_eq!(config.config.labels["a"], "two");
    assert_eq!(config.config.labels["b"], "given");
    assert!(config.config.exposed_ports.contains_key("80/udp"));
    assert_eq!((config.config.user.as_str(), config.config.working_dir.as_str()), ("7", "/w"));
    assert_eq!(config.config.entrypoint.unwrap(), ["/run"]);
    assert_eq!(config.config.cmd.unwrap(), ["now"]);
    let history: Vec<_> = config
        .history
        .iter()
        .map(|entry| (entry.created_by.clone().unwrap(), entry.empty_layer))
        .collect();
    let entry = |text: &str, empty| (text.to_owned(), empty);
    assert_eq!(history[0], entry("ARG version=9", true));
    assert_eq!(history[1], entry("ENV V=9 W=two", true));
    assert_eq!(history[5], entry("WORKDIR /w", false));
    assert_eq!(world.last_layer(&result), ["w d755 7:7 "], "of whom USER says");
}

#[tokio::test(flavor = "multi_thread")]
async fn here_documents_become_files() {
    let world = World::new().await;
    let result =
        world.build("FROM scratch\nARG who=me\nCOPY --chmod=600 <<one <<'two' /d/\nhi \"$who\"\none\n$who\ntwo").await;
    assert_eq!(
        world.last_layer(&result),
        ["d d600 0:0 ", "d/one f600 0:0 hi \"me\"\n", "d/two f600 0:0 $who\n"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn oci_layouts_hold_the_whole_image() {
    let world = World::new().await;
    world.file("a", "a");
    world.dockerfile("FROM scratch\nCOPY a /");
    let layout = world.dir.path().join("layout");
    let mut options = world.options();
    options.outputs = vec![Output::OciDirectory(layout.clone())];
    let result = world.try_build(options.clone()).await.unwrap();
    world.try_build(options).await.unwrap();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(index["manifests"][0]["digest"], result.manifest_digest.to_string());
    for digest in [&result.manifest_digest, &result.config_digest, &result.layers[0].digest] {
        assert!(layout.join("blobs/sha256").join(digest.hex()).exists());
    }
    let tar = world.dir.path().join("image.tar");
    let mut options = world.options();
    options.outputs = vec![Output::OciTar(tar.clone())];
    world.try_build(options).await.unwrap();
    let mut names = Vec::new();
    let limits = sekisho_oci::layer::Limits::default();
    sekisho_oci::layer::read(fs::File::open(tar).unwrap(), &limits, &mut |entry, _| {
        names.push(entry.display_path());
        Ok(())
    })
    .unwrap();
    assert_eq!(names.len(), 5);
    assert_eq!(names[3..], ["index.json", "oci-layout"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_come_along_from_the_pivot_on() {
    let world = World::new().await;
    for path in ["x/a.txt", "x/d/b.txt", "y/d/b.txt", "y/d/c.md"] {
        world.file(path, path);
    }
    fs::set_permissions(world.context().join("x/d"), fs::Permissions::from_mode(0o750)).unwrap();
    for (line, want) in [
        (
            "COPY --parents ./x/a.txt y/d/*.txt /p/",
            &[
                "p d755 0:0 ",
                "p/x d755 0:0 ",
                "p/x/a.txt f644 0:0 x/a.txt",
                "p/y d755 0:0 ",
                "p/y/d d755 0:0 ",
                "p/y/d/b.txt f644 0:0 y/d/b.txt",
            ][..],
        ),
        (
            "COPY --parents --chown=7:8 x/./d /p/",
            &["p d755 7:8 ", "p/d d750 7:8 ", "p/d/b.txt f644 7:8 x/d/b.txt"],
        ),
        (
            "COPY --parents --exclude=**/*.md ./*/./d/ /p/",
            &["p d755 0:0 ", "p/d d750 0:0 ", "p/d/b.txt f644 0:0 y/d/b.txt"],
        ),
    ] {
        for folder in ["x", "y", "y/d"] {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(world.context().join(folder), mode).unwrap();
        }
        let result = world.build(&format!("FROM scratch\n{line}")).await;
        assert_eq!(world.last_layer(&result), want, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_leave_files_out() {
    let world = World::new().await;
    for path in ["s/a.txt", "s/b.md", "s/d/c.txt", "s/d/keep.txt", "one.txt", "one.md"] {
        world.file(path, path);
    }
    let text = "FROM scratch\nARG X=md\n\
                COPY --exclude=*.$X --exclude=d/*.txt --exclude=!d/keep.txt s /t/\n\
                COPY --exclude=*.md one.* /u/\nADD --exclude=d s /v/";
    let result = world.build(text).await;
    let files: Vec<_> = world.files(&result).into_keys().collect();
    assert_eq!(files, ["t/a.txt", "t/d/keep.txt", "u/one.txt", "v/a.txt", "v/b.md"]);
    // What is left out does not matter.
    world.file("s/b.md", "changed");
    assert_eq!(crate::world::cached(&world.build(text).await), "cccc-");
    let error = world.fail("FROM scratch\nCOPY --exclude=[ s /t/").await;
    assert!(error.to_string().starts_with("Dockerfile:2:6: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_are_changed_by_symbols() {
    let world = World::new().await;
    world.file("s/run", "r");
    world.file("s/data", "d");
    fs::set_permissions(world.context().join("s/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(world.context().join("s"), fs::Permissions::from_mode(0o700)).unwrap();
    let result = world.build("FROM scratch\nCOPY --chmod=u=rwX,go=rX s /t").await;
    assert_eq!(world.last_layer(&result), ["t d755 0:0 ", "t/data f644 0:0 d", "t/run f755 0:0 r"]);
}

/// As in BuildKit's images; `docs/dockerfile.md` says what others do.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn attributes_of_the_context_stay_there() {
    let world = World::new().await;
    world.file("s/f", "f");
    for path in ["s", "s/f"] {
        let path = world.context().join(path);
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&path, c"user.note", b"v", flags).is_err() {
            eprintln!("skipped: needs a disk with attributes of users");
            return;
        }
    }
    let result = world.build("FROM scratch\nCOPY s /t").await;
    let (bytes, mut seen) = (world.blob(&result.layers[0].digest), Vec::new());
    sekisho_oci::layer::read(bytes.as_slice(), &Default::default(), &mut |entry, _| {
        seen.push((entry.display_path(), entry.xattrs.len()));
        Ok(())
    })
    .unwrap();
    let seen: Vec<_> = seen.iter().map(|(path, count)| (path.as_str(), *count)).collect();
    assert_eq!(seen, [("t", 0), ("t/f", 0)]);
}
