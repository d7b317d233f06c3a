//! Checking the store: every blob is hashed, every record, tree and image looked at; all problems are reported.
//!
//! With `repair`, what is damaged is put aside or dropped, and what can be made again from the rest is: `index.json`
//! from the tags' records and the manifests among the blobs, `oci-layout`, fingerprints. What was dropped is fetched or
//! built anew when it is next needed. Files inside trees belong to a sandbox: a worker would have to compare them.

use std::collections::BTreeSet;

use rustix::fs::FileType;

use kuz_image::{Descriptor, Digest, Document, Index, limits};

use crate::Store;
use crate::blobs::{BLOB, blob_path};
use crate::census::{RecordFile, all_blobs, all_records};
use crate::disk::Stat;
use crate::documents::document;
use crate::durable::{SYNCED, parse_notes};
use crate::images::{self, INDEX, ImageError, REF_NAME};
use crate::layers::LAYER;
use crate::names::{TAG, is_nameless};
use crate::open::{ENTRIES, OCI_LAYOUT};
use crate::trees::{self, TREE, TreeName, is_trash, record_key};

/// Small files that are compared as a whole.
const SMALL: u64 = 1 << 20;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a path in the store, or an image's name.
    pub at: String,
    /// What.
    pub what: String,
    /// What was done about it.
    pub repaired: Option<&'static str>,
}

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Blobs hashed.
    pub blobs: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Trees found complete.
    pub trees: u64,
    /// Images found complete.
    pub images: u64,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn note(&mut self, at: &str, what: impl Into<String>, repaired: Option<&'static str>) {
        self.problems.push(Problem { at: at.to_owned(), what: what.into(), repaired });
    }
}

impl Store {
    /// Looks at everything. With `repair` it waits for running builds to end; without, builds may go on.
    pub fn check(&self, repair: bool) -> Result<Report, ImageError> {
        let _lease = if repair { self.lease_alone()? } else { self.lease()? };
        let mut report = Report::default();
        self.check_layout(repair, &mut report)?;
        // Before the blobs, whose fingerprints are renewed on the way.
        let records = all_records(self)?;
        self.check_blobs(repair, &mut report)?;
        self.check_records(repair, &records, &mut report)?;
        self.check_trees(repair, &records, &mut report)?;
        if let Some(index) = self.check_index(repair, &mut report)? {
            self.check_images(repair, &index, &mut report)?;
        }
        Ok(report)
    }

    fn check_layout(&self, repair: bool, report: &mut Report) -> Result<(), ImageError> {
        let layout = self.disk.read("oci-layout", SMALL)?;
        if layout.is_none_or(|(bytes, _)| bytes != OCI_LAYOUT.as_bytes()) {
            if repair {
                self.temp_with(OCI_LAYOUT.as_bytes())?.replace("oci-layout")?;
            }
            report.note("oci-layout", "is missing or damaged", repair.then_some("written again"));
        }
        for name in self.disk.list(".")?.iter().filter(|name| !ENTRIES.contains(&name.as_str())) {
            report.note(name, "does not belong into a store", None);
        }
        let damaged = self.disk.read(SYNCED, SMALL)?.map_or(0, |(bytes, _)| parse_notes(&bytes).1);
        if damaged > 0 {
            if repair {
                let good = self.notes_text()?;
                if good.is_empty() {
                    self.disk.unlink(SYNCED)?;
                } else {
                    self.temp_with(good.as_bytes())?.replace(SYNCED)?;
                }
            }
            report.note(SYNCED, "is damaged: records of earlier boots are dropped", repair.then_some("shortened"));
        }
        Ok(())
    }

    fn check_blobs(&self, repair: bool, report: &mut Report) -> Result<(), ImageError> {
        for blob in all_blobs(self)? {
            let Some(digest) = &blob.digest else {
                report.note(&blob.path, "has a name that is no digest", None);
                continue;
            };
            report.blobs += 1;
            report.bytes += blob.size;
            if self.is_good(&blob.path, digest)? {
                continue;
            }
            if repair && let Some(stat) = self.disk.stat(&blob.path)? {
                self.quarantine(digest, stat.ino)?;
            }
            report.note(&blob.path, "is damaged", repair.then_some("put into quarantine"));
        }
        Ok(())
    }

    /// Hashes a blob and renews its fingerprint. One that has just been removed is no problem of anybody's.
    fn is_good(&self, path: &str, digest: &Digest) -> Result<bool, ImageError> {
        let regular = |stat: Stat| stat.kind == FileType::RegularFile;
        if !self.disk.stat(path)?.is_none_or(regular) {
            return Ok(false);
        }
        let Some((file, stat)) = self.disk.open_read(path)? else { return Ok(true) };
        match self.hash_file(&file, digest) {
            Ok(true) => self.record_fingerprint(digest, &stat)?,
            Ok(false) => return Ok(false),
            // A medium that cannot read a blob is as bad as one that reads it wrongly.
            Err(error) if error.is_unreadable() => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    fn check_records(&self, repair: bool, records: &[RecordFile], report: &mut Report) -> Result<(), ImageError> {
        for record in records {
            report.records += 1;
            let what = match &record.header {
                None => Some("is damaged".to_owned()),
                // Written before a power cut and not synced: dropped as if it had never been written.
                Some(_) if !record.believed => None,
                Some(header) if matches!(header.kind.as_str(), BLOB | LAYER) => {
                    self.missing_blob(&header.refs.blobs)?.map(|digest| format!("speaks of {digest}, which is missing"))
                }
                Some(_) => None,
            };
            if repair && (what.is_some() || !record.believed) {
                self.drop_record(&record.path)?;
            }
            if let Some(what) = what {
                report.note(&record.path, what, repair.then_some("dropped"));
            }
        }
        Ok(())
    }

    fn missing_blob(&self, blobs: &[Digest]) -> Result<Option<Digest>, ImageError> {
        for digest in blobs {
            if self.disk.stat(&blob_path(digest))?.is_none() {
                return Ok(Some(digest.clone()));
            }
        }
        Ok(None)
    }

    fn check_trees(&self, repair: bool, records: &[RecordFile], report: &mut Report) -> Result<(), ImageError> {
        let entries: BTreeSet<(String, String)> = trees::all_entries(self)?.into_iter().collect();
        let keys: BTreeSet<String> = entries.iter().map(|(ids, name)| record_key(ids, name)).collect();
        let unfinished: BTreeSet<String> = self.disk.list("tmp")?.into_iter().collect();
        let being_made = |ids: &str, name: &str| {
            unfinished.iter().filter_map(|marker| crate::session::tree_of(marker)).any(|made| made == (ids, name))
        };
        for (ids, name) in &entries {
            let at = format!("trees/{ids}/{name}");
            if is_trash(name) {
                continue;
            }
            if name.parse::<TreeName>().is_err() {
                report.note(&at, "does not belong into a store", None);
            } else if self.tree_record(ids, name)?.is_some() {
                report.trees += 1;
            } else if !being_made(ids, name) {
                if repair {
                    self.discard_tree(ids, name)?;
                }
                // Recorded, but not synced before a power cut: as if it had never been made.
                let doubted = |record: &RecordFile| {
                    let key = record.header.as_ref().filter(|header| header.kind == TREE).map(|header| &header.key);
                    key == Some(&record_key(ids, name)) && !record.believed
                };
                if records.iter().any(doubted) {
                    continue;
                }
                report.note(&at, "is not complete", repair.then_some("put into the trash"));
            }
        }
        for record in records.iter().filter(|record| record.believed) {
            let Some(header) = record.header.as_ref().filter(|header| header.kind == TREE) else { continue };
            // The second look: it may have been put into the trash since the records were read.
            if !keys.contains(&header.key) && self.get(TREE, &header.key)?.is_some() {
                if repair {
                    self.drop_record(&record.path)?;
                }
                report.note(
                    &record.path,
                    format!("speaks of trees/{}, which is missing", header.key),
                    repair.then_some("dropped"),
                );
            }
        }
        Ok(())
    }

    fn check_index(&self, repair: bool, report: &mut Report) -> Result<Option<Index>, ImageError> {
        match self.image_index() {
            Ok(index) if images::is_sealed(&index) => return Ok(Some(index)),
            Ok(index) => {
                if repair {
                    let lock = self.lock_index()?;
                    self.write_index(&lock, None, index.clone())?;
                }
                let what = "was changed by another program, or is damaged";
                report.note(INDEX, what, repair.then_some("accepted as it is"));
                return Ok(Some(index));
            }
            Err(ImageError::Index(_)) => {}
            Err(error) => return Err(error),
        }
        report.note(INDEX, "is missing or damaged", repair.then_some("made again from records and blobs"));
        if !repair {
            return Ok(None);
        }
        let index = self.rebuilt_index()?;
        let lock = self.lock_index()?;
        self.write_index(&lock, None, index.clone())?;
        Ok(Some(index))
    }

    /// The tags from their records, and every other manifest among the blobs without one.
    fn rebuilt_index(&self) -> Result<Index, ImageError> {
        let mut index = images::empty_index();
        for record in all_records(self)?.into_iter().filter(|record| record.believed) {
            let Some(header) = record.header.filter(|header| header.kind == TAG) else { continue };
            if let Some(mut entry) = self.get_json::<Descriptor>(TAG, &header.key)? {
                if !is_nameless(&header.key) {
                    entry.annotations.insert(REF_NAME.to_owned(), header.key);
                }
                index.manifests.push(entry);
            }
        }
        let known: BTreeSet<Digest> = index.manifests.iter().map(|entry| entry.digest.clone()).collect();
        for blob in all_blobs(self)? {
            let Some(digest) = blob.digest.filter(|digest| !known.contains(digest)) else { continue };
            index.manifests.extend(self.manifest_among_blobs(digest, blob.size)?);
        }
        Ok(index)
    }

    fn manifest_among_blobs(&self, digest: Digest, size: u64) -> Result<Option<Descriptor>, ImageError> {
        if size > limits::MANIFEST_BYTES as u64 {
            return Ok(None);
        }
        let Some(bytes) = self.read_blob(&digest, limits::MANIFEST_BYTES)? else { return Ok(None) };
        // A configuration has neither layers nor a config with a digest, so it never passes for a manifest.
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None) else { return Ok(None) };
        let kind = manifest.media_type.as_deref().unwrap_or(kuz_image::media_type::MANIFEST);
        Ok(Some(Descriptor::new(kind, digest, size)))
    }

    /// Images with something missing. Those with a name are left to be built or pulled again; of the others nobody knows
    /// how, so a repair forgets them.
    fn check_images(&self, repair: bool, index: &Index, report: &mut Report) -> Result<(), ImageError> {
        let mut lost = BTreeSet::new();
        for entry in &index.manifests {
            let nameless = !entry.annotations.contains_key(REF_NAME);
            let dropped = (repair && nameless).then_some("dropped");
            let name = entry.annotations.get(REF_NAME).cloned().unwrap_or_else(|| entry.digest.to_string());
            match document(self, entry)? {
                Some((bytes, Document::Manifest(manifest))) => {
                    let mut needed = vec![manifest.config.digest.clone()];
                    needed.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
                    if bytes.len() as u64 != entry.size {
                        report.note(&name, "has another size than index.json says", None);
                    }
                    match self.missing_blob(&needed)? {
                        Some(digest) => {
                            report.note(&name, format!("lacks {digest}"), dropped);
                            lost.insert(&entry.digest);
                        }
                        None => report.images += 1,
                    }
                }
                Some((_, Document::Index(_))) => report.images += 1,
                None => {
                    report.note(&name, format!("lacks its manifest {}", entry.digest), dropped);
                    lost.insert(&entry.digest);
                }
            }
        }
        if repair && !lost.is_empty() {
            let lock = self.lock_index()?;
            let before = self.image_index()?;
            let mut index = before.clone();
            index.manifests.retain(|entry| entry.annotations.contains_key(REF_NAME) || !lost.contains(&entry.digest));
            self.write_index(&lock, Some(&before), index)?;
        }
        Ok(())
    }
}
