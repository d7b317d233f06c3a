//! The planner's way to word expansion: [`kuz_dockerfile::word`] with spans and diagnostics.

use std::collections::BTreeSet;

use kuz_dockerfile::ast::Word;
use kuz_dockerfile::word::{ExpandError, Lexer};
use kuz_dockerfile::{Diagnostic, Span};

use crate::scope::Variables;

/// A text with its variables replaced.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Names that were asked for and not set.
    pub(crate) unmatched: BTreeSet<String>,
}

impl kuz_dockerfile::word::Env for Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }
}

/// One word, quotes off.
pub(crate) fn word(word: &Word, env: &Variables, escape: char) -> Result<Expanded, Diagnostic> {
    expanded(Lexer::new(escape).process(&word.value, env), word.span)
}

/// As many words as come out.
pub(crate) fn words(word: &Word, env: &Variables, escape: char) -> Result<(Vec<String>, BTreeSet<String>), Diagnostic> {
    let expanded = Lexer::new(escape).process(&word.value, env).map_err(|error| invalid(&error, word.span))?;
    Ok((expanded.words, expanded.unset))
}

/// A heredoc's body: quotes stay.
pub(crate) fn body(text: &str, span: Span, env: &Variables) -> Result<Expanded, Diagnostic> {
    expanded(Lexer::new('\\').body().process(text, env), span)
}

/// Whether expansion would make something else of a text that must stay as it is.
pub(crate) fn changes(text: &str) -> bool {
    Lexer::new('\\').process(text, &Variables::default()).map_or(true, |expanded| expanded.text != text)
}

fn expanded(result: Result<kuz_dockerfile::word::Expanded, ExpandError>, span: Span) -> Result<Expanded, Diagnostic> {
    let expanded = result.map_err(|error| invalid(&error, span))?;
    Ok(Expanded { text: expanded.text, unmatched: expanded.unset })
}

fn invalid(error: &ExpandError, span: Span) -> Diagnostic {
    let found = Diagnostic::error("InvalidWord", span, error.to_string());
    match error {
        ExpandError::Unterminated(_) => {
            found.hint("close the quote on the same line; a quote that is meant as a letter has a backslash in front")
        }
        ExpandError::MissingBrace => found.hint("close it: ${NAME}; a $ that is meant as a letter is written \\$"),
        ExpandError::MissingSlash => found.hint("write ${NAME/PATTERN/REPLACEMENT}"),
        ExpandError::BadSubstitution | ExpandError::UnsupportedModifier(_) => {
            found.hint("write ${NAME}, or a default: ${NAME:-default}; a $ that is meant as a letter is written \\$")
        }
        ExpandError::Required { name, .. } => found
            .hint(format!("give it a value: --build-arg {name}=VALUE where an ARG declares it, or ENV {name}=VALUE")),
        ExpandError::BadPattern { .. } => {
            found.hint("in patterns * stands for any letters and ? for one; a backslash in front makes letters of them")
        }
        ExpandError::TooLong(_) | ExpandError::TooDeep => found,
    }
}
