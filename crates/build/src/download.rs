//! Files from the web: an address to a blob in the store, asked for again only where it has changed.
//!
//! ```text
//!   --checksum, and the store has it ─► no request
//!   fetched before ─► "has it changed?" (ETag, Last-Modified) ─► no: the blob is used
//!                                                              └► yes, or never fetched ─► into the store, by digest
//! ```
//! What the bytes mean is not looked at.

use std::io::{self, Write as _};

use kuz_image::Digest;
use kuz_image::digest::Algorithm;
use kuz_plan::plan::{Copy, Word};
use kuz_registry::download::{decode, shown};
use kuz_registry::{BlobSink, Download, Validators, Wanted};
use kuz_store::{BlobError, BlobWriter, Refs};
use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::event::Event;
use crate::execute::Execution;
use crate::session::Session;

/// The kind of records that say what an address answered.
const DOWNLOAD: &str = "download";
/// Larger than any archive that people build from; smaller than a disk.
const DOWNLOAD_BYTES: u64 = 64 << 30;
/// The name of a file whose address has none, as BuildKit has it.
const NAMELESS: &str = "__unnamed__";
/// A transfer's progress is told at most once in so many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A file from the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// What it is called in a directory.
    pub(crate) name: String,
    /// Its content in the store.
    pub(crate) blob: Digest,
    /// Its length.
    pub(crate) size: u64,
    /// When the server says that it was changed; 0 where it doesn't say.
    pub(crate) modified: i64,
}

impl Fetched {
    /// When it was changed, if the server says so.
    pub(crate) fn time(&self) -> Option<i64> {
        (self.modified != 0).then_some(self.modified)
    }

    /// What stands for it in keys: the content, never its time.
    pub(crate) fn digest(&self) -> blake3::Hash {
        blake3::hash(format!("fetched {}", self.blob).as_bytes())
    }
}

/// What an address answered.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    blob: Digest,
    size: u64,
    modified: i64,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Answer {
    fn fetched(self, name: String) -> Fetched {
        Fetched { name, blob: self.blob, size: self.size, modified: self.modified }
    }

    fn validators(&self) -> Option<Validators> {
        let known = self.etag.is_some() || self.last_modified.is_some();
        known.then(|| Validators { etag: self.etag.clone(), last_modified: self.last_modified.clone() })
    }
}

/// Whether ADD takes this word for an address on the web.
pub(crate) fn is_meant(word: &str) -> bool {
    word.starts_with("http://") || word.starts_with("https://")
}

impl Execution<'_> {
    /// What a word of an ADD fetches.
    pub(crate) fn fetch(&self, copy: &Copy, word: &Word) -> Result<Fetched, BuildError> {
        let checksum = match &copy.checksum {
            None => None,
            Some(text) => Some(text.parse::<Digest>().map_err(|error| {
                self.finding("InvalidChecksum", word.span, format!("`{}`: {error}", text.escape_debug()), None)
            })?),
        };
        fetch(self.session, &word.text, checksum.as_ref()).map_err(|error| self.placed(error, word.span))
    }
}

/// The file at an address; `checksum` is what it must be.
pub(crate) fn fetch(session: &Session<'_>, address: &str, checksum: Option<&Digest>) -> Result<Fetched, BuildError> {
    let name = name_of(address);
    let key = Digest::of(address.as_bytes());
    let known = match known(session, &key)? {
        Some(answer) if checksum == Some(&answer.blob) => return Ok(answer.fetched(name)),
        known => known,
    };
    let algorithm = checksum.map_or(Algorithm::Sha256, Digest::algorithm);
    let failed = |error| BuildError::store("write to the store", error);
    let writer = session.store.blob_writer_for(algorithm).map_err(failed)?;
    let mut sink = Sink { session, address: shown(address), writer, bytes: 0, told: 0, failure: None };
    let network = session.network()?;
    let validators = known.as_ref().and_then(Answer::validators);
    let authorization = match host_of(address) {
        Some(host) => session.passed().for_web(host)?,
        None => None,
    };
    let wanted = Wanted { known: validators.as_ref(), authorization: authorization.as_ref(), limit: DOWNLOAD_BYTES };
    let asked = network.client.download(address, wanted, &mut sink);
    let action = format!("fetch `{}`", shown(address));
    let outcome = network.wait(session, asked, |error| crate::network::remote(action.clone(), error));
    // A full disk is the disk's fault, whatever the client makes of it.
    if let Some(error) = sink.failure {
        return Err(BuildError::store("write to the store", error));
    }
    let (validators, modified) = match (outcome?, known) {
        (Download::Unchanged, Some(answer)) => return checked(answer.fetched(name), checksum, &action),
        (Download::Unchanged, None) => return Err(BuildError::input("the server says that nothing has changed")),
        (Download::Content { validators, modified }, _) => (validators, modified.unwrap_or_default()),
    };
    let (blob, size) = sink.writer.commit(checksum).map_err(|error| match error {
        BlobError::Digest { expected, found } => mismatch(&action, &expected, &found),
        other => BuildError::store("write to the store", other),
    })?;
    let answer = Answer { blob, size, modified, etag: validators.etag, last_modified: validators.last_modified };
    let refs = Refs { blobs: vec![answer.blob.clone()], ..Refs::default() };
    let bytes = serde_json::to_vec(&answer).map_err(|error| BuildError::store("record a download", error))?;
    session
        .store
        .put_with(DOWNLOAD, key.hex(), &bytes, &refs)
        .map_err(|error| BuildError::store("record a download", error))?;
    Ok(answer.fetched(name))
}

/// What the address answered before, if the content is still here.
fn known(session: &Session<'_>, key: &Digest) -> Result<Option<Answer>, BuildError> {
    let failed = |error| BuildError::store("read a download's record", error);
    let Some(bytes) = session.store.get(DOWNLOAD, key.hex()).map_err(failed)? else { return Ok(None) };
    match serde_json::from_slice::<Answer>(&bytes) {
        Ok(answer) if session.has_blob(&answer.blob)? => Ok(Some(answer)),
        _ => Ok(None),
    }
}

fn checked(fetched: Fetched, checksum: Option<&Digest>, action: &str) -> Result<Fetched, BuildError> {
    match checksum {
        Some(expected) if *expected != fetched.blob => Err(mismatch(action, expected, &fetched.blob)),
        _ => Ok(fetched),
    }
}

fn mismatch(action: &str, expected: &Digest, found: &Digest) -> BuildError {
    BuildError::Refused { action: action.to_owned(), source: format!("digest mismatch {found}: {expected}").into() }
}

/// The name of an address's host, without its port.
fn host_of(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(six) => six.split(']').next(),
        None => host.split(':').next(),
    }
}

/// The last part of an address's path.
fn name_of(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = String::from_utf8_lossy(&decode(last)).into_owned();
    // What stands for a slash may be in a name: the last part counts.
    match name.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => NAMELESS.to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// Writes into the store and tells how far it is.
struct Sink<'s> {
    session: &'s Session<'s>,
    address: String,
    writer: BlobWriter,
    bytes: u64,
    told: u64,
    failure: Option<io::Error>,
}

impl Sink<'_> {
    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| self.failure = Some(crate::network::copy_error(error)))
    }
}

impl BlobSink for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes == 0 {
            (self.session.events)(Event::FetchStarted { digest: self.address.clone(), bytes: 0 });
        }
        let outcome = self.writer.write_all(bytes);
        self.note(outcome)?;
        self.bytes += bytes.len() as u64;
        if self.bytes - self.told >= PROGRESS_BYTES {
            self.told = self.bytes;
            (self.session.events)(Event::FetchProgress { digest: self.address.clone(), bytes: self.bytes });
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        (self.bytes, self.told) = (0, 0);
        let outcome = self.writer.restart();
        self.note(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_addresses() {
        for (address, host) in [
            ("https://h/a@b", Some("h")),
            ("https://h:81?x", Some("h")),
            ("http://u:p@h:81/a", Some("h")),
            ("http://[::1]:81/a", Some("::1")),
            ("h/a", None),
        ] {
            assert_eq!(host_of(address), host, "{address}");
        }
    }

    #[test]
    fn files_are_called_by_the_end_of_their_path() {
        for (address, name) in [
            ("https://h/a/b.txt", "b.txt"),
            ("https://h/a/b.txt?x=/y", "b.txt"),
            ("https://h/a/", "a"),
            ("https://h/a%20b", "a b"),
            ("https://h/a%2Fb", "b"),
            ("https://h/%2e%2e", NAMELESS),
            ("https://h/", NAMELESS),
            ("https://h", NAMELESS),
            ("https://h?x", NAMELESS),
        ] {
            assert_eq!(name_of(address), name, "{address}");
        }
    }
}
