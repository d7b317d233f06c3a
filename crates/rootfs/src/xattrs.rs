//! Extended attributes that belong to an image's files: `user.*` and `security.capability`.
//!
//! In: a descriptor. Out: a map, or attributes set. Everything else (`trusted.*`, `security.selinux`, ACLs) belongs to
//! the machine and stays there; `user.overlay.*` is overlayfs' own and neither comes in from nor goes out to an image.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use kuz_image::limits;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Names and values.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// overlayfs' mark on a directory that hides what is below it.
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// The names that overlayfs keeps for itself, in both of its modes.
const OVERLAY: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// Does this attribute belong to an image?
pub fn kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// overlayfs' own attribute, without its prefix.
pub(crate) fn overlay_word(name: &[u8]) -> Option<&[u8]> {
    OVERLAY.iter().find_map(|prefix| name.strip_prefix(*prefix))
}

/// All names on a file; empty where the file system has none.
pub(crate) fn names(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list: Vec<u8> = Vec::new();
    loop {
        let size = match rustix::fs::flistxattr_query(fd) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(size) => size,
            Err(errno) => return Err(errno),
        };
        list.resize(size, 0);
        match rustix::fs::flistxattr(fd, list.as_mut_slice()) {
            Ok(size) => {
                list.truncate(size);
                break;
            }
            // It grew between the two calls.
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(list.split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// One attribute; `None` where there is none.
pub(crate) fn get(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut small = [0u8; 256];
    match rustix::fs::fgetxattr(fd, name, &mut small) {
        Ok(size) => return Ok(small.get(..size).map(<[u8]>::to_vec)),
        Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut value = vec![0; limits::XATTR_BYTES];
    match rustix::fs::fgetxattr(fd, name, value.as_mut_slice()) {
        Ok(size) => {
            value.truncate(size);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The attributes that belong to an image.
pub fn read(fd: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    let mut found = Xattrs::new();
    for name in names(fd)? {
        if kept(&name)
            && let Some(value) = get(fd, &name)?
        {
            found.insert(name, value);
        }
    }
    Ok(found)
}

/// Sets the attributes that belong to an image and drops the rest. Returns how many the file system does not take.
pub fn write(fd: BorrowedFd<'_>, xattrs: &Xattrs) -> Result<usize, Errno> {
    let mut dropped = 0;
    for (name, value) in xattrs.iter().filter(|(name, _)| kept(name)) {
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP) => dropped += 1,
            Err(errno) => return Err(errno),
        }
    }
    Ok(dropped)
}
