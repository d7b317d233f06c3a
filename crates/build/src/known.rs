//! What a session has already seen in the store, so that it does not look again: layers' records and good blobs.
//!
//! Only what is there is remembered, never what is missing. Holds for as long as the session's lease: nobody removes
//! anything before that is given up. Not for indexes and facts, which have memories of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kuz_image::{DiffId, Digest};
use kuz_store::LayerRecord;

/// Layers and blobs that were there.
#[derive(Debug, Default)]
pub(crate) struct Known {
    layers: Mutex<BTreeMap<DiffId, Arc<LayerRecord>>>,
    blobs: Mutex<BTreeSet<Digest>>,
}

impl Known {
    /// A layer's record: remembered, or what `read` finds.
    pub(crate) fn layer<E>(
        &self,
        diff_id: &DiffId,
        read: impl FnOnce() -> Result<Option<LayerRecord>, E>,
    ) -> Result<Option<Arc<LayerRecord>>, E> {
        if let Some(record) = self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id) {
            return Ok(Some(Arc::clone(record)));
        }
        let Some(record) = read()?.map(Arc::new) else { return Ok(None) };
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(diff_id.clone(), Arc::clone(&record));
        Ok(Some(record))
    }

    /// Whether a blob is there and good: remembered, or what `look` says.
    pub(crate) fn blob<E>(&self, digest: &Digest, look: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        if self.blobs.lock().unwrap_or_else(PoisonError::into_inner).contains(digest) {
            return Ok(true);
        }
        let good = look()?;
        if good {
            self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
        }
        Ok(good)
    }

    /// A layer has another record now.
    pub(crate) fn forget_layer(&self, diff_id: &DiffId) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).remove(diff_id);
    }

    /// A blob was not good after all.
    pub(crate) fn forget_blob(&self, digest: &Digest) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    /// Others may remove things from here on.
    pub(crate) fn forget(&self) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_asked_for_once_and_what_is_missing_each_time() {
        let (known, digest) = (Known::default(), Digest::of(b"a"));
        let mut asked = 0;
        let mut look = |good| {
            known.blob(&digest, || {
                asked += 1;
                Ok::<_, ()>(good)
            })
        };
        assert_eq!([look(false), look(true), look(false)], [Ok(false), Ok(true), Ok(true)]);
        assert_eq!(asked, 2);
        known.forget_blob(&digest);
        assert_eq!(known.blob(&digest, || Ok::<_, ()>(false)), Ok(false));
    }

    #[test]
    fn a_layer_with_a_new_record_is_read_again() {
        let (known, diff_id) = (Known::default(), DiffId(Digest::of(b"a")));
        let record = |bytes| LayerRecord { diff_id: diff_id.clone(), bytes, blobs: Vec::new() };
        let bytes = |bytes| {
            let read = || Ok::<_, ()>(Some(record(bytes)));
            known.layer(&diff_id, read).map(|found| found.map(|record| record.bytes))
        };
        assert_eq!([bytes(1), bytes(2)], [Ok(Some(1)), Ok(Some(1))]);
        known.forget_layer(&diff_id);
        assert_eq!(bytes(3), Ok(Some(3)));
        known.forget();
        assert_eq!(bytes(4), Ok(Some(4)));
    }
}
