//! Where a module's file is: what the import system would find, without running it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use kuz_image::Node;

use super::facts::Module;
use super::runtime::{Image, Origin, Place, Python};
use super::stdlib::{Library, library};
use super::tree::Dir;

/// A module that was found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Its file as a real path; none for namespace packages and Python's own library.
    pub(super) file: Option<Vec<u8>>,
    /// The layer of that file.
    pub(super) layer: Option<usize>,
    pub(super) kind: Kind,
    pub(super) origin: Option<Origin>,
    /// Where its submodules are; empty for what is no package.
    pub(super) dirs: Vec<Rc<Dir<'a>>>,
    /// What its source says.
    pub(super) facts: Option<&'a Module>,
}

/// What a module is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Source,
    Extension,
    Bytecode,
    Namespace,
    Library,
}

/// The answer for a dotted name.
#[derive(Debug, Clone)]
pub(super) enum Answer<'a> {
    Found(Rc<Found<'a>>),
    /// It is not there: the first part of the name that is not, and why what lies near does not do.
    Missing(Rc<Missing>),
    /// That cannot be told.
    Unknown,
}

/// A module that is not there.
#[derive(Debug)]
pub(super) struct Missing {
    /// `a.b` of `a.b.c`, if `a` is there and `a.b` is not.
    pub(super) part: String,
    /// An extension module of that name which this interpreter cannot load: its path, and why.
    pub(super) unfit: Option<(Vec<u8>, String)>,
    /// What Python's own library has to say about the name.
    pub(super) library: Library,
    /// The parent is there, but is no package.
    pub(super) no_package: bool,
}

/// Finds modules, each once.
pub(super) struct Finder<'a, 'i> {
    image: &'i Image<'a>,
    python: &'i Python<'a>,
    suffixes: Vec<String>,
    path: Vec<Place<'a>>,
    known: RefCell<HashMap<String, Answer<'a>>>,
}

impl<'a, 'i> Finder<'a, 'i> {
    pub(super) fn new(image: &'i Image<'a>, python: &'i Python<'a>, first: &[String]) -> Self {
        let path = python.search_path(image, first);
        Self { image, python, suffixes: python.abi.suffixes(), path, known: RefCell::default() }
    }

    /// The module of a dotted name.
    pub(super) fn find(&self, dotted: &str) -> Answer<'a> {
        if let Some(known) = self.known.borrow().get(dotted) {
            return known.clone();
        }
        // Parents first, without recursion: names come from files.
        let mut answer = Answer::Unknown;
        for end in dotted.match_indices('.').map(|(at, _)| at).chain([dotted.len()]) {
            let part = dotted.get(..end).unwrap_or_default();
            let known = self.known.borrow().get(part).cloned();
            if let Some(known) = known {
                answer = known;
                continue;
            }
            answer = match part.rsplit_once('.') {
                None => self.top(part),
                Some((_, name)) => self.below(&answer, part, name),
            };
            self.known.borrow_mut().insert(part.to_owned(), answer.clone());
        }
        answer
    }

    /// Directories of the user's code that are searched.
    pub(super) fn app_dirs(&self) -> impl Iterator<Item = &Rc<Dir<'a>>> {
        self.path.iter().filter_map(|place| match place {
            Place::Dir(dir, Origin::App) => Some(dir),
            _ => None,
        })
    }

    fn top(&self, name: &str) -> Answer<'a> {
        let minor = self.python.abi.minor;
        let says = library(name, minor);
        let mut namespace: Vec<(Rc<Dir<'a>>, Origin)> = Vec::new();
        let mut unfit = None;
        for place in &self.path {
            match place {
                Place::Library => {
                    let there = match says {
                        Library::Has => true,
                        _ => self.python.library.as_ref().is_some_and(|dir| {
                            dir.get(name.as_bytes()).is_some_and(|seen| matches!(seen.entry.node, Node::Dir { .. }))
                                && name != "site-packages"
                                || dir.get(format!("{name}.py").as_bytes()).is_some()
                        }),
                    };
                    if there {
                        return Answer::Found(Rc::new(Found {
                            file: None,
                            layer: None,
                            kind: Kind::Library,
                            origin: None,
                            dirs: Vec::new(),
                            facts: None,
                        }));
                    }
                }
                Place::Dir(dir, origin) => match self.in_dir(dir, name, *origin) {
                    In::Found(found) => return Answer::Found(Rc::new(found)),
                    In::Portion(portion) => namespace.push((portion, *origin)),
                    In::Unfit(path, why) => unfit = unfit.or(Some((path, why))),
                    In::Nothing => {}
                },
            }
        }
        if let Some((_, origin)) = namespace.first() {
            return Answer::Found(Rc::new(namespace_package(*origin, namespace.iter().map(|(dir, _)| Rc::clone(dir)))));
        }
        // setuptools brings the removed distutils back, by a `.pth` file.
        let shim = name == "distutils" && self.python.sites.iter().any(|site| site.get(b"setuptools").is_some());
        if says == Library::Unknown && self.python.library.is_none() || shim {
            return Answer::Unknown;
        }
        Answer::Missing(Rc::new(Missing { part: name.to_owned(), unfit, library: says, no_package: false }))
    }

    fn below(&self, parent: &Answer<'a>, dotted: &str, name: &str) -> Answer<'a> {
        let parent = match parent {
            Answer::Found(parent) => parent,
            Answer::Missing(_) | Answer::Unknown => return parent.clone(),
        };
        let origin = parent.origin.unwrap_or(Origin::Installed);
        let mut unfit = None;
        let mut portions = Vec::new();
        for dir in &parent.dirs {
            match self.in_dir(dir, name, origin) {
                In::Found(found) => return Answer::Found(Rc::new(found)),
                In::Portion(portion) => portions.push(portion),
                In::Unfit(path, why) => unfit = unfit.or(Some((path, why))),
                In::Nothing => {}
            }
        }
        if !portions.is_empty() {
            return Answer::Found(Rc::new(namespace_package(origin, portions.into_iter())));
        }
        let open = match parent.kind {
            Kind::Library | Kind::Extension | Kind::Bytecode => true,
            Kind::Namespace => false,
            // A package that moves its `__path__` or meddles with `sys.modules` may find more than lies in its directory.
            Kind::Source => parent.facts.is_none_or(|facts| !facts.is_static()),
        };
        if open {
            return Answer::Unknown;
        }
        Answer::Missing(Rc::new(Missing {
            part: dotted.to_owned(),
            unfit,
            library: Library::Never,
            no_package: parent.dirs.is_empty(),
        }))
    }

    fn in_dir(&self, dir: &Rc<Dir<'a>>, name: &str, origin: Origin) -> In<'a> {
        let tree = &self.image.tree;
        let package = tree.child(dir, name.as_bytes());
        if let Some(package) = &package
            && let Some((file, kind)) = self.file_in(package, "__init__")
        {
            return In::Found(self.found(package, &file, kind, origin, vec![Rc::clone(package)]));
        }
        if let Some((file, kind)) = self.file_in(dir, name) {
            return In::Found(self.found(dir, &file, kind, origin, Vec::new()));
        }
        // A directory of stubs beside an extension module is none of Python's: it is there for type checkers.
        if let Some(package) = package.filter(|package| !holds_stubs_only(package)) {
            return In::Portion(package);
        }
        let start = format!("{name}.");
        for (file, _) in dir.names().filter(|(file, _)| file.starts_with(start.as_bytes())) {
            let Ok(text) = std::str::from_utf8(file) else { continue };
            match self.python.abi.refuses_extension(text) {
                Some(why) => return In::Unfit(dir.join(file), why),
                // What exactly this Python looks for is not known, and nothing speaks against it.
                None if self.python.abi.extension.is_none() && text.ends_with(".so") => {
                    return In::Found(self.found(dir, text, Kind::Extension, origin, Vec::new()));
                }
                None => {}
            }
        }
        match tree.child(dir, name.as_bytes()) {
            Some(stubs) => In::Portion(stubs),
            None => In::Nothing,
        }
    }

    /// The file of a module in a directory: compiled ones go first.
    fn file_in(&self, dir: &Dir<'a>, name: &str) -> Option<(String, Kind)> {
        let mut file = String::with_capacity(name.len() + 40);
        let suffixes = self.suffixes.iter().map(|suffix| (suffix.as_str(), Kind::Extension));
        for (suffix, kind) in suffixes.chain([(".py", Kind::Source), (".pyc", Kind::Bytecode)]) {
            file.clear();
            file.push_str(name);
            file.push_str(suffix);
            if self.image.tree.is_file(dir, file.as_bytes()) {
                return Some((file, kind));
            }
        }
        None
    }

    fn found(&self, dir: &Dir<'a>, file: &str, kind: Kind, origin: Origin, dirs: Vec<Rc<Dir<'a>>>) -> Found<'a> {
        let path = dir.join(file.as_bytes());
        let (path, layer) = match dir.get(file.as_bytes()) {
            Some(seen) if matches!(seen.entry.node, Node::Symlink(_)) => match self.image.tree.at(&path) {
                Some((real, seen)) => (real, Some(seen.layer)),
                None => (path, None),
            },
            Some(seen) => (path, Some(seen.layer)),
            None => (path, None),
        };
        let facts = match (kind, layer) {
            (Kind::Source, Some(layer)) => self.image.subject.fact_in(layer, &path, |facts| &facts.modules),
            _ => None,
        };
        Found { file: Some(path), layer, kind, origin: Some(origin), dirs, facts }
    }
}

/// Whether a directory has stubs, and nothing but stubs.
fn holds_stubs_only(dir: &Dir<'_>) -> bool {
    let mut names = dir.names().map(|(name, _)| name).peekable();
    names.peek().is_some() && names.all(|name| name.ends_with(b".pyi"))
}

fn namespace_package<'a>(origin: Origin, dirs: impl Iterator<Item = Rc<Dir<'a>>>) -> Found<'a> {
    Found { file: None, layer: None, kind: Kind::Namespace, origin: Some(origin), dirs: dirs.collect(), facts: None }
}

/// What a directory has under a module's name.
enum In<'a> {
    Found(Found<'a>),
    /// A directory without `__init__`: a part of a namespace package.
    Portion(Rc<Dir<'a>>),
    /// Only an extension module for another interpreter.
    Unfit(Vec<u8>, String),
    Nothing,
}
