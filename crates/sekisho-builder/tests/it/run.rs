//! RUN in the sandbox.

use std::time::Duration;

use sekisho_builder::BuildError;
use sekisho_sandbox::Network;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn whiteouts_links_and_modes() {
    let world = World::with_base().await;
    world.file("old", "old");
    let result = world
        .build(
            "FROM BASE\nWORKDIR /w\nCOPY old ./\n\
             RUN echo x > new && ln new link && rm old && chmod 4755 new && ln -s new sym\n\
             RUN rm -r /w && mkdir /w && echo y > /w/last",
        )
        .await;
    let count = result.layers.len();
    assert_eq!(
        world.layer(&result.layers[count - 2].digest),
        [
            "w d755 0:0 ",
            "w/link f4755 0:0 x\n",
            "w/new h4755 0:0 w/link",
            "w/.wh.old f0 0:0 ",
            "w/sym l777 0:0 new"
        ]
    );
    assert_eq!(
        world.last_layer(&result),
        ["w d755 0:0 ", "w/.wh..wh..opq f0 0:0 ", "w/last f644 0:0 y\n"]
    );
    let files = world.files(&result);
    assert_eq!(files["w/last"], "y\n");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_user_and_folder_are_as_said() {
    let world = World::with_base().await;
    world.dockerfile(
        "ARG global=g\nFROM BASE\nARG global\nARG A=default\nENV A=env B=b\nARG C=c\nARG unused\n\
         WORKDIR /tmp/work\nRUN echo $global $A $B $C ${unused-none} $BASE $HOME; echo $PATH; hostname\n\
         USER app\nRUN id -u; id -g; echo $HOME; cd /tmp; echo mine > /tmp/mine\nRUN [\"/bin/sh\", \"-c\", \"echo exec\"]",
    );
    let mut options = world.options();
    options.build_args.insert("A".to_owned(), "given".to_owned());
    options.build_args.insert("C".to_owned(), "from outside".to_owned());
    let result = world.try_build(options).await.unwrap();
    assert_eq!(
        world.log(),
        [
            "g env b from outside none yes /root",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "sekisho",
            "1234",
            "2345",
            "/home",
            "exec"
        ]
    );
    let layers = result.layers.iter().flat_map(|layer| world.layer(&layer.digest));
    let mine: Vec<_> = layers.filter(|line| line.starts_with("tmp/mine")).collect();
    assert_eq!(mine, ["tmp/mine f644 1234:2345 mine\n"], "whoever builds");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_of_the_image_stay_through_a_run() {
    let world = World::with_base().await;
    world.file("a", "a");
    let result = world
        .build("FROM BASE\nCOPY --chown=app a /d/a\nRUN chmod 600 /d/a && echo b > /d/b")
        .await;
    assert_eq!(
        world.last_layer(&result),
        ["d d755 1234:2345 ", "d/a f600 1234:2345 a", "d/b f644 0:0 b\n"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_may_read_are_packed_and_copied() {
    let world = World::with_base().await;
    let result = world
        .build(
            "FROM BASE AS one\nRUN mkdir -p /d/closed && echo s > /d/closed/secret && \
             chmod 000 /d/closed/secret /d/closed\nRUN cat /d/closed/secret\n\
             FROM scratch\nCOPY --from=one /d /d",
        )
        .await;
    assert_eq!(
        world.last_layer(&result),
        ["d d755 0:0 ", "d/closed d0 0:0 ", "d/closed/secret f0 0:0 s\n"]
    );
    assert_eq!(world.log(), ["s"]);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_names_place_command_code_and_output() {
    let world = World::with_base().await;
    let error = world.fail("FROM BASE\n\nRUN echo before; echo problem >&2; exit 7").await;
    let BuildError::StepFailed(failed) = &error else { panic!("{error:?}") };
    assert_eq!((failed.line, failed.exit_code), (3, 7));
    assert_eq!(failed.tail, ["before", "problem"]);
    assert_eq!(
        error.to_string(),
        "Dockerfile:3: `echo before; echo problem >&2; exit 7` exited with code 7\n  | before\n  | problem"
    );
    let error = world.fail("FROM BASE\nRUN [\"nope\"]").await;
    assert_eq!(error.to_string(), "Dockerfile:2: cannot run `nope`");
    let error = world.fail("FROM scratch\nRUN true").await;
    assert!(matches!(error, BuildError::Sandbox { line: 2, .. }), "{error:?}");
    let error = world.fail("FROM BASE\nUSER nobody-here\nRUN true").await.to_string();
    assert!(error.starts_with("Dockerfile:3:1: there is no user `nobody-here`"), "{error}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_the_filter_ended_is_explained() {
    let world = World::with_base().await;
    // A static program for i386 that calls exit(0) as such programs do: `int 0x80`.
    let code = [0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80];
    let (base, start) = (0x0804_8000_u32, 84_u32);
    let len = start + u32::try_from(code.len()).unwrap();
    let mut program = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    program.extend([2_u16, 3].map(u16::to_le_bytes).concat());
    program.extend([1, base + start, 52, 0, 0].map(u32::to_le_bytes).concat());
    program.extend([52_u16, 32, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    program.extend([1, 0, base, base, len, len, 5, 0x1000].map(u32::to_le_bytes).concat());
    program.extend(code);
    std::fs::write(world.context().join("old"), &program).unwrap();
    let error = world.fail("FROM BASE\nCOPY --chmod=755 old /old\nRUN /old; exit $?").await;
    let BuildError::StepFailed(failed) = &error else { panic!("{error:?}") };
    // Some kernels know no 32-bit programs at all.
    if failed.exit_code != 126 {
        assert_eq!((failed.line, failed.exit_code), (3, 159));
        assert!(failed.hint.as_deref().unwrap().starts_with("signal 31 ended a program"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limit_ends_a_step() {
    let world = World::with_base().await;
    world.dockerfile("FROM BASE\nRUN sleep 600");
    let mut options = world.options();
    options.run_timeout = Some(Duration::from_millis(200));
    options.network = Network::None;
    let error = world.try_build(options).await.unwrap_err();
    let BuildError::Sandbox { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source, sekisho_sandbox::SandboxError::TimedOut { .. }), "{source:?}");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_wants_too_much_memory_fails_with_its_place() {
    let world = World::with_base().await;
    world.dockerfile("FROM BASE\nRUN dd if=/dev/zero of=/dev/null bs=128M count=1");
    let mut options = world.options();
    options.run_memory_bytes = Some(64 << 20);
    let error = world.try_build(options).await.unwrap_err();
    let BuildError::StepFailed(failed) = &error else { panic!("{error:?}") };
    assert_eq!((failed.line, failed.exit_code), (2, 1));
    assert!(failed.tail[0].contains("memory exhausted"), "{:?}", failed.tail);
    assert_eq!(failed.hint.as_deref(), Some("it has at most 64 MiB of memory here"));
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_drop_leave_nothing() {
    let world = World::with_base().await;
    world.dockerfile("FROM BASE\nRUN echo go; (sleep 600 &) ; sleep 600");
    let options = world.options();
    let cancel = options.cancel.clone();
    let running = async {
        loop {
            if world.log() == ["go"] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (result, ()) = tokio::join!(world.try_build(options), async {
        running.await;
        cancel.cancel();
    });
    assert!(matches!(result, Err(BuildError::Cancelled)), "{result:?}");
    world.assert_clean();

    let mut build = Box::pin(world.try_build(world.options()));
    loop {
        tokio::select! {
            result = &mut build => panic!("{result:?}"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        if world.log() == ["go"] {
            break;
        }
    }
    drop(build);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_a_command_sets_are_in_the_layer_and_seen_by_the_next() {
    let world = World::with_base().await;
    let result = world
        .build(
            "FROM BASE\n\
             RUN mkdir /d && touch /d/f /d/g /d/plain && ln -s f /d/l && chown 33:34 /d/f /d && \
             chown -h 5:6 /d/l && chmod 0200 /d/g && chown :7 /d/g\n\
             RUN stat -c '%n %u:%g' /d /d/f /d/g && touch /d/new && chmod 640 /d/f",
        )
        .await;
    assert_eq!(world.log(), ["/d 33:34", "/d/f 33:34", "/d/g 0:7"]);
    let layers = &result.layers[result.layers.len() - 2..];
    assert_eq!(
        world.layer(&layers[0].digest),
        [
            "d d755 33:34 ",
            "d/f f644 33:34 ",
            "d/g f200 0:7 ",
            "d/l l777 5:6 f",
            "d/plain f644 0:0 ",
        ]
    );
    // What was only changed keeps its owner.
    assert_eq!(
        world.layer(&layers[1].digest),
        ["d d755 33:34 ", "d/f f640 33:34 ", "d/new f644 0:0 "]
    );
    // The same when the trees are unpacked from layers again.
    let mut options = world.options();
    options.no_cache = true;
    assert_eq!(world.try_build(options).await.unwrap().manifest_digest, result.manifest_digest);
    world.assert_clean();
}
