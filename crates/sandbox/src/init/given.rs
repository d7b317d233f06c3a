//! The mounts that a step asked for: memory, trees of other stages, caches, secrets, ssh agents.
//!
//! In: the guest's furnished root and the order. Out: the mounts in place, and the listening sockets of agents. A source
//! is looked up inside its own tree and used through the descriptor that was found, so that nothing that somebody
//! renames meanwhile leads elsewhere. All of them are private to this mount namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};

use super::target::{Guest, SAFE, clone_mount, lookup, mount_on, new_mount};
use super::{MEMORY, Result, TREES_AT, kernel, root};
use crate::order::InitOrder;
use crate::step::{Access, Source, StartError};
use crate::sys;

/// What a file in memory takes besides its bytes, generously.
const FILE_OVERHEAD: usize = 16 << 10;

/// Mounts them all, those above before those below.
pub(super) fn mount(guest: &mut Guest, order: &InitOrder) -> Result<Vec<OwnedFd>> {
    let mounts = &order.guest.mounts;
    let memory = memory(order)?;
    let in_memory = || {
        let missing = || StartError::Malformed { what: "there is no file system for secrets".to_owned() };
        memory.as_ref().map(AsFd::as_fd).ok_or_else(missing)
    };
    let mut listeners: Vec<(usize, OwnedFd)> = Vec::new();
    let mut places: Vec<usize> = (0..mounts.len()).collect();
    places.sort_by_key(|&at| mounts.get(at).map(|mount| mount.target.as_str()));
    for (at, mount) in places.into_iter().filter_map(|at| Some((at, mounts.get(at)?))) {
        let target = mount.target.as_str();
        match &mount.what {
            Source::Tmpfs { size } => tmpfs(guest, target, *size)?,
            Source::Trees { lowers, path, writable } => {
                let root = trees(order, at, lowers, *writable)?;
                show(guest, target, &root, path, !writable)?;
            }
            Source::Tree { tree, path, readonly } => show(guest, target, &open_dir(tree)?, path, *readonly)?,
            Source::File { content, access } => {
                let memory = in_memory()?;
                let name = format!("f{at}");
                write(memory, &name, &content.0)?;
                give(memory, &name, *access, target, order.ids)?;
                show_private(guest, memory, &name, target)?;
            }
            Source::Agent { access } => {
                let memory = in_memory()?;
                let name = format!("a{at}");
                let path = format!("{}/{MEMORY}/{name}", order.work);
                listeners.push((at, kernel("make a socket", UnixListener::bind(path))?.into()));
                give(memory, &name, *access, target, order.ids)?;
                show_private(guest, memory, &name, target)?;
            }
        }
    }
    // In the order of the step, which is the one that the agents are known by.
    listeners.sort_by_key(|(at, _)| *at);
    Ok(listeners.into_iter().map(|(_, listener)| listener).collect())
}

/// A file system in memory for secrets and sockets, if there are any. It is reached through the mounts of its files
/// only, and gone with the last of them.
fn memory(order: &InitOrder) -> Result<Option<OwnedFd>> {
    let bytes = |source: &Source| match source {
        Source::File { content, .. } => Some(content.0.len() + FILE_OVERHEAD),
        Source::Agent { .. } => Some(FILE_OVERHEAD),
        _ => None,
    };
    let sizes: Vec<usize> = order.guest.mounts.iter().filter_map(|mount| bytes(&mount.what)).collect();
    if sizes.is_empty() {
        return Ok(None);
    }
    let place = format!("{}/{MEMORY}", order.work);
    let options = format!("mode=0700,size={}", sizes.iter().sum::<usize>() + FILE_OVERHEAD);
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounted = rustix::mount::mount("tmpfs", place.as_str(), "tmpfs", flags, Some(options.as_c_str()));
    kernel("mount a file system for secrets", mounted)?;
    open_dir(&place).map(Some)
}

fn tmpfs(guest: &mut Guest, target: &str, size: Option<u64>) -> Result<()> {
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", "1777")];
    options.extend(size.as_deref().map(|size| ("size", size)));
    // Programs may be executed in it: that's what some are for.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let place = guest.place(target, true)?;
    mount_on(&new_mount("tmpfs", &options, attributes)?, place.as_fd())
}

/// Overlays trees at a place outside the guest's root; a single one needs no overlay.
fn trees(order: &InitOrder, at: usize, lowers: &[String], writable: bool) -> Result<OwnedFd> {
    let [place, upper, work] = TREES_AT.map(|name| format!("{}/{name}{at}", order.work));
    match lowers {
        [only] if !writable => return open_dir(only),
        _ if writable => root::overlay(lowers, Some((&upper, &work)), &place)?,
        _ => root::overlay(lowers, None, &place)?,
    }
    open_dir(&place)
}

/// One of our own directories, by its path in the trees directory.
fn open_dir(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    kernel("open a tree", rustix::fs::open(path, flags, Mode::empty()))
}

/// Shows what is at a path of a tree.
fn show(guest: &mut Guest, target: &str, root: &OwnedFd, path: &str, readonly: bool) -> Result<()> {
    let trimmed = path.trim_start_matches('/');
    let inside = if trimmed.is_empty() { "." } else { trimmed };
    let found = match lookup(root.as_fd(), inside.as_bytes()) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let (path, target) = (path.escape_debug().to_string(), target.escape_debug().to_string());
            return Err(StartError::NoSource { path, target });
        }
        Err(errno) => return kernel(&format!("find `{}` to mount it", path.escape_debug()), Err(errno)),
    };
    let stat = kernel("look at what is to be mounted", rustix::fs::fstat(&found))?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let mount = clone_mount(found.as_fd(), "", false)?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if readonly {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    kernel("protect a mount", sys::mount_setattr(mount.as_fd(), attributes, false))?;
    let place = guest.place(target, directory)?;
    mount_on(&mount, place.as_fd())
}

fn show_private(guest: &mut Guest, memory: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    let mount = clone_mount(memory, name, false)?;
    kernel("protect a mount", sys::mount_setattr(mount.as_fd(), SAFE | libc::MOUNT_ATTR_RDONLY, false))?;
    let place = guest.place(target, false)?;
    mount_on(&mount, place.as_fd())
}

fn write(memory: BorrowedFd<'_>, name: &str, content: &[u8]) -> Result<()> {
    let action = "write a secret";
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = kernel(action, rustix::fs::openat(memory, name, flags, Mode::RUSR))?;
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return kernel(action, Err(errno)),
        }
    }
    Ok(())
}

/// Owner first: a change of owner takes mode bits away.
fn give(memory: BorrowedFd<'_>, name: &str, access: Access, target: &str, ids: u32) -> Result<()> {
    let Access { mode, uid, gid } = access;
    if uid >= ids || gid >= ids {
        return Err(StartError::UnmappedOwner { target: target.escape_debug().to_string(), uid, gid, count: ids });
    }
    let action = "give a secret to its owner";
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    kernel(action, rustix::fs::chownat(memory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))?;
    kernel(action, rustix::fs::chmodat(memory, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty()))
}
