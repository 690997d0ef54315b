//! Runs sandbox stages for tests, and what a confined parser might try.

use std::io::{Read as _, Write as _};

use rustix::net::{AddressFamily, SocketType};

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
        "loop" => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            std::net::TcpStream::connect(listener.local_addr()?).map(drop)
        }
        "packet" => raw_socket(AddressFamily::PACKET),
        "raw" => raw_socket(AddressFamily::INET),
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

/// What hears others.
fn raw_socket(family: AddressFamily) -> std::io::Result<()> {
    Ok(rustix::net::socket(family, SocketType::RAW, Some(rustix::net::ipproto::ICMP)).map(drop)?)
}

/// A parser for tests: does what the first line of its input says, and answers with what it did.
fn parse() -> u8 {
    let mut stdin = std::io::stdin().lock();
    let mut stdout = std::io::stdout().lock();
    let mut word = String::new();
    let _ = std::io::BufRead::read_line(&mut stdin, &mut word);
    let mut say = |text: &str| {
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    };
    match word.trim_end() {
        "count" => {
            let read = std::io::copy(&mut stdin, &mut std::io::sink());
            say(&read.map_or_else(|error| error.to_string(), |read| read.to_string()));
        }
        "hasty" => say("enough"),
        "environment" => say(&format!("{:?}", std::env::vars_os().collect::<Vec<_>>())),
        "half" => {
            say("{");
            std::process::abort()
        }
        "abort" => std::process::abort(),
        "panic" => std::panic::resume_unwind(Box::new("as it was told")),
        "fail" => return 4,
        "silent" => {}
        "open" => drop(std::fs::read("/etc/hostname")),
        "connect" => drop(std::net::TcpStream::connect("127.0.0.1:1")),
        "sleep" => loop {
            std::thread::park();
        },
        "spin" => loop {
            std::hint::black_box(());
        },
        "eat" => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![7_u8; 1 << 20]);
            }
        }
        _ => return 5,
    }
    0
}

fn main() -> std::process::ExitCode {
    sekisho_sandbox::main_if_sandbox();
    if let Some(exit) = sekisho_sandbox::main_if_placed() {
        return exit;
    }
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        // A second word by which a test knows its processes.
        Some("parsers") => {
            let served = sekisho_sandbox::serve_parsers(parse);
            return std::process::ExitCode::from(if served.is_ok() { 0 } else { 3 });
        }
        // One who has inputs parsed, until it is killed.
        Some("ask") => {
            let mark = arguments.get(2).cloned().unwrap_or_default();
            let parsers = sekisho_sandbox::Parsers::new("/proc/self/exe", &["parsers", &mark]);
            let limits = sekisho_sandbox::ParserLimits {
                memory_bytes: 1 << 30,
                cpu: std::time::Duration::from_secs(600),
                silence: std::time::Duration::from_secs(600),
            };
            let _ = parsers.ask(&limits, &mut &b"spin\n"[..]);
            return std::process::ExitCode::from(3);
        }
        _ => {}
    }
    match arguments.get(1).zip(arguments.get(2)) {
        Some((what, how)) if try_it(what, how != "free").is_ok() => std::process::ExitCode::SUCCESS,
        _ => std::process::ExitCode::from(3),
    }
}
