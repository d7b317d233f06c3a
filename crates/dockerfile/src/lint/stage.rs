//! Rules about what stands in a stage.

use std::collections::BTreeMap;

use super::Findings;
use super::file::unquoted;
use crate::ast::{Command, Dockerfile, From, Instruction, Kind, Pair, Word};
use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// What later instructions of a stage, and stages on it, are judged by.
#[derive(Debug, Clone, Default)]
struct State {
    has_shell: bool,
    has_workdir: bool,
    once: BTreeMap<&'static str, Span>,
}

pub(super) fn all(file: &Dockerfile, findings: &mut Findings<'_>) {
    let escape = file.directives.escape_char();
    let mut named: BTreeMap<String, State> = BTreeMap::new();
    let mut name = None;
    let mut state = None;
    for instruction in &file.instructions {
        if let Kind::From(from) = &instruction.kind {
            keep(&mut named, name.take(), state.take());
            name = from.alias.as_ref().map(|alias| alias.value.to_lowercase());
            state = Some(start(from, &named));
        }
        // ARG before the first FROM belongs to no stage.
        if let Some(state) = &mut state {
            findings.enter(instruction);
            in_stage(instruction, state, escape, findings);
        }
    }
    findings.leave();
}

fn keep(named: &mut BTreeMap<String, State>, name: Option<String>, state: Option<State>) {
    if let (Some(name), Some(state)) = (name, state) {
        named.insert(name, state);
    }
}

/// A stage on another has its shell and working directory, but instructions of its own.
fn start(from: &From, named: &BTreeMap<String, State>) -> State {
    let base = named.get(&from.image.value.to_lowercase()).cloned().unwrap_or_default();
    State { once: BTreeMap::new(), ..base }
}

fn in_stage(instruction: &Instruction, state: &mut State, escape: char, findings: &mut Findings<'_>) {
    let keyword = &instruction.keyword.value;
    match &instruction.kind {
        Kind::Cmd(command) => {
            only_once("CMD", instruction, state, findings);
            program(command, instruction, state, findings);
        }
        Kind::Entrypoint(command) => {
            only_once("ENTRYPOINT", instruction, state, findings);
            program(command, instruction, state, findings);
        }
        Kind::Healthcheck(_) => only_once("HEALTHCHECK", instruction, state, findings),
        Kind::Shell(_) => state.has_shell = true,
        Kind::Run(run) => json_like(&run.command, "RUN", findings),
        Kind::Workdir(path) => {
            let text = unquoted(path, escape);
            // What a variable holds isn't known here.
            if !state.has_workdir && !text.starts_with(['/', '$']) {
                let message =
                    format!("Relative workdir {text:?} can have unexpected results if the base image changes");
                findings.add("WorkdirRelativePath", path.span, message);
            }
            state.has_workdir = true;
        }
        Kind::Env(pairs) => {
            legacy(pairs, keyword, instruction.span, findings);
            for pair in pairs {
                secret("ENV", &pair.key, escape, findings);
            }
        }
        Kind::Label(pairs) => legacy(pairs, keyword, instruction.span, findings),
        Kind::Arg(items) => {
            for item in items {
                secret("ARG", &item.name, escape, findings);
            }
        }
        Kind::Expose(ports) => {
            for port in ports {
                exposed(port, escape, findings);
            }
        }
        _ => {}
    }
}

fn only_once(name: &'static str, instruction: &Instruction, state: &mut State, findings: &mut Findings<'_>) {
    // The one that doesn't count is the earlier one.
    if let Some(earlier) = state.once.insert(name, instruction.span) {
        let keyword = &instruction.keyword.value;
        let message = format!(
            "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
        );
        findings.add("MultipleInstructionsDisallowed", earlier, message);
    }
}

fn program(command: &Command, instruction: &Instruction, state: &State, findings: &mut Findings<'_>) {
    let keyword = &instruction.keyword.value;
    json_like(command, keyword, findings);
    if matches!(command, Command::Shell(_)) && !state.has_shell {
        let message =
            format!("JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals");
        findings.add("JSONArgsRecommended", instruction.span, message);
    }
}

/// `['a', 'b']` is run by the shell, which is rarely what was meant.
fn json_like(command: &Command, keyword: &str, findings: &mut Findings<'_>) {
    if let Command::Shell(word) = command
        && word.value.starts_with('[')
        && word.value.ends_with(']')
        && word.value.trim_start_matches(['[', ' ']).starts_with(['\'', '"', '“'])
    {
        let message = format!("{keyword} looks like the JSON form but is no JSON, so the shell runs it as it stands");
        findings.add("MalformedJsonForm", word.span, message);
    }
}

fn legacy(pairs: &[Pair], keyword: &str, span: Span, findings: &mut Findings<'_>) {
    if let Some(pair) = pairs.iter().find(|pair| pair.legacy) {
        let message =
            format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
        let value = pair.value.value.trim();
        let hint = match value.strip_prefix('=') {
            Some(value) => format!(
                "the value is now `{}`: write {keyword} {}={}, without blanks around the =",
                pair.value.value,
                pair.key.value,
                value.trim()
            ),
            None if value.contains([' ', '\t']) && !value.starts_with(['"', '\'']) => {
                format!("write {keyword} {}=\"{value}\"", pair.key.value)
            }
            None => format!("write {keyword} {}={value}", pair.key.value),
        };
        findings.push("LegacyKeyValueFormat", Diagnostic::warning("LegacyKeyValueFormat", span, message).hint(hint));
    }
}

const SECRET_WORDS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

fn secret(keyword: &str, name: &Word, escape: char, findings: &mut Findings<'_>) {
    let text = unquoted(name, escape);
    let lower = text.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(&SECRET_WORDS) && !has(&HARMLESS_WORDS) {
        let message = format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {text:?})");
        findings.add("SecretsUsedInArgOrEnv", name.span, message);
    }
}

fn exposed(port: &Word, escape: char, findings: &mut Findings<'_>) {
    let text = unquoted(port, escape);
    let (host, container) = text.rsplit_once(':').unwrap_or(("", &text));
    let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
    if matches!(protocol.to_lowercase().as_str(), "tcp" | "udp" | "sctp") && protocol != protocol.to_lowercase() {
        let message = format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
        findings.add("ExposeProtoCasing", port.span, message);
    }
    // A colon in a variable's default is no address.
    if !host.is_empty() && !host.contains('$') {
        let message =
            format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'");
        findings.add("ExposeInvalidFormat", port.span, message);
    }
}
