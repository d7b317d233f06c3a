//! What following the command's imports showed, as findings.

use std::collections::BTreeSet;

use super::advice::{Wants, distribution_of, has_name, is_known, supply};
use super::command::{Launch, Wanted, base_name};
use super::distribution::Distribution;
use super::facts::{Module, Place, Role};
use super::locate::{Answer, Finder, Found, Kind, Missing};
use super::requirement::normalize;
use super::runtime::{Image, Origin, Python};
use super::stdlib::Library;
use super::walk::{Binds, Problem, Walk, What};
use crate::finding::{Advice, Finding, Level};

/// Modules that servers import by names in strings, whatever their options.
const LOADED: [(&str, &[&str]); 2] = [
    ("uvicorn", &["uvicorn.protocols.http.auto", "uvicorn.loops.auto", "uvicorn.lifespan.on"]),
    ("gunicorn", &["gunicorn.app.wsgiapp", "gunicorn.arbiter"]),
];

/// More findings of one kind than anybody reads.
const FINDINGS: usize = 50;

/// Follows a command's imports and says what will not work.
pub(super) struct Imports<'a, 'w> {
    pub(super) image: &'w Image<'a>,
    pub(super) python: &'w Python<'a>,
    pub(super) finder: &'w Finder<'a, 'w>,
    pub(super) walk: Walk<'a, 'w>,
    pub(super) findings: Vec<Finding>,
    /// Directories of packages for another version of Python.
    pub(super) foreign: &'w [std::rc::Rc<super::tree::Dir<'a>>],
    /// Modules that the command itself asks for and that are missing: their importers need not be told of.
    pub(super) targets: BTreeSet<String>,
    /// What is installed.
    pub(super) distributions: &'w [Distribution<'a>],
    /// What that requires, normalized.
    pub(super) required: BTreeSet<String>,
}

impl<'a> Imports<'a, '_> {
    /// Enters everything that a command imports.
    pub(super) fn follow(&mut self, launch: &Launch, own_script: Option<&Wanted>, code: Option<&'a Module>) {
        if let Some(script) = own_script {
            self.wanted(script);
        }
        let server = launch.program.as_deref().map(base_name).or(launch.run_module.as_deref()).unwrap_or_default();
        for (_, modules) in LOADED.iter().filter(|(name, _)| *name == server) {
            for module in *modules {
                self.walk.enter(module, true);
            }
        }
        if let Some(module) = &launch.run_module {
            self.run_module(module);
        }
        for wanted in &launch.wanted {
            self.wanted(wanted);
        }
        if let Some(worker) = launch.worker {
            self.walk.enter(worker, true);
        }
        for script in &launch.scripts {
            self.script(&script.path, script.main);
        }
        if let Some(facts) = code {
            self.walk.enter_main(program(None, Some(facts)), "");
        }
        for (words, path) in &launch.files {
            if self.image.tree.at(self.image.absolute(path).as_bytes()).is_none() {
                let path = self.image.absolute(path);
                let message = format!("the command has `{words}`, and {path} is not in the image");
                self.add("PythonFileNotFound", Level::Error, message, Some(path), None, None);
            }
        }
        self.django();
        self.walk.follow_rest();
        self.problems();
    }

    /// `python -m module`
    fn run_module(&mut self, module: &str) {
        match self.finder.find(module) {
            Answer::Missing(missing) => self.target_missing(module, &missing, &format!("python -m {module}")),
            Answer::Unknown => {}
            Answer::Found(found) if found.kind == Kind::Library => {}
            Answer::Found(found) => {
                let (main, package) = if found.dirs.is_empty() {
                    (Answer::Found(found), module.rsplit_once('.').map_or("", |(parent, _)| parent))
                } else {
                    self.walk.enter(module, true);
                    (self.finder.find(&format!("{module}.__main__")), module)
                };
                match main {
                    Answer::Found(found) => self.walk.enter_main(copy(&found), package),
                    Answer::Missing(_) => {
                        let message = format!("`python -m {module}` needs {module}/__main__.py, which is not there");
                        let advice = self.without_main(module);
                        self.add("PythonTargetNotFound", Level::Error, message, None, None, Some(advice));
                    }
                    Answer::Unknown => {}
                }
            }
        }
    }

    /// `python file.py`
    fn script(&mut self, written: &str, main: bool) {
        let path = self.image.absolute(written);
        let Some((real, seen)) = self.image.tree.at(path.as_bytes()) else {
            let words = if main { format!("python {written}") } else { written.to_owned() };
            let advice = self.file_elsewhere(base_name(written), &path);
            let message = format!("the command runs `{words}`, and {path} is not in the image");
            self.add("PythonFileNotFound", Level::Error, message, Some(path), None, Some(advice));
            return;
        };
        // `python directory` runs its `__main__`.
        if !matches!(seen.entry.node, kuz_image::Node::File { .. } | kuz_image::Node::Hardlink(_)) {
            return;
        }
        let facts = self.image.fact(&real, |facts| &facts.modules);
        let origin = if super::read::is_installed(&real) { Origin::Installed } else { Origin::App };
        self.walk.enter_main(Found { origin: Some(origin), ..program(Some((real, seen.layer)), facts) }, "");
    }

    fn wanted(&mut self, wanted: &Wanted) {
        let found = match self.walk.enter(&wanted.module, true) {
            Answer::Found(found) => found,
            Answer::Missing(missing) => return self.target_missing(&wanted.module, &missing, &wanted.words),
            Answer::Unknown => return,
        };
        let Some(attribute) = &wanted.attribute else { return };
        if self.walk.binds(&wanted.module, &found, attribute) != Binds::No || found.kind == Kind::Namespace {
            return;
        }
        if !matches!(self.finder.find(&format!("{}.{attribute}", wanted.module)), Answer::Missing(_)) {
            return;
        }
        let file = found.file.as_ref().map(|path| shown(path));
        let made = found.facts.and_then(|facts| facts.made.first());
        let mut message = format!(
            "`{}` takes `{attribute}` from {}, which binds no such name at module level",
            wanted.words,
            file.as_deref().unwrap_or(&wanted.module)
        );
        let advice = match made {
            Some((name, class)) => {
                use std::fmt::Write as _;
                let _ = write!(message, " (`{name}` is bound to `{class}()`)");
                format!("name it in the command: `{}:{name}`", wanted.module)
            }
            None => format!("bind `{attribute}` at module level, or name another attribute in the command"),
        };
        let advice = Advice { text: advice, lines: Vec::new() };
        self.add("PythonAttributeNotFound", Level::Error, message, file, found.layer, Some(advice));
    }

    fn target_missing(&mut self, module: &str, missing: &Missing, words: &str) {
        let level = if self.python.changed.get() { Level::Warning } else { Level::Error };
        if let Some((path, why)) = &missing.unfit {
            let message = format!("`{words}` imports `{module}`, but {} {why}", shown(path));
            self.add("PythonExtensionMismatch", level, message, Some(shown(path)), None, Some(rebuild()));
            return;
        }
        self.targets.insert(missing.part.clone());
        let dirs: Vec<String> = self.finder.app_dirs().map(|dir| shown(&dir.path)).collect();
        let part = &missing.part;
        let what =
            if part == module { format!("no module `{part}`") } else { format!("no `{part}`, which it is a part of") };
        let places = if dirs.is_empty() { "the installed packages".to_owned() } else { dirs.join(", ") };
        let message = format!("`{words}` imports `{module}`, and there is {what} in {places}");
        // What servers and options ask for by themselves is a package's; what stands as their target is the user's.
        let package = words.starts_with('-') || words.starts_with("fastapi") || words.starts_with("the ");
        let advice = match words.strip_prefix("python -m ") {
            _ if package => self.supply(module, missing, false),
            Some(module) if self.is_package(module) => self.supply(module, missing, false),
            _ => self.module_advice(module, missing),
        };
        self.add("PythonTargetNotFound", level, message, None, None, Some(advice));
    }

    /// The modules that Django imports by name once its settings are known.
    fn django(&mut self) {
        let mut settings: Vec<(String, Vec<u8>, u32, bool)> = Vec::new();
        for (found, facts) in self.walk.own_modules() {
            for named in facts.named.iter().filter(|named| named.role == Role::Settings) {
                let makes = facts.made.iter().any(|(_, made)| made.starts_with("get_"));
                settings.push((named.module.clone().into(), found.file.clone().unwrap_or_default(), named.line, makes));
            }
        }
        let set = self.image.env.get("DJANGO_SETTINGS_MODULE").filter(|module| !module.is_empty());
        let Some((mut module, file, line, makes)) = settings.into_iter().next() else { return };
        let mut wanted = format!("{}, line {line}, names the settings `{module}`", shown(&file));
        if let Some(set) = set {
            module.clone_from(set);
            wanted = format!("DJANGO_SETTINGS_MODULE names `{module}`");
        }
        let level = if makes && !self.unsure() { Level::Error } else { Level::Warning };
        let found = match self.walk.enter(&module, makes) {
            Answer::Missing(missing) => {
                let message = format!("{wanted}, and there is no module `{}`", missing.part);
                let advice = self.module_advice(&module, &missing);
                self.add("PythonModuleNotFound", level, message, Some(shown(&file)), None, Some(advice));
                return;
            }
            Answer::Found(found) => found,
            Answer::Unknown => return,
        };
        let Some(facts) = found.facts else { return };
        for named in facts.named.iter().filter(|named| named.role == Role::App) {
            let Answer::Missing(missing) = self.finder.find(&named.module) else {
                self.walk.enter(&named.module, false);
                continue;
            };
            // `package.apps.Config` names a class.
            let parent = named.module.rsplit_once('.').map_or("", |(parent, _)| parent);
            if !parent.is_empty() && !matches!(self.finder.find(parent), Answer::Missing(_)) {
                continue;
            }
            let file = found.file.as_ref().map(|path| shown(path)).unwrap_or_default();
            let message = format!(
                "INSTALLED_APPS in {file}, line {}, has `{}`, and there is no module `{}`",
                named.line, named.module, missing.part
            );
            let advice = self.supply(&missing.part, &missing, true);
            self.add("PythonModuleNotFound", level, message, Some(file), found.layer, Some(advice));
        }
    }

    /// Whether something changes where modules are found.
    fn unsure(&self) -> bool {
        self.python.changed.get() || self.walk.path_changed.is_some()
    }

    fn problems(&mut self) {
        let problems = std::mem::take(&mut self.walk.problems);
        let mut said: BTreeSet<String> = self.targets.iter().map(|part| format!("module {part}")).collect();
        for problem in &problems {
            let key = match &problem.what {
                What::Module { missing, .. } => format!("module {}", missing.part),
                What::Name { module, name, .. } => format!("name {module} {name}"),
                What::Cycle { module, name, .. } => format!("cycle {module} {name}"),
                other => format!("{other:?} {:?}", problem.file),
            };
            // The first one that fails is what a user sees; certain ones come first.
            if said.len() < FINDINGS && said.insert(key) {
                self.problem(problem);
            }
        }
    }

    fn problem(&mut self, problem: &Problem) {
        let source = source_of(&problem.file);
        let at = format!("{source}, line {},", problem.line);
        let level = match (problem.certain, problem.place) {
            (_, Place::Conditional) => Level::Note,
            (true, Place::Module | Place::Handler(_) | Place::Main) => Level::Error,
            _ => Level::Warning,
        };
        let (rule, level, message, advice) = match &problem.what {
            What::Module { wanted, missing } => return self.module_missing(problem, wanted, missing, &at, level),
            What::Name { module, name, from } => {
                let place = from.as_ref().map_or_else(|| format!("`{module}`"), |path| shown(path));
                // Two distributions whose versions do not go together; inside one, something may patch it.
                let top = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
                let other = self.walk.name_of(&problem.file).is_some_and(|name| top(name) != top(module));
                let sure = problem.own || other && !self.unsure();
                let level = if sure { level } else { level.min(Level::Warning) };
                let message = format!("{at} imports `{name}` from `{module}`, and {place} binds no such name");
                let advice = self.name_advice(problem, module, name, from.as_ref());
                ("PythonNameNotFound", level, message, Some(advice))
            }
            What::LibraryName { module, name, library } => {
                let level = if self.unsure() { level.min(Level::Warning) } else { level };
                let (says, advice) = library_name_advice(module, name, *library);
                let minor = self.python.abi.minor;
                let message =
                    format!("{at} imports `{name}` from `{module}`, which Python has {says}; the image has 3.{minor}");
                ("PythonNameNotFound", level, message, Some(advice))
            }
            What::Cycle { module, name, line, bound } => {
                let here = self.walk.name_of(&problem.file).unwrap_or_default().to_owned();
                let sure = problem.own && !self.unsure() && !self.walk.called_somewhere(&[module, &here]);
                let message = format!(
                    "{at} imports `{name}` from `{module}` while that runs its line {line}: `{name}` is bound only on line {bound}"
                );
                let text = format!("import `{module}` as a module there, or import it in the function that needs it");
                let level = if sure { level } else { level.min(Level::Warning) };
                ("PythonImportCycle", level, message, Some(Advice { text, lines: Vec::new() }))
            }
            What::Relative { dots, module } => {
                let name = format!("{}{module}", ".".repeat(usize::from(*dots)));
                let message = format!("{at} imports `{name}`, and the file is not part of a package that has it");
                ("PythonRelativeImport", level, message, Some(self.relative_advice(problem, *dots)))
            }
            What::Syntax { message } => (
                "PythonSyntaxError",
                level,
                format!("{source} is no Python, line {}: {message}", problem.line),
                Some(self.correct(problem)),
            ),
            What::Newer { minor, what } => {
                let message = format!(
                    "{at} has {what}: Python 3.{minor} and newer read it, the image has 3.{}",
                    self.python.abi.minor
                );
                let text = format!("take a base image with Python 3.{minor}");
                ("PythonSyntaxTooNew", level, message, Some(Advice { text, lines: Vec::new() }))
            }
        };
        // What a package has in files that do not compile is not imported on purpose.
        let level =
            if problem.own || !matches!(problem.what, What::Syntax { .. }) { level } else { level.min(Level::Warning) };
        self.add(rule, level, message, path_of(&problem.file), problem.layer, advice);
    }

    /// How a syntax error is seen again.
    fn correct(&self, problem: &Problem) -> Advice {
        let line = problem.line;
        Advice::text(match problem.file.as_slice() {
            [] => format!("correct line {line} of it"),
            file => format!(
                "correct line {line}; `python3.{} -m py_compile {}` says whether it is right",
                self.python.abi.minor,
                base_name(&shown(file))
            ),
        })
    }

    fn module_missing(&mut self, problem: &Problem, wanted: &str, missing: &Missing, at: &str, level: Level) {
        let path = path_of(&problem.file);
        let mut level = if self.python.changed.get() { level.min(Level::Warning) } else { level };
        if let Some((file, why)) = &missing.unfit {
            let message = format!("{at} imports `{wanted}`, but {} {why}", shown(file));
            self.add("PythonExtensionMismatch", level, message, path, problem.layer, Some(rebuild()));
            return;
        }
        let top = missing.part.split('.').next().unwrap_or(&missing.part);
        let mut message = match (missing.part == *wanted, missing.no_package) {
            (_, true) => format!("{at} imports `{wanted}`, and `{}` is a module, not a package", parent(&missing.part)),
            (true, _) => format!("{at} imports `{wanted}`, which is not in the image"),
            (false, _) => format!("{at} imports `{wanted}`, and `{}` is not in the image", missing.part),
        };
        let foreign = self.foreign.iter().find(|dir| has_name(dir, top));
        let mut advice = self.supply(&missing.part, missing, problem.own);
        if let Some(dir) = foreign {
            let (dir, minor) = (shown(&dir.path), self.python.abi.minor);
            let staged = advice.lines.iter().any(|line| line.starts_with("COPY "));
            let text = if staged { advice.text } else { "use the same version of Python in both stages".into() };
            advice.text = format!("it is in {dir}, which Python 3.{minor} does not search: {text}");
            advice.lines.retain(|_| staged);
        } else if missing.part.contains('.') {
            advice = Advice::text(match self.removed(&missing.part) {
                Some(name) => format!("files of `{name}` were removed after it was installed: keep all of them"),
                None => format!("what is installed as `{top}` has no `{}`: look at its version", missing.part),
            });
        }
        if let Some((changed, line)) = self.walk.path_changed.clone() {
            // Something of that name somewhere may be what the program then finds.
            let names = [format!("{top}.py"), top.to_owned()];
            let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            let there = self.image.tree.named(&names, 40).into_iter().find(|path| {
                let library = self.python.library.as_ref();
                super::read::is_installed(path) || !library.is_some_and(|library| path.starts_with(&library.path))
            });
            if let Some(there) = there {
                use std::fmt::Write as _;
                let _ = write!(
                    message,
                    " where it is looked for; {}, line {line}, changes sys.path, and {} exists",
                    shown(&changed),
                    shown(&there)
                );
                level = level.min(Level::Warning);
            }
        }
        if let Library::From(first) = missing.library {
            message = format!(
                "{at} imports `{wanted}`, which Python has from 3.{first} on; the image has 3.{}",
                self.python.abi.minor
            );
        }
        if let Library::Until(last) = missing.library {
            message = format!(
                "{at} imports `{wanted}`, which Python has only up to 3.{last}; the image has 3.{}",
                self.python.abi.minor
            );
        }
        self.add("PythonModuleNotFound", level, message, path, problem.layer, Some(advice));
    }

    fn supply(&self, module: &str, missing: &Missing, own: bool) -> Advice {
        let top = module.split('.').next().unwrap_or(module);
        let wants = Wants { own, required: self.required.contains(&normalize(&distribution_of(module))) };
        let lost = || self.lost(top).filter(|_| missing.library == Library::Never);
        lost().unwrap_or_else(|| supply(self.image, self.python, module, missing.library, wants, &self.home()))
    }

    /// The distribution that was installed with a module which is not there.
    fn removed(&self, module: &str) -> Option<&str> {
        let path = module.replace('.', "/");
        let is_of = |file: &str| file.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(['/', '.']));
        let mut all = self.distributions.iter();
        all.find(|it| it.record(self.image).iter().any(|file| is_of(&file.path))).map(|it| it.name.as_str())
    }

    /// Whether a module is known to be a package's.
    fn is_package(&self, module: &str) -> bool {
        is_known(module) || self.required.contains(&normalize(&distribution_of(module)))
    }

    fn add(
        &mut self,
        rule: &'static str,
        level: Level,
        message: String,
        path: Option<String>,
        layer: Option<usize>,
        advice: Option<Advice>,
    ) {
        self.findings.push(Finding { rule, level, message, path, layer, advice });
    }
}

/// Which versions have a name of Python's library, and what to do in the others.
fn library_name_advice(module: &str, name: &str, library: Library) -> (String, Advice) {
    let says = match library {
        Library::Until(last) => format!("only up to 3.{last}"),
        Library::From(first) => format!("from 3.{first} on"),
        _ => String::new(),
    };
    let text = match (module, library) {
        ("collections", Library::Until(_)) => format!("import `{name}` from `collections.abc`"),
        ("typing" | "warnings", Library::From(first)) => {
            format!("import `{name}` from `typing_extensions`, or take a base image with Python 3.{first}")
        }
        (_, Library::From(first)) => format!("take a base image with Python 3.{first}, or do without `{name}`"),
        _ => format!("do without `{name}`, or take a newer release of what imports it"),
    };
    (says, Advice::text(text))
}

/// What a problem's source is called.
fn source_of(file: &[u8]) -> String {
    if file.is_empty() { "the code of `python -c`".to_owned() } else { shown(file) }
}

fn path_of(file: &[u8]) -> Option<String> {
    (!file.is_empty()).then(|| shown(file))
}

/// A source that runs as the program itself: a file, or what a word of the command says.
fn program(file: Option<(Vec<u8>, usize)>, facts: Option<&Module>) -> Found<'_> {
    let (file, layer) = file.unzip();
    Found { file, layer, kind: Kind::Source, origin: Some(Origin::App), dirs: Vec::new(), facts }
}

/// A path as people write it.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}

fn parent(dotted: &str) -> &str {
    dotted.rsplit_once('.').map_or(dotted, |(parent, _)| parent)
}

fn copy<'a>(found: &Found<'a>) -> Found<'a> {
    Found {
        file: found.file.clone(),
        layer: found.layer,
        kind: found.kind,
        origin: found.origin,
        dirs: found.dirs.clone(),
        facts: found.facts,
    }
}

/// What to do about compiled code for something else.
pub(super) fn rebuild() -> Advice {
    Advice {
        text: "install it with the Python of the final stage's base image: same version, same C library, same machine"
            .into(),
        lines: Vec::new(),
    }
}
