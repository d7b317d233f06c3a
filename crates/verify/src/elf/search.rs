//! Where the loader of an image finds a library: the rules of glibc and of musl, over the image's own files.
//!
//! In: a name, and the chain of objects that ask for it. Out: the file, or what stood in the way. Nothing is loaded;
//! links are followed inside the image only. Subdirectories for newer processors (`glibc-hwcaps`) are passed over: what
//! lies there lies in the plain directory too.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kuz_image::index::{components, join};

use super::cache::{read_cache, read_configuration};
use super::{Elf, Kind};
use crate::facts::Path;
use crate::subject::Subject;

/// Whose loader it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C library.
    Glibc,
    /// musl.
    Musl,
}

impl Libc {
    /// The library that a loader belongs to, by its path.
    pub fn of_loader(path: &[u8]) -> Option<Self> {
        let name = components(path).next_back()?;
        let starts = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        match () {
            () if starts(&[b"ld-musl-"]) => Some(Self::Musl),
            () if starts(&[b"ld-linux", b"ld64.so", b"ld.so.1"]) => Some(Self::Glibc),
            () => None,
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }
}

/// An object that asks for a library: the file as it was found, its real path, and what is in it.
#[derive(Debug, Clone)]
pub struct Object<'s> {
    /// As it was found: what `$ORIGIN` starts from.
    pub found: Path,
    /// Links followed.
    pub real: Path,
    /// What the loader reads of it; `None` if it could not be read.
    pub elf: Option<&'s Elf>,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Here, as it was found.
    File(Path),
    /// The loader itself stands for it.
    Builtin,
    /// Only for another kind of processor.
    Unfit(Path),
    /// In a directory of the loader's configuration, which its cache does not know yet.
    NotCached(Path),
    /// Nowhere.
    Nothing,
}

/// Directories that glibc searches by itself on some distribution, after the name of the machine.
const TRIPLETS: [(u16, u8, &str); 8] = [
    (62, 64, "x86_64-linux-gnu"),
    (183, 64, "aarch64-linux-gnu"),
    (3, 32, "i386-linux-gnu"),
    (40, 32, "arm-linux-gnueabihf"),
    (243, 64, "riscv64-linux-gnu"),
    (21, 64, "powerpc64le-linux-gnu"),
    (22, 64, "s390x-linux-gnu"),
    (8, 64, "mips64el-linux-gnuabi64"),
];
/// What musl takes for parts of itself, after `lib`.
const MUSL_PARTS: [&[u8]; 7] = [b"c.", b"pthread.", b"rt.", b"m.", b"dl.", b"util.", b"xnet."];
/// musl's directories without a path file.
const MUSL_DIRECTORIES: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];

/// The search rules of an image.
#[derive(Debug)]
pub struct Search<'s> {
    subject: &'s Subject<'s>,
    libc: Libc,
    /// Of `LD_LIBRARY_PATH`.
    asked: Vec<Path>,
    /// The loader's own.
    usual: Vec<Path>,
    /// What `$LIB` may stand for.
    lib: Vec<String>,
    cache: Option<BTreeMap<Vec<u8>, Vec<Vec<u8>>>>,
    configured: Vec<Path>,
    /// Answers that do not depend on who asks.
    known: RefCell<BTreeMap<Path, Found>>,
}

impl<'s> Search<'s> {
    /// The rules for objects of this machine.
    pub fn new(subject: &'s Subject<'s>, libc: Libc, machine: u16, bits: u8) -> Self {
        let triplet = TRIPLETS.iter().find(|(number, width, _)| (*number, *width) == (machine, bits));
        let triplet = triplet.map(|(.., name)| *name);
        let lib: Vec<String> = triplet
            .map(|name| format!("lib/{name}"))
            .into_iter()
            .chain(if bits == 64 { Some("lib64".to_owned()) } else { None })
            .chain(Some("lib".to_owned()))
            .collect();
        let mut search = Self {
            subject,
            libc,
            asked: Vec::new(),
            usual: Vec::new(),
            lib,
            cache: None,
            configured: Vec::new(),
            known: RefCell::default(),
        };
        let asked = subject.variable("LD_LIBRARY_PATH").unwrap_or_default();
        search.asked = search.expand(asked.as_bytes(), None);
        match libc {
            Libc::Glibc => search.read_glibc(),
            Libc::Musl => search.read_musl(),
        }
        search
    }

    fn read_glibc(&mut self) {
        self.usual = self.lib.iter().flat_map(|lib| [lib.clone(), format!("usr/{lib}")]).map(Path::from).collect();
        if let Some(content) = self.subject.kept(b"etc/ld.so.conf") {
            let directories = read_configuration(content, &|pattern| self.matching(pattern));
            self.configured = directories.iter().map(|path| plain(path)).collect();
        }
        self.cache = match self.subject.kept(b"etc/ld.so.cache") {
            Some(bytes) => read_cache(bytes),
            // Without a cache the loader knows of no configuration.
            None if self.subject.at(b"etc/ld.so.cache").is_none() => Some(BTreeMap::new()),
            None => None,
        };
    }

    fn read_musl(&mut self) {
        let mut files = self.subject.facts.iter().flat_map(|facts| facts.kept.keys());
        let file = files.rfind(|path| path.starts_with(b"etc/ld-musl-") && path.ends_with(b".path"));
        let content = file.and_then(|path| self.subject.kept(path));
        self.usual = match content {
            Some(content) => {
                let words = content.split(|&byte| matches!(byte, b':' | b'\n'));
                words.filter(|word| !word.is_empty()).map(plain).collect()
            }
            None => MUSL_DIRECTORIES.iter().map(|path| plain(path.as_bytes())).collect(),
        };
    }

    /// The contents of the files that an `include` names.
    fn matching(&self, pattern: &[u8]) -> Vec<Vec<u8>> {
        // As in the loader's own tool, a relative pattern lies beside the file.
        let pattern = if pattern.starts_with(b"/") { plain(pattern) } else { join(b"etc", pattern) };
        let Some(star) = pattern.iter().position(|&byte| byte == b'*') else {
            return self.subject.kept(&pattern).map(<[u8]>::to_vec).into_iter().collect();
        };
        let (before, after) = (pattern.get(..star).unwrap_or_default(), pattern.get(star + 1..).unwrap_or_default());
        let mut names: Vec<&Path> = self.subject.facts.iter().flat_map(|facts| facts.kept.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let fits = |path: &&&Path| {
            let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            middle.is_some_and(|middle| !middle.contains(&b'/'))
        };
        names.iter().filter(fits).filter_map(|path| self.subject.kept(path)).map(<[u8]>::to_vec).collect()
    }

    /// Whose rules these are.
    pub fn libc(&self) -> Libc {
        self.libc
    }

    /// All directories that are searched whoever asks.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.asked.iter().chain(&self.usual).chain(&self.configured)
    }

    /// The library that `name` means to the first object of a chain; each was loaded by the one after it, the last is
    /// the program.
    pub fn find(&self, name: &[u8], chain: &[Object<'s>]) -> Found {
        let Some(asking) = chain.first() else { return Found::Nothing };
        if self.libc == Libc::Musl && name.strip_prefix(b"lib").is_some_and(is_musl_part) {
            return Found::Builtin;
        }
        let mut tried = Tried::default();
        if name.contains(&b'/') {
            let path = if name.starts_with(b"/") {
                plain(name)
            } else {
                join(&plain(self.subject.workdir().as_bytes()), name)
            };
            return if self.fits(&path, asking, &mut tried) { Found::File(path) } else { tried.end() };
        }
        let found = match self.libc {
            Libc::Glibc => self.find_glibc(name, asking, chain, &mut tried),
            Libc::Musl => self.find_musl(name, asking, chain, &mut tried),
        };
        found.unwrap_or_else(|| tried.end())
    }

    fn find_glibc(&self, name: &[u8], asking: &Object<'s>, chain: &[Object<'s>], tried: &mut Tried) -> Option<Found> {
        let runpath = asking.elf.and_then(|elf| elf.runpath.as_deref());
        if runpath.is_none() {
            for object in chain {
                let Some(elf) = object.elf.filter(|elf| elf.runpath.is_none()) else { continue };
                let directories = elf.rpath.as_deref().map(|path| self.expand(path, Some(object)));
                if let Some(found) = self.in_directories(directories.iter().flatten(), name, asking, tried) {
                    return Some(found);
                }
            }
        }
        if let Some(found) = self.in_directories(self.asked.iter(), name, asking, tried) {
            return Some(found);
        }
        let directories = runpath.map(|path| self.expand(path, Some(asking)));
        if let Some(found) = self.in_directories(directories.iter().flatten(), name, asking, tried) {
            return Some(found);
        }
        if asking.elf.is_some_and(|elf| elf.no_default) {
            return None;
        }
        if let Some(known) = self.known.borrow().get(name) {
            return Some(known.clone());
        }
        let found = self.in_usual(name, asking, tried);
        if let Some(found) = &found {
            self.known.borrow_mut().insert(name.to_vec(), found.clone());
        }
        found
    }

    fn in_usual(&self, name: &[u8], asking: &Object<'s>, tried: &mut Tried) -> Option<Found> {
        if let Some(cache) = &self.cache {
            for file in cache.get(name).into_iter().flatten() {
                let path = plain(file);
                if self.fits(&path, asking, tried) {
                    return Some(Found::File(path));
                }
            }
        } else if let Some(found) = self.in_directories(self.configured.iter(), name, asking, tried) {
            return Some(found);
        }
        if let Some(found) = self.in_directories(self.usual.iter(), name, asking, tried) {
            return Some(found);
        }
        match self.in_directories(self.configured.iter(), name, asking, tried)? {
            Found::File(path) => Some(Found::NotCached(path)),
            other => Some(other),
        }
    }

    fn find_musl(&self, name: &[u8], asking: &Object<'s>, chain: &[Object<'s>], tried: &mut Tried) -> Option<Found> {
        if let Some(found) = self.in_directories(self.asked.iter(), name, asking, tried) {
            return Some(found);
        }
        for object in chain {
            let Some(elf) = object.elf else { continue };
            let path = elf.runpath.as_deref().or(elf.rpath.as_deref());
            let directories = path.map(|path| self.expand(path, Some(object)));
            if let Some(found) = self.in_directories(directories.iter().flatten(), name, asking, tried) {
                return Some(found);
            }
        }
        self.in_directories(self.usual.iter(), name, asking, tried)
    }

    fn in_directories<'d>(
        &self,
        mut directories: impl Iterator<Item = &'d Path>,
        name: &[u8],
        asking: &Object<'s>,
        tried: &mut Tried,
    ) -> Option<Found> {
        let path = |directory: &Path| join(directory, name);
        directories
            .find_map(|directory| Some(path(directory)).filter(|path| self.fits(path, asking, tried)).map(Found::File))
    }

    /// Whether there is a library at a path that the asking object can use.
    fn fits(&self, path: &[u8], asking: &Object<'s>, tried: &mut Tried) -> bool {
        if !self.subject.has_file(path) {
            return false;
        }
        // What is no ELF file at all (a linker's script) is passed over.
        let Some(elf) = self.subject.fact(path, |facts| &facts.elf) else { return false };
        let fits = asking.elf.is_none_or(|asking| asking.fits(elf));
        if !fits && tried.unfit.is_none() {
            tried.unfit = Some(path.to_vec());
        }
        fits
    }

    /// The directories of an RPATH, RUNPATH or `LD_LIBRARY_PATH`, with its variables put in.
    fn expand(&self, path: &[u8], object: Option<&Object<'s>>) -> Vec<Path> {
        let mut directories = Vec::new();
        for element in path.split(|&byte| matches!(byte, b':' | b';')).filter(|element| !element.is_empty()) {
            let mut texts = vec![element.to_vec()];
            if let Some(object) = object {
                let origins = [parent(&object.found), parent(&object.real)];
                texts = each(&texts, "ORIGIN", &origins.map(|origin| [b"/", origin].concat()));
            }
            let lib: Vec<Vec<u8>> = self.lib.iter().map(|lib| lib.clone().into_bytes()).collect();
            texts = each(&texts, "LIB", &lib);
            for text in texts.iter().filter(|text| text.starts_with(b"/") && !text.contains(&b'$')) {
                let directory = plain(text);
                if !directories.contains(&directory) {
                    directories.push(directory);
                }
            }
        }
        directories
    }
}

/// What stood in the way.
#[derive(Debug, Default)]
struct Tried {
    unfit: Option<Path>,
}

impl Tried {
    fn end(self) -> Found {
        self.unfit.map_or(Found::Nothing, Found::Unfit)
    }
}

fn is_musl_part(name: &[u8]) -> bool {
    MUSL_PARTS.iter().any(|part| name.starts_with(part))
}

/// The texts with `$NAME` and `${NAME}` replaced, once for each value.
fn each(texts: &[Vec<u8>], name: &str, values: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for text in texts {
        let forms = [format!("${{{name}}}").into_bytes(), format!("${name}").into_bytes()];
        let place = |form: &Vec<u8>| text.windows(form.len()).position(|window| window == form.as_slice());
        let Some((at, length)) = forms.iter().find_map(|form| Some((place(form)?, form.len()))) else {
            all.push(text.clone());
            continue;
        };
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + length..).unwrap_or_default());
        all.extend(values.iter().map(|value| [before, value, after].concat()));
    }
    all
}

/// A path without its slashes at both ends and with `..` taken out.
pub fn plain(path: &[u8]) -> Path {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in components(path) {
        if name == b".." {
            names.pop();
        } else {
            names.push(name);
        }
    }
    names.join(&b'/')
}

/// The directory that a path lies in.
pub fn parent(path: &[u8]) -> &[u8] {
    path.get(..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)).unwrap_or_default()
}

/// Whether an object can be judged at all.
pub fn is_read(elf: &Elf) -> bool {
    elf.kind != Kind::Unread
}
