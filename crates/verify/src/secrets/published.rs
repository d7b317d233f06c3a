//! Which files everybody can download anyway: what a wheel's RECORD, Debian's database or Python itself has in it.
//!
//! Hits and the kept files of all layers in, publishers out. A test key that a package ships gives nothing away. What was
//! installed from a directory (`pip install .`) is the user's own, and counts as published nowhere.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Hit;
use super::paths::{matches, name_of};
use crate::facts::{LayerFacts, Path};
use crate::subject::Subject;

/// Which files of a layer are judged by: [`LayerFacts::kept`] has to have them.
pub fn wanted(path: &[u8]) -> bool {
    is_record(path) || matches(path, "*.dist-info/direct_url.json") || is_md5sums(path)
}

/// Leaves of Debian's digests only those that are about the layer's own hits: the lists of a whole system are megabytes.
/// To be called when a layer has been read.
pub fn trim(facts: &mut LayerFacts) {
    let hits = std::mem::take(&mut facts.secrets);
    facts.kept.retain(|path, text| {
        if is_md5sums(path) {
            let lines = text.split_inclusive(|&byte| byte == b'\n');
            let about = lines.filter(|line| md5_line(line).is_some_and(|of| hits.iter().any(|hit| is_of(hit, &of))));
            *text = about.collect::<Vec<_>>().concat();
        }
        !is_md5sums(path) || !text.is_empty()
    });
    facts.secrets = hits;
}

/// Where hits' files come from, by their digests.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Files by SHA-256.
    files: BTreeMap<[u8; 32], String>,
    /// Sources by path, for what Python compiles of them.
    sources: BTreeMap<Path, String>,
    /// Paths of files with hits that no list has.
    private: BTreeSet<Path>,
}

impl Published {
    /// Looks for the files of these hits in all lists of the image.
    pub(super) fn new(subject: &Subject<'_>, hits: &[&Hit]) -> Self {
        let mut published = Self::default();
        if hits.is_empty() {
            return published;
        }
        let digests: BTreeSet<[u8; 32]> = hits.iter().map(|hit| hit.sha256).collect();
        let sources: BTreeSet<Path> = hits.iter().filter_map(|hit| source_of(&hit.path)).collect();
        for facts in &subject.facts {
            for (path, text) in &facts.kept {
                if is_record(path) && !own(facts, path) {
                    published.record(path, text, &digests, &sources);
                } else if is_md5sums(path) {
                    published.debian(path, text, hits);
                }
            }
        }
        let unlisted = hits.iter().filter(|hit| !published.files.contains_key(&hit.sha256));
        published.private = unlisted.map(|hit| hit.path.clone()).collect();
        published
    }

    /// Who publishes the file of a hit.
    pub(super) fn by(&self, hit: &Hit) -> Option<String> {
        if let Some(publisher) = self.files.get(&hit.sha256) {
            return Some(publisher.clone());
        }
        if of_python(&hit.path) {
            return Some("Python's own tests".to_owned());
        }
        let source = source_of(&hit.path)?;
        if self.private.contains(&source) { None } else { self.sources.get(&source).cloned() }
    }

    fn record(&mut self, path: &[u8], text: &[u8], digests: &BTreeSet<[u8; 32]>, sources: &BTreeSet<Path>) {
        let Some((directory, site)) = directories(path) else { return };
        let name =
            String::from_utf8_lossy(directory.strip_suffix(b".dist-info").unwrap_or(directory)).replacen('-', " ", 1);
        let publisher = format!("the package {name}");
        for line in text.split(|&byte| byte == b'\n') {
            // The path may have commas in it, what follows has none.
            let mut fields = line.trim_ascii_end().rsplitn(3, |&byte| byte == b',').skip(1);
            let (Some(digest), Some(file)) = (fields.next(), fields.next()) else { continue };
            let Some(digest) = digest.strip_prefix(b"sha256=") else { continue };
            if file.ends_with(b".py") {
                let place = [site, file].concat();
                if sources.contains(&place) {
                    self.sources.insert(place, publisher.clone());
                }
            }
            let decoded = URL_SAFE_NO_PAD.decode(digest).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            if let Some(digest) = decoded.filter(|digest| digests.contains(digest)) {
                self.files.insert(digest, publisher.clone());
            }
        }
    }

    fn debian(&mut self, path: &[u8], text: &[u8], hits: &[&Hit]) {
        let name = name_of(path).split(|&byte| byte == b'.' || byte == b':').next().unwrap_or_default();
        let publisher = format!("the Debian package {}", String::from_utf8_lossy(name));
        for of in text.split(|&byte| byte == b'\n').filter_map(md5_line) {
            for hit in hits.iter().filter(|hit| is_of(hit, &of)) {
                self.files.insert(hit.sha256, publisher.clone());
            }
        }
    }
}

fn is_record(path: &[u8]) -> bool {
    matches(path, "*.dist-info/RECORD")
}

fn is_md5sums(path: &[u8]) -> bool {
    matches(path, "dpkg/info/*.md5sums") || matches(path, "dpkg/status.d/*.md5sums")
}

/// The name of a RECORD's directory, and the directory that its paths begin at, with its slash.
fn directories(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let directory = record.strip_suffix(b"/RECORD")?;
    let name = name_of(directory);
    Some((name, directory.get(..directory.len() - name.len())?))
}

/// Installed from a directory: `direct_url.json` beside the RECORD says so.
fn own(facts: &LayerFacts, record: &[u8]) -> bool {
    let beside = record.strip_suffix(b"RECORD").map(|directory| [directory, b"direct_url.json"].concat());
    let origin = beside.and_then(|path| facts.kept.get(&path));
    origin.is_some_and(|text| memchr::memmem::find(text, b"\"dir_info\"").is_some())
}

/// A line of Debian's lists: a digest, two spaces, a path.
fn md5_line(line: &[u8]) -> Option<([u8; 16], &[u8])> {
    let (digits, path) = line.trim_ascii_end().split_at_checked(32)?;
    let mut digest = [0; 16];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some((digest, path.trim_ascii_start()))
}

/// The line is about the file of the hit. Long files have no MD5 digest here: their path has to do.
fn is_of(hit: &Hit, (digest, path): &([u8; 16], &[u8])) -> bool {
    hit.md5.map_or(hit.path == *path, |md5| md5 == *digest)
}

/// `a/__pycache__/b.cpython-310.pyc` was `a/b.py`.
fn source_of(path: &[u8]) -> Option<Path> {
    let name = name_of(path).strip_suffix(b".pyc")?;
    let directory = path.get(..path.len() - name_of(path).len())?.strip_suffix(b"__pycache__/")?;
    let stem = name.split(|&byte| byte == b'.').next()?;
    Some([directory, stem, b".py"].concat())
}

/// Below the tests of the standard library, which no list has.
fn of_python(path: &[u8]) -> bool {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    names.windows(3).any(|names| match names {
        [library, python, tests] => *library == b"lib" && python.starts_with(b"python3.") && *tests == b"test",
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_paths() {
        assert_eq!(source_of(b"s/a/__pycache__/b.cpython-310.opt-1.pyc"), Some(b"s/a/b.py".to_vec()));
        assert_eq!(source_of(b"s/a/b.pyc"), None);
        assert!(of_python(b"usr/local/lib/python3.12/test/certdata/key.pem"));
        assert!(!of_python(b"usr/local/lib/python3.12/site-packages/test/key.pem"));
        let (digest, path) = md5_line(b"d41d8cd98f00b204e9800998ecf8427e  usr/share/x y\n").unwrap();
        assert_eq!((digest[0], path), (0xd4, &b"usr/share/x y"[..]));
        assert_eq!(md5_line(b"short"), None);
        assert_eq!(directories(b"lib/a-1.dist-info/RECORD"), Some((&b"a-1.dist-info"[..], &b"lib/"[..])));
        assert_eq!(directories(b"a-1.dist-info/RECORD"), Some((&b"a-1.dist-info"[..], &b""[..])));
    }
}
