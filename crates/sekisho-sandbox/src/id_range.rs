//! An ordinary user's range of ids: what `/etc/subuid` and `/etc/subgid` give, by the setuid programs
//! `newuidmap` and `newgidmap`.
//!
//! ```text
//!  process ── starts a holder ──▶ unshares a user namespace, and waits
//!     │  newuidmap, newgidmap on the holder
//!     │  setns into its namespace
//!     └─ exec of itself: the same process, now root of a namespace where other ids exist too
//! ```
//!
//! So owners are the kernel's business, and nothing need be emulated. That the whole program moves, and
//! not a sandbox alone, is because it writes, reads and removes files of those ids. Where any of it does
//! not work, nothing has happened, and one id is what there is.
//!
//! Sources: subuid(5), newuidmap(1), user_namespaces(7), setns(2).

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::isolation::MIN_RANGE;
use crate::sys;

/// Where ranges are given out.
const FILES: [(&str, &str); 2] = [("/etc/subuid", "newuidmap"), ("/etc/subgid", "newgidmap")];

/// Longest file with ranges that is read, in bytes: one line per user.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A stretch of ids of the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    count: u32,
}

/// Becomes root of a user namespace with the range of ids that this user was given, by starting the program
/// again in it, with its arguments. Does nothing where there is no need, as for root, or no range.
///
/// Call it while the process has one thread, after [`main_if_sandbox`](crate::main_if_sandbox).
///
/// # Errors
/// There is a range, and it cannot be had; nothing was changed.
pub fn enter_id_range() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, uid).unwrap_or_default();
    let given = |(path, _)| {
        let small = fs::metadata(path).is_ok_and(|file| file.len() <= MAX_FILE_BYTES);
        let text = small.then(|| fs::read_to_string(path).ok()).flatten()?;
        range(&text, name, uid)
    };
    let [Some(uids), Some(gids)] = FILES.map(given) else { return Ok(()) };
    let mut holder = Holder::start()?;
    for ((_, program), (own, range)) in FILES.into_iter().zip([(uid, uids), (gid, gids)]) {
        holder.map(program, own, range)?;
    }
    let namespace = fs::File::open(format!("/proc/{}/ns/user", holder.0.id()))?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    drop(holder);
    let mut arguments = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    again.arg0(arguments.next().unwrap_or_default()).args(arguments);
    Err(again.exec())
}

/// Keeps the namespace until somebody else is in it.
struct Holder(Child);

impl Holder {
    fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(crate::ID_RANGE_ARG)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut word = [0; READY.len()];
        let told = match &mut child.stdout {
            Some(stdout) => stdout.read_exact(&mut word),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        // From here on it is ended and waited for.
        let holder = Self(child);
        told.map_err(|_| io::Error::other("no user namespace can be made here"))?;
        Ok(holder)
    }

    /// Ours becomes 0; the range is what follows.
    fn map(&mut self, program: &str, own: u32, range: Range) -> io::Result<()> {
        let pid = self.0.id().to_string();
        let (own, start, count) =
            (own.to_string(), range.start.to_string(), range.count.to_string());
        let output = Command::new(program)
            .args([&pid, "0", &own, "1", "1", &start, &count])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| io::Error::other(format!("cannot run `{program}`: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it does not say why").to_owned();
        Err(io::Error::other(format!("`{program}` failed: {said}")))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It ends at the end of its input in any case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the holder says.
const READY: &[u8] = b"ready";

/// The holder's whole life.
pub(crate) fn hold() -> i32 {
    let ready = sys::unshare(UnshareFlags::NEWUSER).is_ok()
        && io::stdout().write_all(READY).and_then(|()| io::stdout().flush()).is_ok();
    if ready {
        let _ = io::stdin().read(&mut [0]);
    }
    i32::from(!ready)
}

/// The name of a user by the text of `/etc/passwd`.
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

/// The largest range of a user, who may be named or numbered; none that has too few ids for an image.
fn range(text: &str, name: &str, uid: u32) -> Option<Range> {
    let uid = uid.to_string();
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let own = (who == name && !name.is_empty()) || who == uid;
        own.then_some(Range { start, count })
    });
    let largest = ranges.max_by_key(|range| range.count)?;
    // Our own id is one more; more than an image can name are of no use.
    let count = largest.count.min(MAX_COUNT);
    (u64::from(count) + 1 >= MIN_RANGE).then_some(Range { count, ..largest })
}

/// Ids are below 2^32 - 1, and ours takes the first.
const MAX_COUNT: u32 = u32::MAX - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_range_of_the_user_counts() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("ann"));
        assert_eq!(name_of(passwd, 100), None);
        let at = |start, count| Some(Range { start, count });
        for (text, want) in [
            ("", None),
            ("ann:100000:65536\n", at(100_000, 65_536)),
            ("1000:100000:65535\nbob:5:9999999\n", at(100_000, 65_535)),
            ("ann:1:10\nann:200000:70000\n", at(200_000, 70_000)),
            ("ann:100000:1000\n", None),
            ("ann:100000\nann:x:65536\nann:1:-5\n", None),
            ("ann:1:4294967295\n", at(1, MAX_COUNT)),
        ] {
            assert_eq!(range(text, "ann", 1000), want, "{text}");
        }
        assert_eq!(range(":1:65536", "", 1000), None, "who has no name is not everybody");
    }
}
