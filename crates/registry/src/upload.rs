//! One blob's upload: a session, one streamed PUT, and after a failure the rest by PATCH or all of it again.
//!
//! Every address comes from the registry's `Location`, relative or not; credentials go there only if it is the
//! registry itself.

use std::io;
use std::sync::Arc;

use kuz_image::digest::Digest;
use kuz_image::manifest::Descriptor;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Url};

use crate::client::{Inner, Place, Reply, Repository};
use crate::config::Endpoint;
use crate::error::Cause;
use crate::push::{BlobSource, PushEvent, PushProgress};
use crate::resolve::claimed_digest;
use crate::retry::Patience;
use crate::transport::{Payload, check_hop, resolve_location};
use crate::upload_body::UploadBody;

/// An upload's address and the bytes that the registry holds.
struct Session {
    url: Url,
    held: u64,
}

/// The address in an answer that opened or moved an upload.
pub(crate) fn session(endpoint: &Endpoint, reply: &Reply) -> Result<Url, Cause> {
    let location = reply.response.headers().get(LOCATION);
    let location = location.ok_or_else(|| Cause::Protocol { detail: "an upload without a `Location`".to_owned() })?;
    let url = resolve_location(location, &reply.asked)?;
    check_hop(endpoint, &reply.asked, &url)?;
    Ok(url)
}

impl Inner {
    /// Uploads a blob, into the given session if one is open already.
    pub(crate) async fn upload(
        &self,
        repository: &Repository<'_>,
        descriptor: &Descriptor,
        opened: Option<Url>,
        source: &dyn BlobSource,
        progress: &PushProgress,
    ) -> Result<(), Cause> {
        let digest = &descriptor.digest;
        let mut patience = Patience::new(&self.config.timing, false);
        let mut open = opened.map(|url| Session { url, held: 0 });
        loop {
            let session = match open.take() {
                Some(session) => session,
                None => Session { url: self.open_upload(repository, &mut patience).await?, held: 0 },
            };
            let job = Job { repository, descriptor, source, progress };
            let failed = match self.send_blob(&job, &session).await {
                Ok(()) => {
                    progress(PushEvent::Uploaded(digest.clone()));
                    return Ok(());
                }
                Err(cause) => cause,
            };
            let gone = session.held > 0 || matches!(failed, Cause::NotFound { .. } | Cause::Status { status: 416, .. });
            match failed {
                // The session is lost, or the registry holds something else than we think: once more from the start.
                Cause::NotFound { .. } | Cause::Status { status: 400 | 416, .. } if gone => {
                    let detail = "the registry forgot the upload".to_owned();
                    patience.wait(Cause::Broken { what: "in the middle of an upload".to_owned(), detail }).await?;
                }
                failed => {
                    patience.wait(failed).await?;
                    open = self.resume_at(repository, &session, descriptor.size).await;
                    if open.as_ref().is_some_and(|resumed| resumed.held > session.held) {
                        patience.progressed();
                    }
                }
            }
        }
    }

    /// Whether an upload may be opened; it's cancelled at once.
    pub(crate) async fn try_upload(&self, repository: &Repository<'_>) -> Result<(), Cause> {
        let url = self.open_upload(repository, &mut Patience::new(&self.config.timing, false)).await?;
        // Registries throw unused uploads away by themselves; not all let clients do it.
        let _ = self.once(&repository.ask_at(Method::DELETE, Place::Url(url), &[202, 204, 404, 405])).await;
        Ok(())
    }

    async fn open_upload(&self, repository: &Repository<'_>, patience: &mut Patience<'_>) -> Result<Url, Cause> {
        let ask = repository.ask(Method::POST, "blobs/uploads/", &[202]);
        session(repository.endpoint, &self.ask(&ask, patience).await?)
    }

    /// What the registry holds of a broken upload; `None` where it doesn't say or holds nothing.
    async fn resume_at(&self, repository: &Repository<'_>, session: &Session, size: u64) -> Option<Session> {
        let ask = repository.ask_at(Method::GET, Place::Url(session.url.clone()), &[200, 202, 204]);
        let reply = self.once(&ask).await.ok()?;
        let held = held(reply.response.headers())?;
        let url = self::session(repository.endpoint, &reply).unwrap_or_else(|_| session.url.clone());
        (held > 0 && held <= size).then_some(Session { url, held })
    }

    async fn send_blob(&self, job: &Job<'_>, session: &Session) -> Result<(), Cause> {
        let size = job.descriptor.size;
        let mut url = session.url.clone();
        if session.held > 0 && session.held < size {
            let open = || job.body(session.held);
            let ask = job
                .repository
                .ask_at(Method::PATCH, Place::Url(url), &[201, 202, 204])
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_RANGE, &format!("{}-{}", session.held, size - 1))
                .payload(Payload::Stream(&open));
            let reply = self.once(&ask).await?;
            url = self::session(job.repository.endpoint, &reply)?;
        }
        url.query_pairs_mut().append_pair("digest", &job.descriptor.digest.to_string());
        let open = || job.body(0);
        let payload = if session.held > 0 { Payload::Empty } else { Payload::Stream(&open) };
        let ask = job
            .repository
            .ask_at(Method::PUT, Place::Url(url), &[201, 202, 204])
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(payload);
        let reply = self.once(&ask).await?;
        let expected = &job.descriptor.digest;
        match claimed_digest(reply.response.headers())? {
            Some(found) if found.algorithm() == expected.algorithm() && found != *expected => {
                Err(Cause::DigestMismatch {
                    what: "the blob that the registry stored",
                    expected: expected.clone(),
                    found,
                })
            }
            _ => Ok(()),
        }
    }
}

/// What is uploaded where.
struct Job<'a> {
    repository: &'a Repository<'a>,
    descriptor: &'a Descriptor,
    source: &'a dyn BlobSource,
    progress: &'a PushProgress,
}

impl Job<'_> {
    fn body(&self, offset: u64) -> Result<UploadBody, Cause> {
        let digest: &Digest = &self.descriptor.digest;
        let reader = self.source.open(digest, offset).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Cause::MissingBlob { digest: digest.clone() },
            _ => Cause::Local { what: format!("read blob {digest}"), error },
        })?;
        let (progress, named) = (Arc::clone(self.progress), digest.clone());
        let heard = Arc::new(move |sent| progress(PushEvent::Sent(named.clone(), offset + sent)));
        Ok(UploadBody::new(reader, self.descriptor.size - offset, heard))
    }
}

/// `Range: 0-LAST` to a count of bytes.
fn held(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim();
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    (first == "0").then(|| last.parse::<u64>().ok())??.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn ranges_of_uploads_are_read() {
        for (text, want) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("5-9", None),
            ("0-", None),
            ("x", None),
            ("0-18446744073709551615", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(text));
            assert_eq!(held(&headers), want, "{text}");
        }
    }
}
