//! Tar archives, read and written as streams.
//!
//! [`TarReader`] turns bytes into [`Header`]s and contents and refuses what tar programs disagree about;
//! [`TarWriter`] turns them back into the same bytes every time. Nothing here knows of whiteouts, paths' meaning or
//! the file system: see [`crate::scan`] for that.
//!
//! ```text
//! archive   = entry* zero-block zero-block rest
//! entry     = extension* header content padding      (all in blocks of 512 bytes)
//! extension = PAX records ('x', global 'g') | GNU long name ('L') | GNU long link ('K')
//! ```

use std::collections::BTreeMap;
use std::io;

mod block;
mod header;
mod pax;
mod read;
mod sparse;
mod write;

pub use read::{Entry, TarReader};
pub use write::TarWriter;

/// Everything in a tar comes in blocks of this many bytes.
pub const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A regular file, the only kind with content.
    #[default]
    File,
    /// A directory.
    Dir,
    /// A symbolic link to [`Header::link`].
    Symlink,
    /// Another name of the earlier entry [`Header::link`].
    Hardlink,
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One entry, all extensions applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// As stored, without trailing slashes (the archive's root stays `/` or `.`). Never empty, never with NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whole seconds since 1970, rounded down.
    pub mtime: i64,
    /// Length of the content, holes of sparse files included; 0 for all but files.
    pub size: u64,
    /// Target of a link, as stored; empty for all but links.
    pub link: Vec<u8>,
    /// Extended attributes (`SCHILY.xattr.*`), values as they are.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The source failed.
    #[error("read tar archive")]
    Read(#[source] io::Error),
    /// The sink failed.
    #[error("write tar archive")]
    Write(#[source] io::Error),
    /// The content that is to be written failed.
    #[error("read content of `{}`", show(path))]
    Content {
        /// The entry.
        path: Vec<u8>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive stops inside an entry, or without an end marker.
    #[error("tar archive ends early, at byte {offset}")]
    Truncated {
        /// Where it stops.
        offset: u64,
    },
    /// A header's checksum is wrong: no tar archive, or a damaged one.
    #[error("no tar header at byte {offset} (its checksum is wrong)")]
    Checksum {
        /// Where the header starts.
        offset: u64,
    },
    /// A header or an extension that cannot be understood in exactly one way.
    #[error("tar header at byte {offset} is malformed: {what}")]
    Malformed {
        /// Where the header starts.
        offset: u64,
        /// The fault.
        what: &'static str,
    },
    /// An entry that is refused.
    #[error("tar entry `{}` is refused: {what}", show(path))]
    Refused {
        /// The entry.
        path: Vec<u8>,
        /// The fault.
        what: &'static str,
    },
    /// A kind of entry that has no meaning in a layer.
    #[error("tar entry `{}` has the unsupported type `{}`", show(path), (*flag as char).escape_default())]
    Unsupported {
        /// The entry.
        path: Vec<u8>,
        /// The type flag.
        flag: u8,
    },
    /// Over one of [`crate::limits`].
    #[error("tar header at byte {offset} is over a limit: {what} (limit {limit})")]
    Limit {
        /// Where the header starts.
        offset: u64,
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// A file changed its length while it was written into the archive.
    #[error("`{}` was to be {expected} bytes, but is {} now", show(path), if *longer { "longer" } else { "shorter" })]
    SizeChanged {
        /// The entry.
        path: Vec<u8>,
        /// The length in its header.
        expected: u64,
        /// Whether it grew.
        longer: bool,
    },
}

impl TarError {
    pub(crate) fn refused(path: &[u8], what: &'static str) -> Self {
        Self::Refused { path: path.to_vec(), what }
    }
}

/// A path for people: at most its first 300 bytes, control characters escaped.
fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path.get(..300).unwrap_or(path)).escape_debug().to_string()
}

/// Bytes from the end of `size` bytes of content to the next block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
