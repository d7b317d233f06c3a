//! Wildcards as Go's `filepath.Match` has them: `*`, `?`, `[a-z]`, `[^a]`, `\` escapes; none of them crosses a `/`
//! (a class may).
//!
//! A pattern is compiled once and matched against many names. Bytes in; a character is a UTF-8 sequence, or one byte
//! where it is none. Doesn't know `**` (that's [`crate::ignore`]) and reads no directory.

use thiserror::Error;

/// The pattern has an open class, a range without an end or a backslash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// One compiled pattern.
#[derive(Debug, Clone)]
pub struct Glob {
    chunks: Vec<Chunk>,
}

/// What stands between two stars.
#[derive(Debug, Clone)]
struct Chunk {
    star: bool,
    atoms: Vec<Atom>,
}

#[derive(Debug, Clone)]
enum Atom {
    Byte(u8),
    Any,
    Class(Class),
}

/// `[…]`: one character out of a set of ranges.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    /// Reads a class whose `[` has been taken; gives it and what follows its `]`.
    pub(crate) fn read(mut pattern: &[u8]) -> Result<(Self, &[u8]), BadPattern> {
        let negated = pattern.first() == Some(&b'^');
        if negated {
            pattern = &pattern[1..];
        }
        let mut ranges = Vec::new();
        loop {
            if pattern.first() == Some(&b']') && !ranges.is_empty() {
                return Ok((Self { negated, ranges }, &pattern[1..]));
            }
            let low;
            (low, pattern) = Self::bound(pattern)?;
            let mut high = low;
            if pattern.first() == Some(&b'-') {
                (high, pattern) = Self::bound(&pattern[1..])?;
            }
            ranges.push((low, high));
        }
    }

    fn bound(pattern: &[u8]) -> Result<(char, &[u8]), BadPattern> {
        let text = match pattern {
            [] | [b'-' | b']', ..] => return Err(BadPattern),
            [b'\\', rest @ ..] => rest,
            _ => pattern,
        };
        let (character, length) = decode(text).ok_or(BadPattern)?;
        let rest = &text[length..];
        match character {
            Some(character) if !rest.is_empty() => Ok((character, rest)),
            _ => Err(BadPattern),
        }
    }

    /// A range that ends before it begins: it matches nothing, and some take it for a mistake.
    pub(crate) fn has_backward_range(&self) -> bool {
        self.ranges.iter().any(|(low, high)| low > high)
    }

    /// Is the first character of `name` in the set? Gives its length if so.
    pub(crate) fn take(&self, name: &[u8]) -> Option<usize> {
        let (character, length) = decode(name)?;
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        let inside = self.ranges.iter().any(|&(low, high)| (low..=high).contains(&character));
        (inside != self.negated).then_some(length)
    }
}

/// The first character of `bytes` and its length; `None` in it for a byte that is no UTF-8.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((Some(char::from(first)), 1));
    }
    let longest = bytes.len().min(4);
    for length in 2..=longest {
        if let Ok(text) = std::str::from_utf8(&bytes[..length]) {
            return Some((text.chars().next(), length));
        }
    }
    Some((None, 1))
}

impl Glob {
    /// Compiles a pattern.
    pub fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        let mut chunks = Vec::new();
        let mut chunk = Chunk { star: false, atoms: Vec::new() };
        let mut rest = pattern;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'*' => {
                    if !(chunk.star && chunk.atoms.is_empty()) {
                        chunks.push(std::mem::replace(&mut chunk, Chunk { star: true, atoms: Vec::new() }));
                    }
                }
                b'?' => chunk.atoms.push(Atom::Any),
                b'[' => {
                    let class;
                    (class, rest) = Class::read(rest)?;
                    chunk.atoms.push(Atom::Class(class));
                }
                b'\\' => {
                    let (&escaped, after) = rest.split_first().ok_or(BadPattern)?;
                    rest = after;
                    chunk.atoms.push(Atom::Byte(escaped));
                }
                _ => chunk.atoms.push(Atom::Byte(byte)),
            }
        }
        chunks.push(chunk);
        Ok(Self { chunks })
    }

    /// Does the whole name match?
    pub fn matches(&self, name: &[u8]) -> bool {
        let mut name = name;
        for (number, chunk) in self.chunks.iter().enumerate() {
            let last = number + 1 == self.chunks.len();
            match chunk.find(name, last) {
                Some(rest) => name = rest,
                None => return false,
            }
        }
        name.is_empty()
    }
}

/// Does this text mean more than itself (so that it is to be matched rather than looked up)?
pub fn has_wildcards(pattern: &[u8]) -> bool {
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => rest = after.get(1..).unwrap_or_default(),
            _ => rest = after,
        }
    }
    false
}

impl Chunk {
    /// What remains of `name` behind the first place where this chunk fits; the whole name if it's the last chunk.
    fn find<'n>(&self, name: &'n [u8], last: bool) -> Option<&'n [u8]> {
        if self.star && last && self.atoms.is_empty() {
            return (!name.contains(&b'/')).then_some(&[]);
        }
        let fits = |rest: &&[u8]| !last || rest.is_empty();
        if let Some(rest) = self.strip(name).filter(fits) {
            return Some(rest);
        }
        if !self.star {
            return None;
        }
        for (skipped, &byte) in name.iter().enumerate() {
            if byte == b'/' {
                return None;
            }
            if let Some(rest) = self.strip(&name[skipped + 1..]).filter(fits) {
                return Some(rest);
            }
        }
        None
    }

    fn strip<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let mut name = name;
        for atom in &self.atoms {
            let length = match atom {
                Atom::Byte(byte) => (name.first() == Some(byte)).then_some(1)?,
                Atom::Any => decode(name).filter(|_| name[0] != b'/')?.1,
                Atom::Class(class) => class.take(name)?,
            };
            name = &name[length..];
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("a?b", "a☺b", true),
            ("a?b", "a\u{0}b", true),
            ("a?b", "a/b", false),
            ("a[^a]b", "a/b", true),
            ("[a-ζ]*", "α", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**", "abc", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
        ] {
            assert_eq!(Glob::new(pattern.as_bytes()).unwrap().matches(name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn broken_patterns() {
        for pattern in ["[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[-x]", "\\", "a\\", "x*[", "[a\\"] {
            assert!(Glob::new(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert!(Glob::new(b"a?b").unwrap().matches(b"a\xffb"));
        assert!(Glob::new(b"\xff*").unwrap().matches(b"\xffx"));
        assert!(!Glob::new(b"[a-z]").unwrap().matches(b"\xff"));
    }

    #[test]
    fn wildcards() {
        for (pattern, expected) in
            [("a", false), ("a*", true), ("a\\*", false), ("a?", true), ("[a]", true), ("\\", false)]
        {
            assert_eq!(has_wildcards(pattern.as_bytes()), expected, "{pattern}");
        }
    }
}
