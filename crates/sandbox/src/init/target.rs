//! Places inside the guest's root to mount things on.
//!
//! In: paths, resolved inside the root by the kernel (`openat2`), so that no link of the image leads out of it. Out:
//! `O_PATH` descriptors, and a list of what had to be made so that the worker takes it away again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kuz_image::limits;
use kuz_rootfs::{GuestPath, Root};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::{Result, kernel};
use crate::order::Stub;
use crate::step::StartError;
use crate::sys;

/// The root of the guest while it's being furnished.
pub(super) struct Guest {
    root: Root,
    scratch: OwnedFd,
    stubs: Vec<Stub>,
}

/// Attributes that every mount of ours has.
pub(super) const SAFE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

impl Guest {
    pub(super) fn new(root: OwnedFd, scratch: OwnedFd) -> Self {
        Self { root: Root::from_fd(root), scratch, stubs: Vec::new() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.fd()
    }

    pub(super) fn tree(&self) -> &Root {
        &self.root
    }

    /// A small file system in memory for what we generate.
    pub(super) fn scratch(&self) -> BorrowedFd<'_> {
        self.scratch.as_fd()
    }

    /// What was made so far.
    pub(super) fn stubs(&self) -> Vec<Stub> {
        self.stubs.clone()
    }

    /// A directory right below the root that the image may lack but not have as anything else.
    pub(super) fn fixed_dir(&mut self, name: &str) -> Result<OwnedFd> {
        match rustix::fs::mkdirat(self.root(), name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.record(&[], name.as_bytes(), true)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return kernel(&format!("make /{name}"), Err(errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.root(), name, flags, Mode::empty())
            .map_err(|_| StartError::InTheWay { path: format!("/{name}") })
    }

    /// What is at a path, links followed inside the root; made (with its parents) where nothing is.
    pub(super) fn place(&mut self, path: &str, directory: bool) -> Result<OwnedFd> {
        let mut at = path.as_bytes().to_vec();
        for _ in 0..limits::SYMLINKS {
            match lookup(self.root(), &at) {
                Ok(fd) => return check_kind(fd, path, directory),
                Err(Errno::NOENT) => {}
                Err(errno) => return kernel(&format!("find `{}` in the image", show(path)), Err(errno)),
            }
            match self.make(&at, path, directory)? {
                Made::Here(fd) => return Ok(fd),
                Made::LinkTo(target) => at = target,
            }
        }
        kernel(&format!("find `{}` in the image", show(path)), Err(Errno::LOOP))
    }

    fn make(&mut self, at: &[u8], shown: &str, directory: bool) -> Result<Made> {
        let refused = |what: &dyn std::error::Error| StartError::Malformed {
            what: format!("mount point `{}`: {what}", show(shown)),
        };
        let path = GuestPath::new(at).map_err(|error| refused(&error))?;
        if directory {
            return self.make_dirs(&path, &refused).map(|(fd, _)| Made::Here(fd));
        }
        let (parent, name) = path.split().ok_or_else(|| StartError::InTheWay { path: shown.to_owned() })?;
        let (parent, real) = self.make_dirs(&parent, &refused)?;
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) => self.record(&real, name, false)?,
            Err(Errno::EXIST) => {
                // A link that leads nowhere: what it points to is made instead.
                let link = rustix::fs::readlinkat(&parent, name, Vec::new());
                let link = kernel(&format!("read the link `{}`", show(shown)), link)?.into_bytes();
                let target = if link.first() == Some(&b'/') { link } else { [real, vec![b'/'], link].concat() };
                return Ok(Made::LinkTo(target));
            }
            Err(errno) => return kernel(&format!("make `{}`", show(shown)), Err(errno)),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        kernel("open a mount point", rustix::fs::openat(&parent, name, flags, Mode::empty())).map(Made::Here)
    }

    /// Makes a directory and its parents, records those that are new; its descriptor and real path.
    fn make_dirs(
        &mut self,
        path: &GuestPath,
        refused: &dyn Fn(&dyn std::error::Error) -> StartError,
    ) -> Result<(OwnedFd, Vec<u8>)> {
        let made = self.root.make_dirs(path, None).map_err(|error| refused(&error))?;
        for new in &made.made {
            let cut = new.iter().rposition(|&b| b == b'/');
            let parent = new.get(..cut.unwrap_or(0)).unwrap_or_default().to_vec();
            let name = new.get(cut.map_or(0, |at| at + 1)..).unwrap_or_default();
            self.record(&parent, name, true)?;
        }
        Ok((made.fd, made.real))
    }

    fn record(&mut self, parent: &[u8], name: &[u8], directory: bool) -> Result<()> {
        let at = if parent.is_empty() { b".".as_slice() } else { parent };
        // In another mount it is no part of the image: nothing to be taken away, and its path in the image's own tree
        // may be something else.
        if self.mount_of(at)? != self.mount_of(b".")? {
            return Ok(());
        }
        let stat = kernel("look at a mount point", rustix::fs::statat(self.root(), at, AtFlags::SYMLINK_NOFOLLOW))?;
        let parent_mtime = (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default());
        self.stubs.push(Stub { path: kuz_image::index::join(parent, name), directory, parent_mtime });
        Ok(())
    }

    fn mount_of(&self, path: &[u8]) -> Result<u64> {
        let flags = StatxFlags::MNT_ID;
        let found = rustix::fs::statx(self.root(), path, AtFlags::SYMLINK_NOFOLLOW, flags);
        kernel("look at a mount point", found).map(|found| found.stx_mnt_id)
    }

    /// Shows a file or directory of the scratch file system, read-only, at a place.
    pub(super) fn show_scratch(&self, name: &str, place: BorrowedFd<'_>) -> Result<()> {
        let mount = clone_mount(self.scratch(), name, false)?;
        kernel("protect a mount", sys::mount_setattr(mount.as_fd(), SAFE | libc::MOUNT_ATTR_RDONLY, false))?;
        mount_on(&mount, place)
    }
}

/// How often a lookup is repeated that the kernel broke off because of a rename somewhere.
const LOOKUP_RETRIES: usize = 64;

/// What is at a path of a tree, links followed inside the tree: an `O_PATH` descriptor.
pub(super) fn lookup(root: BorrowedFd<'_>, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < LOOKUP_RETRIES => tries += 1,
            other => return other,
        }
    }
}

enum Made {
    Here(OwnedFd),
    LinkTo(Vec<u8>),
}

fn check_kind(fd: OwnedFd, path: &str, directory: bool) -> Result<OwnedFd> {
    let stat = kernel("look at a mount point", rustix::fs::fstat(&fd))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if is_directory == directory { Ok(fd) } else { Err(StartError::InTheWay { path: show(path) }) }
}

fn show(path: &str) -> String {
    path.escape_debug().to_string()
}

/// A copy of the mount of `name` (with what is mounted below it, if `recursive`), attached nowhere.
pub(super) fn clone_mount(at: BorrowedFd<'_>, name: &str, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    kernel(&format!("take `{}` along", show(name)), rustix::mount::open_tree(at, name, flags))
}

/// Mounts something that is attached nowhere on a place.
pub(super) fn mount_on(mount: &OwnedFd, place: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    kernel("attach a mount", rustix::mount::move_mount(mount.as_fd(), "", place, "", flags))
}

/// A new file system with options, attached nowhere.
pub(super) fn new_mount(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags};
    let action = format!("mount a new {kind}");
    let fs = kernel(&action, rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC))?;
    for (key, value) in options {
        kernel(
            &action,
            if value.is_empty() {
                rustix::mount::fsconfig_set_flag(fs.as_fd(), *key)
            } else {
                rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value)
            },
        )?;
    }
    kernel(&action, rustix::mount::fsconfig_create(fs.as_fd()))?;
    kernel(&action, rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes))
}
