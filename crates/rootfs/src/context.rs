//! The build context: which files a COPY source names, and safe access to them.
//!
//! In: a directory of the user's, a source as written (`src/*.py`), the rules of `.dockerignore` as a closure. Out:
//! [`Source`]s with sorted entries that carry everything needed to copy and to fingerprint them; file contents are read
//! only when asked for, and a file that changed since it was seen is an error. Links never lead out of the context.
//! Parsing ignore files and wildcards is the Dockerfile crate's: both come in as closures.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use kuz_image::index::{ancestors, components, join};
use rayon::prelude::*;
use rustix::fs::{FileType, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::root::{GuestPath, PathError, Root, RootError, kind, read_link, show, split};
use crate::walk;

/// The rest of a walk is done on all cores once it has seen this many entries: below, starting threads costs more.
const PARALLEL_ENTRIES: usize = 1024;
/// Entries of one directory that a thread looks at in one go.
const STRIDE: usize = 256;

/// What the ignore rules say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It's part of the context.
    Keep,
    /// It isn't, nor is anything below.
    Drop,
    /// It isn't, but something below may be.
    DropButLookBelow,
}

impl Verdict {
    /// What two rules make of a path together.
    #[must_use]
    pub fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Drop => Self::Drop,
            Self::Keep => other(),
            Self::DropButLookBelow => match other() {
                Self::Drop => Self::Drop,
                _ => Self::DropButLookBelow,
            },
        }
    }
}

/// Says what the ignore rules think of a path (no leading slash) and whether it's a directory. A path below an ignored
/// directory must be judged with its parents' rules applied.
pub type Ignore<'a> = &'a (dyn Fn(&[u8], bool) -> Verdict + Sync);

/// Says which of the paths below a source are wanted (`--exclude`, `--parents`): the path relative to the source, and
/// whether it's a directory.
pub type Filter<'a> = &'a (dyn Fn(&[u8], bool) -> Verdict + Sync);

/// Go's `filepath.Match` for one name: pattern, name.
pub type Matcher<'a> = &'a dyn Fn(&[u8], &[u8]) -> bool;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device and its number.
    Char(u64),
    /// A block device and its number.
    Block(u64),
}

/// What a file's state is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the fields are stat's; times are seconds and nanoseconds")]
pub struct Stamp {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            ctime: (stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or_default()),
        }
    }
}

/// One selected file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Real path in the context, no leading slash.
    pub path: Vec<u8>,
    /// Path relative to the source; empty for the source itself.
    pub relative: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Twelve permission bits.
    pub mode: u32,
    /// Does it have other names (hard links)?
    pub linked: bool,
    /// Its state.
    pub stamp: Stamp,
}

/// One file or directory that a source word names (a wildcard may name several).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as named, cleaned, links not followed; its last name is what a copy into a directory is called.
    pub path: Vec<u8>,
    /// The source itself first (relative path empty), then what is below it, parents before children, sorted.
    pub entries: Vec<Entry>,
}

impl Source {
    /// The last name of the path as named.
    pub fn name(&self) -> &[u8] {
        split(&self.path).1
    }

    /// Is it a directory (whose contents are copied)?
    pub fn is_dir(&self) -> bool {
        self.entries.first().is_some_and(|entry| entry.kind == EntryKind::Dir)
    }
}

/// Why files of the context can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path inside the context and the kernel's answer")]
pub enum ContextError {
    /// The directory can't be used.
    #[error("open build context `{path}`")]
    Open { path: String, source: io::Error },
    /// The source is no path.
    #[error("read a source path")]
    Path(#[from] PathError),
    /// Nothing there.
    #[error("`{path}` is not in the build context")]
    NotFound { path: String },
    /// Something is there, but the ignore file hides it.
    #[error("`{path}` is excluded by .dockerignore")]
    Ignored { path: String },
    /// The lookup failed.
    #[error("look up `{path}` in the build context")]
    Lookup { path: String, source: RootError },
    /// Reading failed.
    #[error("read `{path}` in the build context")]
    Read { path: String, source: io::Error },
    /// The file is not what it was when it was selected.
    #[error("`{path}` in the build context changed while it was being read")]
    Changed { path: String },
}

/// A build context.
#[derive(Debug)]
pub struct Context {
    root: Root,
}

impl Context {
    /// Opens the context's directory.
    pub fn open(path: &Path) -> Result<Self, ContextError> {
        let root = Root::open(path).map_err(|source| ContextError::Open {
            path: path.display().to_string().escape_debug().to_string(),
            source,
        })?;
        Ok(Self { root })
    }

    /// The directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The files that one source word names. A literal path that isn't there is an error; a wildcard without a match
    /// selects nothing.
    pub fn select(
        &self,
        pattern: &[u8],
        matcher: Matcher<'_>,
        ignored: Ignore<'_>,
    ) -> Result<Vec<Source>, ContextError> {
        self.select_filtered(pattern, matcher, ignored, &|_, _| Verdict::Keep)
    }

    /// As [`Self::select`], with only those entries below a source that a filter wants, and the directories that lead
    /// to them. Directories in which it wants nothing are not read.
    pub fn select_filtered(
        &self,
        pattern: &[u8],
        matcher: Matcher<'_>,
        ignored: Ignore<'_>,
        filter: Filter<'_>,
    ) -> Result<Vec<Source>, ContextError> {
        let clean = clean(pattern);
        let names: Vec<&[u8]> = components(&clean).collect();
        let literal = names.iter().take_while(|name| !has_wildcard(name)).count();
        let (base, rest) = names.split_at(literal);
        let base = base.join(&b'/');
        if rest.is_empty() {
            return self.literal(&base, ignored, filter).map(|source| vec![source]);
        }
        let mut sources = Vec::new();
        for path in self.expand(&base, rest, matcher, ignored)? {
            match self.literal(&path, ignored, filter) {
                Ok(source) => sources.push(source),
                Err(ContextError::Ignored { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sources)
    }

    /// The paths that match, in order. Only real directories are searched, and none that is ignored with all it holds;
    /// the literal beginning may go through links.
    fn expand(
        &self,
        base: &[u8],
        patterns: &[&[u8]],
        matcher: Matcher<'_>,
        ignored: Ignore<'_>,
    ) -> Result<Vec<Vec<u8>>, ContextError> {
        let (real, stat) = self.resolve(base)?;
        if stat.as_ref().map(kind) != Some(FileType::Directory) {
            return Ok(Vec::new());
        }
        // Pairs of the real path, for reading, and the path as named.
        let mut found = vec![(real, base.to_vec())];
        for (level, pattern) in patterns.iter().enumerate() {
            let last = level + 1 == patterns.len();
            let mut next = Vec::new();
            for (real, named) in found {
                if !real.is_empty() && ignored(&real, true) == Verdict::Drop {
                    continue;
                }
                let directory = walk::open_real_dir(&self.root, &real).map_err(|errno| read_error(&real, errno))?;
                let names = walk::names(directory.as_fd()).map_err(|errno| read_error(&real, errno))?;
                for name in names.into_iter().filter(|name| matcher(pattern, name)) {
                    let stat = || walk::stat_in(directory.as_fd(), &name);
                    if last || stat().is_ok_and(|stat| kind(&stat) == FileType::Directory) {
                        next.push((join(&real, &name), join(&named, &name)));
                    }
                }
            }
            found = next;
        }
        Ok(found.into_iter().map(|(_, named)| named).collect())
    }

    fn resolve(&self, path: &[u8]) -> Result<(Vec<u8>, Option<Stat>), ContextError> {
        let path = GuestPath::new(path)?;
        match self.root.resolve(&path) {
            Ok(found) => Ok((found.real, found.stat)),
            Err(RootError::NotADirectory { .. }) => Ok((path.as_bytes().to_vec(), None)),
            Err(source) => Err(ContextError::Lookup { path: show(path.as_bytes()), source }),
        }
    }

    fn literal(&self, path: &[u8], ignored: Ignore<'_>, filter: Filter<'_>) -> Result<Source, ContextError> {
        let (real, stat) = self.resolve(path)?;
        let shown = || if path.is_empty() { ".".to_owned() } else { show(path) };
        let Some(stat) = stat else { return Err(ContextError::NotFound { path: shown() }) };
        let is_dir = kind(&stat) == FileType::Directory;
        let verdict = |at: &[u8], dir: bool| if at.is_empty() { Verdict::Keep } else { ignored(at, dir) };
        // Both what the user named and what a link led to must be part of the context.
        let hidden = [path, &real].into_iter().any(|at| {
            verdict(at, is_dir) == Verdict::Drop || ancestors(at).any(|above| verdict(above, true) == Verdict::Drop)
        });
        if hidden {
            return Err(ContextError::Ignored { path: shown() });
        }
        let keep = verdict(&real, is_dir) == Verdict::Keep && verdict(path, is_dir) == Verdict::Keep;
        let root = self.entry(real, Vec::new(), &stat)?;
        if !is_dir {
            let entries = if keep { vec![root] } else { return Err(ContextError::Ignored { path: shown() }) };
            return Ok(Source { path: path.to_vec(), entries });
        }
        let mut entries = self.walk(&root, ignored, filter)?;
        if !keep && entries.is_empty() {
            return Err(ContextError::Ignored { path: shown() });
        }
        entries.insert(0, root);
        Ok(Source { path: path.to_vec(), entries })
    }

    /// Everything below a directory that the rules keep, sorted by names, parents before children.
    fn walk(&self, top: &Entry, ignored: Ignore<'_>, filter: Filter<'_>) -> Result<Vec<Entry>, ContextError> {
        let mut found: Vec<(Entry, bool)> = Vec::new();
        let mut level = vec![top.clone()];
        while !level.is_empty() {
            let read = |directory: &Entry| self.read_dir(directory, ignored, filter);
            let start = found.len();
            let mut rest = level.as_slice();
            while let Some((first, others)) = rest.split_first()
                && (found.len() < PARALLEL_ENTRIES || others.is_empty())
            {
                found.extend(read(first)?);
                rest = others;
            }
            if !rest.is_empty() {
                let parts = rest.par_iter().map(read).collect::<Result<Vec<_>, _>>()?;
                found.extend(parts.into_iter().flatten());
            }
            let new = found.get(start..).unwrap_or_default().iter();
            level = new.filter(|(entry, _)| entry.kind == EntryKind::Dir).map(|(entry, _)| entry.clone()).collect();
        }
        found.sort_by(|(a, _), (b, _)| path_order(&a.relative, &b.relative));
        Ok(drop_empty(found))
    }

    /// The entries of one directory that are kept (`true`) or may have kept entries below (`false`).
    fn read_dir(
        &self,
        directory: &Entry,
        ignored: Ignore<'_>,
        filter: Filter<'_>,
    ) -> Result<Vec<(Entry, bool)>, ContextError> {
        let failed = |errno: Errno| read_error(&directory.path, errno);
        let fd = walk::open_real_dir(&self.root, &directory.path).map_err(failed)?;
        let names = walk::names(fd.as_fd()).map_err(failed)?;
        let look = |name: &Vec<u8>| {
            let path = join(&directory.path, name);
            let stat = walk::stat_if_any(fd.as_fd(), name).map_err(|errno| read_error(&path, errno))?;
            let Some(stat) = stat else { return Ok(None) };
            let is_dir = kind(&stat) == FileType::Directory;
            let relative = join(&directory.relative, name);
            let verdict = ignored(&path, is_dir).and(|| filter(&relative, is_dir));
            if verdict != Verdict::Keep && !(is_dir && verdict == Verdict::DropButLookBelow) {
                return Ok(None);
            }
            GuestPath::new(&path)?;
            let target = if kind(&stat) == FileType::Symlink {
                Some(read_link(fd.as_fd(), name).map_err(|errno| read_error(&path, errno))?)
            } else {
                None
            };
            Ok(Some((describe(path, relative, &stat, target), verdict == Verdict::Keep)))
        };
        if names.len() < PARALLEL_ENTRIES {
            return names.iter().filter_map(|name| look(name).transpose()).collect();
        }
        let seen = names.par_iter().with_min_len(STRIDE).filter_map(|name| look(name).transpose());
        seen.collect()
    }

    fn entry(&self, path: Vec<u8>, relative: Vec<u8>, stat: &Stat) -> Result<Entry, ContextError> {
        let target = match kind(stat) {
            FileType::Symlink => {
                let guest = GuestPath::new(&path)?;
                Some(self.root.readlink(&guest).map_err(|source| ContextError::Lookup { path: show(&path), source })?)
            }
            _ => None,
        };
        Ok(describe(path, relative, stat, target))
    }

    /// Opens a selected file, never blocking, and checks that it's still the one that was selected.
    pub fn open_entry(&self, entry: &Entry) -> Result<File, ContextError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let file = match self.root.lookup(&entry.path, flags, ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                return Err(ContextError::Changed { path: show(&entry.path) });
            }
            Err(errno) => return Err(read_error(&entry.path, errno)),
        };
        self.check_unchanged(entry, &file)?;
        Ok(file)
    }

    /// After reading: is the file still in the state in which it was selected?
    pub fn check_unchanged(&self, entry: &Entry, file: &File) -> Result<(), ContextError> {
        let stat = rustix::fs::fstat(file).map_err(|errno| read_error(&entry.path, errno))?;
        let same_kind = describe(Vec::new(), Vec::new(), &stat, None).kind == entry.kind;
        if same_kind && Stamp::of(&stat) == entry.stamp {
            return Ok(());
        }
        Err(ContextError::Changed { path: show(&entry.path) })
    }

    /// Looks at a selected entry once more, after [`ContextError::Changed`].
    pub fn refresh(&self, entry: &Entry) -> Result<Entry, ContextError> {
        let path = GuestPath::new(&entry.path)?;
        let stat =
            self.root.stat(&path, false).map_err(|source| ContextError::Lookup { path: show(&entry.path), source })?;
        let stat = stat.ok_or_else(|| ContextError::NotFound { path: show(&entry.path) })?;
        self.entry(entry.path.clone(), entry.relative.clone(), &stat)
    }
}

pub(crate) fn read_error(path: &[u8], errno: Errno) -> ContextError {
    let path = if path.is_empty() { ".".to_owned() } else { show(path) };
    ContextError::Read { path, source: errno.into() }
}

fn describe(path: Vec<u8>, relative: Vec<u8>, stat: &Stat, target: Option<Vec<u8>>) -> Entry {
    let kind = match kind(stat) {
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink(target.unwrap_or_default()),
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::Char(stat.st_rdev),
        FileType::BlockDevice => EntryKind::Block(stat.st_rdev),
        _ => EntryKind::File,
    };
    let linked = stat.st_nlink > 1 && kind != EntryKind::Dir;
    Entry { path, relative, kind, mode: stat.st_mode & 0o7777, linked, stamp: Stamp::of(stat) }
}

/// Takes out the directories that are not part of the context themselves and have nothing kept below.
fn drop_empty(found: Vec<(Entry, bool)>) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::with_capacity(found.len() + 1);
    // Backwards, an entry's descendants were decided before it, and the nearest one stands last in `kept`.
    for (entry, keep) in found.into_iter().rev() {
        let has_child = kept.last().is_some_and(|next| {
            next.relative.strip_prefix(entry.relative.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        });
        if keep || has_child {
            kept.push(entry);
        }
    }
    kept.reverse();
    kept
}

/// Order by names, so that a directory's entries stand together right after it.
pub(crate) fn path_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    components(a).cmp(components(b))
}

/// A source path as Docker reads it: from the context's root, `..` ends there.
fn clean(pattern: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in components(pattern) {
        if name == b".." {
            names.pop();
        } else {
            names.push(name);
        }
    }
    names.join(&b'/')
}

fn has_wildcard(name: &[u8]) -> bool {
    let mut escaped = false;
    name.iter().any(|&b| {
        let wild = !escaped && matches!(b, b'*' | b'?' | b'[');
        escaped = !escaped && b == b'\\';
        wild
    })
}

#[cfg(test)]
mod tests;
