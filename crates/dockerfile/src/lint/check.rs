//! Which rules apply: `# check=skip=A,B;error=true;experimental=C`, for a file or above an instruction.
//!
//! Text to [`Check`]. The same grammar serves the build argument `BUILDKIT_DOCKERFILE_CHECK`.

use std::collections::BTreeSet;

use thiserror::Error;

use super::rules::rule;
use crate::ast::{Dockerfile, Instruction};
use crate::directive;

/// What was said about rules.
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
        merged
    }

    /// Does the rule of this name apply? One that isn't known does.
    pub fn allows(&self, name: &str) -> bool {
        if rule(name).is_some_and(|rule| rule.experimental) {
            self.experimental_all || self.experimental.contains(name)
        } else {
            !self.skip_all && !self.skip.contains(name)
        }
    }
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
        for text in ["skip", "what=1", "error=maybe", ";"] {
            assert!(Check::parse(text).is_err(), "{text}");
        }
    }
}
