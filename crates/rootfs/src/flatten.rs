//! Layers without overlayfs: one merged directory to run in, and afterwards what the step changed.
//!
//! In: trees in overlayfs' lower format, lowest first. Out: [`flatten`] writes the files that the stack shows into a
//! fresh directory (sharing blocks where the file system can); a [`Snapshot`] before and [`changes`] after a step give
//! its tree in overlayfs' upper format, as if overlayfs had been there. Devices and sockets are left out.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kuz_image::index::ancestors;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::remove::{RemoveError, clear_dir, remove_in};
use crate::root::{Root, chown, kind, read_link, show, split};
use crate::{walk, xattrs};

/// Bytes that one `copy_file_range` is asked for.
const RANGE: usize = 1 << 30;

/// Why trees could not be merged or compared.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path in the tree and the kernel's answer")]
pub enum FlattenError {
    /// It could not be read.
    #[error("read `{path}` of a tree")]
    Read { path: String, source: io::Error },
    /// It could not be written.
    #[error("copy `{path}` to another tree")]
    Write { path: String, source: io::Error },
    /// What it replaces could not be taken away.
    #[error("replace `{path}` in a merged tree")]
    Replace { path: String, source: RemoveError },
}

/// Merges trees, lowest first, into `out`, which should be empty.
pub fn flatten(lowers: &[&Root], out: &Root) -> Result<(), FlattenError> {
    let mut copier = Copier::new(out);
    for tree in lowers {
        copier.linked.clear();
        let top = walk::open_real_dir(tree, b"").map_err(read_error(b""))?;
        if walk::is_opaque(&top).map_err(read_error(b""))? {
            clear_dir(out).map_err(replace_error(b""))?;
        }
        let stat = rustix::fs::fstat(&top).map_err(read_error(b""))?;
        copier.dir_metadata(top.as_fd(), &stat, b"")?;
        walk::visit(tree, &|path, errno| read_error(path)(errno), &mut |directory, name, path| {
            let stat = walk::stat_in(directory, name).map_err(read_error(path))?;
            if walk::is_whiteout(&stat) {
                copier.remove(path)?;
                return Ok(false);
            }
            copier.copy(directory, name, &stat, path)
        })?;
    }
    copier.finish()
}

/// The state of one entry, as far as a step can change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    mode: u32,
    owner: (u32, u32),
    ino: u64,
    size: i64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

impl State {
    fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            ino: stat.st_ino,
            size: stat.st_size,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// What a tree held at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    entries: BTreeMap<Vec<u8>, State>,
}

impl Snapshot {
    /// Looks at everything in a tree.
    pub fn of(tree: &Root) -> Result<Self, FlattenError> {
        let mut entries = BTreeMap::new();
        walk::visit(tree, &|path, errno| read_error(path)(errno), &mut |directory, name, path| {
            let stat = walk::stat_in(directory, name).map_err(read_error(path))?;
            entries.insert(path.to_vec(), State::of(&stat));
            Ok(kind(&stat) == FileType::Directory)
        })?;
        Ok(Self { entries })
    }
}

/// Writes what changed in `tree` since `before` into `upper`, in overlayfs' upper format.
pub fn changes(before: &Snapshot, tree: &Root, upper: &Root) -> Result<(), FlattenError> {
    let mut copier = Copier::new(upper);
    let mut after: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    walk::visit(tree, &|path, errno| read_error(path)(errno), &mut |directory, name, path| {
        let stat = walk::stat_in(directory, name).map_err(read_error(path))?;
        let is_dir = kind(&stat) == FileType::Directory;
        after.insert(path.to_vec(), is_dir);
        if before.entries.get(path) != Some(&State::of(&stat)) {
            copier.copy_parents(tree, path)?;
            copier.copy(directory, name, &stat, path)?;
        }
        Ok(is_dir)
    })?;
    for path in before.entries.keys().filter(|path| !after.contains_key(*path)) {
        // Below something that is gone itself, or that is no directory any more, nothing shows anyway.
        let parent = split(path).0;
        if parent.is_empty() || after.get(parent) == Some(&true) {
            copier.copy_parents(tree, path)?;
            let (directory, name) = copier.place(path)?;
            walk::make_whiteout(directory, name).map_err(write_error(path))?;
        }
    }
    copier.finish()
}

/// Copies entries into a tree, each under its own path.
struct Copier<'o> {
    out: &'o Root,
    /// The last directory written to.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, set last.
    dirs: BTreeMap<Vec<u8>, Timestamps>,
    /// First names of files that have several.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl<'o> Copier<'o> {
    fn new(out: &'o Root) -> Self {
        Self { out, last: None, dirs: BTreeMap::new(), linked: HashMap::new() }
    }

    /// The directory in the output that holds `path`, and the last name.
    fn place<'p>(&mut self, path: &'p [u8]) -> Result<(BorrowedFd<'_>, &'p [u8]), FlattenError> {
        let (parent, name) = split(path);
        let known = self.last.take().filter(|(at, _)| at == parent);
        let last = if let Some(last) = known {
            last
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let fd = self.out.lookup(parent, flags, ResolveFlags::NO_SYMLINKS).map_err(write_error(path))?;
            (parent.to_vec(), fd)
        };
        Ok((self.last.insert(last).1.as_fd(), name))
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), FlattenError> {
        let (directory, name) = self.place(path)?;
        remove_in(directory, name).map_err(replace_error(path))
    }

    /// Copies one entry; says whether there's something below it.
    fn copy(&mut self, from: BorrowedFd<'_>, name: &[u8], stat: &Stat, path: &[u8]) -> Result<bool, FlattenError> {
        match kind(stat) {
            FileType::Directory => {
                self.copy_dir(from, name, stat, path)?;
                return Ok(true);
            }
            FileType::RegularFile => self.copy_file(from, name, stat, path)?,
            FileType::Symlink => {
                let target = read_link(from, name).map_err(read_error(path))?;
                self.remove(path)?;
                let (directory, name) = self.place(path)?;
                rustix::fs::symlinkat(target.as_slice(), directory, name).map_err(write_error(path))?;
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .and_then(|()| rustix::fs::utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW))
                    .map_err(write_error(path))?;
            }
            FileType::Fifo => {
                self.remove(path)?;
                let (directory, name) = self.place(path)?;
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(directory, name, FileType::Fifo, mode, 0).map_err(write_error(path))?;
                let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(write_error(path))?;
                set_metadata(fd.as_fd(), stat, None).map_err(write_error(path))?;
            }
            _ => self.remove(path)?,
        }
        Ok(false)
    }

    fn copy_dir(&mut self, from: BorrowedFd<'_>, name: &[u8], stat: &Stat, path: &[u8]) -> Result<(), FlattenError> {
        let source = walk::open_dir_in(from, name).map_err(read_error(path))?;
        let opaque = walk::is_opaque(&source).map_err(read_error(path))?;
        let (directory, own) = self.place(path)?;
        let found = walk::stat_if_any(directory, own).map_err(write_error(path))?;
        if opaque || found.as_ref().is_some_and(|found| kind(found) != FileType::Directory) {
            self.remove(path)?;
        }
        let (directory, own) = self.place(path)?;
        match rustix::fs::mkdirat(directory, own, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(write_error(path)(errno)),
        }
        self.dir_metadata(source.as_fd(), stat, path)
    }

    /// Gives a directory of the output what `source` has; times are set at the end.
    fn dir_metadata(&mut self, source: BorrowedFd<'_>, stat: &Stat, path: &[u8]) -> Result<(), FlattenError> {
        let own = walk::open_real_dir(self.out, path).map_err(write_error(path))?;
        let attributes = xattrs::read(source).map_err(read_error(path))?;
        set_metadata(own.as_fd(), stat, Some(&attributes)).map_err(write_error(path))?;
        self.dirs.insert(path.to_vec(), times(stat));
        Ok(())
    }

    fn copy_file(&mut self, from: BorrowedFd<'_>, name: &[u8], stat: &Stat, path: &[u8]) -> Result<(), FlattenError> {
        self.remove(path)?;
        if stat.st_nlink > 1 {
            let first = self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec()).clone();
            // The first name may have been replaced since by a higher tree's file.
            if first != path && self.link(&first, path).is_ok() {
                return Ok(());
            }
        }
        let source =
            walk::open_seen(from, name, stat).map_err(|source| FlattenError::Read { path: show(path), source })?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (directory, own) = self.place(path)?;
        let target =
            rustix::fs::openat(directory, own, flags, Mode::from_raw_mode(0o600)).map_err(write_error(path))?;
        let target = File::from(target);
        copy_content(&source, &target).map_err(|source| FlattenError::Write { path: show(path), source })?;
        let attributes = xattrs::read(source.as_fd()).map_err(read_error(path))?;
        set_metadata(target.as_fd(), stat, Some(&attributes)).map_err(write_error(path))?;
        rustix::fs::futimens(&target, &times(stat)).map_err(write_error(path))
    }

    fn link(&mut self, first: &[u8], path: &[u8]) -> Result<(), FlattenError> {
        let (parent, first_name) = split(first);
        let from = walk::open_real_dir(self.out, parent).map_err(write_error(path))?;
        let (directory, name) = self.place(path)?;
        rustix::fs::linkat(&from, first_name, directory, name, AtFlags::empty()).map_err(write_error(path))
    }

    /// Makes the directories above a path in the output, with what they have in `tree`.
    fn copy_parents(&mut self, tree: &Root, path: &[u8]) -> Result<(), FlattenError> {
        let mut missing: Vec<&[u8]> = Vec::new();
        for parent in ancestors(path) {
            if parent.is_empty() || self.dirs.contains_key(parent) {
                break;
            }
            missing.push(parent);
        }
        for parent in missing.into_iter().rev() {
            let source = walk::open_real_dir(tree, parent).map_err(read_error(parent))?;
            let stat = rustix::fs::fstat(&source).map_err(read_error(parent))?;
            let (directory, name) = self.place(parent)?;
            rustix::fs::mkdirat(directory, name, Mode::RWXU).map_err(write_error(parent))?;
            self.dir_metadata(source.as_fd(), &stat, parent)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), FlattenError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        for (path, times) in &self.dirs {
            match self.out.lookup(path, flags, ResolveFlags::NO_SYMLINKS) {
                Ok(fd) => {
                    rustix::fs::utimensat(&fd, "", times, AtFlags::EMPTY_PATH).map_err(write_error(path))?;
                }
                // A higher tree took it away.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(write_error(path)(errno)),
            }
        }
        Ok(())
    }
}

/// Shares the blocks where the file system can, lets the kernel copy otherwise, and copies by hand in the end.
fn copy_content(source: &File, target: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let mut copied = false;
    loop {
        match rustix::fs::copy_file_range(source, None, target, None, RANGE) {
            Ok(0) => return Ok(()),
            Ok(_) => copied = true,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !copied => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    let (mut source, mut target) = (source, target);
    io::copy(&mut source, &mut target).map(drop)
}

/// Owner, then mode, then attributes: each takes parts of the ones before it away.
fn set_metadata(fd: BorrowedFd<'_>, stat: &Stat, attributes: Option<&xattrs::Xattrs>) -> Result<(), Errno> {
    chown(fd, stat.st_uid, stat.st_gid)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    if let Some(attributes) = attributes {
        xattrs::write(fd, attributes)?;
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let tv_nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec };
    Timestamps { last_access: time, last_modification: time }
}

fn read_error(path: &[u8]) -> impl Fn(Errno) -> FlattenError + '_ {
    move |errno| FlattenError::Read { path: show(path), source: errno.into() }
}

fn write_error(path: &[u8]) -> impl Fn(Errno) -> FlattenError + '_ {
    move |errno| FlattenError::Write { path: show(path), source: errno.into() }
}

fn replace_error(path: &[u8]) -> impl Fn(RemoveError) -> FlattenError + '_ {
    move |source| FlattenError::Replace { path: show(path), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink as make_link};

    use kuz_image::tar::{Header, Kind};

    use super::*;
    use crate::testing::{Yard, dir, file, is_root, link, listing, symlink};

    fn merged(layers: &[&[(Header, Vec<u8>)]]) -> Yard {
        let yards: Vec<Yard> = layers
            .iter()
            .map(|entries| {
                let yard = Yard::new();
                yard.apply(entries).unwrap();
                yard
            })
            .collect();
        let trees: Vec<Root> = yards.iter().map(Yard::tree).collect();
        let out = Yard::new();
        flatten(&trees.iter().collect::<Vec<_>>(), &out.tree()).unwrap();
        out
    }

    fn packed(yard: &Yard) -> Vec<String> {
        let mut out = Vec::new();
        crate::pack::pack(&yard.tree(), &mut out, None).unwrap();
        listing(&out)
    }

    #[test]
    fn trees_merge_as_overlayfs_shows_them() {
        if !is_root("making whiteouts") {
            return;
        }
        let mut bin = file("bin", "new");
        (bin.0.mode, bin.0.uid) = (0o4755, 7);
        bin.0.xattrs.insert(b"user.note".to_vec(), b"n".to_vec());
        let yard = merged(&[
            &[
                dir("d"),
                file("d/a", "1"),
                file("d/b", "1"),
                dir("op"),
                file("op/old", ""),
                file("gone", ""),
                dir("was"),
                file("was/x", ""),
            ],
            &[
                file("d/a", "2"),
                file(".wh.gone", ""),
                dir("op"),
                file("op/.wh..wh..opq", ""),
                file("op/new", ""),
                file("d/.wh.none", ""),
            ],
            &[
                symlink("was", "d"),
                bin,
                file("h1", "h"),
                link(Kind::Hardlink, "h2", "h1"),
                file("a", ""),
                dir("gone"),
                file("x/.wh.y", ""),
            ],
        ]);
        let want = [
            "file a 644 0:0",
            "file bin 4755 7:0 new",
            "dir d 755 0:0",
            "file d/a 644 0:0 2",
            "file d/b 644 0:0 1",
            "dir gone 755 0:0",
            "file h1 644 0:0 h",
            "hard h2 644 0:0 h1",
            "dir op 755 0:0",
            "file op/new 644 0:0",
            "link was 777 0:0 d",
            "dir x 755 0:0",
        ];
        assert_eq!(packed(&yard), want);
        let note = std::fs::File::open(yard.path().join("bin")).unwrap();
        assert_eq!(xattrs::get(note.as_fd(), b"user.note").unwrap().as_deref(), Some(b"n".as_slice()));
        assert_eq!(yard.path().join("op").symlink_metadata().unwrap().mtime(), 1_000_000);
    }

    #[test]
    fn changes_become_a_tree_of_their_own() {
        if !is_root("making whiteouts") {
            return;
        }
        let yard = merged(&[&[
            dir("d"),
            file("d/same", "1"),
            file("d/changed", "1"),
            file("d/gone", "1"),
            dir("deep"),
            dir("deep/er"),
            file("deep/er/x", "1"),
            file("becomes-dir", "1"),
            dir("becomes-file"),
            file("becomes-file/x", "1"),
            dir("quiet"),
            file("quiet/f", "1"),
        ]]);
        let at = yard.path();
        let before = Snapshot::of(&yard.tree()).unwrap();
        let none = Yard::new();
        changes(&before, &yard.tree(), &none.tree()).unwrap();
        assert_eq!(packed(&none), Vec::<String>::new());
        std::fs::write(at.join("d/changed"), "22").unwrap();
        std::fs::remove_file(at.join("d/gone")).unwrap();
        std::fs::remove_dir_all(at.join("deep")).unwrap();
        std::fs::remove_file(at.join("becomes-dir")).unwrap();
        std::fs::create_dir(at.join("becomes-dir")).unwrap();
        std::fs::remove_dir_all(at.join("becomes-file")).unwrap();
        std::fs::write(at.join("becomes-file"), "f").unwrap();
        std::fs::set_permissions(at.join("quiet/f"), std::fs::Permissions::from_mode(0o600)).unwrap();
        make_link("/canary", at.join("out")).unwrap();
        let upper = Yard::new();
        let safe = upper.outside();
        changes(&before, &yard.tree(), &upper.tree()).unwrap();
        let lines: Vec<String> = packed(&upper).iter().map(|line| line.replace(" 0:0", "")).collect();
        let want = [
            "dir becomes-dir 755",
            "file becomes-file 644 f",
            "dir d 755",
            "file d/changed 644 22",
            "file d/.wh.gone 0",
            "file .wh.deep 0",
            "link out 777 /canary",
            "dir quiet 755",
            "file quiet/f 600 1",
        ];
        assert_eq!(lines, want);
        assert_eq!(upper.outside(), safe);
    }
}
