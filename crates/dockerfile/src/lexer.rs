//! The machine behind [`crate::word`]: reads a text once, character by character.
//!
//! One text and one source of values in, [`Expanded`] out. Patterns are [`crate::pattern`]'s.

use std::ops::Range;

use crate::pattern;
use crate::word::{ExpandError, Expanded, Lexer, MAX_NESTING};

type Values<'e> = dyn Fn(&str) -> Option<String> + 'e;

pub(crate) struct Machine<'t> {
    lexer: Lexer,
    text: &'t str,
    at: usize,
    env: &'t Values<'t>,
    keep_escapes: bool,
    depth: usize,
    result: Expanded,
}

/// Words in the making.
#[derive(Default)]
struct Words {
    done: Vec<(String, Range<usize>)>,
    open: String,
    /// Something of this word has been seen; it may be an empty quote.
    inside: bool,
    start: usize,
    end: usize,
}

impl Words {
    fn add_raw(&mut self, text: &str, place: Range<usize>) {
        if !self.inside {
            self.start = place.start;
        }
        self.open.push_str(text);
        self.inside = true;
        self.end = place.end;
    }

    fn add(&mut self, text: &str, place: &Range<usize>) {
        for (at, character) in text.char_indices() {
            if !character.is_whitespace() {
                self.add_raw(&text[at..at + character.len_utf8()], place.clone());
            } else if self.inside && !self.open.is_empty() {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push((std::mem::take(&mut self.open), self.start..self.end));
            self.inside = false;
        }
    }
}

impl<'t> Machine<'t> {
    pub(crate) fn new(lexer: Lexer, text: &'t str, env: &'t Values<'t>) -> Self {
        let keep_escapes = lexer.keep_escapes;
        Self { lexer, text, at: 0, env, keep_escapes, depth: 0, result: Expanded::default() }
    }

    pub(crate) fn run(mut self) -> Result<Expanded, ExpandError> {
        let mut words = Words::default();
        let text = self.until(None, &mut words)?;
        words.close();
        (self.result.words, self.result.places) = words.done.into_iter().unzip();
        self.result.text = text;
        Ok(self.result)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn check(&self, length: usize) -> Result<(), ExpandError> {
        if length > self.lexer.limit { Err(ExpandError::TooLong(self.lexer.limit)) } else { Ok(()) }
    }

    /// Up to (and past) `stop`, or to the end where there's none to stop at.
    fn until(&mut self, stop: Option<char>, words: &mut Words) -> Result<String, ExpandError> {
        let mut text = String::new();
        while let Some(character) = self.peek() {
            let start = self.at;
            if stop == Some(character) {
                self.next();
                return Ok(text);
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    text.push_str(&value);
                    words.add(&value, &(start..self.at));
                }
                '<' => {
                    let value = self.less_than();
                    text.push_str(value);
                    words.add_raw(value, start..self.at);
                }
                '\'' | '"' if !self.lexer.plain_quotes => {
                    let value = if character == '"' { self.double_quoted()? } else { self.single_quoted()?.to_owned() };
                    text.push_str(&value);
                    words.add_raw(&value, start..self.at);
                }
                _ if character == self.lexer.escape => self.escaped(&mut text, words),
                _ => {
                    self.next();
                    text.push(character);
                    words.add(&self.text[start..self.at], &(start..self.at));
                }
            }
            self.check(text.len())?;
        }
        match stop {
            None => Ok(text),
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::MissingBrace),
        }
    }

    fn escaped(&mut self, text: &mut String, words: &mut Words) {
        let start = self.at;
        let escape = self.next();
        let from = if self.keep_escapes { start } else { self.at };
        if self.next().is_none() && !self.keep_escapes {
            return;
        }
        debug_assert_eq!(escape, Some(self.lexer.escape));
        text.push_str(&self.text[from..self.at]);
        words.add_raw(&self.text[from..self.at], start..self.at);
    }

    fn single_quoted(&mut self) -> Result<&'t str, ExpandError> {
        let text = self.text;
        let start = self.at;
        let length = text[start + 1..].find('\'').ok_or(ExpandError::Unterminated("single-quote"))?;
        self.at = start + 1 + length + 1;
        Ok(if self.lexer.keep_quotes { &text[start..self.at] } else { &text[start + 1..self.at - 1] })
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.next();
        if self.lexer.keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek().ok_or(ExpandError::Unterminated("double-quote"))? {
                '"' => {
                    self.next();
                    if self.lexer.keep_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                character if character == self.lexer.escape => {
                    self.next();
                    if self.keep_escapes {
                        text.push(character);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if matches!(next, '"' | '$') || next == character => {
                            self.next();
                            text.push(next);
                        }
                        Some(_) => text.push(character),
                    }
                }
                character => {
                    self.next();
                    text.push(character);
                }
            }
            self.check(text.len())?;
        }
    }

    /// `<`, or the start of a heredoc, which may have blanks before its word.
    fn less_than(&mut self) -> &'t str {
        let text = self.text;
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.next();
            }
        }
        &text[start..self.at]
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.env)(name);
        let names = if value.is_some() { &mut self.result.used } else { &mut self.result.unset };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.value(name).unwrap_or_else(|| self.unset(start)));
        }
        self.next();
        if self.depth == MAX_NESTING {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let value = self.braces(start)?;
        self.depth -= 1;
        Ok(value)
    }

    /// An unset variable, written from `start` up to here.
    fn unset(&self, start: usize) -> String {
        if self.lexer.keep_unset { self.text[start..self.at].to_owned() } else { String::new() }
    }

    /// What stands in `${}`, whose brace has been taken.
    fn braces(&mut self, start: usize) -> Result<String, ExpandError> {
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(self.value(name).unwrap_or_else(|| self.unset(start))),
            Some(':') => match self.next() {
                Some(sign @ ('+' | '-' | '?')) => self.default_or_alternative(start, name, sign, true),
                Some(other) => Err(ExpandError::UnsupportedModifier(format!(":{other}"))),
                None => Err(ExpandError::MissingBrace),
            },
            Some(sign @ ('+' | '-' | '?')) => self.default_or_alternative(start, name, sign, false),
            Some(sign @ ('#' | '%')) => self.trimmed(start, name, sign),
            Some('/') => self.replaced(start, name),
            Some(other) => Err(ExpandError::UnsupportedModifier(other.to_string())),
            None => Err(ExpandError::MissingBrace),
        }
    }

    fn nested(&mut self, stop: char, keep_escapes: bool) -> Result<String, ExpandError> {
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let text = self.until(Some(stop), &mut Words::default());
        self.keep_escapes = outer;
        text.map_err(|error| match error {
            // What was left open inside is not what's reported at the end of the text: the brace is.
            ExpandError::Unterminated(_) if self.at == self.text.len() => ExpandError::MissingBrace,
            other => other,
        })
    }

    fn default_or_alternative(
        &mut self,
        start: usize,
        name: &str,
        sign: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let word = self.nested('}', false)?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(self.unset(start));
        }
        let was_set = value.is_some();
        let counts = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (sign, counts) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let state = if was_set { "is not allowed to be empty" } else { "is not allowed to be unset" };
                let message = if word.is_empty() { state.to_owned() } else { word };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
        }
    }

    fn trimmed(&mut self, start: usize, name: &str, sign: char) -> Result<String, ExpandError> {
        let word = self.nested('}', true)?;
        let (greedy, pattern) = match word.strip_prefix(sign) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let Some(value) = self.value(name) else { return Ok(self.unset(start)) };
        if sign == '#' {
            pattern::trim_start(pattern, &value, greedy)
        } else {
            pattern::trim_end(pattern, &value, greedy)
        }
    }

    fn replaced(&mut self, start: usize, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.nested('/', true)?;
        let replacement = self.nested('}', true)?;
        let Some(value) = self.value(name) else { return Ok(self.unset(start)) };
        pattern::replace(&pattern, &value, &replacement, all, self.lexer.limit)
    }

    /// A name, a number or one special character; nothing where none stands.
    fn name(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let length = match rest.chars().next() {
            // Digits of any script, as BuildKit has it; a name may go on with them.
            Some(first) if first.is_numeric() && !first.is_alphabetic() => prefix(rest, char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => prefix(rest, |c| c.is_alphanumeric() || c == '_'),
        };
        self.at += length;
        &rest[..length]
    }
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.len() - text.trim_start_matches(belongs).len()
}
