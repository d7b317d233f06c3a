//! The long wait: children are reaped, signals forwarded, and what is left over killed.
//!
//! In: the command's process id. Out: how it ended, once no other process is left. Signals are read, not handled: no
//! code runs in a signal handler.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::{Result, kernel};
use crate::step::Exit;
use crate::sys;

/// What is passed on to the command (its whole process group).
const FORWARDED: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// Waits for the command, then ends everything else.
pub(super) fn until_end(command: Pid) -> Result<Exit> {
    let signals = kernel("listen to signals", sys::signal_fd())?;
    let mut stops = 0;
    let exit = loop {
        // Before the first poll too: the command may have ended already.
        if let Some(exit) = reap(command)? {
            break exit;
        }
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return kernel("wait for the command", Err(errno)),
        }
        while let Some((signal, outside)) = kernel("read a signal", sys::read_signal(signals.as_fd()))? {
            if !outside || !FORWARDED.contains(&signal) {
                continue;
            }
            stops += i32::from(signal == libc::SIGTERM || signal == libc::SIGINT);
            if stops > 1 {
                // The second time nobody is asked.
                sys::kill_all(libc::SIGKILL);
            } else if sys::kill(-command.as_raw_nonzero().get(), signal).is_err() {
                let _ = sys::kill(command.as_raw_nonzero().get(), signal);
            }
        }
    };
    sys::kill_all(libc::SIGKILL);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Ok(exit),
        }
    }
}

/// Collects whoever has ended; the command's end, if it was among them.
fn reap(command: Pid) -> Result<Option<Exit>> {
    let mut exit = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => exit = Some(exit_of(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(exit),
            Err(errno) => return kernel("wait for the command", Err(errno)),
        }
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        // Neither happens for a process that was waited for without WUNTRACED.
        (None, None) => Exit::Code(255),
    }
}
