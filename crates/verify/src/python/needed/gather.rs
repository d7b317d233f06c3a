//! What an image has of Python, by whose it is: distributions with their sources and metadata, and what the user's own code
//! and everything else that is always there asks for.
//!
//! Files seen by a container in, [`Gathered`] out; nothing where something is there that cannot be looked into and may load
//! anything.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::facts::Module;
use super::super::read::{is_installed, is_library, is_pip};
use super::super::requirement::normalize;
use super::super::tree::split;
use super::tables::{Loaded, is_quiet_pth, loads, plain, tool_of_file, tool_of_group};
use super::{Files, Installed};
use crate::subject::Subject;

/// A distribution.
#[derive(Debug, Default)]
pub(super) struct Distribution<'a> {
    /// The name in the form in which names are compared.
    pub(super) key: String,
    /// Names of its modules that are imported without a dot.
    pub(super) tops: BTreeSet<String>,
    /// `Requires-Dist`, as written.
    pub(super) requires: Vec<&'a str>,
    pub(super) scripts: Vec<&'a str>,
    /// Groups of its entry points that are no scripts.
    pub(super) groups: Vec<&'a str>,
    /// What its sources import, and when they may be loaded.
    pub(super) modules: Vec<(Loaded, &'a Module)>,
    /// Libraries that its own need.
    pub(super) needed: Vec<&'a [u8]>,
    /// Something about it is not known that may say what it needs.
    pub(super) unknown: bool,
    /// Who loads a module of it beside itself, by the module's path.
    plugins: HashMap<String, &'static str>,
    site: &'a [u8],
    /// Its old form of metadata says apart what it requires.
    required_apart: bool,
}

/// What is always there.
#[derive(Debug, Default)]
pub(super) struct Roots<'a> {
    /// Modules by their dotted names.
    pub(super) imports: BTreeSet<&'a str>,
    /// Names in strings of the user's code, and all parts of what that imports.
    pub(super) mentions: BTreeSet<&'a str>,
    /// Names of the user's own modules and packages, as [`plain`] has them.
    pub(super) own: HashSet<String>,
    /// Libraries that programs and libraries of no distribution need.
    pub(super) needed: BTreeSet<&'a [u8]>,
    /// Distributions that site or the system loads.
    pub(super) distributions: BTreeSet<usize>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    /// Those that were asked about first, in their order; then those without a list of files.
    pub(super) distributions: Vec<Distribution<'a>>,
    pub(super) roots: Roots<'a>,
    /// Files that could be libraries, by their names.
    pub(super) libraries: HashMap<&'a [u8], Vec<usize>>,
}

/// Whose a file is.
#[derive(Clone, Copy)]
enum Owner {
    Distribution(usize),
    /// A package's of the system.
    System,
    /// Python's own library's.
    Library,
    /// In a directory of packages, and nobody's.
    Loose,
    App,
}

/// Files that only serve an environment.
const ENVIRONMENTS: [&[u8]; 1] = [b"_virtualenv.py"];
/// Modules that site loads wherever they lie.
const CUSTOMIZE: [&[u8]; 2] = [b"sitecustomize.py", b"usercustomize.py"];

/// Gathers; `None` if anything may be loaded.
pub(super) fn gather<'a>(subject: &'a Subject<'_>, files: &Files<'a>) -> Option<Gathered<'a>> {
    let mut all = Gathered::default();
    let mut owned: HashMap<&'a [u8], usize> = HashMap::new();
    let mut infos: HashMap<&'a [u8], usize> = HashMap::new();
    for (number, Installed { info, files }) in files.distributions.iter().enumerate() {
        all.distributions.push(Distribution::new(info));
        infos.insert(info, number);
        for file in *files {
            owned.insert(file, number);
            all.add_name(number, file);
        }
    }
    // Metadata first: it says whose modules without a list of files are.
    for &(layer, path) in files.seen {
        if let Some((info, name)) = metadata(path) {
            let number = *infos.entry(info).or_insert_with(|| {
                all.distributions.push(Distribution::new(info));
                all.distributions.len() - 1
            });
            if files.system.contains(path) {
                all.roots.distributions.insert(number);
            }
            let content = subject.fact_in(layer, path, |facts| &facts.kept).map(Vec::as_slice);
            all.distributions.get_mut(number)?.metadata(name, content);
        }
    }
    let mut claimed: HashMap<(&'a [u8], String), usize> = HashMap::new();
    for (number, it) in all.distributions.iter_mut().enumerate().skip(files.distributions.len()) {
        claimed.extend(it.tops.iter().map(|top| ((it.site, top.clone()), number)));
    }
    for it in &mut all.distributions {
        it.unknown |= it.required_apart && it.requires.is_empty();
    }
    let whose = |path: &[u8]| {
        if let Some(&number) = owned.get(path) {
            return Owner::Distribution(number);
        }
        if files.system.contains(path) {
            return Owner::System;
        }
        if is_library(path) {
            return Owner::Library;
        }
        if !is_installed(path) {
            return Owner::App;
        }
        let mut site = split(path).0;
        while !is_site(site) && !site.is_empty() {
            site = split(site).0;
        }
        let top = path.get(site.len() + 1..).and_then(top_of);
        let known = top.and_then(|top| claimed.get(&(site, top)));
        known.map_or(Owner::Loose, |&number| Owner::Distribution(number))
    };
    for &(layer, path) in files.seen {
        let name = split(path).1;
        if path.ends_with(b".py") {
            let module = subject.fact_in(layer, path, |facts| &facts.modules);
            all.source(whose(path), path, module)?;
        } else if path.ends_with(b".pth") && is_site(split(path).0) {
            let content = subject.fact_in(layer, path, |facts| &facts.kept);
            all.pth(whose(path), path, content?);
        } else if let Some(elf) = subject.fact_in(layer, path, |facts| &facts.elf) {
            // The interpreter and its library have built-in modules.
            let module = name.ends_with(b".so") && !name.starts_with(b"libpython");
            let imports = module && (elf.python || elf.kind == crate::elf::Kind::Unread);
            match whose(path) {
                Owner::Distribution(number) => {
                    let it = all.distributions.get_mut(number)?;
                    it.needed.extend(elf.needed.iter().map(Vec::as_slice));
                }
                // What a compiled module imports is not to be seen.
                Owner::App | Owner::Loose if imports => return None,
                _ => all.roots.needed.extend(elf.needed.iter().map(Vec::as_slice)),
            }
        } else if is_opaque(path) && matches!(whose(path), Owner::App | Owner::Loose) {
            return None;
        }
        if let Some(&number) = owned.get(path)
            && (name.ends_with(b".so") || name.windows(4).any(|part| part == b".so."))
        {
            all.libraries.entry(name).or_default().push(number);
        }
    }
    Some(all)
}

impl<'a> Gathered<'a> {
    /// A file of a distribution's list gives it a name.
    fn add_name(&mut self, number: usize, file: &[u8]) {
        let Some(it) = self.distributions.get_mut(number) else { return };
        let inside = match it.site {
            b"" => Some(file),
            site => file.strip_prefix(site).and_then(|rest| rest.strip_prefix(b"/")),
        };
        it.tops.extend(inside.and_then(top_of));
    }

    /// A Python source; `None` if it may load anything.
    fn source(&mut self, owner: Owner, path: &'a [u8], module: Option<&'a Module>) -> Option<()> {
        let name = split(path).1;
        match owner {
            Owner::Distribution(number) => {
                let it = self.distributions.get_mut(number)?;
                match module.filter(|module| !module.unread) {
                    Some(module) => {
                        let inside = path.get(it.site.len() + usize::from(!it.site.is_empty())..).unwrap_or_default();
                        let inside = String::from_utf8_lossy(inside);
                        let plugin = it.plugins.get(&*inside).map(|tool| Loaded::By(tool));
                        it.modules.push((plugin.unwrap_or_else(|| tool_of_file(&inside)), module));
                    }
                    None => it.unknown |= !is_pip(path),
                }
                if CUSTOMIZE.contains(&name) {
                    self.roots.distributions.insert(number);
                }
            }
            Owner::Library => {}
            Owner::System => self.imports(module?),
            Owner::Loose if is_pip(path) || ENVIRONMENTS.contains(&name) => {}
            Owner::Loose if CUSTOMIZE.contains(&name) => self.imports(module?),
            // What its functions import is not kept.
            Owner::Loose => return None,
            Owner::App => {
                let module = module.filter(|it| !it.unread && it.broken.is_none() && !it.mentions.unshown)?;
                self.imports(module);
                self.roots.mentions.extend(module.mentions.names.iter().map(|name| &**name));
                // `from sqlalchemy.dialects import psycopg2` means both.
                self.roots.mentions.extend(absolute(module));
                let names =
                    module.imports.iter().filter(|import| import.level == 0).filter_map(|import| import.names.as_ref());
                self.roots.mentions.extend(names.flatten().map(|name| &**name));
                let parts = path.split(|&byte| byte == b'/').map(String::from_utf8_lossy);
                self.roots.own.extend(parts.map(|part| plain(part.trim_end_matches(".py"))));
            }
        }
        Some(())
    }

    fn imports(&mut self, module: &'a Module) {
        self.roots.imports.extend(absolute(module));
    }

    /// Lines that site runs.
    fn pth(&mut self, owner: Owner, path: &[u8], content: &'a [u8]) {
        if is_quiet_pth(path) {
            return;
        }
        let text = std::str::from_utf8(content).unwrap_or_default();
        let mut runs = false;
        for line in text.lines().filter(|line| line.starts_with("import ") || line.starts_with("import\t")) {
            runs = true;
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')));
            self.roots.imports.extend(words.filter(|word| !word.is_empty()));
        }
        if let (true, Owner::Distribution(number)) = (runs, owner) {
            self.roots.distributions.insert(number);
        }
    }
}

/// The absolute imports of a source, whatever their condition.
pub(super) fn absolute(module: &Module) -> impl Iterator<Item = &str> {
    module.imports.iter().filter(|import| import.level == 0).map(|import| &*import.module)
}

impl<'a> Distribution<'a> {
    fn new(info: &'a [u8]) -> Self {
        let (site, folder) = split(info);
        let folder = String::from_utf8_lossy(folder);
        let name = folder.split('-').next().unwrap_or_default();
        Self { key: normalize(name.trim_end_matches(".egg")), site, ..Self::default() }
    }

    /// One file of its metadata; no content: it was not kept.
    fn metadata(&mut self, name: &[u8], content: Option<&'a [u8]>) {
        let lines = || {
            content.unwrap_or_default().split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
        };
        match name {
            b"METADATA" | b"PKG-INFO" | b"" => {
                self.unknown |= content.is_none();
                // The header ends at the first empty line.
                for line in lines().take_while(|line| !line.trim().is_empty()) {
                    if let Some(value) = line.strip_prefix("Requires-Dist:") {
                        self.requires.push(value.trim());
                    } else if let Some(value) = line.strip_prefix("Name:") {
                        self.key = normalize(value.trim());
                    }
                }
            }
            b"top_level.txt" => {
                self.tops.extend(lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
            }
            b"requires.txt" => self.required_apart = true,
            b"entry_points.txt" => {
                self.unknown |= content.is_none();
                let mut group = "";
                for line in lines().map(str::trim) {
                    if let Some(section) = line.strip_prefix('[') {
                        group = section.trim_end_matches(']').trim();
                        if !matches!(group, "console_scripts" | "gui_scripts") {
                            self.groups.push(group);
                        }
                    } else if let Some((name, target)) = line.split_once('=') {
                        if matches!(group, "console_scripts" | "gui_scripts") {
                            self.scripts.push(name.trim());
                        } else if let Some(tool) =
                            tool_of_group(group).filter(|_| !loads(group, |name| name == plain(&self.key)))
                        {
                            let module = target.split([':', '[']).next().unwrap_or_default().trim().replace('.', "/");
                            self.plugins.insert(format!("{module}.py"), tool);
                            self.plugins.insert(format!("{module}/__init__.py"), tool);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// A file of a distribution's metadata: the directory's path, or the file's own in the oldest form, and its name in that.
fn metadata(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let (directory, name) = split(path);
    if directory.ends_with(b".dist-info") || directory.ends_with(b".egg-info") {
        return Some((directory, name));
    }
    name.ends_with(b".egg-info").then_some((path, &b""[..]))
}

/// The module that a file makes to be found, by its path in a directory of modules.
fn top_of(inside: &[u8]) -> Option<String> {
    let (first, rest) = match memchr::memchr(b'/', inside) {
        Some(at) => (inside.get(..at)?, true),
        None => (inside, false),
    };
    let name = std::str::from_utf8(first).ok()?;
    let (stem, end) = name.split_once('.').map_or((name, ""), |(stem, end)| (stem, end));
    let module = if rest {
        end.is_empty() && stem != "__pycache__"
    } else {
        ["py", "so", "pyc"].iter().any(|kind| end == *kind || end.ends_with(&format!(".{kind}")))
    };
    (module && !stem.is_empty()).then(|| stem.to_owned())
}

/// Whether a directory is one of packages.
fn is_site(directory: &[u8]) -> bool {
    crate::collect::is_packages(split(directory).1)
}

/// Python in a form that is not looked into.
fn is_opaque(path: &[u8]) -> bool {
    let compiled = path.ends_with(b".pyc") && split(split(path).0).1 != b"__pycache__";
    compiled || [&b".pyz"[..], b".pex", b".egg", b".shiv"].iter().any(|end| path.ends_with(end))
}
