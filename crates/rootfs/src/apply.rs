//! A layer's tar to a tree in overlayfs' lower format.
//!
//! In: an uncompressed tar that nobody has looked at, and an empty directory. Out: the files, whiteouts as character
//! devices 0:0, opaque directories marked `user.overlay.opaque=y`, and the layer's index. Whiteouts speak about lower
//! layers only: what the same layer holds stays, in whatever order the entries come. Devices are listed in the index
//! and not made. Attributes that would forge overlayfs' own are dropped. Digests are the caller's (a hashing reader
//! around the tar sees every byte).
//!
//! Each entry's directory is found by the kernel inside the root and kept open while entries stay in it; everything
//! else goes through that descriptor and never follows a link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kuz_image::LayerIndex;
use kuz_image::index::{ACCOUNT_FILES, join};
use kuz_image::limits;
use kuz_image::scan::{IndexBuilder, Mark, OPAQUE_NAME, WHITEOUT_PREFIX, mark};
use kuz_image::tar::{Entry, Header, Kind, TarError, TarReader};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::remove::{RemoveError, remove_in};
use crate::root::{GuestPath, PathError, Root, RootError, chown, kind, make_dir, read_link, show, split};
use crate::{walk, xattrs};

/// Write size: few system calls, and still inside the processor's cache.
const CHUNK: usize = 256 << 10;

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The owners that the layer says, in the present user namespace.
    Mapped,
    /// All belong to the one id there is; owners stand in the index only, and everything can be read by that id.
    Single,
}

/// What came of a layer.
#[derive(Debug)]
pub struct Applied {
    /// What the layer does, by real paths.
    pub index: LayerIndex,
    /// Directories that the tar used without an entry of their own (made 0755): over lower layers they'd hide the
    /// mode and owner that a directory has there; see [`settle_implied`].
    pub implied: Vec<Vec<u8>>,
    /// Extended attributes that the file system doesn't take.
    pub dropped_xattrs: usize,
}

/// Why a layer could not become a tree.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the entry and the kernel's answer")]
pub enum ApplyError {
    /// The tar is damaged.
    #[error("read layer")]
    Tar(#[from] TarError),
    /// An entry's name is no path.
    #[error("unpack a layer's entry")]
    Path(#[from] PathError),
    /// An entry that no layer may have.
    #[error("layer entry `{path}` {reason}")]
    Refused { path: String, reason: &'static str },
    /// The directory that it's in could not be found or made.
    #[error("make the directory of layer entry `{path}`")]
    Parent { path: String, source: RootError },
    /// It could not be made.
    #[error("make layer entry `{path}`")]
    Create { path: String, source: io::Error },
    /// Something earlier could not be taken away for it.
    #[error("replace `{path}`")]
    Replace { path: String, source: RemoveError },
    /// Its content could not be written.
    #[error("write layer entry `{path}`")]
    Write { path: String, source: io::Error },
    /// The owner doesn't exist in this user namespace, or may not be set.
    #[error("give layer entry `{path}` to {uid}:{gid} (is the id within the subordinate ids?)")]
    Owner { path: String, uid: u32, gid: u32, source: io::Error },
    /// Mode, time or attributes could not be set.
    #[error("set the {what} of layer entry `{path}`")]
    Metadata { path: String, what: &'static str, source: io::Error },
    /// A hard link to something that isn't in the layer, or no file.
    #[error("layer entry `{path}` is a hard link to `{target}`, which {reason}")]
    Hardlink { path: String, target: String, reason: &'static str },
}

/// Unpacks a layer into `tree`, which should be empty, and reads `tar` to its very end.
pub fn apply(tar: impl Read, tree: &Root, ownership: Ownership) -> Result<Applied, ApplyError> {
    let mut layer = Layer::new(tree, ownership)?;
    // A missing end marker is let pass: the caller proves the layer's completeness by its digest.
    let mut reader = TarReader::new(tar).end_optional();
    while let Some(mut entry) = reader.next()? {
        layer.add(&mut entry)?;
    }
    reader.finish()?;
    layer.finish()
}

/// Gives implied directories the mode, owner and time that they have in the layers below.
pub fn settle_implied(tree: &Root, path: &GuestPath, header: &Header, ownership: Ownership) -> Result<(), ApplyError> {
    let fd = walk::open_real_dir(tree, path.as_bytes()).map_err(create_error(path.as_bytes()))?;
    set_owner_and_mode(fd.as_fd(), path.as_bytes(), header, ownership)?;
    set_time(fd.as_fd(), header.mtime).map_err(metadata_error(path.as_bytes(), "time"))
}

/// The directory that entries are being put in.
struct Place {
    /// As the entries name it.
    path: Vec<u8>,
    /// Without links.
    real: Vec<u8>,
    fd: OwnedFd,
}

struct Layer<'t> {
    tree: &'t Root,
    ownership: Ownership,
    index: IndexBuilder,
    place: Place,
    /// Directories by real path: their times are set at the end, after the last entry was put in.
    dirs: BTreeMap<Vec<u8>, i64>,
    implied: BTreeSet<Vec<u8>>,
    dropped_xattrs: usize,
    buffer: Vec<u8>,
}

impl<'t> Layer<'t> {
    fn new(tree: &'t Root, ownership: Ownership) -> Result<Self, ApplyError> {
        let fd = tree.fd().try_clone_to_owned().map_err(|source| ApplyError::Create { path: ".".into(), source })?;
        Ok(Self {
            tree,
            ownership,
            index: IndexBuilder::default(),
            place: Place { path: Vec::new(), real: Vec::new(), fd },
            dirs: BTreeMap::new(),
            implied: BTreeSet::new(),
            dropped_xattrs: 0,
            buffer: vec![0; CHUNK],
        })
    }

    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), ApplyError> {
        let path = GuestPath::new(&entry.header().path)?;
        if path.climbs() {
            return Err(refused(path.as_bytes(), "climbs with `..`"));
        }
        // Refuses whiteouts of nothing, and entries below one.
        if mark(path.as_bytes())? == Mark::Aufs {
            return Ok(());
        }
        let (parent, name) = split(path.as_bytes());
        if name.is_empty() {
            return self.root(entry.header());
        }
        self.enter(parent, path.as_bytes())?;
        let mut header = entry.header().clone();
        header.path = join(&self.place.real, name);
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self.whiteout(&header, name, hidden);
        }
        match header.kind {
            Kind::Dir => self.dir(&header, name),
            Kind::File => self.file(&header, name, entry),
            Kind::Symlink => self.symlink(&header, name),
            Kind::Hardlink => self.hardlink(&header, name),
            Kind::Fifo => self.fifo(&header, name),
            Kind::Char { .. } | Kind::Block { .. } => {
                self.clear(name, &header.path)?;
                self.note(&header, None)
            }
        }
    }

    fn note(&mut self, header: &Header, account: Option<&[u8]>) -> Result<(), ApplyError> {
        Ok(self.index.add(header, account)?)
    }

    /// The entry for the tree itself.
    fn root(&mut self, header: &Header) -> Result<(), ApplyError> {
        if header.kind != Kind::Dir {
            return Err(refused(b"/", "is the root, but no directory"));
        }
        let fd = walk::open_real_dir(self.tree, b"").map_err(create_error(b"/"))?;
        self.set_metadata(fd.as_fd(), header)?;
        self.dirs.insert(Vec::new(), header.mtime);
        self.note(header, None)
    }

    /// Goes to the directory of an entry, making what's missing.
    fn enter(&mut self, parent: &[u8], entry: &[u8]) -> Result<(), ApplyError> {
        if self.place.path == parent {
            return Ok(());
        }
        let failed = |source| ApplyError::Parent { path: show(entry), source };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if let Ok(fd) = self.tree.lookup(parent, flags, ResolveFlags::NO_SYMLINKS) {
            self.place = Place { path: parent.to_vec(), real: parent.to_vec(), fd };
            return Ok(());
        }
        let path = GuestPath::new(parent)?;
        // A whiteout hides what lower layers have; the directory that now takes its place must go on hiding that.
        let mut replace = |directory: BorrowedFd<'_>, name: &[u8], stat: &Stat| {
            if !walk::is_whiteout(stat) {
                return Ok(false);
            }
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
            make_dir(directory, name, None)?;
            walk::make_opaque(walk::open_dir_in(directory, name)?.as_fd())?;
            Ok(true)
        };
        let made = self.tree.make_dirs_with(&path, None, &mut replace).map_err(failed)?;
        self.implied.extend(made.made);
        self.place = Place { path: parent.to_vec(), real: made.real, fd: made.fd };
        Ok(())
    }

    /// Takes away whatever has this name.
    fn clear(&mut self, name: &[u8], path: &[u8]) -> Result<(), ApplyError> {
        remove_in(self.place.fd.as_fd(), name).map_err(|source| ApplyError::Replace { path: show(path), source })
    }

    /// Makes something that must not exist; what exists is taken away first.
    fn make<T>(
        &mut self,
        name: &[u8],
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, ApplyError> {
        match make(self.place.fd.as_fd(), name) {
            Err(Errno::EXIST) => {
                self.clear(name, path)?;
                make(self.place.fd.as_fd(), name)
            }
            other => other,
        }
        .map_err(create_error(path))
    }

    fn dir(&mut self, header: &Header, name: &[u8]) -> Result<(), ApplyError> {
        let failed = create_error(&header.path);
        let found = walk::stat_if_any(self.place.fd.as_fd(), name).map_err(&failed)?;
        if found.as_ref().map(kind) != Some(FileType::Directory) {
            self.make(name, &header.path, |parent, name| rustix::fs::mkdirat(parent, name, Mode::RWXU))?;
        }
        let fd = walk::open_dir_in(self.place.fd.as_fd(), name).map_err(&failed)?;
        if found.as_ref().is_some_and(walk::is_whiteout) {
            walk::make_opaque(fd.as_fd()).map_err(&failed)?;
        }
        self.set_metadata(fd.as_fd(), header)?;
        self.dirs.insert(header.path.clone(), header.mtime);
        self.implied.remove(&header.path);
        self.note(header, None)?;
        // Its files come next, as a rule.
        self.place = Place { path: join(&self.place.path, name), real: header.path.clone(), fd };
        Ok(())
    }

    fn file(&mut self, header: &Header, name: &[u8], content: &mut dyn Read) -> Result<(), ApplyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create =
            |parent: BorrowedFd<'_>, name: &[u8]| rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(self.make(name, &header.path, create)?);
        let keep = ACCOUNT_FILES.contains(&header.path.as_slice()) && header.size <= limits::ACCOUNT_FILE_BYTES as u64;
        let mut account = keep.then(Vec::new);
        loop {
            let read = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TarError::Read(error).into()),
            };
            let bytes = self.buffer.get(..read).unwrap_or_default();
            file.write_all(bytes).map_err(|source| ApplyError::Write { path: show(&header.path), source })?;
            if let Some(account) = &mut account {
                account.extend_from_slice(bytes);
            }
        }
        self.set_metadata(file.as_fd(), header)?;
        set_time(file.as_fd(), header.mtime).map_err(metadata_error(&header.path, "time"))?;
        self.note(header, account.as_deref())
    }

    fn symlink(&mut self, header: &Header, name: &[u8]) -> Result<(), ApplyError> {
        if header.link.is_empty() || header.link.len() >= limits::PATH_BYTES {
            return Err(refused(&header.path, "is a symbolic link with an empty or overlong target"));
        }
        self.make(name, &header.path, |parent, name| rustix::fs::symlinkat(header.link.as_slice(), parent, name))?;
        if self.ownership == Ownership::Mapped {
            chown_link(self.place.fd.as_fd(), name, header).map_err(owner_error(header))?;
        }
        rustix::fs::utimensat(&self.place.fd, name, &times(header.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(metadata_error(&header.path, "time"))?;
        self.note(header, None)
    }

    /// A further name of a file (or of a link itself, which is never followed) that the layer already has.
    fn hardlink(&mut self, header: &Header, name: &[u8]) -> Result<(), ApplyError> {
        let refuse = |reason| ApplyError::Hardlink { path: show(&header.path), target: show(&header.link), reason };
        let target = GuestPath::new(&header.link)?;
        let Some((directory, target_name)) = target.split() else { return Err(refuse("is the root")) };
        if target.climbs() {
            return Err(refuse("climbs with `..`"));
        }
        let missing = |_| refuse("is not in the layer");
        let real = self.tree.resolve(&directory).map_err(missing)?.real;
        let from = walk::open_real_dir(self.tree, &real).map_err(|_| refuse("is not in the layer"))?;
        let stat = walk::stat_in(from.as_fd(), target_name).map_err(|_| refuse("is not in the layer"))?;
        let mut noted = header.clone();
        noted.link = join(&real, target_name);
        match kind(&stat) {
            FileType::RegularFile => {}
            FileType::Symlink => {
                noted.kind = Kind::Symlink;
                noted.link = read_link(from.as_fd(), target_name).map_err(create_error(&header.path))?;
            }
            _ => return Err(refuse("is no file")),
        }
        let existing = walk::stat_if_any(self.place.fd.as_fd(), name).map_err(create_error(&header.path))?;
        if existing.is_some_and(|existing| (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.make(name, &header.path, |parent, name| {
            rustix::fs::linkat(&from, target_name, parent, name, AtFlags::empty())
        })?;
        self.note(&noted, None)
    }

    fn fifo(&mut self, header: &Header, name: &[u8]) -> Result<(), ApplyError> {
        let mode = Mode::from_raw_mode(0o600);
        self.make(name, &header.path, |parent, name| rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0))?;
        // Opened for both directions, a fifo never blocks.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.place.fd, name, flags, Mode::empty()).map_err(create_error(&header.path))?;
        set_owner_and_mode(fd.as_fd(), &header.path, header, self.ownership)?;
        set_time(fd.as_fd(), header.mtime).map_err(metadata_error(&header.path, "time"))?;
        self.note(header, None)
    }

    fn whiteout(&mut self, header: &Header, name: &[u8], hidden: &[u8]) -> Result<(), ApplyError> {
        let failed = create_error(&header.path);
        if name == OPAQUE_NAME {
            // The present directory may be open as `O_PATH`, which takes no attributes.
            let directory = walk::open_real_dir(self.tree, &self.place.real).map_err(&failed)?;
            walk::make_opaque(directory.as_fd()).map_err(&failed)?;
            return self.note(header, None);
        }
        let directory = self.place.fd.as_fd();
        match walk::stat_if_any(directory, hidden).map_err(&failed)? {
            None => walk::make_whiteout(directory, hidden).map_err(&failed)?,
            Some(stat) if kind(&stat) == FileType::Directory => {
                let below = walk::open_dir_in(directory, hidden).map_err(&failed)?;
                walk::make_opaque(below.as_fd()).map_err(&failed)?;
            }
            // The layer's own file hides what lower layers have.
            Some(_) => {}
        }
        self.note(header, None)
    }

    fn set_metadata(&mut self, fd: BorrowedFd<'_>, header: &Header) -> Result<(), ApplyError> {
        set_owner_and_mode(fd, &header.path, header, self.ownership)?;
        // After the owner: a change of owner takes capabilities away.
        self.dropped_xattrs +=
            xattrs::write(fd, &header.xattrs).map_err(metadata_error(&header.path, "extended attributes"))?;
        Ok(())
    }

    fn finish(mut self) -> Result<Applied, ApplyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let find = |tree: &Root, path: &[u8]| tree.lookup(path, flags, ResolveFlags::NO_SYMLINKS);
        for (path, mtime) in &self.dirs {
            match find(self.tree, path) {
                Ok(fd) => rustix::fs::utimensat(&fd, "", &times(*mtime), AtFlags::EMPTY_PATH)
                    .map_err(metadata_error(path, "time"))?,
                // A later entry took the directory's place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(create_error(path)(errno)),
            }
        }
        self.implied.retain(|path| find(self.tree, path).is_ok());
        Ok(Applied {
            index: self.index.finish(),
            implied: self.implied.into_iter().collect(),
            dropped_xattrs: self.dropped_xattrs,
        })
    }
}

fn refused(path: &[u8], reason: &'static str) -> ApplyError {
    ApplyError::Refused { path: show(path), reason }
}

fn create_error(path: &[u8]) -> impl Fn(Errno) -> ApplyError + '_ {
    move |errno| ApplyError::Create { path: show(path), source: errno.into() }
}

fn metadata_error<'a>(path: &'a [u8], what: &'static str) -> impl Fn(Errno) -> ApplyError + 'a {
    move |errno| ApplyError::Metadata { path: show(path), what, source: errno.into() }
}

fn owner_error(header: &Header) -> impl Fn(Errno) -> ApplyError + '_ {
    |errno| ApplyError::Owner { path: show(&header.path), uid: header.uid, gid: header.gid, source: errno.into() }
}

/// Owner first: changing it takes the setuid bits away.
fn set_owner_and_mode(
    fd: BorrowedFd<'_>,
    path: &[u8],
    header: &Header,
    ownership: Ownership,
) -> Result<(), ApplyError> {
    let mut mode = header.mode & 0o7777;
    match ownership {
        Ownership::Mapped => chown(fd, header.uid, header.gid).map_err(owner_error(header))?,
        Ownership::Single => mode |= if header.kind == Kind::Dir { 0o700 } else { 0o600 },
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(metadata_error(path, "mode"))
}

fn chown_link(parent: BorrowedFd<'_>, name: &[u8], header: &Header) -> Result<(), Errno> {
    if header.uid == u32::MAX || header.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (Uid::from_raw(header.uid), Gid::from_raw(header.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn set_time(fd: BorrowedFd<'_>, mtime: i64) -> Result<(), Errno> {
    rustix::fs::futimens(fd, &times(mtime))
}

#[cfg(test)]
mod tests;
