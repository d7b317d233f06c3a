//! A whole image: its configuration and manifest, as bytes and as values.
//!
//! Made from a configuration and layer descriptors, or read from the two documents. The bytes are what the digests are
//! of, so they are kept as they came; layers themselves are only pointed to.

use crate::config::{ConfigError, ImageConfig, parse_config};
use crate::digest::{Digest, ImageId};
use crate::limits;
use crate::manifest::{Descriptor, Document, Manifest, ManifestError, media_type};

/// An image.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// What [`Image::id`] is the digest of.
    pub config_bytes: Vec<u8>,
    /// The same, read.
    pub config: ImageConfig,
    /// What [`Image::digest`] is the digest of.
    pub manifest_bytes: Vec<u8>,
    /// The same, read.
    pub manifest: Manifest,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The configuration cannot be used.
    #[error("read image configuration {digest}")]
    Config {
        /// Its address.
        digest: Digest,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// The manifest cannot be used.
    #[error("read image manifest {digest}")]
    Manifest {
        /// Its address.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// An index where one image is wanted.
    #[error("{digest} is an index of several images, not one image")]
    IsIndex {
        /// Its address.
        digest: Digest,
    },
    /// A document cannot be written.
    #[error("write image {what}")]
    Write {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A written document is over the limit of registries.
    #[error("image {what} of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Which one.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A layer is of a kind that has no place in an OCI image.
    #[error("layer {digest} has the media type `{}`, which is no layer's", kind.escape_debug())]
    LayerType {
        /// Its address.
        digest: Digest,
        /// As declared.
        kind: String,
    },
    /// The configuration and the manifest count layers differently.
    #[error("image has {layers} layers, but its configuration lists {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
}

impl Image {
    /// An OCI image of this configuration and these layers, lowest first. Docker's media types become OCI's: one image
    /// must not mix them.
    pub fn new(config: ImageConfig, layers: &[Descriptor]) -> Result<Self, ImageError> {
        if config.rootfs.diff_ids.len() != layers.len() {
            return Err(ImageError::LayerCount { layers: layers.len(), diff_ids: config.rootfs.diff_ids.len() });
        }
        let layers = layers.iter().map(oci_layer).collect::<Result<Vec<_>, _>>()?;
        let config_bytes = write("configuration", &config, limits::CONFIG_BYTES)?;
        let pointer = Descriptor::new(media_type::CONFIG, Digest::of(&config_bytes), config_bytes.len() as u64);
        let manifest = Manifest::new(pointer, layers);
        let manifest_bytes = write("manifest", &manifest, limits::MANIFEST_BYTES)?;
        Ok(Self { config_bytes, config, manifest_bytes, manifest })
    }

    /// Reads an image's two documents. `declared` is the manifest's media type, if known. Whether they belong together
    /// is for [`crate::validate`] to say.
    pub fn parse(manifest_bytes: Vec<u8>, declared: Option<&str>, config_bytes: Vec<u8>) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Manifest { digest: Digest::of(&manifest_bytes), source };
        let manifest = match Document::parse(&manifest_bytes, declared).map_err(failed)? {
            Document::Manifest(manifest) => *manifest,
            Document::Index(_) => return Err(ImageError::IsIndex { digest: Digest::of(&manifest_bytes) }),
        };
        let config = parse_config(&config_bytes)
            .map_err(|source| ImageError::Config { digest: Digest::of(&config_bytes), source })?;
        Ok(Self { config_bytes, config, manifest_bytes, manifest })
    }

    /// The digest of the configuration.
    pub fn id(&self) -> ImageId {
        ImageId(Digest::of(&self.config_bytes))
    }

    /// The digest of the manifest: what a registry knows the image by.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest_bytes)
    }

    /// A pointer to the manifest, with the platform, for an index.
    pub fn descriptor(&self) -> Descriptor {
        let kind = self.manifest.media_type.as_deref().unwrap_or(media_type::MANIFEST);
        let mut pointer = Descriptor::new(kind, self.digest(), self.manifest_bytes.len() as u64);
        pointer.platform = Some(self.config.platform());
        pointer
    }

    /// The size that engines show: the sum of the layers' uncompressed lengths, given lowest first. `None` where there
    /// are not as many as the image has layers, or they overflow.
    pub fn size(&self, uncompressed: &[u64]) -> Option<u64> {
        if uncompressed.len() != self.config.rootfs.diff_ids.len() {
            return None;
        }
        uncompressed.iter().try_fold(0_u64, |sum, &bytes| sum.checked_add(bytes))
    }

    /// What a registry stores for it: manifest, configuration and layers as they are compressed.
    pub fn transfer_size(&self) -> u64 {
        let documents = (self.manifest_bytes.len() + self.config_bytes.len()) as u64;
        self.manifest.layers.iter().fold(documents, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// A layer's descriptor as it stands in an OCI manifest: Docker's media types translated, everything else kept.
pub fn oci_layer(layer: &Descriptor) -> Result<Descriptor, ImageError> {
    let kind = match layer.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD => media_type::LAYER_ZSTD,
        media_type::DOCKER_FOREIGN_LAYER_GZIP => media_type::FOREIGN_LAYER_GZIP,
        kind if crate::compress::of_media_type(kind).is_some() => kind,
        kind => {
            let kind = kind.chars().take(200).collect();
            return Err(ImageError::LayerType { digest: layer.digest.clone(), kind });
        }
    };
    let mut layer = layer.clone();
    kind.clone_into(&mut layer.media_type);
    Ok(layer)
}

fn write(what: &'static str, document: &impl serde::Serialize, limit: usize) -> Result<Vec<u8>, ImageError> {
    let bytes = serde_json::to_vec(document).map_err(|source| ImageError::Write { what, source })?;
    if bytes.len() > limit { Err(ImageError::TooLarge { what, bytes: bytes.len(), limit }) } else { Ok(bytes) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::RootFs;
    use crate::digest::DiffId;

    /// An image with these layers (their media types), numbered from 0.
    pub(crate) fn sample(kinds: &[&str]) -> Result<Image, ImageError> {
        let diff_ids = (0..kinds.len()).map(|number| DiffId(Digest::of(format!("tar {number}").as_bytes())));
        let config = ImageConfig {
            architecture: "amd64".into(),
            os: "linux".into(),
            rootfs: RootFs { diff_ids: diff_ids.collect(), ..RootFs::default() },
            ..ImageConfig::default()
        };
        let layer = |(number, kind): (usize, &&str)| {
            Descriptor::new(kind, Digest::of(format!("blob {number}").as_bytes()), number as u64 + 100)
        };
        Image::new(config, &kinds.iter().enumerate().map(layer).collect::<Vec<_>>())
    }

    #[test]
    fn docker_types_become_oci_types() {
        use media_type::{DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, LAYER, LAYER_GZIP, LAYER_ZSTD};
        let image = sample(&[DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, LAYER]).unwrap();
        let kinds: Vec<&str> = image.manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        assert_eq!(kinds, [LAYER, LAYER_GZIP, LAYER_ZSTD, LAYER]);
        assert_eq!(image.manifest.config.media_type, media_type::CONFIG);
        assert!(matches!(sample(&["text/plain"]), Err(ImageError::LayerType { .. })));
        let config = ImageConfig::default();
        let layer = Descriptor::new(LAYER, Digest::of(b""), 0);
        assert!(matches!(Image::new(config, &[layer]), Err(ImageError::LayerCount { .. })));
    }

    #[test]
    fn an_image_reads_back_and_is_sized() {
        let image = sample(&[media_type::LAYER_GZIP, media_type::LAYER]).unwrap();
        let back = Image::parse(image.manifest_bytes.clone(), None, image.config_bytes.clone()).unwrap();
        assert_eq!(back, image);
        assert_eq!(image.id().0, image.manifest.config.digest);
        assert_eq!(image.size(&[5, 7]), Some(12));
        assert_eq!(image.size(&[5]), None);
        assert_eq!(image.size(&[u64::MAX, 1]), None);
        let documents = image.manifest_bytes.len() + image.config_bytes.len();
        assert_eq!(image.transfer_size(), documents as u64 + 201);
        assert_eq!(image.descriptor().platform.unwrap().to_string(), "linux/amd64");
    }
}
