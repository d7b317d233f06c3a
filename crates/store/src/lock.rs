//! Kernel locks: who may use the store, and who changes a file that many read.
//!
//! A lock is an open file that the kernel frees when its process dies, however it dies; nothing here expires by time.
//! Waiting always has an end, and the error says what was waited for. Locks belong to open files, so two of one
//! process exclude each other too: don't take the same one twice.

use std::fmt;
use std::fs::{File, TryLockError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Store;
use crate::disk::{Disk, DiskError};
use crate::error::StoreError;
use crate::open::StoreOptions;

/// Builds hold it shared from their first lookup to their last tag; prune holds it alone.
pub(crate) const LEASE: &str = "lock/lease";
/// Held while `index.json` is read, changed and replaced.
pub(crate) const INDEX: &str = "lock/index";
/// Held while an existing blob is replaced or taken away.
pub(crate) const BLOBS: &str = "lock/blobs";
/// Held while a finished tree gets its name.
pub(crate) const TREES: &str = "lock/trees";
/// Held shared while a record is written, alone while a sync draws its line under the records.
pub(crate) const GENERATION: &str = "lock/generation";

/// With whom a lock may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Alone,
}

/// Asked now and then while a lock is waited for: whether the user wants to stop. By default nobody does.
#[derive(Clone, Default)]
pub struct Stop(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Stop {
    /// Stops waiting once this says so.
    pub fn when(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(asked)))
    }

    fn is_asked_for(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked())
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.0.is_some()).finish()
    }
}

/// Takes a lock, waiting for at most as long as the options say, or until the user wants to stop.
pub(crate) fn acquire(disk: &Disk, path: &str, mode: Mode, options: &StoreOptions) -> Result<File, StoreError> {
    let file = disk.open_lock(path)?;
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if try_acquire(&file, path, mode)? {
            return Ok(file);
        }
        let what = awaited(path, mode);
        if options.stop.is_asked_for() {
            return Err(StoreError::Stopped { what });
        }
        if start.elapsed() >= options.wait {
            return Err(StoreError::Busy { what, seconds: options.wait.as_secs() });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Takes a lock if it is free at once.
pub(crate) fn try_acquire(file: &File, path: &str, mode: Mode) -> Result<bool, DiskError> {
    let result = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Alone => file.try_lock(),
    };
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(DiskError::new("lock", path, error)),
    }
}

fn awaited(path: &str, mode: Mode) -> &'static str {
    match (path, mode) {
        (LEASE, Mode::Shared) => "a running prune or repair of the store",
        (LEASE, Mode::Alone) => "running builds that use the store",
        (INDEX, _) => "another process that changes the store's image names",
        (BLOBS, _) => "another process that replaces a damaged blob",
        (TREES, _) => "another process that publishes a tree",
        _ => "another process that syncs the store",
    }
}

/// The right to use what is in the store: nothing is pruned while one exists.
#[derive(Debug)]
pub struct Lease {
    _file: File,
    trash: bool,
}

impl Lease {
    /// Killed builds or a prune left trees that [`Trees::trash`](crate::Trees::trash) names and a worker must delete.
    pub fn trees_to_remove(&self) -> bool {
        self.trash
    }
}

impl Store {
    /// What a lease would have to wait for now, if for anything; `alone` as prune and repair want it. For a word to the
    /// user before the waiting begins.
    pub fn awaited(&self, alone: bool) -> Result<Option<&'static str>, StoreError> {
        let mode = if alone { Mode::Alone } else { Mode::Shared };
        let free = try_acquire(&self.disk.open_lock(LEASE)?, LEASE, mode)?;
        Ok((!free).then(|| awaited(LEASE, mode)))
    }

    /// Takes part in the store: to be held from the first lookup to the last tag. Sweeps what killed processes left.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        self.lease_as(Mode::Shared)
    }

    /// The store for oneself.
    pub(crate) fn lease_alone(&self) -> Result<Lease, StoreError> {
        self.lease_as(Mode::Alone)
    }

    fn lease_as(&self, mode: Mode) -> Result<Lease, StoreError> {
        let file = acquire(&self.disk, LEASE, mode, &self.options)?;
        let trash = self.sweep()?;
        Ok(Lease { _file: file, trash })
    }
}
