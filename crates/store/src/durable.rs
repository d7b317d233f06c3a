//! Which records outlive a power cut.
//!
//! A process that is killed loses nothing: what it gave to the kernel stays. A power cut may lose or garble anything
//! not synced, in any order. So each record carries the boot in which it was written and a generation number:
//!
//! ```text
//! lock/generation   "<boot> <generation>"    the number that records written now carry
//! meta/synced       "<boot> <generation>"…   up to which number the records of each boot are on the medium
//! ```
//! [`Store::sync`] raises the generation (alone, so that no record of the old one is still being written), syncs the
//! file system once, then notes the old number in `meta/synced`. A record counts in the boot that wrote it, and
//! afterwards only if its number was noted; else it is treated as absent, which costs time and nothing else. The note
//! is written before the sync and renamed after it; its own name reaches the medium with the tag that follows.

use std::collections::BTreeMap;
use std::fs::File;

use crate::Store;
use crate::disk::DiskError;
use crate::error::StoreError;
use crate::lock::{self, GENERATION, Mode};
use crate::session::hex;

/// The note of what is synced.
pub(crate) const SYNCED: &str = "meta/synced";
/// Boots that are remembered; records of older ones are dropped. It bounds the file to some 60 KiB.
const BOOTS: usize = 1024;
/// More than [`BOOTS`] lines can take.
const SYNCED_BYTES: u64 = 1 << 20;
/// The generation file is one line.
const GENERATION_BYTES: u64 = 4096;

/// The right to write records of one generation.
#[derive(Debug)]
pub(crate) struct Writing {
    _lock: File,
    pub(crate) generation: u64,
}

/// Boots with their highest synced generation, oldest first.
type Notes = Vec<(String, u64)>;

fn line(boot: &str, generation: u64) -> String {
    let text = format!("{boot} {generation:020}");
    let sum = blake3::hash(text.as_bytes());
    format!("{text} {}\n", hex(sum.as_bytes().get(..8).unwrap_or_default()))
}

fn parse(text: &str) -> Option<(String, u64)> {
    let mut words = text.split(' ');
    let boot = words.next()?;
    let generation = words.next()?.parse().ok()?;
    (line(boot, generation).trim_end() == text).then(|| (boot.to_owned(), generation))
}

/// Reads the note; lines that are damaged are left out, their number is the second value.
pub(crate) fn parse_notes(bytes: &[u8]) -> (Notes, usize) {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().map(parse).collect();
    // It always has a line: an empty one lost its content.
    let damaged = lines.iter().filter(|line| line.is_none()).count().max(usize::from(bytes.is_empty()));
    (lines.into_iter().flatten().collect(), damaged)
}

impl Store {
    pub(crate) fn notes(&self) -> Result<Notes, DiskError> {
        let read = self.disk.read(SYNCED, SYNCED_BYTES)?;
        Ok(read.map(|(bytes, _)| parse_notes(&bytes).0).unwrap_or_default())
    }

    /// Whether records of this boot and generation can be believed.
    pub(crate) fn believes(&self, boot: &str, generation: u64) -> Result<bool, DiskError> {
        if boot == self.options.boot {
            return Ok(true);
        }
        // What is noted of other boots does not change any more: one look is enough.
        let synced: &BTreeMap<String, u64> = if let Some(synced) = self.synced.get() {
            synced
        } else {
            let notes = self.notes()?.into_iter().collect();
            self.synced.get_or_init(|| notes)
        };
        Ok(synced.get(boot).is_some_and(|&noted| generation <= noted))
    }

    /// To be held from before a record is written until it has its name.
    pub(crate) fn begin_record(&self) -> Result<Writing, StoreError> {
        let lock = lock::acquire(&self.disk, GENERATION, Mode::Shared, &self.options)?;
        if let Some(generation) = self.generation(&lock)? {
            return Ok(Writing { _lock: lock, generation });
        }
        drop(lock);
        // The first record of this boot, or a damaged file.
        let lock = lock::acquire(&self.disk, GENERATION, Mode::Alone, &self.options)?;
        let generation = self.generation_or_first(&lock)?;
        Ok(Writing { _lock: lock, generation })
    }

    /// This boot's generation; `None` if none is written down.
    fn generation(&self, lock: &File) -> Result<Option<u64>, DiskError> {
        let bytes = self.disk.read_file(lock, GENERATION, GENERATION_BYTES, GENERATION_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let found = text.lines().next().and_then(parse);
        Ok(found.filter(|(boot, _)| *boot == self.options.boot).map(|(_, generation)| generation))
    }

    fn generation_or_first(&self, lock: &File) -> Result<u64, DiskError> {
        if let Some(generation) = self.generation(lock)? {
            return Ok(generation);
        }
        // Beyond what is noted: a lost counter must not vouch for what was not synced.
        let noted = self.notes()?.into_iter().filter(|(boot, _)| *boot == self.options.boot).map(|(_, noted)| noted);
        let generation = noted.max().unwrap_or(0) + 1;
        self.set_generation(lock, generation)?;
        Ok(generation)
    }

    fn set_generation(&self, lock: &File, generation: u64) -> Result<(), DiskError> {
        self.disk.overwrite(lock, GENERATION, line(&self.options.boot, generation).as_bytes())
    }

    /// Makes everything written so far, by whomever, outlive a power cut: one sync of the file system.
    /// [`Store::set_tags`] calls it before a tag gets its name.
    pub fn sync(&self) -> Result<(), StoreError> {
        if !self.options.durable {
            return Ok(());
        }
        let lock = lock::acquire(&self.disk, GENERATION, Mode::Alone, &self.options)?;
        let generation = self.generation_or_first(&lock)?;
        self.set_generation(&lock, generation + 1)?;
        drop(lock);

        let mut note = self.temp_with(self.note_with(generation)?.as_bytes())?;
        self.disk.sync_all()?;
        let lock = lock::acquire(&self.disk, GENERATION, Mode::Alone, &self.options)?;
        let noted = |(boot, noted): &(String, u64)| *boot == self.options.boot && *noted >= generation;
        if !self.notes()?.iter().any(noted) {
            note.replace(SYNCED)?;
        }
        drop(lock);
        Ok(())
    }

    /// Much was written, and time will pass until [`Self::sync`]: the medium may begin now.
    pub fn sync_ahead(&self) {
        if self.options.durable {
            self.disk.sync_ahead();
        }
    }

    /// The note without what is damaged in it.
    pub(crate) fn notes_text(&self) -> Result<String, DiskError> {
        Ok(self.notes()?.iter().map(|(boot, generation)| line(boot, *generation)).collect())
    }

    fn note_with(&self, generation: u64) -> Result<String, DiskError> {
        let mut notes = self.notes()?;
        notes.retain(|(boot, _)| *boot != self.options.boot);
        notes.push((self.options.boot.clone(), generation));
        let old = notes.len().saturating_sub(BOOTS);
        Ok(notes.iter().skip(old).map(|(boot, generation)| line(boot, *generation)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_lines_are_left_out() {
        let good = line("boot-1", 7);
        assert_eq!(parse_notes(good.as_bytes()), (vec![("boot-1".to_owned(), 7)], 0));
        for at in 0..good.len() - 1 {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert_eq!(parse_notes(&bad).0, vec![], "byte {at}");
        }
        assert_eq!(parse_notes(b""), (vec![], 1));
    }
}
