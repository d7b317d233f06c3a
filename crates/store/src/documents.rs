//! Reading an image's manifest and configuration out of the store, each checked against its digest.

use kuz_image::{Descriptor, Digest, Document, ImageConfig, ImageId, Manifest, limits};

use crate::Store;
use crate::blobs::BlobError;
use crate::images::ImageError;

/// An image's documents, as bytes and read.
#[derive(Debug, Clone, PartialEq)]
pub struct Documents {
    /// The manifest as stored: its digest is that of these bytes.
    pub manifest_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration as stored.
    pub config_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
}

/// The id of the image that a pointer leads to; of an index of several images its own digest. `None` if the document
/// is missing or cannot be read.
pub(crate) fn image_id(store: &Store, pointer: &Descriptor) -> Result<Option<ImageId>, ImageError> {
    Ok(match document(store, pointer)? {
        Some((_, Document::Manifest(manifest))) => Some(ImageId(manifest.config.digest)),
        Some((_, Document::Index(_))) => Some(ImageId(pointer.digest.clone())),
        None => None,
    })
}

/// The document that a pointer leads to; `None` if it is missing, damaged or none that this program knows.
pub(crate) fn document(store: &Store, pointer: &Descriptor) -> Result<Option<(Vec<u8>, Document)>, ImageError> {
    let bytes = match store.read_blob(&pointer.digest, limits::MANIFEST_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) | Err(BlobError::TooLarge { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let document = Document::parse(&bytes, Some(&pointer.media_type)).ok();
    Ok(document.map(|document| (bytes, document)))
}

impl Store {
    /// The manifest and configuration of an image.
    pub fn documents(&self, manifest: &Digest) -> Result<Documents, ImageError> {
        let missing = |digest: &Digest| ImageError::Incomplete { name: manifest.to_string(), digest: digest.clone() };
        let manifest_bytes = self.read_blob(manifest, limits::MANIFEST_BYTES)?.ok_or_else(|| missing(manifest))?;
        let document = Document::parse(&manifest_bytes, None)
            .map_err(|source| ImageError::Manifest { digest: manifest.clone(), source })?;
        let Document::Manifest(document) = document else {
            return Err(ImageError::NotAnImage { digest: manifest.clone() });
        };
        let digest = &document.config.digest;
        let config_bytes = self.read_blob(digest, limits::CONFIG_BYTES)?.ok_or_else(|| missing(digest))?;
        let config = serde_json::from_slice(&config_bytes)
            .map_err(|source| ImageError::Config { digest: digest.clone(), source })?;
        Ok(Documents { manifest_bytes, manifest: *document, config_bytes, config })
    }
}
