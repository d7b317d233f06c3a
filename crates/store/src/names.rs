//! The records beside `index.json`: what a name leads to, without reading all of it.
//!
//! `index.json` holds every image's name, so reading it takes longer the more images there are. A name is therefore
//! also a record of its own, and one more record notes how `index.json` looked (size, times, inode) when all these
//! records said the same as it. As long as it still looks so, the records answer; after a change by another program, a
//! kill between two writes or a power cut it does not, `index.json` is read, and the next change brings the records in
//! line again. They also make a damaged `index.json` again ([`crate::check`]).
//!
//! ```text
//! meta/tag/…        app:latest -> its manifest; @sha256:… -> a manifest that has no tag
//! meta/names/…      the fingerprint of the index.json that they agree with
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use kuz_image::reference::Reference;
use kuz_image::{Descriptor, Digest, Index};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::blobs::Fingerprint;
use crate::census::records_of;
use crate::error::StoreError;
use crate::images::{INDEX, ImageError, plain, tag_name, tag_of};
use crate::records::{KEY_BYTES, Refs, record_path};
use crate::session::Temp;

/// The kind of records that keep names.
pub(crate) const TAG: &str = "tag";
/// The kind of the one record that notes what they agree with.
pub(crate) const NAMES: &str = "names";

/// What the records agree with.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    /// In which boot they were seen to: not after a power cut.
    boot: String,
    index: Fingerprint,
}

/// The key under which an entry of the index is recorded.
pub(crate) fn key_of(entry: &Descriptor) -> String {
    tag_of(entry).map_or_else(|| nameless(&entry.digest), str::to_owned)
}

/// What keys lead to from now on; `None`: to nothing.
pub(crate) type Changes = BTreeMap<String, Option<Descriptor>>;

/// What changes from one index to another.
pub(crate) fn changes(before: &Index, after: &Index) -> Changes {
    let (before, after) = (by_key(before), by_key(after));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), None));
    let differs =
        |(key, entry): &(&String, &&Descriptor)| before.get(*key).is_none_or(|old| plain(old) != plain(entry));
    let new = after.iter().filter(differs).map(|(key, entry)| (key.clone(), Some(plain(entry))));
    gone.chain(new).collect()
}

/// The entries by key; of several with one tag, which only other programs make, the first.
fn by_key(index: &Index) -> HashMap<String, &Descriptor> {
    let mut entries = HashMap::with_capacity(index.manifests.len());
    for entry in &index.manifests {
        // Other programs may write tags that are none; nobody can ask for them.
        if tag_of(entry).is_none_or(|tag| !tag.is_empty() && tag.len() <= KEY_BYTES && !is_nameless(tag)) {
            entries.entry(key_of(entry)).or_insert(entry);
        }
    }
    entries
}

/// The key of an image without a tag. No tag begins with `@`.
pub(crate) fn nameless(manifest: &Digest) -> String {
    format!("@{manifest}")
}

/// Whether a key is that of an image without a tag.
pub(crate) fn is_nameless(key: &str) -> bool {
    key.starts_with('@')
}

impl Store {
    /// The manifest that a tag leads to.
    pub fn tagged(&self, reference: &Reference) -> Result<Option<Descriptor>, ImageError> {
        let name = tag_name(reference);
        if self.records_agree()? {
            let named = self.get_json(TAG, &name)?;
            // A record that is there and says nothing is damaged: the index knows.
            if named.is_some() || self.disk.stat(&record_path(TAG, &name))?.is_none() {
                return Ok(named);
            }
        }
        Ok(self.image_index()?.manifests.iter().find(|entry| tag_of(entry) == Some(&name)).map(plain))
    }

    /// Whether the records are known to say that all these keys lead to a manifest.
    pub(crate) fn records_name(&self, keys: &[String], manifest: &Digest) -> Result<bool, ImageError> {
        if !self.records_agree()? {
            return Ok(false);
        }
        for key in keys {
            let named: Option<Descriptor> = self.get_json(TAG, key)?;
            if named.is_none_or(|named| named.digest != *manifest) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a record's file away, damaged or not; `false` if it was gone. Without one of a name the others do not say the
    /// same as `index.json` any more.
    pub(crate) fn drop_record(&self, path: &str) -> Result<bool, StoreError> {
        if path.strip_prefix("meta/").and_then(|rest| rest.strip_prefix(TAG)).is_some_and(|rest| rest.starts_with('/'))
        {
            self.forget(NAMES, INDEX)?;
        }
        Ok(self.disk.unlink(path)?)
    }

    /// Whether `index.json` is the one with which the records agree.
    fn records_agree(&self) -> Result<bool, ImageError> {
        let Some(noted) = self.get_json::<Noted>(NAMES, INDEX)? else { return Ok(false) };
        // A power cut may have kept part of what was written since the last sync, in any order.
        let index = if noted.boot == self.options.boot { self.disk.stat(INDEX)? } else { None };
        Ok(index.is_some_and(|stat| Fingerprint::from(&stat) == noted.index))
    }

    /// Replaces `index.json` by the file in `temp`, which is on the medium and says `after`, and the records of names
    /// with it: those that changed, if it is known which, and if the records agreed until now. The caller holds its lock.
    pub(crate) fn replace_index(
        &self,
        _lock: &File,
        mut temp: Temp,
        changes: Option<Changes>,
        after: impl FnOnce() -> Result<Index, ImageError>,
    ) -> Result<(), ImageError> {
        let changes = match changes {
            Some(changes) if self.records_agree()? => changes,
            _ => self.all_changes(&after()?)?,
        };
        // First the note: what follows may end anywhere.
        self.forget(NAMES, INDEX)?;
        // Then what is gone: it must not come back when the index is made again.
        for (key, _) in changes.iter().filter(|(_, entry)| entry.is_none()) {
            self.forget(TAG, key)?;
        }
        temp.replace(INDEX)?;
        if self.options.durable {
            self.disk.sync_root()?;
        }
        for (key, entry) in changes.iter().filter_map(|(key, entry)| Some((key, entry.as_ref()?))) {
            self.put_json(TAG, key, entry, &Refs::default())?;
        }
        let stat = self.disk.stat_file(&temp.file, INDEX)?;
        let noted = Noted { boot: self.options.boot.clone(), index: Fingerprint::from(&stat) };
        self.put_json(NAMES, INDEX, &noted, &Refs::default())?;
        Ok(())
    }

    /// What makes the records say the same as an index, whatever they say now.
    fn all_changes(&self, after: &Index) -> Result<Changes, ImageError> {
        let known = records_of(self, TAG)?.into_iter().filter_map(|record| record.header);
        let mut changes: Changes = known.map(|header| (header.key, None)).collect();
        changes.extend(by_key(after).into_iter().map(|(key, entry)| (key, Some(plain(entry)))));
        Ok(changes)
    }
}
