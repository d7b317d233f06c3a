//! Build checks, as far as they need the tree alone.

use kuz_dockerfile::lint::{Check, Family, Options, lint_with, rule};
use kuz_dockerfile::parse;
use serde_json::Value;

use super::corpus::{judge, same, text};

/// Checked by whoever knows variables, images or the context.
const NOT_HERE: [&str; 5] =
    ["UndefinedArgInFrom", "UndefinedVar", "InvalidBaseImagePlatform", "InvalidDefaultArgInFrom", "CopyIgnoredFile"];

#[test]
fn findings() {
    judge("instructions/lint", |case| {
        let parsed = parse(text(case, "dockerfile").as_bytes());
        same("errors", parsed.has_errors(), false)?;
        let check = match case["build_args"]["BUILDKIT_DOCKERFILE_CHECK"].as_str() {
            Some(said) => Check::parse(said).map_err(|error| error.to_string())?,
            None => Check::of_file(&parsed.file),
        };
        let expected =
            if case["warnings_all_stages"].is_array() { &case["warnings_all_stages"] } else { &case["warnings"] };
        let mut expected: Vec<_> = expected
            .as_array()
            .ok_or("no warnings")?
            .iter()
            .map(|warning| (warning["line"].as_u64().unwrap_or(0), text(warning, "rule"), text(warning, "detail")))
            .filter(|(_, rule, _)| !NOT_HERE.contains(rule))
            .map(|(line, rule, detail)| (line, rule.to_owned(), detail.to_owned()))
            .collect();
        let mut found: Vec<_> = lint_with(&parsed.file, &check, &Options::default())
            .into_iter()
            .filter(|found| rule(found.rule).is_some_and(|rule| rule.family == Family::BuildKit))
            .map(|found| (parsed.file.lines(found.span).0 as u64, found.rule.to_owned(), found.message))
            .collect();
        if case["warnings_all_stages"].is_array() {
            // The peer doesn't assert the lines of these, and they aren't those of the file.
            found.iter_mut().chain(&mut expected).for_each(|entry| entry.0 = 0);
        }
        found.sort();
        expected.sort();
        same(&Value::from(text(case, "dockerfile")).to_string(), found, expected)
    });
}
