//! What the registry holds: blobs and manifests by repository, open uploads, tokens, faults and the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kuz_image::digest::Digest;

use super::access::Access;
use super::fault::{Action, Fault};

/// One request as it arrived, and what came of it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// `GET`, …
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The body, where one was read.
    pub body_bytes: usize,
    /// The answer's status; 0 where none was given.
    pub status: u16,
    sent: Arc<AtomicU64>,
}

impl Logged {
    /// A header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Bytes of the response's body that were handed to the connection.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    pub(super) fn new(method: &str, path: &str, query: &str, headers: BTreeMap<String, String>) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body_bytes: 0,
            status: 0,
            sent: Arc::default(),
        }
    }

    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) base: String,
    pub(super) access: Access,
    pub(super) faults: Vec<Fault>,
    pub(super) log: Vec<Logged>,
    /// Token to its scopes and the uses that it has left.
    pub(super) tokens: BTreeMap<String, (BTreeSet<String>, usize)>,
    pub(super) uploads: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, BTreeMap<Digest, Bytes>>,
    manifests: BTreeMap<String, BTreeMap<String, StoredManifest>>,
    serial: u64,
}

impl State {
    pub(super) fn new(base: String) -> Self {
        Self {
            base,
            access: Access::Open,
            faults: Vec::new(),
            log: Vec::new(),
            tokens: BTreeMap::new(),
            uploads: BTreeMap::new(),
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            serial: 0,
        }
    }

    /// The next number, for names of tokens and uploads.
    pub(super) fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn take_fault(&mut self, method: &str, path_and_query: &str) -> Option<Action> {
        self.faults.iter_mut().find_map(|fault| fault.take(method, path_and_query))
    }

    pub(super) fn put_blob(&mut self, repository: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.link_blob(repository, digest.clone(), Bytes::from(bytes));
        digest
    }

    pub(super) fn link_blob(&mut self, repository: &str, digest: Digest, bytes: Bytes) {
        self.blobs.entry(repository.to_owned()).or_default().insert(digest, bytes);
    }

    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.blobs.get(repository)?.get(digest).cloned()
    }

    pub(super) fn put_manifest(&mut self, repository: &str, tag: &str, media_type: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        let stored =
            StoredManifest { media_type: media_type.to_owned(), digest: digest.clone(), bytes: Bytes::from(bytes) };
        let manifests = self.manifests.entry(repository.to_owned()).or_default();
        manifests.insert(tag.to_owned(), stored.clone());
        manifests.insert(digest.to_string(), stored);
        digest
    }

    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<&StoredManifest> {
        self.manifests.get(repository)?.get(reference)
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        let manifests = self.manifests.get(repository);
        manifests.into_iter().flat_map(BTreeMap::keys).filter(|name| !name.contains(':')).cloned().collect()
    }
}
