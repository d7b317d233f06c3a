//! Rules about labels: their keys, and the values of those that the OCI image specification names.

use std::collections::BTreeSet;

use super::file::unquoted;
use super::view::View;
use super::{Findings, Options};
use crate::ast::{Instruction, Kind, Pair};

/// What the specification's labels begin with.
const PREFIX: &str = "org.opencontainers.image.";

pub(super) fn all(view: &View<'_>, options: &Options, findings: &mut Findings<'_>) {
    for stage in &view.stages {
        for instruction in stage.body {
            if let Kind::Label(pairs) = &instruction.kind {
                for pair in pairs {
                    label(view, instruction, pair, findings);
                }
            }
        }
    }
    if let Some(last) = view.last().filter(|_| !options.required_labels.is_empty()) {
        let labels = view.chain(last).flat_map(|stage| stage.body).flat_map(|instruction| match &instruction.kind {
            Kind::Label(pairs) => pairs.as_slice(),
            _ => &[],
        });
        let present: BTreeSet<String> = labels.map(|pair| unquoted(&pair.key, view.escape)).collect();
        for missing in options.required_labels.difference(&present) {
            let message = format!("the final stage has no label `{missing}`");
            findings.advise("LabelMissing", last.start, last.start.span, &message, format!("add LABEL {missing}=…"));
        }
    }
    findings.leave();
}

fn label(view: &View<'_>, at: &Instruction, pair: &Pair, findings: &mut Findings<'_>) {
    let (key, value) = (unquoted(&pair.key, view.escape), unquoted(&pair.value, view.escape));
    if key.contains('$') {
        return;
    }
    if !is_key(&key) {
        let message = format!("the label's key `{key}` isn't written as keys are");
        let hint = "use lower case letters, digits, and single dots and hyphens between them";
        findings.advise("LabelKeySyntax", at, pair.key.span, &message, hint);
    }
    let Some(name) = key.strip_prefix(PREFIX).filter(|_| !value.contains('$')) else { return };
    let mut wrong = |rule, message: &str, hint: &str| findings.advise(rule, at, pair.value.span, message, hint);
    match name {
        _ if value.is_empty() => wrong("LabelEmpty", "the label has no value", "give it one, or leave it out"),
        "url" | "source" | "documentation" if !is_url(&value) => {
            wrong("LabelNoUrl", "the label's value is no URL", "write https://…");
        }
        "created" if !is_time(&value) => {
            wrong("LabelNoTime", "the label's value is no time", "write it as 2026-01-31T12:00:00Z");
        }
        "licenses" if !is_license(&value) => {
            wrong("LabelNoLicense", "the label's value is no SPDX expression", "write for example MIT OR Apache-2.0");
        }
        "revision" if !is_commit(&value) => {
            wrong("LabelNoRevision", "the label's value is no commit", "write its 40 digits");
        }
        "version" if !is_version(&value) => {
            wrong("LabelNoVersion", "the label's value is no semantic version", "write MAJOR.MINOR.PATCH");
        }
        _ => {}
    }
}

fn is_key(key: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | '/');
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && key.chars().all(inner)
        && !key.contains("..")
        && !key.contains("--")
}

fn is_url(value: &str) -> bool {
    value.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) && !rest.is_empty()
    })
}

/// `2026-01-31T12:00:00Z`, with a fraction and an offset if there are such.
fn is_time(value: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let bytes = value.as_bytes();
    let fits = |(&byte, &shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == other,
    };
    if bytes.len() <= SHAPE.len() || !bytes.iter().zip(SHAPE).all(fits) {
        return false;
    }
    let rest = value.get(SHAPE.len()..).unwrap_or_default();
    let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = rest.strip_prefix(['+', '-']).and_then(|offset| offset.split_once(':'));
    let two = |digits: &str| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    matches!(rest, "Z" | "z") || offset.is_some_and(|(hours, minutes)| two(hours) && two(minutes))
}

/// Names between AND, OR and WITH. Whether there's a license of that name isn't asked.
fn is_license(value: &str) -> bool {
    let bare = value.replace(['(', ')'], " ");
    let words: Vec<&str> = bare.split_whitespace().collect();
    let name = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | ':'));
    words.len() % 2 == 1
        && words.iter().enumerate().all(|(place, word)| {
            let operator = matches!(*word, "AND" | "OR" | "WITH");
            if place % 2 == 1 { operator } else { !operator && name(word) }
        })
}

fn is_commit(value: &str) -> bool {
    (7..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_version(value: &str) -> bool {
    let core = value.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}
