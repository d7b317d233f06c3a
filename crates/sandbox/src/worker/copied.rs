//! RUN without overlayfs: the layers are merged into one directory, and the changes found by comparing.
//!
//! In: names of trees. Out: a root to run in, and afterwards a tree with the changes, as if there had been an overlay.
//! Slow, and only for machines whose file system refuses to be overlaid.

use kuz_rootfs::Root;
use kuz_rootfs::flatten::{Snapshot, changes, flatten};
use rustix::fs::Mode;

use super::server::{STUB_LAYER, Shared, failed, tree};
use crate::order::Failure;

/// The merged directory below a RUN's work directory.
const ROOT: &str = "r";

/// A merged root and what it held before the command.
pub(super) struct Copied {
    root: Root,
    before: Snapshot,
    /// Where it is, seen from the trees directory.
    pub(super) path: String,
}

/// Merges the layers, on top of the mount points, below the work directory (`work`, seen from the trees directory).
pub(super) fn fill(shared: &Shared, lowers: &[String], work_root: &Root, work: &str) -> Result<Copied, Failure> {
    let open = |at: &Root, name: &str| at.child(name.as_bytes()).map_err(|error| failed("open a tree", error));
    let mut trees = vec![open(&open(&shared.trees, &shared.own)?, STUB_LAYER)?];
    for name in lowers {
        trees.push(tree(shared, name)?);
    }
    rustix::fs::mkdirat(work_root.fd(), ROOT, Mode::from_raw_mode(0o755))
        .map_err(|errno| failed("make the merged directory", errno))?;
    let root = open(work_root, ROOT)?;
    let trees: Vec<&Root> = trees.iter().collect();
    flatten(&trees, &root).map_err(|error| Failure::of(&error))?;
    let before = Snapshot::of(&root).map_err(|error| Failure::of(&error))?;
    Ok(Copied { root, before, path: format!("{work}/{ROOT}") })
}

impl Copied {
    /// Writes what the command changed into its tree.
    pub(super) fn take_changes(&self, shared: &Shared, upper: &str) -> Result<(), Failure> {
        changes(&self.before, &self.root, &tree(shared, upper)?).map_err(|error| Failure::of(&error))
    }
}
