//! `RUN --mount`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use sekisho_builder::{BuildError, Secret};

use crate::world::{World, cached};

#[tokio::test(flavor = "multi_thread")]
async fn bind_shows_the_context_and_its_content_is_the_key() {
    let world = World::with_base().await;
    world.file("src/d/a", "one");
    world.file("src/hidden", "x");
    world.file("other", "o");
    world.file(".dockerignore", "src/hidden\n");
    symlink("d", world.context().join("src/link")).unwrap();
    let text = "FROM BASE\nARG DIR=src\nWORKDIR /w\n\
                RUN --mount=source=$DIR,target=in cat in/d/a in/link/a > made; ls in >> made; \
                (echo x > in/new) 2>/dev/null || echo refused >> made\n\
                RUN --mount=type=bind,source=src/d/a,target=/deep/er/file,rw \
                echo two > /deep/er/file && cat /deep/er/file > made2";
    let first = world.build(text).await;
    let files = world.files(&first);
    assert_eq!(files["w/made"], "oneoned\nlink\nrefused\n");
    assert_eq!(files["w/made2"], "two\n");
    assert_eq!(world.last_layer(&first), ["w d755 0:0 ", "w/made2 f644 0:0 two\n"]);
    assert_eq!(fs::read(world.context().join("src/d/a")).unwrap(), b"one");
    world.file("other", "changed");
    assert_eq!(cached(&world.build(text).await), "ccccc");
    world.file("src/d/a", "two");
    assert_eq!(cached(&world.build(text).await), "ccc--");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn bind_from_a_stage_can_be_written_and_is_forgotten() {
    let world = World::with_base().await;
    let base = world.image("base").to_string();
    let text = format!(
        "FROM BASE AS made\nRUN mkdir -p /o/p && echo one > /o/p/f && ln -s p /o/q\nFROM BASE\n\
         RUN --mount=from=made,source=/o/q,target=/m,rw --mount=from={base},target=/all \
         echo more >> /m/f && cat /m/f /all/etc/group > /got\n\
         RUN --mount=from=made,source=o/p/f,target=/f cat /f > /again",
    );
    let result = world.build(&text).await;
    let files = world.files(&result);
    assert_eq!(files["got"], "one\nmore\nroot:x:0:\napp:x:2345:\n");
    assert_eq!(files["again"], "one\n");
    assert_eq!(world.last_layer(&result), ["again f644 0:0 one\n"]);
    let error =
        world.fail("FROM BASE AS a\nFROM BASE\nRUN --mount=from=a,source=/no,target=/m x").await;
    assert!(error.to_string().starts_with("Dockerfile:3:5: `/no` is not there\n"), "{error}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_is_kept_when_the_command_ends() {
    let world = World::with_base().await;
    // The mark makes each RUN another one.
    let run = async |mark: &str, command: &str| {
        world.dockerfile(&format!(
            "FROM BASE\nRUN mkdir -p /c/d && rm -r /c\n\
             RUN --mount=type=cache,target=/c/d : {mark}; {command}"
        ));
        world.try_build(world.options()).await
    };
    let first = run("1", "echo one > /c/d/f; mkdir /c/d/e; echo x > /c/d/e/x").await.unwrap();
    // The mount point is no part of the image.
    assert_eq!(world.last_layer(&first), [".wh.Dockerfile f0 0:0 "], "the base's");
    let failed = run("2", "echo two > /c/d/failed; exit 3").await.unwrap_err();
    assert!(matches!(failed, BuildError::StepFailed(_)), "{failed:?}");
    run("3", "cat /c/d/f /c/d/failed; rm -r /c/d/e; stat -c %a /c/d").await.unwrap();
    assert_eq!(world.log(), ["one", "two", "755"], "what a failed one wrote too");
    // Many writers' layers are merged, with what was removed.
    for number in 0..20 {
        run(&format!("n{number}"), &format!("echo {number} > /c/d/n{number}")).await.unwrap();
    }
    run("4", "rm /c/d/n0; echo three > /c/d/f; ls /c/d | { read a; echo $a; }").await.unwrap();
    run("5", "cat /c/d/f /c/d/n19; test -e /c/d/n0 || echo gone; test -e /c/d/e || echo gone")
        .await
        .unwrap();
    assert_eq!(world.log(), ["three", "19", "gone", "gone"]);
    let other = "FROM BASE\nRUN --mount=type=cache,target=/c/d,id=other ls /c/d; echo end";
    world.build(other).await;
    assert_eq!(world.log(), ["end"]);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_may_begin_with_files_and_refuse_writes() {
    let world = World::with_base().await;
    world
        .build(
            "FROM BASE AS seed\nRUN mkdir /s && echo seed > /s/f\nFROM BASE\n\
             RUN --mount=type=cache,target=/c,from=seed,source=/s,mode=0700 cat /c/f; echo w > /c/w\n\
             RUN --mount=type=cache,target=/c,ro cat /c/f /c/w; (echo x > /c/x) 2>/dev/null || echo no",
        )
        .await;
    assert_eq!(world.log(), ["seed", "seed", "w", "no"]);
    world.assert_clean();
}

/// A writer that is slow does not see what a quick one does meanwhile; with `locked` it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time() {
    for (sharing, want) in
        [("shared", "slow\nq\ns\n"), ("private", "slow\nq\ns\n"), ("locked", "slow\nquick\nq\ns\n")]
    {
        let world = World::with_base().await;
        let gate = world.dir.path().join("gate");
        fs::create_dir(&gate).unwrap();
        let mount = format!("--mount=type=cache,target=/c,sharing={sharing}");
        world.file(
            "slow",
            &format!(
                "FROM {}\nRUN {mount} echo go; sleep 0.5; echo slow >> /c/f; echo s > /c/slow",
                world.image("base")
            ),
        );
        world.file(
            "quick",
            &format!(
                "FROM {}\nRUN {mount} echo quick >> /c/f; echo q > /c/quick",
                world.image("base")
            ),
        );
        let options = |name: &str| {
            let mut options = world.options();
            options.dockerfile = name.into();
            options
        };
        let events = std::sync::Arc::clone(&world.events);
        let slow = tokio::spawn(sekisho_builder::build(options("slow"), events));
        while world.log() != ["go"] {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let silent = std::sync::Arc::new(sekisho_builder::Silent);
        sekisho_builder::build(options("quick"), silent).await.unwrap();
        slow.await.unwrap().unwrap();
        world.build(&format!("FROM BASE\nRUN {mount} cat /c/f > /got")).await;
        let all = format!("FROM BASE\nRUN {mount} cat /c/f /c/quick /c/slow > /got");
        let result = world.build(&all).await;
        assert_eq!(world.files(&result)["got"], want, "{sharing}");
        world.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tmpfs_is_memory() {
    let world = World::with_base().await;
    let result = world
        .build("FROM BASE\nRUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/f && cat /t/f && echo y > /y")
        .await;
    assert_eq!(world.log(), ["x"]);
    assert_eq!(world.last_layer(&result), ["y f644 0:0 y\n"]);
}

/// Every file of a folder that holds `what`.
fn holding(folder: &std::path::Path, what: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            found.extend(holding(&path, what));
        } else if kind.is_file()
            && fs::read(&path).unwrap_or_default().windows(what.len()).any(|part| part == what)
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_seen_by_the_command_and_by_nobody_else() {
    let world = World::with_base().await;
    let file = world.dir.path().join("token");
    fs::write(&file, "hunter2-from-file\n").unwrap();
    let text = "FROM BASE\nRUN --mount=type=secret,id=a --mount=type=secret,id=b,env=B \
                --mount=type=secret,id=c,target=/etc/c,mode=0440 --mount=type=secret,id=absent \
                case \"$(cat /run/secrets/a)-$B\" in (h?nter2-from-file-h?nter2-from-env) ;; (*) exit 1;; esac; \
                stat -c %a /run/secrets/a /etc/c && echo told $B && ls /run/secrets";
    let options = |b: &str| {
        world.dockerfile(text);
        let mut options = world.options();
        options.secrets.insert("a".to_owned(), Secret::File(file.clone()));
        options.secrets.insert("b".to_owned(), Secret::Value(b.to_owned().into()));
        options.secrets.insert("c".to_owned(), Secret::Value("hunter2-c".to_owned().into()));
        options
    };
    assert!(!format!("{:?}", options("hunter2-from-env")).contains("hunter2-from-env"));
    let result = world.try_build(options("hunter2-from-env")).await.unwrap();
    assert_eq!(world.log(), ["400", "440", "told ***", "a"]);
    let layer = world.last_layer(&result);
    assert!(
        layer.iter().all(|line| !line.contains("secrets") && !line.contains("etc/c")),
        "{layer:?}"
    );
    assert_eq!(holding(&world.cache(), b"hunter2"), Vec::<std::path::PathBuf>::new());
    // Another value is no other step.
    assert_eq!(cached(&world.try_build(options("another")).await.unwrap()), "cc");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_agent_answers_inside() {
    let world = World::with_base().await;
    let socket = world.dir.path().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 4];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(b"keys\n").unwrap();
        asked
    });
    // The base has no program that speaks to sockets: this one listens to what we ask it through.
    world.dockerfile(
        "FROM BASE\nUSER app\nRUN --mount=type=ssh,uid=1234,mode=0600 \
         echo $SSH_AUTH_SOCK; stat -c %F,%a $SSH_AUTH_SOCK; test -w $SSH_AUTH_SOCK && echo open; sleep 0.3",
    );
    let mut options = world.options();
    options.ssh.insert("default".to_owned(), socket);
    let find = async {
        loop {
            let proxies = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
            let mut proxies = proxies.map(|entry| entry.path().join("agent"));
            let open = proxies.find_map(|path| {
                let ours = path.to_string_lossy().contains("sekisho-ssh-");
                ours.then(|| std::os::unix::net::UnixStream::connect(path).ok()).flatten()
            });
            if let Some(open) = open {
                break open;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let (result, mut stream) = tokio::join!(world.try_build(options), async {
        let mut stream = find.await;
        stream.write_all(b"list").unwrap();
        stream
    });
    let result = result.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!((answer.as_str(), &agent.join().unwrap()), ("keys\n", b"list"));
    assert_eq!(world.log(), ["/run/buildkit/ssh_agent.0", "socket,600", "open"]);
    assert_eq!(world.last_layer(&result), [".wh.Dockerfile f0 0:0 "], "the base's");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn script_with_its_own_interpreter() {
    let world = World::with_base().await;
    let result = world
        .build("FROM BASE\nRUN <<EOF\n#!/bin/cat\nnot run, but shown\nEOF\nRUN <<EOF\n#!/bin/sh\necho $0 > /f\nEOF")
        .await;
    assert_eq!(world.log(), ["#!/bin/cat", "not run, but shown"]);
    assert_eq!(world.files(&result)["f"], "/dev/pipes/EOF\n");
    assert_eq!(world.last_layer(&result), ["f f644 0:0 /dev/pipes/EOF\n"]);
}

/// As `make` would: a result that is older than its source is made again.
#[tokio::test(flavor = "multi_thread")]
async fn sources_that_changed_look_newer_than_cached_results() {
    let world = World::with_base().await;
    let build = async |a: &str| {
        world.file("src/a", a);
        world.file("src/same", "same");
        let text = "FROM BASE\nCOPY src /src\nRUN --mount=type=cache,target=/out for f in a same; do \
                    if [ ! -e /out/$f ] || [ /src/$f -nt /out/$f ]; then echo made $f; cp /src/$f /out/$f; fi; \
                    done; cat /out/a > /result";
        let result = world.build(text).await;
        (world.log(), world.files(&result)["result"].clone(), result.manifest_digest)
    };
    let log = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let (made, result, first) = build("one").await;
    assert_eq!((made, result.as_str()), (log(&["made a", "made same"]), "one"));
    let (made, result, _) = build("two").await;
    assert_eq!((made, result.as_str()), (log(&["made a"]), "two"), "only what changed");
    // A command that failed before it came to what changed leaves that to the next.
    world.file("src/a", "three");
    let fails =
        "FROM BASE\nCOPY src /src\nRUN --mount=type=cache,target=/out cp /src/same /out/x; exit 1";
    world.fail(fails).await;
    let (made, result, _) = build("three").await;
    assert_eq!((made, result.as_str()), (log(&["made a"]), "three"));
    // Back to what it was, and the step itself is another one, so that it has to run.
    world.file("src/b", "new");
    let (made, result, third) = build("one").await;
    assert_eq!((made, result.as_str()), (log(&["made a"]), "one"));
    assert_ne!(first, third);
    world.assert_clean();
}
