//! Taking mount points out of a tree again, so that they never become part of a layer.
//!
//! In: what init made in the image's tree. Out: the tree as the command left it. Nothing that the command put there in
//! the meantime is touched: only empty files and directories go, and times are put back only where ours was the last
//! change. Works on descriptors, follows no link.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use kuz_image::index::ancestors;
use kuz_rootfs::Root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::server::Shared;
use crate::order::Stub;

/// Removes the stubs from `tree` (a path in the trees directory). In an overlay's upper directory, directories that
/// are there only because a stub was made in them go as well.
pub(super) fn remove(
    shared: &Shared,
    tree: &str,
    lowers: &[String],
    stubs: &[Stub],
    overlay: bool,
) -> Result<(), Errno> {
    if stubs.is_empty() {
        return Ok(());
    }
    let tree = open_tree(&shared.trees, tree)?;
    // Directories whose last change was ours: path, and whether it was.
    let mut untouched: BTreeMap<&[u8], bool> = BTreeMap::new();
    for stub in stubs {
        let parent = ancestors(&stub.path).next().unwrap_or_default();
        let now = open(&tree, parent).and_then(rustix::fs::fstat).map(|stat| mtime(&stat));
        // Several stubs in one directory: the last one counts.
        untouched.insert(parent, now == Ok(stub.parent_mtime));
    }
    for stub in stubs.iter().rev() {
        take_away(&tree, stub)?;
    }
    let lowers: Vec<OwnedFd> =
        lowers.iter().rev().map(|name| open_tree(&shared.trees, name)).collect::<Result<_, _>>()?;
    // Deepest first.
    for (path, _) in untouched.into_iter().rev().filter(|(_, untouched)| *untouched) {
        put_back(&tree, path, &lowers, overlay)?;
    }
    Ok(())
}

fn open_tree(trees: &Root, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(trees.fd(), path, flags, Mode::empty(), resolve)
}

fn open(tree: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(tree, path, flags, Mode::empty(), resolve)
}

fn mtime(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default())
}

fn take_away(tree: &OwnedFd, stub: &Stub) -> Result<(), Errno> {
    let cut = stub.path.iter().rposition(|&b| b == b'/');
    let parent = stub.path.get(..cut.unwrap_or(0)).unwrap_or_default();
    let name = stub.path.get(cut.map_or(0, |at| at + 1)..).unwrap_or_default();
    let parent = match open(tree, parent) {
        Ok(parent) => parent,
        // The command moved or removed it, or put something else there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let result = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory if stub.directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
        FileType::RegularFile if !stub.directory && stat.st_size == 0 => {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty())
        }
        _ => Ok(()),
    };
    match result {
        // Not empty: the command used it.
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Gives a directory the time back that it has below, and removes it (and then its parents) from an upper directory if
/// nothing else makes it a change.
fn put_back(tree: &OwnedFd, path: &[u8], lowers: &[OwnedFd], overlay: bool) -> Result<(), Errno> {
    let Ok(directory) = open(tree, path) else { return Ok(()) };
    let Some(below) = below(path, lowers) else { return Ok(()) };
    set_mtime(&directory, &below)?;
    if !overlay {
        return Ok(());
    }
    let mut path = path;
    while !path.is_empty() {
        let Some(below) = self::below(path, lowers) else { return Ok(()) };
        let directory = open(tree, path)?;
        let stat = rustix::fs::fstat(&directory)?;
        let same =
            |a: &Stat, b: &Stat| (a.st_mode, a.st_uid, a.st_gid, mtime(a)) == (b.st_mode, b.st_uid, b.st_gid, mtime(b));
        let opaque = rustix::fs::fgetxattr(&directory, "user.overlay.opaque", &mut [0_u8; 8][..]).is_ok();
        if opaque || !same(&stat, &below) {
            return Ok(());
        }
        let parent = ancestors(path).next().unwrap_or_default();
        let parent_fd = open(tree, parent)?;
        let parent_stat = rustix::fs::fstat(&parent_fd)?;
        let name = path.get(if parent.is_empty() { 0 } else { parent.len() + 1 }..).unwrap_or_default();
        match rustix::fs::unlinkat(&parent_fd, name, AtFlags::REMOVEDIR) {
            Ok(()) => set_mtime(&parent_fd, &parent_stat)?,
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        path = parent;
    }
    Ok(())
}

/// The directory at this path in the topmost lower that has one.
fn below(path: &[u8], lowers: &[OwnedFd]) -> Option<Stat> {
    lowers.iter().find_map(|lower| rustix::fs::fstat(open(lower, path).ok()?).ok())
}

fn set_mtime(directory: &OwnedFd, like: &Stat) -> Result<(), Errno> {
    let time = mtime(like);
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: time.0, tv_nsec: time.1 };
    let times = Timestamps { last_access: omit, last_modification };
    rustix::fs::futimens(directory.as_fd(), &times)
}
