//! One pass over a layer's tar: digests of its larger files, and the few small files that say what belongs to what.
//!
//! An uncompressed tar in, [`Contents`] out, to be kept by diff id. Kept whole are the lists of Debian packages and of
//! Python distributions, and of scripts the first line. Nothing is verified: a layer's diff id was, when it was scanned.

use std::collections::BTreeMap;
use std::io::Read;

use kuz_image::scan::normalise;
use kuz_image::tar::{Kind, TarError, TarReader};
use serde::{Deserialize, Serialize};

/// Smaller files are not looked for twice: what they take is their tar header.
const DIGEST_BYTES: u64 = 4096;
/// A file that is kept whole: Debian's list of all packages of a full image has some 500 KB.
const KEPT_BYTES: u64 = 8 << 20;
/// All files of a layer that are kept whole. What is over is accounted to directories alone.
const ALL_BYTES: u64 = 64 << 20;
/// What a kernel reads of a script's first line.
const LINE_BYTES: usize = 256;
/// Bytes of a digest that are kept: they tell contents apart, nothing is verified by them.
const SUM: usize = 16;

/// A content's digest.
pub type Sum = [u8; SUM];

/// What a pass found, by path without a leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Digests of files from 4 KiB on.
    pub sums: BTreeMap<Vec<u8>, Sum>,
    /// Lists of packages and distributions.
    pub kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// First lines of scripts, without the `#!`.
    pub scripts: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Contents {
    /// A compact form for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`] back; nothing where they are damaged or of another form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Reads an uncompressed layer.
pub fn pass(tar: impl Read) -> Result<Contents, TarError> {
    let mut reader = TarReader::new(tar).end_optional();
    let mut contents = Contents::default();
    let mut room = ALL_BYTES;
    let mut buffer = vec![0; 256 << 10];
    while let Some(mut entry) = reader.next()? {
        let header = entry.header().clone();
        // Later entries replace earlier ones.
        let Ok(path) = normalise(&header.path) else { continue };
        for map in [&mut contents.kept, &mut contents.scripts] {
            map.remove(&path);
        }
        contents.sums.remove(&path);
        if header.kind != Kind::File || header.size == 0 {
            continue;
        }
        let failed = |source| TarError::Content { path: header.path.clone(), source };
        if is_list(&path) && header.size <= KEPT_BYTES.min(room) {
            let mut whole = Vec::new();
            entry.read_to_end(&mut whole).map_err(failed)?;
            room = room.saturating_sub(whole.len() as u64);
            if header.size >= DIGEST_BYTES {
                contents.sums.insert(path.clone(), half(&blake3::hash(&whole)));
            }
            contents.kept.insert(path, whole);
            continue;
        }
        let executable = header.mode & 0o111 != 0;
        if header.size < DIGEST_BYTES && !executable {
            continue;
        }
        let mut hash = blake3::Hasher::new();
        let mut first = true;
        loop {
            let read = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            if std::mem::take(&mut first) && executable {
                contents.scripts.extend(first_line(bytes).map(|line| (path.clone(), line)));
            }
            hash.update(bytes);
        }
        if header.size >= DIGEST_BYTES {
            contents.sums.insert(path, half(&hash.finalize()));
        }
    }
    Ok(contents)
}

/// Whether a file says what belongs to a package or distribution.
fn is_list(path: &[u8]) -> bool {
    path.ends_with(b".dist-info/RECORD")
        || path == b"var/lib/dpkg/status"
        || path.starts_with(b"var/lib/dpkg/status.d/")
        || (path.starts_with(b"var/lib/dpkg/info/") && path.ends_with(b".list"))
}

fn first_line(bytes: &[u8]) -> Option<Vec<u8>> {
    let line = bytes.strip_prefix(b"#!")?;
    let line = line.get(..LINE_BYTES).unwrap_or(line);
    let end = line.iter().position(|&byte| byte == b'\n').unwrap_or(line.len());
    line.get(..end).map(<[u8]>::to_vec)
}

fn half(hash: &blake3::Hash) -> Sum {
    let mut sum = [0; SUM];
    for (to, from) in sum.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    sum
}

#[cfg(test)]
mod tests {
    use kuz_image::tar::{Header, TarWriter};

    use super::*;

    #[test]
    fn what_counts_is_kept_and_the_rest_is_a_digest() {
        let mut tar = TarWriter::new(Vec::new());
        let big = vec![7_u8; 5000];
        for (path, mode, content) in [
            ("./big", 0o644, big.as_slice()),
            ("same", 0o644, &big),
            ("small", 0o644, b"x"),
            ("bin/tool", 0o755, b"#!/usr/bin/env python3\nprint(1)\n"),
            ("bin/no-tool", 0o644, b"#!/bin/sh\n"),
            ("lib/x-1.dist-info/RECORD", 0o644, b"x.py,,1\n"),
            ("var/lib/dpkg/info/a.list", 0o644, b"/.\n"),
            ("gone", 0o644, &big),
        ] {
            let header = Header { path: path.into(), mode, size: content.len() as u64, ..Header::default() };
            tar.append(&header, &mut &content[..]).unwrap();
        }
        let gone = Header { path: b"gone".to_vec(), kind: Kind::Dir, mode: 0o755, ..Header::default() };
        tar.append(&gone, &mut std::io::empty()).unwrap();
        let found = pass(tar.finish().unwrap().as_slice()).unwrap();
        let names = |keys: Vec<&Vec<u8>>| -> Vec<String> {
            keys.into_iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
        };
        assert_eq!(names(found.sums.keys().collect()), ["big", "same"]);
        assert_eq!(found.sums[&b"big"[..]], found.sums[&b"same"[..]]);
        assert_eq!(names(found.kept.keys().collect()), ["lib/x-1.dist-info/RECORD", "var/lib/dpkg/info/a.list"]);
        assert_eq!(found.scripts[&b"bin/tool"[..]], b"/usr/bin/env python3");
        assert_eq!(found.scripts.len(), 1);
        assert_eq!(Contents::from_bytes(&found.to_bytes()), Some(found));
        assert_eq!(Contents::from_bytes(b"\xff"), None);
    }
}
