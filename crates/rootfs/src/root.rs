//! Paths inside a tree: a directory's descriptor and lookups that cannot leave it.
//!
//! In: a [`Root`] and a [`GuestPath`]. Out: descriptors, never a path of the machine. Symbolic links on the way are
//! followed as a process whose root is the tree would follow them; `/proc`'s magic links are refused. A [`GuestPath`]
//! deliberately has no conversion to [`Path`].

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kuz_image::index::{components, join};
use kuz_image::limits;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

pub use crate::path::{GuestPath, PathError};
pub(crate) use crate::path::{show, split};

/// How often a lookup is repeated that the kernel broke off because of a concurrent rename.
const LOOKUP_RETRIES: usize = 64;

/// Why something in a tree could not be reached.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path inside the tree and the kernel's answer")]
pub enum RootError {
    /// Not a path.
    #[error("look up a path")]
    Path(#[from] PathError),
    /// The lookup failed.
    #[error("open `{path}`")]
    Open { path: String, source: io::Error },
    /// Something else than a regular file is there.
    #[error("`{path}` is {kind}, not a regular file")]
    NotRegular { path: String, kind: &'static str },
    /// The file is too large.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge { path: String, limit: u64 },
    /// Reading failed.
    #[error("read `{path}`")]
    Read { path: String, source: io::Error },
    /// Looking at it failed.
    #[error("look at `{path}`")]
    Stat { path: String, source: io::Error },
    /// Making a directory failed.
    #[error("make directory `{path}`")]
    MakeDir { path: String, source: io::Error },
    /// A parent is something else.
    #[error("`{path}` is not a directory")]
    NotADirectory { path: String },
    /// A loop, or a chain longer than the kernel follows.
    #[error("too many symbolic links at `{path}`")]
    TooManyLinks { path: String },
}

/// A directory that lookups start at and cannot leave.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// May put a directory where something else is (directory, name, what is there), and says whether it did.
pub(crate) type Replace<'r> = &'r mut dyn FnMut(BorrowedFd<'_>, &[u8], &Stat) -> Result<bool, Errno>;

/// Where [`Root::resolve`] ended.
#[derive(Debug)]
pub struct Resolved {
    /// The real path: no link in it.
    pub real: Vec<u8>,
    /// What is there; `None` where nothing is.
    pub stat: Option<Stat>,
}

/// What [`Root::make_dirs`] found and made.
#[derive(Debug)]
pub struct MadeDirs {
    /// The directory (an `O_PATH` descriptor).
    pub fd: OwnedFd,
    /// Its real path: no link in it.
    pub real: Vec<u8>,
    /// The real paths that were made, from the top.
    pub made: Vec<Vec<u8>>,
}

impl Root {
    /// Opens a directory of the machine. The path is one of our own or the user's, not an image's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Takes a directory that is open already (for reading, not `O_PATH`).
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A directory directly in this one as a root of its own; a link is refused.
    pub fn child(&self, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(io::Error::from(Errno::INVAL));
        }
        Ok(Self(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// The one way in: the kernel keeps the lookup inside the root.
    pub(crate) fn lookup(&self, path: &[u8], flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < LOOKUP_RETRIES => tries += 1,
                other => return other,
            }
        }
    }

    fn open_error(path: &GuestPath) -> impl Fn(Errno) -> RootError + '_ {
        |errno| RootError::Open { path: show(path.as_bytes()), source: errno.into() }
    }

    /// Opens a regular file of at most `limit` bytes for reading. Never blocks, never opens a device, and a link as
    /// the last name is refused; links before it are followed inside the root.
    pub fn open_regular(&self, path: &GuestPath, limit: u64) -> Result<File, RootError> {
        let failed = Self::open_error(path);
        let handle =
            self.lookup(path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::empty()).map_err(&failed)?;
        check_regular(&handle, path, limit)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let fd = self.lookup(path.as_bytes(), flags, ResolveFlags::empty()).map_err(&failed)?;
        check_regular(&fd, path, limit)?;
        Ok(File::from(fd))
    }

    /// Reads a small regular file ([`Self::open_regular`]); the limit holds even if the file grows meanwhile.
    pub fn read_small(&self, path: &GuestPath, limit: u64) -> Result<Vec<u8>, RootError> {
        let mut content = Vec::new();
        let file = self.open_regular(path, limit)?;
        file.take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|source| RootError::Read { path: show(path.as_bytes()), source })?;
        if content.len() as u64 > limit {
            return Err(RootError::TooLarge { path: show(path.as_bytes()), limit });
        }
        Ok(content)
    }

    /// Opens a directory for reading; links are followed inside the root.
    pub fn open_dir(&self, path: &GuestPath) -> Result<OwnedFd, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.lookup(path.as_bytes(), flags, ResolveFlags::empty()).map_err(Self::open_error(path))
    }

    /// The directory that holds `path` (`O_PATH`, links followed inside the root) and the last name. The root itself
    /// and paths that end in `..` have none.
    pub fn parent<'p>(&self, path: &'p GuestPath) -> Result<(OwnedFd, &'p [u8]), RootError> {
        let name = match path.split() {
            Some((_, name)) if name != b".." => split(path.as_bytes()).1,
            _ => return Err(Self::open_error(path)(Errno::INVAL)),
        };
        let (directory, _) = split(path.as_bytes());
        let fd = self
            .lookup(directory, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())
            .map_err(Self::open_error(path))?;
        Ok((fd, name))
    }

    /// What is at a path; `None` where nothing is. The last name is followed only if `follow`.
    pub fn stat(&self, path: &GuestPath, follow: bool) -> Result<Option<Stat>, RootError> {
        let failed = |errno: Errno| RootError::Stat { path: show(path.as_bytes()), source: errno.into() };
        let mut flags = OFlags::PATH;
        flags.set(OFlags::NOFOLLOW, !follow);
        match self.lookup(path.as_bytes(), flags, ResolveFlags::empty()) {
            Ok(fd) => rustix::fs::fstat(fd).map(Some).map_err(failed),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// The target of a symbolic link.
    pub fn readlink(&self, path: &GuestPath) -> Result<Vec<u8>, RootError> {
        let (parent, name) = self.parent(path)?;
        read_link(parent.as_fd(), name).map_err(Self::open_error(path))
    }

    /// Makes a directory and its missing parents (0755, `owner` if given); links are followed inside the root, also
    /// dangling ones: what they point to is made.
    pub fn make_dirs(&self, path: &GuestPath, owner: Option<(u32, u32)>) -> Result<MadeDirs, RootError> {
        self.make_dirs_with(path, owner, &mut |_, _, _| Ok(false))
    }

    /// As [`Self::make_dirs`], over what `replace` replaces.
    pub(crate) fn make_dirs_with(
        &self,
        path: &GuestPath,
        owner: Option<(u32, u32)>,
        replace: Replace<'_>,
    ) -> Result<MadeDirs, RootError> {
        let mut rest: Vec<Vec<u8>> = components(path.as_bytes()).rev().map(<[u8]>::to_vec).collect();
        let mut done = MadeDirs { fd: self.directory(b"")?, real: Vec::new(), made: Vec::new() };
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                done.real = split(&done.real).0.to_vec();
                done.fd = self.directory(&done.real)?;
                continue;
            }
            let next = join(&done.real, &name);
            let failed = |errno: Errno| RootError::MakeDir { path: show(&next), source: errno.into() };
            let found = match rustix::fs::statat(&done.fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(failed(errno)),
            };
            match found.as_ref().map(kind) {
                Some(FileType::Directory) => {}
                Some(FileType::Symlink) => {
                    links += 1;
                    if links > limits::SYMLINKS {
                        return Err(RootError::TooManyLinks { path: show(&next) });
                    }
                    let target = read_link(done.fd.as_fd(), &name).map_err(failed)?;
                    if target.first() == Some(&b'/') {
                        done.real.clear();
                        done.fd = self.directory(b"")?;
                    }
                    rest.extend(components(&target).rev().map(<[u8]>::to_vec));
                    continue;
                }
                None => make_dir(done.fd.as_fd(), &name, owner).map_err(failed)?,
                Some(_) => {
                    let replaced = found.as_ref().map_or(Ok(false), |stat| replace(done.fd.as_fd(), &name, stat));
                    if !replaced.map_err(failed)? {
                        return Err(RootError::NotADirectory { path: show(&next) });
                    }
                }
            }
            if found.is_none_or(|stat| kind(&stat) != FileType::Directory) {
                done.made.push(next.clone());
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            done.fd = rustix::fs::openat(&done.fd, name.as_slice(), flags, Mode::empty()).map_err(failed)?;
            done.real = next;
        }
        Ok(done)
    }

    /// Follows every link of a path inside the root, the last one too, and tells the real path and what is there.
    /// Missing parents are no error: nothing is there then.
    pub fn resolve(&self, path: &GuestPath) -> Result<Resolved, RootError> {
        let mut rest: Vec<Vec<u8>> = components(path.as_bytes()).rev().map(<[u8]>::to_vec).collect();
        let (mut real, mut stat) = (Vec::new(), Some(self.stat(&GuestPath::default(), false)?).flatten());
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                real = split(&real).0.to_vec();
                stat = self.stat(&GuestPath::real(&real), false)?;
                continue;
            }
            let next = join(&real, &name);
            match stat.as_ref().map(kind) {
                Some(FileType::Directory) => stat = self.stat(&GuestPath::new(&next)?, false)?,
                Some(_) => return Err(RootError::NotADirectory { path: show(&real) }),
                None => {}
            }
            if stat.as_ref().map(kind) == Some(FileType::Symlink) {
                links += 1;
                if links > limits::SYMLINKS {
                    return Err(RootError::TooManyLinks { path: show(&next) });
                }
                let target = self.readlink(&GuestPath::new(&next)?)?;
                if target.first() == Some(&b'/') {
                    real.clear();
                }
                stat = self.stat(&GuestPath::real(&real), false)?;
                rest.extend(components(&target).rev().map(<[u8]>::to_vec));
            } else {
                real = next;
            }
        }
        Ok(Resolved { real, stat })
    }

    /// Opens a directory by a real path (`O_PATH`).
    fn directory(&self, real: &[u8]) -> Result<OwnedFd, RootError> {
        self.lookup(real, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
            .map_err(|errno| RootError::Open { path: show(real), source: errno.into() })
    }
}

pub(crate) fn make_dir(parent: BorrowedFd<'_>, name: &[u8], owner: Option<(u32, u32)>) -> Result<(), Errno> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if let Some((uid, gid)) = owner {
        chown(fd.as_fd(), uid, gid)?;
    }
    // The umask may have taken bits away.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
}

/// Gives a file to somebody. The id `u32::MAX` means "leave it" to the kernel, so it is refused here.
pub(crate) fn chown(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// The target of the link `name` in a directory.
pub(crate) fn read_link(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    Ok(rustix::fs::readlinkat(parent, name, Vec::with_capacity(256))?.into_bytes())
}

/// What kind of file a `stat` describes.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The same in words.
pub(crate) fn kind_words(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    }
}

fn check_regular(fd: &OwnedFd, path: &GuestPath, limit: u64) -> Result<(), RootError> {
    let path = || show(path.as_bytes());
    let stat = rustix::fs::fstat(fd).map_err(|errno| RootError::Stat { path: path(), source: errno.into() })?;
    let kind = kind(&stat);
    if kind != FileType::RegularFile {
        return Err(RootError::NotRegular { path: path(), kind: kind_words(kind) });
    }
    if u64::try_from(stat.st_size).map_or(true, |size| size > limit) {
        return Err(RootError::TooLarge { path: path(), limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn guest(path: &str) -> GuestPath {
        GuestPath::new(path.as_bytes()).unwrap()
    }

    #[test]
    fn lookups_stay_inside_and_only_regular_files_are_read() {
        let outer = tempfile::tempdir().unwrap();
        let inside = outer.path().join("tree");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(outer.path().join("canary"), "outside").unwrap();
        std::fs::write(inside.join("canary"), "inside").unwrap();
        std::fs::create_dir(inside.join("d")).unwrap();
        symlink("../../../canary", inside.join("d/up")).unwrap();
        symlink(outer.path(), inside.join("abs")).unwrap();
        symlink("/proc/self/root", inside.join("magic")).unwrap();
        symlink("d", inside.join("link")).unwrap();
        std::fs::write(inside.join("d/file"), "content").unwrap();
        let tree = Root::open(&inside).unwrap();
        rustix::fs::mknodat(tree.fd(), "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let read = |path: &str| tree.read_small(&guest(path), 100);
        assert_eq!(read("link/file").unwrap(), b"content");
        assert_eq!(read("../canary").unwrap(), b"inside");
        assert!(matches!(read("d/up"), Err(RootError::NotRegular { kind: "a symbolic link", .. })));
        assert!(matches!(read("abs/canary"), Err(RootError::Open { .. })));
        assert!(matches!(read("magic/etc/passwd"), Err(RootError::Open { .. })));
        assert!(matches!(read("fifo"), Err(RootError::NotRegular { kind: "a fifo", .. })));
        assert!(matches!(read("d"), Err(RootError::NotRegular { kind: "a directory", .. })));
        assert!(matches!(tree.read_small(&guest("d/file"), 3), Err(RootError::TooLarge { limit: 3, .. })));
    }

    #[test]
    fn missing_directories_are_made_where_links_point() {
        let outer = tempfile::tempdir().unwrap();
        let inside = outer.path().join("tree");
        std::fs::create_dir(&inside).unwrap();
        symlink("/usr/lib", inside.join("lib")).unwrap();
        symlink("../../../../etc", inside.join("out")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        std::fs::write(inside.join("file"), "").unwrap();
        let tree = Root::open(&inside).unwrap();
        let made = tree.make_dirs(&guest("lib/a"), None).unwrap();
        assert_eq!(made.real, b"usr/lib/a");
        assert_eq!(made.made, [b"usr".to_vec(), b"usr/lib".to_vec(), b"usr/lib/a".to_vec()]);
        assert_eq!(tree.make_dirs(&guest("out/x"), None).unwrap().real, b"etc/x");
        assert!(inside.join("etc/x").is_dir() && !outer.path().join("etc").exists());
        assert!(matches!(tree.make_dirs(&guest("loop/x"), None), Err(RootError::TooManyLinks { .. })));
        assert!(matches!(tree.make_dirs(&guest("file/x"), None), Err(RootError::NotADirectory { .. })));
    }
}
