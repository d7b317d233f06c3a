//! Files with their bytes as a tree of directories, small things together.
//!
//! Paths in; a [`Node`] out whose children are sorted by size. What is too small to be seen or too deep is summed up, so
//! that the tree of a large image stays small.

use std::collections::BTreeMap;

use kuz_image::index::components;

use super::Node;

/// Below this part of all bytes a thing is not shown by itself.
const PART: u64 = 1500;
/// Directories deep: deeper ones are shown as a whole.
const DEPTH: usize = 8;
/// Children of one directory.
const CHILDREN: usize = 60;

#[derive(Debug, Default)]
struct Dir<'a> {
    bytes: u64,
    files: u64,
    children: BTreeMap<&'a [u8], Dir<'a>>,
}

/// The tree of these files.
pub(super) fn tree<'a>(files: impl Iterator<Item = (&'a [u8], u64)>) -> Node {
    let mut root = Dir::default();
    for (path, bytes) in files {
        let mut at = &mut root;
        at.bytes = at.bytes.saturating_add(bytes);
        at.files += 1;
        for name in components(path).take(DEPTH) {
            at = at.children.entry(name).or_default();
            at.bytes = at.bytes.saturating_add(bytes);
            at.files += 1;
        }
    }
    let least = (root.bytes / PART).max(1);
    node("/".to_owned(), &root, least)
}

fn node(name: String, dir: &Dir<'_>, least: u64) -> Node {
    let mut large: Vec<(&[u8], &Dir<'_>)> =
        dir.children.iter().filter(|(_, child)| child.bytes >= least).map(|(name, child)| (*name, child)).collect();
    large.sort_by(|(one, a), (other, b)| b.bytes.cmp(&a.bytes).then(one.cmp(other)));
    large.truncate(CHILDREN);
    let mut children: Vec<Node> = large.iter().map(|(name, child)| node(shown(name), child, least)).collect();
    // A directory whose files are all small is shown as a whole.
    if !children.is_empty() {
        let (bytes, files) =
            children.iter().fold((0_u64, 0), |(bytes, files), child| (bytes + child.bytes, files + child.files));
        let (rest, count) = (dir.bytes.saturating_sub(bytes), dir.files.saturating_sub(files));
        if count > 0 && rest > 0 {
            let name = format!("({count} more)");
            children.push(Node { name, bytes: rest, files: count, children: Vec::new() });
        }
    }
    Node { name, bytes: dir.bytes, files: dir.files, children }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_things_are_summed_up() {
        let small: Vec<String> = (0..500).map(|number| format!("usr/share/doc/{number}")).collect();
        let large = [("usr/lib/a.so", 50_000_u64), ("usr/lib/b.so", 70_000), ("app/main.py", 1000)];
        let files = large.iter().map(|(path, bytes)| (path.as_bytes(), *bytes));
        let found = tree(files.chain(small.iter().map(|path| (path.as_bytes(), 1))));
        assert_eq!((found.bytes, found.files), (121_500, 503));
        let names = |node: &Node| node.children.iter().map(|child| child.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), ["usr", "app"]);
        assert_eq!(names(&found.children[0]), ["lib", "share"]);
        assert_eq!(names(&found.children[0].children[0]), ["b.so", "a.so"]);
        let doc = &found.children[0].children[1].children[0];
        assert_eq!((doc.name.as_str(), doc.bytes, doc.children.len()), ("doc", 500, 0));
    }

    /// That the children of each directory make up all of it; gives how many there are.
    fn check(node: &Node) -> usize {
        if !node.children.is_empty() {
            assert_eq!(node.children.iter().map(|child| child.bytes).sum::<u64>(), node.bytes, "{}", node.name);
        }
        1 + node.children.iter().map(check).sum::<usize>()
    }

    #[test]
    fn a_tree_adds_up_and_is_bounded() {
        let deep = "d/".repeat(100) + "f";
        let many: Vec<String> = (0..20_000).map(|number| format!("m/{number}")).collect();
        let files = many.iter().map(|path| (path.as_bytes(), 100)).chain([(deep.as_bytes(), 1_000_000)]);
        let found = tree(files);
        assert!(check(&found) < 100, "{}", check(&found));
        assert_eq!(tree(std::iter::empty()).bytes, 0);
    }
}
