//! The registry client with its own runtime, for callers on ordinary threads.
//!
//! Requests run on the runtime's threads; a caller only waits for its own answer, and stops waiting when the user
//! cancels. Started by [`Session::network`] when something must be asked.

use std::fs::File;
use std::future::Future;
use std::io::{self, Seek as _, Write as _};
use std::time::Duration;

use kuz_image::reference::Reference;
use kuz_image::{Descriptor, Platform};
use kuz_registry::{BlobSink, Client, RegistryError, Resolved};
use tokio::runtime::Runtime;

use crate::error::BuildError;
use crate::event::Event;
use crate::follow::{Follower, Telling};
use crate::request::Machine;
use crate::session::Session;

/// How often a waiting caller looks whether the user has cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// A blob's progress is told at most once in so many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A runtime and a client.
#[derive(Debug)]
pub(crate) struct Network {
    runtime: Runtime,
    pub(crate) client: Client,
}

impl Network {
    pub(crate) fn start(machine: &Machine) -> Result<Self, BuildError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kuz-network")
            .enable_all()
            .build()
            .map_err(|error| BuildError::Environment {
                message: "the network could not be started".into(),
                source: Some(Box::new(error)),
            })?;
        let client = Client::new(machine.registries.clone(), machine.credentials.clone()).map_err(|error| {
            BuildError::Input { message: "kuz.toml cannot be used".into(), source: Some(Box::new(error)) }
        })?;
        Ok(Self { runtime, client })
    }

    /// Waits for a request, or for the user to cancel.
    pub(crate) fn wait<T, E>(
        &self,
        session: &Session<'_>,
        request: impl Future<Output = Result<T, E>>,
        explain: impl FnOnce(E) -> BuildError,
    ) -> Result<T, BuildError> {
        let outcome = self.runtime.block_on(async {
            let mut poll = tokio::time::interval(CANCEL_POLL);
            let mut request = std::pin::pin!(request);
            loop {
                tokio::select! {
                    outcome = &mut request => return Some(outcome),
                    _ = poll.tick() => if session.cancelled().is_err() { return None },
                }
            }
        });
        for text in self.client.take_notes() {
            (session.events)(Event::Note { text });
        }
        outcome.ok_or(BuildError::Cancelled)?.map_err(explain)
    }

    pub(crate) fn resolve(
        &self,
        session: &Session<'_>,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Resolved, BuildError> {
        let action = format!("look up image `{}`", reference.familiar());
        self.wait(session, self.client.resolve(reference, platform), |error| remote(action, error))
    }

    /// A blob into the store, verified by its digest. `follow` gets a reader that stays behind what has come.
    pub(crate) fn fetch_blob(
        &self,
        session: &Session<'_>,
        reference: &str,
        blob: &Descriptor,
        follow: impl FnOnce(Follower),
    ) -> Result<(), BuildError> {
        let parsed: Reference =
            reference.parse().map_err(|error| BuildError::input(format!("`{reference}`: {error}")))?;
        let failed = |error| BuildError::store("write to the store", error);
        let writer = session.store.blob_writer_for(blob.digest.algorithm()).map_err(failed)?;
        let file = writer.file().try_clone().map_err(|error| BuildError::store("write to the store", error))?;
        (session.events)(Event::FetchStarted { digest: blob.digest.to_string(), bytes: blob.size });
        let telling = Telling::default();
        let same = file.try_clone().map_err(|error| BuildError::store("write to the store", error))?;
        follow(telling.follower(same));
        let digest = blob.digest.to_string();
        let mut sink = Sink { session, digest, file, telling, bytes: 0, told: 0, failure: None };
        let action = format!("fetch layer {} of `{}`", blob.digest.short(), parsed.familiar());
        let fetched = self.client.fetch_blob(&parsed, blob, &mut sink);
        let outcome = self.wait(session, fetched, |error| remote(action, error));
        // A full disk is the disk's fault, whatever the client makes of it.
        if let Some(error) = sink.failure {
            return Err(BuildError::store("write to the store", error));
        }
        outcome?;
        sink.telling.whole();
        writer
            .commit_digest(&blob.digest, blob.size)
            .map_err(|error| BuildError::store("write to the store", error))?;
        session.record_origin(&blob.digest, &parsed)?;
        (session.events)(Event::FetchDone { digest: blob.digest.to_string() });
        Ok(())
    }
}

pub(crate) fn remote(action: String, source: RegistryError) -> BuildError {
    BuildError::Remote { action, source, place: None }
}

/// Writes to a file of the store and tells how far it is.
struct Sink<'s> {
    session: &'s Session<'s>,
    digest: String,
    file: File,
    telling: Telling,
    bytes: u64,
    told: u64,
    failure: Option<io::Error>,
}

impl Sink<'_> {
    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| self.failure = Some(copy_error(error)))
    }
}

pub(crate) fn copy_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

impl BlobSink for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.file.write_all(bytes);
        self.note(outcome)?;
        self.bytes += bytes.len() as u64;
        self.telling.more(bytes.len() as u64);
        if self.bytes - self.told >= PROGRESS_BYTES {
            self.told = self.bytes;
            (self.session.events)(Event::FetchProgress { digest: self.digest.clone(), bytes: self.bytes });
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        (self.bytes, self.told) = (0, 0);
        self.telling.give_up();
        let outcome = self.file.set_len(0).and_then(|()| self.file.rewind());
        self.note(outcome)
    }
}
