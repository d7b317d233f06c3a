//! All checks, one after the other: a subject to its findings, the worst first.

use std::collections::BTreeSet;

use crate::facts::Path;
use crate::finding::{Advice, Finding};
use crate::subject::Subject;
use crate::{command, elf, hygiene, python, secrets};

/// Judges an image. `allowed` is asked which places may hold what looks like a secret: see [`secrets::check`].
pub fn check(subject: &Subject<'_>, allowed: &dyn Fn(&[u8]) -> bool) -> Vec<Finding> {
    check_asking(subject, allowed).0
}

/// As [`check`], with the names that the user's Python modules were asked for: see [`crate::imprint::answers`].
pub fn check_asking(subject: &Subject<'_>, allowed: &dyn Fn(&[u8]) -> bool) -> (Vec<Finding>, BTreeSet<String>) {
    let mut asked = BTreeSet::new();
    // Nothing here knows how other systems start programs.
    if !matches!(subject.config.os.as_str(), "linux" | "") {
        return (secrets::check(subject, allowed), asked);
    }
    let command = command::check(subject);
    let mut findings = command.findings;
    let mut reached: Option<BTreeSet<Path>> = None;
    for started in command.started {
        // Extension modules that the application is known to import are judged as strictly as the command.
        if let Some(judged) = python::judge(subject, &started) {
            findings.extend(judged.findings);
            reached.get_or_insert_default().extend(judged.reached);
            asked.extend(judged.asked);
        }
    }
    findings.extend(elf::closure::check(subject, &command.programs, reached.as_ref()));
    findings.extend(secrets::check(subject, allowed));
    findings.extend(hygiene::check(subject));
    // One mistake, seen from two sides: what is not on PATH is said once, by whoever knows where it is.
    let is_known = |advice: &Advice| advice.lines.iter().any(|line| !line.starts_with("RUN pip "));
    if findings.iter().any(|it| it.rule == "CommandNotFound" && it.advice.as_ref().is_some_and(is_known)) {
        findings.retain(|finding| finding.rule != "PythonConsoleScriptMissing");
    }
    findings.sort_by(|one, two| {
        (two.level, one.rule, &one.path, &one.message).cmp(&(one.level, two.rule, &two.path, &two.message))
    });
    findings.dedup();
    (findings, asked)
}
