//! How much is in a tree: entries and bytes on disk.
//!
//! In: a root. Out: two numbers. A file with several names counts once. Entries that go away meanwhile count as nothing.

use std::collections::HashSet;
use std::io;

use rustix::fs::FileType;

use crate::root::{Root, kind, show};
use crate::walk;

/// A bytes block of `stat`.
const BLOCK: u64 = 512;

/// Why a tree could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("look at `{path}` of a tree")]
pub struct MeasureError {
    /// Inside the tree.
    pub path: String,
    #[source]
    source: io::Error,
}

/// Entries below the root, and the bytes that they take.
pub fn measure(root: &Root) -> Result<(u64, u64), MeasureError> {
    let fail = |path: &[u8], errno: rustix::io::Errno| MeasureError { path: show(path), source: errno.into() };
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    let mut linked = HashSet::new();
    walk::visit(root, &fail, &mut |directory, name, path| {
        let Some(stat) = walk::stat_if_any(directory, name).map_err(|errno| fail(path, errno))? else {
            return Ok(false);
        };
        entries += 1;
        let is_dir = kind(&stat) == FileType::Directory;
        if is_dir || stat.st_nlink < 2 || linked.insert(stat.st_ino) {
            bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(BLOCK));
        }
        Ok(is_dir)
    })?;
    Ok((entries, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("d")).unwrap();
        std::fs::write(path.join("d/one"), vec![1; 1 << 16]).unwrap();
        let (_, before) = measure(&Root::open(path).unwrap()).unwrap();
        std::fs::hard_link(path.join("d/one"), path.join("two")).unwrap();
        let (entries, bytes) = measure(&Root::open(path).unwrap()).unwrap();
        assert_eq!((entries, bytes), (3, before));
        assert!(bytes >= 1 << 16, "{bytes}");
    }
}
