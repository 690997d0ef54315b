//! What a command sees, what it leaves, how it ends.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

use sekisho_sandbox::{
    Bind, Control, Exit, Isolation, Launcher, Layers, MemoryFile, Mount, Network, Outcome,
    SandboxError, SecretBytes, Spec, Step, Stream, User, remove_tree,
};
use tempfile::TempDir;

/// A fresh root and somewhere to write, removed at the end.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) isolation: Isolation,
}

/// The helper program; a test that runs as another user gets a copy it may read.
pub(crate) fn launcher() -> Launcher {
    Launcher::with_program(
        std::env::var_os("SEKISHO_TEST_HELPER")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_sekisho-sandbox-helper").into()),
    )
}

impl World {
    pub(crate) fn new(isolation: Isolation) -> Self {
        let dir = TempDir::new().unwrap();
        crate::rootfs::make(&dir.path().join("root"));
        for name in ["w/upper", "w/work", "mnt"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        Self { dir, isolation }
    }

    pub(crate) fn spec(&self, script: &str) -> Spec {
        Spec {
            isolation: self.isolation,
            lower: vec![self.dir.path().join("root")],
            writable: self.dir.path().join("w"),
            mountpoint: self.dir.path().join("mnt"),
            args: ["sh", "-ec", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".into(), "/bin".into()), ("GREETING".into(), "hello".into())],
            current_dir: "/".into(),
            user: User::default(),
            hostname: "builder".into(),
            network: Network::Host,
            mounts: Vec::new(),
            secret_env: Vec::new(),
            timeout: Some(Duration::from_mins(1)),
            max_processes: sekisho_sandbox::MAX_PROCESSES,
            max_memory_bytes: None,
            min_free_bytes: 0,
        }
    }

    /// Puts the tests' own program into the root, with what it loads.
    pub(crate) fn add_helper(&self) {
        let from = std::env::var_os("SEKISHO_TEST_HELPER")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_sekisho-sandbox-helper").into());
        crate::rootfs::add(&self.dir.path().join("root"), from.as_ref(), "helper");
    }

    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.dir.path().join("w/upper").join(path)
    }
}

/// Both kinds as root, one as anybody else.
pub(crate) fn kinds() -> Vec<Isolation> {
    match Isolation::choose() {
        best @ (Isolation::Privileged | Isolation::IdRange) => vec![best, Isolation::SingleId],
        one @ (Isolation::SingleId | Isolation::ChangedRoot) => vec![one],
    }
}

/// Each run needs empty folders to write to.
fn fresh(spec: &Spec) {
    if spec.writable.exists() {
        remove_tree(&spec.writable).unwrap();
        for name in ["upper", "work"] {
            fs::create_dir_all(spec.writable.join(name)).unwrap();
        }
    }
}

/// Outcome, stdout, stderr.
pub(crate) fn run(spec: &Spec) -> (Result<Outcome, SandboxError>, String, String) {
    fresh(spec);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let result =
        launcher().run(spec, &Control::new().unwrap(), &mut |stream, bytes| match stream {
            Stream::Stdout => out.extend_from_slice(bytes),
            Stream::Stderr => err.extend_from_slice(bytes),
        });
    (result, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[track_caller]
pub(crate) fn stdout(spec: &Spec) -> String {
    let (result, out, err) = run(spec);
    match result {
        Ok(outcome) => assert_eq!(outcome.exit, Exit::Code(0), "{out}{err}"),
        Err(error) => panic!("{error:?}: {out}{err}"),
    }
    out
}

#[test]
fn command_sees_its_own_world_only() {
    for kind in kinds() {
        let world = World::new(kind);
        let out = stdout(&world.spec(
            "echo $$ $GREETING; id -u; hostname; ls /; ls /dev; ls /sys; umask; \
             cat /proc/self/status > /status; pwd",
        ));
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(&lines[..3], &["3 hello", "0", "builder"], "{kind:?}");
        let rest = lines[3..].join(" ");
        let programs = if rest.contains("lib64") { "lib lib64" } else { "lib" };
        assert_eq!(
            rest,
            format!(
                "bin dev etc {programs} proc sys tmp fd full null ptmx pts random shm stderr \
                 stdin stdout tty urandom zero 0022 /"
            )
        );
        let status = fs::read_to_string(world.upper("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        let line = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(found.trim(), 16).unwrap()
        };
        // The set that Docker gives, by the numbers of linux/capability.h.
        assert_eq!(line("CapEff:") & !0xa804_25fb, 0, "{status}");
        assert_eq!((line("CapInh:"), line("CapAmb:")), (0, 0));
        let entries: Vec<_> = fs::read_dir(world.upper("")).unwrap().flatten().collect();
        assert_eq!(entries.len(), 1, "only what the command wrote is in upper: {entries:?}");
    }
}

#[test]
fn changes_are_collected_as_an_overlay() {
    for kind in kinds() {
        let world = World::new(kind);
        let root = world.dir.path().join("root");
        fs::create_dir(root.join("old")).unwrap();
        fs::write(root.join("old/file"), "x").unwrap();
        fs::write(root.join("gone"), "x").unwrap();
        stdout(
            &world.spec(
                "rm gone; mv old new; echo y > new/file; ln new/file /link; chmod 4755 /link",
            ),
        );
        let gone = fs::symlink_metadata(world.upper("gone")).unwrap();
        assert!(gone.file_type().is_char_device());
        assert_eq!(gone.rdev(), 0);
        assert_eq!(fs::read_to_string(world.upper("new/file")).unwrap(), "y\n");
        let link = fs::metadata(world.upper("link")).unwrap();
        assert_eq!((link.nlink(), link.mode() & 0o7777), (2, 0o4755));
        assert_eq!(fs::read_to_string(root.join("old/file")).unwrap(), "x", "lower is untouched");
    }
}

#[test]
fn user_is_who_the_spec_says() {
    for kind in kinds() {
        let world = World::new(kind);
        let mut spec = world.spec("id -u; id -g; id -G; touch /tmp/mine; cat /proc/self/status");
        spec.user = User { uid: 1234, gid: 2345, groups: vec![2345, 7] };
        use std::os::unix::fs::PermissionsExt as _;
        let tmp = world.dir.path().join("root/tmp");
        fs::set_permissions(tmp, fs::Permissions::from_mode(0o1777)).unwrap();
        let out = stdout(&spec);
        let groups = if kind == Isolation::Privileged { "2345 7" } else { "2345" };
        let head: Vec<_> = out.lines().take(3).collect();
        assert_eq!(head[..2], ["1234", "2345"], "{kind:?}");
        assert!(head[2].starts_with(groups), "{kind:?}: {head:?}");
        assert!(out.contains("CapEff:\t0000000000000000"), "{out}");
        assert!(out.contains("CapPrm:\t0000000000000000"), "{out}");
        let owner = fs::metadata(world.upper("tmp/mine")).unwrap().uid();
        let want = match kind {
            Isolation::Privileged | Isolation::IdRange | Isolation::ChangedRoot => 1234,
            Isolation::SingleId => fs::metadata(world.dir.path()).unwrap().uid(),
        };
        assert_eq!(owner, want);
    }
}

#[test]
fn exit_codes_signals_and_both_streams_come_back() {
    for kind in kinds() {
        let world = World::new(kind);
        let (result, out, err) = run(&world.spec("echo out; echo err >&2; exit 7"));
        assert_eq!(result.unwrap().exit, Exit::Code(7));
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        let (result, ..) = run(&world.spec("kill -9 $$"));
        let exit = result.unwrap().exit;
        assert_eq!((exit, exit.code()), (Exit::Signal(9), 137));
    }
}

#[test]
fn background_processes_end_with_the_command() {
    let world = World::new(Isolation::choose());
    let started = fs::metadata(world.dir.path()).unwrap().modified().unwrap();
    let out = stdout(&world.spec("(sleep 600; echo late) & echo early"));
    assert_eq!(out, "early\n");
    assert!(started.elapsed().unwrap() < Duration::from_mins(5));
}

#[test]
fn host_cannot_be_changed_or_seen() {
    for kind in kinds() {
        let world = World::new(kind);
        let out = stdout(&world.spec(
            "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /etc/resolv.conf; do \
               if [ -e $f ] && (echo x > $f) 2>/dev/null; then echo wrote $f; fi; done; \
             cat /proc/kcore 2>/dev/null | cat; \
             if (echo x >> /proc/1/exe) 2>/dev/null; then echo wrote exe; fi; \
             readlink /proc/1/exe || echo closed; \
             mkdir /node && (mknod /node/disk b 8 0 2>/dev/null && cat /node/disk 2>/dev/null) || echo no disk",
        ));
        assert_eq!(out, "closed\nno disk\n", "{kind:?}");
    }
}

#[test]
fn binds_are_shown_and_leave_no_trace() {
    for kind in kinds() {
        let world = World::new(kind);
        let shared = world.dir.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("a"), "from outside").unwrap();
        let mut spec =
            world.spec("cat /run/in/a; (echo x > /run/in/b) 2>/dev/null || echo refused");
        let mut bind = Bind { source: shared.clone(), target: "/run/in".into(), read_only: true };
        spec.mounts = vec![Mount::Bind(bind.clone())];
        assert_eq!(stdout(&spec), "from outsiderefused\n");
        assert!(!world.upper("run").exists());
        bind.target = "/../escape".into();
        spec.mounts = vec![Mount::Bind(bind)];
        let (result, ..) = run(&spec);
        assert!(matches!(result, Err(SandboxError::Setup { step: Step::Bind, .. })), "{result:?}");
    }
}

#[test]
fn links_of_the_image_do_not_lead_mounts_outside() {
    for kind in kinds() {
        let world = World::new(kind);
        let root = world.dir.path().join("root");
        let outside = world.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("run")).unwrap();
        let mut spec = world.spec("true");
        let bind = Bind { source: outside, target: "/run/x".into(), read_only: false };
        spec.mounts = vec![Mount::Bind(bind)];
        let (result, ..) = run(&spec);
        let error = result.unwrap_err();
        assert!(matches!(error, SandboxError::Setup { step: Step::Bind, .. }), "{error:?}");
    }
}

#[test]
fn memory_layers_and_secrets() {
    for kind in kinds() {
        let world = World::new(kind);
        let dir = world.dir.path();
        for (folder, file) in [("low/d", "one"), ("high/d", "two")] {
            fs::create_dir_all(dir.join(folder)).unwrap();
            fs::write(dir.join(folder).join(file), file).unwrap();
        }
        for folder in ["spare/upper", "spare/work"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let layers = |writable, target: &str| {
            Mount::Layers(Layers {
                lower: vec![dir.join("high"), dir.join("low")],
                writable,
                source: "d".into(),
                is_folder: true,
                target: target.into(),
            })
        };
        let content = SecretBytes(b"hush".to_vec());
        let secret = MemoryFile {
            target: "/run/secrets/s".into(),
            content: content.clone(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        };
        let mut spec = world.spec(
            "cat /ro/one /ro/two /run/secrets/s; echo $S; (echo x > /ro/x) 2>/dev/null || echo no; \
             echo x > /rw/one; cat /rw/one; echo t > /t/sub/f; stat -c %a /run/secrets/s",
        );
        spec.mounts = vec![
            layers(None, "/ro"),
            layers(Some(dir.join("spare")), "/rw"),
            Mount::Tmpfs { target: "/t".into(), size_bytes: Some(1 << 20) },
            Mount::Tmpfs { target: "/t/sub".into(), size_bytes: None },
            Mount::File(secret),
        ];
        spec.secret_env = vec![("S".into(), content)];
        assert!(!format!("{spec:?}").contains("hush"));
        assert_eq!(stdout(&spec), "onetwohushhush\nno\nx\n400\n");
        assert_eq!(fs::read(dir.join("low/d/one")).unwrap(), b"one");
        for name in ["ro", "rw", "t", "run"] {
            assert!(!world.upper(name).exists(), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_run_is_said() {
    let world = World::new(Isolation::choose());
    let mut spec = world.spec("");
    spec.args = vec!["no-such-program".into()];
    let error = run(&spec).0.unwrap_err();
    assert_eq!(error.to_string(), "cannot execute `no-such-program`");
    spec.args = vec!["sh".into()];
    spec.current_dir = "/absent".into();
    let error = run(&spec).0.unwrap_err();
    assert_eq!(error.to_string(), "cannot enter the working directory `/absent`");
    spec.args.clear();
    assert!(matches!(run(&spec).0, Err(SandboxError::Spec { .. })));
    spec = world.spec("true");
    spec.writable = world.dir.path().join("nowhere");
    let error = run(&spec).0.unwrap_err();
    assert!(matches!(error, SandboxError::Setup { step: Step::Overlay, .. }), "{error:?}");
}

#[test]
fn time_limit_and_cancel_end_everything() {
    for kind in kinds() {
        let world = World::new(kind);
        let mut spec = world.spec("echo started; (sleep 600 &) ; sleep 600");
        spec.timeout = Some(Duration::from_millis(300));
        let (result, out, _) = run(&spec);
        assert!(matches!(result, Err(SandboxError::TimedOut { .. })), "{result:?}");
        assert_eq!(out, "started\n");
        spec.timeout = None;
        fresh(&spec);
        let control = Control::new().unwrap();
        let result = launcher().run(&spec, &control, &mut |_, _| control.kill());
        assert!(matches!(result, Err(SandboxError::Cancelled)), "{result:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(world.dir.path().to_str().unwrap()));
    }
}

#[test]
fn many_layers_with_odd_names_stack() {
    for kind in kinds() {
        let world = World::new(kind);
        let mut spec = world.spec("cat /layer; cat /only-150");
        let mut lower = Vec::new();
        for index in 0..200 {
            let path = world.dir.path().join(format!("a:b,c\\d {index}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("layer"), format!("{index};")).unwrap();
            fs::write(path.join(format!("only-{index}")), "deep").unwrap();
            lower.push(path);
        }
        lower.append(&mut spec.lower);
        spec.lower = lower;
        assert_eq!(stdout(&spec), "0;deep");
    }
}

#[test]
fn no_network_means_loopback_alone() {
    for kind in kinds() {
        let world = World::new(kind);
        world.add_helper();
        let mut spec = world.spec(
            "cat /proc/net/dev; cat /etc/hosts; cat /etc/resolv.conf; helper loop free </dev/null",
        );
        spec.network = Network::None;
        let out = stdout(&spec);
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[2].trim_start().starts_with("lo:"), "{kind:?}: {out}");
        let rest =
            ["127.0.0.1\tlocalhost builder", "::1\tlocalhost ip6-localhost ip6-loopback", "ready"];
        assert_eq!(lines[3..], rest, "{kind:?}: no other interface, and it listens and connects");
    }
}

#[test]
fn the_hosts_network_cannot_be_listened_to() {
    for kind in kinds() {
        let world = World::new(kind);
        world.add_helper();
        // Beside a socket that a build does need; a network of its own is the command's to listen to.
        for (network, what, code) in [
            (Network::Host, "loop", 0),
            (Network::Host, "packet", 3),
            (Network::Host, "raw", 3),
            (Network::None, "packet", 0),
            (Network::None, "raw", 0),
        ] {
            let mut spec = world.spec(&format!("helper {what} free </dev/null"));
            spec.network = network;
            let (result, _, err) = run(&spec);
            let exit = result.unwrap().exit;
            assert_eq!(exit, Exit::Code(code), "{kind:?} {network:?} {what}: {err}");
        }
    }
}

#[test]
fn names_of_the_host_are_not_shown() {
    for kind in kinds() {
        let world = World::new(kind);
        let out =
            stdout(&world.spec("cat /etc/hosts; (echo x > /etc/hosts) 2>/dev/null || echo no"));
        assert_eq!(
            out,
            "127.0.0.1\tlocalhost builder\n::1\tlocalhost ip6-localhost ip6-loopback\nno\n"
        );
    }
}

#[test]
fn probe_names_the_best() {
    let dir = TempDir::new().unwrap();
    let probe = launcher().probe(dir.path()).unwrap();
    assert_eq!(probe.isolation, Some(Isolation::choose()));
    let refused: Vec<_> = probe.refusals.iter().map(|refusal| refusal.isolation).collect();
    let want = match Isolation::choose() {
        Isolation::Privileged | Isolation::IdRange => vec![],
        _ => vec![Isolation::Privileged],
    };
    assert_eq!(refused, want);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
