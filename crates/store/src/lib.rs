//! The store: everything that outlives a build, in plain files, and itself a valid OCI image layout.
//!
//! ```text
//! STORE/                0700
//! ├── version           "kuznitsa store 1"
//! ├── oci-layout        so that any OCI tool can read out of it: skopeo copy oci:STORE:app:latest …
//! ├── index.json        image names                                            images.rs
//! ├── blobs/sha256/…    content by digest                                      blobs.rs
//! ├── meta/…            records: steps, layers, indexes, fingerprints, …       records.rs, layers.rs, durable.rs
//! ├── trees/<ids>/…     layers as directories; only the worker looks inside    trees.rs
//! ├── tmp/              unfinished work, and what waits for deletion           session.rs
//! ├── quarantine/       damaged blobs
//! └── lock/             kernel locks                                           lock.rs
//! ```
//! The order of writing is everywhere the same: temporary file, write, verify, rename, and only then a reference; so a
//! process may be killed at any call. All of it goes through one seam (`disk.rs`) where tests put faults in.
//! Clock and boot id come in as values. Nothing here knows registries, sandboxes or Dockerfiles.

mod blobs;
mod caches;
mod census;
mod check;
mod disk;
mod documents;
mod durable;
mod error;
mod fault;
mod gc;
mod images;
mod layers;
mod listing;
mod lock;
mod names;
mod open;
mod records;
mod session;
mod trees;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use kuz_image::{DiffId, LayerIndex};

pub use blobs::{BlobError, BlobReader, BlobWriter};
pub use caches::{CacheId, CacheLock, CachePlace, CacheRecord};
pub use census::{Tally, Usage};
pub use check::{Problem, Report};
pub use disk::DiskError;
pub use documents::Documents;
pub use error::StoreError;
pub use fault::{FaultAction, FaultPlan, FaultPlanError};
pub use gc::{Policy, Pruned};
pub use images::{Image, ImageError, Listed, Removed};
pub use layers::{LayerBlob, LayerRecord};
pub use lock::{Lease, Stop};
pub use open::{OpenError, StoreOptions};
pub use records::{Refs, StepRecord};
pub use trees::{NewTree, Pin, TreeName, TreeNameError, TreeRecord, Trees};

/// A handle on a store. Clones share everything; several processes may use one store at the same time.
#[derive(Debug, Clone)]
pub struct Store {
    path: Arc<Path>,
    disk: Arc<disk::Disk>,
    options: Arc<StoreOptions>,
    /// Begun with the first temporary file.
    session: Arc<Mutex<Option<Arc<session::Session>>>>,
    /// What is noted as synced of other boots, once it was looked up.
    synced: Arc<OnceLock<BTreeMap<String, u64>>>,
    /// Path indexes that were read or written through this handle.
    indexes: Arc<Mutex<BTreeMap<DiffId, Arc<LayerIndex>>>>,
}

impl Store {
    /// The store's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Disk calls made through this handle so far: what fault plans count.
    pub fn disk_calls(&self) -> u64 {
        self.disk.calls()
    }
}
