//! RUN, CMD, ENTRYPOINT and SHELL: what is run and how.

use super::flags::{self, Takes};
use super::{Scene, at_least_one, command_of, device};
use crate::ast::{Command, Mount, Run, Word};
use crate::split::csv_fields;
use crate::statement::{Args, Statement};

pub(super) const RUN_FLAGS: [(&str, Takes); 4] =
    [("mount", Takes::List), ("network", Takes::Text), ("security", Takes::Text), ("device", Takes::List)];

/// `RUN [flags] command`
pub(super) fn run(statement: &Statement, scene: &mut Scene<'_>) -> Run {
    let flags = flags::read(statement, &RUN_FLAGS, scene);
    let mounts = flags.list("mount").iter().filter_map(|word| mount(word, scene)).collect();
    let network = flags.text("network");
    if let Some(word) = network.as_ref().filter(|word| !matches!(word.value.as_str(), "default" | "none" | "host")) {
        let hint = "want default, none or host";
        scene.refuse("FlagValue", word.span, format!("invalid network mode {:?}", word.value), hint);
    }
    let security = flags.text("security");
    if let Some(word) = security.as_ref().filter(|word| !matches!(word.value.as_str(), "sandbox" | "insecure")) {
        let hint = "want sandbox or insecure";
        scene.refuse("FlagValue", word.span, format!("security {:?} is not valid", word.value), hint);
    }
    let devices = flags.list("device");
    for word in &devices {
        if let Err(error) = device::parse(&word.value) {
            scene.error("FlagValue", word.span, error.to_string());
        }
    }
    Run {
        command: command_of(&statement.args, statement.span),
        mounts,
        network,
        security,
        devices,
        heredocs: statement.heredocs.clone(),
    }
}

/// Splits a `--mount`. Only what must not hold a variable is judged; the planner interprets the rest.
fn mount(word: &Word, scene: &mut Scene<'_>) -> Option<Mount> {
    let fields = match csv_fields(&word.value) {
        Ok(fields) => fields,
        Err(reason) => {
            scene.error("FlagValue", word.span, format!("failed to parse csv mounts: {reason}"));
            return None;
        }
    };
    let mut options = Vec::new();
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = key.to_lowercase();
        let dollar = value.and_then(|value| value.find('$').map(|at| at + 1 < value.len()));
        if key == "from" && dollar == Some(true) {
            let message = "'from' doesn't support variable expansion, define alias stage instead";
            scene.error("VariableNotExpanded", word.span, message);
        }
        options.push((key, value.map(str::to_owned)));
    }
    Some(Mount { span: word.span, options })
}

/// CMD and ENTRYPOINT.
pub(super) fn command(statement: &Statement, scene: &mut Scene<'_>) -> Command {
    flags::read(statement, &[], scene);
    command_of(&statement.args, statement.span)
}

/// `SHELL ["program", "argument"]`
pub(super) fn shell(statement: &Statement, scene: &mut Scene<'_>) -> Option<Vec<String>> {
    flags::read(statement, &[], scene);
    match &statement.args {
        Args::Json(words) if !words.is_empty() => Some(words.iter().map(|word| word.value.clone()).collect()),
        Args::Text(word) => {
            let words: Vec<String> = word.value.split_whitespace().map(|word| format!("{word:?}")).collect();
            let hint = if word.value.starts_with('[') {
                "it has double quotes, and no comma behind the last word: SHELL [\"/bin/sh\", \"-c\"]".to_owned()
            } else {
                format!("write SHELL [{}]", words.join(", "))
            };
            scene.refuse("InvalidJsonForm", word.span, "SHELL requires the arguments to be in JSON form", hint);
            None
        }
        _ => {
            at_least_one(statement, scene);
            None
        }
    }
}
