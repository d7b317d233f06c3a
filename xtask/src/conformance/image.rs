//! A finished image, read back from its OCI layout: configuration, history, and the files that a container would see.
//!
//! In: a layout directory with one image. Out: [`Image`], whose files are those of all layers, whiteouts applied. Base
//! layers are decoded once for all cases.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kuz_image::compress;
use kuz_image::layout;
use kuz_image::manifest::Document;
use kuz_image::tar::{Header, Kind, TarReader};
use serde_json::Value;

/// More symbolic links in a path are a loop.
const LINKS: usize = 40;

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: Value,
    pub(super) layers: usize,
    pub(super) files: Files,
}

/// What lies under one path.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) header: Header,
    pub(super) content: Arc<Vec<u8>>,
    /// Equal for the names of one file.
    pub(super) inode: (usize, Vec<u8>),
}

/// An entry of a layer.
#[derive(Debug)]
struct Entry {
    header: Header,
    content: Arc<Vec<u8>>,
}

type Entries = Arc<Vec<Entry>>;

/// Layers that were decoded, by digest.
#[derive(Debug, Default)]
pub(super) struct Decoded(Mutex<HashMap<String, Entries>>);

impl Decoded {
    /// Reads the image of a layout.
    pub(super) fn image(&self, layout: &Path) -> Result<Image, String> {
        let read = |name: &str| fs::read(layout.join(name)).map_err(|error| format!("{name}: {error}"));
        let index = layout::parse_index(&read(layout::INDEX_FILE)?).map_err(|error| error.to_string())?;
        let described = index.manifests.first().ok_or("the layout has no image")?;
        let bytes = read(&layout::blob_path(&described.digest))?;
        let manifest = match Document::parse(&bytes, Some(&described.media_type)).map_err(|error| error.to_string())? {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) => return Err("the image is an index".into()),
        };
        let config = serde_json::from_slice(&read(&layout::blob_path(&manifest.config.digest))?)
            .map_err(|error| format!("configuration: {error}"))?;
        let mut files = Files::default();
        for (number, layer) in manifest.layers.iter().enumerate() {
            let path = layout.join(layout::blob_path(&layer.digest));
            // Only what several cases use is worth keeping: the base.
            let entries = if number == 0 { self.shared(&layer.digest.to_string(), &path)? } else { decode(&path)? };
            files.apply(number, &entries);
        }
        Ok(Image { config, layers: manifest.layers.len(), files })
    }

    fn shared(&self, digest: &str, path: &Path) -> Result<Entries, String> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(digest) {
            return Ok(Arc::clone(known));
        }
        let entries = decode(path)?;
        lock().insert(digest.to_owned(), Arc::clone(&entries));
        Ok(entries)
    }
}

fn decode(path: &Path) -> Result<Entries, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let failed = |error: &dyn std::fmt::Display| format!("layer {}: {error}", path.display());
    let reader = compress::reader(compress::detect(&bytes), bytes.as_slice()).map_err(|error| failed(&error))?;
    let mut tar = TarReader::new(reader);
    let mut entries = Vec::new();
    while let Some(mut entry) = tar.next().map_err(|error| failed(&error))? {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| failed(&error))?;
        entries.push(Entry { header: entry.header().clone(), content: Arc::new(content) });
    }
    Ok(Arc::new(entries))
}

/// A file system by path, without leading slashes. The root is the empty path.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<Vec<u8>, File>);

impl Files {
    fn apply(&mut self, layer: usize, entries: &[Entry]) {
        // Whiteouts are about the layers below, wherever they stand in this one.
        for entry in entries {
            let path = plain(&entry.header.path);
            let (folder, name) = split(&path);
            if name == b".wh..wh..opq" {
                self.0.retain(|known, _| !is_below(known, folder));
            } else if let Some(name) = name.strip_prefix(b".wh.") {
                let gone = join(folder, name);
                self.0.retain(|known, _| *known != gone && !is_below(known, &gone));
            }
        }
        for entry in entries {
            let path = plain(&entry.header.path);
            if split(&path).1.starts_with(b".wh.") {
                continue;
            }
            let file = if entry.header.kind == Kind::Hardlink {
                let Some(target) = self.0.get(&plain(&entry.header.link)) else { continue };
                target.clone()
            } else {
                let inode = (layer, path.clone());
                File { header: entry.header.clone(), content: Arc::clone(&entry.content), inode }
            };
            if file.header.kind != Kind::Dir {
                self.0.retain(|known, _| !is_below(known, &path));
            }
            self.0.insert(path, file);
        }
    }

    /// What lies under a path; parents that are symbolic links are followed, the path's end is not.
    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.0.get(&self.resolve(path)?)
    }

    /// Where a path leads.
    pub(super) fn resolve(&self, path: &str) -> Option<Vec<u8>> {
        let mut left: Vec<Vec<u8>> = parts(path.as_bytes()).rev().collect();
        let (mut here, mut links): (Vec<u8>, usize) = (Vec::new(), 0);
        while let Some(part) = left.pop() {
            if part == b".." {
                here = split(&here).0.to_vec();
                continue;
            }
            let next = join(&here, &part);
            match self.0.get(&next) {
                Some(file) if file.header.kind == Kind::Symlink && !left.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return None;
                    }
                    if file.header.link.starts_with(b"/") {
                        here.clear();
                    }
                    left.extend(parts(&file.header.link).rev());
                }
                _ => here = next,
            }
        }
        Some(here)
    }

    /// All paths but the root.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.0.keys().filter(|path| !path.is_empty())
    }

    /// Whether a directory has entries.
    pub(super) fn has_below(&self, folder: &[u8]) -> bool {
        self.0.keys().any(|known| is_below(known, folder))
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

/// Without leading, trailing and double slashes and `.` components.
fn plain(path: &[u8]) -> Vec<u8> {
    parts(path).collect::<Vec<_>>().join(&b'/')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') }
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    if folder.is_empty() {
        return !path.is_empty();
    }
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind, link: &str) -> Entry {
        let header = Header { path: path.into(), kind, link: link.into(), ..Header::default() };
        Entry { header, content: Arc::default() }
    }

    #[test]
    fn layers_lie_over_each_other_and_links_are_followed() {
        let mut files = Files::default();
        let below = [
            entry("./", Kind::Dir, ""),
            entry("./a/", Kind::Dir, ""),
            entry("a/old", Kind::File, ""),
            entry("b/gone", Kind::File, ""),
            entry("b/gone/er", Kind::File, ""),
            entry("l", Kind::Symlink, "/m"),
            entry("m", Kind::Symlink, "a"),
            entry("loop", Kind::Symlink, "loop"),
        ];
        let above = [
            entry("a/new", Kind::File, ""),
            entry("a/again", Kind::Hardlink, "a/new"),
            entry("a/.wh..wh..opq", Kind::File, ""),
            entry("b/.wh.gone", Kind::File, ""),
        ];
        files.apply(0, &below);
        files.apply(1, &above);
        let shown: Vec<_> = files.paths().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        assert_eq!(shown, ["a", "a/again", "a/new", "l", "loop", "m"]);
        assert_eq!(files.get("/l/new").map(|file| &file.inode), files.get("/a/again").map(|file| &file.inode));
        assert_eq!(files.get("/l").map(|file| file.header.kind), Some(Kind::Symlink));
        assert_eq!(files.resolve("/l/../a/./new"), Some(b"a/new".to_vec()));
        assert!(files.get("/loop/x").is_none() && files.get("/b/gone").is_none());
        assert!(files.has_below(b"a") && !files.has_below(b"b"));
    }
}
