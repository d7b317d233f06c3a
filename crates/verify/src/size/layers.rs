//! Which of the layers' files a container sees, and what hides the others.
//!
//! Layers lowest first in; every file that has bytes out, with what hides it. Goes through the layers from the top, so
//! that each path is looked up once.

use std::collections::HashMap;

use kuz_image::Node;
use kuz_image::index::ancestors;

use super::{Hidden, Layer};

/// A file with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File<'a> {
    pub(super) layer: usize,
    pub(super) path: &'a [u8],
    pub(super) bytes: u64,
    /// The layer that hides it, and how.
    pub(super) hidden: Option<(usize, Hidden)>,
}

/// What upper layers have at a path.
#[derive(Debug, Clone, Copy)]
struct Cover {
    layer: usize,
    how: Hidden,
}

/// All files of all layers that have bytes, by layer and path.
pub(super) fn files(layers: &[Layer]) -> Vec<File<'_>> {
    let mut exact: HashMap<&[u8], Cover> = HashMap::new();
    let mut above: HashMap<&[u8], usize> = HashMap::new();
    let mut found = Vec::new();
    for (number, layer) in layers.iter().enumerate().rev() {
        let hides = |path: &[u8]| -> Option<Cover> {
            let by_parent = if above.is_empty() { None } else { ancestors(path).filter_map(|at| above.get(at)).min() };
            let by_parent = by_parent.map(|&layer| Cover { layer, how: Hidden::Deleted });
            // The nearest above is the one that did it.
            let nearer = |one: Cover, other: Cover| if other.layer < one.layer { other } else { one };
            match (exact.get(path).copied(), by_parent) {
                (Some(one), Some(other)) => Some(nearer(one, other)),
                (one, other) => one.or(other),
            }
        };
        // Names of a file whose first name is hidden keep it.
        let mut names: HashMap<&[u8], &[u8]> = HashMap::new();
        for (path, entry) in &layer.index.entries {
            if let Node::Hardlink(target) = &entry.node
                && hides(path).is_none()
            {
                names.entry(target.as_slice()).or_insert(path.as_slice());
            }
        }
        for (path, entry) in &layer.index.entries {
            let Node::File { size } = entry.node else { continue };
            let cover = hides(path);
            let other_name = names.get(path.as_slice()).copied();
            let (path, hidden) = match (cover, other_name) {
                (Some(_), Some(name)) => (name, None),
                (Some(cover), None) => (path.as_slice(), Some((cover.layer, kind(layers, number, path, cover)))),
                (None, _) => (path.as_slice(), None),
            };
            found.push(File { layer: number, path, bytes: size, hidden });
        }
        for (path, entry) in &layer.index.entries {
            let how = if entry.node == Node::Whiteout { Hidden::Deleted } else { Hidden::Overwritten };
            exact.insert(path, Cover { layer: number, how });
            if !matches!(entry.node, Node::Dir { opaque: false }) {
                above.insert(path, number);
            }
        }
    }
    found.sort_by(|one, other| (one.layer, one.path).cmp(&(other.layer, other.path)));
    found
}

/// Tells a file that was written again as it was from one that was changed.
fn kind(layers: &[Layer], number: usize, path: &[u8], cover: Cover) -> Hidden {
    let sum = |number: usize| layers.get(number).and_then(|layer| layer.contents.sums.get(path));
    let same = sum(number).is_some() && sum(number) == sum(cover.layer);
    if cover.how == Hidden::Overwritten && same { Hidden::Repeated } else { cover.how }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use kuz_image::{IndexEntry, LayerIndex};

    use super::super::Contents;
    use super::*;

    pub(in super::super) fn entry(node: Node) -> IndexEntry {
        IndexEntry { node, mode: 0o755, uid: 0, gid: 0, mtime: 0 }
    }

    pub(in super::super) fn file(size: u64) -> Node {
        Node::File { size }
    }

    pub(in super::super) fn layer(entries: Vec<(&str, Node)>, contents: Contents) -> Layer {
        let entries = entries.into_iter().map(|(path, node)| (path.as_bytes().to_vec(), entry(node))).collect();
        Layer {
            diff_id: "sha256:x".into(),
            tar: 10_000,
            blob: 5_000,
            created_by: None,
            origin: None,
            index: Arc::new(LayerIndex { entries, accounts: BTreeMap::new() }),
            contents: Arc::new(contents),
        }
    }

    pub(in super::super) fn sums(list: &[(&str, u8)]) -> Contents {
        let sums = list.iter().map(|(path, sum)| (path.as_bytes().to_vec(), [*sum; 16])).collect();
        Contents { sums, ..Contents::default() }
    }

    #[test]
    fn what_is_hidden_names_what_hides_it() {
        let dir = |opaque| Node::Dir { opaque };
        let layers = [
            layer(
                vec![
                    ("gone", file(1)),
                    ("kept", file(2)),
                    ("over", file(3)),
                    ("same", file(5000)),
                    ("op/a", file(4)),
                    ("dir/a", file(5)),
                    ("dir/b", file(6)),
                    ("turned/x", file(7)),
                    ("one", file(8)),
                    ("two", Node::Hardlink(b"one".to_vec())),
                    ("both", file(9)),
                    ("also", Node::Hardlink(b"both".to_vec())),
                ],
                sums(&[("same", 1)]),
            ),
            layer(vec![("over", file(30)), ("same", file(5000)), ("dir", Node::Whiteout)], sums(&[("same", 1)])),
            layer(
                vec![
                    ("gone", Node::Whiteout),
                    ("over", Node::Symlink(b"x".to_vec())),
                    ("op", dir(true)),
                    ("dir", dir(false)),
                    ("turned", file(1)),
                    ("one", Node::Whiteout),
                    ("both", Node::Whiteout),
                    ("also", Node::Whiteout),
                ],
                Contents::default(),
            ),
        ];
        let text = |file: &File<'_>| {
            let path = String::from_utf8_lossy(file.path).into_owned();
            file.hidden.map_or_else(
                || format!("{}:{path}", file.layer),
                |(by, how)| format!("{}:{path} {how:?} {by}", file.layer),
            )
        };
        let found: Vec<String> = files(&layers).iter().map(text).collect();
        assert_eq!(
            found,
            [
                "0:both Deleted 2",
                "0:dir/a Deleted 1",
                "0:dir/b Deleted 1",
                "0:gone Deleted 2",
                "0:kept",
                "0:op/a Deleted 2",
                "0:over Overwritten 1",
                "0:same Repeated 1",
                "0:turned/x Deleted 2",
                "0:two",
                "1:over Overwritten 2",
                "1:same",
                "2:turned",
            ]
        );
    }
}
