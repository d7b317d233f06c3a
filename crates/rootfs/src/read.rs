//! Single files of a tree: their digests, and a tar of them.
//!
//! In: a tree and real paths in it (no link on the way: a lookup in the layers' indexes has followed them). Out: what
//! `COPY --from` keys on, and the entries that it copies. Directories go without what is below them.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use kuz_image::tar::{Kind, TarError, TarWriter};
use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::fingerprint::{hash_bytes, hash_xattrs};
use crate::root::{GuestPath, PathError, Root, show, split};
use crate::walk::{self, Described};

/// Read size.
const CHUNK: usize = 256 << 10;

/// A file in one of several trees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreeFile {
    /// The tree's name.
    pub tree: String,
    /// The real path in it, no leading slash.
    pub path: Vec<u8>,
}

/// Why a file of a tree can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path in the tree and the kernel's answer")]
pub enum ReadError {
    /// Not a path.
    #[error("read a file of a layer")]
    Path(#[from] PathError),
    /// It could not be read.
    #[error("read `{path}` of a layer")]
    Read { path: String, source: io::Error },
    /// It's a socket.
    #[error("`{path}` of a layer is a socket")]
    Socket { path: String },
    /// The tar could not be written.
    #[error("write `{path}` to a tar")]
    Tar { path: String, source: TarError },
}

/// Reads files of one tree; remembers the last directory, since files of a directory come one after the other.
#[derive(Debug)]
pub struct Files<'t> {
    tree: &'t Root,
    last: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'t> Files<'t> {
    /// The files of this tree.
    pub fn new(tree: &'t Root) -> Self {
        Self { tree, last: None, buffer: Vec::new() }
    }

    /// The digest of a file's kind, link target, attributes and bytes; owner, mode and times stand in the index.
    pub fn digest(&mut self, path: &GuestPath) -> Result<[u8; 32], ReadError> {
        let Described { header, content } = self.describe(path)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind_tag(header.kind)]);
        if let Kind::Char { major, minor } | Kind::Block { major, minor } = header.kind {
            hasher.update(&major.to_le_bytes()).update(&minor.to_le_bytes());
        }
        hash_bytes(&mut hasher, &header.link);
        hash_xattrs(&mut hasher, &header.xattrs);
        if let Some(mut file) = content {
            self.buffer.resize(CHUNK, 0);
            loop {
                let read = match file.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(source) => return Err(ReadError::Read { path: show(path.as_bytes()), source }),
                };
                hasher.update(self.buffer.get(..read).unwrap_or_default());
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Appends a file to a tar under another name.
    pub fn append_to_tar<W: Write>(
        &mut self,
        path: &GuestPath,
        name: &[u8],
        writer: &mut TarWriter<W>,
    ) -> Result<(), ReadError> {
        let Described { mut header, content } = self.describe(path)?;
        header.path = name.to_vec();
        let failed = |source| ReadError::Tar { path: show(path.as_bytes()), source };
        match content {
            Some(mut file) => writer.append(&header, &mut file).map_err(failed),
            None => writer.append(&header, &mut io::empty()).map_err(failed),
        }
    }

    fn describe(&mut self, path: &GuestPath) -> Result<Described, ReadError> {
        let failed = |errno: Errno| ReadError::Read { path: show(path.as_bytes()), source: errno.into() };
        if path.climbs() {
            return Err(failed(Errno::INVAL));
        }
        let (parent, name) = split(path.as_bytes());
        // The tree's root is named from itself.
        let name = if name.is_empty() { b".".as_slice() } else { name };
        let directory = match self.last.take() {
            Some((at, fd)) if at == parent => fd,
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                self.tree.lookup(parent, flags, ResolveFlags::NO_SYMLINKS).map_err(failed)?
            }
        };
        let stat = walk::stat_in(directory.as_fd(), name).map_err(failed)?;
        let found = walk::describe(directory.as_fd(), name, &stat, path.as_bytes().to_vec())
            .map_err(|source| ReadError::Read { path: show(path.as_bytes()), source })?;
        self.last = Some((parent.to_vec(), directory));
        found.ok_or_else(|| ReadError::Socket { path: show(path.as_bytes()) })
    }
}

/// The digest of one file ([`Files::digest`]).
pub fn digest(tree: &Root, path: &[u8]) -> Result<[u8; 32], ReadError> {
    Files::new(tree).digest(&GuestPath::new(path)?)
}

fn kind_tag(kind: Kind) -> u8 {
    match kind {
        // Another name of a file is a file: the tree knows no difference.
        Kind::File | Kind::Hardlink => b'f',
        Kind::Dir => b'd',
        Kind::Symlink => b'l',
        Kind::Char { .. } => b'c',
        Kind::Block { .. } => b'b',
        Kind::Fifo => b'p',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Yard, dir, file, listing, symlink};

    #[test]
    fn files_are_digested_and_exported_by_real_paths_only() {
        let yard = Yard::new();
        yard.apply(&[
            dir("d"),
            file("d/a", "1"),
            file("d/b", "1"),
            file("d/c", "2"),
            symlink("l", "d"),
            symlink("up", ".."),
        ])
        .unwrap();
        let tree = yard.tree();
        assert_eq!(digest(&tree, b"d/a").unwrap(), digest(&tree, b"d/b").unwrap());
        assert_ne!(digest(&tree, b"d/a").unwrap(), digest(&tree, b"d/c").unwrap());
        assert_ne!(digest(&tree, b"l").unwrap(), digest(&tree, b"up").unwrap());
        assert!(digest(&tree, b"d").is_ok() && digest(&tree, b"").is_ok());
        for bad in ["l/a", "up/canary/file", "..", "../canary/file", "d/../../canary/file", "missing"] {
            assert!(matches!(digest(&tree, bad.as_bytes()), Err(ReadError::Read { .. })), "{bad}");
        }
        let mut writer = TarWriter::new(Vec::new());
        let mut files = Files::new(&tree);
        for (number, path) in ["d/c", "l", "d"].into_iter().enumerate() {
            let path = GuestPath::new(path.as_bytes()).unwrap();
            files.append_to_tar(&path, number.to_string().as_bytes(), &mut writer).unwrap();
        }
        let me = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let lines = listing(&writer.finish().unwrap());
        assert_eq!(lines, [format!("file 0 644 {me} 2"), format!("link 1 777 {me} d"), format!("dir 2 755 {me}")]);
    }
}
