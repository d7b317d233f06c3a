//! RUN: commands of an image, shut in by the kernel, without a daemon and without the machine's root.
//!
//! In: trees (directories in overlayfs' format), a step. Out: a tree with the step's changes and an exit status; layers of
//! trees and trees of layers on the way. Needs Linux 5.12 or later with user namespaces.
//!
//! ```text
//! kuz (the caller's user)
//!  └─ worker: the same program in a user namespace of its own; owns all trees; one per build
//!      ├─ spawner: the program again, of which each init is a fork
//!      └─ init: first process of namespaces of its own; one per RUN
//!          └─ the command, and whatever it starts
//! ```
//!
//! The machine's root is in no id map, also when kuz is started as root. What this crate deliberately doesn't do: control
//! groups (an ordinary user has none), networks other than the machine's and none, and device nodes.
//!
//! The only crate with unsafe code; all of it is in `sys`.

mod errno;
pub mod ids;
mod init;
mod isolation;
mod order;
pub mod preflight;
mod protocol;
mod seccomp;
mod step;
mod sys;
mod worker;

pub use errno::OsError;
pub use ids::{Ids, IdsError};
pub use isolation::Isolation;
pub use order::{Applied, Failure};
pub use preflight::{Preflight, preflight};
pub use protocol::ProtocolError;
pub use step::{
    Access, Bind, Exit, Hidden, Mount, Mounted, Network, RunStep, SHM_BYTES, Script, StartError, Stdio, Stream, Ulimit,
};
pub use worker::{
    Cancel, Executed, Inside, InsideError, Options, SandboxError, Source, Trigger, Watched, Worker, watched,
};

/// To be called first of all in `main`: `Some(status)` when this process was started as a worker or a spawner, whose
/// work is then done. Also sees to it that the process keeps no more memory than it uses.
pub fn main_if_reexec() -> Option<i32> {
    sys::return_large_blocks();
    let argument = std::env::args_os().nth(1)?;
    if argument == worker::WORKER {
        Some(worker::worker_main())
    } else if argument == std::ffi::OsStr::new(init::spawner::ARGUMENT_TEXT) {
        Some(init::spawner::main())
    } else {
        None
    }
}
