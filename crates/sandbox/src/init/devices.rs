//! `/dev`: a fresh file system in memory with six devices of the machine, terminals, shared memory and message queues.
//!
//! In: the guest's root. Out: `/dev` mounted, and a terminal if one was asked for. What the image has at `/dev` is hidden;
//! the devices are checked by number, so that nothing else can be in their place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;

use super::target::{Guest, clone_mount, mount_on, new_mount};
use super::{Result, kernel};
use crate::order::InitOrder;
use crate::step::{Script, StartError};

/// Major and minor of `/dev/null`.
pub(super) const NULL: (u32, u32) = (1, 3);
/// Name and number of the devices that every command gets.
const DEVICES: [(&str, (u32, u32)); 6] =
    [("null", NULL), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9)), ("tty", (5, 0))];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// The group `tty`, by convention.
const TTY_GROUP: u32 = 5;

/// Both ends of the command's terminal.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

/// Mounts `/dev`; its descriptor, and the terminal.
pub(super) fn mount(guest: &mut Guest, order: &InitOrder) -> Result<(OwnedFd, Option<Terminal>)> {
    let place = guest.fixed_dir("dev")?;
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let quiet = plain | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let data = quiet | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = new_mount("tmpfs", &[("mode", "0755"), ("size", "64m")], plain)?;
    let dev = kernel("keep /dev", rustix::io::fcntl_dupfd_cloexec(&mount, 0))?;
    mount_on(&mount, place.as_fd())?;
    for (name, number) in DEVICES {
        device(dev.as_fd(), name, number)?;
    }
    for (target, name) in LINKS {
        kernel("make a link in /dev", rustix::fs::symlinkat(target, &dev, name))?;
    }
    let gid = TTY_GROUP.to_string();
    let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if order.ids > TTY_GROUP {
        options.push(("gid", &gid));
    }
    let pts = directory(dev.as_fd(), "pts")?;
    mount_on(&new_mount("devpts", &options, quiet)?, pts.as_fd())?;
    let size = order.guest.shm_size.to_string();
    let shm = directory(dev.as_fd(), "shm")?;
    mount_on(&new_mount("tmpfs", &[("mode", "1777"), ("size", &size)], data)?, shm.as_fd())?;
    let mqueue = directory(dev.as_fd(), "mqueue")?;
    // Kernels may be built without message queues.
    if let Ok(mount) = new_mount("mqueue", &[], data) {
        mount_on(&mount, mqueue.as_fd())?;
    }
    scripts(dev.as_fd(), &order.guest.scripts)?;
    let terminal = if order.terminal { Some(terminal(dev.as_fd())?) } else { None };
    Ok((dev, terminal))
}

fn directory(dev: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let action = "make a directory in /dev";
    kernel(action, rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    kernel(action, rustix::fs::openat(dev, name, flags, Mode::empty()))
}

fn new_file(dev: BorrowedFd<'_>, name: &str, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    kernel("make a file in /dev", rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(mode)))
}

fn device(dev: BorrowedFd<'_>, name: &str, number: (u32, u32)) -> Result<()> {
    let source = clone_mount(CWD, &format!("/dev/{name}"), false)?;
    check(&source, name, number)?;
    let place = new_file(dev, name, 0o666)?;
    mount_on(&source, place.as_fd())
}

/// Is this the device it's said to be?
pub(super) fn check(fd: &OwnedFd, name: &str, number: (u32, u32)) -> Result<()> {
    let stat = kernel("look at a device", rustix::fs::fstat(fd))?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    let is_number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == number;
    if is_device && is_number {
        return Ok(());
    }
    Err(StartError::Malformed { what: format!("this machine's /dev/{name} is not the device of that name") })
}

/// Heredoc scripts: executable files under `/dev/pipes`.
fn scripts(dev: BorrowedFd<'_>, scripts: &[Script]) -> Result<()> {
    if scripts.is_empty() {
        return Ok(());
    }
    let pipes = directory(dev, "pipes")?;
    for script in scripts {
        if script.name.is_empty() || script.name.contains(['/', '\0']) || script.name == "." || script.name == ".." {
            return Err(StartError::Malformed { what: format!("script name `{}`", script.name.escape_debug()) });
        }
        let file = new_file(pipes.as_fd(), &script.name, 0o755)?;
        let mut rest = script.content.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return kernel("write a script to /dev/pipes", Err(errno)),
            }
        }
    }
    Ok(())
}

fn terminal(dev: BorrowedFd<'_>) -> Result<Terminal> {
    let action = "make a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = kernel(action, rustix::fs::openat(dev, "pts/ptmx", flags, Mode::empty()))?;
    kernel(action, rustix::pty::unlockpt(&master))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = kernel(action, rustix::pty::ioctl_tiocgptpeer(&master, flags))?;
    // The first terminal of a new devpts.
    let console = clone_mount(dev, "pts/0", false)?;
    let (a, b) = (kernel(action, rustix::fs::fstat(&slave))?, kernel(action, rustix::fs::fstat(&console))?);
    if a.st_rdev != b.st_rdev {
        return kernel(action, Err(Errno::NOTTY));
    }
    let place = new_file(dev, "console", 0o600)?;
    mount_on(&console, place.as_fd())?;
    Ok(Terminal { master, slave })
}
