//! The cache after a loss of power.
//!
//! A build does not wait for the disk: nothing in the cache is synced. The kernel writes what it was given
//! within half a minute, so a crash of the machine can only harm what was made shortly before it: a file
//! may then have its name and its length, and not its data. The first build after a boot looks at just
//! that: blobs and packages are hashed, and go when they are not what they are named; unpacked trees,
//! which nothing says what they were, go and are made again. Records cut short do not parse, and count
//! as absent.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use sekisho_sandbox::remove_tree;

use crate::pack;

/// Holds the name of the boot in which the cache was looked at last.
const FILE: &str = "boot";

/// How long something may wait in memory for the disk, in seconds: 35 as Linux comes, ten minutes in the
/// laptop modes (`vm.dirty_expire_centisecs`, `vm.dirty_writeback_centisecs`).
const UNWRITTEN_SECONDS: i64 = 600;

/// One start of the machine.
pub(super) struct Boot {
    /// As the kernel names it.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) since: i64,
}

impl Boot {
    /// The present one; `None` where the kernel does not tell.
    pub(super) fn current() -> Option<Self> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let since = stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok())?;
        Some(Self { id: id.trim().to_owned(), since })
    }
}

/// What is looked at.
enum Thing {
    /// Named by the digest of its bytes.
    File(PathBuf),
    Tree(PathBuf),
}

/// Whether the cache was looked at in this boot, or the kernel does not tell which that is.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn is_settled(root: &Path) -> io::Result<bool> {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) => Ok(known(root)? == id.trim()),
        Err(_) => Ok(true),
    }
}

/// In which boot the cache was looked at last; empty when it never was.
fn known(root: &Path) -> io::Result<String> {
    match std::fs::read_to_string(root.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// Removes what the end of an earlier boot may have cut short; nothing when the cache was looked at in
/// this one.
///
/// # Errors
/// The folder cannot be read, or what is broken cannot be removed.
pub(super) fn settle(root: &Path, boot: &Boot, now: SystemTime) -> io::Result<()> {
    if known(root)? == boot.id {
        return Ok(());
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    for thing in suspects(things(root)?, boot.since, now) {
        match thing {
            Thing::Tree(path) => remove_tree(&path)?,
            Thing::File(path) if is_as_named(&path)? => {}
            // Another build may have come to it first.
            Thing::File(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
    }
    let new = tempfile::NamedTempFile::new_in(root)?;
    fs::write(new.path(), &boot.id)?;
    new.persist(root.join(FILE)).map_err(|error| error.error)?;
    Ok(())
}

/// Of things with the time of their last change: those from before the boot that were young at the time
/// of the youngest. What a wrong clock dated into the future may be of any age.
fn suspects<T>(things: Vec<(i64, T)>, since: i64, now: i64) -> Vec<T> {
    let youngest = things.iter().map(|(changed, _)| *changed).filter(|at| *at <= since).max();
    let from = youngest.map_or(i64::MAX, |youngest| youngest.saturating_sub(UNWRITTEN_SECONDS));
    let suspect = |(changed, _): &(i64, T)| (from..=since).contains(changed) || *changed > now;
    things.into_iter().filter(suspect).map(|(_, thing)| thing).collect()
}

fn things(root: &Path) -> io::Result<Vec<(i64, Thing)>> {
    let mut things = Vec::new();
    let mut add = |folder: &Path, thing: fn(PathBuf) -> Thing| -> io::Result<()> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            // Another build may have removed it meanwhile.
            if let Ok(metadata) = entry.metadata() {
                things.push((metadata.ctime(), thing(entry.path())));
            }
        }
        Ok(())
    };
    add(&root.join("blobs/sha256"), Thing::File)?;
    add(&root.join(super::PACKAGES), Thing::File)?;
    add(&root.join(super::CHECKOUTS), Thing::Tree)?;
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("trees-") {
            add(&path, Thing::Tree)?;
        } else if name.starts_with("mounts-") {
            for mount in fs::read_dir(&path)? {
                add(&mount?.path().join("layers"), Thing::Tree)?;
            }
        }
    }
    Ok(things)
}

fn is_as_named(path: &Path) -> io::Result<bool> {
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    let (sum, _) = pack::hash(&mut file)?;
    Ok(path.file_stem().is_some_and(|name| name == sum.digest().hex()))
}

#[cfg(test)]
mod tests {
    use sekisho_types::Digest;

    use super::*;

    #[test]
    fn what_was_young_at_the_end_is_suspect() {
        let from = 10_000 - UNWRITTEN_SECONDS;
        let things = |times: &[i64]| times.iter().map(|at| (*at, *at)).collect();
        for (times, want) in [
            (vec![], vec![]),
            (vec![1, from - 1, from, 9_999, 10_000], vec![from, 9_999, 10_000]),
            // Of this boot, and of a clock that was wrong.
            (vec![10_000, 20_001, 90_000], vec![10_000, 90_000]),
            (vec![20_001], vec![]),
        ] {
            assert_eq!(suspects(things(&times), 20_000, 30_000), want, "{times:?}");
        }
    }

    #[test]
    fn after_another_boot_what_is_broken_is_gone_and_what_is_whole_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let blob = |name: &[u8], content: &[u8]| {
            let path = root.join("blobs/sha256").join(Digest::sha256(name).hex());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            path
        };
        let (whole, zeros) = (blob(b"whole", b"whole"), blob(b"cut", &[0; 3]));
        let trees = ["trees-privileged/1", "mounts-privileged/2/layers/3", "checkouts/4"];
        let trees = trees.map(|at| root.join(at));
        let make = || trees.iter().for_each(|tree| fs::create_dir_all(tree.join("a")).unwrap());
        make();
        let at = |id: &str, since| Boot { id: id.to_owned(), since };
        let now = std::fs::metadata(&whole).unwrap().ctime() + 100;
        let clock =
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(now).unwrap());
        settle(root, &at("one", now), clock).unwrap();
        assert!(whole.exists() && !zeros.exists() && !trees.iter().any(|tree| tree.exists()));
        // The same boot looks at nothing.
        let (zeros, _) = (blob(b"cut", &[0; 3]), make());
        settle(root, &at("one", now), clock).unwrap();
        assert!(zeros.exists() && trees.iter().all(|tree| tree.exists()));
        // Another one, which began before all of this was made, suspects nothing.
        settle(root, &at("two", now - 10_000), clock).unwrap();
        assert!(zeros.exists() && trees.iter().all(|tree| tree.exists()));
    }

    #[test]
    fn this_machine_has_a_boot() {
        let boot = Boot::current().unwrap();
        assert_eq!(boot.id.len(), 36);
        assert!(boot.since > 1_000_000_000);
    }
}
