//! The image that is judged: its configuration, its layers seen as one file system, and the facts about them.
//!
//! Also the other stages of the build that made it, where that is known: what is missing here may exist there.

use std::sync::Arc;

use kuz_image::{ImageConfig, IndexEntry, Stack};

use crate::facts::LayerFacts;

/// A finished image.
#[derive(Debug)]
pub struct Subject<'a> {
    /// What runs.
    pub config: &'a ImageConfig,
    /// The layers' indexes, lowest first.
    pub stack: Stack,
    /// Their facts, in the same order.
    pub facts: Vec<Arc<LayerFacts>>,
    /// How many of the lowest layers are the base image's; none where that is not known.
    pub base_layers: usize,
    /// The other stages of its build.
    pub others: Vec<OtherStage>,
}

/// Another stage of the build that made an image: a place where a missing file may exist.
#[derive(Debug, Clone)]
pub struct OtherStage {
    /// As COPY's `--from` names it: a name, or a number.
    pub name: String,
    /// Its file system.
    pub stack: Stack,
}

impl Subject<'_> {
    /// What is at a path, links followed: the real path, the layer that shows it (from the lowest), and the entry.
    pub fn at(&self, path: &[u8]) -> Option<(Vec<u8>, usize, &IndexEntry)> {
        let real = self.stack.resolve(path, true).ok()?.path;
        let (layer, entry) = self.stack.find(&real)?;
        Some((real, layer, entry))
    }

    /// A fact about the file at a path, links followed: picks the map that holds such facts.
    pub fn fact<'s, T>(
        &'s self,
        path: &[u8],
        pick: impl Fn(&'s LayerFacts) -> &'s std::collections::BTreeMap<crate::facts::Path, T>,
    ) -> Option<&'s T> {
        let (real, layer, entry) = self.at(path)?;
        // A hard link is another name of a file in the same layer.
        let name = if let kuz_image::Node::Hardlink(target) = &entry.node { target } else { &real };
        pick(self.facts.get(layer)?).get(name)
    }
}
