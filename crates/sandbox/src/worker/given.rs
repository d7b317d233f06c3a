//! A step's mounts, as far as they are directories among the trees: made ready for init, and caches made.
//!
//! In: names of trees from the order. Out: paths in the trees directory that init can mount. Names are checked here;
//! what is inside the trees is init's, in its own mount namespace.

use kuz_rootfs::Root;
use kuz_rootfs::flatten::flatten;
use rustix::fs::{Gid, Mode, Uid};

use super::launch::{each_once, like};
use super::server::{EMPTY, Shared, checked, failed, tree};
use crate::init::TREES_AT;
use crate::order::Failure;
use crate::step::{Access, GuestMount, Source};

/// Checks what is to be mounted and makes the directories for it below the step's own.
/// `root` is that directory, `work` its path in the trees directory.
pub(super) fn prepare(shared: &Shared, mounts: &mut [GuestMount], root: &Root, work: &str) -> Result<(), Failure> {
    for (at, mount) in mounts.iter_mut().enumerate() {
        match &mut mount.what {
            Source::Tree { tree, .. } => {
                checked(tree)?;
            }
            Source::Trees { lowers, path, writable } => {
                for lower in lowers.iter() {
                    checked(lower)?;
                }
                let [place, upper, other] = TREES_AT.map(|name| format!("{name}{at}"));
                let made = mkdir(root, &place)?;
                if !shared.isolation.overlay() {
                    fill(shared, lowers, &made)?;
                    let (tree, path) = (format!("{work}/{place}"), std::mem::take(path));
                    mount.what = Source::Tree { tree, path, readonly: !*writable };
                    continue;
                }
                if *writable {
                    let upper = mkdir(root, &upper)?;
                    mkdir(root, &other)?;
                    if let Some(top) = lowers.last() {
                        let stat = rustix::fs::fstat(tree(shared, top)?.fd());
                        let stat = stat.map_err(|errno| failed("look at a tree", errno))?;
                        like(&upper, &stat).map_err(|errno| failed("make a directory", errno))?;
                    }
                }
                // An overlay needs two; the empty one is in both cases the bottom.
                *lowers = std::iter::once(format!("{}/{EMPTY}", shared.own)).chain(each_once(lowers)).collect();
            }
            Source::Tmpfs { .. } | Source::File { .. } | Source::Agent { .. } => {}
        }
    }
    Ok(())
}

fn mkdir(root: &Root, name: &str) -> Result<Root, Failure> {
    rustix::fs::mkdirat(root.fd(), name, Mode::from_raw_mode(0o755))
        .map_err(|errno| failed("make a directory", errno))?;
    root.child(name.as_bytes()).map_err(|error| failed("open a directory", error))
}

fn fill(shared: &Shared, lowers: &[String], out: &Root) -> Result<(), Failure> {
    let trees = lowers.iter().map(|name| tree(shared, name)).collect::<Result<Vec<_>, _>>()?;
    flatten(&trees.iter().collect::<Vec<_>>(), out).map_err(|error| Failure::of(&error))
}

/// Makes a tree for commands to write to.
pub(super) fn make_cache(shared: &Shared, name: &str, access: Access, seed: &[String]) -> Result<(), Failure> {
    let Access { mode, uid, gid } = access;
    if uid >= shared.ids || gid >= shared.ids {
        let count = shared.ids;
        return Err(Failure::plain(format!("it cannot belong to {uid}:{gid}: the sandbox has {count} ids")));
    }
    let made = mkdir(&shared.trees, name)?;
    fill(shared, seed, &made)?;
    let fail = |errno| failed("give a cache to its owner", errno);
    rustix::fs::fchown(made.fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(fail)?;
    rustix::fs::fchmod(made.fd(), Mode::from_raw_mode(mode & 0o7777)).map_err(fail)
}
