//! What the image's command names of Python: words that may be modules or programs, code, and which Python runs it.
//!
//! Nothing comes out where anything else than Python may be started, or Python in a way whose end is not to be seen: a shell
//! script, a program that embeds Python, an interpreter without a program, a process manager with its own configuration.

use std::collections::BTreeSet;

use super::super::command::{Launch, base_name};
use super::super::facts::Module;
use super::super::requirement::Environment;
use super::super::runtime::{Image, Python};
use super::super::tree::Tree;
use super::super::{Started, module};
use super::tables::{COVERAGE, is_harmless, is_launcher};
use crate::subject::Subject;
use kuz_image::Node;

/// What a command names.
#[derive(Debug)]
pub(super) struct Start {
    /// Words of the command, the environment and the health check.
    pub(super) names: BTreeSet<String>,
    /// What `python -c` runs.
    pub(super) code: Vec<Module>,
    /// For conditions in metadata.
    pub(super) environment: Environment,
}

/// Reads the command. `is_owned`: whether a file is a distribution's; `is_script`: whether a name is a console script's.
pub(super) fn start(
    subject: &Subject<'_>,
    is_owned: &dyn Fn(&[u8]) -> bool,
    is_script: &dyn Fn(&str) -> bool,
) -> Option<Start> {
    let mut names = BTreeSet::new();
    let mut code = Vec::new();
    let mut environment = None;
    for argv in crate::command::programs(subject)? {
        let launch = Launch::read(&argv);
        if launch.program.as_deref().is_some_and(|program| is_harmless(base_name(program))) {
            continue;
        }
        let image = Image { subject, tree: Tree::new(subject.stack.layers()), env: &argv.env, cwd: &argv.cwd };
        let started = Started::of(&image, &launch);
        let python = Python::at(&image, started.interpreter.as_ref().filter(|_| started.is_python)?)?;
        environment =
            Some(Environment { python: format!("3.{}", python.abi.minor), machine: python.abi.machine.clone() });
        let module_name = launch.run_module.as_ref().map(|module| module.replace('_', "-"));
        let program = launch.program.as_deref().map(base_name).or(module_name.as_deref());
        if program.is_some_and(is_launcher) || launch.files.iter().any(|(_, path)| !path.ends_with(".py")) {
            return None;
        }
        if launch.interpreter.is_some() {
            if launch.run_module.is_none() && launch.scripts.is_empty() && launch.code.is_none() {
                return None;
            }
        } else {
            let path = started.script.as_ref()?;
            let (real, _) = image.tree.at(path.as_bytes())?;
            let line = image.fact(&real, |facts| &facts.shebangs)?;
            // What pip writes where the interpreter's path is too long for a first line begins as a shell script.
            let trampoline = line.starts_with(b"/bin/sh");
            let known = program.is_some_and(is_script) && !trampoline;
            if !(is_owned(&real) || known || is_source(&image, &real)) {
                return None;
            }
        }
        for script in launch.scripts.iter().filter(|script| script.main) {
            let (real, seen) = image.tree.at(image.absolute(&script.path).as_bytes())?;
            let is_dir = matches!(seen.entry.node, Node::Dir { .. });
            if !(is_dir || is_owned(&real) || is_source(&image, &real)) {
                return None;
            }
        }
        if let Some(text) = &launch.code {
            code.push(module(b"-c.py", text.as_bytes())?);
        }
        argv.argv.iter().for_each(|word| words(word, &mut names));
        argv.env.values().for_each(|value| variable(value, &mut names));
        if argv.env.keys().any(|name| name.starts_with(COVERAGE.0)) {
            names.insert(COVERAGE.1.to_owned());
        }
        health(subject, &image, &mut names)?;
    }
    Some(Start { names, code, environment: environment? })
}

/// Whether a file is a Python source that was looked at.
fn is_source(image: &Image<'_>, real: &[u8]) -> bool {
    image.fact(real, |facts| &facts.modules).is_some()
}

/// Whatever in a word may be a name.
fn words(word: &str, names: &mut BTreeSet<String>) {
    let parts = word.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')));
    names.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
}

/// Names in a variable: not those in paths and addresses, for which official images have some.
fn variable(value: &str, names: &mut BTreeSet<String>) {
    let value = value.split_once("://").map_or(value, |(scheme, _)| scheme);
    let parts = value.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':' | '=' | '+'));
    names.extend(parts.filter(|part| !part.is_empty() && !part.contains('/')).map(str::to_owned));
}

/// The words of the health check; `None` if it runs a script of another language.
fn health(subject: &Subject<'_>, image: &Image<'_>, names: &mut BTreeSet<String>) -> Option<()> {
    let check = subject.config.config.healthcheck.as_ref();
    for word in check.and_then(|check| check.test.as_ref()).into_iter().flatten().skip(1) {
        words(word, names);
        for word in word.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')')) {
            let Some(path) = Some(word).filter(|word| !word.is_empty()).and_then(|word| image.which(word)) else {
                continue;
            };
            let line = image.fact(path.as_bytes(), |facts| &facts.shebangs);
            if line.is_some_and(|line| !line.windows(6).any(|part| part == b"python")) {
                return None;
            }
        }
    }
    Some(())
}
