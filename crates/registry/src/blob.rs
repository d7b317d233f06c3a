//! Blobs to a sink: verified, resumed where they broke off, from mirrors or the registry itself.
//!
//! Bytes go to the sink as they arrive, at most as many as the descriptor names; success means that exactly these
//! bytes have the descriptor's digest. What one endpoint delivered before it broke off is kept when the next one takes
//! over. Foreign `urls` of a descriptor are never followed, and bodies are never decoded.

use std::io;

use kuz_image::digest::Hasher;
use kuz_image::manifest::Descriptor;
use kuz_image::reference::Reference;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Method, Response};

use crate::answer::is_html;
use crate::client::{Client, Inner, Repository};
use crate::config::Endpoint;
use crate::error::{Action, Cause, RegistryError};
use crate::retry::Patience;
use crate::transport::next_chunk;

/// Takes the bytes of a blob.
pub trait BlobSink: Send {
    /// The next bytes, in order.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// All bytes so far were wrong: the blob begins anew.
    fn restart(&mut self) -> io::Result<()>;
}

impl BlobSink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// A blob on its way.
struct Transfer<'a> {
    descriptor: &'a Descriptor,
    sink: &'a mut dyn BlobSink,
    hasher: Hasher,
    /// The bytes so far came in more than one piece: a wrong digest may be the seam's fault.
    pieced: bool,
}

impl Transfer<'_> {
    fn at(&self) -> u64 {
        self.hasher.bytes()
    }

    fn restart(&mut self) -> Result<(), Cause> {
        self.pieced = false;
        if self.at() > 0 {
            self.hasher = Hasher::new(self.descriptor.digest.algorithm());
            self.sink.restart().map_err(local)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let found = self.at() + bytes.len() as u64;
        if found > self.descriptor.size {
            return Err(Cause::SizeMismatch { what: "blob", expected: self.descriptor.size, found });
        }
        self.sink.write(bytes).map_err(local)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Whether all is there and right.
    fn verify(&self) -> Result<(), Cause> {
        let expected = self.descriptor.digest.clone();
        let found = self.hasher.clone().finish();
        if found == expected { Ok(()) } else { Err(Cause::DigestMismatch { what: "blob", expected, found }) }
    }
}

fn local(error: io::Error) -> Cause {
    Cause::Local { what: "write the blob".to_owned(), error }
}

impl Client {
    /// Fetches a blob of a repository into a sink. After an error the sink holds nothing that can be used.
    pub async fn fetch_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        sink: &mut dyn BlobSink,
    ) -> Result<(), RegistryError> {
        let (_, endpoints) = self.pull_endpoints(Action::FetchBlob, reference)?;
        let subject = format!("{} of {reference}", descriptor.digest);
        let mut attempts = crate::error::Attempts::new(Action::FetchBlob, subject);
        let hasher = Hasher::new(descriptor.digest.algorithm());
        let mut transfer = Transfer { descriptor, sink, hasher, pieced: false };
        for (position, endpoint) in endpoints.iter().enumerate() {
            let others_left = position + 1 < endpoints.len();
            match self.inner.fetch_at(endpoint, reference, &mut transfer, others_left).await {
                Ok(()) => return Ok(()),
                Err(cause) if cause.is_ours() => return Err(attempts.fail_with(endpoint, cause)),
                Err(cause) => attempts.add(endpoint, cause),
            }
        }
        Err(attempts.fail())
    }
}

impl Inner {
    async fn fetch_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        transfer: &mut Transfer<'_>,
        others_left: bool,
    ) -> Result<(), Cause> {
        let repository = Repository::new(endpoint, reference.path(), "pull");
        let mut patience = Patience::new(&self.config.timing, others_left);
        // Ranges are asked for until this endpoint gets one wrong.
        let mut ranges = true;
        loop {
            let before = transfer.at();
            let failed = match self.piece(&repository, transfer, &mut ranges).await {
                Ok(()) => match transfer.verify() {
                    Ok(()) => return Ok(()),
                    Err(_) if transfer.pieced => {
                        transfer.restart()?;
                        ranges = false;
                        continue;
                    }
                    Err(cause) => {
                        transfer.restart()?;
                        return Err(cause);
                    }
                },
                Err(Retry::Whole) => {
                    transfer.restart()?;
                    continue;
                }
                Err(Retry::Cause(cause)) => cause,
            };
            if transfer.at() > before {
                patience.progressed();
            }
            if matches!(failed, Cause::SizeMismatch { .. }) {
                transfer.restart()?;
            }
            patience.wait(failed).await?;
        }
    }

    /// One request: from where the transfer stands to the end.
    async fn piece(
        &self,
        repository: &Repository<'_>,
        transfer: &mut Transfer<'_>,
        ranges: &mut bool,
    ) -> Result<(), Retry> {
        let size = transfer.descriptor.size;
        if transfer.at() > 0 && !*ranges {
            transfer.restart()?;
        }
        let from = transfer.at();
        if from == size && size > 0 {
            return Ok(());
        }
        let place = format!("blobs/{}", transfer.descriptor.digest);
        let mut ask = repository.ask(Method::GET, &place, &[200]).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            ask.welcome = &[200, 206, 416];
            ask = ask.header(RANGE, &format!("bytes={from}-"));
        }
        let reply = self.once(&ask).await?;
        let response = reply.response;
        match response.status().as_u16() {
            206 if covers(response.headers(), from, size) => transfer.pieced = true,
            206 | 416 => {
                // This endpoint doesn't know what it has: from the start, without a range.
                *ranges = false;
                return Err(Retry::Whole);
            }
            _ => {
                // 200 to a range is the whole blob.
                transfer.restart()?;
                check_length(&response, size)?;
            }
        }
        self.stream(response, transfer).await
    }

    async fn stream(&self, mut response: Response, transfer: &mut Transfer<'_>) -> Result<(), Retry> {
        while let Some(chunk) = next_chunk(&mut response, self.config.timing.stall).await? {
            transfer.write(&chunk)?;
        }
        let (found, expected) = (transfer.at(), transfer.descriptor.size);
        if found < expected {
            let detail = format!("{found} of {expected} bytes came");
            return Err(Retry::Cause(Cause::Broken { what: "in the middle of the blob".to_owned(), detail }));
        }
        Ok(())
    }
}

/// Why a piece didn't complete the blob.
enum Retry {
    /// At once, from the start.
    Whole,
    /// After a pause, if the cause is a passing one.
    Cause(Cause),
}

impl From<Cause> for Retry {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

/// Whether a 206 is the part that was asked for: `bytes FROM-LAST/SIZE`.
fn covers(headers: &HeaderMap, from: u64, size: u64) -> bool {
    let Some(text) = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()) else { return false };
    let Some((range, total)) = text.trim().strip_prefix("bytes ").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let Some((first, last)) = range.split_once('-') else { return false };
    let last = last.parse::<u64>();
    first.parse() == Ok(from)
        && last.is_ok_and(|last| last >= from && last < size)
        && (total == "*" || total.parse() == Ok(size))
}

/// A whole body must have the descriptor's length, where it says one.
fn check_length(response: &Response, expected: u64) -> Result<(), Cause> {
    if is_html(response) && response.content_length() != Some(expected) {
        return Err(Cause::Protocol {
            detail: "a web page instead of a blob (a sign-in page, or a proxy?)".to_owned(),
        });
    }
    match response.content_length() {
        Some(found) if found != expected => Err(Cause::SizeMismatch { what: "blob", expected, found }),
        _ => Ok(()),
    }
}
