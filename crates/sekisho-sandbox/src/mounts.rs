//! The root that a command sees.

mod attach;

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::{Errno, Result as SysResult};
use rustix::mount::{self, MountFlags, UnmountFlags};

use crate::Isolation;
use crate::error::Step;
use crate::group::Limits;
use crate::spec::{Network, Spec};
use crate::wire::{AtStep as _, Failure};

/// Devices of the host that every program may expect.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Links in `/dev`, name and target.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Files of `/proc` through which uid 0 could change the host even without a capability.
const PROC_READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Files of `/proc` that tell about the host.
const PROC_HIDDEN: &[&str] =
    &["acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"];

/// The file of the host that name resolution needs.
pub(crate) const RESOLVER: &str = "/etc/resolv.conf";

/// Names that need nobody to resolve; what the host's own file says is nobody's business.
pub(crate) const HOSTS: &str = "/etc/hosts";

/// What is in [`HOSTS`].
pub(crate) fn hosts(hostname: &str) -> String {
    format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

/// overlayfs's own limit on lower directories is 500; one of them is ours.
pub(crate) const MAX_LOWER: usize = 499;

/// What came of it.
pub(crate) struct Built {
    pub(crate) remarks: Vec<String>,
    /// The old root is unmounted, not merely hidden.
    pub(crate) pivoted: bool,
}

/// Mounts everything, on a tmpfs of the sandbox's own, and makes it the root.
pub(crate) fn build(spec: &Spec) -> Result<Built, Failure> {
    let scratch = &spec.mountpoint;
    let (flags, options) = (MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755,size=1g");
    mount::mount("sekisho", scratch, "tmpfs", flags, Some(options))
        .at_path(Step::Scratch, scratch)?;
    skeleton(spec, &scratch.join("skeleton"))?;
    let path = scratch.join("root");
    overlay(scratch, &spec.lower, Some(&spec.writable)).at_path(Step::Overlay, &spec.writable)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = Root(rustix::fs::open(&path, flags, Mode::empty()).at(Step::Overlay)?);
    let mut remarks = Vec::new();
    devices(&root)?;
    proc(&root, spec.isolation, spec.max_processes, &mut remarks)?;
    empty(&root, "sys").at(Step::Sys)?;
    if spec.network == Network::Host {
        show_file(&root, Path::new(RESOLVER), RESOLVER, &mut remarks)?;
    }
    let hosts = scratch.join("hosts");
    fs::write(&hosts, self::hosts(&spec.hostname)).at_path(Step::Scratch, &hosts)?;
    mask_bits(&hosts).at_path(Step::Scratch, &hosts)?;
    show_file(&root, &hosts, HOSTS, &mut remarks)?;
    attach::attach(&root, spec, scratch)?;
    let pivoted = enter(&path).at(Step::Pivot)?;
    if !pivoted {
        remarks.push("pivot_root is refused here: the root was changed with chroot".to_owned());
    }
    Ok(Built { remarks, pivoted })
}

/// The lowest layer: the mount points, so that mounting needs no change in `upper`.
fn skeleton(spec: &Spec, at: &Path) -> Result<(), Failure> {
    let make = |path: PathBuf, folder: bool| {
        let made = if folder {
            fs::create_dir_all(&path)
        } else {
            path.parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| if path.exists() { Ok(()) } else { fs::write(&path, []) })
        };
        made.at_path(Step::Scratch, path)
    };
    for folder in ["dev", "proc", "sys"] {
        make(at.join(folder), true)?;
    }
    for file in [RESOLVER, HOSTS] {
        make(at.join(file.trim_start_matches('/')), false)?;
    }
    for mount in &spec.mounts {
        let (target, is_folder) = mount.stub();
        let relative = Path::new(target.trim_start_matches('/'));
        if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(Errno::INVAL).at_path(Step::Bind, target);
        }
        // Below what another mount shows as a file nothing can be; mounting it will say so.
        let _ = make(at.join(relative), is_folder);
    }
    mask_bits(at).at_path(Step::Scratch, at)
}

/// The umask is 0 here: folders of the skeleton show through, so they get the usual mode.
fn mask_bits(at: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = if at.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(at, fs::Permissions::from_mode(mode))?;
    if at.is_dir() {
        for entry in fs::read_dir(at)? {
            mask_bits(&entry?.path())?;
        }
    }
    Ok(())
}

/// Mounts stacked trees at `at/root`, with `at/skeleton` as the lowest.
///
/// Mount options are limited to one page, and `:` and `,` mean something in them: so the layers get
/// short names in `at`, and the options are relative to it.
fn overlay(at: &Path, lower: &[PathBuf], writable: Option<&Path>) -> std::io::Result<()> {
    fs::create_dir(at.join("root"))?;
    let links = at.join("l");
    fs::create_dir(&links)?;
    let mut names = String::new();
    for (index, layer) in lower.iter().enumerate() {
        symlink(layer, links.join(index.to_string()))?;
        names.push_str(&format!("l/{index}:"));
    }
    rustix::process::chdir(at)?;
    let mut options = format!("lowerdir={names}skeleton,redirect_dir=nofollow");
    if let Some(writable) = writable {
        symlink(writable, at.join("w"))?;
        options.push_str(",upperdir=w/upper,workdir=w/work");
    }
    // Outside the first user namespace `trusted.` attributes cannot be written.
    if !in_first_user_namespace() {
        options.push_str(",userxattr");
    }
    // Nothing survives a crash half-way: a layer is published only after it was packed. The options
    // that are only for speed or against surprise are dropped when the kernel does not know them.
    let full = format!("{options},index=off,metacopy=off,volatile");
    let plain = format!("{options},index=off");
    let mut last = Errno::INVAL;
    for options in [full, plain, options] {
        let data = CString::new(options)?;
        match mount::mount("overlay", "root", "overlay", MountFlags::NODEV, Some(&*data)) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
        if last != Errno::INVAL {
            break;
        }
    }
    Err(last.into())
}

fn in_first_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    crate::isolation::is_first_namespace(&map)
}

/// The overlay, in which no link of the image can lead outside.
struct Root(OwnedFd);

/// Something in it. Mounting goes by its descriptor, so no link is followed a second time.
struct Found(OwnedFd);

impl Found {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

impl Root {
    fn find(&self, path: &str) -> SysResult<Found> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(self.0.as_fd(), path, flags, Mode::empty(), resolve).map(Found)
    }
}

fn devices(root: &Root) -> Result<(), Failure> {
    let tmpfs = |path: &str, options: &std::ffi::CStr| {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let target = root.find(path)?;
        mount::mount("sekisho", target.path(), "tmpfs", flags, Some(options))
    };
    tmpfs("dev", c"mode=0755,size=64k").at_path(Step::Devices, "/dev")?;
    let dev = root.find("dev").at_path(Step::Devices, "/dev")?;
    for name in DEVICES {
        let host = Path::new("/dev").join(name);
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::openat(&dev.0, *name, flags, mode).at_path(Step::Devices, &host)?;
        let target = root.find(&format!("dev/{name}")).at_path(Step::Devices, &host)?;
        mount::mount_bind(&host, target.path()).at_path(Step::Devices, &host)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(*target, &dev.0, *name).at_path(Step::Devices, *name)?;
    }
    for name in ["pts", "shm"] {
        rustix::fs::mkdirat(&dev.0, name, Mode::from_raw_mode(0o755)).at(Step::Devices)?;
    }
    tmpfs("dev/shm", c"mode=1777,size=64m").at_path(Step::Devices, "/dev/shm")?;
    let pts = root.find("dev/pts").at_path(Step::Devices, "/dev/pts")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    mount::mount("devpts", pts.path(), "devpts", flags, Some(options))
        .at_path(Step::Devices, "/dev/pts")
}

/// Since Linux 6.14 the highest process number is a process namespace's own, and ends a fork bomb. Before
/// that it is the machine's, and not ours to set.
fn numbers_are_own() -> bool {
    const SINCE: (u32, u32) = (6, 14);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|byte: char| !byte.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= SINCE
}

/// The limits that only a control group can hold: of all memory together, and of processes where nothing
/// else does.
pub(crate) fn wanted_group(spec: &Spec) -> Option<Limits> {
    let counted = match spec.isolation {
        Isolation::Privileged => numbers_are_own(),
        Isolation::IdRange | Isolation::SingleId => true,
        // It has no process numbers of its own.
        Isolation::ChangedRoot => false,
    };
    let limits = Limits {
        memory_bytes: spec.max_memory_bytes,
        processes: (!counted).then_some(spec.max_processes),
    };
    (limits != Limits::default()).then_some(limits)
}

/// Said when nothing holds.
pub(crate) const NO_LIMIT_OF_PROCESSES: &str =
    "this kernel has no limit on the processes of a sandbox";

fn limit_processes(root: &Root, max_processes: u32, remarks: &mut Vec<String>) {
    // Where they are not, whoever starts us says what holds.
    if !numbers_are_own() {
        return;
    }
    let limited = root
        .find("proc/sys/kernel/pid_max")
        .is_ok_and(|file| fs::write(file.path(), max_processes.to_string()).is_ok());
    if !limited && in_first_user_namespace() {
        remarks.push(NO_LIMIT_OF_PROCESSES.to_owned());
    }
}

fn proc(
    root: &Root,
    isolation: Isolation,
    max_processes: u32,
    remarks: &mut Vec<String>,
) -> Result<(), Failure> {
    let target = root.find("proc").at(Step::Proc)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount::mount("proc", target.path(), "proc", flags, None) {
        Ok(()) => {}
        // Where the host's own /proc is masked (a pod), the kernel refuses a whole one. A bind of the
        // masked one shows process numbers of the outside, but the user namespace keeps their contents
        // closed; without that namespace it would not.
        Err(Errno::PERM) if isolation != Isolation::Privileged => {
            mount::mount_bind_recursive("/proc", target.path()).at(Step::Proc)?;
            remarks.push("/proc is the outer one, for the kernel refused a fresh one".to_owned());
        }
        Err(error) => return Err(error).at(Step::Proc),
    }
    limit_processes(root, max_processes, remarks);
    for name in PROC_READ_ONLY {
        let path = format!("proc/{name}");
        let Ok(target) = root.find(&path) else { continue };
        mount::mount_bind_recursive(target.path(), target.path()).at_path(Step::Proc, &path)?;
        let target = root.find(&path).at_path(Step::Proc, &path)?;
        make_read_only(&target.path()).at_path(Step::Proc, &path)?;
    }
    for name in PROC_HIDDEN {
        let path = format!("proc/{name}");
        let Ok(target) = root.find(&path) else { continue };
        let is_folder = rustix::fs::fstat(&target.0).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
        });
        if is_folder {
            empty(root, &path).at_path(Step::Proc, &path)?;
        } else {
            let null = root.find("dev/null").at_path(Step::Proc, "/dev/null")?;
            mount::mount_bind(null.path(), target.path()).at_path(Step::Proc, &path)?;
        }
    }
    Ok(())
}

/// An empty read-only folder in place of what is there.
fn empty(root: &Root, path: &str) -> SysResult<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    let target = root.find(path)?;
    mount::mount("sekisho", target.path(), "tmpfs", flags, Some(c"mode=0755,size=4k"))
}

/// The image may have removed `/etc`, or have a dangling link there: then it goes without.
fn show_file(
    root: &Root,
    from: &Path,
    file: &str,
    remarks: &mut Vec<String>,
) -> Result<(), Failure> {
    if !from.exists() {
        return Ok(());
    }
    let Ok(target) = root.find(file) else {
        remarks.push(format!("`{file}` leads nowhere in this image, so it stays as it is"));
        return Ok(());
    };
    mount::mount_bind(from, target.path()).at_path(Step::Bind, file)?;
    let target = root.find(file).at_path(Step::Bind, file)?;
    make_read_only(&target.path()).at_path(Step::Bind, file)
}

/// Remounts a bind mount read-only, keeping the flags that a user namespace may not clear.
pub(crate) fn make_read_only(target: &Path) -> SysResult<()> {
    let now = rustix::fs::statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (held, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if now.contains(held) {
            flags |= flag;
        }
    }
    mount::mount_remount(target, flags, c"")
}

/// Makes `root` the root; false when only by chroot, for some seccomp profiles lack pivot_root.
fn enter(root: &Path) -> SysResult<bool> {
    rustix::process::chdir(root)?;
    let pivoted = match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            mount::unmount(".", UnmountFlags::DETACH)?;
            true
        }
        Err(Errno::PERM | Errno::NOSYS | Errno::INVAL) => {
            mount::mount_move(".", "/")?;
            rustix::process::chroot(".")?;
            false
        }
        Err(error) => return Err(error),
    };
    rustix::process::chdir("/")?;
    Ok(pivoted)
}
