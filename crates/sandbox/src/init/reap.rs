//! The long wait: children are reaped, signals forwarded, and what is left over killed.
//!
//! In: the command's process id, and who answers questions if it is watched. Out: how it ended, once no other process is
//! left. Signals are read, not handled: no code runs in a signal handler.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::ask::Asked;
use super::{Result, kernel};
use crate::step::Exit;
use crate::sys;

/// What is passed on to the command (its whole process group).
const FORWARDED: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// Waits for the command, then ends everything else.
pub(super) fn until_end(command: Pid, mut asked: Option<Asked<'_>>) -> Result<Exit> {
    let signals = kernel("listen to signals", sys::signal_fd())?;
    let mut stops = 0;
    let exit = loop {
        // Before the first poll too: the command may have ended already.
        if let Some(exit) = reap(command, asked.as_mut())? {
            break exit;
        }
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
        fds.extend(asked.as_ref().map(|asked| PollFd::new(asked.channel(), PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return kernel("wait for the command", Err(errno)),
        }
        let is_asked = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if is_asked && !asked.as_mut().is_some_and(Asked::hear) {
            asked = None;
        }
        while let Some((signal, outside)) = kernel("read a signal", sys::read_signal(signals.as_fd()))? {
            if !outside || !FORWARDED.contains(&signal) {
                continue;
            }
            stops += i32::from(signal == libc::SIGTERM || signal == libc::SIGINT);
            if stops > 1 {
                // The second time nobody is asked.
                sys::kill_all(libc::SIGKILL);
            } else {
                send(command, signal);
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

/// Sends a signal to a command's process group, or to itself where it has left that.
pub(super) fn send(command: Pid, signal: i32) {
    let number = command.as_raw_nonzero().get();
    if sys::kill(-number, signal).is_err() {
        let _ = sys::kill(number, signal);
    }
}

/// Collects whoever has ended; the command's end, if it was among them.
fn reap(command: Pid, mut asked: Option<&mut Asked<'_>>) -> Result<Option<Exit>> {
    let mut exit = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => exit = Some(exit_of(status)),
            Ok(Some((pid, status))) => {
                if let Some(asked) = &mut asked {
                    asked.ended(pid, exit_of(status));
                }
            }
            Err(Errno::INTR) => {}
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
