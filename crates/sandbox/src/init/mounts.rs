//! What every command finds mounted: `/proc`, `/sys`, `/dev`, the generated files, and what the step adds.
//!
//! In: the guest's root and the order. Out: the root furnished, and a terminal if one was asked for. Every place is
//! opened inside the root and checked before something is mounted on it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::devices::{self, Terminal};
use super::target::{Guest, SAFE, clone_mount, mount_on, new_mount};
use super::{Result, files, kernel};
use crate::order::InitOrder;
use crate::step::StartError;
use crate::sys;

/// Hidden: a directory behind an empty one, a file behind `/dev/null`.
const MASKED_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
/// Shown, not to be written.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const MASKED_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
/// The mount flags of a file system that holds no programs and no devices.
const DATA: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Furnishes the root.
pub(super) fn fill(guest: &mut Guest, order: &InitOrder, binds: Vec<OwnedFd>) -> Result<Option<Terminal>> {
    files::make_empty(guest)?;
    let (dev, terminal) = devices::mount(guest, order)?;
    proc(guest, order.fresh_proc, dev.as_fd())?;
    sys(guest, dev.as_fd())?;
    files::mount(guest, order)?;
    for (source, bind) in binds.into_iter().zip(&order.guest.binds) {
        let mount = if order.detached { source } else { reopen(&source)? };
        let stat = kernel("look at what is to be bound", rustix::fs::fstat(&mount))?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        if bind.readonly {
            attributes |= libc::MOUNT_ATTR_RDONLY;
        }
        kernel("protect a mount", sys::mount_setattr(mount.as_fd(), attributes, true))?;
        let place = guest.place(&bind.target, directory)?;
        mount_on(&mount, place.as_fd())?;
    }
    Ok(terminal)
}

/// A descriptor from the caller belongs to another mount namespace and cannot be mounted here. Its path can, if it
/// leads to the same file.
fn reopen(source: &OwnedFd) -> Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let action = "find again what is to be bound";
    let link = format!("/proc/self/fd/{}", source.as_raw_fd());
    let path = kernel(action, rustix::fs::readlink(link.as_str(), Vec::new()))?;
    let found = kernel(action, rustix::fs::open(path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
    let (a, b) = (kernel(action, rustix::fs::fstat(source))?, kernel(action, rustix::fs::fstat(&found))?);
    if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) {
        return kernel(action, Err(Errno::STALE));
    }
    clone_mount(found.as_fd(), "", false)
}

fn proc(guest: &mut Guest, fresh: bool, dev: BorrowedFd<'_>) -> Result<()> {
    let place = guest.fixed_dir("proc")?;
    let mount = if fresh {
        new_mount("proc", &[], DATA)?
    } else {
        let mount = clone_mount(CWD, "/proc", true)?;
        kernel("protect /proc", sys::mount_setattr(mount.as_fd(), SAFE, true))?;
        mount
    };
    mount_on(&mount, place.as_fd())?;
    let proc = open_mounted(guest, "proc")?;
    let magic = kernel("look at /proc", rustix::fs::fstatfs(&proc))?.f_type;
    if magic != PROC_MAGIC {
        return Err(StartError::InTheWay { path: "/proc".to_owned() });
    }
    for name in MASKED_PROC {
        mask(guest, proc.as_fd(), name, dev)?;
    }
    for name in READ_ONLY_PROC {
        if let Some(place) = inside(proc.as_fd(), name)? {
            let mount = clone_mount(place.as_fd(), "", true)?;
            kernel("protect /proc", sys::mount_setattr(mount.as_fd(), SAFE | libc::MOUNT_ATTR_RDONLY, true))?;
            mount_on(&mount, place.as_fd())?;
        }
    }
    Ok(())
}

fn sys(guest: &mut Guest, dev: BorrowedFd<'_>) -> Result<()> {
    let place = guest.fixed_dir("sys")?;
    let mount = clone_mount(CWD, "/sys", true)?;
    kernel("protect /sys", sys::mount_setattr(mount.as_fd(), SAFE | libc::MOUNT_ATTR_RDONLY, true))?;
    mount_on(&mount, place.as_fd())?;
    let sys = open_mounted(guest, "sys")?;
    for name in MASKED_SYS {
        mask(guest, sys.as_fd(), name, dev)?;
    }
    // Each processor's temperature history tells what other programs compute.
    let Some(cpus) = inside(sys.as_fd(), "devices/system/cpu")? else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cpus = kernel("list the processors", rustix::fs::openat(&cpus, ".", flags, Mode::empty()))?;
    let names = kernel("list the processors", rustix::fs::Dir::read_from(&cpus))?;
    for entry in names.flatten() {
        let name = entry.file_name().to_string_lossy();
        if name.strip_prefix("cpu").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()) && !rest.is_empty()) {
            mask(guest, cpus.as_fd(), &format!("{name}/thermal_throttle"), dev)?;
        }
    }
    Ok(())
}

/// The magic number of procfs.
const PROC_MAGIC: rustix::fs::FsWord = 0x9fa0;

/// The root directory of what was mounted on a directory of the guest's root.
fn open_mounted(guest: &Guest, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    kernel("open a mount", rustix::fs::openat(guest.root(), name, flags, Mode::empty()))
}

/// A path below a mount of ours, no link followed; `None` where nothing is (or nothing may be seen).
fn inside(directory: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
        Err(errno) => kernel(&format!("find `{path}` to hide it"), Err(errno)),
    }
}

fn mask(guest: &Guest, directory: BorrowedFd<'_>, path: &str, dev: BorrowedFd<'_>) -> Result<()> {
    let Some(place) = inside(directory, path)? else { return Ok(()) };
    let stat = kernel("look at what is to be hidden", rustix::fs::fstat(&place))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        guest.show_scratch("empty", place.as_fd())
    } else {
        let null = clone_mount(dev, "null", false)?;
        devices::check(&null, "null", devices::NULL)?;
        mount_on(&null, place.as_fd())
    }
}
