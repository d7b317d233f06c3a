//! The spawner: makes the first process of each command's namespaces by a fork of itself.
//!
//! In: [`Spawn`]s over the channel it was started with, descriptors beside them. Out: a [`Spawned`] for each, and a process
//! that is the worker's child, as if the worker had started it. There is one a worker: starting a program costs more
//! than all mounts of a sandbox, a fork of a small process next to nothing. It has a single thread, no secrets and no
//! descriptors but its own, and ends with the worker.

use std::os::fd::{IntoRawFd, OwnedFd};

use rustix::process::Signal;

use crate::errno::OsError;
use crate::order::{Spawn, Spawned};
use crate::protocol::Channel;
use crate::sys::{self, Forked};

/// The first argument of a spawner. Commands see it, since their init is a fork and keeps it.
pub(crate) const ARGUMENT: &std::ffi::CStr = c"kuz-sandbox-init";
/// The same as text.
pub(crate) const ARGUMENT_TEXT: &str = "kuz-sandbox-init";

/// The whole life of a spawner; and, in its children, of an init.
pub(crate) fn main() -> i32 {
    let Ok(channel) = sys::take_inherited(sys::CHANNEL_FD).map(Channel::from) else { return 2 };
    // First of all: without the worker there is nobody to answer to. Should it be gone already, the channel says so.
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return 2;
    }
    while let Ok(Some((Spawn { namespaces }, fds))) = channel.recv() {
        let spawned = match sys::fork_beside(namespaces) {
            Ok(Forked::Child) => {
                // Its number is now that of the init's own channel.
                let _ = OwnedFd::from(channel).into_raw_fd();
                return fds.try_into().is_ok_and(|fds| sys::put_in_place(fds).is_ok()).then(super::main).unwrap_or(2);
            }
            Ok(Forked::Parent(pid)) => Spawned(Ok(pid.as_raw_nonzero().get())),
            Err(error) => Spawned(Err(OsError::from(error))),
        };
        if channel.send(&spawned, &[]).is_err() {
            break;
        }
    }
    0
}
