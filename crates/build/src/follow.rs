//! A file of the store, read while it is written: a writer that tells how far it is, and a reader that stays behind it.
//!
//! For layers that are copied, whose facts are there soon after the last byte instead of after a second pass; and for
//! blobs that come from a registry, which are unpacked on the way. The reader reads what lies in the file, so it holds
//! up nobody and nothing waits in memory. Short layers are not followed: a thread would take longer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::facts::{Facts, Following};

/// A layer is followed from here on.
const FOLLOWED_BYTES: u64 = 1 << 20;
/// The reader is told each time that so much more is there.
const STRIDE: u64 = 256 << 10;
/// What a pipe holds at most for an ordinary user.
const PIPE_BYTES: usize = 1 << 20;

/// How far a file was written, for whoever writes it. Dropped before [`Self::whole`], it was given up.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    progress: Arc<Progress>,
    bytes: u64,
    told: u64,
    ended: bool,
}

impl Telling {
    /// More was written: whether the readers have been told.
    pub(crate) fn more(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let tells = self.bytes - self.told >= STRIDE && !self.ended;
        if tells {
            self.told = self.bytes;
            self.progress.tell(self.bytes, None);
        }
        tells
    }

    /// All was written.
    pub(crate) fn whole(&mut self) {
        if !self.ended {
            self.end(End::Whole);
        }
    }

    /// What was written so far is wrong: nobody can go on from there.
    pub(crate) fn give_up(&mut self) {
        if !self.ended {
            self.end(End::GivenUp);
        }
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        self.progress.tell(self.bytes, Some(end));
    }

    /// A reader of the same file, from its beginning.
    pub(crate) fn follower(&self, file: File) -> Follower {
        Follower { file, at: 0, progress: Arc::clone(&self.progress) }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.give_up();
    }
}

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
    telling: Telling,
    /// Where the facts go, if they will be asked for.
    facts: Option<&'f Facts>,
    following: Option<Following>,
}

impl<'f> Followed<'f> {
    /// Writes to `file` from its beginning.
    pub(crate) fn new(file: File, facts: Option<&'f Facts>) -> Self {
        Self { file, telling: Telling::default(), facts, following: None }
    }

    /// All was written: who reads it, if anybody does.
    pub(crate) fn finish(mut self) -> Option<Following> {
        self.telling.whole();
        self.following.take()
    }

    /// Begins to have it read. Where that cannot be, the facts are collected later.
    fn follow(&mut self) {
        if self.following.is_none()
            && self.telling.bytes >= FOLLOWED_BYTES
            && let Some(facts) = self.facts.take()
            && let Ok(file) = self.file.try_clone()
        {
            self.following = facts.follow(self.telling.follower(file));
        }
    }
}

impl Write for Followed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        if self.telling.more(written as u64) {
            self.follow();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads what was written so far, and waits for the rest.
#[derive(Debug)]
pub(crate) struct Follower {
    file: File,
    at: u64,
    progress: Arc<Progress>,
}

impl Follower {
    /// Writes all into a pipe. Ends when there is no more to come, or when nobody reads it any longer: the pipe's end does
    /// not say that all was there.
    pub(crate) fn pass_on(mut self, mut pipe: File) {
        // Fewer turns for both; where the limit is lower the pipe stays as it is.
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_BYTES);
        let mut buffer = vec![0; PIPE_BYTES / 4];
        while let Ok(read @ 1..) = self.read(&mut buffer)
            && let Some(piece) = buffer.get(..read)
            && pipe.write_all(piece).is_ok()
        {}
    }
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
        let reader = writer.telling.follower(file);
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
