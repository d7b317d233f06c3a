//! As much JSON as a Dockerfile needs: arrays of strings (exec form) with the place of each, and a member of an object.
//!
//! Strict as Go's decoder. Values other than strings are checked and passed over, without recursion.

use std::ops::Range;

/// A string of an array and its place, quotes included.
pub(crate) type Item = (String, Range<usize>);

/// Why a text is no array of strings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotStrings {
    /// It isn't JSON, or no array: the text means itself.
    NotArray,
    /// It's a proper array with something else in it.
    OtherValues,
}

/// Deeper nesting is refused, as Go's decoder does.
const MAX_DEPTH: usize = 10_000;

/// Reads `["a", "b"]`.
pub(crate) fn strings(text: &str) -> Result<Vec<Item>, NotStrings> {
    let mut cursor = Cursor { text, at: text.len() - text.trim_start().len() };
    let mut items = Vec::new();
    let mut pure = true;
    cursor.expect(b'[').ok_or(NotStrings::NotArray)?;
    cursor.blanks();
    if cursor.expect(b']').is_none() {
        loop {
            cursor.blanks();
            let start = cursor.at;
            if cursor.peek() == Some(b'"') {
                let value = cursor.string().ok_or(NotStrings::NotArray)?;
                items.push((value, start..cursor.at));
            } else {
                cursor.value().ok_or(NotStrings::NotArray)?;
                pure = false;
            }
            cursor.blanks();
            if cursor.expect(b',').is_none() {
                cursor.expect(b']').ok_or(NotStrings::NotArray)?;
                break;
            }
        }
    }
    if !text[cursor.at..].trim_matches(is_blank).is_empty() {
        return Err(NotStrings::NotArray);
    }
    if pure { Ok(items) } else { Err(NotStrings::OtherValues) }
}

/// The string that an object has under `name`, if all of `text` is an object.
pub(crate) fn string_member(text: &str, name: &str) -> Option<Item> {
    let mut cursor = Cursor { text, at: 0 };
    let mut found = None;
    cursor.blanks();
    cursor.expect(b'{')?;
    cursor.blanks();
    if cursor.expect(b'}').is_none() {
        loop {
            cursor.blanks();
            let key = cursor.string()?;
            cursor.blanks();
            cursor.expect(b':')?;
            cursor.blanks();
            let start = cursor.at;
            let value =
                if cursor.peek() == Some(b'"') { Some(cursor.string()?) } else { cursor.value().map(|()| None)? };
            if key == name {
                found = value.map(|value| (value, start..cursor.at));
            }
            cursor.blanks();
            if cursor.expect(b',').is_none() {
                cursor.expect(b'}')?;
                break;
            }
        }
    }
    cursor.blanks();
    found.filter(|_| cursor.at == text.len())
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(is_blank).len();
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut value = String::new();
        loop {
            let character = self.text[self.at..].chars().next()?;
            self.at += character.len_utf8();
            match character {
                '"' => return Some(value),
                '\\' => value.push(self.escape()?),
                '\0'..='\u{1f}' => return None,
                _ => value.push(character),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += usize::from(byte.is_ascii());
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return None,
        })
    }

    /// `\uXXXX`, or two of them that are a surrogate pair; half a pair is a replacement character.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        if let Some(character) = char::from_u32(high) {
            return Some(character);
        }
        let back = self.at;
        if (0xd800..0xdc00).contains(&high) && self.literal("\\u").is_some() {
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                return char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            }
            self.at = back;
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    /// Passes over any value. The stack holds what closes each open bracket.
    fn value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.blanks();
            match self.peek()? {
                bracket @ (b'[' | b'{') => {
                    self.at += 1;
                    let close = if bracket == b'[' { b']' } else { b'}' };
                    self.blanks();
                    if self.expect(close).is_none() {
                        open.push(close);
                        if open.len() > MAX_DEPTH {
                            return None;
                        }
                        self.member_key(close)?;
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                let Some(&close) = open.last() else { return Some(()) };
                self.blanks();
                if self.expect(b',').is_some() {
                    self.member_key(close)?;
                    break;
                }
                self.expect(close)?;
                open.pop();
            }
        }
    }

    fn member_key(&mut self, close: u8) -> Option<()> {
        if close == b'}' {
            self.blanks();
            self.string()?;
            self.blanks();
            self.expect(b':')?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays() {
        for (text, expected) in [
            ("[]", Ok(vec![])),
            (" [ \"a\" ,\t\"b\"] ", Ok(vec!["a", "b"])),
            (r#"["\"\\\/\b\f\n\r\tA\u00e9"]"#, Ok(vec!["\"\\/\u{8}\u{c}\n\r\tAé"])),
            (r#"["\ud83d\ude00","\ud83d","\ud83dx"]"#, Ok(vec!["😀", "\u{fffd}", "\u{fffd}x"])),
            ("['a']", Err(NotStrings::NotArray)),
            ("[\"a\"", Err(NotStrings::NotArray)),
            ("[\"a\",]", Err(NotStrings::NotArray)),
            ("[\"a\"] x", Err(NotStrings::NotArray)),
            ("[\"\\x\"]", Err(NotStrings::NotArray)),
            ("a", Err(NotStrings::NotArray)),
            ("[1]", Err(NotStrings::OtherValues)),
            ("[\"a\", {\"b\": [1.5e3, -0, null, true]}, []]", Err(NotStrings::OtherValues)),
            ("[01]", Err(NotStrings::NotArray)),
            ("[{1}]", Err(NotStrings::NotArray)),
        ] {
            let found = strings(text).map(|items| items.into_iter().map(|(value, _)| value).collect::<Vec<_>>());
            assert_eq!(found, expected.map(|e| e.into_iter().map(str::to_owned).collect()), "{text}");
        }
        assert_eq!(strings(&"[".repeat(100_000)), Err(NotStrings::NotArray));
    }

    #[test]
    fn places_include_the_quotes() {
        let text = "[\"a\", \"bc\"]";
        let places: Vec<_> = strings(text).unwrap().into_iter().map(|(_, place)| &text[place]).collect();
        assert_eq!(places, ["\"a\"", "\"bc\""]);
    }

    #[test]
    fn members() {
        assert_eq!(string_member("{\"a\": [], \"s\": \"x\"}\n", "s").unwrap().0, "x");
        assert_eq!(string_member("{\"s\": \"x\"} y", "s"), None);
        assert_eq!(string_member("{\"s\": 1}", "s"), None);
    }
}
