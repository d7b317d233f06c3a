//! `index.json` as text, entry by entry: tags are moved without decoding all the other entries.
//!
//! In: the bytes of `index.json`. Out: its bytes after the change, with a new checksum, and what changed. A store gets an
//! entry with every build, and each of them is in the way of every later tag: here an entry costs a look at some 150 bytes.
//! Only what this program wrote itself, as its checksum shows, is taken apart as text; anything else is decoded and
//! written anew. Reading names, removing and pruning are not done here ([`crate::images`]).

use std::borrow::Cow;

use kuz_image::{Descriptor, Index};
use memchr::memmem::{self, Finder};

use crate::images::{REF_NAME, SUM, plain, tag_of};
use crate::names::{Changes, key_of, nameless};

/// Where the entries are, in every index that this program writes.
const ENTRIES: &str = "\"manifests\":[";
/// How every entry begins; a string has no bare quotes in it, so that this stands nowhere else.
const BEGIN: &str = "{\"mediaType\":";

/// An index with its entries as text.
#[derive(Debug, Clone)]
pub(crate) struct Listing<'t> {
    /// All but the entries and the checksum.
    frame: Index,
    entries: Vec<Cow<'t, str>>,
}

/// An index as JSON. It is made of strings and numbers: writing it cannot fail.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Finds a tag in entries. Tags and digests have no character that JSON would write otherwise.
fn tagged(tag: &str) -> Finder<'static> {
    Finder::new(&format!("\"{REF_NAME}\":\"{tag}\"")).into_owned()
}

/// Whether an entry leads to a manifest: its digest stands behind the media type, which has no quotes in it.
fn leads_to(entry: &str, manifest: &Descriptor) -> bool {
    let behind = entry.strip_prefix(BEGIN).and_then(|rest| rest.strip_prefix('"'));
    let behind = behind.and_then(|rest| rest.split_once('"')).map_or("", |(_, behind)| behind);
    let behind =
        behind.strip_prefix(",\"digest\":\"").and_then(|rest| rest.strip_prefix(manifest.digest.algorithm().name()));
    behind.and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| rest.starts_with(manifest.digest.hex()))
}

impl<'t> Listing<'t> {
    /// Takes `index.json` apart.
    pub(crate) fn read(bytes: &'t [u8]) -> Result<Self, serde_json::Error> {
        if let Some(listing) = Self::read_own(bytes) {
            return Ok(listing);
        }
        Ok(Self::of(&serde_json::from_slice(bytes)?))
    }

    /// An index as text, without its checksum.
    pub(crate) fn of(index: &Index) -> Self {
        let Index { schema_version, media_type, manifests, annotations, extra } = index;
        let mut annotations = annotations.clone();
        annotations.remove(SUM);
        let (media_type, extra) = (media_type.clone(), extra.clone());
        let frame = Index { schema_version: *schema_version, media_type, manifests: Vec::new(), annotations, extra };
        Self { frame, entries: manifests.iter().map(|entry| Cow::Owned(json(entry))).collect() }
    }

    /// What this program wrote, and nobody changed; `None` for all else.
    fn read_own(bytes: &'t [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let empty = Self { frame: Index::default(), entries: Vec::new() };
        let (head, tail) = empty.around();
        let sealed = text.strip_prefix(&head)?.strip_suffix("\"}}")?;
        let (entries, noted) = sealed.split_at_checked(sealed.len().checked_sub(2 * blake3::OUT_LEN)?)?;
        let entries = entries.strip_suffix(&format!("],\"annotations\":{{\"{SUM}\":\""))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(head.as_bytes()).update(entries.as_bytes()).update(tail.as_bytes());
        if hasher.finalize().to_hex().as_str() != noted {
            return None;
        }
        let starts: Vec<usize> = memmem::find_iter(entries.as_bytes(), BEGIN).collect();
        // Other objects than entries and their annotations, and lists, are other programs': those are decoded.
        let bytes = entries.as_bytes();
        let nested = |start: &usize| start.checked_sub(1).is_some_and(|before| bytes.get(before) != Some(&b','));
        let annotated = memmem::find_iter(bytes, "\"annotations\":{").count();
        let objects = memchr::memchr_iter(b'{', bytes).count();
        if objects != starts.len() + annotated || starts.iter().any(nested) || memchr::memchr(b'[', bytes).is_some() {
            return None;
        }
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([entries.len()]);
        let entries = starts.iter().zip(ends).map(|(&start, end)| entries.get(start..end).map(Cow::Borrowed));
        Some(Self { frame: empty.frame, entries: entries.collect::<Option<_>>()? })
    }

    /// What stands before and after the entries.
    fn around(&self) -> (String, String) {
        let text = json(&self.frame);
        let at = text.find(ENTRIES).map_or(text.len(), |at| at + ENTRIES.len());
        let (head, tail) = text.split_at_checked(at).unwrap_or_default();
        (head.to_owned(), tail.to_owned())
    }

    fn text(&self) -> String {
        let (mut text, tail) = self.around();
        text.reserve(self.entries.iter().map(|entry| entry.len() + 1).sum::<usize>() + tail.len());
        for (number, entry) in self.entries.iter().enumerate() {
            if number > 0 {
                text.push(',');
            }
            text.push_str(entry);
        }
        text + &tail
    }

    /// The checksum.
    pub(crate) fn sum(&self) -> String {
        blake3::hash(self.text().as_bytes()).to_hex().to_string()
    }

    /// The bytes of `index.json`, with its checksum.
    pub(crate) fn sealed(mut self) -> Vec<u8> {
        let sum = self.sum();
        self.frame.annotations.insert(SUM.to_owned(), sum);
        self.text().into_bytes()
    }

    /// The number of the first entry in which something stands, from a number on.
    fn with(&self, text: &Finder<'_>, from: usize) -> Option<usize> {
        let mut rest = self.entries.iter().enumerate().skip(from);
        rest.find(|(_, entry)| text.find(entry.as_bytes()).is_some()).map(|(at, _)| at)
    }

    fn has(&self, manifest: &Descriptor) -> bool {
        self.entries.iter().any(|entry| leads_to(entry, manifest))
    }

    /// Whether all these tags lead to this manifest; without tags, whether it is in the index.
    pub(crate) fn names(&self, tags: &[String], manifest: &Descriptor) -> bool {
        let leads = |tag: &String| {
            let entry = self.with(&tagged(tag), 0).and_then(|at| self.entries.get(at));
            entry.is_some_and(|entry| leads_to(entry, manifest))
        };
        if tags.is_empty() { self.has(manifest) } else { tags.iter().all(leads) }
    }

    /// Points tags to a manifest. What had a tag before stays, without a tag if that was its only one.
    pub(crate) fn point(&mut self, tags: &[String], manifest: &Descriptor) -> Result<Changes, serde_json::Error> {
        let mut changes = Changes::new();
        for tag in tags {
            self.take_off(tag, &mut changes)?;
            let mut entry = plain(manifest);
            entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
            self.add(&entry, &mut changes);
        }
        if tags.is_empty() && !self.has(manifest) {
            self.add(&plain(manifest), &mut changes);
        }
        // It has a name now.
        let named = Finder::new(REF_NAME);
        let before = self.entries.len();
        if !tags.is_empty() {
            self.entries.retain(|entry| !leads_to(entry, manifest) || named.find(entry.as_bytes()).is_some());
        }
        if self.entries.len() != before {
            changes.insert(nameless(&manifest.digest), None);
        }
        Ok(changes)
    }

    fn add(&mut self, entry: &Descriptor, changes: &mut Changes) {
        self.entries.push(Cow::Owned(json(entry)));
        changes.insert(key_of(entry), Some(plain(entry)));
    }

    fn take_off(&mut self, tag: &str, changes: &mut Changes) -> Result<(), serde_json::Error> {
        // Another program may have left it on several entries.
        let tagged = tagged(tag);
        let mut from = 0;
        while let Some(at) = self.with(&tagged, from) {
            from = at;
            let entry: Descriptor = serde_json::from_str(self.entries.get(at).map_or("", |entry| entry))?;
            if tag_of(&entry) != Some(tag) {
                // It stands in what another program added.
                from += 1;
                continue;
            }
            self.entries.remove(at);
            changes.insert(tag.to_owned(), None);
            if !self.has(&entry) {
                self.add(&plain(&entry), changes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::is_sealed;
    use kuz_image::Digest;

    fn pointer(text: &str) -> Descriptor {
        Descriptor::new("application/vnd.oci.image.manifest.v1+json", Digest::of(text.as_bytes()), 1)
    }

    /// Tag and manifest of each entry, after these tags were pointed to these manifests; read as text and decoded.
    fn after(start: &[u8], steps: &[(&[&str], &str)]) -> Vec<(Option<String>, Digest)> {
        let mut bytes = start.to_vec();
        for (tags, target) in steps {
            let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let mut listing = Listing::read(&bytes).unwrap();
            listing.point(&tags, &pointer(target)).unwrap();
            assert!(listing.names(&tags, &pointer(target)));
            let next = listing.sealed();
            assert!(Listing::read_own(&next).is_some() || Listing::read_own(start).is_none(), "{steps:?}");
            bytes = next;
        }
        let index: Index = serde_json::from_slice(&bytes).unwrap();
        assert!(is_sealed(&index));
        let shown = |entry: &Descriptor| (entry.annotations.get(REF_NAME).cloned(), entry.digest.clone());
        index.manifests.iter().map(shown).collect()
    }

    #[test]
    fn a_tag_moves_and_leaves_the_image_behind() {
        let empty = Listing::of(&Index::default()).sealed();
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let (app, v1) = (Some("app:latest".to_owned()), Some("app:v1".to_owned()));
        let old = Some("old:latest".to_owned());
        let mut steps: Vec<(&[&str], &str)> =
            vec![(&["app:latest"], "one"), (&["app:v1"], "one"), (&["app:latest"], "two")];
        assert_eq!(after(&empty, &steps), [(v1.clone(), one.clone()), (app.clone(), two.clone())]);
        steps.push((&["app:v1"], "two"));
        let moved = [(app.clone(), two.clone()), (None, one.clone()), (v1.clone(), two.clone())];
        assert_eq!(after(&empty, &steps), moved);
        steps.push((&["old:latest"], "one"));
        assert_eq!(after(&empty, &steps), [(app, two.clone()), (v1, two.clone()), (old, one)]);
        assert_eq!(after(&empty, &[(&[], "two"), (&[], "two")]), [(None, two)]);
    }

    #[test]
    fn what_another_program_wrote_keeps_what_it_says() {
        let foreign = br#"{"schemaVersion": 2, "manifests": [], "annotations": {"of": "others"}, "more": [1]}"#;
        let mut listing = Listing::read(foreign).unwrap();
        listing.point(&["app:latest".to_owned()], &pointer("one")).unwrap();
        let index: Index = serde_json::from_slice(&listing.sealed()).unwrap();
        assert!(is_sealed(&index));
        assert_eq!(index.annotations.get("of").map(String::as_str), Some("others"));
        assert_eq!(index.extra.get("more"), Some(&serde_json::json!([1])));
        assert_eq!(index.manifests.len(), 1);
        // One byte of our own changed: decoded, not taken apart.
        let mut ours = Listing::of(&index).sealed();
        let at = ours.iter().position(|byte| *byte == b'2').unwrap();
        ours[at] = b'3';
        assert!(Listing::read_own(&ours).is_none());
        assert!(Listing::read(b"{").is_err());
    }
}
