//! Cache mounts of a step: finding or making the tree, and waiting for those who use it.
//!
//! In: an id and how it is shared. Out: a tree's name and a lock. The lock is a kernel's and goes to the worker too, so that
//! it holds for as long as a command of the step lives, and no longer.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use kuz_plan::plan::Sharing;
use kuz_store::{CacheId, CacheLock, CachePlace};

use crate::error::BuildError;
use crate::event::Event;
use crate::execute::Execution;
use crate::mounts::{At, CacheUse};

/// A cache that somebody uses is waited for, but not for ever.
const WAIT: Duration = Duration::from_hours(2);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(20);
/// Trees of one private cache that are in use at the same time.
const SLOTS: u32 = 1000;

impl Execution<'_> {
    /// The tree of a cache, locked as its sharing says.
    pub(crate) fn take_cache(
        &self,
        at: At<'_>,
        id: &CacheId,
        wanted: &CacheUse<'_>,
    ) -> Result<(String, OwnedFd), BuildError> {
        let (slot, lock) = self.slot(id, wanted)?;
        let known = || {
            let tree = self.session.trees()?.cache(id, slot);
            tree.map_err(|error| BuildError::store(format!("open cache `{}`", wanted.name.escape_debug()), error))
        };
        if let Some(tree) = known()? {
            return Ok((tree.into(), lock.into()));
        }
        let _making = self.lock(id, CachePlace::Making, true, wanted.name)?;
        let tree = known()?.map_or_else(|| self.make_cache(at, id, slot, wanted), Ok)?;
        Ok((tree.into(), lock.into()))
    }

    fn make_cache(
        &self,
        at: At<'_>,
        id: &CacheId,
        slot: u32,
        wanted: &CacheUse<'_>,
    ) -> Result<kuz_store::TreeName, BuildError> {
        let shown = wanted.name.escape_debug();
        let failed = |error| BuildError::store(format!("make cache `{shown}`"), error);
        let seed = match wanted.seed {
            Some(from) => self.source_trees(at, from)?,
            None => Vec::new(),
        };
        let trees = self.session.trees()?;
        let tree = trees.begin().map_err(failed)?;
        self.session
            .worker()?
            .make_cache(tree.name().as_str(), wanted.access, &seed)
            .map_err(|error| BuildError::store(format!("make cache `{shown}`"), error))?;
        trees.record_cache(id, slot, wanted.name, tree).map_err(failed)
    }

    /// Slot 0, waited for; for a private one the first that is free.
    fn slot(&self, id: &CacheId, wanted: &CacheUse<'_>) -> Result<(u32, CacheLock), BuildError> {
        match wanted.sharing {
            Sharing::Shared => Ok((0, self.lock(id, CachePlace::Slot(0), false, wanted.name)?)),
            Sharing::Locked => Ok((0, self.lock(id, CachePlace::Slot(0), true, wanted.name)?)),
            Sharing::Private => {
                for slot in 0..SLOTS {
                    if let Some(lock) = self.try_lock(id, CachePlace::Slot(slot), true)? {
                        return Ok((slot, lock));
                    }
                }
                let name = wanted.name.escape_debug();
                Err(BuildError::input(format!("more than {SLOTS} steps use the private cache `{name}`")))
            }
        }
    }

    fn try_lock(&self, id: &CacheId, place: CachePlace, alone: bool) -> Result<Option<CacheLock>, BuildError> {
        let locked = self.session.trees()?.try_lock_cache(id, place, alone);
        locked.map_err(|error| BuildError::store("lock a cache", error))
    }

    fn lock(&self, id: &CacheId, place: CachePlace, alone: bool, name: &str) -> Result<CacheLock, BuildError> {
        let start = Instant::now();
        let mut said = false;
        loop {
            if let Some(lock) = self.try_lock(id, place, alone)? {
                return Ok(lock);
            }
            self.session.cancelled()?;
            if start.elapsed() > WAIT {
                let hours = WAIT.as_secs() / 3600;
                return Err(BuildError::input(format!(
                    "cache `{}` has been in use by another step for {hours} hours (end that build)",
                    name.escape_debug()
                )));
            }
            if !said {
                let text = format!("waiting for cache `{}`, which another step is using", name.escape_debug());
                (self.session.events)(Event::Note { text });
                said = true;
            }
            std::thread::sleep(PAUSE);
        }
    }
}
