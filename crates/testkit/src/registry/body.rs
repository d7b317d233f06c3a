//! A response body that can end early or never.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

const CHUNK: usize = 16 * 1024;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As announced.
    Done,
    /// The connection is closed.
    Cut,
    /// Nothing more comes, and the connection stays.
    Stall,
}

/// Bytes, then an end.
#[derive(Debug)]
pub(super) struct ScriptedBody {
    chunks: VecDeque<Bytes>,
    end: End,
    known_length: bool,
    pauses: u8,
    sent: Arc<AtomicU64>,
}

impl ScriptedBody {
    pub(super) fn new(bytes: &Bytes, end: End, sent: Arc<AtomicU64>) -> Self {
        let mut chunks = VecDeque::new();
        let mut at = 0;
        while at < bytes.len() {
            let next = (at + CHUNK).min(bytes.len());
            chunks.push_back(bytes.slice(at..next));
            at = next;
        }
        // hyper drops what it has buffered when a body fails: let it flush a few times before that.
        Self { chunks, end, known_length: end == End::Done, pauses: 4, sent }
    }

    /// Sends it chunked, without a length.
    pub(super) fn without_length(mut self) -> Self {
        self.known_length = false;
        self
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            self.sent.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            End::Done => Poll::Ready(None),
            End::Stall => Poll::Pending,
            End::Cut if self.pauses > 0 => {
                self.pauses -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Cut => Poll::Ready(Some(Err(io::Error::other("cut on purpose")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.end == End::Done && self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.known_length {
            SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum())
        } else {
            SizeHint::default()
        }
    }
}
