//! Quotes and variables.

use kuz_dockerfile::word::{Env, expand, expand_reporting, expand_words};

use super::corpus::{env, judge, same, text, texts, wants_error};

#[test]
fn words_with_variables() {
    judge("shell/env-var", |case| match expand(text(case, "input"), &env(case), '\\') {
        Ok(found) if !wants_error(case) => same("text", found.as_str(), text(case, "expect")),
        Err(_) if wants_error(case) => Ok(()),
        other => Err(format!("{}: {other:?}", case["input"])),
    });
}

#[test]
fn names_that_were_used() {
    judge("shell/expand-matches", |case| {
        let found = expand_reporting(text(case, "input"), &env(case), '\\');
        if wants_error(case) {
            let error = found.err().ok_or("no error")?.to_string();
            let part = case["error_contains"].as_str().unwrap_or("");
            return same("message", error.contains(part), true);
        }
        let found = found.map_err(|error| format!("{}: {error}", case["input"]))?;
        same("text", found.text.as_str(), text(case, "expect"))?;
        if case["matched"].is_array() {
            same("used", found.used.into_iter().collect(), texts(case, "matched"))?;
        }
        if case["unmatched"].is_array() {
            same("unset", found.unset.into_iter().collect(), texts(case, "unmatched"))?;
        }
        Ok(())
    });
}

#[test]
fn splitting() {
    judge("shell/words", |case| {
        let found = expand_words(text(case, "input"), &env(case), '\\').map_err(|error| error.to_string())?;
        same("words", found, texts(case, "expect"))
    });
}

#[test]
fn lists_of_variables() {
    judge("shell/get-env", |case| {
        same("value", Env::get(&env(case), text(case, "name")).as_deref(), case["expect"].as_str())
    });
}
