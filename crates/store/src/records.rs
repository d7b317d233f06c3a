//! Records: small facts under a kind and a key, one file each.
//!
//! `put` writes a temporary file and renames it; `get` gives the bytes back, or nothing where there is no record, where
//! it is damaged, or where a power cut may have taken what it speaks of (see [`crate::durable`]). A lost record costs
//! time, never correctness: each can be made again. A record names what it refers to, so that garbage collection
//! needs to know no kind's content.
//!
//! ```text
//! meta/<kind>/<2 hex>/<40 hex of the key's hash>:
//!     {"version":1,"kind":…,"key":…,"boot":…,"generation":…,"refs":{…},"bytes":N}\n  payload  32 bytes of BLAKE3
//! ```

use serde::{Deserialize, Serialize};

use kuz_image::{DiffId, Digest};

use crate::Store;
use crate::disk::{DiskError, Stat};
use crate::error::StoreError;
use crate::session::hex;

/// One record: a layer's index of a million paths takes some 100 MB.
pub(crate) const RECORD_BYTES: u64 = 256 << 20;
/// A record's key.
pub(crate) const KEY_BYTES: usize = 4096;
/// A kind's name.
const KIND_BYTES: usize = 32;
/// The length of the checksum at the end.
const SUM: usize = blake3::OUT_LEN;
/// A use is noted (in the modification time) at most once in this many seconds: a no-op build writes nothing.
const TOUCH_SECONDS: i64 = 3600;

/// What a record refers to: kept for as long as the record is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refs {
    /// Blobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Digest>,
    /// Layers, with their records, indexes, blobs and trees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<DiffId>,
    /// Trees by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<String>,
}

/// What stands before a record's payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    version: u32,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) boot: String,
    pub(crate) generation: u64,
    #[serde(default)]
    pub(crate) refs: Refs,
    bytes: u64,
}

/// A step's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// When it was made, RFC 3339: goes into the image's history.
    pub created: String,
    /// The layer, where its tar was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<DiffId>,
    /// The tree, where one was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// What else the builder wants to know again.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub notes: std::collections::BTreeMap<String, String>,
}

/// The kind of step records.
pub(crate) const STEP: &str = "step";

/// The bytes of a record's file.
fn encode(header: &Header, payload: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(header)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(payload);
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    Ok(bytes)
}

/// Header and payload of a record's file; `None` if it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let newline = body.iter().position(|&byte| byte == b'\n')?;
    let (header, payload) = body.split_at_checked(newline)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    let payload = payload.get(1..)?;
    (header.version == 1 && header.bytes == payload.len() as u64).then_some((header, payload))
}

/// Where a record lies.
pub(crate) fn record_path(kind: &str, key: &str) -> String {
    let name = hex(blake3::hash(key.as_bytes()).as_bytes().get(..20).unwrap_or_default());
    format!("meta/{kind}/{}/{name}", name.get(..2).unwrap_or_default())
}

fn check_name(kind: &str, key: &str) -> Result<(), StoreError> {
    let letters = kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if kind.is_empty() || kind.len() > KIND_BYTES || !letters {
        return Err(StoreError::RecordName { name: kind.chars().take(80).collect() });
    }
    if key.is_empty() || key.len() > KEY_BYTES {
        return Err(StoreError::RecordName { name: key.chars().take(80).collect() });
    }
    Ok(())
}

impl Store {
    /// A record's content, if there is one that can be believed.
    pub fn get(&self, kind: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check_name(kind, key)?;
        let path = record_path(kind, key);
        let Some((_, payload, stat)) = self.read_record(&path, kind, key)? else { return Ok(None) };
        if self.options.now.saturating_sub(stat.mtime()) > TOUCH_SECONDS {
            // Only prune's idea of what is recent suffers if this fails.
            let _ = self.disk.touch(&path, self.options.now);
        }
        Ok(Some(payload))
    }

    fn read_record(&self, path: &str, kind: &str, key: &str) -> Result<Option<(Header, Vec<u8>, Stat)>, DiskError> {
        let Some((mut bytes, stat)) = self.disk.read(path, RECORD_BYTES)? else { return Ok(None) };
        let Some((header, payload)) = decode(&bytes) else { return Ok(None) };
        if header.kind != kind || header.key != key || !self.believes(&header.boot, header.generation)? {
            return Ok(None);
        }
        let begin = bytes.len() - SUM - payload.len();
        bytes.truncate(bytes.len() - SUM);
        bytes.drain(..begin);
        Ok(Some((header, bytes, stat)))
    }

    /// Writes a record that refers to nothing.
    pub fn put(&self, kind: &str, key: &str, payload: &[u8]) -> Result<(), StoreError> {
        self.put_with(kind, key, payload, &Refs::default())
    }

    /// Writes a record, replacing the one with this key. An equal one that is there already is left alone.
    pub fn put_with(&self, kind: &str, key: &str, payload: &[u8], refs: &Refs) -> Result<(), StoreError> {
        check_name(kind, key)?;
        if payload.len() as u64 > RECORD_BYTES / 2 {
            return Err(StoreError::RecordSize { bytes: payload.len() as u64, limit: RECORD_BYTES / 2 });
        }
        let path = record_path(kind, key);
        if let Some((header, old, _)) = self.read_record(&path, kind, key)?
            && header.refs == *refs
            && old == payload
        {
            return Ok(());
        }
        let writing = self.begin_record()?;
        let header = Header {
            version: 1,
            kind: kind.to_owned(),
            key: key.to_owned(),
            boot: self.options.boot.clone(),
            generation: writing.generation,
            refs: refs.clone(),
            bytes: payload.len() as u64,
        };
        let bytes = encode(&header, payload).map_err(|source| StoreError::Encode { kind: "any", source })?;
        let mut temp = self.temp_with(&bytes)?;
        match temp.replace(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.disk.mkdir(&format!("meta/{kind}"))?;
                self.disk.mkdir(path.rsplit_once('/').map_or("meta", |(parent, _)| parent))?;
                temp.replace(&path)?;
            }
            result => result?,
        }
        drop(writing);
        Ok(())
    }

    /// Removes a record; `false` if there was none.
    pub fn forget(&self, kind: &str, key: &str) -> Result<bool, StoreError> {
        check_name(kind, key)?;
        Ok(self.disk.unlink(&record_path(kind, key))?)
    }

    /// A record as JSON; one that does not fit its type counts as absent.
    pub(crate) fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.get(kind, key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(crate) fn put_json<T: Serialize>(
        &self,
        kind: &'static str,
        key: &str,
        value: &T,
        refs: &Refs,
    ) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|source| StoreError::Encode { kind, source })?;
        self.put_with(kind, key, &bytes, refs)
    }

    /// What a step gave the last time it ran with this key.
    pub fn step(&self, key: &str) -> Result<Option<StepRecord>, StoreError> {
        self.get_json(STEP, key)
    }

    /// Remembers what a step gave.
    pub fn record_step(&self, key: &str, record: &StepRecord) -> Result<(), StoreError> {
        let refs = Refs {
            blobs: Vec::new(),
            layers: record.diff_id.iter().cloned().collect(),
            trees: record.tree.iter().cloned().collect(),
        };
        self.put_json(STEP, key, record, &refs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_record_is_none() {
        let header = Header {
            version: 1,
            kind: "step".into(),
            key: "k".into(),
            boot: "b".into(),
            generation: 3,
            refs: Refs::default(),
            bytes: 5,
        };
        let bytes = encode(&header, b"hello").unwrap();
        assert_eq!(decode(&bytes), Some((header, b"hello".as_slice())));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert_eq!(decode(&flipped), None, "bit in byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
