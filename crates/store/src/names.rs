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

use std::collections::HashMap;
use std::fs::File;

use kuz_image::reference::Reference;
use kuz_image::{Descriptor, Digest, Index};

use crate::Store;
use crate::blobs::Fingerprint;
use crate::census::records_of;
use crate::images::{INDEX, ImageError, plain, tag_name, tag_of};
use crate::records::Refs;
use crate::session::Temp;

/// The kind of records that keep names.
pub(crate) const TAG: &str = "tag";
/// The kind of the one record that notes what they agree with.
pub(crate) const NAMES: &str = "names";

/// The key under which an entry of the index is recorded.
pub(crate) fn key_of(entry: &Descriptor) -> String {
    tag_of(entry).map_or_else(|| nameless(&entry.digest), str::to_owned)
}

/// The entries by key; of several with one tag, which only other programs make, the first.
fn by_key(index: &Index) -> HashMap<String, &Descriptor> {
    let mut entries = HashMap::with_capacity(index.manifests.len());
    for entry in &index.manifests {
        entries.entry(key_of(entry)).or_insert(entry);
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
            return Ok(self.get_json(TAG, &name)?);
        }
        Ok(self.image_index()?.manifests.iter().find(|entry| tag_of(entry) == Some(&name)).map(plain))
    }

    /// Whether the records are known to say that all these keys lead to a manifest.
    pub(crate) fn records_name(&self, keys: &[String], manifest: &Digest) -> Result<bool, ImageError> {
        if keys.is_empty() || !self.records_agree()? {
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

    /// Whether `index.json` is the one with which the records agree.
    fn records_agree(&self) -> Result<bool, ImageError> {
        let Some(noted) = self.get_json::<Fingerprint>(NAMES, INDEX)? else { return Ok(false) };
        Ok(self.disk.stat(INDEX)?.is_some_and(|stat| Fingerprint::from(&stat) == noted))
    }

    /// Replaces `index.json` by the file in `temp`, which is on the medium and says `after`, and the records of names
    /// with it. `before` is what `index.json` says now; the caller holds its lock.
    pub(crate) fn replace_index(
        &self,
        _lock: &File,
        mut temp: Temp,
        before: Option<&Index>,
        after: &Index,
    ) -> Result<(), ImageError> {
        let agreed = before.filter(|_| self.records_agree().unwrap_or(false));
        // What the records say; `None`: something else than `before`, perhaps.
        let known: HashMap<String, Option<&Digest>> = match agreed {
            Some(before) => by_key(before).into_iter().map(|(key, entry)| (key, Some(&entry.digest))).collect(),
            None => {
                let headers = records_of(self, TAG)?.into_iter().filter_map(|record| record.header);
                headers.map(|header| (header.key, None)).collect()
            }
        };
        let wanted = by_key(after);
        // First the note: what follows may end anywhere.
        self.forget(NAMES, INDEX)?;
        // Then what is gone: it must not come back when the index is made again.
        for key in known.keys().filter(|key| !wanted.contains_key(*key)) {
            self.forget(TAG, key)?;
        }
        temp.replace(INDEX)?;
        if self.options.durable {
            self.disk.sync_root()?;
        }
        for (key, entry) in &wanted {
            if known.get(key) != Some(&Some(&entry.digest)) {
                self.put_json(TAG, key, &plain(entry), &Refs::default())?;
            }
        }
        let stat = self.disk.stat_file(&temp.file, INDEX)?;
        self.put_json(NAMES, INDEX, &Fingerprint::from(&stat), &Refs::default())?;
        Ok(())
    }
}
