//! Whose program is at the other end of a loopback connection.
//!
//! A push starts jobs that run as the plane's user, and a fetch reads that user's code: neither
//! another user of the machine nor a sandboxed `RUN` of a build, which shares the machine's network,
//! may have that for the asking. The kernel knows who owns the other socket (proc_pid_net(5)) and
//! which process holds it (proc_pid_fd(5)). What cannot be told is not ours.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;

/// The kernel's lists of TCP sockets of this network namespace. An IPv6 socket may speak IPv4, and
/// is in the second one then.
const SOCKETS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// `TCP_ESTABLISHED`. In every other state the socket may have no owner any more, and the list then
/// says 0, as if it were root's.
const ESTABLISHED: &str = "01";

/// How often it is looked before nothing is there: see [`look_often`].
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// A line of the kernel's lists: one end of an open connection. The other end has a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    own: SocketAddr,
    other: SocketAddr,
    owner: u32,
    inode: u64,
}

/// Whether the program at `peer` is run by us, outside of any sandbox, or by root. Blocks.
pub(super) fn is_ours(peer: SocketAddr) -> bool {
    let found = look_often(|| Ok(told(peer)?.then_some(())));
    found.map(|found| found.is_some()).unwrap_or_else(|error| {
        tracing::warn!("it cannot be told whose program is at {peer}: {error}");
        false
    })
}

/// Looks until something is found, five times at most, with a millisecond between two: the kernel's lists are no
/// snapshot, and what is open is not always in them while others open and close.
///
/// # Errors
/// Those of a look.
pub fn look_often<T>(mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    for _ in 1..LOOKS {
        let found = look()?;
        if found.is_some() {
            return Ok(found);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    look()
}

fn told(peer: SocketAddr) -> io::Result<bool> {
    let ours = fs::metadata("/proc/self")?.uid();
    // Root may do all that we may; no sandbox of ours has another user's root.
    match socket_of(peer)? {
        Some(socket) if socket.owner == 0 && ours != 0 => Ok(true),
        Some(socket) if socket.owner == ours => is_held_beside_us(socket.inode, ours),
        _ => Ok(false),
    }
}

fn socket_of(peer: SocketAddr) -> io::Result<Option<Socket>> {
    let mut sockets = Vec::new();
    for list in SOCKETS {
        match fs::read_to_string(list) {
            Ok(table) => sockets.extend(table.lines().skip(1).filter_map(established)),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(find(&sockets, &own_inodes()?, peer))
}

/// The numbers of our own sockets.
fn own_inodes() -> io::Result<BTreeSet<u64>> {
    let number =
        |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let files = fs::read_dir("/proc/self/fd")?.flatten();
    Ok(files.filter_map(|file| number(fs::read_link(file.path()).ok()?)).collect())
}

/// The kernel's number of the socket at the other end of a loopback connection of ours; `None` when it is closed. A
/// number is not given to another socket while this one is open.
///
/// # Errors
/// The kernel's lists cannot be read.
pub fn socket_at(peer: SocketAddr) -> io::Result<Option<u64>> {
    Ok(socket_of(peer)?.map(|socket| socket.inode))
}

/// The processes that hold a socket, as far as we may look into them. Takes a millisecond or so.
///
/// # Errors
/// `/proc` cannot be read.
pub fn holders_of(inode: u64) -> io::Result<Vec<u32>> {
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    let number = |name: std::ffi::OsString| name.to_str()?.parse::<u32>().ok();
    let processes = fs::read_dir("/proc")?.flatten().filter_map(|it| number(it.file_name()));
    Ok(processes.filter(|pid| holds(Path::new(&format!("/proc/{pid}")), &wanted)).collect())
}

/// The socket at the other end of a connection of ours. An address alone does not say which that is: a port serves
/// any number of connections, each to another address. `None` where two of them end here.
fn find(sockets: &[Socket], ours: &BTreeSet<u64>, peer: SocketAddr) -> Option<Socket> {
    let peer = canonical(peer);
    let ends_here = |it: &&Socket| {
        let is_other_end = |end: &Socket| end.own == it.other && end.other == it.own;
        sockets.iter().any(|end| is_other_end(end) && ours.contains(&end.inode))
    };
    let mut found = sockets.iter().filter(|it| it.own == peer).filter(ends_here);
    found.next().filter(|_| found.next().is_none()).copied()
}

/// Reads a line, where its connection is open.
fn established(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, own, other, ESTABLISHED, _, _, _, owner, _, inode, ..] = fields[..] else {
        return None;
    };
    let (owner, inode) = (owner.parse().ok()?, inode.parse().ok()?);
    Some(Socket { own: address(own)?, other: address(other)?, owner, inode })
}

/// An address as the lists write it: numbers of 32 bits in the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?.to_ne_bytes()),
        32 => {
            let mut octets = [0; 16];
            for (at, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?.to_ne_bytes());
            }
            IpAddr::from(octets)
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// IPv4 as such, also where a socket of IPv6 speaks it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether processes of ours hold the socket, all of them in our own pid namespace: a sandbox has
/// one of its own.
fn is_held_beside_us(inode: u64, ours: u32) -> io::Result<bool> {
    let here = fs::read_link("/proc/self/ns/pid")?;
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    let mut is_held = false;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let is_process = process.file_name().is_some_and(|name| {
            name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        });
        // Processes come and go, and some may not be looked into: those hold nothing that we see.
        let Ok(about) = fs::metadata(&process) else { continue };
        if !is_process || about.uid() != ours || !holds(&process, &wanted) {
            continue;
        }
        if fs::read_link(process.join("ns/pid")).ok().as_ref() != Some(&here) {
            return Ok(false);
        }
        is_held = true;
    }
    Ok(is_held)
}

fn holds(process: &Path, wanted: &Path) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link == wanted))
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_owner_of_a_socket() {
        let line = |own: &str, other: &str, state: &str, owner: u32, inode: u64| {
            let counts = "00000000:00000000 00:00000000 00000000";
            format!("   0: {own} {other} {state} {counts} {owner:5} 0 {inode} 1 0 20 4 0 10 -1")
        };
        let mapped = |four: &str| format!("0000000000000000FFFF0000{four}");
        let server = "0100007F:1F90";
        let own = "00000000000000000000000001000000:1F90";
        let lines = [
            line(server, "00000000:0000", "0A", 7, 11),
            // The same port twice: to somebody else, and to us.
            line("0100007F:C001", "0100007F:0050", "01", 1009, 19),
            line("0100007F:C001", server, "01", 1000, 12),
            line(server, "0100007F:C001", "01", 7, 101),
            line("0100007F:0050", "0100007F:C001", "01", 8, 109),
            // Half closed: its line says 0, which is nobody.
            line("0100007F:C002", server, "05", 0, 0),
            line(server, "0100007F:C002", "01", 7, 102),
            line(&mapped("0100007F:C003"), &mapped(server), "01", 1001, 13),
            line(server, "0100007F:C003", "01", 7, 103),
            line("00000000000000000000000001000000:C004", own, "01", 1002, 14),
            line(own, "00000000000000000000000001000000:C004", "01", 7, 104),
            // To two ports of ours: which one asks cannot be told.
            line("0100007F:C005", server, "01", 1003, 15),
            line(server, "0100007F:C005", "01", 7, 105),
            line("0100007F:C005", "0100007F:1F91", "01", 1004, 16),
            line("0100007F:1F91", "0100007F:C005", "01", 7, 106),
        ];
        let sockets: Vec<Socket> = lines.iter().filter_map(|line| established(line)).collect();
        assert_eq!(sockets.len(), lines.len() - 2);
        let ours = (101..=106).collect();
        let check = |peer: &str, want: Option<(u32, u64)>| {
            let found = find(&sockets, &ours, peer.parse().unwrap());
            assert_eq!(found.map(|socket| (socket.owner, socket.inode)), want, "{peer}");
        };
        check("127.0.0.1:49153", Some((1000, 12)));
        check("127.0.0.1:49155", Some((1001, 13)));
        check("[::ffff:127.0.0.1]:49155", Some((1001, 13)));
        check("[::1]:49156", Some((1002, 14)));
        // Closed at the other end; one that listens; none at all; two.
        check("127.0.0.1:49154", None);
        check("127.0.0.1:8080", None);
        check("127.0.0.1:1", None);
        check("127.0.0.1:49157", None);
    }

    #[test]
    fn our_own_sockets_are_ours_of_either_family() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "::ffff:127.0.0.1"] {
            let Ok(stream) = TcpStream::connect((host, port)) else { continue };
            let (accepted, peer) = listener.accept().unwrap();
            assert!(is_ours(peer), "{host}");
            let inode = socket_at(peer).unwrap().unwrap();
            assert_eq!(holders_of(inode).unwrap(), [std::process::id()], "{host}");
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(!is_ours(peer), "{host}, half closed");
            assert_eq!(socket_at(peer).unwrap(), None);
            drop(accepted);
        }
    }
}
