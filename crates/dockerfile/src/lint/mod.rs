//! Advice about a Dockerfile that can be given from its tree alone.
//!
//! A [`Dockerfile`] in, diagnostics out, by place. `# check=skip=` is honoured. Rules that need variables, images or
//! the context are in the table ([`RULES`]) and are checked by whoever knows those.

mod check;
mod file;
mod rules;
mod stage;

use crate::ast::{Dockerfile, Instruction};
use crate::diagnostic::Diagnostic;
use crate::span::Span;

pub use check::{Check, CheckError};
pub use rules::{RULES, Rule, Scope, rule};

/// Checks a file as it asks to be checked.
pub fn lint(file: &Dockerfile) -> Vec<Diagnostic> {
    lint_with(file, &Check::of_file(file))
}

/// Checks a file as somebody else asks.
pub fn lint_with(file: &Dockerfile, check: &Check) -> Vec<Diagnostic> {
    let mut findings = Findings { found: Vec::new(), check, here: check.clone() };
    file::all(file, &mut findings);
    stage::all(file, &mut findings);
    findings.found.sort_by_key(|found| found.span.start);
    findings.found
}

/// What has been found, and what may be reported at the moment.
struct Findings<'c> {
    found: Vec<Diagnostic>,
    check: &'c Check,
    here: Check,
}

impl Findings<'_> {
    /// From here on about this instruction.
    fn enter(&mut self, instruction: &Instruction) {
        self.here = self.check.with_comments(instruction);
    }

    /// From here on about the file.
    fn leave(&mut self) {
        self.here = self.check.clone();
    }

    fn add(&mut self, name: &'static str, span: Span, message: impl Into<String>) {
        if self.here.allows(name) {
            let severity = rule(name).map_or(crate::Severity::Warning, |rule| rule.severity);
            self.found.push(Diagnostic { severity, ..Diagnostic::warning(name, span, message) });
        }
    }
}

#[cfg(test)]
mod tests;
