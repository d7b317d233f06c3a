//! Layers: one pass over a layer's tar gives its index, its diff id and its length.
//!
//! [`scan`] reads an existing layer, [`LayerWriter`] writes a new one; both leave it to [`IndexBuilder`] what an entry
//! means. Nothing is unpacked.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, DiffId, HashReader, HashWriter};
use crate::index::LayerIndex;
use crate::tar::{Header, TarError, TarReader, TarWriter};

mod builder;

pub use builder::{IndexBuilder, Mark, OPAQUE_NAME, WHITEOUT_PREFIX, mark, normalise};

/// What one pass over a layer's tar tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Its length.
    pub bytes: u64,
    /// What it does to a file system.
    pub index: LayerIndex,
}

/// Looks at a regular file: where it lands in the layer, its header, its content. What it leaves unread is skipped.
pub type Look<'l> = dyn FnMut(&[u8], &Header, &mut dyn Read) -> io::Result<()> + 'l;

/// Reads an uncompressed layer to its end.
///
/// A layer without an end marker is taken (some programs write such): compare the diff id with the one that is
/// expected, it covers every byte.
pub fn scan(tar: impl Read) -> Result<Scanned, TarError> {
    scan_files(tar, None)
}

/// As [`scan`], and every regular file is looked at on the way.
pub fn scan_with(tar: impl Read, look: &mut Look<'_>) -> Result<Scanned, TarError> {
    scan_files(tar, Some(look))
}

/// Looks at every regular file of an uncompressed layer whose digest is known to be right.
pub fn read_files(tar: impl Read, look: &mut Look<'_>) -> Result<LayerIndex, TarError> {
    walk(&mut TarReader::new(tar).end_optional(), Some(look))
}

fn scan_files(tar: impl Read, look: Option<&mut Look<'_>>) -> Result<Scanned, TarError> {
    let mut reader = TarReader::new(HashReader::new(tar, Algorithm::Sha256)).end_optional();
    let index = walk(&mut reader, look)?;
    let (digest, bytes) = reader.finish()?.finish();
    Ok(Scanned { diff_id: DiffId(digest), bytes, index })
}

fn walk<R: Read>(reader: &mut TarReader<R>, mut look: Option<&mut Look<'_>>) -> Result<LayerIndex, TarError> {
    let mut builder = IndexBuilder::new();
    while let Some(mut entry) = reader.next()? {
        let header = entry.header().clone();
        let account = if builder.wants_content(&header) { Some(read_whole(&header, &mut entry)?) } else { None };
        if let Some(look) = look.as_deref_mut()
            && let Some(path) = builder.place(&header)?
        {
            let seen = match &account {
                Some(whole) => look(&path, &header, &mut whole.as_slice()),
                None => look(&path, &header, &mut entry),
            };
            seen.map_err(|source| TarError::Content { path: header.path.clone(), source })?;
        }
        builder.add(&header, account.as_deref())?;
    }
    Ok(builder.finish())
}

/// Writes a layer: its bytes to a sink, and what [`scan`] would find in them.
#[derive(Debug)]
pub struct LayerWriter<W: Write> {
    tar: TarWriter<HashWriter<W>>,
    builder: IndexBuilder,
}

impl<W: Write> LayerWriter<W> {
    /// Writes to `sink`, in large chunks: a buffer in between gains nothing.
    pub fn new(sink: W) -> Self {
        Self { tar: TarWriter::new(HashWriter::new(sink)), builder: IndexBuilder::new() }
    }

    /// Writes an entry; `content` must have exactly `header.size` bytes for a file and is not read for other kinds.
    /// Whiteouts are empty files with their `.wh.` names. After an error the layer is of no use.
    pub fn append(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), TarError> {
        if self.builder.wants_content(header) {
            let whole = read_whole(header, content)?;
            self.builder.add(header, Some(&whole))?;
            return self.tar.append(header, &mut whole.as_slice());
        }
        self.builder.add(header, None)?;
        self.tar.append(header, content)
    }

    /// What has been written so far.
    pub fn index(&self) -> &LayerIndex {
        self.builder.index()
    }

    /// Ends the tar: the sink, flushed, and what was written.
    pub fn finish(self) -> Result<(W, Scanned), TarError> {
        let (sink, digest, bytes) = self.tar.finish().map_err(TarError::Write)?.finish();
        Ok((sink, Scanned { diff_id: DiffId(digest), bytes, index: self.builder.finish() }))
    }
}

/// An account file's content; its size has been checked.
fn read_whole(header: &Header, content: &mut dyn Read) -> Result<Vec<u8>, TarError> {
    let mut whole = Vec::new();
    // One byte more than there should be, to see a file that grew.
    content
        .take(header.size + 1)
        .read_to_end(&mut whole)
        .map_err(|source| TarError::Content { path: header.path.clone(), source })?;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Kind;

    fn header(path: &str, kind: Kind) -> Header {
        Header { path: path.into(), kind, mode: 0o755, ..Header::default() }
    }

    fn file(path: &str) -> Header {
        header(path, Kind::File)
    }

    fn dir(path: &str) -> Header {
        header(path, Kind::Dir)
    }

    #[test]
    fn a_written_layer_scans_to_the_same() {
        let mut writer = LayerWriter::new(Vec::new());
        let passwd = b"root:x:0:0::/root:/bin/sh\n";
        let sized = |path: &str, size: usize| Header { size: size as u64, ..file(path) };
        writer.append(&dir("etc"), &mut std::io::empty()).unwrap();
        writer.append(&sized("etc/passwd", passwd.len()), &mut passwd.as_slice()).unwrap();
        writer.append(&sized("big", 300_000), &mut std::io::repeat(7).take(300_000)).unwrap();
        writer.append(&file("etc/.wh.group"), &mut std::io::empty()).unwrap();
        let (bytes, written) = writer.finish().unwrap();
        assert_eq!(written.bytes, bytes.len() as u64);
        assert_eq!(written.index.accounts.get(&b"etc/passwd"[..]).map(Vec::as_slice), Some(&passwd[..]));
        assert_eq!(scan(bytes.as_slice()).unwrap(), written);
        let mut seen = Vec::new();
        let mut look = |path: &[u8], header: &Header, content: &mut dyn Read| {
            let mut first = [0];
            let read = content.read(&mut first)?;
            seen.push((String::from_utf8_lossy(path).into_owned(), header.size, first[..read].to_vec()));
            Ok(())
        };
        assert_eq!(scan_with(bytes.as_slice(), &mut look).unwrap(), written);
        assert_eq!(read_files(bytes.as_slice(), &mut look).unwrap(), written.index);
        let files = [("etc/passwd".into(), passwd.len() as u64, b"r".to_vec()), ("big".into(), 300_000, vec![7])];
        assert_eq!(seen, [files.clone(), files].concat());
        // Bytes after the end marker belong to the digest.
        let longer = [bytes.as_slice(), &[0; 5000]].concat();
        let scanned = scan(longer.as_slice()).unwrap();
        assert_eq!(scanned.diff_id.0, crate::Digest::of(&longer));
        assert_eq!((scanned.bytes, scanned.index), (longer.len() as u64, written.index));
    }
}
