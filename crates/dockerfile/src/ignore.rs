//! Ignore files: which paths of a context are left out, and which line says so.
//!
//! The text of a `.dockerignore` (or the patterns of `--exclude`) in, answers for paths out. Paths are bytes, relative,
//! with slashes. The rules are those of moby's patternmatcher: the last pattern that matches a path or a directory
//! above it decides. Walks nothing itself.

use thiserror::Error;

use crate::glob::{BadPattern, Class, Glob, decode};
use crate::path::clean;

/// Why an ignore file can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IgnoreError {
    /// A `!` and nothing behind it.
    #[error("illegal exclusion pattern: \"!\" in line {line}")]
    LoneExclamation {
        /// From 1.
        line: usize,
    },
    /// An open class and the like.
    #[error("invalid pattern in line {line}")]
    Pattern {
        /// From 1.
        line: usize,
        /// What's wrong with it.
        source: BadPattern,
    },
}

/// A compiled ignore file.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    negations: bool,
}

/// One line of it.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Vec<u8>,
    line: usize,
    negated: bool,
    shape: Shape,
    tokens: Vec<Token>,
}

/// Patterns that need no search.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// The path itself.
    Exact(Vec<u8>),
    /// `dir/**`: what begins so.
    Prefix(Vec<u8>),
    /// `**/name` and `**name`: what ends so.
    Suffix(Vec<u8>),
    /// Anything else.
    Tokens,
}

#[derive(Debug, Clone)]
enum Token {
    Literal(Vec<u8>),
    /// `?`
    Any,
    Class(Class),
    /// `*`: up to the next slash.
    Star,
    /// `**` at the end: everything.
    Everything,
    /// `**/`: nothing, or everything up to some slash.
    Directories,
}

/// What decided about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'i> {
    /// It's left out.
    pub excluded: bool,
    /// The pattern's line in the file, from 1 (its number where there's no file).
    pub line: usize,
    /// The pattern, cleaned, without its `!`.
    pub pattern: &'i [u8],
}

/// Which patterns matched a directory, for what lies in it.
#[derive(Debug, Clone, Default)]
pub struct Matched(Vec<bool>);

impl Ignore {
    /// Compiles an ignore file.
    pub fn parse(content: &[u8]) -> Result<Self, IgnoreError> {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let mut ignore = Self::default();
        for (number, line) in content.split(|&b| b == b'\n').enumerate() {
            if line.first() == Some(&b'#') {
                continue;
            }
            let line = trim(line);
            let (negated, text) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, trim(rest)));
            if line.is_empty() {
                continue;
            }
            let mut pattern = if text.is_empty() { Vec::new() } else { clean(text) };
            if pattern.len() > 1 && pattern[0] == b'/' {
                pattern.remove(0);
            }
            if negated {
                pattern.insert(0, b'!');
            }
            ignore.push(&pattern, number + 1)?;
        }
        Ok(ignore)
    }

    /// Compiles patterns that stand in no file.
    pub fn from_patterns<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, IgnoreError> {
        let mut ignore = Self::default();
        for (number, pattern) in patterns.into_iter().enumerate() {
            ignore.push(pattern.as_ref(), number + 1)?;
        }
        Ok(ignore)
    }

    fn push(&mut self, pattern: &[u8], line: usize) -> Result<(), IgnoreError> {
        let pattern = trim(pattern);
        if pattern.is_empty() {
            return Ok(());
        }
        let cleaned = clean(pattern);
        let (negated, text) = match cleaned.strip_prefix(b"!") {
            Some(b"") => return Err(IgnoreError::LoneExclamation { line }),
            Some(rest) => (true, rest),
            None => (false, cleaned.as_slice()),
        };
        Glob::new(text).map_err(|source| IgnoreError::Pattern { line, source })?;
        let (tokens, shape) = compile(text).map_err(|source| IgnoreError::Pattern { line, source })?;
        self.negations |= negated;
        self.patterns.push(Pattern { text: text.to_vec(), line, negated, shape, tokens });
        Ok(())
    }

    /// In order, comments and blank lines left out.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Some pattern begins with `!`.
    pub fn has_negations(&self) -> bool {
        self.negations
    }

    /// Is the path left out, by itself or by a directory above it? The context's root never is.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.decide(path).is_some_and(|decision| decision.excluded)
    }

    /// The pattern that decides about a path; `None` where none says anything.
    pub fn decide(&self, path: &[u8]) -> Option<Decision<'_>> {
        let path = clean(path);
        if path == b"." {
            return None;
        }
        self.deciding(&path).map(|pattern| pattern.decision())
    }

    fn deciding(&self, path: &[u8]) -> Option<&Pattern> {
        // From the last one: the first hit decides, as long as it changes something. A negation that no exclusion
        // stands before changes nothing, but it's still what lets the path in.
        self.patterns.iter().rev().find(|pattern| pattern.matches_or_parent(path))
    }

    /// As [`Self::decide`] for a walker: what matched the directory above is handed down, so that each path is looked
    /// at once only. Begin with `Matched::default()` at the root. `path` must be clean.
    pub fn decide_below(&self, path: &[u8], above: &Matched) -> (Option<Decision<'_>>, Matched) {
        let mut matched = Vec::with_capacity(self.patterns.len());
        let mut decision = None;
        for (number, pattern) in self.patterns.iter().enumerate() {
            let hit = above.0.get(number).copied().unwrap_or(false) || pattern.matches(path);
            matched.push(hit);
            if hit {
                decision = Some(pattern.decision());
            }
        }
        (decision, Matched(matched))
    }

    /// May something below this directory be let in, so that it has to be walked? True for a directory that is not
    /// left out.
    pub fn could_match_below(&self, dir: &[u8]) -> bool {
        let dir = clean(dir);
        if dir == b"." {
            return true;
        }
        let Some(decider) = self.patterns.iter().rposition(|pattern| pattern.matches_or_parent(&dir)) else {
            return true;
        };
        if self.patterns[decider].negated {
            return true;
        }
        // What stands before the pattern that excludes the directory can't let anything below it in.
        let below = [dir.as_slice(), b"/"].concat();
        self.patterns[decider + 1..].iter().any(|pattern| pattern.negated && pattern.could_continue(&below))
    }
}

impl Pattern {
    /// The line in the file, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Cleaned, without the `!`.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// It began with a `!`.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    fn decision(&self) -> Decision<'_> {
        Decision { excluded: !self.negated, line: self.line, pattern: &self.text }
    }

    fn matches_or_parent(&self, path: &[u8]) -> bool {
        self.matches(path)
            || path.iter().enumerate().any(|(at, &byte)| byte == b'/' && at > 0 && self.matches(&path[..at]))
    }

    fn matches(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact(text) => path == text,
            Shape::Prefix(text) => path.starts_with(text),
            Shape::Suffix(text) => path.ends_with(text) || text.strip_prefix(b"/") == Some(path),
            Shape::Tokens => self.search(path).is_some_and(|reached| reached.last() == Some(&true)),
        }
    }

    /// Can a path that begins with `start` match?
    fn could_continue(&self, start: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact(text) => text.starts_with(start),
            Shape::Prefix(text) => text.starts_with(start) || start.starts_with(text),
            Shape::Suffix(_) => true,
            Shape::Tokens => {
                let mut reached = vec![false; start.len() + 1];
                reached[0] = true;
                for token in &self.tokens {
                    // Something is left to be matched where the start has been used up.
                    if reached[start.len()] || token.could_reach_past(start, &reached) {
                        return true;
                    }
                    reached = token.step(start, &reached);
                }
                false
            }
        }
    }

    /// The places in the path that the pattern's tokens can end at; `None` where it gets nowhere.
    fn search(&self, path: &[u8]) -> Option<Vec<bool>> {
        if let Some(Token::Literal(first)) = self.tokens.first()
            && !path.starts_with(first)
        {
            return None;
        }
        if let Some(Token::Literal(last)) = self.tokens.last()
            && !path.ends_with(last)
        {
            return None;
        }
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for token in &self.tokens {
            reached = token.step(path, &reached);
            if !reached.contains(&true) {
                return None;
            }
        }
        Some(reached)
    }
}

impl Token {
    /// From the places reached so far to those reached behind this token.
    fn step(&self, path: &[u8], reached: &[bool]) -> Vec<bool> {
        let mut next = vec![false; path.len() + 1];
        let mut open = false;
        for at in 0..=path.len() {
            let rest = &path[at..];
            match self {
                Self::Everything => {
                    open |= reached[at];
                    next[at] = open;
                    continue;
                }
                Self::Star => {
                    open |= reached[at];
                    next[at] = open;
                    open &= rest.first() != Some(&b'/');
                    continue;
                }
                Self::Directories => {
                    next[at] = reached[at] || open && path[at - 1] == b'/';
                    open |= reached[at];
                    continue;
                }
                _ => {}
            }
            if let Some(length) = reached[at].then(|| self.length(rest)).flatten() {
                next[at + length] = true;
            }
        }
        next
    }

    fn length(&self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Literal(text) => rest.starts_with(text).then_some(text.len()),
            Self::Any => decode(rest).filter(|_| rest[0] != b'/').map(|(_, length)| length),
            Self::Class(class) => class.take(rest),
            Self::Star | Self::Everything | Self::Directories => None,
        }
    }

    /// Can this token go on where the path ends?
    fn could_reach_past(&self, path: &[u8], reached: &[bool]) -> bool {
        let from = || reached.iter().enumerate().filter(|(_, reached)| **reached).map(|(at, _)| &path[at..]);
        match self {
            Self::Literal(text) => from().any(|rest| text.len() > rest.len() && text.starts_with(rest)),
            Self::Star => from().any(|rest| !rest.contains(&b'/')),
            Self::Everything | Self::Directories => from().next().is_some(),
            Self::Any | Self::Class(_) => false,
        }
    }
}

fn trim(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

/// A cleaned pattern to tokens. Which shape it has follows moby's compiler, quirks included (`**name` is an ending).
fn compile(pattern: &[u8]) -> Result<(Vec<Token>, Shape), BadPattern> {
    let mut tokens = Vec::new();
    let mut shape = Shape::Exact(pattern.to_vec());
    let mut literal = Vec::new();
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        let first = rest.len() == pattern.len();
        rest = after;
        let token = match byte {
            b'*' if rest.first() == Some(&b'*') => {
                rest = &rest[1..];
                rest = rest.strip_prefix(b"/").unwrap_or(rest);
                let last = rest.is_empty();
                shape = match shape {
                    _ if first => Shape::Suffix(pattern[2..].to_vec()),
                    Shape::Exact(_) if last => Shape::Prefix(pattern[..pattern.len() - 2].to_vec()),
                    _ => Shape::Tokens,
                };
                if last { Token::Everything } else { Token::Directories }
            }
            b'*' => Token::Star,
            b'?' => Token::Any,
            b'[' => {
                let class;
                (class, rest) = Class::read(rest)?;
                if class.has_backward_range() {
                    return Err(BadPattern);
                }
                Token::Class(class)
            }
            b'\\' => {
                let (&escaped, after) = rest.split_first().ok_or(BadPattern)?;
                rest = after;
                literal.push(escaped);
                shape = Shape::Tokens;
                continue;
            }
            _ => {
                literal.push(byte);
                continue;
            }
        };
        if matches!(token, Token::Star | Token::Any | Token::Class(_)) {
            shape = Shape::Tokens;
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(std::mem::take(&mut literal)));
        }
        tokens.push(token);
    }
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal));
    }
    Ok((tokens, shape))
}

#[cfg(test)]
mod tests;
