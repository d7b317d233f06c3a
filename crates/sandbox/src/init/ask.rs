//! Questions into the sandbox of a running command: a socket of its network, another command beside it, a signal.
//!
//! In: [`Ask`]s over init's channel. Out: [`Answer`]s over the same. Init is in all namespaces of the command already, so
//! nothing has to be entered from outside. What the other command may do is what the command may do.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::command::{Account, Streams, start_other};
use super::reap;
use crate::order::{Answer, Ask, InitOrder, Report};
use crate::protocol::Channel;
use crate::step::Exit;

/// What the kernel says of a process: more than its `status` has.
const STATUS_BYTES: usize = 64 << 10;
/// How the kernel names the file system of `/proc`.
const PROC_MAGIC: u64 = 0x9fa0;

/// Who answers.
pub(super) struct Asked<'a> {
    channel: &'a Channel,
    order: &'a InitOrder,
    account: &'a Account,
    command: Pid,
    /// The other command, while it runs.
    executed: Option<Pid>,
}

impl<'a> Asked<'a> {
    /// Says at once that the command runs.
    pub(super) fn new(channel: &'a Channel, order: &'a InitOrder, account: &'a Account, command: Pid) -> Self {
        let asked = Self { channel, order, account, command, executed: None };
        asked.answer(Answer::Started, None);
        asked
    }

    pub(super) fn channel(&self) -> &'a Channel {
        self.channel
    }

    /// Takes one question; `false` when nobody asks any more.
    pub(super) fn hear(&mut self) -> bool {
        let Ok(Some((ask, _))) = self.channel.recv::<Ask>() else { return false };
        match ask {
            Ask::Socket { v6 } => match socket(v6) {
                Ok(socket) => self.answer(Answer::Socket, Some(&socket)),
                Err(errno) => self.answer(Answer::Refused(errno.into()), None),
            },
            Ask::Execute { argv } => self.execute(&argv),
            Ask::EndExecuted => {
                if let Some(pid) = self.executed {
                    reap::send(pid, libc::SIGKILL);
                }
            }
            Ask::Stop { signal } => {
                let handled = if self.order.fresh_proc { status(self.command) } else { None };
                let handled = handled.and_then(|status| handles(&status, signal));
                self.answer(Answer::Stopping { handled }, None);
                reap::send(self.command, signal);
            }
        }
        true
    }

    /// A process other than the command has ended.
    pub(super) fn ended(&mut self, pid: Pid, exit: Exit) {
        if self.executed == Some(pid) {
            self.executed = None;
            self.answer(Answer::Executed(exit), None);
        }
    }

    fn execute(&mut self, argv: &[String]) {
        let (read, write) = match rustix::pipe::pipe_with(PipeFlags::CLOEXEC) {
            Ok(ends) => ends,
            Err(errno) => return self.answer(Answer::Refused(errno.into()), None),
        };
        self.answer(Answer::Executing, Some(&read));
        match start_other(argv, &self.order.guest, self.account, Streams::Written(write)) {
            Ok(pid) => self.executed = Some(pid),
            Err(error) => self.answer(Answer::NotExecuted(error), None),
        }
    }

    /// A worker that is gone takes init along, so that nothing has to be done about it here.
    fn answer(&self, answer: Answer, beside: Option<&OwnedFd>) {
        let fds: Vec<_> = beside.iter().map(AsFd::as_fd).collect();
        let _ = self.channel.send(&Report::Answer(answer), &fds);
    }
}

fn socket(v6: bool) -> Result<OwnedFd, rustix::io::Errno> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// The kernel's word on a process. Only of `/proc` itself, whatever the image has in its place.
fn status(pid: Pid) -> Option<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).ok()?;
    let kind = rustix::fs::fstatfs(&proc).ok()?.f_type;
    if u64::try_from(kind).ok()? != PROC_MAGIC {
        return None;
    }
    let path = format!("{}/status", pid.as_raw_nonzero());
    let file = rustix::fs::openat(&proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = vec![0; STATUS_BYTES];
    let bytes = rustix::io::read(&file, &mut text[..]).ok()?;
    text.truncate(bytes);
    String::from_utf8(text).ok()
}

/// Whether a process catches a signal, or has it blocked to take it later; `None` where its status does not say.
fn handles(status: &str, signal: i32) -> Option<bool> {
    // Nobody handles these; they need no handling.
    if [libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
        return None;
    }
    let bit = 1_u64.checked_shl(u32::try_from(signal.checked_sub(1)?).ok()?)?;
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Some((mask("SigCgt:")? | mask("SigBlk:")?) & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_handled_if_it_is_caught_or_waited_for() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000200\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000004002\n";
        for (signal, want) in [
            (libc::SIGTERM, Some(true)),
            (libc::SIGINT, Some(true)),
            (libc::SIGUSR1, Some(true)),
            (libc::SIGQUIT, Some(false)),
            (libc::SIGHUP, Some(false)),
            (64, Some(false)),
            (libc::SIGKILL, None),
            (0, None),
            (65, None),
        ] {
            assert_eq!(handles(status, signal), want, "{signal}");
        }
        assert_eq!(handles("Name:\tsh\n", libc::SIGTERM), None);
    }

    #[test]
    fn the_kernel_says_what_a_process_catches() {
        let own = rustix::process::getpid();
        assert!(status(own).is_some_and(|text| text.contains("SigCgt:")));
    }
}
