//! Which rules apply: `# check=skip=A,B;error=true;experimental=C`, for a file or above an instruction.
//!
//! Text to [`Check`]. The same grammar serves the build argument `BUILDKIT_DOCKERFILE_CHECK`.

use std::collections::BTreeSet;

use thiserror::Error;

use super::rules::{Family, rule};
use crate::ast::{Dockerfile, Instruction};
use crate::diagnostic::{Diagnostic, Severity};
use crate::directive;

/// What was said about rules.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent choice")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// `skip=all`
    pub skip_all: bool,
    /// `skip=A,B`
    pub skip: BTreeSet<String>,
    /// `error=true`: a finding fails the build.
    pub error: bool,
    /// `experimental=all`
    pub experimental_all: bool,
    /// `experimental=A,B`
    pub experimental: BTreeSet<String>,
    /// Rules that are off by themselves are on: `--enable all`.
    pub enable_all: bool,
}

/// Why the text says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckError {
    /// No such option, or an option without a value.
    #[error("invalid check option {0:?}")]
    Option(String),
    /// `error=` something.
    #[error("failed to parse check option {0:?}: a truth value is wanted")]
    Value(String),
}

impl Check {
    /// Reads the options.
    pub fn parse(text: &str) -> Result<Self, CheckError> {
        let mut check = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(check);
        }
        for option in text.splitn(3, ';') {
            let (key, value) = option.split_once('=').ok_or_else(|| CheckError::Option(option.to_owned()))?;
            let value = value.trim();
            let names = || value.split(',').map(|name| name.trim().to_owned()).collect();
            match key.trim() {
                "skip" if value == "all" => check.skip_all = true,
                "skip" => check.skip = names(),
                "experimental" if value == "all" => check.experimental_all = true,
                "experimental" => check.experimental = names(),
                "error" => {
                    check.error = crate::boolean(value).ok_or_else(|| CheckError::Value(option.to_owned()))?;
                }
                other => return Err(CheckError::Option(other.to_owned())),
            }
        }
        Ok(check)
    }

    /// What a file says about itself; nothing where it says nothing sensible (which parsing has reported).
    pub fn of_file(file: &Dockerfile) -> Self {
        let text = file.directives.check.as_ref().map_or("", |check| directive::first_word(&check.value));
        Self::parse(text).unwrap_or_default()
    }

    /// The same with what `# hadolint global ignore=` comments turn off.
    #[must_use]
    pub fn with_global_comments(mut self, file: &Dockerfile) -> Self {
        if file.source.contains("hadolint") {
            let comments = file.source.lines().filter_map(|line| line.trim_start().strip_prefix('#'));
            for codes in comments.filter_map(|comment| ignored(comment, "global ")) {
                self.skip.extend(codes);
            }
        }
        self
    }

    /// This and what the comments above an instruction add for it.
    #[must_use]
    pub fn with_comments(&self, instruction: &Instruction) -> Self {
        let mut merged = self.clone();
        let said = instruction.comments.iter().find_map(|comment| directive::check_of_comment(&comment.value));
        if let Some(added) = said.and_then(|text| Self::parse(text).ok()) {
            merged.skip_all |= added.skip_all;
            merged.skip.extend(added.skip);
            merged.experimental_all |= added.experimental_all;
            merged.experimental.extend(added.experimental);
        }
        for codes in instruction.comments.iter().filter_map(|comment| ignored(&comment.value, "")) {
            merged.skip.extend(codes);
        }
        merged
    }

    /// Those of the findings that are wanted: by what their instructions' comments say, where they have one.
    pub fn keep_wanted(&self, file: &Dockerfile, findings: &mut Vec<Diagnostic>) {
        findings.retain(|found| {
            if found.severity == Severity::Error {
                return true;
            }
            let after = file.instructions.partition_point(|instruction| instruction.span.start <= found.span.start);
            let around = after.checked_sub(1).and_then(|place| file.instructions.get(place));
            match around.filter(|instruction| found.span.start < instruction.span.end) {
                Some(instruction) => self.with_comments(instruction).allows(found.rule),
                None => self.allows(found.rule),
            }
        });
    }

    /// Is the rule turned off, by its name or with others?
    pub(super) fn skips(&self, name: &str) -> bool {
        self.skip_all || self.skip.iter().any(|skipped| rule(name).is_some_and(|rule| rule.is_called(skipped)))
    }

    /// Is the rule turned on by its own name or code, not with its family?
    pub(super) fn names(&self, name: &str) -> bool {
        let Some(rule) = rule(name) else { return false };
        self.experimental.iter().any(|asked| asked == rule.name || rule.codes.contains(&asked.as_str()))
    }

    /// Does the rule of this name apply? One that isn't known does.
    pub fn allows(&self, name: &str) -> bool {
        let Some(rule) = rule(name) else { return !self.skip_all && !self.skip.contains(name) };
        let named = |names: &BTreeSet<String>| names.iter().any(|name| rule.is_called(name));
        if rule.experimental {
            let all = self.enable_all || self.experimental_all && rule.family == Family::BuildKit;
            // BuildKit's own experimental rule is not turned off by `skip`.
            (all || named(&self.experimental)) && (rule.family == Family::BuildKit || !named(&self.skip))
        } else {
            !self.skip_all && !named(&self.skip)
        }
    }
}

/// The codes of a comment `hadolint ignore=A,B`.
fn ignored<'c>(comment: &'c str, scope: &str) -> Option<impl Iterator<Item = String> + 'c> {
    let rest = comment.trim().strip_prefix("hadolint")?.trim_start().strip_prefix(scope)?;
    let codes = rest.trim_start().strip_prefix("ignore")?.trim_start().strip_prefix('=')?;
    let codes = codes.split(',').filter_map(|code| code.split_whitespace().next());
    Some(codes.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let check = Check::parse("skip=A, B;error=true;experimental=all").unwrap();
        assert!(!check.allows("A") && !check.allows("B") && check.allows("C"));
        assert!(check.error && check.allows("InvalidDefinitionDescription"));
        assert!(!Check::default().allows("InvalidDefinitionDescription"));
        assert!(!Check::parse("skip=all").unwrap().allows("C"));
        let check = Check::parse("skip=DL3006,python").unwrap();
        assert!(!check.allows("UntaggedBase") && !check.allows("VenvMoved") && check.allows("LatestBase"));
        let check = Check::parse("experimental=P9").unwrap();
        assert!(check.allows("PythonBuffered") && !check.allows("UnpinnedApt"));
        assert!(!Check::parse("experimental=all").unwrap().allows("PythonBuffered"));
        for text in ["skip", "what=1", "error=maybe", ";"] {
            assert!(Check::parse(text).is_err(), "{text}");
        }
    }
}
