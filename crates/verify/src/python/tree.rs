//! The layers of an image as directories: what is in one, by name.
//!
//! Finding a module asks for a dozen names in each of a few directories, a thousand times over. A directory is listed once,
//! from all layers with their whiteouts, and then asked. The tree borrows the layers' indexes and copies no entry.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use kuz_image::index::{components, join};
use kuz_image::{IndexEntry, LayerIndex, Node, limits};

/// A directory that a layer implies by what is in it, without an entry of its own.
static IMPLIED: IndexEntry = IndexEntry { node: Node::Dir { opaque: false }, mode: 0o755, uid: 0, gid: 0, mtime: 0 };

/// An image's directories, listed when first asked for.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    layers: &'a [Arc<LayerIndex>],
    listed: RefCell<HashMap<Vec<u8>, Option<Rc<Dir<'a>>>>>,
}

/// A directory.
#[derive(Debug)]
pub(super) struct Dir<'a> {
    /// Its real path, without a leading slash.
    pub(super) path: Vec<u8>,
    names: HashMap<&'a [u8], Seen<'a>>,
}

/// What a directory shows under a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// The layer that shows it, from the lowest.
    pub(super) layer: usize,
    /// What it is.
    pub(super) entry: &'a IndexEntry,
    /// The lowest layer that adds to it, if it is a directory.
    floor: usize,
}

impl<'a> Dir<'a> {
    /// What is there under a name.
    pub(super) fn get(&self, name: &[u8]) -> Option<Seen<'a>> {
        self.names.get(name).copied()
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'a [u8], Seen<'a>)> + '_ {
        self.names.iter().map(|(name, seen)| (*name, *seen))
    }

    /// The path of a name in it.
    pub(super) fn join(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

impl<'a> Tree<'a> {
    /// The tree of these layers, lowest first.
    pub(super) fn new(layers: &'a [Arc<LayerIndex>]) -> Self {
        Self { layers, listed: RefCell::default() }
    }

    /// The directory at a path, links followed.
    pub(super) fn dir(&self, path: &[u8]) -> Option<Rc<Dir<'a>>> {
        if let Some(Some(dir)) = self.listed.borrow().get(path) {
            return Some(Rc::clone(dir));
        }
        let real = self.real(path)?;
        self.list(&real)
    }

    /// What is at a path, links followed: the real path and the entry.
    pub(super) fn at(&self, path: &[u8]) -> Option<(Vec<u8>, Seen<'a>)> {
        let real = self.real(path)?;
        let (parent, name) = split(&real);
        Some((real.clone(), self.list(parent)?.get(name)?))
    }

    /// The size of a regular file at a path, links followed.
    pub(super) fn size(&self, seen: Seen<'a>, dir: &Dir<'a>, name: &[u8]) -> Option<u64> {
        match &seen.entry.node {
            Node::File { size } => Some(*size),
            Node::Hardlink(target) => match self.layers.get(seen.layer)?.entries.get(target)?.node {
                Node::File { size } => Some(size),
                _ => None,
            },
            Node::Symlink(_) => {
                let (real, seen) = self.at(&dir.join(name))?;
                let (parent, name) = split(&real);
                // It is real now: no link is followed twice.
                self.size(seen, &*self.list(parent)?, name)
            }
            _ => None,
        }
    }

    /// Whether a name in a directory is a regular file, links followed.
    pub(super) fn is_file(&self, dir: &Dir<'a>, name: &[u8]) -> bool {
        match dir.get(name).map(|seen| &seen.entry.node) {
            Some(Node::File { .. } | Node::Hardlink(_)) => true,
            Some(Node::Symlink(_)) => self
                .at(&dir.join(name))
                .is_some_and(|(_, seen)| matches!(seen.entry.node, Node::File { .. } | Node::Hardlink(_))),
            _ => false,
        }
    }

    /// The directory under a name in a directory, links followed.
    pub(super) fn child(&self, dir: &Dir<'a>, name: &[u8]) -> Option<Rc<Dir<'a>>> {
        match dir.get(name)?.entry.node {
            Node::Dir { .. } => self.list(&dir.join(name)),
            Node::Symlink(_) => self.dir(&dir.join(name)),
            _ => None,
        }
    }

    /// Paths in the image whose last name is one of these, outside of `skip`: for saying where something lies.
    pub(super) fn named(&self, names: &[&[u8]], most: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for layer in self.layers {
            for path in layer.entries.keys() {
                let (_, name) = split(path);
                if names.contains(&name) && self.at(path).is_some() && !found.contains(path) {
                    found.push(path.clone());
                    if found.len() == most {
                        return found;
                    }
                }
            }
        }
        found
    }

    /// The path with every link followed; every part of it exists.
    fn real(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut rest: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut at = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                at = split(&at).0.to_vec();
                continue;
            }
            let seen = self.list(&at)?.get(&name)?;
            if let Node::Symlink(target) = &seen.entry.node {
                links += 1;
                if links > limits::SYMLINKS {
                    return None;
                }
                if target.first() == Some(&b'/') {
                    at.clear();
                }
                rest.extend(components(target).rev().map(<[u8]>::to_vec));
            } else {
                at = join(&at, &name);
            }
        }
        Some(at)
    }

    /// The directory at a real path.
    fn list(&self, path: &[u8]) -> Option<Rc<Dir<'a>>> {
        if let Some(known) = self.listed.borrow().get(path) {
            return known.clone();
        }
        // From the root downwards, so that depth costs no stack.
        let mut ends: Vec<usize> =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        ends.push(path.len());
        let mut dir = self.remember(&[], || Some(0))?;
        for end in ends {
            let part = path.get(..end).unwrap_or_default();
            if part.is_empty() {
                continue;
            }
            dir = self.remember(part, || {
                let seen = dir.get(split(part).1)?;
                matches!(seen.entry.node, Node::Dir { .. }).then_some(seen.floor)
            })?;
        }
        Some(dir)
    }

    fn remember(&self, path: &[u8], floor: impl FnOnce() -> Option<usize>) -> Option<Rc<Dir<'a>>> {
        if let Some(known) = self.listed.borrow().get(path) {
            return known.clone();
        }
        let dir = floor().map(|floor| Rc::new(self.merge(path, floor)));
        self.listed.borrow_mut().insert(path.to_vec(), dir.clone());
        dir
    }

    /// One directory out of the layers from `floor` upwards.
    fn merge(&self, path: &[u8], floor: usize) -> Dir<'a> {
        let mut names: HashMap<&'a [u8], (Seen<'a>, bool)> = HashMap::new();
        for (number, layer) in self.layers.iter().enumerate().skip(floor).rev() {
            each_child(&layer.entries, path, |name, entry| {
                let opaque = matches!(entry.node, Node::Dir { opaque: true });
                let is_dir = matches!(entry.node, Node::Dir { .. });
                match names.get_mut(name) {
                    None => {
                        let below = if opaque || !is_dir { number } else { floor };
                        names.insert(name, (Seen { layer: number, entry, floor: below }, opaque || !is_dir));
                    }
                    Some((_, true)) => {}
                    Some((seen, settled)) if !is_dir || opaque => {
                        seen.floor = if is_dir { number } else { number + 1 };
                        *settled = true;
                    }
                    Some(_) => {}
                }
            });
        }
        let names = names.into_iter().map(|(name, (seen, _))| (name, seen));
        Dir { path: path.to_vec(), names: names.filter(|(_, seen)| seen.entry.node != Node::Whiteout).collect() }
    }
}

/// Calls back for what a layer has directly in a directory; what lies deeper is jumped over.
fn each_child<'a>(
    entries: &'a BTreeMap<Vec<u8>, IndexEntry>,
    path: &[u8],
    mut each: impl FnMut(&'a [u8], &'a IndexEntry),
) {
    let mut prefix = path.to_vec();
    if !prefix.is_empty() {
        prefix.push(b'/');
    }
    let mut range = entries.range::<[u8], _>((Bound::Excluded(prefix.as_slice()), Bound::Unbounded));
    while let Some((full, entry)) = range.next() {
        let Some(rest) = full.strip_prefix(prefix.as_slice()) else { break };
        let Some(slash) = memchr::memchr(b'/', rest) else {
            each(rest, entry);
            continue;
        };
        let name = rest.get(..slash).unwrap_or_default();
        let own = full.get(..prefix.len() + slash).unwrap_or_default();
        if !entries.contains_key(own) {
            each(name, &IMPLIED);
        }
        // The first path that does not start with `name/`.
        let mut after = own.to_vec();
        after.push(b'/' + 1);
        range = entries.range::<[u8], _>((Bound::Included(after.as_slice()), Bound::Unbounded));
    }
}

/// A path's directory and last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kuz_image::Stack;

    /// `+dir`, `!opaque dir`, `-whiteout`, `path>link target`, else a file of the path's length.
    fn layer(lines: &[&str]) -> Arc<LayerIndex> {
        let entries = lines.iter().map(|line| {
            let (path, node) = match (line.as_bytes()[0], line.split_once('>')) {
                (b'+', _) => (&line[1..], Node::Dir { opaque: false }),
                (b'!', _) => (&line[1..], Node::Dir { opaque: true }),
                (b'-', _) => (&line[1..], Node::Whiteout),
                (_, Some((path, target))) => (path, Node::Symlink(target.as_bytes().to_vec())),
                _ => (*line, Node::File { size: line.len() as u64 }),
            };
            (path.as_bytes().to_vec(), IndexEntry { node, mode: 0o755, uid: 0, gid: 0, mtime: 0 })
        });
        Arc::new(LayerIndex { entries: entries.collect(), ..LayerIndex::default() })
    }

    #[test]
    fn directories_are_what_the_stack_shows() {
        let layers = vec![
            layer(&[
                "+a", "+a/b", "a/b/old", "a/b/two", "a/c", "+d", "d/x", "lib>a/b", "+e", "e/1", "+g", "+g/h", "g/h/i",
            ]),
            layer(&[
                "+a",
                "+a/b",
                "-a/b/old",
                "a/b/new",
                "-d",
                "!e",
                "e/2",
                "up>../lib",
                "impl/deep/file",
                "a-b",
                "a.b",
            ]),
            layer(&["+d", "d/y", "-g", "loop>loop"]),
            layer(&["+g", "+g/h", "g/h/j"]),
        ];
        let tree = Tree::new(&layers);
        let stack = Stack::new(layers.clone());
        let list = |path: &str| {
            let mut names: Vec<String> =
                tree.dir(path.as_bytes())?.names().map(|(name, _)| String::from_utf8_lossy(name).into()).collect();
            names.sort();
            Some(names.join(" "))
        };
        for (path, expected) in [
            ("", Some("a a-b a.b d e g impl lib loop up")),
            ("a/b", Some("new two")),
            ("/lib", Some("new two")),
            ("up/", Some("new two")),
            ("a", Some("b c")),
            ("d", Some("y")),
            ("e", Some("2")),
            ("g/h", Some("j")),
            ("impl/deep", Some("file")),
            ("a/c", None),
            ("loop", None),
            ("no/such", None),
            ("a/b/../../e", Some("2")),
        ] {
            assert_eq!(list(path).as_deref(), expected, "{path}");
        }
        // Where every directory has an entry, both views agree.
        for path in ["a/b/new", "a/b/old", "d/x", "d/y", "e/1", "e/2", "g/h/i", "g/h/j", "a/c"] {
            assert_eq!(tree.at(path.as_bytes()).is_some(), stack.get(path.as_bytes()).is_some(), "{path}");
        }
        let dir = tree.dir(b"").unwrap();
        assert!(tree.is_file(&dir, b"a.b") && !tree.is_file(&dir, b"lib") && !tree.is_file(&dir, b"loop"));
        assert_eq!(tree.named(&[b"two"], 5), [b"a/b/two".to_vec()]);
    }
}
