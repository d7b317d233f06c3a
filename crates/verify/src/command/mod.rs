//! The image's command: what ENTRYPOINT and CMD start is found, and may be started, by the final user.
//!
//! ```text
//! ENTRYPOINT + CMD ─► argv ─► a shell's line? ─► its simple commands ─┐
//!                        └──► wrappers (tini, env, …) taken off ──────┴─► each: PATH ─► file ─► `#!` ─► … ─► programs
//! ```
//! Programs come out for [`crate::elf::closure`]. Where a shell's line is not understood, nothing is claimed about it.

mod advice;
mod resolve;
pub mod shell;
#[cfg(test)]
mod tests;
mod words;

use crate::access::Who;
use crate::elf::packages::Packages;
use crate::facts::Path;
use crate::finding::{Advice, Finding, Level};
use crate::python::Argv;
use crate::subject::Subject;

pub use words::{Line, split};

/// What Docker and its like take where the image has no PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the command's check gives.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Programs that are started, real paths.
    pub programs: Vec<Path>,
    /// The same with their words, without shells and wrappers, as far as those are known to the letter.
    pub started: Vec<Argv>,
}

/// The whole command line; empty where there is none.
pub fn argv(subject: &Subject<'_>) -> Vec<String> {
    let config = &subject.config.config;
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    [words(&config.entrypoint), words(&config.cmd)].concat()
}

/// Judges the command.
pub fn check(subject: &Subject<'_>) -> Checked {
    let mut checked = Checked::default();
    let who = match Who::of(subject) {
        Ok(who) => who,
        Err(error) => {
            let advice = Advice::text(unknown_user(subject));
            let message = format!("the image's user cannot be looked up: {error}");
            checked.findings.push(Finding::new("UnknownUser", Level::Error, message).advise(Some(advice)));
            return checked;
        }
    };
    let argv = argv(subject);
    if argv.is_empty() {
        let message = "the image has neither ENTRYPOINT nor CMD: it starts only with a command given to it";
        checked.findings.push(Finding::new("NoCommand", Level::Note, message));
        return checked;
    }
    let mut resolver = resolve::Resolver::new(subject, who);
    resolver.argv(&argv);
    checked.findings = resolver.findings;
    checked.programs = resolver.programs;
    checked.started = resolver.started;
    checked
}

/// What the command starts, with its words, if all of that is known but for numbers and addresses (`--port $PORT`), whose
/// words are as they are written.
pub fn programs(subject: &Subject<'_>) -> Option<Vec<Argv>> {
    let argv = argv(subject);
    let mut resolver = resolve::Resolver::new(subject, Who::of(subject).ok()?);
    resolver.argv(&argv);
    (!resolver.open && !resolver.all.is_empty()).then_some(resolver.all)
}

/// What to do about a user whom the image does not know.
fn unknown_user(subject: &Subject<'_>) -> String {
    let user = subject.config.config.user.as_deref().unwrap_or_default();
    let name = user.split(':').next().unwrap_or_default();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let add = match Packages::of(&subject.stack) {
        Some(Packages::Debian) => "useradd --create-home",
        Some(Packages::Alpine) => "adduser -D",
        None => "",
    };
    if plain && !add.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        format!("add the user in the final stage before USER (`RUN {add} {name}`), or give numbers")
    } else {
        "add the user in the final stage before USER, or give numbers".to_owned()
    }
}

/// The tool of HEALTHCHECK: whatever is wrong with it.
pub(crate) fn healthcheck(subject: &Subject<'_>) -> Vec<Finding> {
    let test = subject.config.config.healthcheck.as_ref().and_then(|check| check.test.clone()).unwrap_or_default();
    let argv = match test.split_first() {
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            let shell = subject.config.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            [shell, rest.to_vec()].concat()
        }
        _ => return Vec::new(),
    };
    let Ok(who) = Who::of(subject) else { return Vec::new() };
    let mut resolver = resolve::Resolver::new(subject, who);
    resolver.argv(&argv);
    resolver.findings
}
