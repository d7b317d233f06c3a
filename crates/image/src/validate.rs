//! Does an image hold together? Everything is computed again and compared; all mismatches are told, not the first.
//!
//! Documents and what the caller found when it read the layers go in, [`Mismatch`]es come out. Nothing is read here.

use crate::config::parse_config;
use crate::digest::{DiffId, Digest, Hasher};
use crate::limits;
use crate::manifest::{Descriptor, Document};

/// What the caller found in a layer's blob; `None` for what it did not look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerFound {
    /// The blob's digest.
    pub digest: Option<Digest>,
    /// The blob's length.
    pub size: Option<u64>,
    /// The digest of the uncompressed tar.
    pub diff_id: Option<DiffId>,
}

/// An image to be checked.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What pointed to the manifest, if anything did.
    pub descriptor: Option<&'a Descriptor>,
    /// The manifest.
    pub manifest: &'a [u8],
    /// The configuration.
    pub config: &'a [u8],
    /// The layers as found, lowest first; may be shorter than the image's list, or empty.
    pub layers: &'a [LayerFound],
}

/// Two things that should agree and do not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Not what the digest says.
    #[error("{what} should have the digest {said}, but has {found}")]
    Digest {
        /// The document or layer.
        what: String,
        /// Declared.
        said: Digest,
        /// Computed.
        found: Digest,
    },
    /// Not as long as declared.
    #[error("{what} should have {said} bytes, but has {found}")]
    Size {
        /// The document or layer.
        what: String,
        /// Declared.
        said: u64,
        /// Counted.
        found: u64,
    },
    /// Cannot be read at all.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// The document.
        what: &'static str,
        /// Why, with all causes.
        why: String,
    },
    /// Manifest and configuration disagree.
    #[error("manifest has {layers} layers, but the configuration lists {diff_ids} diff ids")]
    DiffIdCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// The history does not account for the layers.
    #[error("history tells of {history} layers, but the configuration lists {diff_ids} diff ids")]
    HistoryCount {
        /// Entries that made a layer.
        history: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// More layers were found than there should be.
    #[error("{found} layers were found, but the manifest has {layers}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// By the caller.
        found: usize,
    },
    /// The tar inside a layer is another.
    #[error("layer {layer} should unpack to {said}, but unpacks to {found}")]
    DiffId {
        /// Counted from 0.
        layer: usize,
        /// In the configuration.
        said: DiffId,
        /// Computed.
        found: DiffId,
    },
    /// `rootfs.type` is not `layers`.
    #[error("root file system is of the type `{}`, not `layers`", kind.escape_debug())]
    RootFsType {
        /// As declared.
        kind: String,
    },
    /// A blob in the layer list that is no layer.
    #[error("layer {layer} has the media type `{}`, which is no layer's", kind.escape_debug())]
    LayerType {
        /// Counted from 0.
        layer: usize,
        /// As declared.
        kind: String,
    },
    /// Operating system or processor in the index and in the image differ.
    #[error("image is for {found}, but was listed as {said}")]
    Platform {
        /// In the descriptor.
        said: String,
        /// In the configuration.
        found: String,
    },
    /// More than any engine takes.
    #[error("image has {layers} layers, over the limit of {}", limits::LAYERS)]
    TooManyLayers {
        /// In the configuration.
        layers: usize,
    },
}

/// All that does not agree; empty for a sound image.
pub fn validate(image: Candidate<'_>) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let declared = image.descriptor.map(|descriptor| descriptor.media_type.as_str());
    if let Some(descriptor) = image.descriptor {
        compare_blob(&mut found, "manifest", descriptor, image.manifest);
    }
    let manifest = match Document::parse(image.manifest, declared) {
        Ok(Document::Manifest(manifest)) => Some(manifest),
        Ok(Document::Index(_)) => {
            found.push(Mismatch::Unreadable { what: "manifest", why: "it is an index of several images".into() });
            None
        }
        Err(error) => {
            found.push(Mismatch::Unreadable { what: "manifest", why: chain(&error) });
            None
        }
    };
    if let Some(manifest) = &manifest {
        compare_blob(&mut found, "configuration", &manifest.config, image.config);
        compare_layers(&mut found, &manifest.layers, image.layers);
    }
    let config = match parse_config(image.config) {
        Ok(config) => config,
        Err(error) => {
            found.push(Mismatch::Unreadable { what: "configuration", why: chain(&error) });
            return found;
        }
    };
    let diff_ids = &config.rootfs.diff_ids;
    if config.rootfs.kind != "layers" {
        found.push(Mismatch::RootFsType { kind: config.rootfs.kind.chars().take(200).collect() });
    }
    if diff_ids.len() > limits::LAYERS {
        found.push(Mismatch::TooManyLayers { layers: diff_ids.len() });
    }
    if let Some(layers) = manifest.as_ref().map(|manifest| manifest.layers.len())
        && layers != diff_ids.len()
    {
        found.push(Mismatch::DiffIdCount { layers, diff_ids: diff_ids.len() });
    }
    // A history may be left out, but not be wrong.
    let history = config.history.iter().filter(|entry| !entry.empty_layer).count();
    if !config.history.is_empty() && history != diff_ids.len() {
        found.push(Mismatch::HistoryCount { history, diff_ids: diff_ids.len() });
    }
    for (layer, (said, seen)) in diff_ids.iter().zip(image.layers).enumerate() {
        if let Some(seen) = seen.diff_id.as_ref().filter(|seen| *seen != said) {
            found.push(Mismatch::DiffId { layer, said: said.clone(), found: seen.clone() });
        }
    }
    if let Some(said) = image.descriptor.and_then(|descriptor| descriptor.platform.as_ref())
        && !said.accepts(&config.platform())
    {
        found.push(Mismatch::Platform { said: said.to_string(), found: config.platform().to_string() });
    }
    found
}

fn compare_blob(found: &mut Vec<Mismatch>, what: &str, said: &Descriptor, bytes: &[u8]) {
    let mut hasher = Hasher::new(said.digest.algorithm());
    hasher.update(bytes);
    compare(found, what, said, Some(&hasher.finish()), Some(bytes.len() as u64));
}

fn compare(found: &mut Vec<Mismatch>, what: &str, said: &Descriptor, digest: Option<&Digest>, size: Option<u64>) {
    if let Some(digest) = digest.filter(|digest| **digest != said.digest) {
        found.push(Mismatch::Digest { what: what.into(), said: said.digest.clone(), found: digest.clone() });
    }
    if let Some(size) = size.filter(|size| *size != said.size) {
        found.push(Mismatch::Size { what: what.into(), said: said.size, found: size });
    }
}

fn compare_layers(found: &mut Vec<Mismatch>, layers: &[Descriptor], seen: &[LayerFound]) {
    if seen.len() > layers.len() {
        found.push(Mismatch::LayerCount { layers: layers.len(), found: seen.len() });
    }
    for (layer, said) in layers.iter().enumerate() {
        if crate::compress::of_media_type(&said.media_type).is_none() {
            found.push(Mismatch::LayerType { layer, kind: said.media_type.chars().take(200).collect() });
        }
    }
    for (number, (said, seen)) in layers.iter().zip(seen).enumerate() {
        compare(found, &format!("layer {number}"), said, seen.digest.as_ref(), seen.size);
    }
}

/// An error and its causes in one line: a mismatch is a value without a source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::sample;
    use crate::image::{Image, ImageError};
    use crate::manifest::media_type;

    fn check(image: &Image, layers: &[LayerFound]) -> Vec<Mismatch> {
        let descriptor = image.descriptor();
        let (manifest, config) = (&image.manifest_bytes, &image.config_bytes);
        validate(Candidate { descriptor: Some(&descriptor), manifest, config, layers })
    }

    #[test]
    fn a_sound_image_has_no_mismatch() -> Result<(), ImageError> {
        let image = sample(&[media_type::LAYER, media_type::LAYER_GZIP])?;
        assert_eq!(check(&image, &[]), []);
        let found = image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids).map(|(layer, diff_id)| {
            LayerFound { digest: Some(layer.digest.clone()), size: Some(layer.size), diff_id: Some(diff_id.clone()) }
        });
        assert_eq!(check(&image, &found.collect::<Vec<_>>()), []);
        Ok(())
    }

    #[test]
    fn all_mismatches_are_told() {
        let mut image = sample(&[media_type::LAYER, media_type::LAYER_GZIP]).unwrap();
        image.manifest.config.size += 1;
        image.manifest.layers.push(Descriptor::new("text/plain", Digest::of(b""), 0));
        image.config.history.push(crate::History::default());
        image.config.rootfs.kind = "other".into();
        image.config.architecture = "arm64".into();
        image.config_bytes = serde_json::to_vec(&image.config).unwrap();
        image.manifest_bytes = serde_json::to_vec(&image.manifest).unwrap();
        let mut descriptor = image.descriptor();
        descriptor.platform = Some("linux/amd64".parse().unwrap());
        descriptor.digest = Digest::of(b"another");
        descriptor.size = 1;
        let wrong =
            LayerFound { digest: Some(Digest::of(b"x")), size: Some(1), diff_id: Some(DiffId(Digest::of(b"x"))) };
        let found = validate(Candidate {
            descriptor: Some(&descriptor),
            manifest: &image.manifest_bytes,
            config: &image.config_bytes,
            layers: &[wrong],
        });
        let kinds: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 12, "{kinds:#?}");
    }

    #[test]
    fn unreadable_documents_are_told() {
        let unreadable = |manifest: &[u8], config: &[u8]| {
            let found = validate(Candidate { descriptor: None, manifest, config, layers: &[] });
            found.iter().filter(|one| matches!(one, Mismatch::Unreadable { .. })).count()
        };
        assert_eq!(unreadable(b"{}", b"["), 2);
        assert_eq!(unreadable(br#"{"schemaVersion":2,"manifests":[]}"#, b"{}"), 1);
    }
}
