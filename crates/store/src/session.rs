//! Unfinished work in `tmp/`, and sweeping what killed processes left there.
//!
//! ```text
//! tmp/<session>.alive             locked by its process for as long as that lives
//! tmp/<session>.<n>.tmp           a file that is not published yet
//! tmp/<session>.<ids>.<tree>.tree a tree is being made under this name
//! tmp/<session>.<ids>.<tree>.pin  a running command stands on this complete tree
//! tmp/trash-<hex>.<ids>.trash     a tree that a worker must delete
//! ```
//! A session begins with the first temporary file, so that a build that only reads makes none. Whatever belongs to a
//! session without a living lock is swept when the next lease is taken; one look into `tmp/` tells everything, no
//! other directory is searched. Trees themselves are only renamed here, never entered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use crate::Store;
use crate::disk::{Disk, DiskError};
use crate::error::StoreError;
use crate::lock::{self, Mode};

/// Bytes of a session's name.
const ID: usize = 8;
/// What the notes of trees in use end with.
const PIN: &str = ".pin";
/// How often a session's name may be snatched by a sweeper before it is locked.
const ATTEMPTS: usize = 8;

/// This handle's name for its unfinished work.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    disk: Arc<Disk>,
    _alive: File,
    count: AtomicU64,
}

impl Drop for Session {
    fn drop(&mut self) {
        // If this fails, the next lease sweeps it.
        let _ = self.disk.unlink(&format!("tmp/{}.alive", self.id));
    }
}

/// A file under `tmp/` that removes itself unless it is published.
#[derive(Debug)]
pub(crate) struct Temp {
    pub(crate) store: Store,
    pub(crate) file: File,
    pub(crate) path: String,
    published: bool,
}

impl Temp {
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), DiskError> {
        self.store.disk.write(&self.file, &self.path, bytes)
    }

    /// Moves it to its place, replacing what is there.
    pub(crate) fn replace(&mut self, target: &str) -> Result<(), DiskError> {
        self.store.disk.rename_over(&self.path, target)?;
        self.published = true;
        Ok(())
    }

    /// Moves it to its place unless something is there: then `false`, and it removes itself.
    pub(crate) fn publish(&mut self, target: &str) -> Result<bool, DiskError> {
        self.published = self.store.disk.rename_new(&self.path, target)?;
        Ok(self.published)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.published {
            // If even this fails, the next lease sweeps it.
            let _ = self.store.disk.unlink(&self.path);
        }
    }
}

/// Random lower-case hexadecimal digits, two a byte.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, DiskError> {
    let mut bytes = [0_u8; BYTES];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| DiskError::new("name a file", "tmp", errno))?;
    }
    Ok(hex(&bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Store {
    /// The session, begun if need be.
    fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = slot.as_ref() {
            return Ok(Arc::clone(session));
        }
        for _ in 0..ATTEMPTS {
            let id = random_hex::<ID>()?;
            let path = format!("tmp/{id}.alive");
            let alive = self.disk.create(&path, 0o600)?;
            // Between creation and lock a sweeper may have taken it for a dead one's.
            let locked = lock::try_acquire(&alive, &path, Mode::Alone)?;
            if locked && self.disk.stat_file(&alive, &path)?.links > 0 {
                let session =
                    Arc::new(Session { id, disk: Arc::clone(&self.disk), _alive: alive, count: AtomicU64::new(0) });
                *slot = Some(Arc::clone(&session));
                return Ok(session);
            }
        }
        Err(StoreError::Busy { what: "other processes that sweep the store's temporary files", seconds: 0 })
    }

    /// A new temporary file.
    pub(crate) fn temp(&self, mode: u32) -> Result<Temp, StoreError> {
        let session = self.session()?;
        let path = format!("tmp/{}.{}.tmp", session.id, session.count.fetch_add(1, Ordering::Relaxed));
        let file = self.disk.create(&path, mode)?;
        Ok(Temp { store: self.clone(), file, path, published: false })
    }

    /// A temporary file with this content.
    pub(crate) fn temp_with(&self, bytes: &[u8]) -> Result<Temp, StoreError> {
        let temp = self.temp(0o600)?;
        temp.write(bytes)?;
        Ok(temp)
    }

    /// Notes that a tree is being made.
    pub(crate) fn mark_tree(&self, ids: &str, tree: &str) -> Result<String, StoreError> {
        let path = format!("tmp/{}.{ids}.{tree}.tree", self.session()?.id);
        self.disk.create(&path, 0o600)?;
        Ok(path)
    }

    /// Notes that a complete tree is in use. The same tree may be noted once a session: it is one command's.
    pub(crate) fn mark_pin(&self, ids: &str, tree: &str) -> Result<String, StoreError> {
        let path = format!("tmp/{}.{ids}.{tree}{PIN}", self.session()?.id);
        self.disk.create(&path, 0o600)?;
        Ok(path)
    }

    /// The trees, as id map and name, that living sessions make or use. Only right after a sweep: it took the dead ones'
    /// notes away.
    pub(crate) fn trees_in_use(&self) -> Result<BTreeSet<(String, String)>, StoreError> {
        let names = self.disk.list("tmp")?;
        let in_use = names.iter().filter_map(|name| tree_of(name).or_else(|| pin_of(name)));
        Ok(in_use.map(|(ids, tree)| (ids.to_owned(), tree.to_owned())).collect())
    }

    /// Removes what dead sessions left. Says whether trees wait for a worker to delete them.
    pub(crate) fn sweep(&self) -> Result<bool, StoreError> {
        let mut trash = false;
        let mut sessions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in self.disk.list("tmp")? {
            if name.strip_suffix(".trash").is_some() {
                trash = true;
            } else {
                // What no session made is not ours to delete.
                let session = name.split('.').next().filter(|session| is_session(session)).map(str::to_owned);
                if let Some(session) = session {
                    sessions.entry(session).or_default().push(name);
                }
            }
        }
        for (session, names) in sessions {
            trash |= self.sweep_session(&session, &names)?;
        }
        Ok(trash)
    }

    fn sweep_session(&self, session: &str, names: &[String]) -> Result<bool, StoreError> {
        let own = self.session.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|own| own.id.clone());
        if own.as_deref() == Some(session) {
            return Ok(false);
        }
        let alive = format!("tmp/{session}.alive");
        // Kept locked until its files are gone, so that two sweepers do not meet.
        let held = match self.disk.open_read(&alive)? {
            Some((file, _)) if !lock::try_acquire(&file, &alive, Mode::Alone)? => return Ok(false),
            held => held,
        };
        let mut trash = false;
        for name in names.iter().filter(|name| name.strip_suffix(".alive").is_none()) {
            if let Some((ids, tree)) = tree_of(name) {
                trash |= self.sweep_tree(ids, tree)?;
            }
            self.disk.unlink(&format!("tmp/{name}"))?;
        }
        self.disk.unlink(&alive)?;
        drop(held);
        Ok(trash)
    }

    /// A tree of a dead session: kept if it was recorded before its maker died.
    fn sweep_tree(&self, ids: &str, tree: &str) -> Result<bool, StoreError> {
        // A living process may be publishing a tree of the same name.
        let _lock = lock::acquire(&self.disk, lock::TREES, Mode::Alone, &self.options)?;
        if self.tree_record(ids, tree)?.is_some() {
            return Ok(false);
        }
        self.trash_entry(ids, tree)
    }
}

fn is_session(name: &str) -> bool {
    name.len() == 2 * ID && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The id map and the name in `<session>.<ids>.<tree>.tree`.
pub(crate) fn tree_of(name: &str) -> Option<(&str, &str)> {
    noted(name, ".tree")
}

/// The same in `<session>.<ids>.<tree>.pin`.
fn pin_of(name: &str) -> Option<(&str, &str)> {
    noted(name, PIN)
}

fn noted<'n>(name: &'n str, suffix: &str) -> Option<(&'n str, &'n str)> {
    let rest = name.strip_suffix(suffix)?;
    let (_, rest) = rest.split_once('.')?;
    rest.split_once('.')
}
