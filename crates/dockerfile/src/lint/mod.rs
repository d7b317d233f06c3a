//! Advice about a Dockerfile that can be given from its tree alone.
//!
//! A [`Dockerfile`] in, diagnostics out, by place. `# check=` and hadolint's comments are honoured. Rules that need
//! variables, images or the context are in the table ([`RULES`]) and are checked by whoever knows those.
//!
//! ```text
//! rules: the table · check: which rules are wanted · file, stage: BuildKit's · view, shell: what the others look at
//! image, commands, labels, forms: hadolint's · python: P1 to P11 and more · slips: our own
//! ```

mod check;
mod commands;
mod file;
mod forms;
mod image;
mod labels;
mod python;
mod rules;
mod shell;
mod slips;
mod stage;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{Dockerfile, Instruction};
use crate::diagnostic::{Diagnostic, Severity};
use crate::span::Span;
use crate::syntax;

pub use check::{Check, CheckError};
pub use forms::{LabelForm, UnknownForm};
pub use python::{requirement_files, unpinned};
pub use rules::{Family, Needs, RULES, Rule, Scope, document, is_known, rule, what_to_do};

/// More findings are not kept: nobody reads them.
const MAX_FINDINGS: usize = 1000;

/// What rules have to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Registries that base images may come from; any, if there's none.
    pub trusted_registries: BTreeSet<String>,
    /// Labels that the final stage must have, and what their values are.
    pub label_schema: BTreeMap<String, LabelForm>,
    /// No labels but those.
    pub strict_labels: bool,
    /// What the file's `# syntax=` is replaced by.
    pub syntax: Option<String>,
}

/// Checks a file as it asks to be checked.
pub fn lint(file: &Dockerfile) -> Vec<Diagnostic> {
    lint_with(file, &Check::of_file(file).with_global_comments(file), &Options::default())
}

/// Checks a file as somebody else asks.
pub fn lint_with(file: &Dockerfile, check: &Check, options: &Options) -> Vec<Diagnostic> {
    let mut findings = Findings { found: Vec::new(), check, here: check.clone() };
    for (name, span, message, hint) in syntax::warnings(file, options.syntax.as_deref()) {
        findings.push(name, Diagnostic::warning(name, span, message).hint(hint));
    }
    file::all(file, &mut findings);
    stage::all(file, &mut findings);
    let view = view::View::new(file);
    image::all(&view, options, &mut findings);
    commands::all(&view, &mut findings);
    labels::all(&view, options, &mut findings);
    python::all(&view, &mut findings);
    slips::all(file, &mut findings);
    findings.found.sort_by_key(|found| found.span.start);
    findings.found.truncate(MAX_FINDINGS);
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
        self.push(name, Diagnostic::warning(name, span, message));
    }

    /// A finding in an instruction, with what to do.
    fn advise(&mut self, name: &'static str, at: &Instruction, span: Span, message: &str, hint: impl Into<String>) {
        self.enter(at);
        self.push(name, Diagnostic::warning(name, span, message).hint(hint));
    }

    /// The same of something that the caller asked for by name: also where the rule is off by itself, and a warning.
    fn advise_asked(
        &mut self,
        name: &'static str,
        at: &Instruction,
        span: Span,
        message: &str,
        hint: impl Into<String>,
    ) {
        self.enter(at);
        if !self.here.skips(name) {
            self.found.push(Diagnostic::warning(name, span, message).hint(hint));
        }
    }

    fn push(&mut self, name: &'static str, found: Diagnostic) {
        if self.here.allows(name) {
            let severity = rule(name).map_or(Severity::Warning, |rule| rule.severity);
            let hint = found.hint.or_else(|| what_to_do(name).map(str::to_owned));
            self.found.push(Diagnostic { severity, hint, ..found });
        }
    }
}

#[cfg(test)]
mod tests;
