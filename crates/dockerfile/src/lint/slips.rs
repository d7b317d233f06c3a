//! Slips that every builder takes for something else: a comment behind arguments, a flag behind paths.
//!
//! They build, or fail with a word that doesn't say what's wrong.

use super::Findings;
use crate::ast::{Copy, Dockerfile, Instruction, Kind, Word};
use crate::instruction::instruction_flags;

pub(super) fn all(file: &Dockerfile, findings: &mut Findings<'_>) {
    let all = instruction_flags();
    let of = |keyword| all.iter().find(|(name, _)| *name == keyword).map(|(_, flags)| flags.as_slice());
    let known = [("COPY", of("COPY").unwrap_or_default()), ("ADD", of("ADD").unwrap_or_default())];
    for instruction in &file.instructions {
        match &instruction.kind {
            Kind::Workdir(word) | Kind::User(word) | Kind::StopSignal(word) => comment(instruction, word, findings),
            Kind::Env(pairs) | Kind::Label(pairs) => {
                pairs.iter().filter(|pair| pair.legacy).for_each(|pair| comment(instruction, &pair.value, findings));
            }
            Kind::Expose(ports) => {
                if let Some(word) = ports.iter().find(|word| word.value.starts_with('#')) {
                    tell(instruction, word, &word.value, findings);
                }
            }
            Kind::Copy(copy) => flags(instruction, known[0], copy, findings),
            Kind::Add(copy) => flags(instruction, known[1], copy, findings),
            _ => {}
        }
    }
    findings.leave();
}

/// `WORKDIR /app # here`: the `#` is part of the path.
fn comment(at: &Instruction, word: &Word, findings: &mut Findings<'_>) {
    let behind = word.value.match_indices('#').find(|(place, _)| {
        let (before, after) = word.value.split_at(*place);
        before.ends_with([' ', '\t']) && after[1..].starts_with([' ', '\t']) && !before.contains(['"', '\''])
    });
    if let Some((place, _)) = behind {
        tell(at, word, &word.value[place..], findings);
    }
}

fn tell(at: &Instruction, word: &Word, comment: &str, findings: &mut Findings<'_>) {
    let message = format!("`{comment}` is no comment here, but part of the arguments");
    findings.advise("CommentInArguments", at, word.span, &message, "give the comment a line of its own, above");
}

/// `COPY a b --chown=c`: three paths.
fn flags(at: &Instruction, (keyword, known): (&str, &[&str]), copy: &Copy, findings: &mut Findings<'_>) {
    for word in copy.sources.iter().chain([&copy.dest]) {
        let name = word.value.strip_prefix("--").and_then(|flag| flag.split('=').next());
        if name.is_some_and(|name| known.contains(&name)) {
            let message = format!("`{}` is taken for a path: flags stand in front of the paths", word.value);
            let hint = format!("write {keyword} {} …", word.value);
            findings.advise("FlagBehindPaths", at, word.span, &message, hint);
        }
    }
}
