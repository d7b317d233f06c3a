//! Layers on their way: which forms a layer has, and making the form that somebody needs.
//!
//! A layer is known by its diff id (its tar was seen), by a tree (a RUN just made it), or both. Every function here
//! makes one form from another only when it isn't there: blob (fetch), scan (diff id verified, path index), tree
//! (unpack), tar (pack). Work on one layer is done once, however many ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use kuz_image::compress::{self, Compression};
use kuz_image::index::Node;
use kuz_image::index::ancestors;
use kuz_image::{Descriptor, DiffId, Digest, IndexEntry, LayerIndex, Stack, media_type};

use crate::error::BuildError;
use crate::event::Event;
use crate::facts::Facts;
use crate::follow::Follower;
use crate::session::Session;
use kuz_sandbox::{Applied, Worker};
use kuz_store::{TreeName, TreeRecord};

/// A layer, by what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// Of a base image: its blob may not be here yet.
    Base {
        /// Place in [`Layers::bases`].
        base: usize,
        /// From the lowest.
        position: usize,
        /// What its configuration says.
        diff_id: DiffId,
    },
    /// Made here, as a tar in the store.
    Tar(DiffId),
    /// Made here by a RUN: a tree, and the record of the step that made it.
    Tree {
        /// The tree's name.
        name: TreeName,
        /// The step's key, under which the diff id is noted once the tree was packed.
        key: Digest,
    },
}

impl Layer {
    /// The layers of a base image, lowest first.
    pub(crate) fn of_base(base: usize, diff_ids: &[DiffId]) -> Vec<Self> {
        let layer = |(position, diff_id): (usize, &DiffId)| Self::Base { base, position, diff_id: diff_id.clone() };
        diff_ids.iter().enumerate().map(layer).collect()
    }
}

/// A base image: where its layers come from.
#[derive(Debug, Clone)]
pub(crate) struct BaseImage {
    /// For the registry, and for messages.
    pub(crate) reference: String,
    /// The layers' blobs, lowest first.
    pub(crate) blobs: Vec<Descriptor>,
}

/// Compressed layers that are worth a sync ahead of time: it takes a disk some tenths of a second to write what is in them.
const AHEAD_BYTES: u64 = 16 << 20;

/// Layers that are worked on at a time: more gain nothing, and each takes threads, descriptors and a pipe.
const SIDE_BY_SIDE: usize = 16;

/// What one thread at a time does with a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Fetch,
    Read,
}

/// Directories that a layer implies, with their looks, and what names a tree in which they look so.
type Settled = (Vec<(Vec<u8>, IndexEntry)>, DiffId);

/// Who works on what: one lock a content.
type Turns = BTreeMap<(Work, Digest), Arc<Mutex<()>>>;

/// All layers of a build.
#[derive(Debug)]
pub(crate) struct Layers<'s> {
    session: &'s Session<'s>,
    bases: Vec<BaseImage>,
    busy: Mutex<Turns>,
    indexes: Mutex<BTreeMap<Layer, Arc<LayerIndex>>>,
    /// What [`implied`] found: every step asks for every layer below it.
    implied: Mutex<BTreeMap<DiffId, Arc<Vec<Vec<u8>>>>>,
    /// Where a pass over a layer that is to be judged leaves what it saw.
    facts: Option<Arc<Facts>>,
    /// How many steps wait for trees: what can be done later leaves them the processors.
    waiting: Mutex<usize>,
    ready: Condvar,
}

/// What came of unpacking a layer while it was fetched.
#[derive(Debug)]
enum Arriving {
    /// Nothing: its blob is in the store already.
    Here,
    /// It was unpacked, whatever it was.
    Unpacked(Applied),
    /// It could not be: its blob is in the store now.
    Failed,
}

/// A step waits for trees as long as this is there.
struct Waiting<'l>(&'l Layers<'l>);

impl<'s> Layers<'s> {
    pub(crate) fn new(session: &'s Session<'s>, bases: Vec<BaseImage>) -> Self {
        Self {
            session,
            bases,
            busy: Mutex::default(),
            indexes: Mutex::default(),
            implied: Mutex::default(),
            facts: None,
            waiting: Mutex::default(),
            ready: Condvar::new(),
        }
    }

    /// The layers of a finished image whose facts will be asked for.
    pub(crate) fn of_image(session: &'s Session<'_>, image: BaseImage, diff_ids: &[DiffId]) -> (Self, Arc<Facts>) {
        let facts = Arc::new(Facts::new(session));
        facts.want(diff_ids);
        (Self::new(session, vec![image]).with_facts(Some(Arc::clone(&facts))), facts)
    }

    /// With a place for facts.
    pub(crate) fn with_facts(mut self, facts: Option<Arc<Facts>>) -> Self {
        self.facts = facts;
        self
    }

    /// The blob's descriptor and where to ask for it.
    fn source(&self, base: usize, position: usize) -> Option<(&BaseImage, &Descriptor)> {
        let image = self.bases.get(base)?;
        Some((image, image.blobs.get(position)?))
    }

    /// How long a base layer's blob is; 0 for what was made here.
    fn blob_bytes(&self, layer: &Layer) -> u64 {
        match layer {
            Layer::Base { base, position, .. } => self.source(*base, *position).map_or(0, |(_, blob)| blob.size),
            Layer::Tar(_) | Layer::Tree { .. } => 0,
        }
    }

    /// One worker at a time for this content.
    fn turn(&self, work: Work, digest: &Digest) -> Arc<Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.entry((work, digest.clone())).or_default().clone()
    }

    /// What a base layer's blob will be, whether it is here or not. Its origin is noted, so that a push may mount it.
    pub(crate) fn expected(&self, base: usize, position: usize) -> Result<Option<Descriptor>, BuildError> {
        let Some((image, blob)) = self.source(base, position) else { return Ok(None) };
        compression(blob)?;
        if let Ok(reference) = image.reference.parse() {
            self.session.record_origin(&blob.digest, &reference)?;
        }
        Ok(Some(blob.clone()))
    }

    /// Whether a base layer's blob is in the store.
    pub(crate) fn is_fetched(&self, base: usize, position: usize) -> Result<bool, BuildError> {
        self.source(base, position).map_or(Ok(false), |(_, blob)| self.is_here(blob))
    }

    /// Whether a base layer's blob is in the store. A manifest that lies about it is refused also then.
    fn is_here(&self, blob: &Descriptor) -> Result<bool, BuildError> {
        // Nor may an image be built on a layer that nobody could read.
        compression(blob)?;
        if !self.session.has_blob(&blob.digest)? {
            return Ok(false);
        }
        let size = self.session.store.blob_size(&blob.digest);
        match size.map_err(|error| BuildError::store("read a layer", error))? {
            Some(size) if size != blob.size => Err(BuildError::Refused {
                action: format!("verify layer {} of the base image", blob.digest.short()),
                source: format!("it has {size} bytes, the manifest says {}", blob.size).into(),
            }),
            size => Ok(size.is_some()),
        }
    }

    /// The blob of a base layer is in the store afterwards, verified by its own digest.
    pub(crate) fn fetch(&self, base: usize, position: usize) -> Result<Descriptor, BuildError> {
        let Some((image, blob)) = self.source(base, position) else {
            return Err(BuildError::input("a base image's manifest and configuration disagree about its layers"));
        };
        let turn = self.turn(Work::Fetch, &blob.digest);
        let _guard = turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.session.cancelled()?;
        if !self.is_here(blob)? {
            self.session.network()?.fetch_blob(self.session, &image.reference, blob, drop)?;
        }
        Ok(blob.clone())
    }

    /// The layer's tar was read through once: its diff id is verified, its size and path index are in the store.
    pub(crate) fn scan(&self, layer: &Layer) -> Result<(), BuildError> {
        self.pass(layer, false)
    }

    /// A base layer's blob is in the store afterwards; it is not read.
    pub(crate) fn fetch_only(&self, layer: &Layer) -> Result<(), BuildError> {
        match layer {
            Layer::Base { base, position, .. } => self.fetch(*base, *position).map(|_| ()),
            Layer::Tar(_) | Layer::Tree { .. } => Ok(()),
        }
    }

    /// As [`Self::scan`], for several, side by side.
    pub(crate) fn scan_each(&self, layers: &[Layer]) -> Result<(), BuildError> {
        side_by_side(layers.iter(), layers.len() > 1, |layer| self.scan(layer)).map(|_| ())
    }

    /// As [`Self::scan`], once no step waits for trees.
    pub(crate) fn scan_beside(&self, layer: &Layer) -> Result<(), BuildError> {
        let waiting = self.waiting();
        drop(self.ready.wait_while(waiting, |waiting| *waiting > 0).unwrap_or_else(PoisonError::into_inner));
        self.scan(layer)
    }

    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a layer's tar through, unless that was done before and need not be done `again`.
    fn pass(&self, layer: &Layer, again: bool) -> Result<(), BuildError> {
        let (Layer::Base { diff_id, .. } | Layer::Tar(diff_id)) = layer else { return Ok(()) };
        let turn = self.turn(Work::Read, &diff_id.0);
        let _guard = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = match layer {
            Layer::Base { base, position, .. } => self.fetch(*base, *position)?,
            _ => self.session.blob_of(diff_id)?,
        };
        let known = self.session.layer(diff_id)?;
        let known = known.is_some_and(|known| known.blobs.iter().any(|have| have.digest == blob.digest));
        // An image with a million files has large indexes: they are not read before somebody needs them.
        if !again && known && self.session.has_index(diff_id)? {
            return Ok(());
        }
        self.session.cancelled()?;
        let file = self.session.open_blob(&blob.digest)?;
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| BuildError::Refused {
            action: format!("read layer {}", blob.digest.short()),
            source,
        };
        let reader = compress::reader(compression(&blob)?, file).map_err(|error| refused(Box::new(error)))?;
        let Some(facts) = self.facts.as_ref().filter(|facts| facts.lacks(diff_id)) else {
            let scanned = kuz_image::scan::scan(reader).map_err(|error| refused(Box::new(error)))?;
            return self.note_scanned(diff_id, &blob, scanned);
        };
        let (scanned, seen) = kuz_verify::scan_and_collect(reader).map_err(|error| refused(Box::new(error)))?;
        self.note_scanned(diff_id, &blob, scanned)?;
        facts.record(diff_id, seen)
    }

    /// Checks a scan against what the configuration promised, and records it.
    fn note_scanned(
        &self,
        diff_id: &DiffId,
        blob: &Descriptor,
        scanned: kuz_image::scan::Scanned,
    ) -> Result<(), BuildError> {
        if scanned.diff_id != *diff_id {
            return Err(BuildError::Refused {
                action: format!("verify layer {} of the base image", blob.digest.short()),
                source: format!("its content has diff id {}, its configuration says {diff_id}", scanned.diff_id).into(),
            });
        }
        self.session.record_layer(scanned, blob).map(|_| ())
    }

    /// The path indexes of a stack are in the store afterwards; of base layers that were not read before, side by side.
    pub(crate) fn scan_all(&self, stack: &[Layer]) -> Result<(), BuildError> {
        let mut missing = Vec::new();
        for layer in stack {
            if let Layer::Base { diff_id, .. } = layer
                && !self.session.has_index(diff_id)?
            {
                missing.push(layer.clone());
            }
        }
        self.scan_each(&missing)
    }

    /// The path index, without unpacking where the layer's tar was seen.
    pub(crate) fn index(&self, layer: &Layer) -> Result<Arc<LayerIndex>, BuildError> {
        if let Some(known) = self.indexes.lock().unwrap_or_else(PoisonError::into_inner).get(layer) {
            return Ok(known.clone());
        }
        let index = match layer {
            Layer::Base { diff_id, .. } | Layer::Tar(diff_id) => {
                if let Some(index) = self.session.index(diff_id)? {
                    index
                } else {
                    // None, or one that cannot be believed.
                    self.pass(layer, true)?;
                    self.session.index(diff_id)?.ok_or_else(|| gone(&diff_id.0))?
                }
            }
            Layer::Tree { name, .. } => self.session.tree_index(name)?,
        };
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.clone(), index.clone());
        Ok(index)
    }

    /// The name of the tree of one layer of a stack, which is there and complete afterwards.
    fn tree(&self, stack: &[Layer], at: usize) -> Result<TreeName, BuildError> {
        let Some(layer) = stack.get(at) else { return Err(BuildError::Cancelled) };
        let diff_id = match layer {
            Layer::Tree { name, .. } => return Ok(name.clone()),
            Layer::Base { diff_id, .. } | Layer::Tar(diff_id) => diff_id,
        };
        let turn = self.turn(Work::Read, &diff_id.0);
        let _guard = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| BuildError::store("unpack a layer", error);
        let trees = self.session.trees()?;
        if let Some(identity) = self.identity(stack, at, diff_id)?
            && let Some(name) = trees.find(&identity).map_err(failed)?
        {
            return Ok(name);
        }
        let worker = self.session.worker()?;
        let mut tree = trees.begin().map_err(failed)?;
        let arriving = match layer {
            Layer::Base { base, position, .. } => self.unpack_arriving(*base, *position, worker, tree.name())?,
            _ => Arriving::Here,
        };
        let blob = match layer {
            Layer::Base { base, position, .. } => self.fetch(*base, *position)?,
            _ => self.session.blob_of(diff_id)?,
        };
        let unpack = |error| BuildError::Refused {
            action: format!("unpack layer {}", diff_id.0.short()),
            source: Box::new(error),
        };
        let applied = match arriving {
            // A transfer that began anew ends early for whoever follows it, which need not be an error to the worker.
            Arriving::Unpacked(applied) if applied.scanned.diff_id == *diff_id => applied,
            other => {
                if !matches!(other, Arriving::Here) {
                    tree = trees.begin().map_err(failed)?;
                }
                self.session.cancelled()?;
                (self.session.events)(Event::Unpacking { diff_id: diff_id.to_string() });
                let file = self.session.open_blob(&blob.digest)?;
                worker.apply(&file, compression(&blob)?, tree.name().as_str()).map_err(unpack)?
            }
        };
        let scanned = applied.scanned;
        let record = TreeRecord { diff_id: None, files: scanned.index.entries.len() as u64, bytes: scanned.bytes };
        self.note_scanned(diff_id, &blob, scanned)?;
        let mut identity = diff_id.clone();
        if !applied.implied.is_empty() {
            let (directories, name) = self.settled(stack, at, diff_id, &applied.implied)?;
            worker.settle(tree.name().as_str(), &directories).map_err(unpack)?;
            identity = name;
        }
        trees.publish(tree, &identity, &record).map_err(failed)
    }

    /// Unpacks a base layer's blob while it comes in, if it is not here already. Nobody sees the tree before the blob and its
    /// content have proved to be what they should be.
    fn unpack_arriving(
        &self,
        base: usize,
        position: usize,
        worker: &Worker,
        tree: &TreeName,
    ) -> Result<Arriving, BuildError> {
        let Some((image, blob)) = self.source(base, position) else { return Ok(Arriving::Here) };
        let turn = self.turn(Work::Fetch, &blob.digest);
        let _guard = turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.session.cancelled()?;
        if self.is_here(blob)? {
            return Ok(Arriving::Here);
        }
        let compression = compression(blob)?;
        let network = self.session.network()?;
        let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| BuildError::store("open a pipe", error))?;
        std::thread::scope(|scope| {
            let unpacking = scope.spawn(move || worker.apply(&File::from(reading), compression, tree.as_str()));
            let follow = |arriving: Follower| drop(scope.spawn(move || arriving.pass_on(File::from(writing))));
            let fetched = network.fetch_blob(self.session, &image.reference, blob, follow);
            let applied = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What went wrong with a blob that is whole now goes wrong again, and is told then.
            fetched.map(|()| applied.map_or(Arriving::Failed, Arriving::Unpacked))
        })
    }

    /// What names a layer's tree: the layer itself, unless it passes through directories that it does not list. Those
    /// look as they do in the layers below, so its tree is another over other layers. `None` while that isn't known.
    fn identity(&self, stack: &[Layer], at: usize, diff_id: &DiffId) -> Result<Option<DiffId>, BuildError> {
        let Some(implied) = self.implied(diff_id)? else { return Ok(None) };
        if implied.is_empty() {
            return Ok(Some(diff_id.clone()));
        }
        Ok(Some(self.settled(stack, at, diff_id, &implied)?.1))
    }

    /// Directories that a layer implies; `None` while its index isn't known.
    fn implied(&self, diff_id: &DiffId) -> Result<Option<Arc<Vec<Vec<u8>>>>, BuildError> {
        if let Some(known) = self.implied.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id) {
            return Ok(Some(known.clone()));
        }
        let Some(index) = self.session.index(diff_id)? else { return Ok(None) };
        let found = Arc::new(implied(&index));
        self.implied.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id.clone(), found.clone());
        Ok(Some(found))
    }

    /// Directories that a layer implies, as the layers below have them, and what names a tree in which they look so.
    fn settled(
        &self,
        stack: &[Layer],
        at: usize,
        diff_id: &DiffId,
        implied: &[Vec<u8>],
    ) -> Result<Settled, BuildError> {
        let below = stack.iter().take(at).map(|layer| self.index(layer)).collect::<Result<Vec<_>, _>>()?;
        let below = Stack::new(below);
        let known = |path: &Vec<u8>| below.get(path).cloned().map(|entry| (path.clone(), entry));
        let directories: Vec<_> = implied.iter().filter_map(known).collect();
        // As a directory it would hide what the link below leads to, and be another place than other builders mean.
        if let Some((path, _)) = directories.iter().find(|(_, entry)| !matches!(entry.node, Node::Dir { .. })) {
            let path = path.escape_ascii();
            return Err(BuildError::Refused {
                action: format!("unpack layer {}", diff_id.0.short()),
                source: format!("it has files below `{path}`, which is no directory in the layers below").into(),
            });
        }
        let name = DiffId(Digest::of(format!("{diff_id} over {directories:?}").as_bytes()));
        Ok((directories, name))
    }

    /// The layer as a tar in the store: its diff id and the descriptor for a manifest.
    pub(crate) fn tar(&self, layer: &Layer, epoch: Option<i64>) -> Result<(DiffId, Descriptor), BuildError> {
        match layer {
            Layer::Base { base, position, diff_id } => {
                self.scan(layer)?;
                let (_, blob) = self.source(*base, *position).ok_or_else(|| gone(&diff_id.0))?;
                Ok((diff_id.clone(), blob.clone()))
            }
            Layer::Tar(diff_id) => Ok((diff_id.clone(), self.session.blob_of(diff_id)?)),
            Layer::Tree { name, key } => {
                let diff_id = self.session.pack(name, key, epoch)?;
                let blob = self.session.blob_of(&diff_id)?;
                Ok((diff_id, blob))
            }
        }
    }

    /// The trees of these places in a stack, made side by side where several are missing.
    pub(crate) fn trees(&self, stack: &[Layer], places: &[usize]) -> Result<Vec<String>, BuildError> {
        let trees = self.session.trees()?;
        let (mut missing, mut bytes) = (0, 0);
        for (at, layer) in places.iter().filter_map(|&at| Some((at, stack.get(at)?))) {
            if let Layer::Base { diff_id, .. } | Layer::Tar(diff_id) = layer {
                let found = match self.identity(stack, at, diff_id)? {
                    Some(identity) => trees.find(&identity),
                    None => Ok(None),
                };
                if found.map_err(|error| BuildError::store("read a tree's record", error))?.is_none() {
                    missing += 1;
                    bytes = self.blob_bytes(layer).saturating_add(bytes);
                }
            }
        }
        let one = |at: usize| self.tree(stack, at).map(String::from);
        if missing == 0 {
            return places.iter().copied().map(one).collect();
        }
        let waiting = Waiting::begin(self);
        self.session.worker()?;
        let made = side_by_side(places.iter().copied(), missing > 1, one)?;
        drop(waiting);
        if bytes >= AHEAD_BYTES {
            // Whatever runs in them now leaves the medium idle.
            self.session.store.sync_ahead();
        }
        if let Some(facts) = &self.facts {
            facts.arrived(stack.iter().filter_map(|layer| match layer {
                Layer::Base { diff_id, .. } | Layer::Tar(diff_id) => Some(diff_id),
                Layer::Tree { .. } => None,
            }));
        }
        Ok(made)
    }

    /// All trees of a stack, lowest first.
    pub(crate) fn all_trees(&self, stack: &[Layer]) -> Result<Vec<String>, BuildError> {
        self.trees(stack, &(0..stack.len()).collect::<Vec<_>>())
    }
}

impl<'l> Waiting<'l> {
    fn begin(layers: &'l Layers<'l>) -> Self {
        *layers.waiting() += 1;
        Self(layers)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.0.waiting() -= 1;
        self.0.ready.notify_all();
    }
}

/// Things to do, each for the first thread that asks.
pub(crate) struct Queue<I>(Mutex<I>);

impl<I: Iterator> Queue<I> {
    pub(crate) fn new(items: I) -> Self {
        Self(Mutex::new(items))
    }

    pub(crate) fn next(&self) -> Option<I::Item> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Work on each of these, on several threads if there are `several`; what came of each, in their order.
fn side_by_side<I: Send, T: Send + Sync>(
    items: impl Iterator<Item = I>,
    several: bool,
    work: impl Fn(I) -> Result<T, BuildError> + Sync,
) -> Result<Vec<T>, BuildError> {
    if !several {
        return items.map(work).collect();
    }
    let items: Vec<I> = items.collect();
    let results: Vec<OnceLock<Result<T, BuildError>>> = items.iter().map(|_| OnceLock::new()).collect();
    let count = items.len().min(SIDE_BY_SIDE);
    let queue = Queue::new(items.into_iter().zip(&results));
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                while let Some((item, result)) = queue.next() {
                    let _ = result.set(work(item));
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().unwrap_or(Err(BuildError::Cancelled))).collect()
}

/// Directories that a layer's entries lie in and that it does not list itself, in order.
fn implied(index: &LayerIndex) -> Vec<Vec<u8>> {
    let mut missing = BTreeSet::new();
    let mut last: &[u8] = b"";
    for path in index.entries.keys() {
        let Some(parent) = ancestors(path).next().filter(|parent| *parent != last) else { continue };
        last = parent;
        let unlisted = std::iter::once(parent).chain(ancestors(parent));
        missing.extend(unlisted.filter(|at| !at.is_empty() && !index.entries.contains_key(*at)).map(<[u8]>::to_vec));
    }
    missing.into_iter().collect()
}

fn gone(digest: &Digest) -> BuildError {
    BuildError::Store {
        action: format!("read layer {}", digest.short()),
        source: "it is no longer in the store; run the build again".into(),
    }
}

/// How a blob is compressed, by its media type.
pub(crate) fn compression(blob: &Descriptor) -> Result<Compression, BuildError> {
    compress::of_media_type(&blob.media_type).ok_or_else(|| BuildError::Refused {
        action: format!("read layer {}", blob.digest.short()),
        source: format!("its media type `{}` is not one that kuz knows", blob.media_type.escape_debug()).into(),
    })
}

/// The same layer in an OCI manifest: the bytes stay, a Docker media type is translated.
pub(crate) fn as_oci(blob: &Descriptor) -> Descriptor {
    let kind = match blob.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD => media_type::LAYER_ZSTD,
        other => other,
    };
    Descriptor::new(kind, blob.digest.clone(), blob.size)
}
