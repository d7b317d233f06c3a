//! The OCI image layout: its file names, its marker, and images by name in its index.
//!
//! ```text
//! oci-layout                    the marker: imageLayoutVersion
//! index.json                    an index; org.opencontainers.image.ref.name names each image
//! blobs/sha256/<hex>            everything else
//! ```
//! Values only; who reads and writes the files decides how.

use serde::Deserialize;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, ManifestError, media_type};
use crate::reference::Reference;

/// The marker's name.
pub const MARKER_FILE: &str = "oci-layout";
/// The marker's content.
pub const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The index's name.
pub const INDEX_FILE: &str = "index.json";
/// The annotation that names an image in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which containerd and Docker name an image that they load.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// More than any marker has.
const MARKER_BYTES: usize = 4096;

/// Why a folder or archive is no OCI layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The marker cannot be read.
    #[error("read {MARKER_FILE}")]
    Marker(#[source] serde_json::Error),
    /// The marker is far too long.
    #[error("{MARKER_FILE} of {bytes} bytes is over the limit of {MARKER_BYTES}")]
    MarkerTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A layout of a later generation.
    #[error("image layout version `{}` is not supported (want 1.x)", version.escape_debug())]
    Version {
        /// As declared.
        version: String,
    },
    /// The index cannot be read.
    #[error("read {INDEX_FILE}")]
    Index(#[source] ManifestError),
    /// `index.json` holds one image's manifest.
    #[error("{INDEX_FILE} is no index")]
    NoIndex,
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// Checks the content of `oci-layout`.
pub fn check_marker(bytes: &[u8]) -> Result<(), LayoutError> {
    if bytes.len() > MARKER_BYTES {
        return Err(LayoutError::MarkerTooLarge { bytes: bytes.len() });
    }
    let marker: Marker = serde_json::from_slice(bytes).map_err(LayoutError::Marker)?;
    if marker.version == "1" || marker.version.starts_with("1.") {
        return Ok(());
    }
    Err(LayoutError::Version { version: marker.version.chars().take(100).collect() })
}

/// Reads `index.json`.
pub fn parse_index(bytes: &[u8]) -> Result<Index, LayoutError> {
    match Document::parse(bytes, Some(media_type::INDEX)).map_err(LayoutError::Index)? {
        Document::Index(index) => Ok(*index),
        Document::Manifest(_) => Err(LayoutError::NoIndex),
    }
}

/// The content of `index.json`.
pub fn index_bytes(index: &Index) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(index)
}

/// Where a blob stands in a layout.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The image of this name.
pub fn find<'a>(index: &'a Index, name: &str) -> Option<&'a Descriptor> {
    index.manifests.iter().find(|entry| is_named(entry, name))
}

/// Names an image: what had the name before is replaced where it stands, a new one goes to the end. `true`: the index
/// changed.
pub fn set(index: &mut Index, name: &str, mut image: Descriptor) -> bool {
    image.annotations.insert(REF_NAME.to_owned(), name.to_owned());
    let Some(at) = index.manifests.iter().position(|entry| is_named(entry, name)) else {
        index.manifests.push(image);
        return true;
    };
    // Other programs may have left the name on several entries: one stays.
    let before = index.manifests.len();
    let mut number = 0..;
    index.manifests.retain(|entry| number.next() == Some(at) || !is_named(entry, name));
    let fewer = index.manifests.len() != before;
    let Some(slot) = index.manifests.get_mut(at) else { return fewer };
    let changed = fewer || *slot != image;
    *slot = image;
    changed
}

/// Takes a name away, and the entry with it: the first that had the name, if any.
pub fn remove(index: &mut Index, name: &str) -> Option<Descriptor> {
    let removed = find(index, name).cloned();
    index.manifests.retain(|entry| !is_named(entry, name));
    removed
}

/// A descriptor named so that Docker, containerd (by full name) and OCI programs (by tag) all find it.
pub fn named(mut image: Descriptor, reference: &Reference) -> Descriptor {
    let reference = reference.clone().with_default_tag();
    image.annotations.insert(CONTAINERD_NAME.to_owned(), reference.to_string());
    image.annotations.insert(REF_NAME.to_owned(), reference.tag_or_latest().to_owned());
    image
}

fn is_named(entry: &Descriptor, name: &str) -> bool {
    entry.annotations.get(REF_NAME).is_some_and(|found| found == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &[u8]) -> Descriptor {
        Descriptor::new(media_type::MANIFEST, Digest::of(content), content.len() as u64)
    }

    fn names(index: &Index) -> Vec<(&str, u64)> {
        index.manifests.iter().map(|entry| (entry.annotations[REF_NAME].as_str(), entry.size)).collect()
    }

    #[test]
    fn images_are_set_replaced_and_removed_by_name() {
        let mut index = Index::default();
        assert!(set(&mut index, "a", image(b"1")));
        assert!(set(&mut index, "b", image(b"22")));
        assert!(!set(&mut index, "a", image(b"1")));
        assert!(set(&mut index, "a", image(b"333")));
        assert_eq!(names(&index), [("a", 3), ("b", 2)]);
        let copy = index.manifests[0].clone();
        index.manifests.push(copy);
        assert!(set(&mut index, "a", image(b"333")));
        assert_eq!(names(&index), [("a", 3), ("b", 2)]);
        assert_eq!(find(&index, "b").map(|entry| entry.size), Some(2));
        let back = parse_index(&index_bytes(&index).unwrap()).unwrap();
        assert_eq!(back, index);
        assert_eq!(remove(&mut index, "a").map(|entry| entry.size), Some(3));
        assert_eq!(remove(&mut index, "a"), None);
        assert_eq!(names(&index), [("b", 2)]);
    }

    #[test]
    fn markers_of_this_generation_are_taken() {
        assert!(check_marker(MARKER).is_ok());
        assert!(check_marker(br#"{"imageLayoutVersion":"1.1.0"}"#).is_ok());
        let long = [MARKER, &[b' '; MARKER_BYTES]].concat();
        for bad in [&b""[..], b"{}", br#"{"imageLayoutVersion":"2.0.0"}"#, br#"{"imageLayoutVersion":"10"}"#, &long] {
            assert!(check_marker(bad).is_err());
        }
        assert!(parse_index(br#"{"schemaVersion":2,"config":{},"layers":[]}"#).is_err());
    }

    #[test]
    fn names_suit_every_reader() {
        let named = named(image(b"1"), &"python".parse().unwrap());
        assert_eq!(named.annotations[CONTAINERD_NAME], "docker.io/library/python:latest");
        assert_eq!(named.annotations[REF_NAME], "latest");
    }
}
