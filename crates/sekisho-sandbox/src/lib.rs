//! Runs one command in its own root file system, without a daemon and without privilege.
//!
//! ```text
//!  caller (many threads)   Launcher::run: streams output, can kill
//!    │ starts it once
//!    ▼
//!  zygote                  our program again, with one thread; see `zygote`
//!    │ a copy for each command, with a socketpair as fd 0: the Spec, down; one Report, up
//!    ▼
//!  supervisor              unshare, uid/gid map
//!    │ dies with the zygote; on end of file kills init and waits until its namespace is empty
//!    ▼
//!  init, pid 1             overlay, /dev, /proc, pivot_root, drops what is not needed
//!    │ reaps; when it ends, the kernel kills everything in the namespace
//!    ▼
//!  command                 no file descriptor of ours but stdout and stderr
//! ```
//!
//! All mounts are made in a mount namespace that ends with the sandbox, so nothing is left on the
//! host whichever of the five is killed, and when.
//!
//! The zygote is the same program started again (`/proc/self/exe`), for unsharing a user namespace, and
//! copying a process, need one with one thread. So the binary's `main` begins with [`main_if_sandbox`].
//!
//! With one id ([`Isolation::SingleId`]) `chown`, `setuid` and their relatives are answered by pid 1; see
//! `emulate`. System calls that no build needs are refused; see `filter`.
//!
//! Beside it, [`confine_parser`] takes everything from the calling process that a parser of foreign bytes
//! does not need; [`Parsers`] has such processes made, one for each input.
//!
//! What a command cannot do: reach a path of the host, see a process of the host, load a library
//! into our processes, write to our executable (it is only visible through a read-only mount),
//! gain a privilege by exec, open a device other than the few in `/dev`, write to `/proc/sys`.
//! What it can: use the host's network, unless the spec says [`Network::None`].

mod capability;
mod changed_root;
mod confine;
mod emulate;
mod error;
mod filter;
mod group;
mod id_range;
mod init;
mod isolation;
mod launcher;
mod mounts;
mod owner;
mod parsers;
mod placed;
mod remove;
mod spec;
mod supervisor;
mod sys;
mod wire;
mod zygote;

pub use confine::confine_parser;
pub use error::{SandboxError, Step};
pub use id_range::enter_id_range;
pub use isolation::{Isolation, Probe, Refusal};
pub use launcher::{Control, Launcher, Stream};
pub use owner::{OWNER_ATTRIBUTE, Owner};
pub use parsers::server::serve_parsers;
pub use parsers::{ParserError, ParserLimits, Parsers};
#[doc(hidden)]
pub use placed::main_if_placed;
pub use remove::remove_tree;
pub use spec::{
    Bind, Exit, Layers, MAX_PROCESSES, MIN_FREE_BYTES, MIN_MEMORY_BYTES, MemoryFile, Mount,
    Network, Outcome, SecretBytes, Spec, Used, User,
};
pub use sys::with_default_signals;

/// First argument of the zygote; the second is the isolation.
pub(crate) const ZYGOTE_ARG: &str = "__sandbox-zygote";

/// First argument of the zygote once it has its walls.
pub(crate) const COPIES_ARG: &str = "__sandbox-copies";

/// First argument of who keeps a user namespace for [`enter_id_range`].
pub(crate) const ID_RANGE_ARG: &str = "__sandbox-ids";

/// Becomes a stage of a sandbox and never returns, when this process was started as one.
///
/// Call it first thing in `main`, before any thread, file or allocator trick exists.
#[expect(
    clippy::exit,
    reason = "a stage is the whole process; nothing of the caller's main may run"
)]
pub fn main_if_sandbox() {
    match std::env::args_os().nth(1) {
        Some(arg) if arg == ZYGOTE_ARG => std::process::exit(zygote::main()),
        Some(arg) if arg == COPIES_ARG => std::process::exit(zygote::serve()),
        Some(arg) if arg == ID_RANGE_ARG => std::process::exit(id_range::hold()),
        _ => {}
    }
}
