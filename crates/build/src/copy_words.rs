//! Words for what is wrong with a COPY, ADD or WORKDIR: errors to findings at the instruction.
//!
//! Says what was looked for where, and the nearest name that is there. Decides nothing.

use std::path::Path;

use kuz_dockerfile::{Diagnostic, Span};
use kuz_plan::plan::{Copy, Op, Source as From, Step, Word};
use kuz_rootfs::context::ContextError;
use kuz_rootfs::copy::CopyError;

use crate::contexts::LocalContext;
use crate::copy_step::Failed;
use crate::error::{BuildError, Findings};
use crate::execute::Execution;
use crate::selection::SelectionError;

impl Execution<'_> {
    pub(crate) fn line(&self, span: Span) -> usize {
        kuz_dockerfile::line_of(&self.inputs.dockerfile.source, span.start)
    }

    pub(crate) fn finding(&self, rule: &'static str, span: Span, message: String, hint: Option<String>) -> BuildError {
        let mut diagnostic = Diagnostic::error(rule, span, message);
        diagnostic.hint = hint;
        BuildError::Findings(Box::new(Findings {
            file: self.inputs.file.clone(),
            source: self.inputs.dockerfile.source.clone(),
            diagnostics: vec![diagnostic],
        }))
    }

    /// Puts the line that asked for it before what could not be fetched.
    pub(crate) fn placed(&self, error: BuildError, span: Span) -> BuildError {
        let place = |action: String| format!("{}:{}: {action}", self.inputs.file, self.line(span));
        match error {
            BuildError::Remote { action, source, place: None } => {
                BuildError::Remote { action: place(action), source, place: None }
            }
            BuildError::Fetch { action, source } => BuildError::Fetch { action: place(action), source },
            BuildError::Refused { action, source } => BuildError::Refused { action: place(action), source },
            other => other,
        }
    }

    pub(crate) fn explain(&self, failed: Failed, step: &Step) -> BuildError {
        let span = step.span;
        match failed {
            Failed::Build(error) => error,
            Failed::Changed => BuildError::input("files of the context changed while they were read"),
            Failed::Copy(CopyError::Write(error)) => BuildError::store("write a layer", error),
            Failed::Copy(CopyError::Context(error)) => self.context_error(self.context_of(step), &error, span),
            Failed::Copy(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.finding("CopyFailed", span, format!("{error}{cause}"), None)
            }
        }
    }

    /// The directory that a step reads.
    fn context_of(&self, step: &Step) -> &LocalContext {
        let named = match &step.op {
            Op::Copy(copy) | Op::Add(copy) => match &copy.from {
                From::Named(name) => self.named(name).ok(),
                _ => None,
            },
            _ => None,
        };
        named.unwrap_or(&self.inputs.context)
    }

    /// As [`Self::context_error`], for what a word names: a path does not lead out of the context.
    pub(crate) fn source_error(&self, from: &LocalContext, error: &ContextError, word: &Word) -> BuildError {
        let climbs = word.text.split('/').any(|part| part == "..");
        let ContextError::NotFound { path } = error else { return self.context_error(from, error, word.span) };
        if !climbs {
            return self.context_error(from, error, word.span);
        }
        let message = format!("`{}` stands for `{path}` in {}, and that is not there", word.text, from.shown);
        let hint =
            "nothing above the context can be copied: build from the directory above, and name the Dockerfile with -f";
        self.finding("CopySourceNotFound", word.span, message, Some(hint.to_owned()))
    }

    pub(crate) fn context_error(&self, from: &LocalContext, error: &ContextError, span: Span) -> BuildError {
        let shown = &from.shown;
        match error {
            ContextError::NotFound { path } => {
                let hint = near(&from.path, path).map_or_else(
                    || format!("paths are relative to {shown}: put the file there"),
                    |near| format!("did you mean `{near}`?"),
                );
                self.finding("CopySourceNotFound", span, format!("`{path}` is not in {shown}"), Some(hint))
            }
            ContextError::Ignored { path } => {
                let name = from.ignore_name.as_deref().unwrap_or(".dockerignore");
                let decision = from.ignore.decide(path.as_bytes());
                let rule = decision.map(|decision| {
                    let pattern = decision.pattern;
                    format!(
                        "line {} of {name} says `{}`: change it, or add `!{path}` below it",
                        decision.line,
                        String::from_utf8_lossy(pattern)
                    )
                });
                let hint = rule.unwrap_or_else(|| format!("add `!{path}` to {name} to keep it"));
                self.finding("CopySourceIgnored", span, format!("`{path}` is excluded by {name}"), Some(hint))
            }
            _ => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.finding("CopyFailed", span, format!("{error}{cause}"), None)
            }
        }
    }

    pub(crate) fn selection_error(&self, error: &SelectionError, copy: &Copy, word: &Word) -> BuildError {
        let place = match &copy.from {
            From::Stage(id) => {
                let stage = self.plan.stages.get(id.0);
                let name = stage.map(|stage| stage.name.clone().unwrap_or_else(|| stage.number.to_string()));
                format!("stage `{}`", name.unwrap_or_default())
            }
            From::Image(source) => format!("image `{}`", source.reference),
            From::Context | From::Named(_) => "the source".to_owned(),
        };
        let message = match error {
            SelectionError::NotFound { .. } => format!("`{}` does not exist in {place}", word.text),
            other => {
                format!("{other}: {}", std::error::Error::source(other).map(ToString::to_string).unwrap_or_default())
            }
        };
        self.finding("CopySourceNotFound", word.span, message, None)
    }
}

/// A name in the same directory of the context that is spelled nearly the same.
fn near(context: &Path, missing: &str) -> Option<String> {
    let (parent, name) = missing.rsplit_once('/').unwrap_or(("", missing));
    let names: Vec<String> = std::fs::read_dir(context.join(parent))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = kuz_dockerfile::suggest::nearest(name, names.iter().map(String::as_str))?;
    Some(if parent.is_empty() { near.to_owned() } else { format!("{parent}/{near}") })
}
