//! Rules about the file as a whole and its FROM lines.

use std::collections::BTreeSet;

use super::Findings;
use crate::ast::{Dockerfile, From, Instruction, Kind, Word};
use crate::source::{Item, Reader};
use crate::span::Span;
use crate::word::{Lexer, expand_reporting};

pub(super) fn all(file: &Dockerfile, findings: &mut Findings<'_>) {
    let escape = file.directives.escape_char();
    findings.leave();
    casing(file, findings);
    let mut names = BTreeSet::new();
    for instruction in &file.instructions {
        findings.leave();
        empty_continuation(file, instruction, escape, findings);
        if let Kind::From(from) = &instruction.kind {
            name_once(from, instruction, &mut names, findings);
        }
        findings.enter(instruction);
        match &instruction.kind {
            Kind::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label";
                findings.add("MaintainerDeprecated", instruction.span, message);
            }
            Kind::From(from) => stage_start(from, instruction, escape, findings),
            Kind::Arg(items) => {
                let names: Vec<_> = items.iter().map(|item| &item.name).collect();
                description(instruction, "ARG", &names, findings);
            }
            _ => {}
        }
    }
    findings.leave();
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

/// The case that most instructions have is the one for all. ARG before the first FROM is not counted.
fn casing(file: &Dockerfile, findings: &mut Findings<'_>) {
    let keywords: Vec<&Word> = file
        .instructions
        .iter()
        .skip_while(|instruction| !matches!(instruction.kind, Kind::From(_)))
        .map(|instruction| &instruction.keyword)
        .collect();
    let lower = keywords.iter().filter(|keyword| is_lower(&keyword.value)).count();
    let upper = keywords.iter().filter(|keyword| is_upper(&keyword.value)).count();
    let (fits, name): (fn(&str) -> bool, _) =
        if lower > upper { (is_lower, "lowercase") } else { (is_upper, "uppercase") };
    for keyword in keywords.into_iter().filter(|keyword| !fits(&keyword.value)) {
        let message = format!("Command '{}' should match the case of the command majority ({name})", keyword.value);
        findings.add("ConsistentInstructionCasing", keyword.span, message);
    }
}

fn empty_continuation(file: &Dockerfile, instruction: &Instruction, escape: char, findings: &mut Findings<'_>) {
    // The tree doesn't keep blank lines; the instruction's own lines still do.
    let start = instruction.span.start;
    let Some(Item::Line(line)) = Reader::new(&file.source[start..], escape).next() else { return };
    if let Some(last) = line.empty_continuation {
        let span = Span::new(start + last.start, start + last.end);
        findings.add("NoEmptyContinuation", span, "Empty continuation line");
    }
}

fn name_once(from: &From, instruction: &Instruction, names: &mut BTreeSet<String>, findings: &mut Findings<'_>) {
    let Some(alias) = &from.alias else { return };
    let name = alias.value.to_lowercase();
    if matches!(name.as_str(), "scratch" | "context") {
        let message = format!("Stage name should not use the same name as reserved stage {name:?}");
        findings.add("ReservedStageName", instruction.span, message);
    }
    if names.contains(&name) {
        let message = format!("Duplicate stage name {name:?}, stage names should be unique");
        findings.add("DuplicateStageName", instruction.span, message);
    }
    names.insert(name);
}

fn stage_start(from: &From, instruction: &Instruction, escape: char, findings: &mut Findings<'_>) {
    if let Some(alias) = &from.alias {
        if !is_lower(&alias.value) {
            let message = format!("Stage name '{}' should be lowercase", alias.value);
            findings.add("StageNameCasing", alias.span, message);
        }
        description(instruction, "FROM", &[alias], findings);
    }
    if let Some(keyword) = &from.as_keyword {
        let from = &instruction.keyword.value;
        // A FROM in mixed case is ConsistentInstructionCasing's.
        let fits = if is_lower(from) { is_lower(&keyword.value) } else { !is_upper(from) || is_upper(&keyword.value) };
        if !fits {
            let message = format!("'{}' and '{from}' keywords' casing do not match", keyword.value);
            findings.add("FromAsCasing", keyword.span, message);
        }
    }
    if let Some(platform) = &from.platform {
        platform_flag(from, platform, escape, findings);
    }
}

/// Two rules that ask which variables a platform is made of. Their values don't matter, so each is its own name.
fn platform_flag(from: &From, platform: &Word, escape: char, findings: &mut Findings<'_>) {
    let named = |name: &str| Some(format!("<{name}>"));
    let Ok(expanded) = expand_reporting(&platform.value, &named, escape) else { return };
    let written = &platform.value;
    if expanded.text == "<TARGETPLATFORM>" {
        let message =
            format!("Setting platform to predefined {written} in FROM is redundant as this is the default behavior");
        findings.add("RedundantTargetPlatform", platform.span, message);
    }
    if !expanded.used.is_empty() || !is_platform(&expanded.text) {
        return;
    }
    let stage = from.alias.as_ref().map_or(String::new(), |alias| alias.value.to_lowercase());
    let mut parts = expanded.text.split('/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    if !stage.contains(first) && !second.is_some_and(|part| stage.contains(normal_architecture(part))) {
        let message = format!("FROM --platform flag should not use constant value {:?}", expanded.text);
        findings.add("FromPlatformFlagConstDisallowed", platform.span, message);
    }
}

fn is_platform(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    (1..=3).contains(&text.split('/').count()) && text.split('/').all(part)
}

/// Names that a platform's architecture is also known by.
fn normal_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        "i386" => "386",
        other => other,
    }
}

fn description(instruction: &Instruction, keyword: &str, names: &[&Word], findings: &mut Findings<'_>) {
    let Some(comment) = instruction.comments.last() else { return };
    let first = comment.value.split(' ').next().unwrap_or_default();
    // A stage's name counts in lower case, as everything else that refers to it.
    let name_of = |word: &Word| if keyword == "FROM" { word.value.to_lowercase() } else { word.value.clone() };
    if names.iter().any(|name| name_of(name) == first) {
        return;
    }
    let example = match names {
        [only] => name_of(only),
        _ => "<arg_key>".to_owned(),
    };
    let message = format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    findings.add("InvalidDefinitionDescription", instruction.span, message);
}

/// Kept beside its only user: a lexer that shows a word without its quotes.
pub(super) fn unquoted(word: &Word, escape: char) -> String {
    let lexer = Lexer::new(escape).keep_unset();
    lexer.process(&word.value, &|_: &str| None).map_or_else(|_| word.value.clone(), |expanded| expanded.text)
}
