//! A tree in overlayfs' upper format to a layer's tar or its index.
//!
//! In: the directory that a RUN step's changes went to. Out: a changeset tar: entries sorted by name with parents first,
//! whiteout devices as `.wh.name`, opaque directories with `.wh..wh..opq`, further names of a file as hard links. The
//! tree's own directory has no entry; sockets are left out, as everywhere. Times are cut to whole seconds and, if
//! asked for, to an epoch. Nothing is changed in the tree.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use kuz_image::LayerIndex;
use kuz_image::index::join;
use kuz_image::scan::{IndexBuilder, LayerWriter, OPAQUE_NAME, Scanned, WHITEOUT_PREFIX};
use kuz_image::tar::{Header, Kind, TarError};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::root::{Root, kind, show};
use crate::{walk, xattrs};

/// Why a tree could not become a layer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path in the tree and the kernel's answer")]
pub enum PackError {
    /// It could not be read.
    #[error("read `{path}` of a step's tree")]
    Read { path: String, source: io::Error },
    /// A file's name would be read as a whiteout.
    #[error("file `{path}` cannot be in a layer: names that begin with `.wh.` mean removed files there")]
    WhiteoutName { path: String },
    /// overlayfs keeps something elsewhere.
    #[error("`{path}` of a step's tree is incomplete: overlayfs marked it `{mark}`")]
    Incomplete { path: String, mark: String },
    /// The tar could not be written.
    #[error("write layer")]
    Tar(#[from] TarError),
}

/// Writes the layer of a tree.
pub fn pack(tree: &Root, out: impl Write, epoch: Option<i64>) -> Result<Scanned, PackError> {
    let mut writer = LayerWriter::new(out);
    Packing::new(tree, true).run(&mut |header, content| {
        header.mtime = epoch.map_or(header.mtime, |epoch| header.mtime.min(epoch));
        writer.append(header, content)
    })?;
    let (_, scanned) = writer.finish()?;
    Ok(scanned)
}

/// The index that [`pack`]'s layer would have, without reading file contents.
pub fn index(tree: &Root) -> Result<LayerIndex, PackError> {
    let mut builder = IndexBuilder::new();
    Packing::new(tree, false).run(&mut |header, content| {
        let mut account = None;
        if builder.wants_content(header) {
            let mut bytes = Vec::new();
            content.take(header.size).read_to_end(&mut bytes).map_err(TarError::Read)?;
            account = Some(bytes);
        }
        builder.add(header, account.as_deref())
    })?;
    Ok(builder.finish())
}

/// Takes an entry and its content.
type Sink<'s> = &'s mut dyn FnMut(&mut Header, &mut dyn Read) -> Result<(), TarError>;

struct Packing<'t> {
    tree: &'t Root,
    /// Are attributes wanted?
    attributes: bool,
    /// First names of files that have several.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl<'t> Packing<'t> {
    fn new(tree: &'t Root, attributes: bool) -> Self {
        Self { tree, attributes, linked: HashMap::new() }
    }

    fn run(mut self, sink: Sink<'_>) -> Result<(), PackError> {
        let fail = |path: &[u8], errno: Errno| read_error(path)(errno);
        walk::visit(self.tree, &fail, &mut |directory, name, path| self.entry(directory, name, path, sink))
    }

    /// One entry; says whether there's something below it.
    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        sink: Sink<'_>,
    ) -> Result<bool, PackError> {
        let stat = walk::stat_in(directory, name).map_err(read_error(path))?;
        if walk::is_whiteout(&stat) {
            let parent = path.get(..path.len() - name.len()).unwrap_or_default();
            let hidden = [parent, WHITEOUT_PREFIX, name].concat();
            sink(&mut mark(hidden, &stat), &mut io::empty())?;
            return Ok(false);
        }
        if name.starts_with(WHITEOUT_PREFIX) {
            return Err(PackError::WhiteoutName { path: show(path) });
        }
        if let Some(mut link) = self.further_name(&stat, path) {
            sink(&mut link, &mut io::empty())?;
            return Ok(false);
        }
        let failed = |source| PackError::Read { path: show(path), source };
        let Some(mut found) = walk::describe(directory, name, &stat, path.to_vec()).map_err(failed)? else {
            return Ok(false);
        };
        let mut opaque = false;
        if kind(&stat) == FileType::Directory {
            let fd = walk::open_dir_in(directory, name).map_err(read_error(path))?;
            check_marks(fd.as_fd(), path)?;
            opaque = walk::is_opaque(&fd).map_err(read_error(path))?;
        } else if let Some(file) = found.content.as_ref().filter(|_| self.attributes) {
            check_marks(file.as_fd(), path)?;
        }
        match &mut found.content {
            Some(file) => sink(&mut found.header, file)?,
            None => sink(&mut found.header, &mut io::empty())?,
        }
        if opaque {
            sink(&mut mark(join(path, OPAQUE_NAME), &stat), &mut io::empty())?;
        }
        Ok(kind(&stat) == FileType::Directory)
    }

    /// A hard link entry, if the file has been written under another name already.
    fn further_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Header> {
        if stat.st_nlink < 2 || kind(stat) != FileType::RegularFile {
            return None;
        }
        let first = self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
        (first != path).then(|| Header {
            path: path.to_vec(),
            kind: Kind::Hardlink,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            link: first.clone(),
            ..Header::default()
        })
    }
}

/// A whiteout or an opaque mark: an empty file.
fn mark(path: Vec<u8>, stat: &Stat) -> Header {
    Header { path, mtime: stat.st_mtime, ..Header::default() }
}

/// overlayfs is mounted without the features that leave part of a file in a lower layer; if it did all the same, the
/// layer would be wrong.
fn check_marks(fd: BorrowedFd<'_>, path: &[u8]) -> Result<(), PackError> {
    for name in xattrs::names(fd).map_err(read_error(path))? {
        if let Some(word) =
            xattrs::overlay_word(&name).filter(|word| [b"redirect".as_slice(), b"metacopy"].contains(word))
        {
            return Err(PackError::Incomplete { path: show(path), mark: show(word) });
        }
    }
    Ok(())
}

fn read_error(path: &[u8]) -> impl Fn(Errno) -> PackError + '_ {
    move |errno| PackError::Read { path: show(path), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Yard, dir, file, header, is_root, link, listing, symlink, tar};

    #[test]
    fn what_was_applied_is_packed_again() {
        if !is_root("making whiteouts") {
            return;
        }
        let yard = Yard::new();
        let mut attributes = file("d/attr", "x");
        attributes.0.xattrs.insert(b"user.note".to_vec(), b"n".to_vec());
        (attributes.0.uid, attributes.0.mode) = (1000, 0o4755);
        let mut whiteout = file(".wh.removed", "");
        let mut opaque = file("d/.wh..wh..opq", "");
        for mark in [&mut whiteout, &mut opaque] {
            (mark.0.mode, mark.0.mtime) = (0, 0);
        }
        let mut soft = symlink("z", "../up");
        soft.0.mode = 0o777;
        let sorted = [
            dir("d"),
            opaque,
            attributes,
            file("d/first", "content"),
            link(Kind::Hardlink, "d/second", "d/first"),
            dir("e"),
            dir("e/f"),
            file("e/f/g", ""),
            file("e/f/.wh.other", ""),
            dir("etc"),
            file("etc/passwd", "root:x:0:0::/:\n"),
            (header("fifo", Kind::Fifo), Vec::new()),
            whiteout,
            soft,
        ];
        let applied = yard.apply(&sorted).unwrap();
        let mut out = Vec::new();
        let scanned = pack(&yard.tree(), &mut out, None).unwrap();
        let names = |bytes: &[u8]| -> Vec<String> {
            listing(bytes)
                .into_iter()
                .map(|line| if line.contains(".wh.") { line.replace("644", "0") } else { line })
                .collect()
        };
        assert_eq!(names(&out), names(&tar(&sorted)));
        let shape = |index: &LayerIndex| -> Vec<_> {
            index.entries.iter().map(|(path, entry)| (path.clone(), entry.node.clone())).collect()
        };
        assert_eq!(shape(&scanned.index), shape(&applied.index));
        assert_eq!(index(&yard.tree()).unwrap(), scanned.index);
        assert_eq!(scanned.index.accounts.len(), 1);
        // The bytes are the same every time, and the epoch is a ceiling.
        let mut again = Vec::new();
        pack(&yard.tree(), &mut again, Some(2_000_000_000)).unwrap();
        let mut earlier = Vec::new();
        let early = pack(&yard.tree(), &mut earlier, Some(5)).unwrap();
        assert!(early.index.entries.values().all(|entry| entry.mtime <= 5));
        assert_eq!(out.len(), again.len());
    }

    #[test]
    fn what_cannot_be_in_a_layer_is_named() {
        let yard = Yard::new();
        std::fs::create_dir(yard.path().join("d")).unwrap();
        std::fs::write(yard.path().join("d/.wh.x"), "").unwrap();
        let packed = pack(&yard.tree(), io::sink(), None);
        assert!(matches!(packed, Err(PackError::WhiteoutName { ref path }) if path == "d/.wh.x"), "{packed:?}");
        std::fs::rename(yard.path().join("d/.wh.x"), yard.path().join("d/x")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(yard.path().join("s")).unwrap();
        assert_eq!(pack(&yard.tree(), io::sink(), None).unwrap().index.entries.len(), 2);
        drop(socket);
        let fd = std::fs::File::open(yard.path().join("d")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::fsetxattr(&fd, "user.overlay.redirect", b"/x", flags) {
            Ok(()) => assert!(matches!(pack(&yard.tree(), io::sink(), None), Err(PackError::Incomplete { .. }))),
            Err(errno) => eprintln!("skipped: no user attributes here: {errno}"),
        }
    }

    #[test]
    fn deep_trees_need_few_descriptors() {
        let yard = Yard::new();
        let path = yard.path().join("d/".repeat(300));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("f"), "").unwrap();
        std::fs::write(yard.path().join("z"), "").unwrap();
        assert_eq!(index(&yard.tree()).unwrap().entries.len(), 302);
    }
}
