//! Which capabilities a command keeps.

use rustix::io;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::spec::Network;

/// What Docker leaves a container's root: enough for package managers, not to touch the host.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Capabilities have numbers below this: the kernel's sets have 64 bits.
const BITS: u32 = 64;

/// What a command keeps in its surroundings.
///
/// Without `pivot_root` the old root is still under the new one, and `chroot` is the way there: so
/// `may_chroot` says whether that capability stays. A raw socket hears what everybody on the same network
/// says, the host's loopback too, so only a network of its own may be listened to.
fn kept(may_chroot: bool, network: Network) -> CapabilitySet {
    let mut kept = KEPT;
    kept.set(CapabilitySet::SYS_CHROOT, may_chroot);
    kept.set(CapabilitySet::NET_RAW, network == Network::None);
    kept
}

/// Removes everything but what is kept from what any program run from here on can have.
pub(crate) fn bound(may_chroot: bool, network: Network) -> io::Result<()> {
    let kept = kept(may_chroot, network);
    for bit in 0..BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(one) {
            continue;
        }
        match thread::capability_is_in_bounding_set(one) {
            Ok(true) => thread::remove_capability_from_bounding_set(one)?,
            Ok(false) => {}
            // Past the last capability that this kernel knows.
            Err(io::Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    thread::clear_ambient_capability_set()?;
    let now = thread::capabilities(None)?;
    thread::set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..now })
}

/// As [`bound`] where there is no namespace: of what we have, nothing that leads out of a changed root. What
/// cannot be removed from the bounding set is gone all the same, for nothing new can be gained.
pub(crate) fn bound_in_container() -> io::Result<()> {
    let kept = kept(false, Network::Host).difference(CapabilitySet::MKNOD);
    for bit in 0..BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if !kept.contains(one) && thread::capability_is_in_bounding_set(one) == Ok(true) {
            let _ = thread::remove_capability_from_bounding_set(one);
        }
    }
    thread::clear_ambient_capability_set()?;
    thread::set_no_new_privs(true)?;
    let now = thread::capabilities(None)?;
    let sets = CapabilitySets {
        effective: now.permitted.intersection(kept),
        permitted: now.permitted.intersection(kept),
        inheritable: CapabilitySet::empty(),
    };
    thread::set_capabilities(None, sets)
}

/// Whether we have what [`bound_in_container`] and what it is for need.
pub(crate) fn may_change_root() -> bool {
    let needed = CapabilitySet::SYS_CHROOT
        .union(CapabilitySet::MKNOD)
        .union(CapabilitySet::CHOWN)
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::SETUID)
        .union(CapabilitySet::SETGID);
    thread::capabilities(None).is_ok_and(|now| now.effective.contains(needed))
}

/// Keeps what answering held calls needs: to look into processes of the sandbox and at all its files.
pub(crate) fn keep_for_serving() -> io::Result<()> {
    let kept = CapabilitySet::SYS_PTRACE
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::DAC_READ_SEARCH)
        .union(CapabilitySet::CHOWN)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::SYS_RESOURCE);
    let now = thread::capabilities(None)?;
    thread::clear_ambient_capability_set()?;
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: now.permitted.intersection(kept),
            permitted: now.permitted.intersection(kept),
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// Gives up every capability, now and after exec.
pub(crate) fn drop_all() -> io::Result<()> {
    let none = CapabilitySet::empty();
    thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )
}
