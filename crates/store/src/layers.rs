//! What is known of layers whose tar has passed through our hands: sizes, the blobs that hold them, their path index,
//! facts about their files; and the verdict on an image of them.
//!
//! Keyed by diff id, verdicts by image id. All these records are derived: they can be made again from blobs.

use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use kuz_image::{DiffId, Digest, ImageId, LayerIndex};

use crate::Store;
use crate::error::StoreError;
use crate::records::{Refs, record_path};

/// The kind of [`LayerRecord`]s.
pub(crate) const LAYER: &str = "layer";
/// The kind of path indexes.
pub(crate) const INDEX: &str = "index";
/// The kind of what passes over layers found in their files.
pub(crate) const CONTENTS: &str = "contents";

/// The kind of facts about a layer's files.
pub(crate) const FACTS: &str = "facts";
/// The kind of what the checks can see of a layer, as digests.
pub(crate) const IMPRINT: &str = "imprint";
/// The kind of verdicts on images.
pub(crate) const VERDICT: &str = "verdict";

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Which layer.
    pub diff_id: DiffId,
    /// Bytes of its uncompressed tar.
    pub bytes: u64,
    /// The forms in which the store has it.
    pub blobs: Vec<LayerBlob>,
}

/// A form of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlob {
    /// The blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Says how it is compressed.
    pub media_type: String,
}

impl Store {
    /// What is known of a layer.
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<LayerRecord>, StoreError> {
        self.get_json(LAYER, &diff_id.to_string())
    }

    /// Remembers a layer. Forms that are known already are kept beside the new ones.
    pub fn record_layer(&self, record: &LayerRecord) -> Result<(), StoreError> {
        let mut merged = record.clone();
        if let Some(known) = self.layer(&record.diff_id)? {
            for blob in known.blobs {
                // A form that has gone (damaged, removed) is forgotten with the next that comes.
                if !merged.blobs.iter().any(|have| have.digest == blob.digest) && self.blob_exists(&blob.digest)? {
                    merged.blobs.push(blob);
                }
            }
        }
        let refs = Refs { blobs: merged.blobs.iter().map(|blob| blob.digest.clone()).collect(), ..Refs::default() };
        self.put_json(LAYER, &record.diff_id.to_string(), &merged, &refs)
    }

    /// A layer's path index.
    pub fn index(&self, diff_id: &DiffId) -> Result<Option<Arc<LayerIndex>>, StoreError> {
        if let Some(index) = self.indexes.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id) {
            return Ok(Some(Arc::clone(index)));
        }
        let bytes = self.get(INDEX, &diff_id.to_string())?;
        let Some(index) = bytes.and_then(|bytes| LayerIndex::from_bytes(&bytes).ok()) else { return Ok(None) };
        Ok(Some(self.keep_index(diff_id, Arc::new(index))))
    }

    /// Whether there is a record of a layer's path index; [`Store::index`] may still find that it is damaged.
    pub fn has_index(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        if self.indexes.lock().unwrap_or_else(PoisonError::into_inner).contains_key(diff_id) {
            return Ok(true);
        }
        Ok(self.disk.stat(&record_path(INDEX, &diff_id.to_string()))?.is_some())
    }

    /// Remembers a layer's path index.
    pub fn record_index(&self, diff_id: &DiffId, index: LayerIndex) -> Result<Arc<LayerIndex>, StoreError> {
        self.put(INDEX, &diff_id.to_string(), &index.to_bytes())?;
        Ok(self.keep_index(diff_id, Arc::new(index)))
    }

    /// Facts about a layer's files, in whatever form they were recorded.
    pub fn facts(&self, diff_id: &DiffId) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(FACTS, &diff_id.to_string())
    }

    /// Remembers facts about a layer's files, for as long as the layer is needed.
    pub fn record_facts(&self, diff_id: &DiffId, facts: &[u8]) -> Result<(), StoreError> {
        self.put(FACTS, &diff_id.to_string(), facts)
    }

    /// What the checks can see of a layer, in whatever form it was recorded.
    pub fn imprint(&self, diff_id: &DiffId) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(IMPRINT, &diff_id.to_string())
    }

    /// Whether there is one, though a power cut may have damaged it.
    pub fn has_imprint(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        Ok(self.disk.stat(&record_path(IMPRINT, &diff_id.to_string()))?.is_some())
    }

    /// Remembers that. It goes with the layer.
    pub fn record_imprint(&self, diff_id: &DiffId, imprint: &[u8]) -> Result<(), StoreError> {
        self.put(IMPRINT, &diff_id.to_string(), imprint)
    }

    /// What was found out about an image.
    pub fn verdict(&self, image: &ImageId) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(VERDICT, &image.to_string())
    }

    /// Remembers what was found out about an image, for as long as its configuration is here.
    pub fn record_verdict(&self, image: &ImageId, verdict: &[u8]) -> Result<(), StoreError> {
        let refs = Refs { blobs: vec![image.0.clone()], ..Refs::default() };
        self.put_with(VERDICT, &image.to_string(), verdict, &refs)
    }

    /// What a pass over a layer found in its files, in a form that is its finder's own.
    pub fn contents(&self, diff_id: &DiffId) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(CONTENTS, &diff_id.to_string())
    }

    /// Remembers that. It goes with the layer.
    pub fn record_contents(&self, diff_id: &DiffId, bytes: &[u8]) -> Result<(), StoreError> {
        self.put(CONTENTS, &diff_id.to_string(), bytes)
    }

    fn keep_index(&self, diff_id: &DiffId, index: Arc<LayerIndex>) -> Arc<LayerIndex> {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(indexes.entry(diff_id.clone()).or_insert(index))
    }
}
