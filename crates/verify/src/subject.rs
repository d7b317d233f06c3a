//! The image that is judged: its configuration, its layers seen as one file system, and the facts about them.
//!
//! Also the other stages of the build that made it, where that is known: what is missing here may exist there. Those are
//! only looked into when there is a finding that they may explain.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kuz_image::{ImageConfig, IndexEntry, Node, Stack, limits};

use crate::dpkg;
use crate::facts::{LayerFacts, Path};

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
    pub others: Vec<OtherStage<'a>>,
}

/// Looks into a stage when it is first asked.
pub trait StageFiles: fmt::Debug {
    /// Its file system; empty if it cannot be seen.
    fn stack(&self) -> Stack;
    /// Its libraries and commands, with the packages that own them.
    fn owners(&self) -> BTreeMap<Path, String>;
}

/// Another stage of the build that made an image: a place where a missing file may exist.
#[derive(Debug)]
pub struct OtherStage<'a> {
    /// As COPY's `--from` names it: a name, or a number.
    pub name: String,
    files: Box<dyn StageFiles + 'a>,
    stack: OnceCell<Stack>,
    owners: OnceCell<BTreeMap<Path, String>>,
}

impl<'a> OtherStage<'a> {
    /// A stage that is not looked into yet.
    pub fn new(name: impl Into<String>, files: impl StageFiles + 'a) -> Self {
        Self { name: name.into(), files: Box::new(files), stack: OnceCell::new(), owners: OnceCell::new() }
    }

    /// Its file system.
    pub fn stack(&self) -> &Stack {
        self.stack.get_or_init(|| self.files.stack())
    }

    /// The package that owns a file of it.
    pub fn owner(&self, path: &[u8]) -> Option<&str> {
        let owners = self.owners.get_or_init(|| self.files.owners());
        dpkg::spellings(path).iter().find_map(|path| owners.get(path)).map(String::as_str)
    }
}

impl Subject<'_> {
    /// What is at a path, links followed: the real path, the layer that shows it (from the lowest), and the entry.
    pub fn at(&self, path: &[u8]) -> Option<(Vec<u8>, usize, &IndexEntry)> {
        let real = self.stack.resolve(path, true).ok()?.path;
        let (layer, entry) = self.stack.find(&real)?;
        Some((real, layer, entry))
    }

    /// Whether a file is at a path, links followed.
    pub fn has_file(&self, path: &[u8]) -> bool {
        self.at(path).is_some_and(|(_, _, entry)| matches!(entry.node, Node::File { .. } | Node::Hardlink(_)))
    }

    /// A fact about the file at a path, links followed: picks the map that holds such facts.
    pub fn fact<'s, T>(&'s self, path: &[u8], pick: impl Fn(&'s LayerFacts) -> &'s BTreeMap<Path, T>) -> Option<&'s T> {
        let (real, layer, mut entry) = self.at(path)?;
        let facts = pick(self.facts.get(layer)?);
        let mut name = &real;
        // A hard link is another name of a file in the same layer, or of one below.
        for _ in 0..limits::SYMLINKS {
            match &entry.node {
                Node::File { .. } => return facts.get(name),
                Node::Hardlink(target) => {
                    if let Some(fact) = facts.get(target) {
                        return Some(fact);
                    }
                    let (below, found) = self.stack.find(target)?;
                    if below != layer {
                        return pick(self.facts.get(below)?).get(target);
                    }
                    (name, entry) = (target, found);
                }
                _ => return None,
            }
        }
        None
    }

    /// A fact about the file at a real path that a layer shows.
    pub fn fact_in<'s, T>(
        &'s self,
        layer: usize,
        real: &[u8],
        pick: impl Fn(&'s LayerFacts) -> &'s BTreeMap<Path, T>,
    ) -> Option<&'s T> {
        let facts = pick(self.facts.get(layer)?);
        facts.get(real).or_else(|| {
            // A hard link is another name of a file in the same layer.
            match &self.stack.layers().get(layer)?.entries.get(real)?.node {
                Node::Hardlink(target) => facts.get(target),
                _ => None,
            }
        })
    }

    /// The content of a file that is kept whole.
    pub fn kept(&self, path: &[u8]) -> Option<&[u8]> {
        self.fact(path, |facts| &facts.kept).map(Vec::as_slice)
    }

    /// A variable of the image's environment; the last one counts.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let all = self.config.config.env.as_deref().unwrap_or_default();
        all.iter().rev().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The whole environment.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let all = self.config.config.env.as_deref().unwrap_or_default();
        let pairs = all.iter().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The working directory, absolute.
    pub fn workdir(&self) -> &str {
        self.config.config.working_dir.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/")
    }

    /// Files of installed Python packages about which there is such a fact, as far as they are visible: path, layer, fact.
    pub fn in_packages<'s, T: 's>(
        &'s self,
        pick: impl Fn(&'s LayerFacts) -> &'s BTreeMap<Path, T> + 's,
    ) -> impl Iterator<Item = (&'s Path, usize, &'s T)> {
        let layers = self.facts.iter().enumerate();
        layers.flat_map(move |(layer, facts)| {
            let shown = move |(path, _): &(&'s Path, &'s T)| {
                crate::collect::in_packages(path) && self.stack.find(path).is_some_and(|(found, _)| found == layer)
            };
            pick(facts).iter().filter(shown).map(move |(path, fact)| (path, layer, fact))
        })
    }
}

/// A path of an image for people: with its leading slash, control characters escaped.
pub fn show(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    format!("/{}", path.trim_start_matches('/').escape_debug())
}
