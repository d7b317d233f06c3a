//! A reader as the body of a request, with a pulse that tells whether it is still being taken.
//!
//! The reader runs on a blocking thread and is at most four buffers ahead of the network.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use tokio::sync::mpsc;

const BUFFER: usize = 256 * 1024;
const BUFFERS_AHEAD: usize = 4;

/// What the network has taken so far.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    taken: AtomicU64,
    done: AtomicBool,
}

impl Pulse {
    /// Returns when nothing was taken for `stall`, or no answer came for `commit` after all was taken.
    pub(crate) async fn stopped(&self, stall: Duration, commit: Duration) {
        loop {
            let before = (self.taken.load(Ordering::SeqCst), self.done.load(Ordering::SeqCst));
            tokio::time::sleep(if before.1 { commit } else { stall }).await;
            if before == (self.taken.load(Ordering::SeqCst), self.done.load(Ordering::SeqCst)) {
                return;
            }
        }
    }
}

/// A body that is about to be sent.
pub(crate) struct UploadBody {
    pub(crate) length: u64,
    pub(crate) pulse: Arc<Pulse>,
    reader: Box<dyn Read + Send>,
    on_progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl UploadBody {
    /// Sends exactly `length` bytes of `reader`; `on_progress` hears how many were taken so far.
    pub(crate) fn new(reader: Box<dyn Read + Send>, length: u64, on_progress: Arc<dyn Fn(u64) + Send + Sync>) -> Self {
        Self { length, pulse: Arc::default(), reader, on_progress }
    }

    pub(crate) fn into_body(self) -> Body {
        let (sender, receiver) = mpsc::channel(BUFFERS_AHEAD);
        let mut reader = self.reader.take(self.length);
        tokio::task::spawn_blocking(move || {
            loop {
                let (piece, last) = match read_full(&mut reader) {
                    Ok(piece) if piece.is_empty() => break,
                    Ok(piece) => (Ok(piece), false),
                    Err(error) => (Err(error), true),
                };
                // A closed channel means that the request is over.
                if sender.blocking_send(piece).is_err() || last {
                    break;
                }
            }
        });
        let (pulse, length, on_progress) = (self.pulse, self.length, self.on_progress);
        if length == 0 {
            pulse.done.store(true, Ordering::SeqCst);
        }
        let pieces = stream::unfold(receiver, move |mut receiver| {
            let (pulse, on_progress) = (Arc::clone(&pulse), Arc::clone(&on_progress));
            async move {
                let piece: io::Result<Bytes> = receiver.recv().await?;
                if let Ok(piece) = &piece {
                    let count = piece.len() as u64;
                    let taken = pulse.taken.fetch_add(count, Ordering::SeqCst) + count;
                    on_progress(taken);
                    if taken >= length {
                        pulse.done.store(true, Ordering::SeqCst);
                    }
                }
                Some((piece, receiver))
            }
        });
        Body::wrap_stream(pieces)
    }
}

/// One buffer, filled as far as the reader goes: small pieces make small packets.
fn read_full(reader: &mut impl Read) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(BUFFER);
    reader.by_ref().take(BUFFER as u64).read_to_end(&mut buffer)?;
    Ok(Bytes::from(buffer))
}
