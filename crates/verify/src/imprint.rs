//! What the checks can see of a layer, as a digest: layers with equal imprints are judged alike.
//!
//! A layer's index and facts in, two digests out. Left out is what no check looks at: times, and the sizes of files outside
//! of Python's packages. [`Imprint::loose`] also leaves out how far down a line stands in the user's own modules, which
//! only shows in words: a finding about such a module holds only for layers of the same [`Imprint::exact`]. And it leaves
//! out what names these modules bind: [`answers`] tells that of the names that were asked for. So an edit that changes
//! neither imports nor a name that somebody imports needs no new verdict.

use std::collections::BTreeSet;

use kuz_image::{DiffId, IndexEntry, LayerIndex, Node};
use serde::{Deserialize, Serialize};

use crate::collect::in_packages;
use crate::facts::LayerFacts;
use crate::python::{Mentions, Module};

/// The form of imprints. Raised when a check looks at more than before.
pub const FORMAT: u32 = 3;

/// Digests of what the checks can see of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imprint {
    /// All of it.
    pub exact: [u8; blake3::OUT_LEN],
    /// Without the names that the user's modules bind, and with lines counted only among those that matter.
    pub loose: [u8; blake3::OUT_LEN],
}

impl Imprint {
    /// Of one layer.
    pub fn of(index: &LayerIndex, facts: &LayerFacts) -> Self {
        let LayerFacts { shebangs, kept, secrets, modules, elf, owners } = facts;
        let LayerIndex { entries, accounts } = index;
        let mut common = Digester::default();
        common.put(&(shebangs, kept, secrets, elf, owners, accounts));
        for (path, IndexEntry { node, mode, uid, gid, mtime: _ }) in entries {
            let node = match node {
                Node::File { size } if in_packages(path) => (Some(*size), None),
                Node::File { .. } => (None, None),
                other => (None, Some(other)),
            };
            common.put(&(path, node, mode, uid, gid));
        }
        // A package's file may be another name of a file that lies elsewhere.
        let target = |(path, entry): (&Vec<u8>, &IndexEntry)| match &entry.node {
            Node::Hardlink(target) if in_packages(path) => Some(target.clone()),
            _ => None,
        };
        let shared: BTreeSet<Vec<u8>> = entries.iter().filter_map(target).collect();
        let is_packages = |(path, _): &(&Vec<u8>, &Module)| in_packages(path) || shared.contains(*path);
        let (packages, own): (Vec<_>, Vec<_>) = modules.iter().partition(is_packages);
        common.put(&own.len());
        for module in packages {
            common.put(&module);
        }
        let mut loose = common.clone();
        let mut exact = common;
        for (path, module) in own {
            // No check looks at what its strings may name.
            let mut module = Module { mentions: Mentions::default(), ..module.clone() };
            exact.put(&(path, &module));
            // Of the names that it binds, `answers` tells.
            module.bound.clear();
            rank(&mut module);
            loose.put(&(path, &module));
        }
        Self { exact: exact.finish(), loose: loose.finish() }
    }

    /// Of a layer of the base image: of what is known by its digest alone nothing can be left out.
    pub fn of_base(diff_id: &DiffId) -> Self {
        let digest = *blake3::hash(diff_id.to_string().as_bytes()).as_bytes();
        Self { exact: digest, loose: digest }
    }

    /// A compact form for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(&(FORMAT, crate::facts::FORMAT, self)).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`] back; `None` if they are of another form, or of facts of another one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (format, facts, imprint) = postcard::from_bytes(bytes).ok()?;
        ((format, facts) == (FORMAT, crate::facts::FORMAT)).then_some(imprint)
    }
}

/// So much is hashed at a time: short pieces take the hash function several times as long.
const PIECE_BYTES: usize = 64 << 10;

/// Hashes values one after the other.
#[derive(Debug, Clone, Default)]
struct Digester {
    hasher: blake3::Hasher,
    /// What is not hashed yet.
    buffer: Vec<u8>,
    failed: bool,
}

impl Digester {
    fn put(&mut self, value: &impl Serialize) {
        match postcard::to_extend(value, std::mem::take(&mut self.buffer)) {
            Ok(bytes) => self.buffer = bytes,
            // Without a form it has no equal either.
            Err(_) => self.failed = true,
        }
        if self.buffer.len() >= PIECE_BYTES {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }

    fn finish(mut self) -> [u8; blake3::OUT_LEN] {
        self.hasher.update(&self.buffer);
        if self.failed { [0; blake3::OUT_LEN] } else { *self.hasher.finalize().as_bytes() }
    }
}

/// What a layer's own modules, those outside of packages, answer to whoever asks for these names: whether each binds it,
/// and between which of its imports.
pub fn answers(facts: &LayerFacts, asked: &BTreeSet<String>) -> [u8; blake3::OUT_LEN] {
    let mut digester = Digester::default();
    for (path, module) in facts.modules.iter().filter(|(path, _)| !in_packages(path)) {
        for name in asked {
            let Some(line) = module.line_of(name) else { continue };
            let before = module.imports.iter().filter(|import| import.line < line).count();
            let beside = module.imports.iter().filter(|import| import.line == line).count();
            digester.put(&(path, name, before, beside));
        }
    }
    digester.finish()
}

/// Numbers a module's lines among those that it speaks of: their order is kept, their distance is not.
fn rank(module: &mut Module) {
    let mut lines = Vec::new();
    each_line(module, |line| lines.push(*line));
    lines.sort_unstable();
    lines.dedup();
    each_line(module, |line| {
        let rank = lines.binary_search(line).unwrap_or_default();
        *line = u32::try_from(rank).unwrap_or(u32::MAX);
    });
}

fn each_line(module: &mut Module, mut visit: impl FnMut(&mut u32)) {
    let Module {
        imports,
        bound,
        search_path,
        newer,
        broken,
        named,
        all: _,
        dynamic: _,
        unread: _,
        made: _,
        mentions: _,
    } = module;
    let lines = imports.iter_mut().map(|import| &mut import.line);
    let lines = lines.chain(bound.iter_mut().map(|(_, line)| line));
    let lines = lines.chain(search_path.iter_mut().map(|(line, _)| line));
    let lines = lines.chain(newer.iter_mut().map(|newer| &mut newer.line));
    let lines = lines.chain(broken.iter_mut().map(|broken| &mut broken.line));
    lines.chain(named.iter_mut().map(|named| &mut named.line)).for_each(&mut visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = b"app/main.py";
    const THEIRS: &[u8] = b"usr/lib/python3.10/site-packages/x/y.py";

    fn index(size: u64, mtime: i64, mode: u32) -> LayerIndex {
        let entry = |size| IndexEntry { node: Node::File { size }, mode, uid: 0, gid: 0, mtime };
        let entries = [(OWN.to_vec(), entry(size)), (THEIRS.to_vec(), entry(7))];
        LayerIndex { entries: entries.into(), ..LayerIndex::default() }
    }

    fn facts(own: &str, theirs: &str) -> LayerFacts {
        let read = |path: &[u8], text: &str| (path.to_vec(), crate::python::module(path, text.as_bytes()).unwrap());
        let modules = [read(OWN, own), read(THEIRS, theirs)];
        LayerFacts { modules: modules.into(), ..LayerFacts::default() }
    }

    #[test]
    fn what_no_check_looks_at_leaves_no_imprint() {
        let before = Imprint::of(&index(10, 1, 0o644), &facts("import os\ndef f():\n  return 1\n", "import re\n"));
        let after = facts("import os\ndef f():\n  return 'two' # two\n", "import re\n");
        assert_eq!(Imprint::of(&index(20, 2, 0o644), &after), before);
        assert_eq!(Imprint::from_bytes(&before.to_bytes()), Some(before));
        assert_eq!(Imprint::from_bytes(b"x"), None);
    }

    #[test]
    fn a_module_that_a_package_shares_is_the_packages() {
        let link = |target: &str| {
            let mut index = index(10, 1, 0o644);
            let node = Node::Hardlink(target.into());
            index.entries.get_mut(THEIRS).unwrap().node = node;
            index
        };
        for (target, alike) in [("app/main.py", false), ("app/other.py", true)] {
            let of = |own: &str| Imprint::of(&link(target), &facts(own, "import re\n")).loose;
            assert_eq!(of("x = 1\n") == of("y = 1\n"), alike, "{target}");
        }
    }

    #[test]
    fn names_count_where_somebody_asks_for_them() {
        let text = "import os\ndef f():\n  return 1\nimport re\nx = 2\n";
        let asked = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let answer = |own: &str, names: &[&str]| answers(&facts(own, "import re\n"), &asked(names));
        for (what, own, names, same) in [
            ("another name", "import os\ndef f():\n  return 1\nimport re\nx = 2\ny = 3\n", &["f", "x"][..], true),
            ("a name is gone", "import os\nimport re\nx = 2\n", &["f"], false),
            ("and nobody asks", "import os\nimport re\nx = 2\n", &["x"], true),
            ("it comes", text, &["f", "new"], true),
            ("it came", "import os\ndef f():\n  return 1\nimport re\nx = 2\nnew = 3\n", &["f", "new"], false),
            ("later than an import", "import os\nimport re\ndef f():\n  return 1\nx = 2\n", &["f"], false),
            ("further down", "import os\n\n\ndef f():\n  return 1\nimport re\nx = 2\n", &["f", "x"], true),
        ] {
            assert_eq!(answer(own, names) == answer(text, names), same, "{what}");
        }
        // A package's own names are in its imprint.
        assert_eq!(answers(&facts(text, "f = 1\n"), &asked(&["f"])), answer(text, &["f"]));
    }

    #[test]
    fn what_a_check_may_look_at_does() {
        let text = "import os\ndef f():\n  return 1\nx = 2\n";
        let before = Imprint::of(&index(10, 1, 0o644), &facts(text, "import re\n"));
        for (what, own, theirs, mode, loose_too) in [
            ("a mode", text, "import re\n", 0o600, true),
            ("an import", "import re\ndef f():\n  return 1\nx = 2\n", "import re\n", 0o644, true),
            ("a name", "import os\ndef g():\n  return 1\nx = 2\n", "import re\n", 0o644, false),
            (
                "a list of names",
                "import os\n__all__ = ['f']\ndef f():\n  return 1\nx = 2\n",
                "import re\n",
                0o644,
                true,
            ),
            ("the order", "x = 2\nimport os\ndef f():\n  return 1\n", "import re\n", 0o644, false),
            ("a name of a package", text, "import re\ny = 1\n", 0o644, true),
            ("a line further down", "import os\ndef f():\n  y = 1\n  return y\nx = 2\n", "import re\n", 0o644, false),
            ("a line in a package", text, "\nimport re\n", 0o644, true),
        ] {
            let after = Imprint::of(&index(10, 1, mode), &facts(own, theirs));
            assert_ne!(after.exact, before.exact, "{what}");
            assert_eq!(after.loose != before.loose, loose_too, "{what}");
        }
        let mut larger = index(10, 1, 0o644);
        larger.entries.get_mut(THEIRS).unwrap().node = Node::File { size: 8 };
        assert_ne!(Imprint::of(&larger, &facts(text, "import re\n")).loose, before.loose, "a size in a package");
    }
}
