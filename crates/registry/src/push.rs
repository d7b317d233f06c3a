//! Images to a registry: what's there is skipped, what another repository has is mounted, the rest is uploaded.
//!
//! A manifest's bytes and the descriptors of its blobs go in; blobs are read from a [`BlobSource`] only when they must
//! be uploaded. The manifest goes last, under each tag. Only the registry itself is asked, never a mirror.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use kuz_image::digest::Digest;
use kuz_image::manifest::Descriptor;
use kuz_image::reference::Reference;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use crate::client::{Client, Inner, Repository};
use crate::config::Endpoint;
use crate::error::{Action, Attempts, Cause, RegistryError};
use crate::resolve::claimed_digest;
use crate::retry::Patience;
use crate::transport::Payload;

/// Blobs in flight at a time: what other clients do, and what registries expect.
pub const PARALLEL_BLOBS: usize = 4;

/// What is pushed.
#[derive(Debug, Clone)]
pub struct PushImage {
    /// The manifest's exact bytes.
    pub manifest: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// Its config and layers.
    pub blobs: Vec<PushBlob>,
    /// Tags besides the reference's own.
    pub tags: Vec<String>,
}

/// A blob that the manifest needs.
#[derive(Debug, Clone)]
pub struct PushBlob {
    /// Which.
    pub descriptor: Descriptor,
    /// A repository that's known to have it: mounted from there where it's the same registry.
    pub mount_from: Option<Reference>,
}

/// Where blobs are read.
pub trait BlobSource: Send + Sync {
    /// The blob's bytes from `offset` on; [`io::ErrorKind::NotFound`] where it isn't here.
    fn open(&self, digest: &Digest, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

/// What happens during a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushEvent {
    /// The registry has the blob.
    Exists(Digest),
    /// The blob was mounted from this repository.
    Mounted(Digest, String),
    /// So many bytes of the blob were sent (again from a lower number after a failure).
    Sent(Digest, u64),
    /// The blob was uploaded.
    Uploaded(Digest),
    /// The manifest stands under this tag or digest.
    Tagged(String),
}

/// Hears what happens.
pub type PushProgress = Arc<dyn Fn(PushEvent) + Send + Sync>;

impl Client {
    /// Pushes an image; gives the manifest's digest.
    pub async fn push(
        &self,
        reference: &Reference,
        image: &PushImage,
        source: &dyn BlobSource,
        progress: &PushProgress,
    ) -> Result<Digest, RegistryError> {
        let (attempts, endpoint) = self.push_endpoint(Action::Push, reference)?;
        match self.inner.push_to(&endpoint, reference, image, source, progress).await {
            Ok(digest) => Ok(digest),
            Err(cause) => Err(attempts.fail_with(&endpoint, cause)),
        }
    }

    /// Whether the repository has all of these blobs, as its own or mounted now. Nothing is uploaded.
    pub async fn place(&self, reference: &Reference, blobs: &[PushBlob]) -> Result<bool, RegistryError> {
        let (attempts, endpoint) = self.push_endpoint(Action::Push, reference)?;
        let places = blobs.iter().map(|blob| self.inner.place(&endpoint, reference, blob));
        let mut places = stream::iter(places.collect::<Vec<_>>()).buffer_unordered(PARALLEL_BLOBS);
        let mut all = true;
        while let Some(placed) = places.next().await {
            match placed {
                Ok(Placed::Exists | Placed::Mounted(_)) => {}
                // An upload that was opened instead of a mount is left to time out, as other clients leave it.
                Ok(Placed::Lacking(_)) => all = false,
                Err(cause) => return Err(attempts.fail_with(&endpoint, cause)),
            }
        }
        Ok(all)
    }

    /// Fails as a push would for want of permission: opens an upload and cancels it.
    pub async fn check_push(&self, reference: &Reference) -> Result<(), RegistryError> {
        let (attempts, endpoint) = self.push_endpoint(Action::CheckPush, reference)?;
        let repository = Repository::new(&endpoint, reference.path(), "pull,push");
        match self.inner.try_upload(&repository).await {
            Ok(()) => Ok(()),
            Err(cause) => Err(attempts.fail_with(&endpoint, cause)),
        }
    }

    fn push_endpoint(&self, action: Action, reference: &Reference) -> Result<(Attempts, Endpoint), RegistryError> {
        let attempts = Attempts::new(action, reference);
        let domain = reference.domain();
        if !self.inner.config.allows_origin(domain) {
            let reason = format!("kuz.toml says [registry.\"{domain}\"] origin = false, and mirrors take no pushes");
            return Err(attempts.fail_early(domain, Cause::Refused { reason }));
        }
        match self.inner.config.origin(domain) {
            Ok(endpoint) => Ok((attempts, endpoint)),
            Err(error) => Err(attempts.fail_early(domain, Cause::Host(error))),
        }
    }
}

impl Inner {
    async fn push_to(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        image: &PushImage,
        source: &dyn BlobSource,
        progress: &PushProgress,
    ) -> Result<Digest, Cause> {
        let digest = Digest::of(&image.manifest);
        let own = match (reference.tag(), reference.digest()) {
            (None, Some(digest)) => digest.to_string(),
            _ => reference.tag_or_latest().to_owned(),
        };
        let repository = Repository::new(endpoint, reference.path(), "pull,push");
        let names: Vec<&String> = std::iter::once(&own).chain(&image.tags).collect();
        if self.has_all(&repository, &names, &digest).await {
            for name in names {
                progress(PushEvent::Tagged(name.clone()));
            }
            return Ok(digest);
        }
        let mut seen = std::collections::BTreeSet::new();
        let blobs = image.blobs.iter().filter(|blob| seen.insert(blob.descriptor.digest.clone()));
        let uploads: Vec<_> = blobs.map(|blob| self.push_blob(endpoint, reference, blob, source, progress)).collect();
        let mut uploads = stream::iter(uploads).buffer_unordered(PARALLEL_BLOBS);
        while let Some(done) = uploads.next().await {
            done?;
        }
        for name in names {
            self.put_manifest(&repository, name, image, &digest).await?;
            progress(PushEvent::Tagged(name.clone()));
        }
        Ok(digest)
    }

    /// Whether all of these names stand for this manifest already: then the registry has all that it needs. A registry
    /// takes a manifest only after its blobs, and deletes none that one needs. What it does not say plainly does not count.
    async fn has_all(&self, repository: &Repository<'_>, names: &[&String], digest: &Digest) -> bool {
        for name in names {
            if self.claimed(repository, name, true).await.ok().flatten().as_ref() != Some(digest) {
                return false;
            }
        }
        true
    }

    async fn push_blob(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        blob: &PushBlob,
        source: &dyn BlobSource,
        progress: &PushProgress,
    ) -> Result<(), Cause> {
        let digest = &blob.descriptor.digest;
        let repository = Repository::new(endpoint, reference.path(), "pull,push");
        match self.place(endpoint, reference, blob).await? {
            Placed::Exists => progress(PushEvent::Exists(digest.clone())),
            Placed::Mounted(from) => progress(PushEvent::Mounted(digest.clone(), from)),
            Placed::Lacking(session) => {
                return self.upload(&repository, &blob.descriptor, session, source, progress).await;
            }
        }
        Ok(())
    }

    /// Finds out whether the repository has a blob, or can mount it.
    async fn place(&self, endpoint: &Endpoint, reference: &Reference, blob: &PushBlob) -> Result<Placed, Cause> {
        let digest = &blob.descriptor.digest;
        let mut repository = Repository::new(endpoint, reference.path(), "pull,push");
        if self.has_blob(&repository, digest).await? {
            return Ok(Placed::Exists);
        }
        let from = blob.mount_from.as_ref().filter(|from| from.domain() == reference.domain());
        let Some(from) = from.filter(|from| from.path() != reference.path()) else {
            return Ok(Placed::Lacking(None));
        };
        repository.scopes.push(format!("repository:{}:pull", endpoint.repository(from.path())));
        Ok(match self.mount(&repository, digest, &endpoint.repository(from.path())).await? {
            Mount::Done => Placed::Mounted(from.path().to_owned()),
            Mount::Session(session) => Placed::Lacking(Some(session)),
            Mount::Refused => Placed::Lacking(None),
        })
    }

    async fn has_blob(&self, repository: &Repository<'_>, digest: &Digest) -> Result<bool, Cause> {
        let ask = repository.ask(Method::HEAD, &format!("blobs/{digest}"), &[200, 404]);
        let mut patience = Patience::new(&self.config.timing, false);
        match self.ask(&ask, &mut patience).await {
            Ok(reply) => Ok(reply.response.status().as_u16() == 200),
            // Storage that a registry redirects to may only take GET: the upload will tell.
            Err(Cause::Status { status: 400..=499, .. }) => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    /// Asks for a mount. A registry that may not, or won't, opens an upload instead, or says no.
    async fn mount(&self, repository: &Repository<'_>, digest: &Digest, from: &str) -> Result<Mount, Cause> {
        // Digests and repository names need no escaping but for the colon and slash, which queries may hold.
        let place = format!("blobs/uploads/?mount={digest}&from={from}");
        let ask = repository.ask(Method::POST, &place, &[201, 202]);
        let mut patience = Patience::new(&self.config.timing, false);
        let reply = match self.ask(&ask, &mut patience).await {
            Ok(reply) => reply,
            Err(
                Cause::Unauthorized { .. }
                | Cause::Denied { .. }
                | Cause::NotFound { .. }
                | Cause::Status { status: 400 | 405, .. },
            ) => return Ok(Mount::Refused),
            Err(cause) => return Err(cause),
        };
        if reply.response.status().as_u16() == 201 {
            return Ok(Mount::Done);
        }
        crate::upload::session(repository.endpoint, &reply).map(Mount::Session)
    }

    async fn put_manifest(
        &self,
        repository: &Repository<'_>,
        name: &str,
        image: &PushImage,
        digest: &Digest,
    ) -> Result<(), Cause> {
        let ask = repository
            .ask(Method::PUT, &format!("manifests/{name}"), &[200, 201, 202])
            .header(CONTENT_TYPE, &image.media_type)
            .payload(Payload::Bytes(Bytes::from(image.manifest.clone())));
        let mut patience = Patience::new(&self.config.timing, false);
        let reply = match self.ask(&ask, &mut patience).await {
            Ok(reply) => reply,
            Err(cause) => {
                // A tag that must not change is fine if it needn't.
                let settled = matches!(cause, Cause::Status { status: 400 | 409 | 412, .. } | Cause::Denied { .. })
                    && self.head_digest(repository, name, false).await.is_ok_and(|found| found == *digest);
                return if settled { Ok(()) } else { Err(cause) };
            }
        };
        match claimed_digest(reply.response.headers())? {
            Some(found) if found.algorithm() == digest.algorithm() && found != *digest => Err(Cause::DigestMismatch {
                what: "the manifest that the registry stored",
                expected: digest.clone(),
                found,
            }),
            _ => Ok(()),
        }
    }
}

/// Where a blob is that a push needs.
enum Placed {
    /// In the repository.
    Exists,
    /// Now in it, from this one.
    Mounted(String),
    /// Not there; an upload may have been opened.
    Lacking(Option<reqwest::Url>),
}

/// What came of asking for a mount.
enum Mount {
    Done,
    Session(reqwest::Url),
    Refused,
}
