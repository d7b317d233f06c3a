//! Cache mounts: trees that RUN steps write to and that stay from build to build, found by what identifies them.
//!
//! ```text
//! meta/cache-mount/…            <ids>/<id>/<slot> ─► the tree's name; keeps the tree, and goes with age like a step's record
//! lock/cache-<ids>-<id>-<slot>  held while a command has the tree mounted
//! lock/cache-<ids>-<id>-make    held while one is being made
//! ```
//! An id is a hash, so nothing that a Dockerfile says becomes part of a path. Locks are the kernel's and beside the
//! trees, never in them. Who waits, and for how long, is the caller's: it can be cancelled.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use serde::{Deserialize, Serialize};

use crate::Store;
use crate::census::all_records;
use crate::disk::DiskError;
use crate::error::StoreError;
use crate::lock::{self, Mode};
use crate::records::Refs;
use crate::session::hex;
use crate::trees::{NewTree, TreeName, TreeRecord, Trees};

/// The kind of cache records.
pub(crate) const CACHE: &str = "cache-mount";
/// What the names of their locks begin with.
const LOCKS: &str = "cache-";

/// What identifies a cache mount, hashed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheId(String);

impl CacheId {
    /// From all that tells one cache from another.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = blake3::Hasher::new();
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self(hex(hash.finalize().as_bytes().get(..20).unwrap_or_default()))
    }
}

/// What a lock of a cache is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePlace {
    /// One of the cache's trees: 0, and more for those who want one for themselves.
    Slot(u32),
    /// The making of any.
    Making,
}

/// A place in a cache, taken until this and all copies of its descriptor are closed.
#[derive(Debug)]
pub struct CacheLock(File);

impl AsFd for CacheLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<CacheLock> for std::os::fd::OwnedFd {
    fn from(lock: CacheLock) -> Self {
        lock.0.into()
    }
}

/// A cache mount's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// As its users call it.
    pub name: String,
    /// Where its files are.
    pub tree: TreeName,
}

impl Trees {
    /// Takes a place if it is free at once: with others, or alone.
    pub fn try_lock_cache(
        &self,
        id: &CacheId,
        place: CachePlace,
        alone: bool,
    ) -> Result<Option<CacheLock>, StoreError> {
        let place = match place {
            CachePlace::Slot(slot) => slot.to_string(),
            CachePlace::Making => "make".to_owned(),
        };
        let path = format!("lock/{LOCKS}{}-{}-{place}", self.ids(), id.0);
        let file = self.store().disk.open_lock(&path)?;
        let mode = if alone { Mode::Alone } else { Mode::Shared };
        Ok(lock::try_acquire(&file, &path, mode)?.then_some(CacheLock(file)))
    }

    /// The tree in a slot of a cache, if there is one.
    pub fn cache(&self, id: &CacheId, slot: u32) -> Result<Option<TreeName>, StoreError> {
        let record: Option<CacheRecord> = self.store().get_json(CACHE, &self.cache_key(id, slot))?;
        let Some(record) = record else { return Ok(None) };
        Ok(self.get(&record.tree)?.map(|_| record.tree))
    }

    /// Puts a tree that is complete into a slot.
    pub fn record_cache(&self, id: &CacheId, slot: u32, name: &str, tree: NewTree) -> Result<TreeName, StoreError> {
        let tree = self.record(tree, &TreeRecord::default())?;
        let refs = Refs { trees: vec![tree.to_string()], ..Refs::default() };
        let record = CacheRecord { name: name.chars().take(1000).collect(), tree: tree.clone() };
        self.store().put_json(CACHE, &self.cache_key(id, slot), &record, &refs)?;
        Ok(tree)
    }

    /// The trees of all caches under this id map.
    pub fn cache_trees(&self) -> Result<Vec<TreeName>, StoreError> {
        let mut trees = Vec::new();
        let prefix = format!("{}/", self.ids());
        for record in all_records(self.store())?.into_iter().filter(|record| record.believed) {
            let Some(header) = record.header.filter(|header| header.kind == CACHE) else { continue };
            if header.key.starts_with(&prefix) {
                trees.extend(header.refs.trees.iter().filter_map(|name| name.parse().ok()));
            }
        }
        Ok(trees)
    }

    /// Notes how much is in a complete tree.
    pub fn note_size(&self, name: &TreeName, files: u64, bytes: u64) -> Result<(), StoreError> {
        let Some(record) = self.get(name)? else { return Ok(()) };
        let now = TreeRecord { files, bytes, ..record.clone() };
        if now == record { Ok(()) } else { self.put_record(name, &now) }
    }

    fn cache_key(&self, id: &CacheId, slot: u32) -> String {
        format!("{}/{}/{slot}", self.ids(), id.0)
    }
}

impl Store {
    /// Removes the locks of caches. Only with the store for oneself: nobody holds one then.
    pub(crate) fn drop_cache_locks(&self) -> Result<(), DiskError> {
        for name in self.disk.list("lock")?.iter().filter(|name| name.starts_with(LOCKS)) {
            self.disk.unlink(&format!("lock/{name}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::gc::Policy;
    use crate::{Store, StoreOptions};

    use super::*;

    #[test]
    fn caches_are_found_again_locked_and_pruned() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let open = || Store::open(&path, StoreOptions::new("boot", 1_000)).unwrap();
        let store = open();
        let trees = store.trees("ids", None).unwrap();
        let id = CacheId::of(&[b"../../etc", b"x"]);
        assert_ne!(id, CacheId::of(&[b"../../etcx", b""]));
        assert_eq!(trees.cache(&id, 0).unwrap(), None);
        let tree = trees.begin().unwrap();
        let at = format!("trees/{}/{}", trees.ids(), tree.name());
        std::fs::create_dir(path.join(&at)).unwrap();
        let name = trees.record_cache(&id, 0, "../../etc", tree).unwrap();
        trees.note_size(&name, 3, 4096).unwrap();
        let again = open();
        let others = again.trees("ids", None).unwrap();
        assert_eq!(others.cache(&id, 0).unwrap(), Some(name.clone()));
        assert_eq!(others.cache(&id, 1).unwrap(), None);
        assert_eq!(others.cache_trees().unwrap(), [name]);
        let usage = store.usage().unwrap();
        assert_eq!((usage.caches.count, usage.caches.bytes, usage.trees.count, usage.waste), (1, 4096, 0, 0));

        let slot = |trees: &Trees, number, alone| trees.try_lock_cache(&id, CachePlace::Slot(number), alone).unwrap();
        let shared = (slot(&trees, 0, false), slot(&others, 0, false));
        assert!(shared.0.is_some() && shared.1.is_some() && slot(&others, 0, true).is_none());
        drop(shared);
        let alone = slot(&trees, 0, true);
        assert!(alone.is_some() && slot(&others, 0, false).is_none() && slot(&others, 1, true).is_some());
        drop(alone);

        assert_eq!(store.check(false).unwrap().problems.len(), 0);
        store.prune(&Policy::default()).unwrap();
        assert!(others.cache(&id, 0).unwrap().is_some(), "what is not asked for stays");
        store.prune(&Policy { all: true, ..Policy::default() }).unwrap();
        assert_eq!(others.cache(&id, 0).unwrap(), None);
        assert!(!path.join(at).exists());
        assert_eq!(store.disk.list("lock").unwrap().iter().filter(|name| name.starts_with(LOCKS)).count(), 0);
        assert_eq!(trees.trash().unwrap().len(), 1, "a worker removes its files");
    }
}
