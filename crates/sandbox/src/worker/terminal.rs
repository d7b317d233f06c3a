//! The caller's terminal connected to the command's.
//!
//! In: the master of the command's terminal. Out: keys go in, screen output comes out, sizes are kept equal. The caller's
//! terminal is raw meanwhile and put back afterwards, however this ends. Without a terminal on standard input only bytes
//! are passed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::SandboxError;
use crate::step::Stream;

pub(super) struct Raw {
    master: OwnedFd,
    before: Option<Termios>,
    size: Option<(u16, u16)>,
    input_open: bool,
    output_open: bool,
}

fn failed(errno: Errno) -> SandboxError {
    SandboxError::Terminal { source: errno.into() }
}

impl Raw {
    pub(super) fn start(master: OwnedFd) -> Result<Self, SandboxError> {
        let input = rustix::stdio::stdin();
        let mut raw = Self { master, before: None, size: None, input_open: true, output_open: true };
        raw.follow_size();
        if isatty(input) {
            let before = tcgetattr(input).map_err(failed)?;
            let mut now = before.clone();
            now.make_raw();
            tcsetattr(input, OptionalActions::Now, &now).map_err(failed)?;
            raw.before = Some(before);
        }
        Ok(raw)
    }

    /// What to wait for, as far as it's open: the command's terminal, then standard input.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let master = self.master.as_fd();
        let input = self.input_open.then(rustix::stdio::stdin);
        std::iter::once(master).filter(|_| self.output_open).chain(input)
    }

    /// Passes on what is there.
    pub(super) fn relay(
        &mut self,
        first_ready: bool,
        second_ready: bool,
        buffer: &mut [u8],
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), SandboxError> {
        self.follow_size();
        let (screen, keys) = if self.output_open { (first_ready, second_ready) } else { (false, first_ready) };
        if screen {
            self.read_screen(buffer, output)?;
        }
        if keys && self.input_open {
            match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
                Ok(0) => {
                    // The end of a file is told as a terminal tells it.
                    self.input_open = false;
                    self.write_keys(&[END_OF_FILE])?;
                }
                Ok(bytes) => self.write_keys(buffer.get(..bytes).unwrap_or_default())?,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input_open = false,
            }
        }
        Ok(())
    }

    fn read_screen(&mut self, buffer: &mut [u8], output: &mut dyn FnMut(Stream, &[u8])) -> Result<(), SandboxError> {
        match rustix::io::read(&self.master, &mut *buffer) {
            // Nobody has the other end open any more.
            Ok(0) | Err(Errno::IO) => self.output_open = false,
            Ok(bytes) => output(Stream::Stdout, buffer.get(..bytes).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        Ok(())
    }

    fn write_keys(&self, mut keys: &[u8]) -> Result<(), SandboxError> {
        while !keys.is_empty() {
            match rustix::io::write(&self.master, keys) {
                Ok(bytes) => keys = keys.get(bytes..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // The command has ended; so will the conversation.
                Err(Errno::IO) => return Ok(()),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// What is left on the screen after the command's end.
    pub(super) fn drain(
        &mut self,
        buffer: &mut [u8],
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), SandboxError> {
        while self.output_open {
            self.read_screen(buffer, output)?;
        }
        Ok(())
    }

    fn follow_size(&mut self) {
        let Ok(now) = tcgetwinsize(rustix::stdio::stdin()) else { return };
        let size = (now.ws_row, now.ws_col);
        if self.size != Some(size) {
            self.size = Some(size);
            let now = Winsize { ws_row: now.ws_row, ws_col: now.ws_col, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that has just gone has no size.
            let _ = tcsetwinsize(&self.master, now);
        }
    }
}

/// Ctrl-D.
const END_OF_FILE: u8 = 4;

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}
