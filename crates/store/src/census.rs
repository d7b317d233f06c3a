//! Counting everything in the store: what garbage collection, check and `du` start from.
//!
//! Reads the directories and every record's header; reads no blob and looks into no tree.

use std::collections::{BTreeMap, BTreeSet};

use kuz_image::Digest;
use kuz_image::digest::Algorithm;

use crate::Store;
use crate::caches::CACHE;
use crate::disk::DiskError;
use crate::images::ImageError;
use crate::records::{Header, RECORD_BYTES, decode, record_path};
use crate::trees::{self, TREE, TreeRecord};

/// How many, and how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Bytes in all.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What the store holds, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images, those without a tag too; their bytes are those of blobs.
    pub images: u64,
    /// Blobs.
    pub blobs: Tally,
    /// Complete trees, by what their records say.
    pub trees: Tally,
    /// Cache mounts, by what was last measured.
    pub caches: Tally,
    /// Records.
    pub records: Tally,
    /// Damaged blobs.
    pub quarantine: Tally,
    /// Trees that a worker must delete.
    pub waste: u64,
}

/// A record's file.
#[derive(Debug)]
pub(crate) struct RecordFile {
    pub(crate) path: String,
    pub(crate) mtime: i64,
    pub(crate) bytes: u64,
    /// `None`: damaged, or not where it belongs.
    pub(crate) header: Option<Header>,
    /// Whether it may be used in this boot.
    pub(crate) believed: bool,
    /// Of a tree's record.
    pub(crate) tree: Option<TreeRecord>,
}

/// A blob's file.
#[derive(Debug)]
pub(crate) struct BlobFile {
    pub(crate) path: String,
    pub(crate) size: u64,
    /// `None`: its name is no digest.
    pub(crate) digest: Option<Digest>,
}

pub(crate) fn all_records(store: &Store) -> Result<Vec<RecordFile>, DiskError> {
    let mut records = Vec::new();
    for kind in store.disk.list("meta")?.into_iter().filter(|name| name != "synced") {
        records.extend(records_of(store, &kind)?);
    }
    Ok(records)
}

/// The records of one kind.
pub(crate) fn records_of(store: &Store, kind: &str) -> Result<Vec<RecordFile>, DiskError> {
    let mut records = Vec::new();
    for shard in store.disk.list(&format!("meta/{kind}"))? {
        for name in store.disk.list(&format!("meta/{kind}/{shard}"))? {
            records.extend(read_record(store, format!("meta/{kind}/{shard}/{name}"))?);
        }
    }
    Ok(records)
}

fn read_record(store: &Store, path: String) -> Result<Option<RecordFile>, DiskError> {
    let Some((bytes, stat)) = store.disk.read(&path, RECORD_BYTES)? else { return Ok(None) };
    let read = decode(&bytes).filter(|(header, _)| record_path(&header.kind, &header.key) == path);
    let tree = read.as_ref().filter(|(header, _)| header.kind == TREE);
    let tree = tree.and_then(|(_, payload)| serde_json::from_slice(payload).ok());
    let header = read.map(|(header, _)| header);
    let believed = match &header {
        Some(header) => store.believes(&header.boot, header.generation)?,
        None => false,
    };
    Ok(Some(RecordFile { path, mtime: stat.mtime(), bytes: stat.size, header, believed, tree }))
}

pub(crate) fn all_blobs(store: &Store) -> Result<Vec<BlobFile>, DiskError> {
    let mut blobs = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512].map(Algorithm::name) {
        for name in store.disk.list(&format!("blobs/{algorithm}"))? {
            let path = format!("blobs/{algorithm}/{name}");
            if let Some(stat) = store.disk.stat(&path)? {
                blobs.push(BlobFile { path, size: stat.size, digest: format!("{algorithm}:{name}").parse().ok() });
            }
        }
    }
    Ok(blobs)
}

/// Complete trees by id map and name.
pub(crate) fn tree_records(records: &[RecordFile]) -> BTreeMap<&str, (&RecordFile, &TreeRecord)> {
    let believed = records.iter().filter(|record| record.believed);
    believed
        .filter_map(|record| Some((record.header.as_ref()?.key.as_str(), (record, record.tree.as_ref()?))))
        .collect()
}

impl Store {
    /// How much of what is in the store.
    pub fn usage(&self) -> Result<Usage, ImageError> {
        let index = self.image_index()?;
        let images: BTreeSet<&Digest> = index.manifests.iter().map(|entry| &entry.digest).collect();
        let mut usage = Usage { images: images.len() as u64, ..Usage::default() };
        for blob in all_blobs(self)? {
            usage.blobs.add(blob.size);
        }
        let records = all_records(self)?;
        for record in &records {
            usage.records.add(record.bytes);
        }
        let complete = tree_records(&records);
        let headers = records.iter().filter(|record| record.believed).filter_map(|record| record.header.as_ref());
        let caches: BTreeSet<&String> =
            headers.filter(|header| header.kind == CACHE).flat_map(|header| &header.refs.trees).collect();
        // A running step's trees are no waste; a dead one's are swept with the next lease.
        let in_use = self.trees_in_use()?;
        for (ids, name) in trees::all_entries(self)? {
            match complete.get(trees::record_key(&ids, &name).as_str()) {
                Some((_, tree)) if caches.contains(&name) => usage.caches.add(tree.bytes),
                Some((_, tree)) => usage.trees.add(tree.bytes),
                None if in_use.contains(&(ids, name)) => {}
                None => usage.waste += 1,
            }
        }
        for name in self.disk.list("quarantine")? {
            let stat = self.disk.stat(&format!("quarantine/{name}"))?;
            usage.quarantine.add(stat.map_or(0, |stat| stat.size));
        }
        Ok(usage)
    }
}
