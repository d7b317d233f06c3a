//! Removing trees whose content others decided.
//!
//! In: a directory's descriptor and a name in it. Out: the name is gone. Links are unlinked, never followed;
//! directories without permissions are opened up first; depth is bounded by moving deep directories to the top, so no
//! tree is too deep. Not for directories that others write to at the same time: their new files would make it fail
//! (never go astray).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::root::{Root, kind, show};
use crate::walk;

/// Directories that are open at the same time; deeper ones are moved up first.
const OPEN_LEVELS: usize = 48;

/// Why a tree is still there.
#[derive(Debug, thiserror::Error)]
#[error("remove `{path}`")]
pub struct RemoveError {
    /// The name in the directory that failed, as far as known.
    pub path: String,
    #[source]
    source: io::Error,
}

/// Removes whatever `name` in `parent` is, with everything below. Nothing there is no error.
pub fn remove_tree(parent: &Root, name: &[u8]) -> Result<(), RemoveError> {
    remove_in(parent.fd(), name)
}

/// Removes everything in a directory and leaves the directory.
pub fn clear_dir(directory: &Root) -> Result<(), RemoveError> {
    for name in walk::names(directory.fd()).map_err(|errno| error(b".", errno))? {
        remove_in(directory.fd(), &name)?;
    }
    Ok(())
}

fn error(name: &[u8], errno: Errno) -> RemoveError {
    RemoveError { path: show(name), source: errno.into() }
}

pub(crate) fn remove_in(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), RemoveError> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(error(name, Errno::INVAL));
    }
    match remove_plain(parent, name).map_err(|errno| error(name, errno))? {
        Plain::Gone => Ok(()),
        Plain::FullDirectory => Emptying::start(parent, name)?.run(),
    }
}

enum Plain {
    Gone,
    FullDirectory,
}

/// Unlinks a file or an empty directory.
fn remove_plain(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Plain, Errno> {
    let Some(stat) = walk::stat_if_any(parent, name)? else { return Ok(Plain::Gone) };
    let directory = kind(&stat) == FileType::Directory;
    let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match rustix::fs::unlinkat(parent, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(Plain::Gone),
        Err(Errno::NOTEMPTY | Errno::EXIST) if directory => Ok(Plain::FullDirectory),
        Err(errno) => Err(errno),
    }
}

struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    entries: Dir,
}

/// A directory being emptied: the levels from it down to where work is done.
struct Emptying<'p> {
    parent: BorrowedFd<'p>,
    levels: Vec<Level>,
    /// Counts directories moved to the top level, for their names there.
    moved: u64,
}

impl<'p> Emptying<'p> {
    fn start(parent: BorrowedFd<'p>, name: &[u8]) -> Result<Self, RemoveError> {
        let first = enter(parent, name).map_err(|errno| error(name, errno))?;
        Ok(Self { parent, levels: vec![first], moved: 0 })
    }

    fn run(mut self) -> Result<(), RemoveError> {
        while let Some(mut level) = self.levels.pop() {
            match level.entries.next() {
                None => self.close(level)?,
                Some(entry) => {
                    let name = entry.map_err(|errno| error(&level.name, errno))?.file_name().to_bytes().to_vec();
                    self.levels.push(level);
                    if name != b"." && name != b".." {
                        self.take(&name).map_err(|errno| error(&name, errno))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes one entry of the deepest level, or goes down into it.
    fn take(&mut self, name: &[u8]) -> Result<(), Errno> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        if matches!(remove_plain(level.fd.as_fd(), name)?, Plain::Gone) {
            return Ok(());
        }
        if self.levels.len() < OPEN_LEVELS {
            let next = enter(level.fd.as_fd(), name)?;
            self.levels.push(next);
            return Ok(());
        }
        // Opened once so that its permissions allow the move; the top level meets it again when it's read anew.
        drop(enter(level.fd.as_fd(), name)?);
        let Some(top) = self.levels.first() else { return Ok(()) };
        loop {
            let new = format!(".moved-{}", self.moved);
            self.moved += 1;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&level.fd, name, &top.fd, new.as_str(), flags) {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
    }

    /// The entries of a level were all read: removes the directory, or reads it once more if something is left
    /// (directories moved there, or names that the first pass skipped because of the removals).
    fn close(&mut self, mut level: Level) -> Result<(), RemoveError> {
        let parent = self.levels.last().map_or(self.parent, |above| above.fd.as_fd());
        match rustix::fs::unlinkat(parent, level.name.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                level.entries.rewind();
                self.levels.push(level);
                Ok(())
            }
            Err(errno) => Err(error(&level.name, errno)),
        }
    }
}

/// Opens a directory for emptying, and opens up its permissions where the owner has none.
fn enter(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Level, Errno> {
    let fd = match walk::open_dir_in(parent, name) {
        Err(Errno::ACCESS) => {
            open_up(parent, name)?;
            walk::open_dir_in(parent, name)?
        }
        other => other?,
    };
    if rustix::fs::fstat(&fd)?.st_mode & 0o700 != 0o700 {
        // Somebody else's directory: the removal itself will say so.
        let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
    }
    let entries = Dir::read_from(&fd)?;
    Ok(Level { name: name.to_vec(), fd, entries })
}

/// chmod for a directory that can't be opened: by way of an `O_PATH` descriptor, since `fchmodat` follows links.
fn open_up(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn trees_go_and_what_links_point_to_stays() {
        let outer = tempfile::tempdir().unwrap();
        let canary = outer.path().join("canary");
        std::fs::create_dir(&canary).unwrap();
        std::fs::write(canary.join("file"), "keep").unwrap();
        let tree = outer.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        symlink(&canary, tree.join("a/link")).unwrap();
        symlink("../../canary", tree.join("a/b/up")).unwrap();
        std::fs::write(tree.join("a/b/c/file"), "x").unwrap();
        std::fs::set_permissions(tree.join("a/b/c"), std::fs::Permissions::from_mode(0o000)).unwrap();
        std::fs::set_permissions(tree.join("a/b"), std::fs::Permissions::from_mode(0o500)).unwrap();
        let parent = Root::open(outer.path()).unwrap();
        remove_tree(&parent, b"tree").unwrap();
        assert!(!tree.exists());
        assert_eq!(std::fs::read(canary.join("file")).unwrap(), b"keep");
        remove_tree(&parent, b"tree").unwrap();
        symlink(&canary, outer.path().join("only-link")).unwrap();
        remove_tree(&parent, b"only-link").unwrap();
        assert!(canary.join("file").exists());
        for bad in [b"".as_slice(), b".", b"..", b"a/..", b"canary/file"] {
            assert!(remove_tree(&parent, bad).is_err());
        }
        assert!(canary.join("file").exists());
    }

    #[test]
    fn deep_and_wide_trees_go() {
        let outer = tempfile::tempdir().unwrap();
        let parent = Root::open(outer.path()).unwrap();
        rustix::fs::mkdirat(parent.fd(), "deep", Mode::RWXU).unwrap();
        let mut at = walk::open_dir_in(parent.fd(), b"deep").unwrap();
        for level in 0..1200 {
            rustix::fs::mkdirat(&at, "some-directory", Mode::RWXU).unwrap();
            if level % 500 == 0 {
                drop(rustix::fs::openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap());
                rustix::fs::mkdirat(&at, ".moved-0", Mode::RWXU).unwrap();
            }
            at = walk::open_dir_in(at.as_fd(), b"some-directory").unwrap();
        }
        for number in 0..300 {
            let path = outer.path().join(format!("deep/{number}"));
            std::fs::write(path, "").unwrap();
        }
        drop(at);
        remove_tree(&parent, b"deep").unwrap();
        assert!(!outer.path().join("deep").exists());
    }
}
