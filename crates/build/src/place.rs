//! The part of a stack that a copy to one place looks at: kept, so that an edit does not read the indexes of whole images.
//!
//! In: layers and a destination. Out: a stack that answers every question about the destination, what is above it and what
//! is below it, and about accounts. Where a link could lead elsewhere, or there is too much, it is the whole stack.

use std::sync::Arc;

use kuz_image::index::{ancestors, components};
use kuz_image::{Digest, LayerIndex, Node, Stack};

use crate::error::BuildError;
use crate::execute::Execution;
use crate::layers::Layer;

/// The kind of records with such parts.
const PLACE: &str = "place";
/// Entries of a part: more than this, and the whole is as good.
const ENTRIES: usize = 1024;

impl Execution<'_> {
    /// The stack of these layers, as far as a copy to `destination` can see it.
    pub(crate) fn stack_at(&self, layers: &[Layer], destination: &str) -> Result<Stack, BuildError> {
        let Some(place) = plain(destination) else { return self.stack(layers) };
        let store = &self.session.store;
        let mut text = destination.to_owned();
        for layer in layers {
            text += "\n";
            text += &match layer {
                Layer::Base { diff_id, .. } | Layer::Tar(diff_id) => diff_id.to_string(),
                Layer::Tree { name, .. } => name.to_string(),
            };
        }
        let key = Digest::of(text.as_bytes());
        let known = store.get(PLACE, key.hex()).map_err(|error| BuildError::store("read a place's index", error))?;
        let known = known.and_then(|bytes| postcard::from_bytes::<Vec<LayerIndex>>(&bytes).ok());
        if let Some(parts) = known.filter(|parts| parts.len() == layers.len()) {
            return Ok(Stack::new(parts.into_iter().map(Arc::new).collect()));
        }
        let whole = self.stack(layers)?;
        if let Some(bytes) = parts(&whole, &place).and_then(|parts| postcard::to_stdvec(&parts).ok()) {
            store.put(PLACE, key.hex(), &bytes).map_err(|error| BuildError::store("record a place's index", error))?;
        }
        Ok(whole)
    }
}

/// A destination as an index has it; `None` for the root, and where names alone do not say where it is.
fn plain(destination: &str) -> Option<Vec<u8>> {
    let names: Vec<&[u8]> = components(destination.as_bytes()).filter(|name| *name != b".").collect();
    (!names.is_empty() && !names.contains(&&b".."[..])).then(|| names.join(&b'/'))
}

/// What the layers have at a place, above it and below it.
fn parts(stack: &Stack, place: &[u8]) -> Option<Vec<LayerIndex>> {
    let mut count = 0;
    let mut part = |layer: &Arc<LayerIndex>| {
        let mut part = LayerIndex { accounts: layer.accounts.clone(), ..LayerIndex::default() };
        let above = ancestors(place).filter_map(|path| layer.entries.get_key_value(path));
        // What begins with the same letters stands between a directory and what is in it.
        let from = layer.entries.range(place.to_vec()..).take_while(|(path, _)| path.starts_with(place));
        let below = from.filter(|(path, _)| matches!(path.get(place.len()), None | Some(b'/')));
        for (path, entry) in above.chain(below) {
            count += 1;
            if count > ENTRIES || matches!(entry.node, Node::Symlink(_) | Node::Hardlink(_)) {
                return None;
            }
            part.entries.insert(path.clone(), entry.clone());
        }
        Some(part)
    };
    stack.layers().iter().map(&mut part).collect()
}

#[cfg(test)]
mod tests {
    use kuz_image::IndexEntry;

    use super::*;

    fn layer(entries: &[(&str, Node)]) -> Arc<LayerIndex> {
        let entry = |node: &Node| IndexEntry { node: node.clone(), mode: 0o755, uid: 0, gid: 0, mtime: 1 };
        let entries = entries.iter().map(|(path, node)| (path.as_bytes().to_vec(), entry(node))).collect();
        Arc::new(LayerIndex { entries, accounts: [(b"etc/passwd".to_vec(), b"a".to_vec())].into() })
    }

    const DIR: Node = Node::Dir { opaque: false };
    const FILE: Node = Node::File { size: 1 };

    #[test]
    fn destinations_are_read_as_names() {
        for (text, expected) in
            [("/app/", Some("app")), ("/a/./b", Some("a/b")), ("/", None), ("", None), ("/a/../b", None)]
        {
            assert_eq!(plain(text), expected.map(|text| text.as_bytes().to_vec()), "{text}");
        }
    }

    #[test]
    fn a_part_answers_as_the_whole_does() {
        let low = [("", DIR), ("app", DIR), ("app-data", FILE), ("app/x", DIR), ("app/x/y", FILE), ("usr", DIR)];
        let high = [("app/x", Node::Dir { opaque: true }), ("app/gone", Node::Whiteout), ("apple", FILE)];
        let whole = Stack::new(vec![layer(&low), layer(&high)]);
        let part = Stack::new(parts(&whole, b"app").unwrap().into_iter().map(Arc::new).collect());
        for path in ["", "app", "app/x", "app/x/y", "app/gone", "app/new"] {
            assert_eq!(part.get(path.as_bytes()), whole.get(path.as_bytes()), "{path}");
        }
        assert_eq!(part.account_file(b"etc/passwd"), whole.account_file(b"etc/passwd"));
        let paths: Vec<_> = part.layers().iter().flat_map(|layer| layer.entries.keys()).collect();
        assert_eq!(paths.len(), 6, "{paths:?}"); // and nothing of `app-data`, `apple` and `usr`
    }

    #[test]
    fn what_a_link_could_lead_out_of_has_no_part() {
        let link = Node::Symlink(b"/data".to_vec());
        for (entries, place, has) in [
            (vec![("app", link.clone())], "app/x", false),
            (vec![("app/here", link.clone())], "app", false),
            (vec![("app/here", Node::Hardlink(b"usr/x".to_vec()))], "app", false),
            (vec![("other", link)], "app", true),
        ] {
            let stack = Stack::new(vec![layer(&entries)]);
            assert_eq!(parts(&stack, place.as_bytes()).is_some(), has, "{entries:?} {place}");
        }
        let many: Vec<String> = (0..=ENTRIES).map(|number| format!("app/{number}")).collect();
        let many: Vec<(&str, Node)> = many.iter().map(|path| (path.as_str(), FILE)).collect();
        assert!(parts(&Stack::new(vec![layer(&many)]), b"app").is_none());
    }
}
