//! Ignore files.

use kuz_dockerfile::ignore::{Ignore, IgnoreError};
use serde_json::Value;

use super::corpus::{judge, same, text, texts, wants_error};

fn matches(case: &Value) -> Result<(), String> {
    let found = Ignore::from_patterns(texts(case, "patterns"));
    if wants_error(case) {
        return same("fails", found.is_err(), true);
    }
    let found = found.map_err(|error| error.to_string())?.matches(text(case, "path").as_bytes());
    same(&format!("{} on {}", case["patterns"], case["path"]), found, case["match"] == true)
}

#[test]
fn paths() {
    judge("dockerignore/matches", matches);
}

#[test]
fn paths_and_parents() {
    judge("dockerignore/matches-or-parent", matches);
}

#[test]
fn patterns_kept() {
    judge("dockerignore/clean-patterns", |case| {
        let ignore = Ignore::from_patterns(texts(case, "patterns")).map_err(|error: IgnoreError| error.to_string())?;
        if let Some(kept) = case["kept"].as_u64() {
            same("kept", ignore.patterns().len() as u64, kept)?;
        }
        same("exclusions", ignore.has_negations(), case["exclusions"] == true)
    });
}

#[test]
fn lines_of_a_file() {
    judge("dockerignore/ignorefile", |case| {
        let ignore = Ignore::parse(text(case, "content").as_bytes()).map_err(|error| error.to_string())?;
        let found = ignore.patterns().iter().map(|pattern| {
            let sign = if pattern.is_negated() { "!" } else { "" };
            format!("{sign}{}", String::from_utf8_lossy(pattern.text()))
        });
        same("patterns", found.collect(), texts(case, "expect"))
    });
}
