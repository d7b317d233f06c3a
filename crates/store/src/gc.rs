//! Pruning: what no image and no recent record refers to is deleted.
//!
//! With the store for itself (builds hold a shared lease), prune marks from the tags and from the records that are to
//! be kept, then takes away, in this order: names, records, blobs, trees, so that nothing that counts refers to what
//! is gone. Trees that a running command stands on stay, whatever refers to them. Deleting records and blobs needs no space, so it works on a full disk. Trees are renamed; a worker deletes
//! them, whenever one next runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::fs::FileType;

use kuz_image::{Descriptor, DiffId, Digest, Document, ImageConfig, limits};

use crate::Store;
use crate::blobs::BLOB;
use crate::census::{BlobFile, RecordFile, Tally, all_blobs, all_records, tree_records};
use crate::documents::document;
use crate::error::StoreError;
use crate::images::{ImageError, REF_NAME};
use crate::layers::{CONTENTS, FACTS, IMPRINT, INDEX, LAYER, VERDICT};
use crate::names::{NAMES, TAG, key_of};
use crate::records::Header;
use crate::trees::{self, TREE, TreeName, is_trash, record_key};

/// Indexes in indexes: the deepest that is followed.
const DEPTH: usize = 3;

/// What may be deleted. The default deletes what nothing refers to, and images without a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// The whole cache too: everything but tagged images.
    pub all: bool,
    /// Of the cache, what was used least recently, until blobs and trees take no more than this.
    pub keep_bytes: Option<u64>,
    /// Of the cache, what was not used for this long.
    pub older_than: Option<Duration>,
}

/// What was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images without a tag.
    pub images: u64,
    /// Records.
    pub records: Tally,
    /// Trees; a worker must still delete their files, see [`Trees::trash`](crate::Trees::trash).
    pub trees: Tally,
    /// Blobs, the damaged ones too.
    pub blobs: Tally,
}

/// What is referred to.
#[derive(Debug, Clone, Default)]
struct Live {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<DiffId>,
    /// Names without id map.
    named_trees: BTreeSet<String>,
    /// Keys with id map: these may stay if their layer does.
    spared_trees: BTreeSet<String>,
}

/// Whether a record is kept only for what it describes, not for itself.
fn is_derived(header: &Header) -> bool {
    matches!(
        header.kind.as_str(),
        BLOB | LAYER | INDEX | FACTS | IMPRINT | CONTENTS | VERDICT | TREE | TAG | NAMES | "idmap"
    )
}

impl Live {
    /// Adds what the tagged images refer to.
    fn add_image(&mut self, store: &Store, pointer: &Descriptor, depth: usize) -> Result<(), ImageError> {
        self.blobs.insert(pointer.digest.clone());
        match document(store, pointer)? {
            Some((_, Document::Manifest(manifest))) => {
                self.blobs.insert(manifest.config.digest.clone());
                self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
                // A configuration over the limit was not made by anybody serious; its layers are kept as blobs.
                let config = store.read_blob(&manifest.config.digest, limits::CONFIG_BYTES).unwrap_or_default();
                let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok());
                self.layers.extend(config.into_iter().flat_map(|config| config.rootfs.diff_ids));
            }
            Some((_, Document::Index(index))) if depth < DEPTH => {
                for entry in &index.manifests {
                    self.add_image(store, entry, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds what records of the cache refer to.
    fn add_cache(&mut self, cache: &[&RecordFile]) {
        for header in cache.iter().filter_map(|record| record.header.as_ref()) {
            if header.kind == TREE {
                self.spared_trees.insert(header.key.clone());
            } else {
                self.blobs.extend(header.refs.blobs.iter().cloned());
                self.layers.extend(header.refs.layers.iter().cloned());
                self.named_trees.extend(header.refs.trees.iter().cloned());
            }
        }
    }

    /// Adds the blobs of all layers.
    fn complete(&mut self, layers: &BTreeMap<&str, &Header>) {
        for layer in &self.layers {
            if let Some(header) = layers.get(layer.to_string().as_str()) {
                self.blobs.extend(header.refs.blobs.iter().cloned());
            }
        }
    }

    fn has_tree(&self, key: &str, header: &Header) -> bool {
        let name = key.split_once('/').map_or(key, |(_, name)| name);
        let of_layer = header.refs.layers.iter().any(|layer| self.layers.contains(layer));
        self.named_trees.contains(name) || (of_layer && self.spared_trees.contains(key))
    }
}

/// The store as prune finds it.
struct Scene {
    records: Vec<RecordFile>,
    blobs: Vec<BlobFile>,
    images: Live,
    names: BTreeSet<String>,
}

impl Scene {
    fn believed(&self) -> impl Iterator<Item = (&RecordFile, &Header)> {
        let believed = self.records.iter().filter(|record| record.believed);
        believed.filter_map(|record| Some((record, record.header.as_ref()?)))
    }

    /// Records that may be dropped for their age, least recently used first.
    fn cache(&self) -> Vec<&RecordFile> {
        let cached = self.believed().filter(|(_, header)| !is_derived(header) || header.kind == TREE);
        let mut cache: Vec<&RecordFile> = cached.map(|(record, _)| record).collect();
        cache.sort_by(|one, two| (one.mtime, &one.path).cmp(&(two.mtime, &two.path)));
        cache
    }

    fn live(&self, cache: &[&RecordFile]) -> Live {
        let mut live = self.images.clone();
        live.add_cache(cache);
        let layers = self.believed().filter(|(_, header)| header.kind == LAYER);
        live.complete(&layers.map(|(_, header)| (header.key.as_str(), header)).collect());
        live
    }

    fn bytes(&self, live: &Live) -> u64 {
        let has = |blob: &&BlobFile| blob.digest.as_ref().is_some_and(|digest| live.blobs.contains(digest));
        let blobs: u64 = self.blobs.iter().filter(has).map(|blob| blob.size).sum();
        let trees = tree_records(&self.records);
        let kept = trees
            .iter()
            .filter(|(key, (record, _))| record.header.as_ref().is_some_and(|header| live.has_tree(key, header)));
        blobs.saturating_add(kept.map(|(_, (_, tree))| tree.bytes).sum())
    }

    /// How many of the least recently used must go.
    fn cut(&self, cache: &[&RecordFile], policy: &Policy, now: i64) -> usize {
        if policy.all {
            return cache.len();
        }
        let oldest = policy.older_than.map(|age| now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX)));
        let mut low = oldest.map_or(0, |oldest| cache.partition_point(|record| record.mtime < oldest));
        let Some(limit) = policy.keep_bytes else { return low };
        let mut high = cache.len();
        // The more goes, the less is kept: a binary search.
        while low < high {
            let middle = low.midpoint(high);
            if self.bytes(&self.live(cache.get(middle..).unwrap_or_default())) <= limit {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Whether a record stays, now that it is known what does.
    fn keeps(&self, header: &Header, live: &Live) -> bool {
        match header.kind.as_str() {
            BLOB | VERDICT => header.refs.blobs.iter().all(|blob| live.blobs.contains(blob)),
            LAYER | INDEX | FACTS | IMPRINT | CONTENTS => {
                header.key.parse().is_ok_and(|layer| live.layers.contains(&layer))
            }
            TAG => self.names.contains(&header.key),
            _ => true,
        }
    }
}

impl Store {
    /// Deletes by policy. Waits for running builds to end, as long as the options say.
    pub fn prune(&self, policy: &Policy) -> Result<Pruned, ImageError> {
        let lease = self.lease_alone()?;
        let images = match self.drop_untagged() {
            // A full disk is why one prunes: what is in the index stays this time, the rest makes room.
            Err(ImageError::Store(StoreError::Disk(error))) if error.is_full() => 0,
            result => result?,
        };
        let mut pruned = Pruned { images, ..Pruned::default() };
        let scene = self.scene()?;
        let cache = scene.cache();
        let cut = scene.cut(&cache, policy, self.options.now);
        let (dropped, kept) = cache.split_at_checked(cut).unwrap_or_default();
        let live = scene.live(kept);
        let dropped: BTreeSet<&str> = dropped.iter().map(|record| record.path.as_str()).collect();

        self.drop_records(&scene, &live, &dropped, &mut pruned)?;
        self.drop_blobs(&scene, &live, &mut pruned)?;
        self.drop_trees(&scene, &live, &mut pruned)?;
        self.drop_cache_locks()?;
        drop(lease);
        Ok(pruned)
    }

    fn drop_untagged(&self) -> Result<u64, ImageError> {
        let lock = self.lock_index()?;
        let before = self.image_index()?;
        let mut index = before.clone();
        index.manifests.retain(|entry| entry.annotations.contains_key(REF_NAME));
        let dropped = before.manifests.len() - index.manifests.len();
        if dropped > 0 {
            self.write_index(&lock, Some(&before), index)?;
        }
        Ok(dropped as u64)
    }

    fn scene(&self) -> Result<Scene, ImageError> {
        let index = self.image_index()?;
        let mut images = Live::default();
        for entry in &index.manifests {
            images.add_image(self, entry, 0)?;
        }
        let names = index.manifests.iter().map(key_of).collect();
        Ok(Scene { records: all_records(self)?, blobs: all_blobs(self)?, images, names })
    }

    fn drop_records(
        &self,
        scene: &Scene,
        live: &Live,
        dropped: &BTreeSet<&str>,
        pruned: &mut Pruned,
    ) -> Result<(), ImageError> {
        for record in &scene.records {
            let stays = match &record.header {
                // Goes together with its tree.
                Some(header) if header.kind == TREE => true,
                Some(header) => record.believed && !dropped.contains(record.path.as_str()) && scene.keeps(header, live),
                None => false,
            };
            if !stays && self.drop_record(&record.path)? {
                pruned.records.add(record.bytes);
            }
        }
        Ok(())
    }

    fn drop_trees(&self, scene: &Scene, live: &Live, pruned: &mut Pruned) -> Result<(), ImageError> {
        let complete = tree_records(&scene.records);
        let noted = self.disk.list("tmp")?;
        let in_use = self.trees_in_use()?;
        let mut there = BTreeSet::new();
        for (ids, name) in trees::all_entries(self)? {
            let key = record_key(&ids, &name);
            let record = complete.get(key.as_str());
            let header = record.and_then(|(record, _)| record.header.as_ref());
            if is_trash(&name) {
                // Its marker was lost: a killed process between two calls.
                let marker = format!("{name}.{ids}.trash");
                if !noted.contains(&marker) {
                    self.disk.create(&format!("tmp/{marker}"), 0o600)?;
                }
            } else if in_use.contains(&(ids.clone(), name.clone()))
                || header.is_some_and(|header| live.has_tree(&key, header))
            {
                there.insert(key);
            } else if name.parse::<TreeName>().is_ok() && self.discard_tree(&ids, &name)? {
                pruned.trees.add(record.map_or(0, |(_, tree)| tree.bytes));
            }
        }
        // Records whose tree is gone: of a power cut, or of somebody who deleted it by hand.
        for record in &scene.records {
            let gone = |header: &Header| header.kind == TREE && !there.contains(&header.key);
            if record.header.as_ref().is_some_and(gone) {
                self.drop_record(&record.path)?;
            }
        }
        Ok(())
    }

    fn drop_blobs(&self, scene: &Scene, live: &Live, pruned: &mut Pruned) -> Result<(), ImageError> {
        let dead = scene.blobs.iter().filter(|blob| {
            // What is no blob is not ours to delete.
            blob.digest.as_ref().is_some_and(|digest| !live.blobs.contains(digest))
        });
        for blob in dead {
            if self.disk.unlink(&blob.path)? {
                pruned.blobs.add(blob.size);
            }
        }
        for name in self.disk.list("quarantine")? {
            let path = format!("quarantine/{name}");
            let stat = self.disk.stat(&path)?;
            // A directory or another oddity may have been put aside too: somebody must look at it.
            if let Some(stat) = stat.filter(|stat| stat.kind != FileType::Directory)
                && self.disk.unlink(&path)?
            {
                pruned.blobs.add(stat.size);
            }
        }
        Ok(())
    }
}
