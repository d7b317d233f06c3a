//! Names in a directory and what they are: what every walk here shares.
//!
//! In: a directory's descriptor. Out: sorted names, entries opened and described as a tar does. No link is followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kuz_image::index::join;
use kuz_image::tar::{Header, Kind};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::root::{Root, kind, read_link};
use crate::xattrs;

/// The names in a directory in byte order, without `.` and `..`.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens the directory at a real path below the root: a link anywhere in it is an error.
pub(crate) fn open_real_dir(root: &Root, path: &[u8]) -> Result<OwnedFd, Errno> {
    root.lookup(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
}

/// What `name` in a directory is, itself.
pub(crate) fn stat_in(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The same, `None` where nothing is.
pub(crate) fn stat_if_any(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match stat_in(directory, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens the regular file `name` of a directory for reading and checks that it is the one that `seen` described.
pub(crate) fn open_seen(directory: BorrowedFd<'_>, name: &[u8], seen: &Stat) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let now = rustix::fs::fstat(&fd)?;
    if kind(&now) != FileType::RegularFile || (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino) {
        return Err(io::Error::from(Errno::STALE));
    }
    Ok(File::from(fd))
}

/// Opens the directory `name` of a directory for reading; a link is an error.
pub(crate) fn open_dir_in(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Directories that [`visit`] has open at the same time; those above the deepest ones are opened again when needed.
const OPEN_LEVELS: usize = 64;

struct Level {
    path: Vec<u8>,
    fd: Option<OwnedFd>,
    names: std::vec::IntoIter<Vec<u8>>,
}

/// What [`visit`] calls for every entry: its directory, its name, its path. It says whether to go into the entry.
pub(crate) type Visitor<'v, E> = &'v mut dyn FnMut(BorrowedFd<'_>, &[u8], &[u8]) -> Result<bool, E>;

/// Walks a tree in the order of names, parents first. The root itself is not visited.
pub(crate) fn visit<E>(root: &Root, fail: &dyn Fn(&[u8], Errno) -> E, visitor: Visitor<'_, E>) -> Result<(), E> {
    let open = |path: &[u8]| open_real_dir(root, path).map_err(|errno| fail(path, errno));
    let enter = |path: Vec<u8>| {
        let fd = open(&path)?;
        let names = names(fd.as_fd()).map_err(|errno| fail(&path, errno))?.into_iter();
        Ok(Level { path, fd: Some(fd), names })
    };
    let mut levels = vec![enter(Vec::new())?];
    while let Some(mut level) = levels.pop() {
        let Some(name) = level.names.next() else { continue };
        let path = join(&level.path, &name);
        let fd = match level.fd.take() {
            Some(fd) => fd,
            None => open(&level.path)?,
        };
        let below = visitor(fd.as_fd(), &name, &path)?;
        level.fd = Some(fd);
        levels.push(level);
        if below {
            let above = levels.len().checked_sub(OPEN_LEVELS).and_then(|at| levels.get_mut(at));
            if let Some(above) = above {
                above.fd = None;
            }
            levels.push(enter(path)?);
        }
    }
    Ok(())
}

/// overlayfs' whiteout: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout.
pub(crate) fn make_whiteout(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Is the directory marked as hiding what lower layers have in it?
pub(crate) fn is_opaque(directory: &OwnedFd) -> Result<bool, Errno> {
    Ok(xattrs::get(directory.as_fd(), xattrs::OPAQUE.as_bytes())?.as_deref() == Some(b"y"))
}

/// Marks a directory so.
pub(crate) fn make_opaque(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, xattrs::OPAQUE, b"y", rustix::fs::XattrFlags::empty())
}

/// A tree's entry as a tar describes it, and its content if it's a file.
pub(crate) struct Described {
    /// Without the owner's names, times in whole seconds.
    pub header: Header,
    /// A file, open for reading.
    pub content: Option<File>,
}

/// Describes `name` in a directory under the path `path`. Sockets have no description.
pub(crate) fn describe(
    directory: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    path: Vec<u8>,
) -> io::Result<Option<Described>> {
    let mut header = Header {
        path,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        ..Header::default()
    };
    let mut content = None;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    header.kind = match kind(stat) {
        FileType::Directory => {
            header.xattrs = xattrs::read(open_dir_in(directory, name)?.as_fd())?;
            Kind::Dir
        }
        FileType::Symlink => {
            header.link = read_link(directory, name)?;
            header.mode = 0o777;
            Kind::Symlink
        }
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::Char { major, minor },
        FileType::BlockDevice => Kind::Block { major, minor },
        FileType::Socket | FileType::Unknown => return Ok(None),
        FileType::RegularFile => {
            let file = open_seen(directory, name, stat)?;
            header.size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or_default();
            header.xattrs = xattrs::read(file.as_fd())?;
            content = Some(file);
            Kind::File
        }
    };
    Ok(Some(Described { header, content }))
}
