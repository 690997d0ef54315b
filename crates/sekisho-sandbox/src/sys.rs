//! The one call that no safe crate offers.

use rustix::io::Result;
use rustix::thread::UnshareFlags;

/// Leaves namespaces of the caller; `FILES`, the flag that can break memory safety, is refused.
#[expect(unsafe_code, reason = "rustix has no safe unshare, for the sake of one flag")]
pub(crate) fn unshare(flags: UnshareFlags) -> Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: only `FILES` can make a descriptor of one thread unknown to another, and it is refused
    // above. The other flags do not touch memory or descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
