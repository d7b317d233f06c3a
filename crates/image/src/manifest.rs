//! Descriptors, manifests and indexes, and telling one from the other.
//!
//! Bytes in, typed documents out; a document whose declared media type and body disagree is refused
//! (CVE-2021-41190). Pulled bytes are never written again from these types: keep the original bytes where the digest
//! matters.
//!
//! Sources: OCI image-spec 1.1 `manifest.md`, `image-index.md`; Docker's schema 2 media types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::limits;
use crate::platform::Platform;

/// Media types, by the names of their specifications.
pub mod media_type {
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, a plain tar.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, a plain tar.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// OCI layer that only its maker may hand out, a plain tar.
    pub const FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// The same, gzip.
    pub const FOREIGN_LAYER_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    /// The same, zstd.
    pub const FOREIGN_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
    /// The same, Docker's name, gzip.
    pub const DOCKER_FOREIGN_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
}

/// A pointer to a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its address.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Foreign addresses: never followed by this program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Fields that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// A pointer with nothing but the three fields that must be there.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            extra: Map::new(),
        }
    }
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// May be absent in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// OCI 1.1 artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<Descriptor>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// An OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }
}

/// A list of manifests, by platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// May be absent in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }
}

impl Index {
    /// The manifest that fits this platform best, of several the first; attestations are passed over.
    pub fn find(&self, platform: &Platform) -> Option<&Descriptor> {
        let images = self.manifests.iter().filter(|entry| !entry.annotations.contains_key("vnd.docker.reference.type"));
        let fitting = images.filter_map(|entry| Some((platform.distance(entry.platform.as_ref()?)?, entry)));
        fitting.min_by_key(|(distance, _)| *distance).map(|(_, entry)| entry)
    }
}

/// What a reference can lead to.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// Several, by platform.
    Index(Box<Index>),
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Over [`limits::MANIFEST_BYTES`].
    #[error("manifest of {bytes} bytes is over the limit of {} bytes", limits::MANIFEST_BYTES)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// No JSON, or fields missing or of the wrong kind.
    #[error("read manifest")]
    Json(#[source] serde_json::Error),
    /// Media type and body disagree, or the body is both kinds at once.
    #[error("manifest says it is {said}, but its body is {found}")]
    Ambiguous {
        /// The media type.
        said: String,
        /// The body.
        found: &'static str,
    },
    /// A kind that cannot be read (schema 1, an artifact, …).
    #[error("manifest of kind `{kind}` is not supported (want an OCI or Docker schema 2 image)")]
    Unsupported {
        /// The media type.
        kind: String,
    },
    /// More layers or manifests than [`limits`] allows.
    #[error("manifest lists {count} entries, over the limit of {limit}")]
    TooMany {
        /// Entries found.
        count: usize,
        /// Entries allowed.
        limit: usize,
    },
}

impl Document {
    /// Reads a manifest or an index. `declared` is the `Content-Type` or the descriptor's media type, if any.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > limits::MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let value: Value = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let body_type = value.get("mediaType").and_then(Value::as_str).map(str::to_owned);
        let declared = declared.map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        let is_manifest = value.get("layers").is_some() || value.get("config").is_some();
        let is_index = value.get("manifests").is_some();
        let said = body_type.or_else(|| declared.filter(|kind| kind.starts_with("application/vnd.")));
        let said = said.unwrap_or_else(|| (if is_index { media_type::INDEX } else { media_type::MANIFEST }).to_owned());
        let found = match (is_manifest, is_index) {
            (true, true) => "both a manifest and an index",
            (true, false) => "a manifest",
            (false, true) => "an index",
            (false, false) => "neither a manifest nor an index",
        };
        let ambiguous = || ManifestError::Ambiguous { said: said.clone(), found };
        match said.as_str() {
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                if !is_manifest || is_index {
                    return Err(ambiguous());
                }
                let manifest: Manifest = serde_json::from_value(value).map_err(ManifestError::Json)?;
                if manifest.layers.len() > limits::LAYERS {
                    return Err(ManifestError::TooMany { count: manifest.layers.len(), limit: limits::LAYERS });
                }
                Ok(Self::Manifest(Box::new(manifest)))
            }
            media_type::INDEX | media_type::DOCKER_INDEX => {
                if is_manifest || !is_index {
                    return Err(ambiguous());
                }
                let index: Index = serde_json::from_value(value).map_err(ManifestError::Json)?;
                if index.manifests.len() > limits::INDEX_ENTRIES {
                    return Err(ManifestError::TooMany { count: index.manifests.len(), limit: limits::INDEX_ENTRIES });
                }
                Ok(Self::Index(Box::new(index)))
            }
            _ => Err(ManifestError::Unsupported { kind: said.chars().take(200).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_one_kind_or_refused() {
        let d = format!(r#"{{"mediaType":"x","digest":"sha256:{}","size":1}}"#, "0".repeat(64));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{d}]}}"#);
        let both = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":[]}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes(), None), Ok(Document::Manifest(_))));
        assert!(matches!(Document::parse(index.as_bytes(), Some("application/json")), Ok(Document::Index(_))));
        for (body, declared) in
            [(&both, None), (&manifest, Some(media_type::INDEX)), (&index, Some(media_type::MANIFEST))]
        {
            assert!(matches!(Document::parse(body.as_bytes(), declared), Err(ManifestError::Ambiguous { .. })));
        }
        let schema1 = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(
            Document::parse(schema1.as_bytes(), Some("application/vnd.docker.distribution.manifest.v1+json")).is_err()
        );
    }
}
