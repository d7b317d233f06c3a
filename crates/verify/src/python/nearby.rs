//! What lies near what a command or an import asks for and does not find: the advice that goes with such findings.
//!
//! Looks at the image, at the other stages of its build and at what a module binds. Gives advice only; names of packages that
//! nobody else names are not advised to be installed.

use std::rc::Rc;

use super::advice::{has_module, has_name};
use super::command::base_name;
use super::imports::{Imports, shown};
use super::locate::{Answer, Missing};
use super::tree::{Dir, Tree};
use super::walk::Problem;
use crate::finding::Advice;

/// Names in a sentence.
const NAMED: usize = 5;

impl Imports<'_, '_> {
    /// What to do about a module of the user's that is not found.
    pub(super) fn module_advice(&self, module: &str, missing: &Missing) -> Advice {
        let top = module.split('.').next().unwrap_or(module);
        if let Some(advice) = self.lies_elsewhere(module).or_else(|| self.lost(top)).or_else(|| self.staged(module)) {
            return advice;
        }
        if let Some((parent, _)) = missing.part.rsplit_once('.')
            && let Answer::Found(package) = self.finder.find(parent)
        {
            let names = modules(&package.dirs);
            if !names.is_empty() {
                return Advice::text(format!(
                    "the package `{parent}` has {names}: name one of those, or copy the rest"
                ));
            }
        }
        let dirs: Vec<Rc<Dir<'_>>> = self.finder.app_dirs().map(Rc::clone).collect();
        let (names, place) = (modules(&dirs), self.home());
        let file = format!("{}.py", module.replace('.', "/"));
        Advice::text(if names.is_empty() {
            format!("copy {file} to {place}, or start the command where it is")
        } else {
            format!("copy {file} to {place}, or name a module that is there: {names}")
        })
    }

    /// Where the user's modules go.
    pub(super) fn home(&self) -> String {
        self.finder.app_dirs().next().map_or_else(|| self.image.cwd.to_owned(), |dir| shown(&dir.path))
    }

    /// Where in the image a module lies that is not on `sys.path`.
    fn lies_elsewhere(&self, module: &str) -> Option<Advice> {
        let relative = module.replace('.', "/");
        let last = base_name(&relative);
        let file = format!("{last}.py");
        let ends = [format!("/{relative}.py"), format!("/{relative}/__init__.py")];
        let mut candidates = self.image.tree.named(&[file.as_bytes()], 200);
        candidates.extend(self.image.tree.named(&[last.as_bytes()], 50).into_iter().map(|mut dir| {
            dir.extend_from_slice(b"/__init__.py");
            dir
        }));
        let found = candidates.into_iter().map(|path| shown(&path)).find(|path| {
            is_own(path)
                && ends.iter().any(|end| path.ends_with(end.as_str()))
                && self.image.tree.at(path.as_bytes()).is_some()
        })?;
        let end = ends.iter().find(|end| found.ends_with(end.as_str()))?;
        let root = found.get(..found.len() - end.len()).filter(|root| !root.is_empty()).unwrap_or("/");
        Some(Advice {
            text: format!("it lies at {found}: the command must start in {root}, or have it in PYTHONPATH"),
            lines: vec![format!("WORKDIR {root}")],
        })
    }

    /// An editable install whose directory stayed behind.
    pub(super) fn lost(&self, top: &str) -> Option<Advice> {
        let (file, path) = self.python.lost.iter().find(|(file, path)| {
            // Where no stage has the directory, its name must do.
            let named = base_name(file).to_lowercase().replace('-', "_").contains(&top.to_lowercase());
            path.starts_with('/') && (named || self.stage_with(path, top).is_some())
        })?;
        let text = format!(
            "{file} leads to {path}, which is not in the image: install the project itself (`pip install .`, without -e), or copy that directory too"
        );
        let line = self.stage_with(path, top).map(|stage| format!("COPY --from={stage} {path} {path}"));
        Some(Advice { text, lines: line.into_iter().collect() })
    }

    fn stage_with(&self, dir: &str, top: &str) -> Option<&str> {
        let has = |stage: &&crate::subject::OtherStage<'_>| has_module(&Tree::new(stage.stack().layers()), dir, top);
        self.image.subject.others.iter().find(has).map(|stage| stage.name.as_str())
    }

    /// Another stage that has the module where it is looked for.
    fn staged(&self, module: &str) -> Option<Advice> {
        let relative = module.replace('.', "/");
        let home = self.home();
        let home = home.trim_end_matches('/');
        let top = relative.split('/').next().unwrap_or(&relative);
        let (file, package) = (format!("{home}/{relative}.py"), format!("{home}/{relative}/__init__.py"));
        self.image.subject.others.iter().find_map(|stage| {
            let tree = Tree::new(stage.stack().layers());
            let what = if tree.at(package.as_bytes()).is_some() || relative.contains('/') {
                tree.at(package.as_bytes()).or_else(|| tree.at(file.as_bytes()))?;
                format!("{home}/{top}")
            } else {
                tree.at(file.as_bytes())?;
                file.clone()
            };
            let line = format!("COPY --from={} {what} {what}", stage.name);
            Some(Advice::line(format!("stage `{}` has {what}: copy it", stage.name), line))
        })
    }

    /// Where a file is that the command names.
    pub(super) fn file_elsewhere(&self, name: &str, path: &str) -> Advice {
        for other in &self.image.subject.others {
            if other.stack().get(path.trim_start_matches('/').as_bytes()).is_some() {
                return Advice {
                    text: format!("stage `{}` has it: copy it", other.name),
                    lines: vec![format!("COPY --from={} {path} {path}", other.name)],
                };
            }
        }
        let found = self
            .image
            .tree
            .named(&[name.as_bytes()], 20)
            .into_iter()
            .map(|path| shown(&path))
            .find(|path| is_own(path));
        Advice::text(match found {
            Some(found) => format!("there is {found}: name that path, or set WORKDIR"),
            None => format!("copy it (`COPY {name} {path}`), or name the file that is there"),
        })
    }

    /// What to do about a package that `python -m` cannot run.
    pub(super) fn without_main(&self, package: &str) -> Advice {
        let Answer::Found(found) = self.finder.find(package) else {
            return Advice::text("give the package a `__main__.py`");
        };
        let names = modules(&found.dirs);
        Advice::text(if names.is_empty() {
            format!("give `{package}` a `__main__.py`")
        } else {
            format!("give `{package}` a `__main__.py`, or start a module of it: it has {names}")
        })
    }

    /// What to do about a name that a module does not bind.
    pub(super) fn name_advice(&self, problem: &Problem, module: &str, name: &str, from: Option<&Vec<u8>>) -> Advice {
        let top = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        let here = self.walk.name_of(&problem.file).map(top);
        if let (false, Some(here)) = (problem.own, here) {
            let there = top(module);
            return Advice::text(if here == there {
                format!("the files of `{here}` are of different versions: install it anew")
            } else {
                format!(
                    "the installed versions of `{here}` and `{there}` do not go together: take a newer `{here}` or an older `{there}`"
                )
            });
        }
        let place = from.map_or_else(|| format!("`{module}`"), |path| shown(path));
        let facts = match self.finder.find(module) {
            Answer::Found(found) => found.facts,
            _ => None,
        };
        let near = facts.and_then(|facts| {
            let names = facts.bound.iter().map(|(bound, _)| &**bound).filter(|bound| !bound.starts_with("__"));
            names.map(|bound| (distance(bound, name), bound)).filter(|(far, _)| *far <= name.len() / 2).min()
        });
        Advice::text(match near {
            Some((_, near)) => format!("{place} binds `{near}`: import that, or bind `{name}` there"),
            None => format!("bind `{name}` in {place}, or import a name that it binds"),
        })
    }

    /// What to do about a relative import in what is no package.
    pub(super) fn relative_advice(&self, problem: &Problem, dots: u8) -> Advice {
        let path = shown(&problem.file);
        let mut folders: Vec<&str> = path.trim_end_matches(".py").split('/').collect();
        let mut module = vec![folders.pop().unwrap_or_default()];
        let is_package =
            |folders: &[&str]| self.image.tree.at(format!("{}/__init__.py", folders.join("/")).as_bytes()).is_some();
        while folders.len() > 1 && (module.len() <= usize::from(dots) || is_package(&folders)) {
            module.insert(0, folders.pop().unwrap_or_default());
        }
        // At the top of the image there is nothing above.
        if problem.file.is_empty() || module.len() <= usize::from(dots) {
            return Advice::text("import without the dot");
        }
        let root = if folders.len() > 1 { folders.join("/") } else { "/".to_owned() };
        Advice::text(format!(
            "start it in {root} as a part of its package (`python -m {}`), or import without the dot",
            module.join(".")
        ))
    }
}

/// Whether a file is the user's, and neither a package's nor Python's own.
fn is_own(path: &str) -> bool {
    !super::read::is_installed(path.as_bytes()) && !path.contains("/lib/python3")
}

/// The modules and packages of directories, for a sentence.
fn modules(dirs: &[Rc<Dir<'_>>]) -> String {
    let mut names: Vec<String> = Vec::new();
    for dir in dirs.iter().filter(|dir| !super::read::is_installed(&dir.path)) {
        for (file, _) in dir.names() {
            let Ok(file) = std::str::from_utf8(file) else { continue };
            let name = file.strip_suffix(".py").unwrap_or(file);
            let is_module = name.len() < file.len() || has_init(dir, name);
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_module && plain && !name.starts_with("__") && has_name(dir, name) {
                names.push(format!("`{name}`"));
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let list = names.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

fn has_init(dir: &Dir<'_>, name: &str) -> bool {
    dir.get(name.as_bytes()).is_some_and(|seen| matches!(seen.entry.node, kuz_image::Node::Dir { .. }))
}

/// How many characters differ, as Levenshtein counts them; long names are not compared.
fn distance(one: &str, two: &str) -> usize {
    const LONG: usize = 64;
    if one.len() > LONG || two.len() > LONG {
        return usize::MAX;
    }
    strsim::levenshtein(one, two)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn names_are_near_or_far() {
        for (one, two, expected) in
            [("total", "total", 0), ("total", "totals", 1), ("app", "api", 1), ("", "ab", 2), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(one, two), distance(two, one)), (expected, expected), "{one} {two}");
        }
    }
}
