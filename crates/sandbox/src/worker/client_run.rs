//! One RUN, seen from the main process: the order goes out, output comes in, an exit status is the end.
//!
//! In: a step. Out: output in pieces of bounded size to the caller's function, and how the command ended. The worker
//! answers only when no process of the command is left, so that reading to the end of its pipes cannot hang.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::agent::Relay;
use super::inside::Watched;
use super::terminal::Raw;
use super::{Cancel, SandboxError, Worker, unexpected};
use crate::ids::Ids;
use crate::order::{Poke, Reply, Request};
use crate::protocol::Channel;
use crate::step::{Exit, RunStep, Stdio, Stream};
use crate::sys;

/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// How often the size of the caller's terminal is looked at.
const RESIZE: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

impl Worker {
    /// Runs a step. The changes are in the tree `step.upper` afterwards, also when the command failed (to be removed
    /// then); there is no such tree when it could not be started.
    pub fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        self.run_to_the_end(step, output, cancel, None)
    }

    /// The same for a command that is asked into while it runs, from the thread with the [`super::Inside`] of this
    /// `watched`.
    pub fn run_watched(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
        watched: Watched,
    ) -> Result<Exit, SandboxError> {
        self.run_to_the_end(step, output, cancel, Some(watched))
    }

    fn run_to_the_end(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
        watched: Option<Watched>,
    ) -> Result<Exit, SandboxError> {
        let channel = Arc::new(self.open()?);
        if cancel.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        let (mut order, binds) = step.split();
        order.watched = watched.is_some();
        let (binds, detached) = self.detach(&binds, step)?;
        let mut fds: Vec<BorrowedFd<'_>> = binds.iter().chain(&step.held).map(OwnedFd::as_fd).collect();
        match step.stdio {
            Stdio::Captured | Stdio::Terminal => {}
            Stdio::Relayed => fds.push(rustix::stdio::stdin()),
            Stdio::Inherit => {
                fds.extend([rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]);
            }
        }
        channel.send(&Request::Run { order: Box::new(order), detached }, &fds)?;
        // The order comes first on the channel; a cancellation that was quicker than we is caught up with.
        if !cancel.register(&channel) {
            channel.send(&Poke::Cancel, &[])?;
        }
        if let Some(watched) = &watched {
            watched.connect(&channel);
        }
        Conversation {
            channel: &channel,
            output,
            pipes: Vec::new(),
            terminal: None,
            buffer: vec![0; PIECE_BYTES],
            agents: step.agents(),
            relays: Vec::new(),
            watched,
        }
        .until_exit()
    }

    /// Started as root, binds are made mounts here: the worker's ids may not be able to walk to them. Their owners are
    /// shown through the worker's map, so that root's files are root's inside.
    fn detach(&self, binds: &[BorrowedFd<'_>], step: &RunStep) -> Result<(Vec<OwnedFd>, bool), SandboxError> {
        let failed = |errno: Errno| SandboxError::Output { source: errno.into() };
        let detached = matches!(self.ids, Ids::Range { .. });
        let mut mounts = Vec::with_capacity(binds.len());
        for (source, bind) in binds.iter().zip(&step.binds) {
            if !detached {
                mounts.push(rustix::io::fcntl_dupfd_cloexec(source, 0).map_err(failed)?);
                continue;
            }
            let flags =
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
            let mount = rustix::mount::open_tree(source, "", flags).map_err(failed)?;
            if let (Some(namespace), true) = (&self.namespace, bind.readonly) {
                // File systems that cannot do it show their files as nobody's; those that all may read still work.
                let _ = sys::mount_idmap(mount.as_fd(), namespace.as_fd());
            }
            mounts.push(mount);
        }
        Ok((mounts, detached))
    }
}

struct Conversation<'a> {
    channel: &'a Channel,
    output: &'a mut dyn FnMut(Stream, &[u8]),
    /// Those that have not ended.
    pipes: Vec<(Stream, OwnedFd)>,
    terminal: Option<Raw>,
    buffer: Vec<u8>,
    /// Sockets of ssh agents that the command may ask.
    agents: Vec<PathBuf>,
    /// While they exist, its questions are passed on.
    relays: Vec<Relay>,
    /// Who asks into the sandbox.
    watched: Option<Watched>,
}

impl Conversation<'_> {
    fn until_exit(&mut self) -> Result<Exit, SandboxError> {
        loop {
            if self.wait_and_read()? {
                continue;
            }
            let Some((reply, fds)) = self.channel.recv::<Reply>()? else { return Err(SandboxError::Gone) };
            match reply {
                Reply::Output => {
                    self.pipes = [Stream::Stdout, Stream::Stderr].into_iter().zip(fds).collect();
                }
                Reply::Agents => {
                    let pairs = fds.into_iter().zip(std::mem::take(&mut self.agents));
                    self.relays = pairs.map(|(listener, agent)| Relay::start(listener, agent)).collect();
                }
                Reply::Terminal => {
                    let master = fds.into_iter().next().ok_or(SandboxError::Gone)?;
                    self.terminal = Some(Raw::start(master)?);
                }
                Reply::Answer(answer) => {
                    if let Some(watched) = &mut self.watched {
                        watched.take(answer, fds);
                    }
                }
                end => {
                    self.drain()?;
                    return match end {
                        Reply::Exited(exit) => Ok(exit),
                        other => Err(unexpected(other)),
                    };
                }
            }
        }
    }

    /// Waits for something to happen; reads output. `false` when the worker has a message.
    fn wait_and_read(&mut self) -> Result<bool, SandboxError> {
        let ready = {
            let mut fds = vec![PollFd::new(self.channel, PollFlags::IN)];
            fds.extend(self.pipes.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)));
            let pipes = fds.len();
            if let Some(terminal) = &self.terminal {
                fds.extend(terminal.sources().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            }
            let sources = fds.len();
            fds.extend(
                self.watched.iter().filter_map(Watched::source).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            );
            let timeout = self.terminal.as_ref().map(|_| &RESIZE);
            match poll(&mut fds, timeout) {
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(true),
                Err(errno) => return Err(SandboxError::Output { source: errno.into() }),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            (ready, pipes, sources)
        };
        let (ready, pipes, sources) = ready;
        let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
        // From the back, so that removing one keeps the others' places.
        for at in (0..self.pipes.len()).rev() {
            if is_ready(at + 1) && !self.read_piece(at)? {
                self.pipes.remove(at);
            }
        }
        if let Some(terminal) = &mut self.terminal {
            terminal.relay(is_ready(pipes), is_ready(pipes + 1), &mut self.buffer, self.output)?;
        }
        if let (true, Some(watched)) = (is_ready(sources), &mut self.watched) {
            watched.read();
        }
        Ok(!is_ready(0))
    }

    fn has_more(&self, at: usize) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.pipes.get(at).is_some_and(|(_, fd)| {
            let mut fds = [PollFd::new(fd, PollFlags::IN)];
            poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
        })
    }

    /// Reads once from a pipe that has something or has ended; `false` at its end.
    fn read_piece(&mut self, at: usize) -> Result<bool, SandboxError> {
        let Some((stream, fd)) = self.pipes.get(at) else { return Ok(false) };
        match rustix::io::read(fd, &mut self.buffer[..]) {
            Ok(0) => Ok(false),
            Ok(bytes) => {
                (self.output)(*stream, self.buffer.get(..bytes).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(SandboxError::Output { source: errno.into() }),
        }
    }

    /// The rest of the output. No process of the command is left, so what isn't there yet never comes, even if the
    /// command gave its end of the pipe to somebody else.
    fn drain(&mut self) -> Result<(), SandboxError> {
        for at in 0..self.pipes.len() {
            while self.has_more(at) && self.read_piece(at)? {}
        }
        if let Some(terminal) = &mut self.terminal {
            terminal.drain(&mut self.buffer, self.output)?;
        }
        Ok(())
    }
}

const _: () = {
    // Requests may run from several threads at once.
    const fn shared<T: Sync + Send>() {}
    shared::<Worker>();
};
