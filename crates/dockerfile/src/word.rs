//! Words of a Dockerfile with quotes, escapes and `${}` to the text that they stand for.
//!
//! A [`Word`](crate::ast::Word)'s text and an [`Env`] go in; text, words and the names that were used come out. The
//! rules are those of BuildKit's lexer, which resembles a shell and isn't one. Never asks the process's environment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use thiserror::Error;

use crate::lexer::Machine;

/// No word grows larger, whatever its variables hold: variables can double each other.
pub const MAX_WORD: usize = 1 << 20;
/// Bodies of heredocs may be as large as a source may be, and grow by what their variables hold.
pub const MAX_BODY: usize = 4 * crate::source::MAX_SOURCE;
/// `${a:-${b:-…}}` no deeper than this: each level is a level of the stack.
pub const MAX_NESTING: usize = 64;

/// Where values of variables come from.
pub trait Env {
    /// The value, empty or not; `None` is unset.
    fn get(&self, name: &str) -> Option<String>;

    /// All names that are set, for "did you mean".
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<F: Fn(&str) -> Option<String>> Env for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

impl Env for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// A list in order; the last entry of a name counts.
impl Env for [(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    fn names(&self) -> Vec<String> {
        self.iter().map(|(key, _)| key.clone()).collect()
    }
}

/// A list in order; the last entry of a name counts.
impl Env for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<String> {
        Env::get(self.as_slice(), name)
    }

    fn names(&self) -> Vec<String> {
        Env::names(self.as_slice())
    }
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole as one text.
    pub text: String,
    /// The same, split at blanks that are neither quoted nor escaped (those in a variable's value split, too).
    pub words: Vec<String>,
    /// For each word the bytes of the input that it came from.
    pub places: Vec<Range<usize>>,
    /// Names that were asked for and set.
    pub used: BTreeSet<String>,
    /// Names that were asked for and not set.
    pub unset: BTreeSet<String>,
}

/// Why a word means nothing. The texts are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are the parts of the messages")]
pub enum ExpandError {
    /// A quote was opened only.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unterminated(&'static str),
    /// `${` without its `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name/pattern` without what it's replaced by.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:…}`, `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${name=…}` and other things of a shell that a Dockerfile has not.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${name:?message}` and the variable isn't set.
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    /// The pattern of `${name#pattern}` and its relatives.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    BadPattern { pattern: String, reason: String },
    /// Beyond the limit.
    #[error("the expanded text is longer than {0} bytes")]
    TooLong(usize),
    /// Beyond [`MAX_NESTING`].
    #[error("variables are nested deeper than {MAX_NESTING}")]
    TooDeep,
}

/// How words are read. [`expand`] and its relatives are the usual ways.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent choice")]
pub struct Lexer {
    pub(crate) escape: char,
    pub(crate) keep_quotes: bool,
    pub(crate) keep_escapes: bool,
    pub(crate) plain_quotes: bool,
    pub(crate) keep_unset: bool,
    pub(crate) limit: usize,
}

impl Lexer {
    /// Quotes and escapes are taken off, unset variables are empty.
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            keep_quotes: false,
            keep_escapes: false,
            plain_quotes: false,
            keep_unset: false,
            limit: MAX_WORD,
        }
    }

    /// Quotes still quote, but stay in the text.
    #[must_use]
    pub fn keep_quotes(self) -> Self {
        Self { keep_quotes: true, ..self }
    }

    /// Escape characters still escape, but stay in the text.
    #[must_use]
    pub fn keep_escapes(self) -> Self {
        Self { keep_escapes: true, ..self }
    }

    /// Variables that aren't set stay as written.
    #[must_use]
    pub fn keep_unset(self) -> Self {
        Self { keep_unset: true, ..self }
    }

    /// As for bodies of heredocs: quotes are characters like others, and there's room for a file.
    #[must_use]
    pub fn body(self) -> Self {
        Self { plain_quotes: true, limit: MAX_BODY, ..self }
    }

    /// Reads a text.
    pub fn process(&self, text: &str, env: &(impl Env + ?Sized)) -> Result<Expanded, ExpandError> {
        // One machine for all kinds of environments.
        Machine::new(*self, text, &|name| env.get(name)).run()
    }
}

/// Quotes off, variables in: one text.
pub fn expand(word: &str, env: &(impl Env + ?Sized), escape: char) -> Result<String, ExpandError> {
    Ok(Lexer::new(escape).process(word, env)?.text)
}

/// The same, split into words after variables have been put in.
pub fn expand_words(text: &str, env: &(impl Env + ?Sized), escape: char) -> Result<Vec<String>, ExpandError> {
    Ok(Lexer::new(escape).process(text, env)?.words)
}

/// Variables in, quotes kept: a heredoc's body (whose escape character is always a backslash).
pub fn expand_body(body: &str, env: &(impl Env + ?Sized)) -> Result<String, ExpandError> {
    Ok(Lexer::new('\\').body().process(body, env)?.text)
}

/// [`expand`] with the names of the variables that were used and unset.
pub fn expand_reporting(word: &str, env: &(impl Env + ?Sized), escape: char) -> Result<Expanded, ExpandError> {
    Lexer::new(escape).process(word, env)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Vec<(String, String)> {
        [("A", "1"), ("E", ""), ("S", "x y"), ("P", "/a/b.tar.gz")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn texts() {
        for (word, expected) in [
            ("$A-${A}", "1-1"),
            ("\"$A\"'$A'\\$A", "1$A$A"),
            ("\"\\a\\\"\\$\\\\\"", "\\a\"$\\"),
            ("${N:-d} ${E:-d} ${E-d} ${N-d}", "d d  d"),
            ("${A:+s} ${E:+s} ${E+s} ${N+s}", "s  s "),
            ("${N:-${M:-'q q'}}", "q q"),
            ("${P#*.} ${P##*.} ${P%.*} ${P%%.*}", "tar.gz gz /a/b.tar /a/b"),
            ("${P/a/X} ${P//a/X} ${P//[/X}", "/X/b.tar.gz /X/b.tXr.gz /a/b.tar.gz"),
            ("${P//\\//_}", "_a_b.tar.gz"),
            ("$1 $@x $$", " x "),
            ("$.", "$."),
            ("a\\", "a"),
        ] {
            assert_eq!(expand(word, &env(), '\\').as_deref(), Ok(expected), "{word}");
        }
        assert_eq!(expand("C:\\x`$A\"`\"\"", &env(), '`').as_deref(), Ok("C:\\x$A\""));
    }

    #[test]
    fn words() {
        assert_eq!(expand_words("a$S\"b c\"\\ d ''", &env(), '\\').unwrap(), ["ax", "yb c d"]);
        let expanded = Lexer::new('\\').keep_quotes().keep_escapes().process("RUN  << 'X' \"a b\"", &env()).unwrap();
        assert_eq!(expanded.words, ["RUN", "<< 'X'", "\"a b\""]);
        assert_eq!(expanded.places, [0..3, 5..11, 12..17]);
    }

    #[test]
    fn bodies_keep_quotes() {
        assert_eq!(expand_body("it's \"$A\" \\$A\n", &env()).unwrap(), "it's \"1\" $A\n");
    }

    #[test]
    fn names_are_reported() {
        let expanded = expand_reporting("${A} ${N:-$M} ${E}", &env(), '\\').unwrap();
        assert_eq!(expanded.used, ["A", "E"].map(str::to_owned).into());
        assert_eq!(expanded.unset, ["M", "N"].map(str::to_owned).into());
    }

    #[test]
    fn mistakes() {
        for (word, message) in [
            ("'a", "unexpected end of statement while looking for matching single-quote"),
            ("\"a", "unexpected end of statement while looking for matching double-quote"),
            ("${", "syntax error: missing '}'"),
            ("${A", "syntax error: missing '}'"),
            ("${A:-b", "syntax error: missing '}'"),
            ("${A/b}", "syntax error: missing '/' in ${}"),
            ("${A/b/c", "syntax error: missing '}'"),
            ("${}", "syntax error: bad substitution"),
            ("${A=b}", "unsupported modifier (=) in substitution"),
            ("${A:#b}", "unsupported modifier (:#) in substitution"),
            ("${A#\\b}", "invalid pattern (\\b) in substitution: invalid escape '\\b'"),
            ("${N?}", "N: is not allowed to be unset"),
            ("${E:?}", "E: is not allowed to be empty"),
            ("${N:?no $A}", "N: no 1"),
        ] {
            assert_eq!(
                expand(word, &env(), '\\').map_err(|error| error.to_string()),
                Err(message.to_owned()),
                "{word}"
            );
        }
    }

    #[test]
    fn growth_and_depth_are_bounded() {
        let big = vec![("B".to_owned(), "b".repeat(MAX_WORD / 2))];
        assert!(expand("$B$B", &big, '\\').is_ok());
        assert_eq!(expand("$B$B.", &big, '\\'), Err(ExpandError::TooLong(MAX_WORD)));
        assert_eq!(expand("${B//b/xxx}", &big, '\\'), Err(ExpandError::TooLong(MAX_WORD)));
        let deep = format!("{}{}", "${N:-".repeat(MAX_NESTING + 1), "}".repeat(MAX_NESTING + 1));
        assert_eq!(expand(&deep, &big, '\\'), Err(ExpandError::TooDeep));
        assert_eq!(expand(&deep[5..deep.len() - 1], &big, '\\').as_deref(), Ok(""));
    }
}
