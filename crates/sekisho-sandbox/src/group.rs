//! A control group for one sandbox: what all of its processes may have together.
//!
//! Only where somebody lets us make groups: root of a machine, or a user whose service manager delegates.
//! With version 2 it is made beside ours, in the nearest folder that hands the controllers down, for a
//! group with processes of its own may not (the "no internal processes" rule); with version 1 below ours.
//! Moving a process costs the kernel some milliseconds, so there is one only when something asks for it.
//!
//! Sources: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids}.rst; proc(5) for
//! `mountinfo`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How the folders begin: then comes whose they are, and a number.
const PREFIX: &str = "sekisho-";

/// What is to be limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u32>,
}

/// A group, empty until a process is added; removed when dropped, which everything in it must have ended
/// before.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
}

/// Where a controller's groups are.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Where the hierarchy is mounted.
    top: PathBuf,
    /// Our own group in it.
    own: PathBuf,
}

impl Limits {
    fn controllers(self) -> Vec<&'static str> {
        let memory = self.memory_bytes.map(|_| "memory");
        memory.into_iter().chain(self.processes.map(|_| "pids")).collect()
    }

    /// File and content, of a controller; those that may be missing are tried only.
    fn settings(self, controller: &str, version: u8) -> Vec<(&'static str, String, bool)> {
        let memory = self.memory_bytes.unwrap_or(u64::MAX).to_string();
        match (controller, version) {
            ("memory", 2) => vec![
                ("memory.max", memory, true),
                // Or it would go on, slowly, on the disk.
                ("memory.swap.max", "0".to_owned(), false),
            ],
            ("memory", _) => vec![
                ("memory.limit_in_bytes", memory.clone(), true),
                ("memory.memsw.limit_in_bytes", memory, false),
            ],
            _ => vec![("pids.max", self.processes.unwrap_or(u32::MAX).to_string(), true)],
        }
    }
}

impl Group {
    /// Makes one with all of these limits; `None` where that cannot be.
    pub(crate) fn make(limits: Limits) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::version_2(limits, &groups, &mounts)
            .or_else(|| Self::version_1(limits, &groups, &mounts))
    }

    fn version_2(limits: Limits, groups: &str, mounts: &str) -> Option<Self> {
        let all = limits.controllers();
        let group = Self::nearest(&place(groups, mounts, None)?, &all)?;
        all.iter().all(|one| set(group.folders.first(), limits, one, 2)).then_some(group)
    }

    /// An empty group of version 2, in the nearest folder that hands these controllers down.
    fn nearest(place: &Place, controllers: &[&str]) -> Option<Self> {
        let parents = place.own.ancestors().skip(usize::from(place.own != place.top));
        let parents = parents.take_while(|parent| parent.starts_with(&place.top));
        let hands_down = |parent: &&Path| {
            let handed = fs::read_to_string(parent.join("cgroup.subtree_control"));
            let handed = handed.unwrap_or_default();
            controllers.iter().all(|one| handed.split_whitespace().any(|is| is == *one))
        };
        let mut made = parents.filter(hands_down).filter_map(|parent| folder(parent).ok());
        Some(Self { folders: vec![made.next()?] })
    }

    fn version_1(limits: Limits, groups: &str, mounts: &str) -> Option<Self> {
        let mut group = Self { folders: Vec::new() };
        for controller in limits.controllers() {
            let place = place(groups, mounts, Some(controller))?;
            // Our own may be out of sight, as in a container.
            let parent = if place.own.is_dir() { place.own } else { place.top };
            group.folders.push(folder(&parent).ok()?);
            if !set(group.folders.last(), limits, controller, 1) {
                return None;
            }
        }
        (!group.folders.is_empty()).then_some(group)
    }

    /// Puts a process into it, and all that it will start.
    pub(crate) fn add(&self, pid: u32) -> io::Result<()> {
        let add = |folder: &PathBuf| fs::write(folder.join("cgroup.procs"), pid.to_string());
        self.folders.iter().try_for_each(add)
    }

    /// Whether a process was ended for all of them had too much memory together.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        let files = ["memory.events", "memory.oom_control"];
        let paths = self.folders.iter().flat_map(|folder| files.map(|file| folder.join(file)));
        let ended = |path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let counts = text.lines().filter_map(|line| line.strip_prefix("oom_kill "));
            counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum::<u64>()
        };
        paths.map(ended).sum::<u64>() > 0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Whoever comes next tries again.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn set(folder: Option<&PathBuf>, limits: Limits, controller: &str, version: u8) -> bool {
    let Some(folder) = folder else { return false };
    let settings = limits.settings(controller, version);
    settings
        .iter()
        .all(|(file, value, needed)| fs::write(folder.join(file), value).is_ok() || !needed)
}

/// A new group below another; those of programs that are gone go.
fn folder(parent: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for entry in fs::read_dir(parent)?.flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if of.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
    fs::create_dir(&path).map(|()| path)
}

/// Where the groups of a controller are, or those of version 2, by the texts of `/proc/self/cgroup` and
/// `/proc/self/mountinfo`.
fn place(groups: &str, mounts: &str, controller: Option<&str>) -> Option<Place> {
    let has = |list: &str| controller.is_some_and(|one| list.split(',').any(|is| is == one));
    let group = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = match controller {
            None => number == "0" && controllers.is_empty(),
            Some(_) => has(controllers),
        };
        fits.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, top) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        let fits = match controller {
            None => kind == "cgroup2",
            Some(_) => kind == "cgroup" && has(options),
        };
        // A container sees a part of the hierarchy, which begins at its own group.
        let below = Path::new(group).strip_prefix(root).ok().filter(|_| fits)?;
        Some(Place { top: top.into(), own: Path::new(top).join(below) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_what_the_kernel_says() {
        let old = "5:memory,hugetlb:/a/b\n4:pids:/\n0::/user.slice/s\n";
        let mounts = "1 2 0:1 / /sys/fs/cgroup/memory rw - cgroup none rw,hugetlb,memory\n\
                      1 2 0:2 / /sys/fs/cgroup/pids rw,nosuid shared:9 - cgroup cgroup rw,pids\n\
                      1 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let at = |top: &str, own: &str| Some(Place { top: top.into(), own: own.into() });
        let memory = at("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b");
        assert_eq!(place(old, mounts, Some("memory")), memory);
        let pids = at("/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids");
        assert_eq!(place(old, mounts, Some("pids")), pids);
        let two = at("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/user.slice/s");
        assert_eq!(place(old, mounts, None), two);
        assert_eq!(place(old, mounts, Some("cpu")), None);
        // In a container.
        let inner = "1 2 0:3 /box /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(place("0::/box/x", inner, None), at("/sys/fs/cgroup", "/sys/fs/cgroup/x"));
        assert_eq!(place("0::/elsewhere", inner, None), None);
        assert_eq!(place("", "", None), None);
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn a_group_limits_what_is_added_to_it_and_goes_with_its_owner() {
        let limits = Limits { memory_bytes: Some(64 << 20), processes: Some(300) };
        let Some(group) = Group::make(limits) else {
            eprintln!("skipped: needs leave to make control groups");
            return;
        };
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        group.add(child.id()).unwrap();
        let folders = group.folders.clone();
        let read = |file: &str| {
            let mut paths = folders.iter().map(|folder| folder.join(file));
            fs::read_to_string(paths.find(|path| path.exists()).unwrap()).unwrap()
        };
        assert_eq!(read("pids.max").trim(), "300");
        assert_eq!(read("cgroup.procs").trim(), child.id().to_string());
        assert!(!group.was_out_of_memory());
        child.kill().unwrap();
        child.wait().unwrap();
        drop(group);
        assert!(folders.iter().all(|folder| !folder.exists()));
    }

    /// With folders in the place of groups: what is written where.
    #[test]
    fn limits_of_version_2_go_to_the_nearest_group_that_hands_them_down() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("a/b/own")).unwrap();
        for (folder, handed) in [("", "cpu memory pids"), ("a", "memory pids"), ("a/b", "cpu")] {
            fs::write(top.path().join(folder).join("cgroup.subtree_control"), handed).unwrap();
        }
        let mounts = format!("1 2 0:3 / {} rw - cgroup2 cgroup2 rw\n", top.path().display());
        let limits = Limits { memory_bytes: Some(64 << 20), processes: Some(300) };
        let group = Group::version_2(limits, "0::/a/b/own\n", &mounts).unwrap();
        let [folder] = group.folders.as_slice() else { panic!("{group:?}") };
        assert_eq!(folder.parent(), Some(top.path().join("a").as_path()));
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read("memory.max"), (64 << 20).to_string());
        assert_eq!((read("memory.swap.max"), read("pids.max")), ("0".into(), "300".into()));
        assert!(!group.was_out_of_memory());
        fs::write(folder.join("memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
        assert!(group.was_out_of_memory());
        // Nobody hands down what is asked for.
        fs::write(top.path().join("cgroup.subtree_control"), "cpu").unwrap();
        assert!(Group::version_2(limits, "0::/elsewhere\n", &mounts).is_none());
    }

    /// On the kernel's own, with whatever controller it has there: many machines give version 2 but one.
    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn a_group_of_version_2_takes_a_process_and_what_it_starts() {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let place = place(&groups, &mounts, None);
        let Some(group) = place.and_then(|place| Group::nearest(&place, &[])) else {
            eprintln!("skipped: needs leave to make groups of version 2");
            return;
        };
        let folder = group.folders.first().unwrap().clone();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read _; grep ^0:: /proc/self/cgroup"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        group.add(child.id()).unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
        // Its child, `grep`, is where it is.
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(said.trim_end().ends_with(&format!("/{name}")), "{said} is not in {name}");
        drop(group);
        assert!(!folder.exists());
    }
}
