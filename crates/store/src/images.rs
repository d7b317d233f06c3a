//! Image names: `index.json`, changed under a lock and replaced as a whole.
//!
//! An entry points to a manifest; the annotation `org.opencontainers.image.ref.name` is its tag in familiar form
//! (`app:latest`). An image that lost its last tag to another image, or never had one, stays as an entry without the
//! annotation: it is found by its id until it is removed or pruned. Removing deletes no blob; prune does.
//! Each name is also a record ([`crate::names`]): it answers without reading all names.

use std::fs::File;

use kuz_image::reference::Reference;
use kuz_image::{Descriptor, Digest, ImageId, Index};

use crate::Store;
use crate::blobs::{BlobError, Fingerprint};
use crate::disk::DiskError;
use crate::documents::image_id;
use crate::error::StoreError;
use crate::listing::Listing;
use crate::lock::{self, Mode};
use crate::names::{changes, nameless};

/// The annotation with the tag.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with the index's own checksum.
pub(crate) const SUM: &str = "io.kuznitsa.index.sum";
/// Some 40,000 images.
const INDEX_BYTES: u64 = 16 << 20;
/// Where it lies.
pub(crate) const INDEX: &str = "index.json";

/// Why an image was not found or named.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// `index.json` is missing or damaged.
    #[error("index.json of the store is missing or damaged (`kuz store check --repair` makes it again)")]
    Index(#[source] Option<serde_json::Error>),
    /// Nothing has this name, id or prefix.
    #[error("no image `{}` in the store", name.escape_debug())]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// More than one image has an id that begins so.
    #[error("`{name}` begins the ids of several images: {}", ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The ids.
        ids: Vec<String>,
    },
    /// A part of the image is missing or was damaged and put aside.
    #[error("blob {digest} of image `{}` is missing from the store: build or pull it again", name.escape_debug())]
    Incomplete {
        /// Which image.
        name: String,
        /// The blob.
        digest: Digest,
    },
    /// The manifest cannot be read.
    #[error("read manifest {digest}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: kuz_image::manifest::ManifestError,
    },
    /// The configuration cannot be read.
    #[error("read image configuration {digest}")]
    Config {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is an index of several platforms.
    #[error("{digest} is an index of several images, not an image")]
    NotAnImage {
        /// Which.
        digest: Digest,
    },
}

impl From<DiskError> for ImageError {
    fn from(error: DiskError) -> Self {
        Self::Store(error.into())
    }
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: ImageId,
    /// Its tags in familiar form, `app:latest`.
    pub tags: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
}

/// An entry of the list of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The digest of its configuration; `None` if its manifest is missing or damaged.
    pub id: Option<ImageId>,
    /// Its tags in familiar form; none: dangling.
    pub tags: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
}

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Tags that are gone.
    pub tags: Vec<String>,
    /// The image, if no name leads to it any more.
    pub image: Option<Digest>,
}

/// An index without images.
pub(crate) fn empty_index() -> Index {
    Index::default()
}

/// Whether the index is as this program wrote it.
pub(crate) fn is_sealed(index: &Index) -> bool {
    index.annotations.get(SUM) == Some(&Listing::of(index).sum())
}

/// The tag as the store writes it.
pub(crate) fn tag_name(reference: &Reference) -> String {
    format!("{}:{}", reference.familiar_name(), reference.tag_or_latest())
}

pub(crate) fn tag_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).map(String::as_str)
}

/// The pointer without what the index added.
pub(crate) fn plain(entry: &Descriptor) -> Descriptor {
    let mut plain = entry.clone();
    plain.annotations.remove(REF_NAME);
    plain
}

impl Store {
    /// Reads `index.json`.
    pub(crate) fn image_index(&self) -> Result<Index, ImageError> {
        parse_index(&self.read_index()?.0)
    }

    /// The bytes of `index.json`, and the file. As long as it is open no other file gets its inode number.
    fn read_index(&self) -> Result<(Vec<u8>, File, Fingerprint), ImageError> {
        let (file, stat) = self.disk.open_read(INDEX)?.ok_or(ImageError::Index(None))?;
        Ok((self.disk.read_file(&file, INDEX, stat.size, INDEX_BYTES)?, file, Fingerprint::from(&stat)))
    }

    pub(crate) fn lock_index(&self) -> Result<File, StoreError> {
        lock::acquire(&self.disk, lock::INDEX, Mode::Alone, &self.options)
    }

    /// Replaces `index.json`, which says `before`, under its lock.
    pub(crate) fn write_index(&self, lock: &File, before: Option<&Index>, index: Index) -> Result<(), ImageError> {
        let temp = self.temp_with(&Listing::of(&index).sealed())?;
        if self.options.durable {
            self.disk.sync_file(&temp.file, INDEX)?;
        }
        let changes = before.map(|before| changes(before, &index));
        self.replace_index(lock, temp, changes, || Ok(index))
    }

    /// Points these tags to an image whose blobs are all in the store, after one sync; without tags it is findable by its
    /// id alone. `false`: it was so already.
    pub fn set_tags(&self, references: &[Reference], manifest: &Descriptor) -> Result<bool, ImageError> {
        let names: Vec<String> = references.iter().map(tag_name).collect();
        let keys = if names.is_empty() { vec![nameless(&manifest.digest)] } else { names.clone() };
        if self.records_name(&keys, &manifest.digest)? {
            return Ok(false);
        }
        let (bytes, open, read) = self.read_index()?;
        let listing = Listing::read(&bytes).map_err(damaged)?;
        if listing.names(&names, manifest) {
            return Ok(false);
        }
        let change = |mut listing: Listing<'_>| -> Result<_, ImageError> {
            let changes = listing.point(&names, manifest).map_err(damaged)?;
            let text = listing.sealed();
            Ok((self.temp_with(&text)?, changes, text))
        };
        // Written before the sync, the new index is on the medium with everything else. It is used if nobody has changed
        // the old one meanwhile.
        let mut ready = change(listing)?;
        self.sync()?;
        let lock = self.lock_index()?;
        if self.disk.stat(INDEX)?.is_none_or(|stat| Fingerprint::from(&stat) != read) {
            ready = change(Listing::read(&self.read_index()?.0).map_err(damaged)?)?;
            if self.options.durable {
                self.disk.sync_file(&ready.0.file, INDEX)?;
            }
        }
        drop(open);
        let (temp, changes, text) = ready;
        self.replace_index(&lock, temp, Some(changes), || parse_index(&text))?;
        Ok(true)
    }

    /// [`Self::set_tags`] with one tag.
    pub fn set_tag(&self, reference: &Reference, manifest: &Descriptor) -> Result<bool, ImageError> {
        self.set_tags(std::slice::from_ref(reference), manifest)
    }

    /// Makes an image findable by its id alone. `false`: it is there already.
    pub fn add_untagged(&self, manifest: &Descriptor) -> Result<bool, ImageError> {
        self.set_tags(&[], manifest)
    }

    /// All images, in the order in which they came.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let mut images: Vec<Listed> = Vec::new();
        for entry in &self.image_index()?.manifests {
            let tags = tag_of(entry).map(str::to_owned);
            match images.iter_mut().find(|image| image.manifest.digest == entry.digest) {
                Some(image) => image.tags.extend(tags),
                None => images.push(Listed {
                    id: image_id(self, entry)?,
                    tags: tags.into_iter().collect(),
                    manifest: plain(entry),
                }),
            }
        }
        Ok(images)
    }

    /// An image by tag, `name@digest`, full id (of the image or its manifest) or a prefix of its id.
    pub fn find(&self, name: &str) -> Result<Image, ImageError> {
        let index = self.image_index()?;
        let Some(entry) = by_name(&index, name) else { return self.find_by_id(name) };
        let tags = index.manifests.iter().filter(|other| other.digest == entry.digest);
        let tags = tags.filter_map(|entry| tag_of(entry).map(str::to_owned)).collect();
        let id = image_id(self, entry)?;
        let missing = || ImageError::Incomplete { name: name.to_owned(), digest: entry.digest.clone() };
        Ok(Image { id: id.ok_or_else(missing)?, tags, manifest: plain(entry) })
    }

    fn find_by_id(&self, name: &str) -> Result<Image, ImageError> {
        let not_found = || ImageError::NotFound { name: name.to_owned() };
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
            return Err(not_found());
        }
        let mut found: Vec<Image> = Vec::new();
        for Listed { id, tags, manifest } in self.list()? {
            let Some(id) = id else { continue };
            let is_manifest = manifest.digest.hex() == prefix;
            // The same image may be there in two forms: the first will do.
            if (id.0.hex().starts_with(prefix) || is_manifest) && !found.iter().any(|image| image.id == id) {
                found.push(Image { id, tags, manifest });
            }
        }
        if found.len() > 1 {
            let ids = found.iter().map(|image| image.id.to_string()).collect();
            return Err(ImageError::Ambiguous { name: name.to_owned(), ids });
        }
        found.pop().ok_or_else(not_found)
    }

    /// Removes a tag, and with the last one the image; or, given an id, the image with all its tags. Its blobs stay
    /// until the store is pruned.
    pub fn remove(&self, name: &str) -> Result<Removed, ImageError> {
        let lock = self.lock_index()?;
        let before = self.image_index()?;
        let tag = by_name(&before, name).and_then(|entry| tag_of(entry)).map(str::to_owned);
        let digest = match by_name(&before, name) {
            Some(entry) => entry.digest.clone(),
            None => self.find_by_id(name)?.manifest.digest,
        };
        let goes = |entry: &Descriptor| match &tag {
            Some(tag) => tag_of(entry) == Some(tag),
            None => entry.digest == digest,
        };
        let mut index = before.clone();
        index.manifests.retain(|entry| !goes(entry));
        let removed = before.manifests.iter().filter(|entry| goes(entry));
        let tags = removed.filter_map(|entry| tag_of(entry).map(str::to_owned)).collect();
        let image = (!index.manifests.iter().any(|entry| entry.digest == digest)).then_some(digest);
        self.write_index(&lock, Some(&before), index)?;
        Ok(Removed { tags, image })
    }
}

fn parse_index(bytes: &[u8]) -> Result<Index, ImageError> {
    serde_json::from_slice(bytes).map_err(damaged)
}

fn damaged(error: serde_json::Error) -> ImageError {
    ImageError::Index(Some(error))
}

/// The entry that a name (not an id) leads to.
fn by_name<'a>(index: &'a Index, name: &str) -> Option<&'a Descriptor> {
    let reference: Reference = name.parse().ok()?;
    let tag = tag_name(&reference);
    let with_tag = |entry: &&Descriptor| tag_of(entry) == Some(&tag);
    match reference.digest() {
        None => index.manifests.iter().find(with_tag),
        Some(digest) => {
            let repository = format!("{}:", reference.familiar_name());
            index
                .manifests
                .iter()
                .find(|entry| entry.digest == *digest && tag_of(entry).is_some_and(|tag| tag.starts_with(&repository)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Descriptor {
        Descriptor::new("application/vnd.oci.image.manifest.v1+json", Digest::of(text.as_bytes()), 1)
    }

    #[test]
    fn the_seal_shows_any_change() {
        let mut index = empty_index();
        index.manifests.push(pointer("one"));
        let bytes = Listing::of(&index).sealed();
        let back: Index = serde_json::from_slice(&bytes).unwrap();
        assert!(is_sealed(&back));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let sealed = serde_json::from_slice::<Index>(&flipped).is_ok_and(|index| is_sealed(&index));
            assert!(!sealed, "byte {at}");
        }
    }
}
