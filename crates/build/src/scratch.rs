//! Directories for what must lie on disk for the time of a build: checkouts, unpacked contexts.
//!
//! ```text
//! <store>/tmp/scratch-XXXXXX/    locked by its process for as long as that lives
//! ```
//! One that a killed process left has no living lock, and goes when the next one is made. The store itself leaves
//! names that it doesn't know alone.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;
use tempfile::TempDir;

const PREFIX: &str = "scratch-";
/// Between making a directory and locking it another process may take it for a dead one's.
const TRIES: usize = 8;

/// A directory that goes with this value.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// A new empty directory, for this user alone.
    pub(crate) fn new(store: &Path) -> io::Result<Self> {
        let parent = store.join("tmp");
        sweep(&parent);
        for _ in 0..TRIES {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent)?;
            let Ok(lock) = File::open(directory.path()) else { continue };
            let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && directory.path().symlink_metadata().is_ok() {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(io::Error::other("other processes keep removing it"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes what dead processes left; what cannot be removed stays for the next time.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(lock) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_swept() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir(store.path().join("tmp")).unwrap();
        let left = store.path().join("tmp/scratch-left/below");
        std::fs::create_dir_all(&left).unwrap();
        let alive = Scratch::new(store.path()).unwrap();
        assert!(!left.exists());
        let other = Scratch::new(store.path()).unwrap();
        assert!(alive.path().exists() && other.path().exists());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }
}
