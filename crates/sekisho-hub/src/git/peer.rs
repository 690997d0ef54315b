//! Whose program is at the other end of a loopback connection.
//!
//! A push starts jobs that run as the plane's user: another user of the machine must not get
//! that for the asking. The kernel knows who owns the other socket (proc_pid_net(5)).

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;

/// The kernel's list of TCP sockets of this network namespace.
const SOCKETS: &str = "/proc/net/tcp";

/// Whether the program at `peer` is run by us or by root. `None`: it cannot be told.
pub(super) fn is_ours(peer: SocketAddr) -> Option<bool> {
    let ours = fs_err::metadata("/proc/self").ok()?.uid();
    let owner = owner(&fs_err::read_to_string(SOCKETS).ok()?, peer)?;
    Some(owner == ours || owner == 0)
}

/// Who owns the socket whose own address is `peer`.
fn owner(table: &str, peer: SocketAddr) -> Option<u32> {
    let IpAddr::V4(ip) = peer.ip() else { return None };
    // The address is written as one number in the machine's byte order.
    let wanted = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), peer.port());
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.nth(1)? == wanted).then(|| fields.nth(5)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_owner_of_a_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 1 1 0 100 0 0 10 0
   1: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 4 0 10 -1
";
        assert_eq!(owner(table, "127.0.0.1:49153".parse().unwrap()), Some(1000));
        assert_eq!(owner(table, "127.0.0.1:8080".parse().unwrap()), Some(7));
        assert_eq!(owner(table, "127.0.0.1:1".parse().unwrap()), None);
    }

    #[test]
    fn our_own_sockets_are_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(is_ours(stream.local_addr().unwrap()), Some(true));
    }
}
