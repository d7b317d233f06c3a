//! Findings of a Dockerfile in the forms that programs read: JSON, SARIF, annotations of GitHub Actions.
//!
//! Values in, text out. Lines and columns count from 1, columns in characters. The form for people is [`crate::render`]'s.

use std::fmt::Write as _;

use kuz_build::error::Findings;
use kuz_build::{Diagnostic, Severity, rule};
use serde_json::{Value, json};

/// Where a finding begins and ends; the end is behind its last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

/// Places of a text, found without reading it from the start for each.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let at = (0..=at.min(self.text.len())).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0);
        let line = self.starts.partition_point(|&start| start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        (line, 1 + self.text.get(start..at).map_or(0, |before| before.chars().count()))
    }

    fn region(&self, finding: &Diagnostic) -> Region {
        let (line, column) = self.place(finding.span.start);
        let (end_line, end_column) = self.place(finding.span.end.max(finding.span.start));
        Region { line, column, end_line, end_column }
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// One object: the file and its findings.
pub(crate) fn as_json(found: &Findings) -> Value {
    let lines = Lines::new(&found.source);
    let one = |finding: &Diagnostic| {
        let Region { line, column, end_line, end_column } = lines.region(finding);
        let mut value = json!({
            "rule": finding.rule,
            "severity": severity(finding.severity),
            "message": finding.message,
            "line": line,
            "column": column,
            "endLine": end_line,
            "endColumn": end_column,
        });
        if let Some(hint) = &finding.hint {
            value["hint"] = hint.as_str().into();
        }
        if let Some(rule) = rule(finding.rule) {
            value["family"] = rule.family.name().into();
            value["codes"] = rule.codes.into();
            value["description"] = rule.description.into();
        }
        value
    };
    json!({ "file": found.file, "findings": found.diagnostics.iter().map(one).collect::<Vec<_>>() })
}

/// As `docker build --call=check,format=json` writes it.
pub(crate) fn as_buildkit_json(found: &Findings) -> Value {
    let lines = Lines::new(&found.source);
    let location = |finding: &Diagnostic| {
        let Region { line, end_line, .. } = lines.region(finding);
        json!({ "ranges": [{ "start": { "line": line }, "end": { "line": end_line } }] })
    };
    let warning = |finding: &Diagnostic| {
        json!({
            "ruleName": finding.rule,
            "description": rule(finding.rule).map_or("", |rule| rule.description),
            "detail": finding.message,
            "location": location(finding),
        })
    };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        found.diagnostics.iter().partition(|finding| finding.severity == Severity::Error);
    let mut value = json!({
        "warnings": warnings.into_iter().map(warning).collect::<Vec<_>>(),
        "sources": [{ "filename": found.file }],
    });
    if let Some(first) = errors.first() {
        value["buildError"] = json!({ "message": first.message, "location": location(first) });
    }
    value
}

/// A log of the Static Analysis Results Interchange Format.
pub(crate) fn as_sarif(found: &Findings) -> Value {
    let lines = Lines::new(&found.source);
    let mut rules: Vec<&str> = found.diagnostics.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    let describe = |name: &&str| {
        let text = rule(name).map_or("the Dockerfile cannot be built", |rule| rule.description);
        json!({ "id": name, "shortDescription": { "text": text } })
    };
    let result = |finding: &Diagnostic| {
        let Region { line, column, end_line, end_column } = lines.region(finding);
        let text = match &finding.hint {
            Some(hint) => format!("{} ({hint})", finding.message),
            None => finding.message.clone(),
        };
        json!({
            "ruleId": finding.rule,
            "ruleIndex": rules.binary_search(&finding.rule).unwrap_or_default(),
            "level": severity(finding.severity),
            "message": { "text": text },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": uri(&found.file) },
                "region": { "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column },
            }}],
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
            "columnKind": "unicodeCodePoints",
            "results": found.diagnostics.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

/// A path as a relative reference.
pub(crate) fn uri(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Workflow commands: a line for each finding.
pub(crate) fn as_github(found: &Findings) -> String {
    let lines = Lines::new(&found.source);
    let mut text = String::new();
    for finding in &found.diagnostics {
        let Region { line, column, end_line, end_column } = lines.region(finding);
        let command = if finding.severity == Severity::Note { "notice" } else { severity(finding.severity) };
        let _ = write!(text, "::{command} file={},line={line},endLine={end_line}", property(&found.file));
        // Columns are understood within a line only.
        if line == end_line {
            let _ = write!(text, ",col={column},endColumn={end_column}");
        }
        let hint = finding.hint.as_ref().map_or_else(String::new, |hint| format!("\n{hint}"));
        let _ = writeln!(text, ",title={}::{}", property(finding.rule), message(&format!("{}{hint}", finding.message)));
    }
    text
}

fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use kuz_build::Span;

    use super::*;

    fn found() -> Findings {
        Findings {
            file: "docker files/Dockerfile".into(),
            source: "FROM a\n# é\nRUN é b \\\n c\n".into(),
            diagnostics: vec![
                Diagnostic::warning("UntaggedBase", Span::new(5, 6), "100%: no tag").hint("write a:1"),
                Diagnostic::error("Other", Span::new(19, 24), "two lines"),
            ],
        }
    }

    #[test]
    fn json_has_places_and_rules() {
        let value = as_json(&found());
        let first = &value["findings"][0];
        assert_eq!((&first["line"], &first["column"], &first["endColumn"]), (&1.into(), &6.into(), &7.into()));
        assert_eq!((&first["family"], &first["codes"][0]), (&"hadolint".into(), &"DL3006".into()));
        let second = &value["findings"][1];
        assert_eq!((&second["line"], &second["column"], &second["endLine"]), (&3.into(), &7.into(), &4.into()));
    }

    #[test]
    fn annotations_escape_what_ends_them() {
        let text = as_github(&found());
        let want = "::warning file=docker files/Dockerfile,line=1,endLine=1,col=6,endColumn=7,title=UntaggedBase::100%25: no tag%0Awrite a:1\n";
        assert!(text.starts_with(want), "{text}");
        assert!(
            text.contains("::error file=docker files/Dockerfile,line=3,endLine=4,title=Other::two lines\n"),
            "{text}"
        );
    }

    #[test]
    fn sarif_and_buildkits_form() {
        let value = as_sarif(&found());
        let run = &value["runs"][0];
        assert_eq!(run["results"][0]["ruleId"], run["tool"]["driver"]["rules"][1]["id"]);
        assert_eq!(run["results"][0]["ruleIndex"], 1);
        let file = &run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        assert_eq!(file, "docker%20files/Dockerfile");
        let value = as_buildkit_json(&found());
        assert_eq!(value["warnings"][0]["ruleName"], "UntaggedBase");
        assert_eq!(value["buildError"]["location"]["ranges"][0]["start"]["line"], 3);
    }
}
