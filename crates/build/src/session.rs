//! One use of the store by this process: the store, its lease, and what is started only when it is first needed.
//!
//! The network (a runtime with a registry client) and the worker (the process that owns all trees) do not exist before
//! somebody asks for them, so a build that does nothing starts nothing. Small wrappers turn the parts' errors into
//! [`BuildError`]s that say what was being done.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kuz_image::reference::Reference;
use kuz_image::scan::Scanned;
use kuz_image::tar::TarReader;
use kuz_image::{Descriptor, DiffId, Digest, Document, ImageConfig, ImageId, LayerIndex, Manifest, limits, media_type};
use kuz_rootfs::read::TreeFile;
use kuz_sandbox::preflight::{Asker, preflight};
use kuz_sandbox::{Cancel, Ids, Isolation, SandboxError, Worker};
use kuz_store::{LayerBlob, LayerRecord, Lease, NewTree, StepRecord, Store, StoreOptions, TreeName, TreeRecord, Trees};

use crate::error::BuildError;
use crate::event::Event;
use crate::known::Known;
use crate::network::Network;
use crate::passed::Passed;
use crate::request::{BuildRequest, Machine};

/// Where events go.
pub type Events<'a> = dyn Fn(Event) + Sync + 'a;

/// The kind of the record with the range of ids that root's sandboxes use.
const IDS: &str = "ids";
/// The kind of records that say which repository a blob came from.
const ORIGIN: &str = "origin";
/// The kind of records with the times of things that have no other record.
const TIME: &str = "time";
/// The kind of records with the path indexes of trees that were never packed.
const TREE_INDEX: &str = "tree-index";

/// One use of the store.
pub struct Session<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) store: Store,
    pub(crate) cancel: &'a Cancel,
    /// Ends with the user's, and for all work of this build when a part of it has failed.
    pub(crate) work: Cancel,
    pub(crate) events: &'a Events<'a>,
    lease: Mutex<Option<Lease>>,
    known: Known,
    passed: OnceLock<Passed>,
    network: OnceLock<Network>,
    trees: OnceLock<Trees>,
    worker: OnceLock<Worker>,
    /// The worker's own directory: noted in the store as long as the worker lives, so that it's swept if both are killed.
    /// Dropped after the worker, which removes it.
    workplace: OnceLock<NewTree>,
    starting: Mutex<()>,
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Opens the store, makes it on first use, and takes part in it.
    pub fn open(machine: &'a Machine, cancel: &'a Cancel, events: &'a Events<'a>) -> Result<Self, BuildError> {
        let failed = |error| BuildError::store(format!("open the store `{}`", machine.store.display()), error);
        let mut options = StoreOptions::new(&machine.boot_id, machine.now.0);
        options.fault.clone_from(&machine.store_fault);
        let stop = cancel.clone();
        options.stop = kuz_store::Stop::when(move || stop.is_cancelled());
        let store = Store::open(Path::new(&machine.store), options)
            .map_err(|error| BuildError::store(format!("open the store `{}`", machine.store.display()), error))?;
        say_wait(&store, false, cancel, events).map_err(failed)?;
        let lease = store.lease().map_err(failed)?;
        let session = Self {
            machine,
            store,
            cancel,
            events,
            lease: Mutex::new(None),
            known: Known::default(),
            work: cancel.child(),
            passed: OnceLock::new(),
            network: OnceLock::new(),
            trees: OnceLock::new(),
            worker: OnceLock::new(),
            workplace: OnceLock::new(),
            starting: Mutex::new(()),
        };
        let trash = lease.trees_to_remove();
        *session.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        if trash {
            session.empty_trash();
        }
        Ok(session)
    }

    /// From now on the request's secrets and agents can be asked for.
    pub(crate) fn pass_on(&self, request: &BuildRequest) {
        let _ = self.passed.set(Passed::new(request));
    }

    /// What the user passes on.
    pub(crate) fn passed(&self) -> &Passed {
        self.passed.get_or_init(Passed::default)
    }

    /// Gives up the part in the store: others may prune it from here on.
    pub(crate) fn release(&self) {
        self.known.forget();
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Gives up the part in the store, since this process needs it for itself next, and says so if it has to wait.
    pub(crate) fn release_for_alone(&self) -> Result<(), BuildError> {
        self.release();
        say_wait(&self.store, true, self.cancel, self.events)
            .map_err(|error| BuildError::store("lock the store", error))
    }

    /// Takes part in the store again, after [`Self::release`].
    pub(crate) fn rejoin(&self) -> Result<(), BuildError> {
        let lease = self.store.lease().map_err(|error| BuildError::store("lock the store", error))?;
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        Ok(())
    }

    /// An error if the user has asked to stop, or another part of the build has failed.
    pub(crate) fn cancelled(&self) -> Result<(), BuildError> {
        if self.work.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        Ok(())
    }

    /// The clock's time at the start of the program, for records.
    pub(crate) fn now(&self) -> String {
        let (seconds, nanoseconds) = self.machine.now;
        crate::time::rfc3339_exact(seconds, nanoseconds)
    }

    /// The time at which this was first asked: kept, so that rebuilds give the same image.
    pub(crate) fn first_time(&self, key: &Digest) -> Result<String, BuildError> {
        let failed = |error| BuildError::store("read a record", error);
        if let Some(known) = self.store.get(TIME, key.hex()).map_err(failed)? {
            return Ok(String::from_utf8_lossy(&known).into_owned());
        }
        let now = self.now();
        self.store.put(TIME, key.hex(), now.as_bytes()).map_err(failed)?;
        Ok(now)
    }

    // What starts late.

    /// The network; its runtime starts now if it hasn't.
    pub(crate) fn network(&self) -> Result<&Network, BuildError> {
        let _turn = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        self.cancel.attend();
        let network = Network::start(self.machine)?;
        Ok(self.network.get_or_init(|| network))
    }

    /// The ids of this user's sandboxes: as root those that the store was begun with.
    fn ids(&self) -> Result<Ids, BuildError> {
        let failed = |error| BuildError::store("read the store's id range", error);
        let recorded = self.store.get(IDS, "range").map_err(failed)?;
        let recorded = recorded.and_then(|bytes| serde_json::from_slice::<(u32, u32)>(&bytes).ok());
        let machine = self.machine;
        let ids =
            kuz_sandbox::ids::detect(machine.uid, machine.gid, machine.user.as_deref().unwrap_or_default(), recorded)
                .map_err(|error| BuildError::Environment {
                message: format!("{error}; to mend it: {}", error.mend()),
                source: None,
            })?;
        if let Some(range) = ids.record().filter(|range| recorded != Some(*range)) {
            let bytes = serde_json::to_vec(&range).unwrap_or_default();
            self.store.put(IDS, "range", &bytes).map_err(failed)?;
        }
        Ok(ids)
    }

    /// The trees of this user's ids.
    pub(crate) fn trees(&self) -> Result<&Trees, BuildError> {
        if let Some(trees) = self.trees.get() {
            return Ok(trees);
        }
        let ids = self.ids()?;
        let owner = (self.machine.uid == 0).then(|| ids.root());
        let trees = self
            .store
            .trees(&format!("{ids:?}"), owner)
            .map_err(|error| BuildError::store("open the trees of the store", error))?;
        Ok(self.trees.get_or_init(|| trees))
    }

    /// The worker; it starts now if it hasn't. Says once how steps are isolated, if that is less than full.
    pub(crate) fn worker(&self) -> Result<&Worker, BuildError> {
        let trees = self.trees()?;
        let _turn = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = self.worker.get() {
            return Ok(worker);
        }
        self.cancel.attend();
        let dir = trees.dir_clone().map_err(|error| BuildError::store("open the trees of the store", error))?;
        let ids = self.ids()?;
        let workplace = trees.begin().map_err(|error| BuildError::store("make room for the worker", error))?;
        let options = kuz_sandbox::Options { own: Some(workplace.name().to_string()), ..Default::default() };
        let worker = Worker::start(&ids, dir, &options).map_err(|error| self.cannot_run(error))?;
        let isolation = worker.isolation();
        if isolation != Isolation::Full {
            (self.events)(Event::Isolation { text: format!("isolation of steps: {isolation}") });
        }
        if ids.is_single() {
            // Only what is missing is looked for: nothing is started for it.
            let found = preflight(&self.asker(), None, &options);
            let mend = found.mend.map(|mend| format!("; to mend it: {mend}")).unwrap_or_default();
            (self.events)(Event::Isolation { text: format!("{}{mend}", found.notes.join("; ")) });
        }
        self.workplace.get_or_init(|| workplace);
        Ok(self.worker.get_or_init(|| worker))
    }

    fn asker(&self) -> Asker {
        Asker {
            uid: self.machine.uid,
            gid: self.machine.gid,
            user: self.machine.user.clone().unwrap_or_default(),
            recorded: None,
            kubernetes: self.machine.in_kubernetes,
        }
    }

    /// Why steps cannot run here, and the command that mends it.
    fn cannot_run(&self, error: kuz_sandbox::SandboxError) -> BuildError {
        let found = preflight(&self.asker(), None, &kuz_sandbox::Options::default());
        let notes = found.notes.iter().fold(String::new(), |text, note| text + ": " + note);
        let mend = found.mend.map(|mend| format!("; to mend it: {mend}")).unwrap_or_default();
        BuildError::Environment {
            message: format!("this machine cannot run steps{notes}{mend}"),
            source: Some(Box::new(error)),
        }
    }

    /// Files of trees, in their order, as a tar that the worker writes and `read` reads. Gives what came of reading, and why
    /// the worker failed, if it did.
    pub(crate) fn export<T, E>(
        &self,
        files: &[TreeFile],
        read: impl FnOnce(&mut TarReader<File>) -> Result<T, E>,
    ) -> Result<(Result<T, E>, Option<SandboxError>), BuildError> {
        let worker = if files.is_empty() { None } else { Some(self.worker()?) };
        let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| BuildError::store("open a pipe", error))?;
        std::thread::scope(|scope| {
            let export = worker.map(|worker| {
                scope.spawn(move || {
                    let writing = writing;
                    worker.export(files, &writing)
                })
            });
            let mut stream = TarReader::new(File::from(reading));
            let outcome = read(&mut stream);
            // What ends the archive is written after the last file: a reader that left before would be an error to the
            // worker. One that has failed leaves at once, so that the worker does not wait for it.
            if outcome.is_ok() {
                stream.finish().map_err(|error| BuildError::store("read files of a stage", error))?;
            } else {
                drop(stream);
            }
            let failed = export.and_then(|export| export.join().ok()?.err());
            Ok((outcome, failed))
        })
    }

    // Blobs and documents.

    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest, BuildError> {
        self.store.put_blob(bytes).map_err(|error| BuildError::store("write to the store", error))
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, BuildError> {
        let opened = self.store.open_blob(digest);
        let opened = opened.map_err(|error| BuildError::store(format!("read blob {}", digest.short()), error))?;
        opened.ok_or_else(|| {
            self.known.forget_blob(digest);
            gone(digest)
        })
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool, BuildError> {
        let look = || self.store.has_blob(digest);
        let found = self.known.blob(digest, look);
        found.map_err(|error| BuildError::store(format!("read blob {}", digest.short()), error))
    }

    pub(crate) fn read_blob(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, BuildError> {
        self.store
            .read_blob(digest, limit)
            .map_err(|error| BuildError::store(format!("read blob {}", digest.short()), error))?
            .ok_or_else(|| gone(digest))
    }

    /// A manifest of the store.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Manifest, BuildError> {
        let bytes = self.read_blob(digest, limits::MANIFEST_BYTES)?;
        match Document::parse(&bytes, None) {
            Ok(Document::Manifest(manifest)) => Ok(*manifest),
            Ok(Document::Index(_)) => Err(BuildError::Refused {
                action: format!("read manifest {}", digest.short()),
                source: "it is an index of several images".into(),
            }),
            Err(error) => Err(BuildError::Refused {
                action: format!("read manifest {}", digest.short()),
                source: Box::new(error),
            }),
        }
    }

    /// An image's configuration in the store.
    pub(crate) fn config(&self, id: &ImageId) -> Result<ImageConfig, BuildError> {
        let bytes = self.read_blob(&id.0, limits::CONFIG_BYTES)?;
        kuz_image::parse_config(&bytes).map_err(|error| BuildError::store("read an image's configuration", error))
    }

    /// The repository that a blob came from: a push to the same registry can mount it from there.
    pub(crate) fn origin_of(&self, digest: &Digest) -> Result<Option<Reference>, BuildError> {
        let known = self.store.get(ORIGIN, &digest.to_string());
        let known = known.map_err(|error| BuildError::store("read a blob's origin", error))?;
        Ok(known.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| text.parse().ok()))
    }

    pub(crate) fn record_origin(&self, digest: &Digest, reference: &Reference) -> Result<(), BuildError> {
        self.store
            .put(ORIGIN, &digest.to_string(), reference.to_string().as_bytes())
            .map_err(|error| BuildError::store("record a blob's origin", error))
    }

    // Layers.

    pub(crate) fn layer(&self, diff_id: &DiffId) -> Result<Option<Arc<LayerRecord>>, BuildError> {
        let found = self.known.layer(diff_id, || self.store.layer(diff_id));
        found.map_err(|error| BuildError::store("read a layer's record", error))
    }

    /// Bytes of a layer's uncompressed tar.
    pub(crate) fn layer_bytes(&self, diff_id: &DiffId) -> Result<u64, BuildError> {
        self.layer(diff_id)?.map(|record| record.bytes).ok_or_else(|| gone(&diff_id.0))
    }

    pub(crate) fn index(&self, diff_id: &DiffId) -> Result<Option<Arc<LayerIndex>>, BuildError> {
        self.store.index(diff_id).map_err(|error| BuildError::store("read a layer's index", error))
    }

    pub(crate) fn has_index(&self, diff_id: &DiffId) -> Result<bool, BuildError> {
        self.store.has_index(diff_id).map_err(|error| BuildError::store("read a layer's index", error))
    }

    /// A blob with this layer that is here, undamaged: the uncompressed one if there is a choice.
    pub(crate) fn blob_of(&self, diff_id: &DiffId) -> Result<Descriptor, BuildError> {
        self.find_blob(diff_id)?.ok_or_else(|| gone(&diff_id.0))
    }

    pub(crate) fn find_blob(&self, diff_id: &DiffId) -> Result<Option<Descriptor>, BuildError> {
        let mut blobs = self.layer(diff_id)?.map(|record| record.blobs.clone()).unwrap_or_default();
        blobs.sort_by_key(|blob| blob.digest != diff_id.0);
        for blob in blobs {
            if self.has_blob(&blob.digest)? {
                return Ok(Some(Descriptor::new(&blob.media_type, blob.digest, blob.size)));
            }
        }
        Ok(None)
    }

    /// Remembers what a pass over a layer's tar showed.
    pub(crate) fn record_layer(&self, scanned: Scanned, blob: &Descriptor) -> Result<DiffId, BuildError> {
        let failed = |error| BuildError::store("record a layer", error);
        let record = LayerRecord {
            diff_id: scanned.diff_id.clone(),
            bytes: scanned.bytes,
            blobs: vec![LayerBlob {
                digest: blob.digest.clone(),
                size: blob.size,
                media_type: blob.media_type.clone(),
            }],
        };
        self.store.record_index(&scanned.diff_id, scanned.index).map_err(failed)?;
        self.record_forms(&record)?;
        Ok(scanned.diff_id)
    }

    /// Remembers forms of a layer beside those that are known.
    pub(crate) fn record_forms(&self, record: &LayerRecord) -> Result<(), BuildError> {
        let recorded = self.store.record_layer(record);
        self.known.forget_layer(&record.diff_id);
        recorded.map_err(|error| BuildError::store("record a layer", error))
    }

    /// A layer tar that was just written as a blob under its diff id.
    pub(crate) fn record_tar(&self, scanned: Scanned) -> Result<DiffId, BuildError> {
        let blob = Descriptor::new(media_type::LAYER, scanned.diff_id.0.clone(), scanned.bytes);
        self.record_layer(scanned, &blob)
    }

    // Trees and steps.

    /// Whether a tree is here and complete.
    pub(crate) fn has_tree(&self, name: &TreeName) -> Result<bool, BuildError> {
        Ok(self.trees()?.get(name).map_err(|error| BuildError::store("read a tree's record", error))?.is_some())
    }

    /// The path index of a tree that was never a tar.
    pub(crate) fn tree_index(&self, name: &TreeName) -> Result<Arc<LayerIndex>, BuildError> {
        let failed = |error| BuildError::store("read a tree's index", error);
        if let Some(bytes) = self.store.get(TREE_INDEX, name.as_str()).map_err(failed)?
            && let Ok(index) = LayerIndex::from_bytes(&bytes)
        {
            return Ok(Arc::new(index));
        }
        let index = self
            .worker()?
            .index(name.as_str())
            .map_err(|error| BuildError::store("list what a step changed", error))?;
        let refs = kuz_store::Refs { trees: vec![name.to_string()], ..Default::default() };
        self.store.put_with(TREE_INDEX, name.as_str(), &index.to_bytes(), &refs).map_err(failed)?;
        Ok(Arc::new(index))
    }

    /// A RUN's tree as a tar in the store; the step's record then knows its diff id.
    pub(crate) fn pack(&self, name: &TreeName, key: &Digest, epoch: Option<i64>) -> Result<DiffId, BuildError> {
        // Another build may have done the same step at the same time and recorded a tree of its own.
        let record = self.step(key)?.filter(|record| record.tree.as_deref() == Some(name.as_str()));
        if let Some(diff_id) = record.as_ref().and_then(|record| record.diff_id.clone())
            && self.find_blob(&diff_id)?.is_some()
        {
            return Ok(diff_id);
        }
        let failed = |error| BuildError::store("write a layer", error);
        let writer = self.store.blob_writer().map_err(failed)?;
        let file = writer.file().try_clone().map_err(|error| BuildError::store("write a layer", error))?;
        let scanned = self
            .worker()?
            .pack(name.as_str(), &file, epoch)
            .map_err(|error| BuildError::store("pack what a step changed", error))?;
        writer
            .commit_digest(&scanned.diff_id.0, scanned.bytes)
            .map_err(|error| BuildError::store("write a layer", error))?;
        let diff_id = self.record_tar(scanned)?;
        if let Some(mut record) = record {
            record.diff_id = Some(diff_id.clone());
            self.record_step(key, &record)?;
        }
        Ok(diff_id)
    }

    pub(crate) fn step(&self, key: &Digest) -> Result<Option<StepRecord>, BuildError> {
        self.store.step(key.hex()).map_err(|error| BuildError::store("read a step's record", error))
    }

    pub(crate) fn record_step(&self, key: &Digest, record: &StepRecord) -> Result<(), BuildError> {
        self.store.record_step(key.hex(), record).map_err(|error| BuildError::store("record a step", error))
    }

    /// Says that a tree is complete.
    pub(crate) fn record_tree(&self, tree: kuz_store::NewTree) -> Result<TreeName, BuildError> {
        self.trees()?
            .record(tree, &TreeRecord::default())
            .map_err(|error| BuildError::store("record what a step changed", error))
    }

    /// Deletes trees that nobody needs, if the worker runs anyway: a build that did nothing starts nothing.
    pub(crate) fn empty_trash_if_started(&self) {
        if self.worker.get().is_some() {
            self.empty_trash();
        }
    }

    /// Deletes trees that nobody needs. What cannot be deleted now stays on the list for the next time.
    pub(crate) fn empty_trash(&self) {
        let Ok(trees) = self.trees() else { return };
        let Ok(names) = trees.trash() else { return };
        if names.is_empty() {
            return;
        }
        let removed = self.worker().map(|worker| worker.remove(&names));
        if matches!(removed, Ok(Ok(()))) {
            let _ = trees.removed(&names);
        }
    }
}

/// A word before waiting for others who use the store.
fn say_wait(store: &Store, alone: bool, cancel: &Cancel, events: &Events<'_>) -> Result<(), kuz_store::StoreError> {
    if let Some(what) = store.awaited(alone)? {
        cancel.attend();
        events(Event::Note { text: format!("waiting for {what}") });
    }
    Ok(())
}

fn gone(digest: &Digest) -> BuildError {
    BuildError::Store {
        action: format!("read {}", digest.short()),
        source: "it is no longer in the store; run the build again".into(),
    }
}
