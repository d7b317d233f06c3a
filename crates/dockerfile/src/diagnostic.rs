//! What can be wrong with a user's text: rule, place, message and what to do about it.
//!
//! Values only; rendering with source lines and carets is the program's.

use crate::span::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Builds, but probably not what was meant.
    Warning,
    /// Cannot be built.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// A stable name in camel case, such as `UnknownInstruction` (BuildKit's name where it has one).
    pub rule: &'static str,
    /// How bad.
    pub severity: Severity,
    /// Where in the source.
    pub span: Span,
    /// Lower case, no period.
    pub message: String,
    /// What to do, if that can be said.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error without a hint.
    pub fn error(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { rule, severity: Severity::Error, span, message: message.into(), hint: None }
    }

    /// A warning without a hint.
    pub fn warning(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { rule, severity: Severity::Warning, span, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
