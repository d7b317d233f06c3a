//! Finished stages to an image: configuration, manifest, both in the store, and the size.
//!
//! Only the target's layers take the form of tars. Deterministic: the same layers, plan and recorded times give the
//! same bytes.

use kuz_image::{Descriptor, DiffId, Digest, History, ImageConfig, ImageId, Manifest, media_type};
use kuz_plan::plan::Base;

use crate::error::BuildError;
use crate::execute::Execution;
use crate::layers::{Layer, as_oci};
use crate::schedule::Stages;

/// What the history says of every step that this program did.
pub(crate) const COMMENT: &str = "kuz";

/// A finished image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The digest of the configuration.
    pub(crate) id: ImageId,
    /// The manifest.
    pub(crate) manifest: Descriptor,
    /// Sum of the uncompressed layers; not known where some of them were never here.
    pub(crate) size: Option<u64>,
    /// Layers of the base that are not in the store. Only a build that does nothing but push leaves any.
    pub(crate) absent: Vec<Layer>,
    /// The layers, lowest first.
    pub(crate) diff_ids: Vec<DiffId>,
}

impl Execution<'_> {
    /// The image of the last stage.
    pub(crate) fn assemble(&self, done: &Stages) -> Result<Image, BuildError> {
        let (Some(stage), Some(finished)) = (self.plan.stages.last(), done.last()) else {
            return Err(BuildError::input("the Dockerfile has no stage to build"));
        };
        let mut config = ImageConfig::clone(&stage.config);
        config.rootfs.diff_ids.clear();
        let mut layers = Vec::new();
        let mut size: u64 = 0;
        let mut absent = Vec::new();
        for layer in &finished.layers {
            let (diff_id, blob) = if let Some(known) = self.unneeded(layer)? {
                absent.push(layer.clone());
                known
            } else {
                let made = self.layers.tar(layer, self.epoch())?;
                size = size.saturating_add(self.session.layer_bytes(&made.0)?);
                self.want_facts([&made.0]);
                made
            };
            config.rootfs.diff_ids.push(diff_id);
            layers.push(as_oci(&blob));
        }
        // A stage that stands on a stage has that one's steps in its history too.
        let mut chain = vec![(stage, finished)];
        let mut at = stage;
        while let Base::Stage(id) = at.base {
            let (Some(below), Some(made)) = (self.plan.stages.get(id.0), done.get(id.0)) else { break };
            chain.push((below, made));
            at = below;
        }
        config.history = chain.last().map(|(lowest, _)| lowest.config.history.clone()).unwrap_or_default();
        for (stage, made) in chain.iter().rev() {
            config.history.extend(stage.steps.iter().zip(&made.history).map(|(step, made)| History {
                created: Some(made.created.clone()),
                created_by: Some(step.created_by.clone()),
                comment: Some(COMMENT.to_owned()),
                empty_layer: !made.layer,
                ..History::default()
            }));
        }
        config.created = match self.epoch_time() {
            Some(time) => Some(time),
            None => match config.history.last().and_then(|entry| entry.created.clone()) {
                Some(time) => Some(time),
                None => Some(self.session.first_time(&Digest::of(b"empty image"))?),
            },
        };
        let encode = |error| BuildError::store("encode the image's configuration", error);
        let config_bytes = serde_json::to_vec(&config).map_err(encode)?;
        let config_digest = self.session.put_blob(&config_bytes)?;
        let described = Descriptor::new(media_type::CONFIG, config_digest.clone(), config_bytes.len() as u64);
        let mut manifest = Manifest::new(described, layers);
        manifest.annotations.clone_from(&self.request.annotations);
        let manifest_bytes = serde_json::to_vec(&manifest).map_err(encode)?;
        let manifest = self.session.put_blob(&manifest_bytes)?;
        Ok(Image {
            id: ImageId(config_digest),
            manifest: Descriptor::new(media_type::MANIFEST, manifest, manifest_bytes.len() as u64),
            size: absent.is_empty().then_some(size),
            absent,
            diff_ids: config.rootfs.diff_ids,
        })
    }

    /// A base layer that no step has needed and that the registry of a push may have already: what it is, without the
    /// layer itself.
    fn unneeded(&self, layer: &Layer) -> Result<Option<(DiffId, Descriptor)>, BuildError> {
        let Layer::Base { base, position, diff_id } = layer else { return Ok(None) };
        if !self.only_pushes() || self.is_here(layer)? {
            return Ok(None);
        }
        let blob = self.layers.expected(*base, *position)?;
        // A plain layer would have to be compressed.
        Ok(blob.filter(|blob| !crate::compressed::is_plain(blob)).map(|blob| (diff_id.clone(), blob)))
    }

    /// Brings the absent layers of an image into the store after all.
    pub(crate) fn complete(&self, image: Image) -> Result<Image, BuildError> {
        let mut bytes: u64 = 0;
        for layer in &image.absent {
            self.layers.scan(layer)?;
        }
        for diff_id in &self.session.config(&image.id)?.rootfs.diff_ids {
            bytes = bytes.saturating_add(self.session.layer_bytes(diff_id)?);
        }
        Ok(Image { size: Some(bytes), absent: Vec::new(), ..image })
    }
}
