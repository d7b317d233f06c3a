//! Will the Python in an image run: the command's modules and names, their imports, what is installed.
//!
//! ```text
//! a .py file ─► prune ─► read ─► Module (kept with the layer's facts)
//! Argv ─► command ─► what is imported first ─┐
//! paths ─► runtime ─► sys.path ─► locate ────┴► walk ─► imports ─► findings
//! *.dist-info ─► distribution ─────────────────────► installed ─┘
//! all of it ─► needed ─► distributions that nothing needs (for `size`)
//! ```
//! Nothing is imported or executed. An error is said only where Python must fail whatever the program does; where names or
//! places may come from code that the text does not show, nothing is said. Python 2 and other implementations are not judged.

#![expect(clippy::case_sensitive_file_extension_comparisons, reason = "Python's import system compares them so")]

mod advice;
mod command;
mod depth;
mod distribution;
mod facts;
mod imports;
mod installed;
mod locate;
mod mentions;
mod nearby;
mod needed;
mod prune;
mod read;
mod requirement;
mod runtime;
mod stdlib;
mod tags;
#[cfg(test)]
mod tests;
mod tree;
mod version;
mod walk;

use std::collections::BTreeSet;

pub use command::Argv;
pub use facts::{Broken, Import, Mentions, Module, Named, Newer, Place, Role};
pub use needed::{Files, Installed, unneeded};
pub use read::{is_pip, module};

use self::command::{Launch, Wanted, base_name, is_python};
use self::distribution::Distribution;
use self::imports::Imports;
use self::locate::Finder;
use self::runtime::{Image, Python};
use self::tree::Tree;
use self::walk::Walk;
use crate::facts::Path;
use crate::finding::{Advice, Finding, Level};
use crate::subject::Subject;

/// What a command's Python will not manage in this image. Empty also where the image has no Python 3.
pub fn check(subject: &Subject<'_>, command: &Argv) -> Vec<Finding> {
    judge(subject, command).map(|judged| judged.findings).unwrap_or_default()
}

/// The files, `.py` and extension modules, that a command certainly imports: real paths. What only a call, a condition or a caught
/// failure leads to is not among them.
pub fn reached(subject: &Subject<'_>, command: &Argv) -> BTreeSet<Path> {
    judge(subject, command).map(|judged| judged.reached).unwrap_or_default()
}

/// What is found out about a command.
#[derive(Debug, Default)]
pub struct Judged {
    /// What it will not manage.
    pub findings: Vec<Finding>,
    /// See [`reached`].
    pub reached: BTreeSet<Path>,
    /// The names that the user's modules were asked for. What else they bind changes nothing here.
    pub asked: BTreeSet<String>,
}

/// All answers, for callers that need more than one.
pub fn judge(subject: &Subject<'_>, command: &Argv) -> Option<Judged> {
    let mut launch = Launch::read(command);
    let code = launch.code.as_deref().and_then(|code| module(b"-c.py", code.as_bytes()));
    let image = Image { subject, tree: Tree::new(subject.stack.layers()), env: &command.env, cwd: &command.cwd };
    packages_of_scripts(&image, &mut launch);
    let started = Started::of(&image, &launch);
    let python = Python::at(&image, &started.interpreter?)?;
    if launch.settings.as_deref().is_some_and(|file| moves_path(&image, file)) {
        python.changed.set(true);
    }
    let distributions = installed::distributions(&image, &python);
    let foreign = installed::foreign_sites(&image, &python);
    let finder = Finder::new(&image, &python, &launch.first);
    let mut imports = Imports {
        image: &image,
        python: &python,
        finder: &finder,
        walk: Walk::new(&finder, python.abi.minor),
        findings: Vec::new(),
        foreign: &foreign,
        targets: BTreeSet::new(),
        distributions: &distributions,
        required: installed::required(&distributions),
    };
    let name = launch.program.as_deref().map(base_name);
    let entry = name.and_then(|name| script_of(&image, &distributions, name));
    if started.is_python {
        match &started.script {
            // A program of the user's own, started by its first line.
            Some(path) if path.ends_with(".py") && entry.is_none() => {
                let script = command::Script { path: path.clone(), main: true };
                let first = Launch { scripts: vec![script], ..launch.clone() };
                imports.follow(&first, None, None);
            }
            _ => imports.follow(&launch, entry.as_ref(), code.as_ref()),
        }
    }
    let reached = imports.walk.reached();
    let mut asked = imports.walk.asked();
    asked.extend(SETTINGS.map(str::to_owned));
    let mut findings = std::mem::take(&mut imports.findings);
    if let (Some(name), None) = (name, &started.script)
        && entry.is_some()
    {
        findings.push(script_missing(&image, &python, name));
    }
    let needed = findings.iter().any(|finding| {
        finding.level == Level::Error
            && finding.advice.as_ref().is_some_and(|advice| advice.text.contains("does not search"))
    });
    findings.extend(installed::check(&image, &python, &distributions, &reached, name));
    findings.extend(installed::foreign(&python, &foreign, needed));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Some(Judged { findings, reached, asked })
}

/// `fastapi run` and `flask --app` take a file, and import it as a part of the packages that it lies in.
fn packages_of_scripts(image: &Image<'_>, launch: &mut Launch) {
    for script in std::mem::take(&mut launch.scripts) {
        let path = image.absolute(&script.path);
        if script.main || image.tree.at(path.as_bytes()).is_none() {
            launch.scripts.push(script);
            continue;
        }
        let (mut folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
        let mut module = file.trim_end_matches(".py").to_owned();
        while let Some((parent, name)) = folder.rsplit_once('/')
            && image.tree.at(format!("{folder}/__init__.py").as_bytes()).is_some()
        {
            module = if module == "__init__" { name.to_owned() } else { format!("{name}.{module}") };
            folder = parent;
        }
        launch.first.insert(0, if folder.is_empty() { "/".into() } else { folder.to_owned() });
        launch.wanted.push(Wanted { module, attribute: None, words: script.path });
    }
}

/// Settings of gunicorn that change where modules are looked for.
const SETTINGS: [&str; 3] = ["chdir", "pythonpath", "wsgi_app"];

/// Whether gunicorn's configuration may change where modules are looked for.
fn moves_path(image: &Image<'_>, file: &str) -> bool {
    if file.starts_with("python:") {
        return true;
    }
    let path = image.absolute(file);
    let Some(facts) = image.fact(path.as_bytes(), |facts| &facts.modules) else {
        return image.tree.at(path.as_bytes()).is_some();
    };
    !facts.is_static() || SETTINGS.iter().any(|name| facts.line_of(name).is_some())
}

/// What a command starts.
struct Started {
    /// The interpreter's path.
    interpreter: Option<String>,
    /// The path of the program, if it is there and no interpreter.
    script: Option<String>,
    /// Whether the command is known to be Python's.
    is_python: bool,
}

impl Started {
    fn of(image: &Image<'_>, launch: &Launch) -> Self {
        if let Some(interpreter) = &launch.interpreter {
            return Self { interpreter: image.which(interpreter), script: None, is_python: true };
        }
        let script = launch.program.as_deref().and_then(|program| image.which(program));
        let line = script.as_deref().and_then(|path| image.fact(path.as_bytes(), |facts| &facts.shebangs));
        let line = line.map(|line| String::from_utf8_lossy(line).into_owned());
        if let Some(line) = &line {
            let mut words = line.split_whitespace();
            let mut program = words.next().unwrap_or_default();
            if base_name(program) == "env" {
                program = words.find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or_default();
            }
            if is_python(base_name(program)) {
                // An environment whose interpreter is missing has packages that no other Python of the image looks for.
                let environment = program.strip_suffix(base_name(program)).unwrap_or_default();
                let own = image.tree.at(format!("{environment}../pyvenv.cfg").as_bytes()).is_some();
                return Self {
                    interpreter: image.which(program).or_else(|| any_python(image).filter(|_| !own)),
                    script,
                    is_python: true,
                };
            }
        }
        // A server that is missing, or whose interpreter's path is too long for a first line: the image's Python is what would run it.
        let known = !launch.wanted.is_empty() && line.is_some_and(|line| line.starts_with("/bin/sh"));
        let missing = launch.program.is_some() && script.is_none();
        Self { interpreter: any_python(image), script, is_python: known || missing }
    }
}

/// The image's Python, where the command does not name one.
fn any_python(image: &Image<'_>) -> Option<String> {
    if let Some(path) = image.which("python3").or_else(|| image.which("python")) {
        return Some(path);
    }
    ["usr/local/bin", "usr/bin", "opt/venv/bin", "app/.venv/bin"].iter().find_map(|folder| {
        let dir = image.tree.dir(folder.as_bytes())?;
        let mut names: Vec<&str> =
            dir.names().filter_map(|(name, _)| std::str::from_utf8(name).ok()).filter(|name| is_python(name)).collect();
        names.sort_unstable();
        names.last().map(|name| format!("/{folder}/{name}"))
    })
}

/// What a console script imports.
fn script_of<'a>(image: &Image<'a>, distributions: &[Distribution<'a>], name: &str) -> Option<Wanted> {
    distributions.iter().find_map(|it| {
        let script = it.scripts(image).into_iter().find(|script| script.name == name)?;
        let attribute = script.attribute.split('.').next().filter(|attribute| !attribute.is_empty());
        Some(Wanted {
            module: script.module.to_owned(),
            attribute: attribute.map(str::to_owned),
            words: format!("the command `{name}`"),
        })
    })
}

/// The command is a console script of an installed distribution, and its file is not there.
fn script_missing(image: &Image<'_>, python: &Python<'_>, name: &str) -> Finding {
    let module = name.replace('-', "_");
    let shown = format!("python -m {module}");
    let bin = python.program.rsplit_once('/').map_or("/usr/local/bin", |(bin, _)| bin);
    let advice = advice::program_elsewhere(image, name, &shown)
        .unwrap_or_else(|| Advice { text: format!("copy it to {bin}, or start it with `{shown}`"), lines: Vec::new() });
    Finding {
        rule: "PythonConsoleScriptMissing",
        level: Level::Error,
        message: format!("the package that has the command `{name}` is installed, but its script is not in the image"),
        path: None,
        layer: None,
        advice: Some(advice),
    }
}
