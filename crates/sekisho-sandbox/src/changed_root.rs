//! A command where nothing can be mounted and no namespace made: the usual container, as its root.
//!
//! ```text
//!  trees ──▶ copied onto each other ──▶ root/   what is there, by change time
//!                                        │ chroot, and everything given up
//!                                        ▼
//!                                      command
//!                                        │
//!            upper/ ◀── what changed ── root/
//! ```
//!
//! What this wall does not do: the command sees no file of ours, and has no capability to leave its root,
//! to trace or to make devices; but there are no namespaces, so it can signal processes of the same user,
//! and uses the container's network. Where we are killed, a process that it left may live on. There is no
//! `/proc`. What would have to be mounted is copied where it is a file, and refused where it is a folder.

mod compare;
mod copy;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, makedev};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

use self::compare::{Snapshot, move_changes};
use self::copy::{Copier, remove_tree_or_file};
use crate::error::Step;
use crate::init;
use crate::mounts::{HOSTS, RESOLVER, hosts};
use crate::spec::{Mount, Network, Spec};
use crate::wire::{self, AtStep as _, Failure, Report};
use crate::{capability, supervisor, sys};

/// Devices that every program may expect: name, major, minor (Linux, admin-guide/devices.txt).
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Of the container's, not of the image.
const SYSTEM: [&str; 3] = ["dev", "proc", "sys"];

/// What is said once.
const REMARK: &str = "nothing can be mounted here: files are copied and compared, there is no /proc, and a \
                      RUN can signal other processes of this container";

/// Runs it, in the process that was started for that.
pub(crate) fn main(spec: &Spec, socket: &UnixStream) -> Report {
    run(spec, socket).unwrap_or_else(Report::from)
}

fn run(spec: &Spec, socket: &UnixStream) -> Result<Report, Failure> {
    let _ = rustix::process::setsid();
    supervisor::die_with_parent()?;
    // What its processes leave behind becomes ours to end.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).at(Step::Init)?;
    rustix::process::umask(Mode::empty());
    if spec.network == Network::None {
        return Err(Failure::new(Step::Network, Errno::PERM));
    }
    let root = spec.writable.join("root");
    fs::create_dir(&root).at_path(Step::Copy, &root)?;
    let check = || hung_up(socket);
    let mut copier = Copier::new(&check);
    for tree in spec.lower.iter().rev() {
        copier.tree(tree, &root).at_path(Step::Copy, tree)?;
    }
    let mut placed = Placed::default();
    placed.system(&root)?;
    placed.files(spec, &root)?;
    let before = Snapshot::take(&root, &placed.left_out).at_path(Step::Copy, &root)?;
    let mut before = before.without(placed.made.iter().map(|(path, _)| path));
    before.settle(&spec.writable).at_path(Step::Copy, &spec.writable)?;
    let report = carry_out(spec, socket, &root);
    end_all();
    // What we take back changes the folders that it is in, which the command may not have changed.
    let same = before.unchanged(&root, placed.made.iter().filter_map(|(path, _)| path.parent()));
    placed.remove(&root).at_path(Step::Copy, &root)?;
    before.renew(&root, same).at_path(Step::Copy, &root)?;
    let upper = spec.writable.join("upper");
    move_changes(&root, &before, &placed.left_out, &upper).at_path(Step::Copy, &upper)?;
    crate::remove_tree(&root).at_path(Step::Copy, &root)?;
    Ok(report)
}

/// An error when nobody waits for us any more.
fn hung_up(socket: &UnixStream) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(0) | Err(Errno::INTR) => Ok(()),
        Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(error) => Err(error.into()),
    }
}

/// Starts the command in the root. The container's seccomp profile may forbid `unshare` of anything, so this
/// process goes there itself, and comes back.
fn start(spec: &Spec, root: &Path) -> Result<Child, Report> {
    let failed = |step, error: io::Error| Report::from(Failure::new(step, error));
    let pivot = |error: Errno| failed(Step::Pivot, error.into());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let outside = rustix::fs::open("/", flags, Mode::empty()).map_err(pivot)?;
    rustix::process::chroot(root).map_err(pivot)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let started = match std::env::set_current_dir(&spec.current_dir) {
        Err(error) => Err(Report::CurrentDir { errno: wire::raw(error) }),
        // Capabilities, the user and filters are a thread's own.
        Ok(()) => std::thread::scope(|scope| {
            let command = scope.spawn(|| {
                let give_up = |error: Errno| failed(Step::Drop, error.into());
                init::limit(spec).map_err(give_up)?;
                capability::bound_in_container().map_err(give_up)?;
                init::become_user(&spec.user).map_err(give_up)?;
                init::confine(false)?;
                init::command(spec)
            });
            command.join().unwrap_or_else(|_| Err(failed(Step::Drop, io::ErrorKind::Other.into())))
        }),
    };
    rustix::process::fchdir(&outside).map_err(pivot)?;
    rustix::process::chroot(".").map_err(pivot)?;
    rustix::process::umask(Mode::empty());
    started
}

/// Starts the command, and waits for it.
fn carry_out(spec: &Spec, socket: &UnixStream, root: &Path) -> Report {
    let child = match start(spec, root) {
        Ok(child) => child,
        Err(report) => return report,
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let waited = match pid {
        Some(pid) => init::reap_until(pid, socket, &mut None),
        None => Err(io::ErrorKind::InvalidData.into()),
    };
    match waited {
        Ok(exit) => {
            let used = sys::children_used().unwrap_or_default();
            let (remarks, link_owners) = (vec![REMARK.to_owned()], Vec::new());
            Report::Ended { exit, remarks, link_owners, used }
        }
        Err(error) => Report::Setup { step: Step::Init, path: None, errno: wire::raw(error) },
    }
}

/// Ends what the command left: the children of what is ended become ours, until there are none.
fn end_all() {
    let own = rustix::process::getpid().as_raw_pid();
    loop {
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        for pid in children.unwrap_or_default().split_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Whether a folder of the root is there, without a link on the way.
fn look(root: &Path, folder: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(root, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    rustix::fs::openat2(&top, folder, flags, Mode::empty(), resolve).map(drop)
}

/// What was put into the root, and is none of the image.
#[derive(Default)]
struct Placed {
    /// Paths that do not count as changed.
    left_out: BTreeSet<PathBuf>,
    /// In order; with what stood there before, which comes back.
    made: Vec<(PathBuf, Option<PathBuf>)>,
}

impl Placed {
    /// A folder with a few devices; two that are empty.
    fn system(&mut self, root: &Path) -> Result<(), Failure> {
        for name in SYSTEM {
            let path = root.join(name);
            if !fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
                self.stash(root, Path::new(name)).at_path(Step::Devices, &path)?;
                fs::create_dir(&path).at_path(Step::Devices, &path)?;
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&path, mode).at_path(Step::Devices, &path)?;
            }
            self.left_out.insert(name.into());
        }
        for (name, major, minor) in DEVICES {
            let path = Path::new("dev").join(name);
            self.stash(root, &path).at_path(Step::Devices, &path)?;
            let (mode, device) = (Mode::from_raw_mode(0o666), makedev(major, minor));
            rustix::fs::mknodat(CWD, root.join(&path), FileType::CharacterDevice, mode, device)
                .at_path(Step::Devices, &path)?;
        }
        Ok(())
    }

    /// What other sandboxes would mount, as copies.
    fn files(&mut self, spec: &Spec, root: &Path) -> Result<(), Failure> {
        let resolver = fs::read(RESOLVER).ok().map(|text| (RESOLVER, text));
        for (file, text) in resolver.into_iter().chain([(HOSTS, hosts(&spec.hostname).into())]) {
            self.file(root, file, &text, (0o644, 0, 0)).at_path(Step::Bind, file)?;
        }
        for mount in &spec.mounts {
            let (target, _) = mount.stub();
            match mount {
                Mount::File(file) => {
                    let how = (file.mode, file.uid, file.gid);
                    self.file(root, target, &file.content.0, how).at_path(Step::Bind, target)?;
                }
                Mount::Bind(bind) if bind.read_only && bind.source.is_file() => {
                    let content = fs::read(&bind.source).at_path(Step::Bind, &bind.source)?;
                    self.file(root, target, &content, (0o644, 0, 0)).at_path(Step::Bind, target)?;
                }
                _ => return Err(Errno::PERM).at_path(Step::Mount, target),
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        root: &Path,
        target: &str,
        content: &[u8],
        (mode, uid, gid): (u32, u32, u32),
    ) -> io::Result<()> {
        let path = PathBuf::from(target.trim_start_matches('/'));
        self.stash(root, &path)?;
        let disk = root.join(&path);
        fs::write(&disk, content)?;
        chown(&disk, Some(uid), Some(gid))?;
        fs::set_permissions(&disk, fs::Permissions::from_mode(mode))
    }

    /// Makes room at a path, and the folders on the way, which are no links.
    fn stash(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(Errno::INVAL.into());
        }
        for folder in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            match look(root, folder) {
                Ok(()) => {}
                Err(Errno::NOENT) => {
                    let disk = root.join(folder);
                    fs::create_dir(&disk)?;
                    fs::set_permissions(&disk, fs::Permissions::from_mode(0o755))?;
                    self.made.push((folder.to_owned(), None));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let number = self.made.len();
        let old = fs::symlink_metadata(root.join(path))
            .is_ok()
            .then(|| root.with_file_name(format!("stashed-{number}")));
        if let Some(old) = &old {
            fs::rename(root.join(path), old)?;
        }
        self.left_out.insert(path.to_owned());
        self.made.push((path.to_owned(), old));
        Ok(())
    }

    /// The last first: a folder that was made for something is empty then, or is the command's too.
    fn remove(&self, root: &Path) -> io::Result<()> {
        for (path, old) in self.made.iter().rev() {
            let disk = root.join(path);
            // The command may have put a link in the way, or taken the folder with it.
            if path.parent().is_some_and(|folder| look(root, folder).is_err()) {
                continue;
            }
            if fs::symlink_metadata(&disk).is_ok_and(|there| there.is_dir())
                && !self.left_out.contains(path)
            {
                // Not ours alone any more when something is in it.
                let _ = fs::remove_dir(&disk);
                continue;
            }
            remove_tree_or_file(&disk)?;
            if let Some(old) = old {
                fs::rename(old, &disk)?;
            }
        }
        Ok(())
    }
}
