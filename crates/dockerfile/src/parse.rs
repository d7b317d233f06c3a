//! A whole Dockerfile: bytes to a tree and everything that is wrong with them.
//!
//! Bytes in, [`Parsed`] out, whatever the bytes are. What depends on variables, images or files isn't judged here, and
//! advice is [`crate::lint`]'s.

use crate::ast::{Dockerfile, Instruction};
use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::{self, Scene};
use crate::lint::Check;
use crate::span::{Span, line_of};
use crate::statement::{self, Statement};
use crate::{directive, source};

/// Findings beyond this are not kept: the file is something else than a Dockerfile.
const MAX_DIAGNOSTICS: usize = 1000;

/// What parsing gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// All instructions that could be read.
    pub file: Dockerfile,
    /// All findings, by place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Is there anything that cannot be built?
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Error)
    }
}

/// Parses a Dockerfile.
pub fn parse(source: &[u8]) -> Parsed {
    let mut encoding = Vec::new();
    let source = source::decode(source, &mut encoding);
    let mut sink = Vec::new();
    if source.is_empty() && !encoding.is_empty() {
        return Parsed { file: Dockerfile::default(), diagnostics: encoding };
    }
    let top = directive::read(&source, &mut sink);
    if let Some(check) = &top.directives.check
        && let Err(error) = Check::parse(directive::first_word(&check.value))
    {
        let hint = "write for example # check=skip=RULE,RULE or # check=error=true, several joined by ;";
        sink.push(Diagnostic::error("InvalidDirective", check.span, error.to_string()).hint(hint));
    }
    let statements = statement::read(&source, top.end, top.directives.escape_char(), &mut sink);
    judge_order(&statements, &source, &mut sink);
    let instructions = instructions(&statements, &source, &mut sink);
    let file = Dockerfile { source, directives: top.directives, instructions };
    sink.extend(encoding.into_iter().map(|found| soften_in_comment(found, &file.source, &statements)));
    sink.sort_by_key(|found| found.span.start);
    sink.truncate(MAX_DIAGNOSTICS);
    Parsed { file, diagnostics: sink }
}

/// Parses one instruction by itself, as an image's configuration holds it for ONBUILD. Spans point into `text`.
pub fn parse_one(text: &str) -> Result<Instruction, Vec<Diagnostic>> {
    let mut sink = Vec::new();
    let statements = statement::read(text, 0, '\\', &mut sink);
    let mut instructions = instructions(&statements, text, &mut sink);
    sink.retain(|found| found.severity == Severity::Error);
    if sink.is_empty() && instructions.len() == 1 {
        return instructions.pop().ok_or(sink);
    }
    if sink.is_empty() {
        let all = Span::new(0, text.len());
        sink.push(Diagnostic::error("InvalidOnbuild", all, "onbuild trigger should be a single expression"));
    }
    Err(sink)
}

fn instructions(statements: &[Statement], source: &str, sink: &mut Vec<Diagnostic>) -> Vec<Instruction> {
    let mut scene = Scene { source, sink };
    statements.iter().filter_map(|statement| instruction::read(statement, &mut scene)).collect()
}

/// Only ARG may stand before the first FROM, and there must be one.
fn judge_order(statements: &[Statement], source: &str, sink: &mut Vec<Diagnostic>) {
    let end = Span::new(source.len(), source.len());
    let first = statements.iter().position(|statement| statement.name() == "FROM");
    if statements.is_empty() && sink.is_empty() {
        let found = Diagnostic::error("EmptyDockerfile", end, "file with no instructions");
        sink.push(found.hint("begin it with FROM and an image, such as FROM python:3.10"));
    }
    for statement in &statements[..first.unwrap_or(statements.len())] {
        if statement::INSTRUCTIONS.contains(&statement.name().as_str()) && statement.name() != "ARG" {
            let found = Diagnostic::error("NoBuildStage", statement.span, "no build stage in current context");
            sink.push(found.hint("begin the file with FROM; only ARG may stand before it"));
        }
    }
    if first.is_none() && sink.is_empty() {
        let found = Diagnostic::error("NoBuildStage", end, "dockerfile contains no stages to build");
        sink.push(found.hint("add a line with FROM and an image, such as FROM python:3.10"));
    }
}

/// Bytes that are no text do no harm in a comment (of other people's names, mostly).
fn soften_in_comment(found: Diagnostic, source: &str, statements: &[Statement]) -> Diagnostic {
    let at = found.span.start;
    let begin = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let comment = source[begin..].trim_start().starts_with('#');
    let within = |span: Span| span.start <= at && at < span.end;
    let in_body = statements.iter().flat_map(|statement| &statement.heredocs).any(|heredoc| within(heredoc.body));
    let severity = if comment && !in_body { Severity::Warning } else { found.severity };
    Diagnostic { severity, ..found }
}

impl Dockerfile {
    /// The first and last line of a place, from 1.
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = span.end.saturating_sub(1).max(span.start);
        (line_of(&self.source, span.start), line_of(&self.source, last))
    }
}

#[cfg(test)]
mod tests;
