//! A layer's tar, read while it is written: a sink that tells how far it is, and a reader that stays behind it.
//!
//! In: a file of the store, and facts that will be asked for. Out: those facts soon after the last byte was written,
//! instead of a second pass that only begins then. The reader reads what lies in the file, so it holds up nobody and
//! nothing waits in memory. Short layers are not followed: a thread would take longer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::facts::{Facts, Following};

/// A layer is followed from here on.
const FOLLOWED_BYTES: u64 = 1 << 20;
/// The reader is told each time that so much more is there.
const STRIDE: u64 = 256 << 10;

/// How far a file was written.
#[derive(Debug, Default)]
struct Progress {
    reached: Mutex<Reached>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    bytes: u64,
    /// Nothing more comes: all was written, or it was given up.
    ended: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    GivenUp,
}

impl Progress {
    fn tell(&self, bytes: u64, ended: Option<End>) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Reached { bytes, ended };
        self.changed.notify_all();
    }

    /// Waits until there is more than `at`.
    fn beyond(&self, at: u64) -> Reached {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let more = |reached: &mut Reached| reached.bytes <= at && reached.ended.is_none();
        *self.changed.wait_while(reached, more).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a layer's tar; whoever is interested in its facts follows.
#[derive(Debug)]
pub(crate) struct Followed<'f> {
    file: File,
    bytes: u64,
    told: u64,
    progress: Arc<Progress>,
    /// Where the facts go, if they will be asked for.
    facts: Option<&'f Facts>,
    following: Option<Following>,
}

impl<'f> Followed<'f> {
    /// Writes to `file` from its beginning.
    pub(crate) fn new(file: File, facts: Option<&'f Facts>) -> Self {
        Self { file, bytes: 0, told: 0, progress: Arc::default(), facts, following: None }
    }

    /// All was written: who reads it, if anybody does.
    pub(crate) fn finish(mut self) -> Option<Following> {
        self.progress.tell(self.bytes, Some(End::Whole));
        self.following.take()
    }

    fn tell(&mut self) -> io::Result<()> {
        self.told = self.bytes;
        self.progress.tell(self.bytes, None);
        if self.following.is_none()
            && self.bytes >= FOLLOWED_BYTES
            && let Some(facts) = self.facts.take()
        {
            let follower = Follower { file: self.file.try_clone()?, at: 0, progress: Arc::clone(&self.progress) };
            self.following = facts.follow(follower);
        }
        Ok(())
    }
}

impl Write for Followed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.bytes += written as u64;
        if self.bytes - self.told >= STRIDE {
            self.tell()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        let reached = *self.progress.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if reached.ended.is_none() {
            self.progress.tell(reached.bytes, Some(End::GivenUp));
        }
    }
}

/// Reads what was written so far, and waits for the rest.
#[derive(Debug)]
pub(crate) struct Follower {
    file: File,
    at: u64,
    progress: Arc<Progress>,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reached = self.progress.beyond(self.at);
        if reached.ended == Some(End::GivenUp) {
            return Err(io::Error::other("it was not written to its end"));
        }
        let there = usize::try_from(reached.bytes - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..there).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Followed<'static>, Follower) {
        let file = tempfile::tempfile().unwrap();
        let writer = Followed::new(file.try_clone().unwrap(), None);
        let reader = Follower { file, at: 0, progress: Arc::clone(&writer.progress) };
        (writer, reader)
    }

    #[test]
    fn what_is_written_is_read_to_its_end() {
        let (mut writer, mut reader) = pair();
        let content: Vec<u8> = (0..3 * STRIDE + 17).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
        std::thread::scope(|scope| {
            let job = scope.spawn(move || {
                let mut read = Vec::new();
                reader.read_to_end(&mut read).map(|_| read)
            });
            for part in content.chunks(100_000) {
                writer.write_all(part).unwrap();
            }
            assert!(writer.finish().is_none());
            assert!(job.join().unwrap().unwrap() == content);
        });
    }

    #[test]
    fn a_file_that_is_given_up_is_no_whole_one() {
        let (mut writer, mut reader) = pair();
        writer.write_all(b"begun").unwrap();
        drop(writer);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
    }
}
