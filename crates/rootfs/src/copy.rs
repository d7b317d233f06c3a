//! The layers of COPY, ADD and WORKDIR: files from anywhere to a layer's tar, in one pass.
//!
//! In: the [`Stack`] that the layer will lie on, where to copy to, and sources entry by entry with their contents. Out:
//! a tar through a [`LayerWriter`]. No file is made. The rules are BuildKit's:
//!
//! - the destination as named is followed through links inside the stack; what goes below it replaces links;
//! - a directory's contents are copied, not itself; a destination that exists keeps its mode, directories below it
//!   take the source's;
//! - missing parents are made 0755 (or the octal `--chmod`) for the `--chown` owner;
//! - a file takes the place of a file or link, never of a directory; a directory never of anything else.
//!
//! Directories that hold something new are listed with the mode and owner that they have, because unpackers give
//! unlisted ones a mode of their own.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use kuz_image::Scanned;
use kuz_image::index::{IndexEntry, LayerIndex, Node, Stack, ancestors, components, join};
use kuz_image::limits;
use kuz_image::scan::{LayerWriter, WHITEOUT_PREFIX};
use kuz_image::tar::{Header, Kind, TarError};

use crate::chmod::Chmod;
use crate::context::{Context, ContextError, Entry, EntryKind, Source};
use crate::root::{GuestPath, PathError, show, split};
use crate::xattrs;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Absolute destination as named.
    pub dest: Vec<u8>,
    /// The destination must be a directory (it was written with a slash at its end, or there are several sources).
    pub dest_is_dir: bool,
    /// Owner of everything copied and made.
    pub owner: (u32, u32),
    /// What is copied keeps its own owner instead; [`Self::owner`] is for directories that are missing.
    pub keeps_owner: bool,
    /// `--chmod`
    pub chmod: Option<Chmod>,
    /// Times later than this become this.
    pub epoch: Option<i64>,
    /// The time of directories that are made.
    pub now: i64,
    /// Owner of what archives hold; the archive's own if `None`.
    pub archive_owner: Option<(u32, u32)>,
}

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path in the image")]
pub enum CopyError {
    /// A path over the limits.
    #[error("copy to a path")]
    Path(#[from] PathError),
    /// A directory can't go where something else is.
    #[error("cannot copy to `/{path}`: it is not a directory")]
    NotADirectory { path: String },
    /// A file can't go where a directory is.
    #[error("cannot copy to `/{path}`: it is a directory, the source is not")]
    FileOverDirectory { path: String },
    /// Links in the destination go round.
    #[error("too many symbolic links at `/{path}`")]
    TooManyLinks { path: String },
    /// A name that means something else in a layer.
    #[error("`{path}` cannot be in a layer: names that begin with `.wh.` mean removed files there")]
    WhiteoutName { path: String },
    /// An entry of an archive that is refused.
    #[error("archive entry `{path}` {reason}")]
    Archive { path: String, reason: &'static str },
    /// The archive is damaged.
    #[error("read archive")]
    ReadArchive(#[source] TarError),
    /// A file of the context can't be used.
    #[error("copy from the build context")]
    Context(#[from] ContextError),
    /// The layer could not be written.
    #[error("write layer")]
    Write(#[from] TarError),
}

/// One thing to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyEntry {
    /// Path relative to its source; empty for the source itself.
    pub relative: Vec<u8>,
    /// What it is; the path is not looked at, the owner only with [`CopyOptions::keeps_owner`].
    pub header: Header,
    /// Files of one source with the same number are names of one file.
    pub inode: Option<(u64, u64)>,
}

/// A layer being written.
#[derive(Debug)]
pub struct CopyLayer<'s, W: Write> {
    stack: &'s Stack,
    options: CopyOptions,
    writer: LayerWriter<W>,
    /// Where the present source goes.
    target: Vec<u8>,
    /// Directories that are listed, with all above them.
    listed: BTreeSet<Vec<u8>>,
    /// Those of them that this layer made: the stack has nothing below them, so it needn't be asked.
    fresh: HashSet<Vec<u8>>,
    /// First names of the present source's files.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// The time of everything that is copied, in place of its own.
    mtime: Option<i64>,
    skipped: Vec<Vec<u8>>,
}

impl<'s, W: Write> CopyLayer<'s, W> {
    /// An empty layer on this stack.
    pub fn new(stack: &'s Stack, options: CopyOptions, writer: LayerWriter<W>) -> Self {
        Self {
            stack,
            options,
            writer,
            target: Vec::new(),
            listed: BTreeSet::from([Vec::new()]),
            fresh: HashSet::new(),
            linked: HashMap::new(),
            mtime: None,
            skipped: Vec::new(),
        }
    }

    /// Starts a source: finds out where it goes, and makes the directories for it. `name` is the last name of the
    /// source as written.
    pub fn begin_source(&mut self, name: &[u8], is_dir: bool) -> Result<(), CopyError> {
        self.linked.clear();
        let dest = GuestPath::new(&self.options.dest)?;
        if self.options.dest_is_dir {
            let real = self.resolve(dest.as_bytes())?;
            self.list_dirs(&real)?;
        }
        let mut target = self.resolve(dest.as_bytes())?;
        let there = self.is_dir(&target);
        if is_dir {
            self.list_dirs(&target)?;
        } else {
            if there == Some(true) {
                // As BuildKit: a link with this name is not followed but replaced.
                target = join(&target, name);
            }
            if self.is_dir(&target) == Some(true) {
                return Err(CopyError::FileOverDirectory { path: show(&target) });
            }
        }
        self.target = target;
        Ok(())
    }

    /// From here on all that is copied has this time (a commit's), or its own again.
    pub fn set_mtime(&mut self, mtime: Option<i64>) {
        self.mtime = mtime;
    }

    /// Copies one entry of the present source; parents come before what is in them. `content` has exactly
    /// `header.size` bytes and is read for files only.
    pub fn add(&mut self, entry: &CopyEntry, content: &mut dyn Read) -> Result<(), CopyError> {
        if entry.relative.is_empty() && entry.header.kind == Kind::Dir {
            // The destination keeps what it has, or got what missing directories get.
            return Ok(());
        }
        let path = if entry.relative.is_empty() { self.target.clone() } else { join(&self.target, &entry.relative) };
        check_path(&path)?;
        let is_dir = entry.header.kind == Kind::Dir;
        match self.is_dir(&path) {
            Some(true) if !is_dir => return Err(CopyError::FileOverDirectory { path: show(&path) }),
            Some(false) if is_dir => return Err(CopyError::NotADirectory { path: show(&path) }),
            _ => {}
        }
        self.list_dirs(split(&path).0)?;
        let own = (entry.header.uid, entry.header.gid);
        let (uid, gid) = if self.options.keeps_owner { own } else { self.options.owner };
        let mut header = Header {
            path,
            uid,
            gid,
            mtime: self.clamp(self.mtime.unwrap_or(entry.header.mtime)),
            mode: self.mode(&entry.header),
            ..entry.header.clone()
        };
        header.xattrs.retain(|name, _| xattrs::kept(name));
        if let Some(first) = self.first_name(entry, &header.path) {
            header = Header { kind: Kind::Hardlink, link: first, size: 0, xattrs: xattrs::Xattrs::new(), ..header };
        }
        self.write(&header, content)
    }

    /// Notes something that a layer can't hold (a socket): it's left out.
    pub fn skip(&mut self, relative: &[u8]) {
        self.skipped.push(join(&self.target, relative));
    }

    /// What was left out.
    pub fn skipped(&self) -> &[Vec<u8>] {
        &self.skipped
    }

    /// Copies one source of the build context.
    pub fn add_context_source(&mut self, context: &Context, source: &Source) -> Result<(), CopyError> {
        self.begin_source(source.name(), source.is_dir())?;
        for entry in &source.entries {
            if entry.kind == EntryKind::Socket {
                self.skip(&entry.relative);
                continue;
            }
            let mut copy = from_context(entry);
            if !matches!(entry.kind, EntryKind::File | EntryKind::Dir) {
                self.add(&copy, &mut io::empty())?;
                continue;
            }
            let mut file = context.open_entry(entry)?;
            // Best effort, as everywhere: a file system without attributes has none.
            copy.header.xattrs = xattrs::read(file.as_fd()).unwrap_or_default();
            self.add(&copy, &mut file)?;
            context.check_unchanged(entry, &file)?;
        }
        Ok(())
    }

    /// ADD of a local archive: its entries are put below the destination, which becomes a directory. `tar` is
    /// uncompressed.
    pub fn add_archive(&mut self, tar: impl Read) -> Result<(), CopyError> {
        self.begin_source(b"", true)?;
        let mut reader = kuz_image::tar::TarReader::new(tar).end_optional();
        while let Some(mut entry) = reader.next().map_err(CopyError::ReadArchive)? {
            let header = entry.header().clone();
            self.archive_entry(header, &mut entry)?;
        }
        Ok(())
    }

    fn archive_entry(&mut self, mut header: Header, content: &mut dyn Read) -> Result<(), CopyError> {
        let refuse = |path: &[u8], reason| CopyError::Archive { path: show(path), reason };
        let inside = GuestPath::new(&header.path)?;
        if inside.climbs() {
            return Err(refuse(&header.path, "climbs with `..`"));
        }
        if inside.is_root() {
            // The destination is there. Some archives begin with a nameless file.
            let harmless = matches!(header.kind, Kind::Dir | Kind::File);
            return if harmless { Ok(()) } else { Err(refuse(&header.path, "is no directory")) };
        }
        let located = self.locate(inside.as_bytes())?;
        check_path(&located)?;
        if header.kind == Kind::Hardlink {
            let target = GuestPath::new(&header.link)?;
            if target.climbs() || target.is_root() {
                return Err(refuse(&header.path, "is a hard link to outside the archive"));
            }
            let target = self.locate(target.as_bytes())?;
            let node = self.writer.index().entries.get(&target).map(|entry| &entry.node);
            if !matches!(node, Some(Node::File { .. } | Node::Hardlink(_))) || target == located {
                return Err(refuse(&header.path, "is a hard link to no file of the archive"));
            }
            header.link = target;
        }
        self.list_dirs(split(&located).0)?;
        if header.kind != Kind::Dir && self.listed.contains(&located) {
            // A directory of this layer goes, and what was listed below it with it.
            let prefix = join(&located, b"");
            let stays = |path: &Vec<u8>| *path != located && !path.starts_with(&prefix);
            self.listed.retain(stays);
            self.fresh.retain(stays);
        }
        header.path = located;
        header.mtime = self.clamp(header.mtime);
        (header.uid, header.gid) = self.options.archive_owner.unwrap_or((header.uid, header.gid));
        header.xattrs.retain(|name, _| xattrs::kept(name));
        self.write(&header, content)
    }

    /// Where a path of an archive lands: parents are followed inside the stack, the last name is not.
    fn locate(&self, inside: &[u8]) -> Result<Vec<u8>, CopyError> {
        let (parent, name) = split(inside);
        let parent = if parent.is_empty() { self.target.clone() } else { self.resolve(&join(&self.target, parent))? };
        Ok(join(&parent, name))
    }

    /// WORKDIR: makes a directory and its missing parents. Says whether there was anything to make.
    pub fn make_dir(&mut self, path: &[u8]) -> Result<bool, CopyError> {
        let path = GuestPath::new(path)?;
        let real = self.resolve(path.as_bytes())?;
        if self.is_dir(&real) == Some(true) {
            return Ok(false);
        }
        self.list_dirs(&real)?;
        Ok(true)
    }

    /// Ends the layer.
    pub fn finish(self) -> Result<(W, Scanned), CopyError> {
        Ok(self.writer.finish()?)
    }

    /// The first name in this layer of a file that has been copied already.
    fn first_name(&mut self, entry: &CopyEntry, path: &[u8]) -> Option<Vec<u8>> {
        let inode = entry.inode.filter(|_| entry.header.kind == Kind::File)?;
        let first = self.linked.entry(inode).or_insert_with(|| path.to_vec());
        (first != path).then(|| first.clone())
    }

    fn mode(&self, header: &Header) -> u32 {
        match (&self.options.chmod, header.kind) {
            (_, Kind::Symlink) => 0o777,
            (Some(chmod), kind) => chmod.apply(header.mode, kind == Kind::Dir),
            (None, _) => header.mode & 0o7777,
        }
    }

    fn clamp(&self, mtime: i64) -> i64 {
        self.options.epoch.map_or(mtime, |epoch| mtime.min(epoch))
    }

    fn write(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), CopyError> {
        if header.kind == Kind::Dir {
            if self.is_dir(&header.path).is_none() {
                self.fresh.insert(header.path.clone());
            }
            self.listed.insert(header.path.clone());
        }
        if header.kind == Kind::File {
            self.writer.append(header, content)?;
        } else {
            self.writer.append(header, &mut io::empty())?;
        }
        Ok(())
    }

    /// Lists a directory (a real path) and all above it: as they are, or made where they're missing.
    fn list_dirs(&mut self, real: &[u8]) -> Result<(), CopyError> {
        if self.listed.contains(real) {
            return Ok(());
        }
        check_path(real)?;
        let mut above: Vec<Vec<u8>> = ancestors(real).map(<[u8]>::to_vec).collect();
        above.insert(0, real.to_vec());
        for directory in above.into_iter().rev() {
            if self.listed.contains(&directory) {
                continue;
            }
            let header = match self.get(&directory) {
                Some(IndexEntry { node: Node::Dir { .. }, mode, uid, gid, mtime }) => {
                    let (mode, uid, gid, mtime) = (*mode, *uid, *gid, self.clamp(*mtime));
                    Header { path: directory, kind: Kind::Dir, mode, uid, gid, mtime, ..Header::default() }
                }
                Some(_) => return Err(CopyError::NotADirectory { path: show(&directory) }),
                None => Header {
                    path: directory,
                    kind: Kind::Dir,
                    mode: self.options.chmod.as_ref().and_then(Chmod::octal).unwrap_or(0o755),
                    uid: self.options.owner.0,
                    gid: self.options.owner.1,
                    mtime: self.clamp(self.options.now),
                    ..Header::default()
                },
            };
            self.write(&header, &mut io::empty())?;
        }
        Ok(())
    }

    /// What is at a real path once this layer lies on the stack.
    fn get(&self, path: &[u8]) -> Option<&IndexEntry> {
        let own: &LayerIndex = self.writer.index();
        if let Some(entry) = own.entries.get(path) {
            return Some(entry);
        }
        if self.fresh.contains(split(path).0) {
            return None;
        }
        let hidden =
            ancestors(path).any(|at| own.entries.get(at).is_some_and(|entry| !matches!(entry.node, Node::Dir { .. })));
        if hidden { None } else { self.stack.get(path) }
    }

    /// Is there a directory (`true`) or something else (`false`)? The root is always one.
    fn is_dir(&self, path: &[u8]) -> Option<bool> {
        if path.is_empty() {
            return Some(true);
        }
        self.get(path).map(|entry| matches!(entry.node, Node::Dir { .. }))
    }

    /// The real path that a path leads to, the last name followed too, in the stack with this layer on it.
    fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, CopyError> {
        let mut rest: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(name) = rest.pop() {
            if name == b".." {
                at = split(&at).0.to_vec();
                continue;
            }
            let next = join(&at, &name);
            match self.get(&next).map(|entry| &entry.node) {
                Some(Node::Symlink(target)) => {
                    links += 1;
                    if links > limits::SYMLINKS {
                        return Err(CopyError::TooManyLinks { path: show(&next) });
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    rest.extend(components(target).rev().map(<[u8]>::to_vec));
                }
                Some(Node::File { .. } | Node::Hardlink(_) | Node::Special(_)) if !rest.is_empty() => {
                    return Err(CopyError::NotADirectory { path: show(&next) });
                }
                _ => at = next,
            }
        }
        Ok(at)
    }
}

/// Over the limits, or with a name that a layer can't hold?
fn check_path(path: &[u8]) -> Result<(), CopyError> {
    GuestPath::new(path)?;
    if components(path).any(|name| name.starts_with(WHITEOUT_PREFIX)) {
        return Err(CopyError::WhiteoutName { path: show(path) });
    }
    Ok(())
}

/// An entry of the build context as it's copied.
fn from_context(entry: &Entry) -> CopyEntry {
    let mut header = Header { mode: entry.mode, mtime: entry.stamp.mtime.0, ..Header::default() };
    let number = |device: u64| (rustix::fs::major(device), rustix::fs::minor(device));
    header.kind = match &entry.kind {
        EntryKind::File | EntryKind::Socket => {
            header.size = entry.stamp.size;
            Kind::File
        }
        EntryKind::Dir => Kind::Dir,
        EntryKind::Symlink(target) => {
            header.link.clone_from(target);
            Kind::Symlink
        }
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::Char(device) => {
            let (major, minor) = number(*device);
            Kind::Char { major, minor }
        }
        EntryKind::Block(device) => {
            let (major, minor) = number(*device);
            Kind::Block { major, minor }
        }
    };
    let inode = (entry.linked && entry.kind == EntryKind::File).then_some((entry.stamp.dev, entry.stamp.ino));
    CopyEntry { relative: entry.relative.clone(), header, inode }
}

#[cfg(test)]
mod tests;
