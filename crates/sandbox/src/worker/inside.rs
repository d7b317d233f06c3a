//! A running command, seen by somebody who looks after it: questions into its sandbox, from another thread.
//!
//! In: what to ask. Out: sockets of the command's network, how another command beside it ended and what that wrote. The
//! answers come in with the command's own output, on the thread in [`super::Worker::run_watched`]. One question at a time.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::errno::OsError;
use crate::order::{Answer, Ask, Poke};
use crate::protocol::Channel;
use crate::step::{Exit, StartError};

/// Of what another command writes so much is kept, the last of it: what Docker keeps of a health check.
const OUTPUT_BYTES: usize = 4096;
/// What a pipe holds: no more can be left in it by a process that has ended.
const PIPE_BYTES: usize = 64 << 10;
/// How long init may take to answer what it can answer at once.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsideError {
    /// The command has ended.
    #[error("the command has ended")]
    Ended,
    /// Nobody answered in time.
    #[error("the sandbox does not answer")]
    Silent,
    /// The kernel refused it.
    #[error("reach into the sandbox")]
    Refused(#[source] OsError),
    /// The other command could not be started.
    #[error("start the command")]
    NotStarted(#[source] StartError),
}

/// How another command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// `None` where it was killed because its time was over.
    pub exit: Option<Exit>,
    /// The last that it wrote.
    pub output: Vec<u8>,
}

/// What came in.
#[derive(Debug)]
enum Seen {
    Started,
    Socket(OwnedFd),
    Executed(Exit, Vec<u8>),
    NotExecuted(StartError),
    Stopping(Option<bool>),
    Refused(OsError),
}

/// The asking end. When it's dropped the command is killed, if it still runs: nobody looks after it any more.
#[derive(Debug)]
pub struct Inside {
    channel: Arc<OnceLock<Weak<Channel>>>,
    seen: Receiver<Seen>,
}

/// The end that the command is started with.
#[derive(Debug)]
pub struct Watched {
    channel: Arc<OnceLock<Weak<Channel>>>,
    seen: Sender<Seen>,
    /// What the other command writes to, and what it has written.
    pipe: Option<OwnedFd>,
    output: Vec<u8>,
}

/// Both ends.
pub fn watched() -> (Inside, Watched) {
    let (sender, seen) = channel();
    let channel = Arc::new(OnceLock::new());
    let watched = Watched { channel: Arc::clone(&channel), seen: sender, pipe: None, output: Vec::new() };
    (Inside { channel, seen }, watched)
}

impl Inside {
    /// Waits until the command runs, however long its root takes.
    pub fn started(&self) -> Result<(), InsideError> {
        loop {
            match self.seen.recv() {
                Ok(Seen::Started) => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(InsideError::Ended),
            }
        }
    }

    /// A TCP socket of the command's network, not connected and not blocking.
    pub fn socket(&self, v6: bool) -> Result<TcpStream, InsideError> {
        self.ask(Ask::Socket { v6 })?;
        self.answer(ANSWER, |seen| match seen {
            Seen::Socket(socket) => Some(Ok(TcpStream::from(socket))),
            Seen::Refused(error) => Some(Err(InsideError::Refused(error))),
            _ => None,
        })
    }

    /// Runs another command as the first one runs, and kills it when the time is over.
    pub fn execute(&self, argv: &[String], within: Duration) -> Result<Executed, InsideError> {
        let done = |seen| match seen {
            Seen::Executed(exit, output) => Some(Ok(Executed { exit: Some(exit), output })),
            Seen::NotExecuted(error) => Some(Err(InsideError::NotStarted(error))),
            Seen::Refused(error) => Some(Err(InsideError::Refused(error))),
            _ => None,
        };
        self.ask(Ask::Execute { argv: argv.to_vec() })?;
        match self.answer(within, done) {
            Err(InsideError::Silent) => {}
            other => return other,
        }
        self.ask(Ask::EndExecuted)?;
        Ok(Executed { exit: None, ..self.answer(DYING, done)? })
    }

    /// Asks the command to end, by a signal. Whether it has anything for that signal, where it can be seen.
    pub fn stop(&self, signal: i32) -> Result<Option<bool>, InsideError> {
        self.ask(Ask::Stop { signal })?;
        self.answer(ANSWER, |seen| if let Seen::Stopping(handled) = seen { Some(Ok(handled)) } else { None })
    }

    /// Ends the command and all that it started.
    pub fn kill(&self) {
        if let Some(channel) = self.channel.get().and_then(Weak::upgrade) {
            // One that has just ended doesn't hear it, which is fine.
            let _ = channel.send(&Poke::Kill, &[]);
        }
    }

    /// Waits for the command to end; `false` if it has not.
    pub fn ended(&self, within: Duration) -> bool {
        matches!(self.answer::<()>(within, |_| None), Err(InsideError::Ended))
    }

    fn ask(&self, ask: Ask) -> Result<(), InsideError> {
        let channel = self.channel.get().and_then(Weak::upgrade).ok_or(InsideError::Ended)?;
        channel.send(&Poke::Ask(ask), &[]).map_err(|_| InsideError::Ended)
    }

    /// The first answer that is wanted; late ones of questions that were given up are dropped.
    fn answer<T>(
        &self,
        within: Duration,
        wanted: impl Fn(Seen) -> Option<Result<T, InsideError>>,
    ) -> Result<T, InsideError> {
        let began = Instant::now();
        loop {
            match self.seen.recv_timeout(within.saturating_sub(began.elapsed())) {
                Ok(seen) => {
                    if let Some(answer) = wanted(seen) {
                        return answer;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(InsideError::Silent),
                Err(RecvTimeoutError::Disconnected) => return Err(InsideError::Ended),
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Watched {
    pub(super) fn connect(&self, channel: &Arc<Channel>) {
        let _ = self.channel.set(Arc::downgrade(channel));
    }

    /// What there is to be read, beside the command's own output.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads once; at the end there is no source any more.
    pub(super) fn read(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut piece = [0; OUTPUT_BYTES];
        match rustix::io::read(pipe, &mut piece) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => self.pipe = None,
            Ok(bytes) => {
                self.output.extend_from_slice(piece.get(..bytes).unwrap_or_default());
                let surplus = self.output.len().saturating_sub(OUTPUT_BYTES);
                self.output.drain(..surplus);
            }
        }
    }

    pub(super) fn take(&mut self, answer: Answer, fds: Vec<OwnedFd>) {
        let beside = fds.into_iter().next();
        let seen = match answer {
            Answer::Started => Seen::Started,
            Answer::Socket => match beside {
                Some(socket) => Seen::Socket(socket),
                None => Seen::Refused(OsError(libc::EBADF)),
            },
            Answer::Executing => {
                self.pipe = beside;
                self.output.clear();
                return;
            }
            Answer::Executed(exit) => {
                // Whoever it left behind may still hold the pipe, and write to it.
                for _ in 0..PIPE_BYTES / OUTPUT_BYTES {
                    if self.has_more() {
                        self.read();
                    }
                }
                self.pipe = None;
                Seen::Executed(exit, std::mem::take(&mut self.output))
            }
            Answer::NotExecuted(error) => {
                self.pipe = None;
                Seen::NotExecuted(error)
            }
            Answer::Stopping { handled } => Seen::Stopping(handled),
            Answer::Refused(error) => Seen::Refused(error),
        };
        // Nobody listens any more: nobody asked.
        let _ = self.seen.send(seen);
    }

    fn has_more(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.pipe.as_ref().is_some_and(|fd| {
            let mut fds = [PollFd::new(fd, PollFlags::IN)];
            poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
        })
    }
}
