//! What a COPY source names in a stack of layers: wildcards and directories, answered by path indexes alone.
//!
//! In: the layers of a stage or image as a [`Stack`], and a source as written. Out: entries with their metadata and the
//! layer that owns each. Nothing is unpacked or read. The counterpart for the build context is
//! `kuz_rootfs::context`; the rules are the same: the named path's links are followed inside the stack, wildcards match
//! one name at a time, a wildcard without a match is nothing, a literal without one is an error.

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::glob::{self, Glob};
use kuz_image::index::{LookupError, Special, ancestors, components, join};
use kuz_image::tar::{Header, Kind};
use kuz_image::{IndexEntry, Node, Stack};
use kuz_rootfs::context::Verdict;
use kuz_rootfs::copy::CopyEntry;

/// One file or directory that a source names, with everything below it.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    /// The last name as written (or matched), for copies into a directory.
    pub(crate) name: Vec<u8>,
    /// The source itself first, then what is below, parents before children.
    pub(crate) entries: Vec<Picked>,
}

/// An entry of a selection.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    /// How it is copied.
    pub(crate) copy: CopyEntry,
    /// Its real path in the stack.
    pub(crate) path: Vec<u8>,
    /// The layer that shows it, from the lowest.
    pub(crate) layer: usize,
}

impl Selected {
    pub(crate) fn is_dir(&self) -> bool {
        self.entries.first().is_some_and(|entry| entry.copy.header.kind == Kind::Dir)
    }

    /// Takes out what a filter does not want of what is below; directories that lead to something wanted stay.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&[u8], bool) -> Verdict) {
        let judge = |entry: &Picked| {
            let relative = &entry.copy.relative;
            if relative.is_empty() { Verdict::Keep } else { wanted(relative, entry.copy.header.kind == Kind::Dir) }
        };
        let verdicts: Vec<Verdict> = self.entries.iter().map(judge).collect();
        let kept = self.entries.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Keep);
        let leading: BTreeSet<Vec<u8>> =
            kept.flat_map(|(entry, _)| ancestors(&entry.copy.relative).map(<[u8]>::to_vec)).collect();
        let mut verdicts = verdicts.into_iter();
        self.entries.retain(|entry| match verdicts.next() {
            Some(Verdict::Keep) => true,
            Some(Verdict::DropButLookBelow) => leading.contains(&entry.copy.relative),
            Some(Verdict::Drop) | None => false,
        });
    }
}

/// Why a source selects nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectionError {
    /// A literal path that is not there.
    #[error("`{}` does not exist there", String::from_utf8_lossy(path).escape_debug())]
    NotFound {
        /// As written.
        path: Vec<u8>,
    },
    /// The pattern cannot be read.
    #[error("`{}` is no wildcard pattern", String::from_utf8_lossy(path).escape_debug())]
    BadPattern {
        /// As written.
        path: Vec<u8>,
    },
    /// The lookup went wrong.
    #[error("look up a source")]
    Lookup(#[from] LookupError),
}

/// Everything that a source names.
pub(crate) fn select(stack: &Stack, source: &[u8]) -> Result<Vec<Selected>, SelectionError> {
    let names: Vec<&[u8]> = kept(source);
    if !names.iter().any(|name| glob::has_wildcards(name)) {
        let path = names.join(&b'/');
        return one(stack, &path)?
            .map(|found| vec![found])
            .ok_or_else(|| SelectionError::NotFound { path: source.to_vec() });
    }
    let bad = || SelectionError::BadPattern { path: source.to_vec() };
    let mut found: Vec<Vec<u8>> = vec![Vec::new()];
    for name in names {
        let mut next = Vec::new();
        if glob::has_wildcards(name) {
            let pattern = Glob::new(name).map_err(|_| bad())?;
            for at in &found {
                let real = stack.resolve(at, true)?.path;
                next.extend(
                    children(stack, &real)
                        .into_iter()
                        .filter(|child| pattern.matches(child))
                        .map(|child| join(at, &child)),
                );
            }
        } else {
            next.extend(found.iter().map(|at| join(at, name)));
        }
        found = next;
    }
    let mut selected = Vec::new();
    for path in found {
        // A literal name behind a wildcard is not in every match.
        selected.extend(match one(stack, &path) {
            Ok(found) => found,
            Err(SelectionError::Lookup(LookupError::NotADirectory { .. })) => None,
            Err(error) => return Err(error),
        });
    }
    Ok(selected)
}

/// The names of a source path, with `..` taken back but never above the root.
fn kept(source: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in components(source) {
        if name == b".." {
            names.pop();
        } else {
            names.push(name);
        }
    }
    names
}

/// The names directly in a directory.
fn children(stack: &Stack, directory: &[u8]) -> Vec<Vec<u8>> {
    let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
    let inside = stack.below(directory).into_iter();
    inside.filter_map(|path| path.get(skip..).filter(|rest| !rest.contains(&b'/')).map(<[u8]>::to_vec)).collect()
}

fn one(stack: &Stack, path: &[u8]) -> Result<Option<Selected>, SelectionError> {
    let found = stack.resolve(path, true)?;
    let name = components(path).next_back().unwrap_or_default().to_vec();
    let mut links = Links::default();
    if found.path.is_empty() {
        let root = picked(&mut links, Vec::new(), Vec::new(), &DIRECTORY, 0);
        return Ok(Some(Selected { name, entries: below(stack, &found.path, vec![root], &mut links) }));
    }
    let Some((layer, entry)) = stack.find(&found.path) else { return Ok(None) };
    let first = picked(&mut links, Vec::new(), found.path.clone(), entry, layer);
    let entries = match entry.node {
        Node::Dir { .. } => below(stack, &found.path, vec![first], &mut links),
        _ => vec![first],
    };
    Ok(Some(Selected { name, entries }))
}

/// The root, which no layer has to list.
const DIRECTORY: IndexEntry = IndexEntry { node: Node::Dir { opaque: false }, mode: 0o755, uid: 0, gid: 0, mtime: 0 };

fn below(stack: &Stack, directory: &[u8], mut entries: Vec<Picked>, links: &mut Links) -> Vec<Picked> {
    let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
    for path in stack.below(directory) {
        if let Some((layer, entry)) = stack.find(&path) {
            let relative = path.get(skip..).unwrap_or_default().to_vec();
            entries.push(picked(links, relative, path.clone(), entry, layer));
        }
    }
    entries
}

/// Numbers for files that have several names in a layer.
#[derive(Debug, Default)]
struct Links(BTreeMap<(usize, Vec<u8>), u64>);

impl Links {
    fn number(&mut self, layer: usize, file: &[u8]) -> (u64, u64) {
        let next = self.0.len() as u64;
        (layer as u64, *self.0.entry((layer, file.to_vec())).or_insert(next))
    }
}

fn picked(links: &mut Links, relative: Vec<u8>, path: Vec<u8>, entry: &IndexEntry, layer: usize) -> Picked {
    let (kind, size, link, file) = match &entry.node {
        Node::File { size } => (Kind::File, *size, Vec::new(), Some(path.as_slice())),
        Node::Hardlink(target) => (Kind::File, 0, Vec::new(), Some(target.as_slice())),
        Node::Dir { .. } => (Kind::Dir, 0, Vec::new(), None),
        Node::Symlink(target) => (Kind::Symlink, 0, target.clone(), None),
        Node::Special(Special::Fifo) | Node::Whiteout => (Kind::Fifo, 0, Vec::new(), None),
        Node::Special(Special::Char { major, minor }) => {
            (Kind::Char { major: *major, minor: *minor }, 0, Vec::new(), None)
        }
        Node::Special(Special::Block { major, minor }) => {
            (Kind::Block { major: *major, minor: *minor }, 0, Vec::new(), None)
        }
    };
    let inode = file.map(|file| links.number(layer, file));
    let IndexEntry { mode, uid, gid, mtime, .. } = *entry;
    let header = Header { kind, mode, uid, gid, mtime, size, link, ..Header::default() };
    Picked { copy: CopyEntry { relative, header, inode }, path, layer }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kuz_image::LayerIndex;

    use super::*;

    fn layer(entries: &[(&str, Node)]) -> Arc<LayerIndex> {
        let entry = |node: &Node| IndexEntry { node: node.clone(), mode: 0o755, uid: 0, gid: 0, mtime: 0 };
        let entries = entries.iter().map(|(path, node)| (path.as_bytes().to_vec(), entry(node))).collect();
        Arc::new(LayerIndex { entries, accounts: BTreeMap::new() })
    }

    #[test]
    fn sources_select_what_the_stack_shows() {
        let dir = || Node::Dir { opaque: false };
        let file = || Node::File { size: 1 };
        let stack = Stack::new(vec![
            layer(&[
                ("a", dir()),
                ("a/one.py", file()),
                ("a/two.py", file()),
                ("a/gone", file()),
                ("l", Node::Symlink(b"a".to_vec())),
            ]),
            layer(&[("a/gone", Node::Whiteout), ("a/three.txt", file()), ("b", dir()), ("b/two.py", file())]),
        ]);
        let paths = |source: &str| -> Option<Vec<String>> {
            let selected = select(&stack, source.as_bytes()).ok()?;
            let all = selected.iter().flat_map(|one| &one.entries);
            Some(all.map(|entry| format!("{}@{}", String::from_utf8_lossy(&entry.path), entry.layer)).collect())
        };
        let want = |list: &[&str]| Some(list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(paths("/a"), want(&["a@0", "a/one.py@0", "a/three.txt@1", "a/two.py@0"]));
        assert_eq!(paths("l/"), paths("a"));
        assert_eq!(paths("../a/*.py"), want(&["a/one.py@0", "a/two.py@0"]));
        assert_eq!(
            paths("*/two.py"),
            want(&["a/two.py@0", "b/two.py@1"]).map(|mut list| {
                list.push("a/two.py@0".into());
                list
            })
        );
        assert_eq!(paths("a/gone"), None);
        assert_eq!(paths("x*"), want(&[]));
    }
}
