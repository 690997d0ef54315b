//! Runs sandbox stages for tests, and what a confined parser might try.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;

/// Does one thing, after it has confined itself unless the second argument says `free`.
///
/// A result is told by the exit code: 0 for done, 3 for not done.
fn try_it(what: &str, confined: bool) -> std::io::Result<()> {
    let mut stdin = std::io::stdin().lock();
    if confined {
        sekisho_sandbox::confine_parser()?;
    }
    writeln!(std::io::stdout(), "ready")?;
    let mut argument = String::new();
    stdin.read_to_string(&mut argument)?;
    match what {
        // What every parser does: memory, and an answer.
        "parse" => {
            let read =
                vec![7_u8; 32 * 1024 * 1024].iter().map(|it| usize::from(*it)).sum::<usize>();
            writeln!(std::io::stdout(), "{read}")
        }
        "connect" => std::net::TcpStream::connect(&argument).map(drop),
        "listen" => std::net::TcpListener::bind("127.0.0.1:0").map(drop),
        "unix" => std::os::unix::net::UnixStream::connect(&argument).map(drop),
        "open" => std::fs::read(&argument).map(drop),
        "look" => std::fs::metadata(&argument).map(drop),
        "write" => std::fs::write(&argument, "x"),
        "run" => std::process::Command::new(&argument).status().map(drop),
        "thread" => std::thread::Builder::new().spawn(|| {}).map(drop),
        "signal" => {
            let pid = argument.parse().ok().and_then(rustix::process::Pid::from_raw);
            let pid = pid.ok_or(std::io::ErrorKind::InvalidInput)?;
            rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
            Ok(())
        }
        "abort" => std::process::abort(),
        _ => Err(std::io::ErrorKind::InvalidInput.into()),
    }
}

/// What the usual container keeps from its root: mounting, and making namespaces.
fn forbid_mounts() -> Result<(), Box<dyn std::error::Error>> {
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

fn main() -> std::process::ExitCode {
    sekisho_sandbox::main_if_sandbox();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, program, rest @ ..] = arguments.as_slice()
        && what == "with-id-range"
    {
        // Returns twice: here, and then where it got to. What is there is run in either.
        let entered = sekisho_sandbox::enter_id_range();
        let failed = std::process::Command::new(program).args(rest).exec();
        let _ = writeln!(std::io::stderr(), "{entered:?}; {failed}");
        return std::process::ExitCode::from(3);
    }
    if let [_, what, program, rest @ ..] = arguments.as_slice()
        && what == "without-mounts"
    {
        let forbidden = forbid_mounts();
        let failed = std::process::Command::new(program).args(rest).exec();
        let _ = writeln!(std::io::stderr(), "{forbidden:?}; {failed}");
        return std::process::ExitCode::from(3);
    }
    match arguments.get(1).zip(arguments.get(2)) {
        Some((what, how)) if try_it(what, how != "free").is_ok() => std::process::ExitCode::SUCCESS,
        _ => std::process::ExitCode::from(3),
    }
}
