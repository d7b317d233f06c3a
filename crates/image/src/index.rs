//! The path index of a layer, and a stack of them seen as one file system.
//!
//! A [`LayerIndex`] lists what a layer's tar does, entry by entry, without file contents (except `/etc/passwd` and
//! `/etc/group`, which name lookups need). A [`Stack`] answers "what is at this path" for several layers without
//! unpacking any: that is how COPY finds its destination in a base image that nobody runs.
//!
//! Lookups follow symbolic links inside the image only; `..` at the root stays at the root.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// What an entry of a layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
    },
    /// A directory. `opaque` hides what lower layers have in it.
    Dir {
        /// `.wh..wh..opq` stood in it.
        opaque: bool,
    },
    /// A symbolic link and its target, as stored.
    Symlink(Vec<u8>),
    /// Another name of an earlier file of the same layer (its path, no leading slash).
    Hardlink(Vec<u8>),
    /// A device or fifo.
    Special(Special),
    /// The path is removed from the layers below.
    Whiteout,
}

/// A file that is neither data, directory nor link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A character device.
    Char {
        /// Its driver.
        major: u32,
        /// Its number there.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Its driver.
        major: u32,
        /// Its number there.
        minor: u32,
    },
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// What it is.
    pub node: Node,
    /// Twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// All entries of a layer by path: no leading slash, no trailing slash, the root is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerIndex {
    /// By path.
    #[serde(with = "crate::by_path")]
    pub entries: BTreeMap<Vec<u8>, IndexEntry>,
    /// Contents of `etc/passwd` and `etc/group`, where the layer has them as regular files within the limit.
    pub accounts: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The paths whose contents an index keeps.
pub const ACCOUNT_FILES: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];

/// Why an index could not be read back.
#[derive(Debug, thiserror::Error)]
#[error("read layer index")]
pub struct IndexError(#[source] postcard::Error);

impl LayerIndex {
    /// A compact form for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`] back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        postcard::from_bytes(bytes).map_err(IndexError)
    }
}

/// Layers over one another, lowest first, as one file system.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    layers: Vec<Arc<LayerIndex>>,
}

/// Where a lookup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The real path: no symbolic link in it, no leading slash.
    pub path: Vec<u8>,
    /// What is there; `None` where nothing is.
    pub entry: Option<IndexEntry>,
}

/// Why a lookup has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// A loop, or a chain longer than the kernel follows.
    #[error("too many symbolic links at `{}`", String::from_utf8_lossy(path).escape_debug())]
    TooManyLinks {
        /// Where it was noticed.
        path: Vec<u8>,
    },
    /// A parent is a file.
    #[error("`{}` is not a directory", String::from_utf8_lossy(path).escape_debug())]
    NotADirectory {
        /// The parent.
        path: Vec<u8>,
    },
}

impl Stack {
    /// A stack of these layers, lowest first.
    pub fn new(layers: Vec<Arc<LayerIndex>>) -> Self {
        Self { layers }
    }

    /// Its layers, lowest first.
    pub fn layers(&self) -> &[Arc<LayerIndex>] {
        &self.layers
    }

    /// Puts one more layer on top.
    pub fn push(&mut self, layer: Arc<LayerIndex>) {
        self.layers.push(layer);
    }

    /// What is at exactly this path (no leading slash), following no link anywhere.
    pub fn get(&self, path: &[u8]) -> Option<&IndexEntry> {
        self.find(path).map(|(_, entry)| entry)
    }

    /// As [`Self::get`], with the layer that shows it (counted from the lowest).
    pub fn find(&self, path: &[u8]) -> Option<(usize, &IndexEntry)> {
        for (number, layer) in self.layers.iter().enumerate().rev() {
            if let Some(entry) = layer.entries.get(path) {
                return (entry.node != Node::Whiteout).then_some((number, entry));
            }
            // Something above this path in the same layer may hide what lower layers have there.
            let hidden = ancestors(path).any(|parent| {
                layer.entries.get(parent).is_some_and(|entry| !matches!(entry.node, Node::Dir { opaque: false }))
            });
            if hidden {
                return None;
            }
        }
        None
    }

    /// Walks `path` from the root. Links on the way are followed inside the stack, the last one only if `follow`.
    /// Missing parents are no error: the rest of the path is taken as written.
    pub fn resolve(&self, path: &[u8], follow: bool) -> Result<Found, LookupError> {
        let mut rest: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                at.truncate(at.iter().rposition(|&b| b == b'/').unwrap_or(0));
                continue;
            }
            let next = join(&at, &name);
            match self.get(&next).map(|entry| &entry.node) {
                Some(Node::Symlink(target)) if follow || !rest.is_empty() => {
                    links += 1;
                    if links > limits::SYMLINKS {
                        return Err(LookupError::TooManyLinks { path: next });
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    rest.extend(components(target).rev().map(<[u8]>::to_vec));
                }
                Some(Node::File { .. } | Node::Hardlink(_) | Node::Special(_)) if !rest.is_empty() => {
                    return Err(LookupError::NotADirectory { path: next });
                }
                _ => at = next,
            }
        }
        let entry = self.get(&at).cloned();
        Ok(Found { path: at, entry })
    }

    /// The content of `/etc/passwd` or `/etc/group`, if some layer's index kept it and none above hides it.
    pub fn account_file(&self, path: &[u8]) -> Option<&[u8]> {
        let at = self.resolve(path, true).ok()?.path;
        self.get(&at)?;
        let layer = self.layers.iter().rev().find(|layer| layer.entries.contains_key(&at))?;
        layer.accounts.get(&at).map(Vec::as_slice)
    }

    /// The paths below `directory` (exclusive) that the stack shows, in order.
    pub fn below(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let mut prefix = directory.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let mut paths: Vec<&Vec<u8>> = self
            .layers
            .iter()
            .flat_map(|layer| {
                layer.entries.range(prefix.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&prefix))
            })
            .filter(|path| path.len() > prefix.len())
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths.into_iter().filter(|path| self.get(path).is_some()).cloned().collect()
    }
}

/// The names in a path, without empty ones and `.`.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// The directories above a path, nearest first, the root (empty path) last. The root has none.
pub fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = Some(path).filter(|path| !path.is_empty());
    std::iter::from_fn(move || {
        let path = at?;
        let parent = path.get(..path.iter().rposition(|&b| b == b'/').unwrap_or(0)).unwrap_or_default();
        at = Some(parent).filter(|parent| !parent.is_empty());
        Some(parent)
    })
}

/// `directory` + `/` + `name`; a name alone at the root.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(entries: &[(&str, Node)]) -> Arc<LayerIndex> {
        let entries = entries.iter().map(|(path, node)| {
            (path.as_bytes().to_vec(), IndexEntry { node: node.clone(), mode: 0o755, uid: 0, gid: 0, mtime: 0 })
        });
        Arc::new(LayerIndex { entries: entries.collect(), accounts: BTreeMap::new() })
    }

    #[test]
    fn lookups_see_the_topmost_layer_and_stay_inside() {
        let dir = || Node::Dir { opaque: false };
        let link = |to: &str| Node::Symlink(to.as_bytes().to_vec());
        let stack = Stack::new(vec![
            layer(&[
                ("usr", dir()),
                ("usr/lib", dir()),
                ("lib", link("usr/lib")),
                ("usr/lib/a", Node::File { size: 1 }),
                ("out", link("../../../etc")),
                ("loop", link("loop")),
                ("gone", dir()),
                ("gone/x", Node::File { size: 1 }),
                ("op", dir()),
                ("op/old", Node::File { size: 1 }),
            ]),
            layer(&[("gone", Node::Whiteout), ("op", Node::Dir { opaque: true }), ("op/new", Node::File { size: 2 })]),
        ]);
        let at = |path: &str| {
            stack
                .resolve(path.as_bytes(), true)
                .map(|found| (String::from_utf8(found.path).unwrap(), found.entry.is_some()))
        };
        assert_eq!(at("/lib/a"), Ok(("usr/lib/a".into(), true)));
        assert_eq!(at("/lib/new/b"), Ok(("usr/lib/new/b".into(), false)));
        assert_eq!(at("out/passwd"), Ok(("etc/passwd".into(), false)));
        assert_eq!(at("../.."), Ok((String::new(), false)));
        assert_eq!(at("gone/x"), Ok(("gone/x".into(), false)));
        assert_eq!(at("op/old"), Ok(("op/old".into(), false)));
        assert_eq!(at("op/new"), Ok(("op/new".into(), true)));
        assert!(matches!(at("loop"), Err(LookupError::TooManyLinks { .. })));
        assert!(matches!(at("usr/lib/a/b"), Err(LookupError::NotADirectory { .. })));
        assert_eq!(stack.below(b"op"), vec![b"op/new".to_vec()]);
        assert_eq!(stack.below(b"gone"), Vec::<Vec<u8>>::new());
    }
}
