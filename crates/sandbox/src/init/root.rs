//! The root file system: overlaid or a directory, mounted privately, then entered.
//!
//! In: names of trees in the current directory (the trees directory). Out: a [`Guest`] whose root is mounted. The
//! machine's own mounts are out of reach once [`enter`] returns.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use super::target::Guest;
use super::{Result, kernel};
use crate::order::{InitOrder, RootSource};
use crate::step::StartError;

/// `mount` takes its options in one page.
const OPTION_BYTES: usize = 4095;
/// `fsconfig` takes a value of at most this many bytes.
const VALUE_BYTES: usize = 255;

/// Mounts the root and the scratch file system. The current directory is the trees directory, as seen in this mount
/// namespace, and stays it.
pub(super) fn mount(order: &InitOrder) -> Result<Guest> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    kernel("make the mounts private", rustix::mount::mount_change("/", private))?;
    let place = format!("{}/m", order.work);
    match &order.root {
        RootSource::Overlay { lowers, upper, work } => overlay(lowers, Some((upper.as_str(), work.as_str())), &place)?,
        RootSource::Directory(name) => {
            let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = kernel("open the root", rustix::mount::open_tree(CWD, name.as_str(), clone))?;
            attach(&tree, &place)?;
        }
    }
    let scratch = format!("{}/s", order.work);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = Some(c"mode=0755,size=1m");
    kernel("mount the scratch file system", rustix::mount::mount("tmpfs", scratch.as_str(), "tmpfs", flags, options))?;
    Ok(Guest::new(open_dir(&place)?, open_dir(&scratch)?))
}

fn open_dir(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    kernel("open the root", rustix::fs::open(path, flags, Mode::empty()))
}

fn attach(mount: &OwnedFd, place: &str) -> Result<()> {
    kernel(
        "attach the root",
        rustix::mount::move_mount(mount.as_fd(), "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH),
    )
}

/// `lowers` from the bottom up; the kernel wants them from the top down.
/// Without `upper` (and its work directory) it cannot be written to, and there must be at least two lowers.
pub(super) fn overlay(lowers: &[String], upper: Option<(&str, &str)>, place: &str) -> Result<()> {
    let below = lowers.iter().rev().map(String::as_str).collect::<Vec<_>>().join(":");
    let mut options = format!("lowerdir={below},userxattr");
    if let Some((upper, work)) = upper {
        options = format!("{options},upperdir={upper},workdir={work},index=off");
    }
    if options.len() + ",volatile".len() > OPTION_BYTES {
        return many_lowers(lowers, upper, place);
    }
    if upper.is_none() {
        return kernel("mount the overlay", mount_overlay(&options, place));
    }
    // `volatile` spares the file system every fsync of the command: what a crash leaves is not used anyway.
    let first = mount_overlay(&format!("{options},volatile"), place);
    let result = match first {
        Err(Errno::INVAL) => mount_overlay(&options, place),
        other => other,
    };
    kernel("mount the overlay", result)
}

fn mount_overlay(options: &str, place: &str) -> std::result::Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", place, "overlay", MountFlags::empty(), Some(options.as_c_str()))
}

/// More lowers than fit into a page: one by one (Linux 6.8 and later).
fn many_lowers(lowers: &[String], upper: Option<(&str, &str)>, place: &str) -> Result<()> {
    let action = "mount the overlay";
    let set = |fs: &OwnedFd, key: &str, value: &str| {
        if value.len() > VALUE_BYTES {
            return kernel(action, Err(Errno::NAMETOOLONG));
        }
        kernel(action, rustix::mount::fsconfig_set_string(fs.as_fd(), key, value))
    };
    let flag = |fs: &OwnedFd, key: &str| rustix::mount::fsconfig_set_flag(fs.as_fd(), key);
    let fs = kernel(action, rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC))?;
    for lower in lowers.iter().rev() {
        set(&fs, "lowerdir+", lower).map_err(|error| match error {
            StartError::Kernel { source, .. } => StartError::Kernel {
                action: format!("overlay {} layers (this kernel takes fewer; 6.8 takes 500)", lowers.len()),
                source,
            },
            other => other,
        })?;
    }
    kernel(action, flag(&fs, "userxattr"))?;
    if let Some((upper, work)) = upper {
        set(&fs, "upperdir", upper)?;
        set(&fs, "workdir", work)?;
        set(&fs, "index", "off")?;
        // As above; a kernel without it does without.
        let _ = flag(&fs, "volatile");
    }
    kernel(action, rustix::mount::fsconfig_create(fs.as_fd()))?;
    let mount = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    attach(&kernel(action, mount)?, place)
}

/// Makes the guest's root this process's root, and lets go of everything else.
pub(super) fn enter(guest: Guest) -> Result<()> {
    let action = "enter the root";
    kernel(action, rustix::process::fchdir(guest.root()))?;
    drop(guest);
    kernel(action, rustix::process::pivot_root(".", "."))?;
    // The old root now lies on top of the new one; taking it away takes all of the machine's mounts.
    kernel("let go of the old root", rustix::mount::unmount(".", UnmountFlags::DETACH))?;
    kernel(action, rustix::process::chdir("/"))
}
