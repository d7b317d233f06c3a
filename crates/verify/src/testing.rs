//! For tests: layers written as tars and collected, ELF files written byte by byte, subjects of both.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuz_image::tar::{Header, Kind, TarWriter};
use kuz_image::{ImageConfig, Stack};

use crate::elf::Needs;
use crate::facts::{LayerFacts, Path};
use crate::subject::{OtherStage, StageFiles, Subject};

/// One entry of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Entry(Header, Vec<u8>);

impl Entry {
    /// With another mode.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.0.mode = mode;
        self
    }

    /// With another owner.
    pub(crate) fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.0.uid, self.0.gid) = (uid, gid);
        self
    }
}

fn header(path: &str, kind: Kind, mode: u32) -> Header {
    Header { path: path.into(), kind, mode, ..Header::default() }
}

/// An executable file.
pub(crate) fn program(path: &str, content: impl AsRef<[u8]>) -> Entry {
    let content = content.as_ref().to_vec();
    Entry(Header { size: content.len() as u64, ..header(path, Kind::File, 0o755) }, content)
}

/// A file that is none.
pub(crate) fn file(path: &str, content: impl AsRef<[u8]>) -> Entry {
    program(path, content).mode(0o644)
}

/// A symbolic link.
pub(crate) fn link(path: &str, target: &str) -> Entry {
    Entry(Header { link: target.into(), ..header(path, Kind::Symlink, 0o777) }, Vec::new())
}

/// A hard link.
pub(crate) fn hard(path: &str, target: &str) -> Entry {
    Entry(Header { link: target.into(), ..header(path, Kind::Hardlink, 0o755) }, Vec::new())
}

/// A directory.
pub(crate) fn dir(path: &str) -> Entry {
    Entry(header(path, Kind::Dir, 0o755), Vec::new())
}

/// A layer's tar.
pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for Entry(header, content) in entries {
        tar.append(header, &mut content.as_slice()).unwrap();
    }
    tar.finish().unwrap()
}

/// What is known of some layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) stack: Stack,
    pub(crate) facts: Vec<Arc<LayerFacts>>,
}

/// Collects layers.
pub(crate) fn seen(layers: &[Vec<Entry>]) -> Seen {
    let mut seen = Seen::default();
    for layer in layers {
        let (scanned, facts) = crate::scan_and_collect(tar(layer).as_slice()).unwrap();
        seen.stack.push(Arc::new(scanned.index));
        seen.facts.push(Arc::new(facts));
    }
    seen
}

impl StageFiles for Seen {
    fn stack(&self) -> Stack {
        self.stack.clone()
    }

    fn owners(&self) -> BTreeMap<Path, String> {
        self.facts.iter().flat_map(|facts| facts.owners.clone()).collect()
    }
}

/// An image of these layers, made beside other stages.
pub(crate) fn subject<'a>(config: &'a ImageConfig, layers: &[Vec<Entry>], others: &[(&str, &Seen)]) -> Subject<'a> {
    let Seen { stack, facts } = seen(layers);
    let others = others.iter().map(|(name, seen)| OtherStage::new(*name, (*seen).clone())).collect();
    Subject { config, stack, facts, others, base_layers: 0 }
}

/// A configuration from the parts that the command has.
pub(crate) fn config(json: &str) -> ImageConfig {
    serde_json::from_str(&format!(r#"{{"architecture":"amd64","os":"linux","config":{json}}}"#)).unwrap()
}

/// What an ELF file for tests has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made<'a> {
    pub(crate) interpreter: &'a str,
    pub(crate) needed: &'a [&'a str],
    pub(crate) soname: &'a str,
    pub(crate) rpath: &'a str,
    pub(crate) runpath: &'a str,
    pub(crate) needs: &'a [(&'a str, &'a [&'a str])],
    pub(crate) provides: &'a [&'a str],
    pub(crate) exports: &'a str,
    /// `e_machine`; 0 is amd64's.
    pub(crate) machine: u16,
}

impl Made<'_> {
    /// A file of 64 bits, little-endian: one segment that maps all of it at address 0, and its dynamic section.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut name = |text: &str| {
            let at = strings.len() as u64;
            strings.extend([text.as_bytes(), &[0]].concat());
            at
        };
        let mut dynamic: Vec<(u64, u64)> = self.needed.iter().map(|needed| (1, name(needed))).collect();
        for (tag, text) in [(14, self.soname), (15, self.rpath), (29, self.runpath)] {
            if !text.is_empty() {
                dynamic.push((tag, name(text)));
            }
        }
        name(self.exports);
        let needs: Vec<(u64, Vec<u64>)> = self
            .needs
            .iter()
            .map(|(file, versions)| (name(file), versions.iter().map(|version| name(version)).collect()))
            .collect();
        let provides: Vec<u64> = self.provides.iter().map(|version| name(version)).collect();

        let segments = if self.interpreter.is_empty() { 2 } else { 3 };
        let interpreter_at = 64 + segments * 56;
        let strings_at = interpreter_at + self.interpreter.len() as u64 + 1;
        let needs_at = strings_at + strings.len() as u64;
        let mut versions = Vec::new();
        for (place, (file, names)) in needs.iter().enumerate() {
            let next = if place + 1 == needs.len() { 0 } else { 16 + 16 * names.len() };
            put(&mut versions, &[(1, 2), (names.len() as u64, 2), (*file, 4), (16, 4), (next as u64, 4)]);
            for (place, version) in names.iter().enumerate() {
                let next = if place + 1 == names.len() { 0 } else { 16 };
                put(&mut versions, &[(0, 4), (0, 2), (2, 2), (*version, 4), (next, 4)]);
            }
        }
        let provides_at = needs_at + versions.len() as u64;
        for (place, version) in provides.iter().enumerate() {
            let next = if place + 1 == provides.len() { 0 } else { 28 };
            put(&mut versions, &[(1, 2), (0, 2), (2, 2), (1, 2), (0, 4), (20, 4), (next, 4), (*version, 4), (0, 4)]);
        }
        dynamic.extend([(5, strings_at), (10, strings.len() as u64)]);
        if !needs.is_empty() {
            dynamic.extend([(0x6fff_fffe, needs_at), (0x6fff_ffff, needs.len() as u64)]);
        }
        if !provides.is_empty() {
            dynamic.extend([(0x6fff_fffc, provides_at), (0x6fff_fffd, provides.len() as u64)]);
        }
        dynamic.push((0, 0));
        let dynamic_at = needs_at + versions.len() as u64;
        let end = dynamic_at + 16 * dynamic.len() as u64;

        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let machine = if self.machine == 0 { 62 } else { self.machine };
        put(&mut file, &[(3, 2), (machine.into(), 2), (1, 4), (0, 8), (64, 8), (0, 8), (0, 4)]);
        put(&mut file, &[(64, 2), (56, 2), (segments, 2), (0, 2), (0, 2), (0, 2)]);
        let mut segment = |kind: u64, at: u64, bytes: u64| {
            put(&mut file, &[(kind, 4), (5, 4), (at, 8), (at, 8), (at, 8), (bytes, 8), (bytes, 8), (1, 8)]);
        };
        segment(1, 0, end);
        segment(2, dynamic_at, 16 * dynamic.len() as u64);
        if !self.interpreter.is_empty() {
            segment(3, interpreter_at, self.interpreter.len() as u64 + 1);
        }
        file.extend([self.interpreter.as_bytes(), &[0], &strings, &versions].concat());
        for (tag, value) in dynamic {
            put(&mut file, &[(tag, 8), (value, 8)]);
        }
        file
    }
}

fn put(file: &mut Vec<u8>, fields: &[(u64, usize)]) {
    for (value, bytes) in fields {
        file.extend(&value.to_le_bytes()[..*bytes]);
    }
}

/// What [`Made`] should be read as.
pub(crate) fn needs(all: &[(&str, &[&str])]) -> Vec<Needs> {
    let one = |(file, versions): &(&str, &[&str])| Needs {
        file: file.as_bytes().to_vec(),
        versions: versions.iter().map(|version| version.as_bytes().to_vec()).collect(),
    };
    all.iter().map(one).collect()
}
