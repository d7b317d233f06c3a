//! Looking after the store: what takes space, what is damaged, what can go.
//!
//! The store's own answers in the form that commands show; deleting trees is the worker's.

use kuz_store::Policy;
use serde::Serialize;

use crate::error::BuildError;
use crate::session::Session;

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// Things that were looked at.
    pub checked: u64,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

/// One kind of thing in the store.
#[derive(Debug, Clone, Serialize)]
pub struct Kind {
    /// Its name.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// Verifies everything; with `repair`, drops what is damaged.
pub fn check(session: &Session<'_>, repair: bool) -> Result<Checked, BuildError> {
    // A repair takes the store for itself, so this process's own part in it must end first.
    if repair {
        session.release_for_alone()?;
    }
    let report = session.store.check(repair).map_err(|error| BuildError::store("check the store", error))?;
    let problems = report.problems.iter().map(|problem| {
        let repaired = problem.repaired.map(|how| format!(" ({how})")).unwrap_or_default();
        format!("{}: {}{repaired}", problem.at, problem.what)
    });
    Ok(Checked { checked: report.blobs + report.records + report.trees + report.images, problems: problems.collect() })
}

/// What takes how much space.
pub fn usage(session: &Session<'_>) -> Result<Vec<Kind>, BuildError> {
    measure_caches(session);
    let usage = session.store.usage().map_err(|error| BuildError::store("measure the store", error))?;
    let kind = |kind, tally: kuz_store::Tally| Kind { kind, count: tally.count, bytes: tally.bytes };
    Ok(vec![
        Kind { kind: "images", count: usage.images, bytes: 0 },
        kind("blobs", usage.blobs),
        kind("trees", usage.trees),
        kind("cache mounts", usage.caches),
        kind("records", usage.records),
        kind("quarantine", usage.quarantine),
        Kind { kind: "waste", count: usage.waste, bytes: 0 },
    ])
}

/// Caches grow with each step that uses them, and only the worker can look inside. Where it cannot be started, what was
/// measured last has to do.
fn measure_caches(session: &Session<'_>) {
    let Ok(trees) = session.trees() else { return };
    let names = trees.cache_trees().unwrap_or_default();
    if names.is_empty() {
        return;
    }
    let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
    let Ok(sizes) = session.worker().and_then(|worker| {
        worker.measure(&texts).map_err(|error| BuildError::store("measure the cache mounts", error))
    }) else {
        return;
    };
    for (name, (files, bytes)) in names.iter().zip(sizes) {
        // It counts as before if this fails.
        let _ = trees.note_size(name, files, bytes);
    }
}

/// What a prune removed.
#[derive(Debug, Clone, Copy)]
pub struct Freed {
    /// Things.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Removes what no tagged image needs, or only as much of the cache as is over `keep`.
pub fn prune(session: &Session<'_>, all: bool, keep: Option<u64>) -> Result<Freed, BuildError> {
    if keep.is_some() {
        measure_caches(session);
    }
    session.release_for_alone()?;
    let policy = Policy { all, keep_bytes: keep, older_than: None };
    let pruned = session.store.prune(&policy).map_err(|error| BuildError::store("prune the store", error))?;
    session.empty_trash();
    let parts = [pruned.records, pruned.trees, pruned.blobs];
    Ok(Freed {
        count: pruned.images + parts.iter().map(|part| part.count).sum::<u64>(),
        bytes: parts.iter().map(|part| part.bytes).sum(),
    })
}
