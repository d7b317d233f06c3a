//! Tables about image names of other builders' test suites, where they are at hand.
//!
//! In: the corpus's `reference/*.json`. Out: a verdict for each case. A name is always normalised here, so what the peer
//! says about names as they are written is asked about a name that normalisation leaves alone.

#![allow(clippy::panic, reason = "a test says by panicking what failed")]

use kuz_image::reference::{Reference, ReferenceError};
use kuz_testkit::conformance::{judge, same, text, wants_error};
use serde_json::Value;

fn parsed(input: &str) -> Result<Reference, String> {
    input.parse().map_err(|error: ReferenceError| format!("{input}: {error}"))
}

/// A text field, empty where the case has none.
fn field<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().unwrap_or_default()
}

fn digest(reference: &Reference) -> String {
    reference.digest().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn names_are_valid_or_not() {
    judge("reference/normalized-names", |case| {
        same("valid", parsed(text(case, "input")).is_ok(), case["valid"] == true)
    });
}

#[test]
fn parts_are_the_same() {
    judge("reference/normalized-parts", |case| {
        let reference = parsed(text(case, "input"))?;
        for (key, got) in [
            ("domain", reference.domain().to_owned()),
            ("path", reference.path().to_owned()),
            ("full_name", reference.name()),
            ("familiar_name", reference.familiar_name()),
            ("tag", reference.tag().unwrap_or_default().to_owned()),
            ("digest", digest(&reference)),
        ] {
            if let Some(want) = case[key].as_str() {
                same(key, got.as_str(), want)?;
            }
        }
        Ok(())
    });
}

#[test]
fn parse_errors_and_tags_are_the_same() {
    judge("reference/parse", |case| {
        let found = parsed(text(case, "input"));
        if wants_error(case) {
            return same("fails", found.is_err(), true);
        }
        // The table's names are not normalised, so only tag and digest are comparable.
        let reference = found?;
        same("tag", reference.tag().unwrap_or_default(), field(case, "tag"))?;
        same("digest", digest(&reference).as_str(), field(case, "digest"))
    });
}

#[test]
fn any_reference_is_the_same() {
    judge("reference/any-reference", |case| {
        let found = match text(case, "input").parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(ReferenceError::Identifier { text }) => format!("sha256:{text}"),
            Err(error) => return Err(error.to_string()),
        };
        same("name", found.as_str(), text(case, "expect"))
    });
}

/// The peer drops the tag where there is a digest; here it stays, and the digest decides.
#[test]
fn names_get_a_default_tag() {
    judge("reference/docker-ref", |case| {
        let reference = parsed(text(case, "input"))?.with_default_tag();
        let found = match reference.digest() {
            Some(digest) => format!("{}@{digest}", reference.name()),
            None => reference.to_string(),
        };
        same("name", found.as_str(), text(case, "expect"))
    });
}

/// A canonical name is one that normalisation does not change.
#[test]
fn canonical_names_are_told_from_others() {
    judge("reference/canonical", |case| {
        let input = text(case, "input");
        let found = parsed(input);
        if text(case, "feature") == "canonical" {
            let canonical = found.is_ok_and(|reference| reference.name() == input);
            same("canonical", canonical, !wants_error(case))?;
        }
        if wants_error(case) {
            // What is no name, and what is a name with a tag or digest.
            let bare = parsed(input).is_ok_and(|reference| reference.name() == input);
            return same("a bare name", bare, false);
        }
        let reference = parsed(input)?;
        // Names without a domain are given the default one.
        if !field(case, "domain").is_empty() {
            same("domain", reference.domain(), field(case, "domain"))?;
            same("path", reference.path(), field(case, "path"))?;
        }
        Ok(())
    });
}

/// The grammar, asked through names that hold nothing else.
#[test]
fn the_grammar_is_the_same() {
    judge("reference/regexp", |case| {
        let input = text(case, "input");
        let wanted = case["match"] == true;
        match text(case, "feature") {
            "domain" => {
                // With a port it can be nothing but a domain.
                let digits = |end: &str| end.bytes().all(|byte| byte.is_ascii_digit());
                let has_port = input.rsplit_once(':').is_some_and(|(_, end)| digits(end));
                let port = if has_port { "" } else { ":1" };
                same("a domain", parsed(&format!("{input}{port}/a")).is_ok(), wanted)
            }
            "identifier" => {
                let found = matches!(input.parse::<Reference>(), Err(ReferenceError::Identifier { .. }));
                same("an identifier", found, wanted)
            }
            "name" => {
                // Longer names than registries take are refused after the grammar.
                let found = match input.parse::<Reference>() {
                    Ok(found) => found.tag().is_none(),
                    Err(error) => matches!(error, ReferenceError::TooLong { .. }),
                };
                same("a name", found, wanted)
            }
            "reference" => same("a reference", parsed(input).is_ok(), wanted),
            other => Err(format!("unknown feature {other}")),
        }
    });
}
