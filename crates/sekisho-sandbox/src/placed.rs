//! Worse places than this one, in which tests start programs.

use std::error::Error;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// Becomes another program when the arguments say so: `with-id-range PROGRAM …` in a range of ids of this user,
/// `without-mounts PROGRAM …` as the root of a container that may neither mount nor make namespaces. `None` when they
/// say nothing of that, and what to exit with when it cannot be done.
pub fn main_if_placed() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let place = arguments.next()?;
    let entered = match place.to_str()? {
        // Returns twice: here, and then where it got to. What is there is run in either.
        "with-id-range" => format!("{:?}", crate::enter_id_range()),
        "without-mounts" => format!("{:?}", forbid_mounts()),
        _ => return None,
    };
    let failed = Command::new(arguments.next()?).args(arguments).exec();
    let _ = writeln!(std::io::stderr(), "{entered}; {failed}");
    Some(ExitCode::from(3))
}

/// What the usual container keeps from its root: mounting, and making namespaces.
fn forbid_mounts() -> Result<(), Box<dyn Error>> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    let refused = [libc::SYS_mount, libc::SYS_unshare].map(|call| (call, Vec::new()));
    let filter = SeccompFilter::new(
        refused.into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?;
    let admin = rustix::thread::CapabilitySet::SYS_ADMIN;
    rustix::thread::remove_capability_from_bounding_set(admin)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}
