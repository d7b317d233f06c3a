//! All checks, one after the other: a subject to its findings, the worst first.

use std::collections::BTreeSet;

use crate::facts::Path;
use crate::finding::Finding;
use crate::subject::Subject;
use crate::{command, elf, hygiene};

/// Judges an image.
pub fn check(subject: &Subject<'_>) -> Vec<Finding> {
    let command = command::check(subject);
    // Extension modules that the application is known to import, once that is told from its sources.
    let reached: Option<&BTreeSet<Path>> = None;
    let mut findings = command.findings;
    findings.extend(elf::closure::check(subject, &command.programs, reached));
    findings.extend(hygiene::check(subject));
    findings.sort_by(|one, two| {
        (two.level, one.rule, &one.path, &one.message).cmp(&(one.level, two.rule, &two.path, &two.message))
    });
    findings.dedup();
    findings
}
