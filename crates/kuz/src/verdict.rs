//! Verdicts on images: as text for people, with the Dockerfile's line where it is known, as JSON and as SARIF.
//!
//! Values in, text out; nothing is printed here.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level as Severity, Renderer, Snippet};
use kuz_build::verdict::{Placed, Verdict};
use kuz_build::{Level, verify_rule};
use serde_json::{Value, json};

use crate::render::{Colour, clean, clean_line, floor};

/// Longer history lines are cut: scripts in heredocs.
const HISTORY: usize = 120;

/// All findings, for people.
pub(crate) fn text(verdict: &Verdict, colour: Colour) -> String {
    let renderer = match colour {
        Colour::On => Renderer::styled(),
        Colour::Off => Renderer::plain(),
    };
    let texts: Vec<String> = verdict.findings.iter().map(|placed| one(placed, verdict, &renderer)).collect();
    texts.join("\n\n") + "\n"
}

fn one(placed: &Placed, verdict: &Verdict, renderer: &Renderer) -> String {
    let finding = &placed.finding;
    let level = match finding.level {
        Level::Error => Severity::ERROR,
        Level::Warning => Severity::WARNING,
        Level::Note => Severity::NOTE,
    };
    let message = clean_line(&placed.headline());
    let mut group = Group::with_title(level.primary_title(message.as_str()).id(finding.rule));
    if let Some(span) = placed.span {
        let end = verdict.source.len();
        let start = floor(&verdict.source, span.start.min(end));
        let stop = floor(&verdict.source, span.end.clamp(start, end));
        let snippet = Snippet::source(verdict.source.as_str())
            .path(verdict.file.as_str())
            .annotation(AnnotationKind::Primary.span(start..stop));
        group = group.element(snippet);
    }
    let made_by = placed.made_by.as_deref().filter(|_| placed.span.is_none()).map(|line| {
        let line = clean_line(line);
        let short: String = line.chars().take(HISTORY).collect();
        let cut = if short.len() < line.len() { " …" } else { "" };
        format!("its layer was made by `{short}{cut}`")
    });
    let advice = finding.advice.as_ref().map(|advice| clean_line(&advice.text));
    let lines: Vec<String> = finding
        .advice
        .iter()
        .flat_map(|advice| &advice.lines)
        .map(|line| format!("add: {}", clean_line(line)))
        .collect();
    if let Some(text) = &made_by {
        group = group.element(Severity::NOTE.message(text.as_str()));
    }
    for text in advice.iter().chain(&lines) {
        group = group.element(Severity::HELP.message(text.as_str()));
    }
    renderer.render(&[group])
}

/// `1 error, 2 notes`
pub(crate) fn counts(verdict: &Verdict) -> String {
    let counts = [Level::Error, Level::Warning, Level::Note].map(|level| (verdict.count(level), level.name()));
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> =
        counts.map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" })).collect();
    if counts.is_empty() { "no findings".to_owned() } else { counts.join(", ") }
}

/// One object.
pub(crate) fn as_json(image: &str, verdict: &Verdict) -> Value {
    let one = |placed: &Placed| {
        let finding = &placed.finding;
        let mut value = json!({
            "rule": finding.rule,
            "severity": finding.level.name(),
            "message": finding.message,
        });
        let fields = [
            ("path", finding.path.clone().map(Value::from)),
            ("layer", finding.layer.map(Value::from)),
            ("madeBy", placed.made_by.clone().map(Value::from)),
            ("hint", finding.advice.as_ref().map(|advice| advice.text.clone().into())),
            (
                "lines",
                finding
                    .advice
                    .as_ref()
                    .filter(|advice| !advice.lines.is_empty())
                    .map(|advice| advice.lines.clone().into()),
            ),
            ("description", verify_rule(finding.rule).map(|rule| rule.description.into())),
        ];
        for (name, field) in fields {
            if let Some(field) = field {
                value[name] = field;
            }
        }
        value
    };
    json!({ "image": image, "findings": verdict.findings.iter().map(one).collect::<Vec<_>>() })
}

/// A log of the Static Analysis Results Interchange Format. Places are files of the image.
pub(crate) fn as_sarif(image: &str, verdict: &Verdict) -> Value {
    let mut rules: Vec<&str> = verdict.findings.iter().map(|placed| placed.finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    let describe = |name: &&str| {
        let text = verify_rule(name).map_or("", |rule| rule.description);
        json!({ "id": name, "shortDescription": { "text": text } })
    };
    let result = |placed: &Placed| {
        let finding = &placed.finding;
        let mut text = clean(&finding.message);
        if let Some(advice) = &finding.advice {
            let _ = write!(text, " ({})", clean(&advice.text));
            for line in &advice.lines {
                let _ = write!(text, "\n{}", clean_line(line));
            }
        }
        let mut location = json!({ "logicalLocations": [{ "fullyQualifiedName": image, "kind": "module" }] });
        if let Some(path) = &finding.path {
            let uri = crate::findings::uri(path.trim_start_matches('/'));
            location["physicalLocation"] = json!({ "artifactLocation": { "uri": uri } });
        }
        json!({
            "ruleId": finding.rule,
            "ruleIndex": rules.binary_search(&finding.rule).unwrap_or_default(),
            "level": finding.level.name(),
            "message": { "text": text },
            "locations": [location],
        })
    };
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{
            "tool": { "driver": {
                "name": "kuz",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(describe).collect::<Vec<_>>(),
            }},
            "results": verdict.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}
