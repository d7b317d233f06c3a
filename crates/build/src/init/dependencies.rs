//! What a project installs: which list says so, and which packages that are.
//!
//! The project in, names in the normal form of PEP 503 out, with `name[extra]` beside `name`. Versions are not looked at:
//! the list itself is copied and installed.

use std::collections::{BTreeMap, BTreeSet};

use super::{InitError, Project};

/// The version of Python that the recipe is made for.
const PYTHON: (u32, u32) = (3, 10);
/// Lists of requirements that name one another.
const LISTS: usize = 50;
/// Where requirements are, the first of them counts. A lock says more than a list that may have been made of it.
const REQUIREMENTS: &[&str] = &[
    "requirements.txt",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
    "requirements/requirements.txt",
];

/// How the packages are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum List {
    /// By pip, from a list and those that it names.
    Requirements(String, Vec<String>),
    /// From `uv.lock`.
    Lock,
    /// From `pyproject.toml` alone.
    Project,
}

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependencies {
    pub(super) list: List,
    pub(super) packages: BTreeSet<String>,
    pub(super) notes: Vec<String>,
}

impl Dependencies {
    pub(super) fn has(&self, package: &str) -> bool {
        self.packages.contains(package)
    }
}

/// The list of the project.
pub(super) fn find(project: &Project) -> Result<Dependencies, InitError> {
    let first = ["libraries.list"].iter().find(|file| project.has(file));
    let then = REQUIREMENTS.iter().find(|file| project.has(file));
    if let (None, Some(lock), Some(_)) = (first, project.text("uv.lock"), project.text("pyproject.toml")) {
        let packages = locked(&toml("uv.lock", lock)?);
        return Ok(Dependencies { list: List::Lock, packages, notes: Vec::new() });
    }
    if let Some(file) = first.or(then) {
        return requirements(project, file);
    }
    let Some(text) = project.text("pyproject.toml") else {
        let found = [
            ("Pipfile", "there is a Pipfile: `pipenv requirements > requirements.txt`"),
            ("setup.py", "there is a setup.py, which would have to be run: list the requirements"),
        ];
        let found = found.iter().find(|(file, _)| project.has(file)).map(|(_, how)| *how);
        return Err(InitError::NoDependencies(found));
    };
    let document = toml("pyproject.toml", text)?;
    let list = document.get("project").and_then(|table| table.get("dependencies")).and_then(toml::Value::as_array);
    let Some(list) = list else {
        let poetry = document.get("tool").and_then(|tool| tool.get("poetry")).is_some();
        let how = "poetry has them in a form of its own: `poetry export -o requirements.txt`";
        return Err(InitError::NoDependencies(Some(how).filter(|_| poetry)));
    };
    let mut packages = BTreeSet::new();
    list.iter().filter_map(toml::Value::as_str).for_each(|line| package(line, &mut packages));
    let notes = vec![
        "pyproject.toml has no lock beside it: two builds may install different versions; `uv lock` makes one"
            .to_owned(),
    ];
    Ok(Dependencies { list: List::Project, packages, notes })
}

/// Python's version: what the project asks for, else the recipe's.
pub(super) fn python(project: &Project, notes: &mut Vec<String>) -> (u32, u32) {
    if let Some(found) = project.text(".python-version").and_then(|text| version(text.trim())) {
        return found;
    }
    let document = project.text("pyproject.toml").and_then(|text| text.parse::<toml::Table>().ok());
    let asked = document.as_ref().and_then(|table| table.get("project")?.get("requires-python")?.as_str());
    let Some(asked) = asked else { return PYTHON };
    let mut python = PYTHON;
    for part in asked.split(',').map(str::trim) {
        let bound = part.trim_start_matches(['<', '>', '=', '~', '!', ' ']);
        let Some(bound) = version(bound.trim_end_matches(".*")) else { continue };
        let sign =
            part.get(..part.len() - part.trim_start_matches(['<', '>', '=', '~', '!']).len()).unwrap_or_default();
        match sign {
            ">=" | "~=" | "==" if bound > python || sign == "==" => python = bound,
            "<" if bound <= python && bound.1 > 0 => python = (bound.0, bound.1 - 1),
            "<=" if bound < python => python = bound,
            _ => {}
        }
    }
    if python != PYTHON {
        notes
            .push(format!("pyproject.toml asks for Python {asked}: the images are those of {}.{}", python.0, python.1));
    }
    python
}

/// `3.12` or `3.12.4`.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let version = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let patch = parts.next().is_none_or(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()));
    (version.0 == 3 && version.1 < 100 && patch && parts.next().is_none()).then_some(version)
}

fn toml(file: &str, text: &str) -> Result<toml::Table, InitError> {
    text.parse::<toml::Table>().map_err(|error| {
        let reason = error.message().lines().next().unwrap_or_default().to_owned();
        InitError::Malformed { file: file.to_owned(), reason }
    })
}

/// What a lock installs for the project itself: its dependencies and theirs, without groups that are for developers.
fn locked(lock: &toml::Table) -> BTreeSet<String> {
    let packages = lock.get("package").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let name = |value: &toml::Value| Some(normal(value.get("name")?.as_str()?));
    let by_name: BTreeMap<String, &toml::Value> =
        packages.iter().filter_map(|value| Some((name(value)?, value))).collect();
    let own = |value: &&toml::Value| {
        value.get("source").is_some_and(|source| source.get("virtual").is_some() || source.get("editable").is_some())
    };
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&toml::Value> = packages.iter().filter(own).collect();
    while let Some(package) = waiting.pop() {
        let listed = package.get("dependencies").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for dependency in listed {
            let Some(name) = name(dependency) else { continue };
            let extras = dependency.get("extra").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for extra in extras.iter().filter_map(toml::Value::as_str) {
                reached.insert(format!("{name}[{extra}]"));
                let optional =
                    by_name.get(&name).and_then(|value| value.get("optional-dependencies")?.get(extra)?.as_array());
                reached.extend(
                    optional.into_iter().flatten().filter_map(|value| Some(normal(value.get("name")?.as_str()?))),
                );
            }
            if reached.insert(name.clone()) {
                waiting.extend(by_name.get(&name));
            }
        }
    }
    reached
}

/// A list and those that it names.
fn requirements(project: &Project, first: &str) -> Result<Dependencies, InitError> {
    let mut found = Dependencies {
        list: List::Requirements(first.to_owned(), Vec::new()),
        packages: BTreeSet::new(),
        notes: Vec::new(),
    };
    // With each: whether it only limits versions.
    let mut seen = vec![(first.to_owned(), false)];
    let mut at = 0;
    while let Some((list, only_limits)) = seen.get(at).cloned().filter(|_| at < LISTS) {
        at += 1;
        for text in project.text(&list).unwrap_or_default().replace("\\\n", " ").lines() {
            let line = text.split(" #").next().unwrap_or_default().trim();
            let separated = line.replacen('=', " ", usize::from(line.starts_with("--")));
            let mut parts = separated.split_whitespace();
            match (parts.next(), parts.next()) {
                (Some(option @ ("-r" | "--requirement" | "-c" | "--constraint")), Some(named)) => {
                    let path = beside(&list, named);
                    if !project.has(&path) {
                        return Err(InitError::MissingList { list, missing: named.to_owned() });
                    }
                    if !seen.iter().any(|(other, _)| *other == path) {
                        seen.push((path, only_limits || option.contains('c')));
                    }
                }
                (Some("-e" | "--editable"), Some(named)) | (Some(named @ ("." | "./")), _) => {
                    let note = format!(
                        "`{list}` installs `{named}` of the project itself, which is not copied before: take the line out, or copy what it needs"
                    );
                    found.notes.push(note);
                }
                _ if only_limits || line.starts_with(['-', '#']) => {}
                _ => package(line, &mut found.packages),
            }
        }
    }
    found.list = List::Requirements(first.to_owned(), seen.into_iter().skip(1).map(|(list, _)| list).collect());
    Ok(found)
}

/// A path that a list names, from the project's root.
fn beside(list: &str, named: &str) -> String {
    let folder = list.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut path: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in named.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}

/// The name of a requirement such as `uvicorn[standard]>=0.30; python_version > "3.8"`.
fn package(line: &str, packages: &mut BTreeSet<String>) {
    let end = line.find(|character: char| !(character.is_ascii_alphanumeric() || "-_.".contains(character)));
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return;
    }
    let name = normal(name);
    let extras = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    for extra in extras.into_iter().flat_map(|(extras, _)| extras.split(',')) {
        packages.insert(format!("{name}[{}]", extra.trim()));
    }
    packages.insert(name);
}

/// `Flask_Login` is `flask-login`.
fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_have_names_and_extras() {
        let mut packages = BTreeSet::new();
        for line in
            ["Flask_Login==1", "uvicorn[standard, x]>=0.3 ; python_version>'3'", "a @ https://h/a.whl", "", "-x"]
        {
            package(line, &mut packages);
        }
        let want = ["a", "flask-login", "uvicorn", "uvicorn[standard]", "uvicorn[x]"];
        assert_eq!(packages.iter().map(String::as_str).collect::<Vec<_>>(), want);
    }

    #[test]
    fn versions_of_python() {
        let project = |asked: &str| {
            let text = format!("[project]\nrequires-python = \"{asked}\"\n");
            Project { files: [("pyproject.toml".to_owned(), Some(text))].into() }
        };
        for (asked, want) in [
            (">=3.8", (3, 10)),
            (">=3.12", (3, 12)),
            (">=3.8,<3.10", (3, 9)),
            ("==3.11.*", (3, 11)),
            ("~=3.13", (3, 13)),
            (">=3.12,<4", (3, 12)),
            ("nonsense", (3, 10)),
        ] {
            assert_eq!(python(&project(asked), &mut Vec::new()), want, "{asked}");
        }
        assert_eq!(version("3.12.4"), Some((3, 12)));
        assert_eq!(version("3"), None);
        assert_eq!(version("3.12-slim"), None);
        assert_eq!(version("2.7"), None);
    }
}
