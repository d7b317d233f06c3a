//! Rules about labels: their keys, and values of those that a schema names.
//!
//! The schema is the caller's: key and [`LabelForm`]. Labels that the OCI image specification names have forms of their own
//! without one. A value with a variable is not judged: it isn't known here.

use std::collections::{BTreeMap, BTreeSet};

use super::file::unquoted;
use super::forms::LabelForm;
use super::view::View;
use super::{Findings, Options};
use crate::ast::{Instruction, Kind, Pair};

/// What the specification's labels begin with.
const PREFIX: &str = "org.opencontainers.image.";
/// Beginnings of keys that Docker keeps for itself.
const RESERVED: [&str; 3] = ["com.docker.", "io.docker.", "org.dockerproject."];
/// Of the rule that only holds where a schema is meant to be the whole of it.
const SUPERFLUOUS: &str = "LabelSuperfluous";

pub(super) fn all(view: &View<'_>, options: &Options, findings: &mut Findings<'_>) {
    let strict = options.strict_labels || findings.check.names(SUPERFLUOUS);
    for stage in &view.stages {
        for instruction in stage.body {
            if let Kind::Label(pairs) = &instruction.kind {
                for pair in pairs {
                    label(view, instruction, pair, &options.label_schema, findings);
                    if strict {
                        superfluous(view, instruction, pair, options, findings);
                    }
                }
            }
        }
    }
    if let Some(last) = view.last().filter(|_| !options.label_schema.is_empty()) {
        let labels = view.chain(last).flat_map(|stage| stage.body).flat_map(|instruction| match &instruction.kind {
            Kind::Label(pairs) => pairs.as_slice(),
            _ => &[],
        });
        let present: BTreeSet<String> = labels.map(|pair| unquoted(&pair.key, view.escape)).collect();
        for missing in options.label_schema.keys().filter(|key| !present.contains(*key)) {
            let message = format!("the final stage has no label `{missing}`");
            findings.advise("LabelMissing", last.start, last.start.span, &message, format!("add LABEL {missing}=…"));
        }
    }
    findings.leave();
}

/// A label that the schema doesn't have.
fn superfluous(view: &View<'_>, at: &Instruction, pair: &Pair, options: &Options, findings: &mut Findings<'_>) {
    let key = unquoted(&pair.key, view.escape);
    if key.contains('$') || options.label_schema.contains_key(&key) {
        return;
    }
    let message = format!("the label `{key}` is none of the schema's");
    let known = options.label_schema.keys().map(String::as_str);
    let hint = match crate::suggest::nearest(&key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("leave it out, or allow it: --require-label {key}"),
    };
    findings.advise_asked(SUPERFLUOUS, at, pair.key.span, &message, hint);
}

fn label(
    view: &View<'_>,
    at: &Instruction,
    pair: &Pair,
    schema: &BTreeMap<String, LabelForm>,
    findings: &mut Findings<'_>,
) {
    let (key, value) = (unquoted(&pair.key, view.escape), unquoted(&pair.value, view.escape));
    if key.contains('$') {
        return;
    }
    if !is_key(&key) {
        let message = format!("the label's key `{key}` isn't written as keys are");
        let hint = "use lower case letters, digits, and single dots and hyphens between them";
        findings.advise("LabelKeySyntax", at, pair.key.span, &message, hint);
    } else if let Some(reserved) = RESERVED.iter().find(|reserved| key.starts_with(**reserved)) {
        let message = format!("keys that begin with `{reserved}` are reserved for Docker");
        let hint = "begin it with a domain of yours, backwards: com.example.NAME";
        findings.advise("LabelKeySyntax", at, pair.key.span, &message, hint);
    }
    if value.contains('$') {
        return;
    }
    let asked = schema.get(&key).copied();
    let form = asked.or_else(|| key.strip_prefix(PREFIX).map(LabelForm::of_specification));
    let Some(form) = form else { return };
    let finding = if value.is_empty() {
        Some(("LabelEmpty", "the label has no value".to_owned(), "give it one, or leave it out"))
    } else if form.fits(&value) {
        None
    } else {
        form.finding()
    };
    let Some((rule, message, hint)) = finding else { return };
    if asked.is_some() {
        findings.advise_asked(rule, at, pair.value.span, &message, hint);
    } else {
        findings.advise(rule, at, pair.value.span, &message, hint);
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
