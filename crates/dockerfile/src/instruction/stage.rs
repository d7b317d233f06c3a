//! FROM and ARG: what stages stand on and what they are told.

use super::flags::{self, Takes};
use super::{Scene, at_least_one, blank_name, count};
use crate::ast::{ArgItem, From, Word};
use crate::diagnostic::Diagnostic;
use crate::statement::{Args, Statement, halves};

pub(super) const FROM_FLAGS: [(&str, Takes); 1] = [("platform", Takes::Text)];

/// `FROM [--platform=P] IMAGE [AS NAME]`
pub(super) fn from(statement: &Statement, scene: &mut Scene<'_>) -> Option<From> {
    let flags = flags::read(statement, &FROM_FLAGS, scene);
    let words = match &statement.args {
        Args::Words(words) => words.as_slice(),
        _ => &[],
    };
    let (image, name) = match words {
        [image] => (image, None),
        [image, keyword, name] if keyword.value.eq_ignore_ascii_case("as") => (image, Some((keyword, name))),
        _ => {
            count(statement, "FROM requires either one or three arguments", scene);
            return None;
        }
    };
    if let Some((_, name)) = name.filter(|(_, name)| !is_stage_name(&name.value.to_lowercase())) {
        let message = format!(
            "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
            name.value
        );
        let hint = "begin it with a letter; letters, digits, dots, hyphens and underscores may follow";
        scene.refuse("InvalidStageName", name.span, message, hint);
    }
    Some(From {
        platform: flags.text("platform"),
        image: image.clone(),
        alias: name.map(|(_, name)| name.clone()),
        as_keyword: name.map(|(keyword, _)| keyword.clone()),
    })
}

/// `[a-z][a-z0-9-_.]*`
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

/// `ARG NAME[=default]…`
pub(super) fn arg(statement: &Statement, scene: &mut Scene<'_>) -> Option<Vec<ArgItem>> {
    passed_over(statement, scene);
    let Args::Words(words) = &statement.args else {
        at_least_one(statement, scene);
        return None;
    };
    Some(words.iter().map(|word| item(statement, word, scene)).collect())
}

fn item(statement: &Statement, word: &Word, scene: &mut Scene<'_>) -> ArgItem {
    let Some((name, default)) = word.value.split_once('=') else {
        return ArgItem { name: word.clone(), default: None };
    };
    if name.is_empty() {
        blank_name(statement, word.span, scene);
    }
    let (name, default) = halves(word, name, default);
    ArgItem { name, default: Some(default) }
}

/// Flags on an instruction that has none and on which other builders overlook them.
pub(super) fn passed_over(statement: &Statement, scene: &mut Scene<'_>) {
    for flag in &statement.flags {
        let message = format!("{} has no flags: {} is passed over", statement.name(), flag.name());
        scene.sink.push(Diagnostic::warning("FlagPassedOver", flag.word.span, message));
    }
}
