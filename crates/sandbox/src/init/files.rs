//! `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`: generated, shown read-only, never part of a layer.
//!
//! In: what the order says. Out: three files of the scratch file system mounted over the image's (which may be links:
//! they are followed inside the image, and made where they lead).

use std::fmt::Write as _;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::target::Guest;
use super::{Result, kernel};
use crate::order::InitOrder;

pub(super) fn mount(guest: &mut Guest, order: &InitOrder) -> Result<()> {
    let name = &order.guest.hostname;
    let mut hosts = format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (address, name) in &order.guest.hosts {
        let _ = writeln!(hosts, "{address}\t{name}");
    }
    let files = [
        ("resolv.conf", order.resolv_conf.as_slice()),
        ("hosts", hosts.as_bytes()),
        ("hostname", &[name.as_bytes(), b"\n"].concat()),
    ];
    for (name, content) in files {
        write(guest, name, content)?;
        let place = guest.place(&format!("etc/{name}"), false)?;
        guest.show_scratch(name, place.as_fd())?;
    }
    Ok(())
}

/// Makes the empty directory that hides others. Called before the first mask.
pub(super) fn make_empty(guest: &Guest) -> Result<()> {
    let mode = Mode::from_raw_mode(0o555);
    kernel("make an empty directory", rustix::fs::mkdirat(guest.scratch(), "empty", mode))
}

fn write(guest: &Guest, name: &str, content: &[u8]) -> Result<()> {
    let action = format!("write /etc/{name}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = kernel(&action, rustix::fs::openat(guest.scratch(), name, flags, Mode::from_raw_mode(0o644)))?;
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return kernel(&action, Err(errno)),
        }
    }
    Ok(())
}
