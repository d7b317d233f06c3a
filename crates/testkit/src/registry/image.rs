//! Small images, ready to be pulled: layers from given tar bytes, a config, a manifest, and an index if wanted.

use std::io::{self, Write};

use kuz_image::digest::{DiffId, Digest};
use kuz_image::manifest::{Descriptor, Index, Manifest, media_type};
use kuz_image::platform::Platform;
use serde_json::{Value, json};

use super::state::State;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squeeze {
    /// Not at all.
    Plain,
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

/// What to put.
#[derive(Debug, Clone)]
pub struct TestImage {
    /// Uncompressed tars, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// How they are sent.
    pub squeeze: Squeeze,
    /// The platforms; more than one, or `index`, gives an index with one manifest each (same layers).
    pub platforms: Vec<Platform>,
    /// An index also for a single platform.
    pub index: bool,
    /// The `config` member of the image configuration.
    pub config: Value,
    /// Docker's media types instead of OCI's.
    pub docker: bool,
}

impl TestImage {
    /// An image of these layers for this machine's platform, gzip, OCI types, no index.
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        Self {
            layers,
            squeeze: Squeeze::Gzip,
            platforms: vec![Platform::host()],
            index: false,
            config: json!({}),
            docker: false,
        }
    }
}

/// What was put, in the order of the platforms.
#[derive(Debug, Clone)]
pub struct PutImage {
    /// What the tag names: the index's digest, else the manifest's.
    pub digest: Digest,
    /// The manifests' digests.
    pub manifests: Vec<Digest>,
    /// The configs' digests: the image ids.
    pub configs: Vec<Digest>,
    /// The layers' descriptors.
    pub layers: Vec<Descriptor>,
    /// The layers' uncompressed digests.
    pub diff_ids: Vec<DiffId>,
}

impl TestImage {
    pub(super) fn put(&self, state: &mut State, repository: &str, tag: &str) -> io::Result<PutImage> {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for tar in &self.layers {
            let bytes = squeeze(tar, self.squeeze)?;
            let size = bytes.len() as u64;
            layers.push(Descriptor::new(self.layer_type(), state.put_blob(repository, bytes), size));
            diff_ids.push(DiffId(Digest::of(tar)));
        }
        let mut put = PutImage { digest: Digest::of(b""), manifests: vec![], configs: vec![], layers, diff_ids };
        let mut index = Index::default();
        for platform in &self.platforms {
            let descriptor = self.put_one(state, repository, tag, platform, &mut put)?;
            index.manifests.push(descriptor);
        }
        put.digest = match put.manifests.as_slice() {
            [only] if !self.index => only.clone(),
            _ => {
                let kind = if self.docker { media_type::DOCKER_INDEX } else { media_type::INDEX };
                index.media_type = Some(kind.to_owned());
                state.put_manifest(repository, tag, kind, serde_json::to_vec(&index)?)
            }
        };
        Ok(put)
    }

    fn put_one(
        &self,
        state: &mut State,
        repository: &str,
        tag: &str,
        platform: &Platform,
        put: &mut PutImage,
    ) -> io::Result<Descriptor> {
        let mut config = json!({
            "architecture": platform.architecture, "os": platform.os, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": put.diff_ids},
        });
        if let (Some(variant), Some(object)) = (&platform.variant, config.as_object_mut()) {
            object.insert("variant".to_owned(), variant.as_str().into());
        }
        let bytes = serde_json::to_vec(&config)?;
        let size = bytes.len() as u64;
        let digest = state.put_blob(repository, bytes);
        put.configs.push(digest.clone());
        let kind = if self.docker { media_type::DOCKER_CONFIG } else { media_type::CONFIG };
        let mut manifest = Manifest::new(Descriptor::new(kind, digest, size), put.layers.clone());
        let kind = if self.docker { media_type::DOCKER_MANIFEST } else { media_type::MANIFEST };
        manifest.media_type = Some(kind.to_owned());
        let bytes = serde_json::to_vec(&manifest)?;
        let size = bytes.len() as u64;
        let digest = state.put_manifest(repository, tag, kind, bytes);
        put.manifests.push(digest.clone());
        Ok(Descriptor { platform: Some(platform.clone()), ..Descriptor::new(kind, digest, size) })
    }

    fn layer_type(&self) -> &'static str {
        match (self.docker, self.squeeze) {
            (false, Squeeze::Plain) => media_type::LAYER,
            (false, Squeeze::Gzip) => media_type::LAYER_GZIP,
            (false, Squeeze::Zstd) => media_type::LAYER_ZSTD,
            (true, Squeeze::Plain) => media_type::DOCKER_LAYER,
            (true, Squeeze::Gzip) => media_type::DOCKER_LAYER_GZIP,
            (true, Squeeze::Zstd) => media_type::DOCKER_LAYER_ZSTD,
        }
    }
}

fn squeeze(tar: &[u8], squeeze: Squeeze) -> io::Result<Vec<u8>> {
    match squeeze {
        Squeeze::Plain => Ok(tar.to_vec()),
        Squeeze::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar)?;
            encoder.finish()
        }
        Squeeze::Zstd => zstd::encode_all(tar, 1),
    }
}
