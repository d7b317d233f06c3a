//! The worker's side of the spawner: started once, asked for an init with each RUN.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use super::server::failed;
use crate::init;
use crate::order::{Failure, Spawn, Spawned};
use crate::protocol::Channel;
use crate::sys;

/// The process that makes inits.
#[derive(Debug)]
pub(super) struct Spawner {
    /// One question at a time.
    channel: Mutex<Channel>,
}

impl Spawner {
    /// Starts it from this program's file, or from a copy, whichever no command can write to. The inits are children of the calling thread, which
    /// must live as long as they: when it ends, they are killed.
    pub(super) fn start(exe: &OwnedFd) -> Result<Self, Failure> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("open /dev/null", errno))?;
        let (ours, theirs) = Channel::pair().map_err(|error| Failure::of(&error))?;
        let argv = [CString::from(c"kuz"), CString::from(init::spawner::ARGUMENT)];
        let fds = [null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd()];
        sys::spawn(exe.as_fd(), &argv, fds).map_err(|error| failed("start the sandbox", error))?;
        Ok(Self { channel: Mutex::new(ours) })
    }

    /// Starts an init in new namespaces, with these descriptors as 0, 1, 2 and its channel.
    pub(super) fn spawn(&self, namespaces: i32, fds: [BorrowedFd<'_>; sys::PASSED_FDS]) -> Result<Pid, Failure> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(&Spawn { namespaces }, &fds).map_err(|error| Failure::of(&error))?;
        let answer = channel.recv::<Spawned>().map_err(|error| Failure::of(&error))?;
        let (Spawned(pid), _) = answer.ok_or_else(|| Failure::plain("the spawner of sandboxes has gone"))?;
        let pid = pid.map_err(|errno| failed("start the sandbox", errno))?;
        Pid::from_raw(pid).ok_or_else(|| Failure::plain("the sandbox has no process"))
    }
}
