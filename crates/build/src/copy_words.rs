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
                let hint = match near(from, path) {
                    _ if path.starts_with(['–', '—']) => "a flag begins with two hyphens: --".to_owned(),
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("paths are relative to {shown}: put the file there"),
                };
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

/// So many entries of the context are looked at for a name.
const MAX_LOOKED_AT: usize = 10_000;

/// What was meant, perhaps: a name in the same directory that is spelled nearly the same, else the same name elsewhere.
fn near(from: &LocalContext, missing: &str) -> Option<String> {
    beside(&from.path, missing).or_else(|| elsewhere(from, missing))
}

/// The nearest file of this name, by its path's depth, then by its path; what is ignored doesn't count.
fn elsewhere(from: &LocalContext, missing: &str) -> Option<String> {
    let name = missing.rsplit('/').next().filter(|name| !name.is_empty() && !name.contains(['*', '?', '[']))?;
    let mut level = vec![String::new()];
    let mut looked_at = 0;
    while !level.is_empty() {
        let (mut below, mut found) = (Vec::new(), Vec::new());
        for directory in level {
            for entry in std::fs::read_dir(from.path.join(&directory)).ok().into_iter().flatten().flatten() {
                looked_at += 1;
                if looked_at > MAX_LOOKED_AT {
                    return None;
                }
                let Ok(entry_name) = entry.file_name().into_string() else { continue };
                let path = if directory.is_empty() { entry_name.clone() } else { format!("{directory}/{entry_name}") };
                if from.ignore.matches(path.as_bytes()) {
                    continue;
                }
                if entry_name == name {
                    found.push(path.clone());
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    below.push(path);
                }
            }
        }
        if let Some(first) = found.into_iter().min() {
            return Some(first);
        }
        level = below;
    }
    None
}

fn beside(context: &Path, missing: &str) -> Option<String> {
    let (parent, name) = missing.rsplit_once('/').unwrap_or(("", missing));
    let names: Vec<String> = std::fs::read_dir(context.join(parent))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let other_case = names.iter().find(|other| other.to_lowercase() == name.to_lowercase());
    let spelled = || kuz_dockerfile::suggest::nearest(name, names.iter().map(String::as_str));
    let near = other_case.map(String::as_str).or_else(spelled)?;
    Some(if parent.is_empty() { near.to_owned() } else { format!("{parent}/{near}") })
}
