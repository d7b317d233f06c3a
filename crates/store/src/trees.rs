//! Trees: layers as directories, in `trees/<ids>/<name>/`, and which of them count.
//!
//! A tree's files belong to the ids of a sandbox, so this crate never looks inside: the worker makes, reads and deletes
//! them. What is here are names and records. A tree counts only when its record says that it is complete; one without
//! is garbage. `<ids>` is a hash of the id map under which the trees were made: with other ids they cannot be used
//! (nor, as an ordinary user, deleted), so they are not seen; they come back with the ids.
//!
//! ```text
//! trees/                      0700, the caller's
//! └── <8 hex>/                0700, the mapped root's: its fd goes to the worker
//!     ├── <24 hex>/           of a DiffId, or random: a RUN step's, or one still being made
//!     └── trash-<24 hex>/     to be deleted by the worker
//! ```

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use kuz_image::DiffId;

use crate::Store;
use crate::disk::DiskError;
use crate::error::StoreError;
use crate::lock::{self, Mode};
use crate::records::Refs;
use crate::session::{hex, random_hex};

/// The kind of tree records.
pub(crate) const TREE: &str = "tree";
/// What the names of deleted trees begin with.
pub(crate) const TRASH: &str = "trash-";
/// The length of a tree's name.
const NAME: usize = 24;

/// A tree's name: 24 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreeName(String);

/// A text that is no tree's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no name of a tree", text.escape_debug())]
pub struct TreeNameError {
    text: String,
}

impl TreeName {
    /// The name of the tree with this layer.
    pub fn of(diff_id: &DiffId) -> Self {
        let hash = blake3::hash(diff_id.to_string().as_bytes());
        Self(hex(hash.as_bytes().get(..NAME / 2).unwrap_or_default()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TreeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TreeName {
    type Err = TreeNameError;
    fn from_str(text: &str) -> Result<Self, TreeNameError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if text.len() != NAME || !digits {
            return Err(TreeNameError { text: text.chars().take(80).collect() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TreeName {
    type Error = TreeNameError;
    fn try_from(text: String) -> Result<Self, TreeNameError> {
        text.parse()
    }
}

impl From<TreeName> for String {
    fn from(name: TreeName) -> Self {
        name.0
    }
}

/// Says that a tree is complete, and what should be in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// The layer, if its tar is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<DiffId>,
    /// Entries in it.
    #[serde(default)]
    pub files: u64,
    /// Bytes of its files.
    #[serde(default)]
    pub bytes: u64,
}

/// The trees that were made under one id map.
#[derive(Debug)]
pub struct Trees {
    store: Store,
    ids: String,
    dir: OwnedFd,
}

/// A tree that is being made; until it is recorded or published it is garbage, also if the process dies.
#[derive(Debug)]
pub struct NewTree {
    store: Store,
    ids: String,
    name: TreeName,
    marker: String,
    done: bool,
}

impl NewTree {
    /// Its name in the trees' directory. The directory itself is the worker's to make.
    pub fn name(&self) -> &TreeName {
        &self.name
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.done = true;
        self.store.disk.unlink(&self.marker)?;
        Ok(())
    }
}

impl Drop for NewTree {
    fn drop(&mut self) {
        // If one of these fails, the marker stays and the next lease sweeps it.
        if !self.done && self.store.trash_entry(&self.ids, self.name.as_str()).is_ok() {
            let _ = self.store.disk.unlink(&self.marker);
        }
    }
}

/// Complete trees that a running command stands on: no prune takes them, though the command holds no lease. Ends when
/// dropped, and with its process.
#[derive(Debug)]
pub struct Pin {
    store: Store,
    markers: Vec<String>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        for marker in &self.markers {
            // If this fails, the next lease sweeps it.
            let _ = self.store.disk.unlink(marker);
        }
    }
}

fn entry(ids: &str, name: &str) -> String {
    format!("trees/{ids}/{name}")
}

pub(crate) fn record_key(ids: &str, name: &str) -> String {
    format!("{ids}/{name}")
}

impl Store {
    /// The trees made under an id map, given as any text that names it. `owner` is the host id of the sandbox's root,
    /// where that is not the caller (a caller who is root must give it).
    pub fn trees(&self, id_map: &str, owner: Option<(u32, u32)>) -> Result<Trees, StoreError> {
        let ids = hex(blake3::hash(id_map.as_bytes()).as_bytes().get(..4).unwrap_or_default());
        let path = format!("trees/{ids}");
        self.disk.mkdir(&path)?;
        let dir = self.disk.open_dir(&path)?;
        self.disk.own_dir(&dir, &path, owner)?;
        self.put("idmap", &ids, id_map.as_bytes())?;
        Ok(Trees { store: self.clone(), ids, dir })
    }

    pub(crate) fn tree_record(&self, ids: &str, name: &str) -> Result<Option<TreeRecord>, StoreError> {
        self.get_json(TREE, &record_key(ids, name))
    }

    /// Takes a complete tree out of the store. The marker lets the next sweep finish what a killed process began.
    pub(crate) fn discard_tree(&self, ids: &str, name: &str) -> Result<bool, StoreError> {
        let marker = self.mark_tree(ids, name)?;
        let trashed = self.trash_entry(ids, name)?;
        self.disk.unlink(&marker)?;
        Ok(trashed)
    }

    /// Renames a tree out of the way and notes that a worker must delete it; `false` if there is none.
    pub(crate) fn trash_entry(&self, ids: &str, name: &str) -> Result<bool, StoreError> {
        self.forget(TREE, &record_key(ids, name))?;
        if self.disk.stat(&entry(ids, name))?.is_none() {
            return Ok(false);
        }
        let trash = format!("{TRASH}{}", random_hex::<{ NAME / 2 }>()?);
        let marker = format!("tmp/{trash}.{ids}.trash");
        self.disk.create(&marker, 0o600)?;
        match self.disk.rename_over(&entry(ids, name), &entry(ids, &trash)) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.disk.unlink(&marker)?;
                if error.kind() == std::io::ErrorKind::NotFound { Ok(false) } else { Err(error.into()) }
            }
        }
    }
}

impl Trees {
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn ids(&self) -> &str {
        &self.ids
    }

    /// The directory with the trees, for the worker.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// A fd of the directory, to be given away.
    pub fn dir_clone(&self) -> Result<OwnedFd, StoreError> {
        Ok(self.store.disk.open_dir(&format!("trees/{}", self.ids))?)
    }

    /// Begins a tree under a random name.
    pub fn begin(&self) -> Result<NewTree, StoreError> {
        let name = TreeName(random_hex::<{ NAME / 2 }>()?);
        let marker = self.store.mark_tree(&self.ids, name.as_str())?;
        Ok(NewTree { store: self.store.clone(), ids: self.ids.clone(), name, marker, done: false })
    }

    /// A complete tree's record; `None` if the tree does not count.
    pub fn get(&self, name: &TreeName) -> Result<Option<TreeRecord>, StoreError> {
        let Some(record) = self.store.tree_record(&self.ids, name.as_str())? else { return Ok(None) };
        let there = self.store.disk.stat(&entry(&self.ids, name.as_str()))?;
        let is_dir = there.is_some_and(|stat| stat.kind == rustix::fs::FileType::Directory);
        Ok(is_dir.then_some(record))
    }

    /// The complete tree of a layer.
    pub fn find(&self, diff_id: &DiffId) -> Result<Option<TreeName>, StoreError> {
        let name = TreeName::of(diff_id);
        Ok(self.get(&name)?.map(|_| name))
    }

    /// Says that a tree is complete; it keeps its random name (a RUN step's does).
    pub fn record(&self, tree: NewTree, record: &TreeRecord) -> Result<TreeName, StoreError> {
        let name = tree.name.clone();
        self.put_record(&name, record)?;
        tree.finish()?;
        Ok(name)
    }

    /// Says that a tree with this layer is complete and gives it the layer's name. If another process was faster, that
    /// one's tree is used and this one goes to the trash.
    pub fn publish(&self, tree: NewTree, diff_id: &DiffId, record: &TreeRecord) -> Result<TreeName, StoreError> {
        let name = TreeName::of(diff_id);
        let lock = lock::acquire(&self.store.disk, lock::TREES, Mode::Alone, &self.store.options)?;
        if self.get(&name)?.is_some() {
            return Ok(name);
        }
        self.store.trash_entry(&self.ids, name.as_str())?;
        // Between rename and record a crash would leave a tree that nobody knows of, but for this marker.
        let marker = self.store.mark_tree(&self.ids, name.as_str())?;
        let target = entry(&self.ids, name.as_str());
        self.store.disk.rename_over(&entry(&self.ids, tree.name.as_str()), &target)?;
        let record = TreeRecord { diff_id: Some(diff_id.clone()), ..record.clone() };
        self.put_record(&name, &record)?;
        self.store.disk.unlink(&marker)?;
        drop(lock);
        tree.finish()?;
        Ok(name)
    }

    pub(crate) fn put_record(&self, name: &TreeName, record: &TreeRecord) -> Result<(), StoreError> {
        let refs =
            Refs { layers: record.diff_id.iter().cloned().collect(), trees: vec![name.to_string()], ..Refs::default() };
        self.store.put_json(TREE, &record_key(&self.ids, name.as_str()), record, &refs)
    }

    /// Keeps complete trees from being pruned, for longer than a lease should be held. To be called under a lease.
    pub fn pin(&self, names: &[TreeName]) -> Result<Pin, StoreError> {
        let mut pin = Pin { store: self.store.clone(), markers: Vec::new() };
        for name in names {
            pin.markers.push(self.store.mark_pin(&self.ids, name.as_str())?);
        }
        Ok(pin)
    }

    /// Takes a tree out of the store; `false` if there is none. A worker deletes it later: see [`Self::trash`].
    pub fn discard(&self, name: &TreeName) -> Result<bool, StoreError> {
        self.store.discard_tree(&self.ids, name.as_str())
    }

    /// Names in the trees' directory that a worker must delete; then tell [`Self::removed`].
    pub fn trash(&self) -> Result<Vec<String>, StoreError> {
        let suffix = format!(".{}.trash", self.ids);
        let names = self.store.disk.list("tmp")?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(&suffix)).map(str::to_owned).collect())
    }

    /// Strikes deleted trees off the list. Names that are still there stay on it.
    pub fn removed(&self, names: &[String]) -> Result<(), StoreError> {
        for name in names.iter().filter(|name| is_trash(name)) {
            if self.store.disk.stat(&entry(&self.ids, name))?.is_none() {
                self.store.disk.unlink(&format!("tmp/{name}.{}.trash", self.ids))?;
            }
        }
        Ok(())
    }
}

/// Whether a name is one that [`Store::trash_entry`] gives.
pub(crate) fn is_trash(name: &str) -> bool {
    name.strip_prefix(TRASH).is_some_and(|rest| rest.parse::<TreeName>().is_ok())
}

/// Every tree's id map and name, trash too.
pub(crate) fn all_entries(store: &Store) -> Result<Vec<(String, String)>, DiskError> {
    let mut entries = Vec::new();
    for ids in store.disk.list("trees")? {
        entries.extend(store.disk.list(&format!("trees/{ids}"))?.into_iter().map(|name| (ids.clone(), name)));
    }
    Ok(entries)
}
