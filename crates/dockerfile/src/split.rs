//! Cutting an instruction's line: keyword, flags, words.
//!
//! Parts of a line in, parts or words out, quotes left where they are (but for flags, which are read whole here).

use crate::ast::Word;
use crate::source::Part;
use crate::span::Spanned;

/// `--name[=value]` with quotes and escapes taken off.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    /// All of it.
    pub word: Word,
    /// What stands behind the first `=`.
    pub value: Option<Word>,
}

impl Flag {
    /// The name, dashes included.
    pub fn name(&self) -> &str {
        self.word.value.split('=').next().unwrap_or(&self.word.value)
    }
}

/// Blanks between arguments. (Other spaces of Unicode separate nothing.)
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The first word and what follows the blanks behind it.
pub(crate) fn first_and_rest(part: Part<'_>) -> (Part<'_>, Part<'_>) {
    let text = part.text();
    let end = text.find(is_blank).unwrap_or(text.len());
    let rest = text.len() - text[end..].trim_start_matches(is_blank).len();
    (part.part(0..end), part.part(rest..text.len()))
}

/// Words between blanks, quotes not looked at.
pub(crate) fn at_blanks(part: Part<'_>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = part;
    while !rest.is_empty() {
        let word;
        (word, rest) = first_and_rest(rest);
        words.push(word.word());
    }
    words
}

enum Phase {
    Spaces,
    Word,
    Quote(char),
}

/// Words as ENV, LABEL and ARG have them: blanks in quotes and escaped blanks don't separate. Nothing is taken off.
pub(crate) fn quoted_words(part: Part<'_>, escape: char) -> Vec<Word> {
    let text = part.text();
    let mut words = Vec::new();
    let mut phase = Phase::Spaces;
    let (mut start, mut end) = (0, 0);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if matches!(phase, Phase::Spaces) && !character.is_whitespace() {
            (start, end) = (at, at);
            phase = Phase::Word;
        }
        match phase {
            Phase::Spaces => continue,
            Phase::Word if character.is_whitespace() => {
                if end > start {
                    words.push(part.part(start..end).word());
                }
                phase = Phase::Spaces;
                continue;
            }
            Phase::Word if matches!(character, '\'' | '"') => phase = Phase::Quote(character),
            Phase::Quote(quote) if quote == character => phase = Phase::Word,
            _ => {}
        }
        let escapes = character == escape && !matches!(phase, Phase::Quote('\''));
        if !escapes {
            end = at + character.len_utf8();
        } else if let Some((at, escaped)) = characters.next() {
            end = at + escaped.len_utf8();
        }
    }
    if end > start && !matches!(phase, Phase::Spaces) {
        words.push(part.part(start..end).word());
    }
    words
}

/// Takes the flags off the front: words that begin with `--`, up to a bare `--`.
pub(crate) fn flags(part: Part<'_>, escape: char) -> (Vec<Flag>, Part<'_>) {
    let mut flags = Vec::new();
    let mut rest = part;
    loop {
        let skipped = rest.text().len() - rest.text().trim_start().len();
        rest = rest.part(skipped..rest.text().len());
        if !rest.text().starts_with("--") {
            return (flags, rest);
        }
        let (flag, length) = flag(rest, escape);
        rest = rest.part(length..rest.text().len());
        if flag.word.value == "--" {
            return (flags, rest);
        }
        flags.push(flag);
    }
}

/// The flag that `part` begins with, and its length.
fn flag(part: Part<'_>, escape: char) -> (Flag, usize) {
    let mut value = String::new();
    let mut equals = None;
    let mut quote = None;
    let mut length = 0;
    let mut characters = part.text().char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            break;
        }
        length = at + character.len_utf8();
        if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '\'' | '"') {
            quote = Some(character);
        } else if character == escape {
            if let Some((at, escaped)) = characters.next() {
                length = at + escaped.len_utf8();
                value.push(escaped);
            }
        } else {
            if character == '=' && equals.is_none() {
                equals = Some((value.len(), length));
            }
            value.push(character);
        }
    }
    let given = equals.map(|(cut, at)| Spanned::new(value[cut + 1..].to_owned(), part.part(at..length).span()));
    (Flag { word: Spanned::new(value, part.part(0..length).span()), value: given }, length)
}

/// Fields between commas, with the quotes of CSV (`a,"b,""c"""`); the error is a message.
pub(crate) fn csv_fields(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, after) = rest.split_once(',').map_or((rest, None), |(field, after)| (field, Some(after)));
            if field.contains('"') {
                return Err("bare \" in non-quoted-field");
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let (text, after) = quoted.split_once('"').ok_or("extraneous or missing \" in quoted-field")?;
            field.push_str(text);
            quoted = after;
            match quoted.strip_prefix('"') {
                Some(after) => quoted = after,
                None => break,
            }
            field.push('"');
        }
        fields.push(field);
        match quoted.strip_prefix(',') {
            Some(after) => rest = after,
            None if quoted.is_empty() => return Ok(fields),
            None => return Err("extraneous or missing \" in quoted-field"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Item, Line, Reader};

    fn line(text: &str) -> Line {
        match Reader::new(text, '\\').next() {
            Some(Item::Line(line)) => line,
            _ => panic!("no line in {text:?}"),
        }
    }

    #[test]
    fn words_keep_their_quotes() {
        for (text, expected) in [
            ("foo bar", vec!["foo", "bar"]),
            ("a=\"b c\" d='e\\' f", vec!["a=\"b c\"", "d='e\\'", "f"]),
            ("foo\\ bar", vec!["foo\\ bar"]),
            ("\"\" x", vec!["\"\"", "x"]),
            ("\\\"a b", vec!["\\\"a", "b"]),
        ] {
            let line = line(text);
            let words: Vec<_> = quoted_words(line.all(), '\\').into_iter().map(|word| word.value).collect();
            assert_eq!(words, expected, "{text}");
        }
    }

    #[test]
    fn flags_are_read_whole() {
        let line = line("--a=\"x y\" --b --c='=' --d\\ e -- --f g");
        let (flags, rest) = flags(line.all(), '\\');
        let values: Vec<_> =
            flags.iter().map(|flag| (flag.name(), flag.value.as_ref().map(|v| v.value.as_str()))).collect();
        assert_eq!(values, [("--a", Some("x y")), ("--b", None), ("--c", Some("=")), ("--d e", None)]);
        assert_eq!(rest.text().trim(), "--f g");
        let span = flags[0].value.as_ref().unwrap().span;
        assert_eq!(&line.text[span.start..span.end], "\"x y\"");
    }

    #[test]
    fn csv() {
        for (text, expected) in [
            ("a,b=c", Ok(vec!["a", "b=c"])),
            ("", Ok(vec![""])),
            ("a,", Ok(vec!["a", ""])),
            ("\"a,\"\"b\",c", Ok(vec!["a,\"b", "c"])),
            ("a\"b", Err("bare \" in non-quoted-field")),
            ("\"a", Err("extraneous or missing \" in quoted-field")),
            ("\"a\"b", Err("extraneous or missing \" in quoted-field")),
        ] {
            assert_eq!(
                csv_fields(text),
                expected.map(|fields| fields.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
    }
}
