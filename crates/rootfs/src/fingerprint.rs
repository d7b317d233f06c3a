//! Content digests of selected files, and the memory that makes a second build only `stat`.
//!
//! In: entries of a [`Context`] and a [`FingerprintCache`]. Out: one digest of the selection (names, kinds, modes, link
//! targets, attributes, bytes; never times). The cache maps a file's state to the digest of its content. It follows
//! git's racy-clean rule: a file whose times are not clearly older than the moment when it was hashed may have changed
//! since without a trace, so its digest is not trusted. Where the cache is kept is the caller's business.

use std::io::Read;
use std::os::fd::AsFd;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::context::{Context, ContextError, Entry, EntryKind, Stamp, read_error};
use crate::xattrs;

/// How often a file that changes while it is read is read again.
const RETRIES: usize = 3;
/// Read size: large enough to keep system calls rare, small enough for the processor's cache.
const CHUNK: usize = 256 << 10;
/// Bytes to hash from which on all cores are used.
const PARALLEL_BYTES: u64 = 4 << 20;
/// Files to hash from which on all cores are used.
const PARALLEL_FILES: usize = 256;
/// The kernel's clock tick is at most this long, in nanoseconds: two changes within it have the same time.
const TICK: i128 = 20_000_000;
/// The same for file systems that keep whole seconds (FAT: two).
const COARSE_TICK: i128 = 2_000_000_000;
/// Rounds of saving after which an entry that nobody asked for is dropped.
const IDLE_ROUNDS: u8 = 16;
/// Entries kept at most: about 100 bytes each.
const ENTRIES_MAX: usize = 2_000_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Remembered {
    digest: [u8; 32],
    /// When it was hashed: seconds and nanoseconds since 1970.
    hashed: (i64, u32),
    /// Rounds since it was last of use.
    idle: u8,
}

/// Digests of file contents by the files' states.
#[derive(Debug, Clone, Default)]
pub struct FingerprintCache {
    entries: FxHashMap<Stamp, Remembered>,
    now: (i64, u32),
    dirty: bool,
}

impl FingerprintCache {
    /// A cache that knows nothing. `now` (seconds and nanoseconds) is the wall clock before any file is looked at.
    pub fn new(now: (i64, u32)) -> Self {
        Self { entries: FxHashMap::default(), now, dirty: false }
    }

    /// Reads [`Self::to_bytes`] back. Damaged bytes give an empty cache: everything is hashed again.
    pub fn from_bytes(bytes: &[u8], now: (i64, u32)) -> Self {
        let entries: Vec<(Stamp, Remembered)> = postcard::from_bytes(bytes).unwrap_or_default();
        Self { entries: entries.into_iter().collect(), now, dirty: false }
    }

    /// Must it be saved?
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Does it know nothing?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// For the store. What has been of no use for a while is left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut entries: Vec<(Stamp, Remembered)> = self
            .entries
            .iter()
            .map(|(stamp, entry)| (*stamp, Remembered { idle: entry.idle.saturating_add(1), ..entry.clone() }))
            .filter(|(_, entry)| entry.idle <= IDLE_ROUNDS)
            .collect();
        entries.sort_unstable_by_key(|(stamp, entry)| (entry.idle, *stamp));
        entries.truncate(ENTRIES_MAX);
        postcard::to_stdvec(&entries).unwrap_or_default()
    }

    /// The content digest of a file in this state, if it can be trusted.
    fn get(&mut self, stamp: &Stamp) -> Option<[u8; 32]> {
        let entry = self.entries.get_mut(stamp)?;
        if !settled(stamp, entry.hashed) {
            return None;
        }
        entry.idle = 0;
        Some(entry.digest)
    }

    fn put(&mut self, stamp: Stamp, digest: [u8; 32]) {
        self.entries.insert(stamp, Remembered { digest, hashed: self.now, idle: 0 });
        self.dirty = true;
    }
}

/// Was the file's last change clearly before it was hashed?
fn settled(stamp: &Stamp, hashed: (i64, u32)) -> bool {
    let nanos = |(seconds, nanos): (i64, u32)| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let coarse = stamp.mtime.1 == 0 && stamp.ctime.1 == 0;
    let margin = if coarse { COARSE_TICK } else { TICK };
    nanos(stamp.mtime).max(nanos(stamp.ctime)) + margin < nanos(hashed)
}

/// The digest of a selection, in the order given. Files that changed while being read are looked at again; `entries`
/// then carries their new state, so that a copy made from it has the content that was hashed.
pub fn digest(
    context: &Context,
    entries: &mut [Entry],
    cache: &mut FingerprintCache,
) -> Result<[u8; 32], ContextError> {
    digest_each(context, entries, cache).map(|(digest, _)| digest)
}

/// Digests of entries' contents and attributes, in order: all are there for files and directories that were hashed.
pub type Contents = Vec<Option<[u8; 32]>>;

/// As [`digest`], with the digests of the entries' contents (and attributes), in order.
pub fn digest_each(
    context: &Context,
    entries: &mut [Entry],
    cache: &mut FingerprintCache,
) -> Result<([u8; 32], Contents), ContextError> {
    let mut contents: Vec<Option<[u8; 32]>> = entries.iter().map(|entry| known(entry, cache)).collect();
    let missing: Vec<usize> = (0..entries.len()).filter(|at| contents.get(*at) == Some(&None)).collect();
    let bytes: u64 = missing.iter().filter_map(|at| entries.get(*at)).map(|entry| entry.stamp.size).sum();
    let work: Vec<(usize, Entry)> = missing.iter().filter_map(|at| Some((*at, entries.get(*at)?.clone()))).collect();
    let hash = |(at, entry): (usize, Entry)| hash_stable(context, entry).map(|(entry, digest)| (at, entry, digest));
    let hashed: Vec<(usize, Entry, [u8; 32])> =
        if work.len() > 1 && (bytes > PARALLEL_BYTES || work.len() > PARALLEL_FILES) {
            work.into_par_iter().map(hash).collect::<Result<_, _>>()?
        } else {
            work.into_iter().map(hash).collect::<Result<_, _>>()?
        };
    for (at, entry, digest) in hashed {
        cache.put(entry.stamp, digest);
        if let (Some(place), Some(content)) = (entries.get_mut(at), contents.get_mut(at)) {
            *place = entry;
            *content = Some(digest);
        }
    }
    Ok((combine(entries, &contents), contents))
}

/// Files and directories can have attributes and content; the rest is described by the entry alone.
fn known(entry: &Entry, cache: &mut FingerprintCache) -> Option<[u8; 32]> {
    match entry.kind {
        EntryKind::File | EntryKind::Dir => cache.get(&entry.stamp),
        _ => Some([0; 32]),
    }
}

fn hash_stable(context: &Context, mut entry: Entry) -> Result<(Entry, [u8; 32]), ContextError> {
    let mut tries = 0;
    loop {
        match hash_content(context, &entry) {
            Ok(digest) => return Ok((entry, digest)),
            Err(ContextError::Changed { .. }) if tries < RETRIES => {
                tries += 1;
                let now = context.refresh(&entry)?;
                if std::mem::discriminant(&now.kind) != std::mem::discriminant(&entry.kind) {
                    return Err(ContextError::Changed { path: crate::root::show(&entry.path) });
                }
                entry = now;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The digest of attributes and, for files, bytes.
fn hash_content(context: &Context, entry: &Entry) -> Result<[u8; 32], ContextError> {
    let mut file = context.open_entry(entry)?;
    let mut hasher = blake3::Hasher::new();
    let xattrs = xattrs::read(file.as_fd()).map_err(|errno| read_error(&entry.path, errno))?;
    hash_xattrs(&mut hasher, &xattrs);
    if entry.kind == EntryKind::File {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(entry.stamp.size).unwrap_or(CHUNK) + 1)];
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ContextError::Read { path: crate::root::show(&entry.path), source }),
            };
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
    }
    context.check_unchanged(entry, &file)?;
    Ok(*hasher.finalize().as_bytes())
}

/// Takes attributes into a hash, unambiguously.
pub(crate) fn hash_xattrs(hasher: &mut blake3::Hasher, xattrs: &xattrs::Xattrs) {
    hasher.update(&(xattrs.len() as u64).to_le_bytes());
    for (name, value) in xattrs {
        hash_bytes(hasher, name);
        hash_bytes(hasher, value);
    }
}

pub(crate) fn hash_bytes(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn combine(entries: &[Entry], contents: &[Option<[u8; 32]>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut names: FxHashMap<(u64, u64), u64> = FxHashMap::default();
    for (number, (entry, content)) in (0u64..).zip(entries.iter().zip(contents)) {
        hash_bytes(&mut hasher, &entry.relative);
        let (tag, detail): (u8, Vec<u8>) = match &entry.kind {
            EntryKind::File => (b'f', Vec::new()),
            EntryKind::Dir => (b'd', Vec::new()),
            EntryKind::Symlink(target) => (b'l', target.clone()),
            EntryKind::Fifo => (b'p', Vec::new()),
            EntryKind::Socket => (b's', Vec::new()),
            EntryKind::Char(number) => (b'c', number.to_le_bytes().to_vec()),
            EntryKind::Block(number) => (b'b', number.to_le_bytes().to_vec()),
        };
        hasher.update(&[tag]);
        let mode = if tag == b'l' { 0o777 } else { entry.mode };
        hasher.update(&mode.to_le_bytes());
        hash_bytes(&mut hasher, &detail);
        // Which entries are names of the same file shows in the layer.
        let first =
            if entry.linked { *names.entry((entry.stamp.dev, entry.stamp.ino)).or_insert(number) } else { number };
        hasher.update(&(number - first).to_le_bytes());
        hasher.update(content.as_ref().unwrap_or(&[0; 32]));
    }
    *hasher.finalize().as_bytes()
}
