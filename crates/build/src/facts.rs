//! Facts about layers: from the store, or collected from their tars beside the steps.
//!
//! A layer is wanted as soon as it is known and read once its tar is in the store, or while it is written there, on threads of
//! its own, which begin with the first step that misses, if there is more to read than a few files. Whoever wants the facts
//! in the end helps with what is left and waits for the rest. Facts are kept in the store by diff id, with an imprint of each layer: where that is
//! enough to know an earlier verdict again, the facts themselves are not even read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use kuz_image::{DiffId, compress};
use kuz_sandbox::Cancel;
use kuz_store::Store;
use kuz_verify::{Imprint, LayerFacts};

use crate::error::BuildError;
use crate::follow::Follower;
use crate::session::Session;

/// More threads than this only take processors away from the steps.
const THREADS: usize = 4;
/// A layer with fewer bytes is read by whoever wants its facts in the end: that takes less than to start a thread.
const SMALL: u64 = 256 << 10;

/// Why a layer has no facts.
#[derive(Debug, thiserror::Error)]
enum FactsError {
    /// Its tar is not in the store.
    #[error("its blob is not in the store")]
    NotHere,
    /// The store.
    #[error(transparent)]
    Store(#[from] kuz_store::StoreError),
    /// Its media type is not one that can be read.
    #[error("its media type is not known")]
    MediaType,
    /// Its decompression.
    #[error("decompress it")]
    Decompress(#[source] io::Error),
    /// Its tar.
    #[error(transparent)]
    Tar(#[from] kuz_image::tar::TarError),
}

/// Facts of the layers of one build.
#[derive(Debug)]
pub(crate) struct Facts {
    shared: Arc<Shared>,
    begun: AtomicBool,
    started: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A layer that is read while it is written: it has no name yet.
#[derive(Debug)]
pub(crate) struct Following {
    shared: Arc<Shared>,
    named: mpsc::Sender<DiffId>,
}

impl Following {
    /// The layer is whole and in the store, with its index.
    pub(crate) fn named(self, diff_id: &DiffId) {
        let mut state = self.shared.state();
        if state.known.contains_key(diff_id) || state.busy.contains(diff_id) {
            return;
        }
        state.wanted.insert(diff_id.clone());
        state.busy.insert(diff_id.clone());
        drop(state);
        if self.named.send(diff_id.clone()).is_err() {
            self.shared.done(diff_id, None);
        }
    }
}

#[derive(Debug)]
struct Shared {
    store: Store,
    state: Mutex<State>,
    changed: Condvar,
    cancel: Cancel,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeSet<DiffId>,
    queue: VecDeque<(DiffId, Depth)>,
    busy: BTreeSet<DiffId>,
    known: BTreeMap<DiffId, Arc<LayerFacts>>,
}

/// How much is needed of a layer's facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// That they and the imprint are in the store.
    Stored,
    /// Here.
    Read,
}

impl Facts {
    /// None yet.
    pub(crate) fn new(session: &Session<'_>) -> Self {
        let shared = Shared {
            store: session.store.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
            cancel: session.cancel.clone(),
            stopped: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            begun: AtomicBool::default(),
            started: AtomicBool::default(),
            threads: Mutex::default(),
        }
    }

    /// These layers' facts will be asked for.
    pub(crate) fn want<'d>(&self, diff_ids: impl IntoIterator<Item = &'d DiffId>) {
        let mut state = self.shared.state();
        let new = diff_ids.into_iter().filter(|diff_id| state.wanted.insert((*diff_id).clone())).cloned().collect();
        drop(state);
        self.enqueue(new);
    }

    /// These layers' tars have come into the store: those that are wanted and were not there before are read now.
    pub(crate) fn arrived<'d>(&self, diff_ids: impl IntoIterator<Item = &'d DiffId>) {
        let state = self.shared.state();
        let waits = |diff_id: &DiffId| {
            state.busy.contains(diff_id) || state.queue.iter().any(|(waiting, _)| waiting == diff_id)
        };
        let lacks = |diff_id: &DiffId| state.wanted.contains(diff_id) && !state.known.contains_key(diff_id);
        let new = diff_ids.into_iter().filter(|diff_id| lacks(diff_id) && !waits(diff_id)).cloned().collect();
        drop(state);
        self.enqueue(new);
    }

    /// To be read beside the steps: all, until it has begun; then those that are worth a thread.
    fn enqueue(&self, diff_ids: Vec<DiffId>) {
        let begun = self.begun.load(Ordering::Relaxed);
        let queued = diff_ids.into_iter().filter(|diff_id| !begun || self.shared.is_work(diff_id));
        let queued: Vec<_> = queued.map(|diff_id| (diff_id, Depth::Stored)).collect();
        if queued.is_empty() {
            return;
        }
        self.shared.state().queue.extend(queued);
        if begun {
            self.start();
        }
    }

    /// Whether a pass over this layer's tar should collect them on the way.
    pub(crate) fn lacks(&self, diff_id: &DiffId) -> bool {
        let state = self.shared.state();
        state.wanted.contains(diff_id) && !state.known.contains_key(diff_id)
    }

    /// What such a pass collected.
    pub(crate) fn record(&self, diff_id: &DiffId, facts: LayerFacts) -> Result<(), BuildError> {
        let recorded = self.shared.store.record_facts(diff_id, &facts.to_bytes());
        recorded.map_err(|error| BuildError::store("record a layer's facts", error))?;
        self.shared.state().known.insert(diff_id.clone(), Arc::new(facts));
        Ok(())
    }

    /// Reads a layer's tar that is still being written, on a thread of its own; `None` where none can be had.
    pub(crate) fn follow(&self, tar: Follower) -> Option<Following> {
        let shared = Arc::clone(&self.shared);
        let (named, name) = mpsc::channel::<DiffId>();
        let work = move || {
            let tar = Stoppable { source: tar, shared: &shared };
            let facts = guarded(|| kuz_verify::collect(tar).ok()).map(Arc::new);
            // Nobody names what was not finished.
            let Ok(diff_id) = name.recv() else { return };
            if let Some(facts) = &facts {
                // Without them they are collected again.
                let _ = shared.store.record_facts(&diff_id, &facts.to_bytes());
                let _ = guarded(|| shared.make_imprint(&diff_id, facts).ok());
            }
            shared.done(&diff_id, facts.as_ref());
        };
        let thread = std::thread::Builder::new().name("facts".into()).spawn(work).ok()?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Some(Following { shared: Arc::clone(&self.shared), named })
    }

    /// There is work now: reading begins beside it.
    pub(crate) fn begin(&self) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            let queued = std::mem::take(&mut self.shared.state().queue);
            self.enqueue(queued.into_iter().map(|(diff_id, _)| diff_id).collect());
        }
    }

    /// Somebody must look at the queue: the threads, which are started when they are first needed.
    fn start(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.started.swap(true, Ordering::Relaxed) {
            let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
            for _ in 0..count {
                let shared = Arc::clone(&self.shared);
                // Where no thread can be had, the layers are read in the end.
                let started = std::thread::Builder::new().name("facts".into()).spawn(move || shared.work());
                threads.extend(started);
            }
        }
        drop(threads);
        self.shared.changed.notify_all();
    }

    /// The facts of these layers, in order.
    pub(crate) fn get(&self, diff_ids: &[DiffId]) -> Result<Vec<Arc<LayerFacts>>, BuildError> {
        self.want(diff_ids);
        let lacking: Vec<DiffId> = diff_ids.iter().filter(|diff_id| self.lacks(diff_id)).cloned().collect();
        if lacking.len() > 1 {
            let mut state = self.shared.state();
            state.queue.retain(|(waiting, _)| !lacking.contains(waiting));
            state.queue.extend(lacking.into_iter().map(|diff_id| (diff_id, Depth::Read)));
            drop(state);
            self.start();
        }
        diff_ids.iter().map(|diff_id| self.one(diff_id)).collect()
    }

    /// What the checks can see of these layers, in order; `None` if an index is missing or damaged.
    pub(crate) fn imprints(&self, diff_ids: &[DiffId]) -> Result<Option<Vec<Imprint>>, BuildError> {
        self.want(diff_ids);
        let failed = |error: FactsError| BuildError::store("read a layer's imprint", error);
        let known = diff_ids.iter().map(|diff_id| self.shared.imprint(diff_id).map_err(failed));
        let known = known.collect::<Result<Vec<_>, _>>()?;
        let unknown = diff_ids.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unknown: Vec<_> = unknown.map(|(diff_id, _)| (diff_id.clone(), Depth::Stored)).collect();
        if unknown.len() > 1 {
            self.shared.state().queue.extend(unknown);
            self.start();
        }
        let all = diff_ids.iter().zip(known).map(|(diff_id, known)| {
            if let Some(known) = known {
                return Ok(Some(known));
            }
            let facts = self.one(diff_id)?;
            match self.shared.imprint(diff_id).map_err(failed)? {
                Some(made) => Ok(Some(made)),
                None => self.shared.make_imprint(diff_id, &facts).map_err(failed),
            }
        });
        all.collect()
    }

    fn one(&self, diff_id: &DiffId) -> Result<Arc<LayerFacts>, BuildError> {
        let mut state = self.shared.state();
        loop {
            if let Some(known) = state.known.get(diff_id) {
                return Ok(Arc::clone(known));
            }
            if !state.busy.contains(diff_id) {
                break;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Nobody reads it: still waiting in the queue, or it was not in the store when its turn came.
        state.queue.retain(|(waiting, _)| waiting != diff_id);
        state.busy.insert(diff_id.clone());
        drop(state);
        let read = self.shared.read(diff_id);
        let found = self.shared.done(diff_id, read.as_ref().ok());
        match (found, read) {
            (Some(facts), _) => Ok(facts),
            (None, Err(_)) if self.shared.cancel.is_cancelled() => Err(BuildError::Cancelled),
            (None, Err(error)) => Err(BuildError::store(format!("read layer {}", diff_id.0.short()), error)),
            (None, Ok(_)) => Err(BuildError::Cancelled),
        }
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Taken so that nobody is between looking and waiting.
        drop(self.shared.state());
        self.shared.changed.notify_all();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Panics end in `guarded`.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn work(&self) {
        // The layer that a step is about to write is often the first to be read.
        kuz_verify::secrets::make_ready();
        loop {
            let mut state = self.state();
            let (diff_id, depth) = loop {
                if self.stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(next) = state.queue.pop_front() {
                    break next;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            if state.known.contains_key(&diff_id) || state.busy.contains(&diff_id) {
                continue;
            }
            state.busy.insert(diff_id.clone());
            drop(state);
            // What went wrong is met again by whoever asks for this layer.
            let read = guarded(|| match depth {
                Depth::Stored => self.prepare(&diff_id).ok().flatten(),
                Depth::Read => self.read(&diff_id).ok(),
            });
            self.done(&diff_id, read.as_ref());
        }
    }

    fn done(&self, diff_id: &DiffId, read: Option<&Arc<LayerFacts>>) -> Option<Arc<LayerFacts>> {
        let mut state = self.state();
        state.busy.remove(diff_id);
        if let Some(facts) = read {
            state.known.entry(diff_id.clone()).or_insert_with(|| Arc::clone(facts));
        }
        let known = state.known.get(diff_id).map(Arc::clone);
        drop(state);
        self.changed.notify_all();
        known
    }

    /// Facts and imprint are in the store afterwards. Gives the facts, if they had to be read for that.
    fn prepare(&self, diff_id: &DiffId) -> Result<Option<Arc<LayerFacts>>, FactsError> {
        if self.imprint(diff_id)?.is_some() {
            return Ok(None);
        }
        let facts = self.read(diff_id)?;
        self.make_imprint(diff_id, &facts)?;
        Ok(Some(facts))
    }

    /// Whether a thread should read this layer: there is no imprint of it, and it is not small.
    fn is_work(&self, diff_id: &DiffId) -> bool {
        // What went wrong is met again by whoever asks for this layer.
        !self.store.has_imprint(diff_id).unwrap_or(false) && !self.is_small(diff_id)
    }

    fn is_small(&self, diff_id: &DiffId) -> bool {
        matches!(self.store.layer(diff_id), Ok(Some(layer)) if layer.bytes < SMALL)
    }

    /// A layer's imprint, from the store.
    fn imprint(&self, diff_id: &DiffId) -> Result<Option<Imprint>, FactsError> {
        Ok(self.store.imprint(diff_id)?.and_then(|bytes| Imprint::from_bytes(&bytes)))
    }

    /// Makes and keeps a layer's imprint; `None` if its index is not there yet.
    fn make_imprint(&self, diff_id: &DiffId, facts: &LayerFacts) -> Result<Option<Imprint>, FactsError> {
        let Some(index) = self.store.index(diff_id)? else { return Ok(None) };
        let imprint = Imprint::of(&index, facts);
        self.store.record_imprint(diff_id, &imprint.to_bytes())?;
        Ok(Some(imprint))
    }

    /// From the store, or from the layer's tar in it.
    fn read(&self, diff_id: &DiffId) -> Result<Arc<LayerFacts>, FactsError> {
        if let Some(facts) = self.store.facts(diff_id)?.and_then(|bytes| LayerFacts::from_bytes(&bytes)) {
            return Ok(Arc::new(facts));
        }
        let mut blobs = self.store.layer(diff_id)?.ok_or(FactsError::NotHere)?.blobs;
        blobs.sort_by_key(|blob| blob.digest != diff_id.0);
        for blob in blobs {
            let Some(file) = self.store.open_blob(&blob.digest)? else { continue };
            let compression = compress::of_media_type(&blob.media_type).ok_or(FactsError::MediaType)?;
            let source = Stoppable { source: file, shared: self };
            let tar = compress::reader(compression, source).map_err(FactsError::Decompress)?;
            let facts = kuz_verify::collect(tar)?;
            self.store.record_facts(diff_id, &facts.to_bytes())?;
            return Ok(Arc::new(facts));
        }
        Err(FactsError::NotHere)
    }
}

/// What a thread's work gives. A panic, which has been told by then, gives nothing: whoever waits for the layer must not
/// wait for ever, and meets it again.
fn guarded<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

/// A source that ends with an error when nobody wants its content any more.
struct Stoppable<'s, R> {
    source: R,
    shared: &'s Shared,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.shared.stopped.load(Ordering::Relaxed) || self.shared.cancel.is_cancelled() {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        self.source.read(buffer)
    }
}
