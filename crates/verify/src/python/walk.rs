//! Follows imports from where a command begins, in the order in which Python would run them.
//!
//! Each module is entered once, statement by statement, with a stack of its own. Two kinds of steps are told apart: those that
//! happen whatever the program does (`certain`), and those that need a call or a condition. Imports whose failure is
//! caught are looked at just enough to know whether their handler runs. What cannot be told is not followed.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::facts::{Import, Module, Place};
use super::locate::{Answer, Finder, Found, Kind, Missing};
use super::runtime::Origin;
use super::stdlib::{Library, library_name};

/// Something on the way that will not work.
#[derive(Debug)]
pub(super) struct Problem {
    /// The file that wants it, as a real path, and its layer.
    pub(super) file: Vec<u8>,
    pub(super) layer: Option<usize>,
    pub(super) line: u32,
    /// Whether that file is the user's.
    pub(super) own: bool,
    /// Whether the command gets there whatever happens.
    pub(super) certain: bool,
    /// Under which condition the statement runs.
    pub(super) place: Place,
    pub(super) what: What,
}

/// What will not work.
#[derive(Debug)]
pub(super) enum What {
    /// A module is not there.
    Module { wanted: String, missing: Rc<Missing> },
    /// A module does not bind a name that is imported from it.
    Name { module: String, name: String, from: Option<Vec<u8>> },
    /// Python's own library has the name in other versions.
    LibraryName { module: String, name: String, library: Library },
    /// A module is imported again while it runs, before it has bound a name.
    Cycle { module: String, name: String, line: u32, bound: u32 },
    /// A relative import in what is no package.
    Relative { dots: u8, module: String },
    /// The file cannot be compiled by any Python.
    Syntax { message: String },
    /// The file cannot be compiled by this Python.
    Newer { minor: u8, what: String },
}

/// A module that was entered.
struct Node<'a> {
    name: String,
    /// What its relative imports start from: empty for none.
    package: String,
    found: Rc<Found<'a>>,
    main: bool,
    certain: bool,
    state: State,
    /// Where it stands while it runs.
    line: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Running,
    Done,
}

/// What a running module does next.
enum Step {
    Load(usize),
    Names(usize),
}

struct Frame {
    node: usize,
    next: usize,
    steps: Vec<Step>,
    /// The `try` statements whose import fails.
    failed: HashSet<u16>,
}

/// Whether a module's names are left out of its layer's loose imprint: see [`crate::imprint`].
fn is_own(found: &Found<'_>) -> bool {
    found.file.as_ref().is_some_and(|file| !crate::collect::in_packages(file))
}

/// Whether a module binds a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binds {
    Yes,
    No,
    Unknown,
}

/// Names that every module has.
const ALWAYS: [&str; 10] = [
    "__name__",
    "__doc__",
    "__file__",
    "__path__",
    "__spec__",
    "__loader__",
    "__package__",
    "__dict__",
    "__builtins__",
    "__cached__",
];
/// More modules than any program imports; the walk ends there.
const MODULES: usize = 50_000;

pub(super) struct Walk<'a, 'w> {
    finder: &'w Finder<'a, 'w>,
    minor: u8,
    nodes: Vec<Node<'a>>,
    names: HashMap<String, usize>,
    pub(super) problems: Vec<Problem>,
    /// The file and line that changes `sys.path` on the way.
    pub(super) path_changed: Option<(Vec<u8>, u32)>,
    /// Names that the user's modules were asked for: of others, their sources may change without a word about it.
    asked: RefCell<BTreeSet<String>>,
}

impl<'a, 'w> Walk<'a, 'w> {
    pub(super) fn new(finder: &'w Finder<'a, 'w>, minor: u8) -> Self {
        Self {
            finder,
            minor,
            nodes: Vec::new(),
            names: HashMap::new(),
            problems: Vec::new(),
            path_changed: None,
            asked: RefCell::default(),
        }
    }

    /// Names that the user's modules were asked for.
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// The line that binds a name at the level of a module, the user's `own` or not.
    fn line_of(&self, own: bool, facts: &Module, name: &str) -> Option<u32> {
        if own && !self.asked.borrow().contains(name) {
            self.asked.borrow_mut().insert(name.to_owned());
        }
        facts.line_of(name)
    }

    /// Imports a module by name, as a command does first.
    pub(super) fn enter(&mut self, dotted: &str, certain: bool) -> Answer<'a> {
        let answer = self.finder.find(dotted);
        for node in self.chain(dotted) {
            self.run(node, certain);
        }
        answer
    }

    /// Runs a file as the program itself; `package` is what `python -m` makes it a part of.
    pub(super) fn enter_main(&mut self, found: Found<'a>, package: &str) {
        self.nodes.push(Node {
            name: "__main__".into(),
            package: package.to_owned(),
            found: Rc::new(found),
            main: true,
            certain: false,
            state: State::New,
            line: 0,
        });
        self.run(self.nodes.len() - 1, true);
    }

    /// What only calls and conditions reach, in the user's own modules.
    pub(super) fn follow_rest(&mut self) {
        let mut at = 0;
        while at < self.nodes.len() && self.nodes.len() < MODULES {
            let node = &self.nodes[at];
            if let (Some(Origin::App), State::Done, Some(facts)) = (node.found.origin, node.state, node.found.facts) {
                for import in &facts.imports {
                    if matches!(import.place, Place::Function | Place::Conditional) {
                        self.follow_loosely(at, import);
                    }
                }
            }
            at += 1;
        }
    }

    /// The files that the command certainly imports.
    pub(super) fn reached(&self) -> BTreeSet<Vec<u8>> {
        self.nodes.iter().filter(|node| node.certain).filter_map(|node| node.found.file.clone()).collect()
    }

    /// The user's modules on the way, with what their sources say.
    pub(super) fn own_modules(&self) -> impl Iterator<Item = (&Rc<Found<'a>>, &'a Module)> {
        self.nodes
            .iter()
            .filter(|node| node.found.origin == Some(Origin::App) && node.state == State::Done && node.certain)
            .filter_map(|node| Some((&node.found, node.found.facts?)))
    }

    /// Whether a module binds a name, through star imports too. Submodules are not names here.
    pub(super) fn binds(&self, dotted: &str, found: &Found<'a>, name: &str) -> Binds {
        let says = |facts: &&Module| facts.is_static() && self.line_of(is_own(found), facts, name).is_some();
        if found.facts.as_ref().is_some_and(says) {
            return Binds::Yes;
        }
        let plain = |found: &Found<'_>| found.dirs.is_empty();
        let mut rest = vec![(dotted.to_owned(), found.facts, found.kind, is_own(found), plain(found))];
        let mut visited: HashSet<String> = HashSet::new();
        let mut answer = Binds::No;
        let mut first = true;
        while let Some((dotted, facts, kind, own, alone)) = rest.pop() {
            if kind == Kind::Namespace {
                continue;
            }
            let Some(facts) = facts.filter(|facts| facts.is_static()) else {
                answer = Binds::Unknown;
                continue;
            };
            // A star takes what `__all__` lists, or what has no underscore.
            let offered =
                first || facts.all.as_ref().map_or(!name.starts_with('_'), |all| all.iter().any(|n| **n == *name));
            first = false;
            if offered && (self.line_of(own, facts, name).is_some() || ALWAYS.contains(&name)) {
                return Binds::Yes;
            }
            if !offered {
                continue;
            }
            if self.promises_more(&dotted, own, facts) {
                answer = Binds::Unknown;
            }
            for star in facts.stars() {
                let package = if alone { dotted.rsplit_once('.').map_or("", |(parent, _)| parent) } else { &dotted };
                let Some(base) = absolute(package, star) else {
                    answer = Binds::Unknown;
                    continue;
                };
                if !visited.insert(base.clone()) {
                    continue;
                }
                match self.finder.find(&base) {
                    Answer::Found(next) => {
                        // A submodule that somebody has imported is a name of its package.
                        if matches!(self.finder.find(&format!("{base}.{name}")), Answer::Found(_)) {
                            answer = Binds::Unknown;
                        }
                        rest.push((base, next.facts, next.kind, is_own(&next), plain(&next)));
                    }
                    _ => answer = Binds::Unknown,
                }
            }
        }
        answer
    }

    /// Whether a module's `__all__` lists what neither its text nor its directory has: somebody else puts names into it.
    fn promises_more(&self, dotted: &str, own: bool, facts: &Module) -> bool {
        facts.stars().next().is_none()
            && facts.all.iter().flatten().any(|name| {
                self.line_of(own, facts, name).is_none()
                    && !ALWAYS.contains(&&**name)
                    && matches!(self.finder.find(&format!("{dotted}.{name}")), Answer::Missing(_))
            })
    }

    /// The modules of a dotted name, parents first, as far as they are found.
    fn chain(&mut self, dotted: &str) -> Vec<usize> {
        let mut nodes = Vec::new();
        for end in dotted.match_indices('.').map(|(at, _)| at).chain([dotted.len()]) {
            let part = dotted.get(..end).unwrap_or_default();
            if let Some(&known) = self.names.get(part) {
                nodes.push(known);
                continue;
            }
            let Answer::Found(found) = self.finder.find(part) else { break };
            if found.kind == Kind::Library || self.nodes.len() >= MODULES {
                break;
            }
            let package =
                if found.dirs.is_empty() { part.rsplit_once('.').map_or("", |(parent, _)| parent) } else { part };
            self.nodes.push(Node {
                name: part.to_owned(),
                package: package.to_owned(),
                found,
                main: false,
                certain: false,
                state: State::New,
                line: 0,
            });
            self.names.insert(part.to_owned(), self.nodes.len() - 1);
            nodes.push(self.nodes.len() - 1);
        }
        nodes
    }

    /// Runs a module and what it imports.
    fn run(&mut self, root: usize, certain: bool) {
        let mut stack: Vec<Frame> = Vec::new();
        self.begin(root, certain, &mut stack);
        while let Some(frame) = stack.last_mut() {
            match frame.steps.pop() {
                Some(Step::Load(node)) => self.begin(node, certain, &mut stack),
                Some(Step::Names(import)) => {
                    let node = frame.node;
                    let more = self.check_names(node, import, certain);
                    if let Some(frame) = stack.last_mut() {
                        frame.steps.extend(more.into_iter().map(Step::Load));
                    }
                }
                None => {
                    let (node, at) = (frame.node, frame.next);
                    frame.next += 1;
                    let Some(import) = self.nodes[node].found.facts.and_then(|facts| facts.imports.get(at)) else {
                        self.nodes[node].state = State::Done;
                        stack.pop();
                        continue;
                    };
                    let runs = match import.place {
                        Place::Module => true,
                        Place::Handler(number) => frame.failed.contains(&number),
                        Place::Main => self.nodes[node].main,
                        Place::Try(number) => {
                            if self.fails(node, import) {
                                frame.failed.insert(number);
                            }
                            false
                        }
                        _ => false,
                    };
                    if runs {
                        let steps = self.import(node, at, import, certain);
                        if let Some(frame) = stack.last_mut() {
                            frame.steps.extend(steps.into_iter().rev());
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, node: usize, certain: bool, stack: &mut Vec<Frame>) {
        let it = &mut self.nodes[node];
        if it.state != State::New {
            return;
        }
        it.state = State::Running;
        it.certain = certain;
        let own = it.found.origin == Some(Origin::App);
        if let Some(facts) = it.found.facts {
            if let Some((line, top)) = facts.search_path
                && (own || top)
                && self.path_changed.is_none()
            {
                self.path_changed = Some((it.found.file.clone().unwrap_or_default(), line));
            }
            if let Some(broken) = &facts.broken {
                let what = What::Syntax { message: broken.message.clone().into() };
                self.problem(node, broken.line, Place::Module, certain, what);
            }
            if let Some(newer) = facts.newer.as_ref().filter(|newer| newer.minor > self.minor) {
                let what = What::Newer { minor: newer.minor, what: newer.what.clone().into() };
                self.problem(node, newer.line, Place::Module, certain, what);
            }
        }
        stack.push(Frame { node, next: 0, steps: Vec::new(), failed: HashSet::new() });
    }

    /// What an import statement does, in order.
    fn import(&mut self, node: usize, at: usize, import: &Import, certain: bool) -> Vec<Step> {
        self.nodes[node].line = import.line;
        let Some(base) = absolute(&self.nodes[node].package, import) else {
            let what = What::Relative { dots: import.level, module: import.module.clone().into() };
            self.problem(node, import.line, import.place, certain, what);
            return Vec::new();
        };
        if let Answer::Missing(missing) = self.finder.find(&base) {
            self.problem(node, import.line, import.place, certain, What::Module { wanted: base, missing });
            return Vec::new();
        }
        let mut steps: Vec<Step> = self.chain(&base).into_iter().map(Step::Load).collect();
        if import.names.is_some() {
            steps.push(Step::Names(at));
        }
        steps
    }

    /// The names of a `from … import`, once its module has run: gives the submodules among them.
    fn check_names(&mut self, node: usize, at: usize, certain: bool) -> Vec<usize> {
        let Some(import) = self.nodes[node].found.facts.and_then(|facts| facts.imports.get(at)) else {
            return Vec::new();
        };
        let Some(base) = absolute(&self.nodes[node].package, import) else { return Vec::new() };
        let Answer::Found(found) = self.finder.find(&base) else { return Vec::new() };
        let mut loads = Vec::new();
        for name in import.names.iter().flatten().filter(|name| &***name != "*") {
            let bound = self.binds(&base, &found, name);
            let full = format!("{base}.{name}");
            if let Some(library) = self.other_library(&found, &base, name) {
                let what = What::LibraryName { module: base.clone(), name: name.to_string(), library };
                self.problem(node, import.line, import.place, certain, what);
                continue;
            }
            if bound == Binds::Yes {
                // A package that is still running may bind it only later, by this very import: then it is the submodule.
                let pending = self.names.get(&base).is_some_and(|other| {
                    let it = &self.nodes[*other];
                    let line = found.facts.and_then(|facts| self.line_of(is_own(&found), facts, name)).unwrap_or(0);
                    it.state == State::Running && line >= it.line
                });
                if pending && matches!(self.finder.find(&full), Answer::Found(_)) {
                    loads.extend(self.chain(&full).last().copied());
                } else {
                    self.check_cycle(node, import, &base, name, certain);
                }
                continue;
            }
            match self.finder.find(&full) {
                Answer::Found(_) => loads.extend(self.chain(&full).last().copied()),
                Answer::Missing(_) if bound == Binds::No => {
                    let what = What::Name { module: base.clone(), name: name.to_string(), from: found.file.clone() };
                    self.problem(node, import.line, import.place, certain, what);
                }
                _ => {}
            }
        }
        loads.reverse();
        loads
    }

    /// Whether a name is taken from a module that runs and has not bound it yet.
    fn check_cycle(&mut self, node: usize, import: &Import, base: &str, name: &str, certain: bool) {
        let Some(&other) = self.names.get(base) else { return };
        let it = &self.nodes[other];
        // Packages of others are shipped as they run; their cycles are their business.
        let own = self.nodes[node].found.origin == Some(Origin::App);
        if other == node || it.state != State::Running || !own {
            return;
        }
        let bound = it.found.facts.and_then(|facts| self.line_of(is_own(&it.found), facts, name));
        let Some(bound) = bound.filter(|bound| *bound > it.line) else { return };
        let what = What::Cycle { module: base.to_owned(), name: name.to_owned(), line: it.line, bound };
        self.problem(node, import.line, import.place, certain, what);
    }

    /// Which versions of Python's library have a name, if this one has not.
    fn other_library(&self, found: &Found<'a>, module: &str, name: &str) -> Option<Library> {
        // Modules below the top are not looked up one by one, and may be anything if the top is somebody else's.
        if found.kind != Kind::Library {
            return None;
        }
        let known = library_name(module, name, self.minor);
        matches!(known, Library::From(_) | Library::Until(_)).then_some(known)
    }

    /// Whether an import in a `try` fails for certain.
    fn fails(&self, node: usize, import: &Import) -> bool {
        let Some(base) = absolute(&self.nodes[node].package, import) else { return true };
        match self.finder.find(&base) {
            Answer::Missing(_) => true,
            Answer::Unknown => false,
            Answer::Found(found) => import.names.iter().flatten().any(|name| {
                self.other_library(&found, &base, name).is_some()
                    || &**name != "*"
                        && matches!(self.finder.find(&format!("{base}.{name}")), Answer::Missing(_))
                        && self.binds(&base, &found, name) == Binds::No
            }),
        }
    }

    /// An import that runs only when something is called, or under a condition.
    fn follow_loosely(&mut self, node: usize, import: &Import) {
        let Some(base) = absolute(&self.nodes[node].package, import) else { return };
        if let Answer::Missing(missing) = self.finder.find(&base) {
            self.problem(node, import.line, import.place, false, What::Module { wanted: base, missing });
            return;
        }
        let mut loads = self.chain(&base);
        for name in import.names.iter().flatten() {
            let full = format!("{base}.{name}");
            if let (Answer::Found(_), true) = (self.finder.find(&full), &**name != "*") {
                loads.extend(self.chain(&full).last());
            }
        }
        for load in loads {
            if self.nodes[load].found.origin == Some(Origin::App) {
                self.run(load, false);
            }
        }
    }

    fn problem(&mut self, node: usize, line: u32, place: Place, certain: bool, what: What) {
        let it = &self.nodes[node];
        self.problems.push(Problem {
            file: it.found.file.clone().unwrap_or_default(),
            layer: it.found.layer,
            line,
            own: it.found.origin == Some(Origin::App),
            certain,
            place,
            what,
        });
    }

    /// Whether some module of the user's imports one of these where only a call does it: what runs first is then not known.
    pub(super) fn called_somewhere(&self, modules: &[&str]) -> bool {
        self.nodes.iter().filter(|node| node.found.origin == Some(Origin::App)).any(|node| {
            node.found.facts.is_some_and(|facts| {
                facts.imports.iter().filter(|import| !matches!(import.place, Place::Module)).any(|import| {
                    absolute(&node.package, import).is_some_and(|base| {
                        modules.iter().any(|module| base == *module || module.starts_with(&format!("{base}.")))
                    })
                })
            })
        })
    }

    /// The name of the module of a file that was entered.
    pub(super) fn name_of(&self, file: &[u8]) -> Option<&str> {
        self.nodes.iter().find(|node| node.found.file.as_deref() == Some(file)).map(|node| node.name.as_str())
    }
}

/// The absolute name of what an import statement names, from a package. `None` above the top.
pub(super) fn absolute(package: &str, import: &Import) -> Option<String> {
    if import.level == 0 {
        return Some(import.module.clone().into());
    }
    let mut base = package;
    for _ in 1..import.level {
        base = base.rsplit_once('.')?.0;
    }
    match (base.is_empty(), import.module.is_empty()) {
        (true, _) => None,
        (false, true) => Some(base.to_owned()),
        (false, false) => Some(format!("{base}.{}", import.module)),
    }
}
