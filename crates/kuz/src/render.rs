//! Errors and findings as text for people: source lines with carets, causes, hints.
//!
//! Values in, a string out; nothing is printed here. Control characters from outside are escaped.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use kuz_build::error::{BuildError, Findings, StepFailure};
use kuz_build::smoke::{Report, SmokeFailure};
use kuz_build::{Diagnostic, Severity};

/// Whether escape sequences for colours may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    On,
    Off,
}

/// Of an instruction's line more is not shown: nobody reads on, and a terminal is soon full.
const LONGEST_LINE: usize = 400;

/// All findings of a text.
pub(crate) fn findings(findings: &Findings, colour: Colour) -> String {
    let renderer = match colour {
        Colour::On => Renderer::styled(),
        Colour::Off => Renderer::plain(),
    };
    let mut texts = Vec::new();
    for diagnostic in &findings.diagnostics {
        texts.push(one(diagnostic, findings, &renderer));
    }
    texts.join("\n\n") + "\n"
}

fn one(diagnostic: &Diagnostic, findings: &Findings, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let end = findings.source.len();
    let start = floor(&findings.source, diagnostic.span.start.min(end));
    let stop = floor(&findings.source, diagnostic.span.end.clamp(start, end));
    let message = clean(&diagnostic.message);
    let title = level.primary_title(message.as_str()).id(diagnostic.rule);
    let snippet = Snippet::source(findings.source.as_str())
        .path(findings.file.as_str())
        .annotation(AnnotationKind::Primary.span(start..stop));
    let hint = diagnostic.hint.as_deref().map(clean);
    let mut group = Group::with_title(title).element(snippet);
    if let Some(hint) = &hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group])
}

/// The nearest character boundary at or before `at`.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// A failed build, with its causes.
pub(crate) fn error(failure: &BuildError, colour: Colour) -> String {
    match failure {
        BuildError::Findings(found) => findings(found, colour),
        BuildError::Step(step) => step_failure(step),
        BuildError::Smoke(failure) => smoke_failure(failure),
        // The line that asked for the image, then why it cannot be had.
        BuildError::Remote { place: Some(place), source, .. } => findings(place, colour) + &causes(Some(source)),
        other => chain(other),
    }
}

/// `error: …` and one `caused by` line for each cause.
pub(crate) fn chain(failure: &dyn std::error::Error) -> String {
    format!("error: {}\n", clean(&failure.to_string())) + &causes(failure.source())
}

fn causes(first: Option<&dyn std::error::Error>) -> String {
    let mut text = String::new();
    let mut cause = first;
    while let Some(error) = cause {
        for (number, line) in clean(&error.to_string()).lines().enumerate() {
            text.push_str(if number == 0 { "  caused by: " } else { "    " });
            text.push_str(line);
            text.push('\n');
        }
        cause = error.source();
    }
    text
}

fn step_failure(step: &StepFailure) -> String {
    use std::fmt::Write as _;
    let name = &step.name;
    let mut text = format!("error: step failed: {}\n", step.ended);
    let _ = writeln!(text, "  --> {}:{}", step.file, name.line);
    for line in name.text.lines() {
        let shown: String = line.chars().take(LONGEST_LINE).collect();
        let more = if shown.len() < line.len() { "…" } else { "" };
        let _ = writeln!(text, "   | {}{more}", clean(&shown));
    }
    let _ = writeln!(text, "   = stage `{}`, step {} of {}", name.stage, name.step, name.steps);
    text + &tail(&step.tail)
}

/// The last lines that a command wrote.
fn tail(lines: &[String]) -> String {
    let heading = match lines.len() {
        0 => "   = it wrote nothing\n".to_owned(),
        1 => "   = the last line that it wrote:\n".to_owned(),
        count => format!("   = the last {count} lines that it wrote:\n"),
    };
    lines.iter().fold(heading, |text, line| text + "   > " + &clean(line) + "\n")
}

fn smoke_failure(failure: &SmokeFailure) -> String {
    let mut text = format!("error: smoke run failed: {}\n", clean_line(&failure.what)) + &tail(&failure.tail);
    if let Some(hint) = &failure.hint {
        text = text + "   = help: " + hint + "\n";
    }
    text
}

/// What a smoke run has seen.
pub(crate) fn smoke_report(report: &Report) -> String {
    let lines = report.lines().into_iter().map(|line| format!("smoke run: {}\n", clean_line(&line)));
    let warnings = report.warnings().into_iter().map(|line| format!("warning: smoke run: {}\n", clean_line(&line)));
    lines.chain(warnings).collect()
}

/// Control characters other than line ends are shown, not executed by the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let keep = c == '\n' || c == '\t' || !c.is_control();
            let escaped: Vec<char> = if keep { vec![c] } else { c.escape_default().collect() };
            escaped
        })
        .collect()
}

/// As [`clean`], and on one line: a name with a line end in it must not pass for a line of ours.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use kuz_build::Span;

    use super::*;

    #[test]
    fn a_finding_shows_its_line_and_a_caret() {
        let found = Findings {
            file: "Dockerfile".into(),
            source: "FROM scratch\nCOYP a b\n".into(),
            diagnostics: vec![
                Diagnostic::error("UnknownInstruction", Span::new(13, 17), "unknown instruction: COYP")
                    .hint("did you mean COPY?"),
            ],
        };
        let text = findings(&found, Colour::Off);
        for part in [
            "error[UnknownInstruction]: unknown instruction: COYP",
            "Dockerfile:2:1",
            "COYP a b",
            "^^^^",
            "did you mean COPY?",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn terminal_escapes_are_shown() {
        assert_eq!(clean("a\u{1b}[31mb\r"), "a\\u{1b}[31mb\\r");
        assert_eq!(clean_line("a\nnote: b\u{9b}"), "a\\nnote: b\\u{9b}");
    }
}
