//! Whose program is at the other end of a loopback connection.
//!
//! A push starts jobs that run as the plane's user, and a fetch reads that user's code: neither
//! another user of the machine nor a sandboxed `RUN` of a build, which shares the machine's network,
//! may have that for the asking. The kernel knows who owns the other socket (proc_pid_net(5)) and
//! which process holds it (proc_pid_fd(5)). What cannot be told is not ours.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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

/// A line of the kernel's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
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
    for list in SOCKETS {
        let table = match fs::read_to_string(list) {
            Ok(table) => table,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if let Some(socket) = find(&table, peer) {
            return Ok(Some(socket));
        }
    }
    Ok(None)
}

/// The kernel's number of the socket at the other end of a loopback connection; `None` when it is closed. A number is not given to another socket while this one is open.
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

/// The open connection whose own address is `peer`.
fn find(table: &str, peer: SocketAddr) -> Option<Socket> {
    let wanted = spellings(peer);
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, state, _, _, _, owner, _, inode, ..] = fields[..] else { return None };
        let is_it = state == ESTABLISHED && wanted.iter().any(|wanted| wanted == local);
        is_it.then(|| Some(Socket { owner: owner.parse().ok()?, inode: inode.parse().ok()? }))?
    })
}

/// An address as the lists write it: numbers of 32 bits in the machine's byte order.
fn spellings(peer: SocketAddr) -> Vec<String> {
    let port = peer.port();
    let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
    let long = |ip: Ipv6Addr| {
        let words: String =
            ip.octets().chunks_exact(4).map(|o| word([o[0], o[1], o[2], o[3]])).collect();
        format!("{words}:{port:04X}")
    };
    match peer.ip() {
        IpAddr::V4(ip) => {
            vec![format!("{}:{port:04X}", word(ip.octets())), long(ip.to_ipv6_mapped())]
        }
        IpAddr::V6(ip) => vec![long(ip)],
    }
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
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 11 1 0 100 0 0 10 0
   1: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 12 1 0 20 4 0 10 -1
   2: 0100007F:C002 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 0 10 -1
   3: 0000000000000000FFFF00000100007F:C003 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 13 1 0 20 4 0 10 -1
   4: 00000000000000000000000001000000:C004 00000000000000000000000001000000:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 14 1 0 20 4 0 10 -1
";
        let check = |peer: &str, want: Option<(u32, u64)>| {
            let found = find(table, peer.parse().unwrap());
            assert_eq!(found.map(|socket| (socket.owner, socket.inode)), want, "{peer}");
        };
        check("127.0.0.1:49153", Some((1000, 12)));
        check("127.0.0.1:49155", Some((1001, 13)));
        check("[::1]:49156", Some((1002, 14)));
        // Closed at the other end: the 0 is nobody, not root. And one that listens.
        check("127.0.0.1:49154", None);
        check("127.0.0.1:8080", None);
        check("127.0.0.1:1", None);
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
