//! `<<WORD`: finding them in an instruction's line, and reading their bodies.
//!
//! A line's text in, [`Start`]s out; then the physical lines that follow, up to each word. Which instructions may have
//! heredocs isn't decided here.

use std::ops::Range;

use crate::ast::Heredoc;
use crate::diagnostic::Diagnostic;
use crate::source::{Line, Reader, trim_line_end};
use crate::span::Span;
use crate::word::{ExpandError, Lexer};

/// A `<<WORD` that announces a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The word without quotes: what ends the body.
    pub name: String,
    /// Nothing of the word is quoted.
    pub expand: bool,
    /// `<<-`
    pub strip_tabs: bool,
    /// The number in front, 0 if none.
    pub fd: u32,
    /// Its bytes in the line.
    pub place: Range<usize>,
}

/// Heredoc words know backslashes only, whatever `# escape=` says.
const ESCAPE: char = '\\';

/// Is this one word a heredoc's start? `Ok(None)` if it isn't one.
pub fn of_word(word: &str) -> Result<Option<Start>, ExpandError> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let nothing = |_: &str| None;
    let lexer = Lexer::new(ESCAPE).keep_unset();
    let bare = lexer.process(rest, &nothing)?.words;
    let [name] = bare.as_slice() else { return Ok(None) };
    let as_written = lexer.keep_quotes().process(rest, &nothing)?.words;
    let quotes =
        |words: &[String]| words.iter().flat_map(|word| word.chars()).filter(|c| matches!(c, '\'' | '"')).count();
    Ok(Some(Start {
        name: name.clone(),
        expand: quotes(&bare) == quotes(&as_written),
        strip_tabs,
        fd: word[..digits].parse().unwrap_or(0),
        place: 0..word.len(),
    }))
}

/// All starts in a line, in order. A line with a quote that isn't closed has none: it's the shell's to judge.
pub fn of_line(line: &str) -> Result<Vec<Start>, ExpandError> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let lexer = Lexer::new(ESCAPE).keep_quotes().keep_escapes().keep_unset();
    let Ok(expanded) = lexer.process(line, &|_: &str| None) else { return Ok(Vec::new()) };
    let mut starts = Vec::new();
    for (word, place) in expanded.words.iter().zip(expanded.places) {
        if let Some(start) = of_word(word)? {
            starts.push(Start { place, ..start });
        }
    }
    Ok(starts)
}

/// The body without the tabs that its lines begin with.
pub fn strip_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// Reads the body of each of `line`'s heredocs and moves `reader` past it.
pub(crate) fn read(line: &Line, reader: &mut Reader<'_>) -> Result<Vec<Heredoc>, Diagnostic> {
    let starts =
        of_line(&line.text).map_err(|error| Diagnostic::error("InvalidHeredoc", line.span, error.to_string()))?;
    starts.into_iter().map(|start| read_body(line, start, reader)).collect()
}

fn read_body(line: &Line, start: Start, reader: &mut Reader<'_>) -> Result<Heredoc, Diagnostic> {
    let span = line.span(start.place.clone());
    let begin = reader.at();
    let mut content = String::new();
    let mut nearly = None;
    loop {
        let end = reader.at();
        let Some(raw) = reader.physical() else {
            let found = Diagnostic::error("UnterminatedHeredoc", span, "unterminated heredoc");
            return Err(found.hint(match nearly {
                Some(line) => format!(
                    "line {line} holds {0} and blanks: write {0} at the beginning of its line and nothing behind it",
                    start.name
                ),
                None => format!("end it with a line that holds {} and nothing else", start.name),
            }));
        };
        let text = trim_line_end(raw);
        let text = if start.strip_tabs { text.trim_start_matches('\t') } else { text };
        if text == start.name {
            return Ok(Heredoc {
                content: if start.strip_tabs { strip_tabs(&content) } else { content },
                name: start.name,
                expand: start.expand,
                strip_tabs: start.strip_tabs,
                fd: start.fd,
                span,
                body: Span::new(begin, end),
            });
        }
        if text.trim() == start.name {
            nearly = Some(reader.line_of(end));
        }
        content.push_str(raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (word, expected) in [
            ("<<EOF", Some(("EOF", true, false, 0))),
            ("3<<-\"E F\"", Some(("E F", false, true, 3))),
            ("<< EOF", Some(("EOF", true, false, 0))),
            ("<<E'O'F", Some(("EOF", false, false, 0))),
            ("<<", None),
            ("<<<EOF", None),
            ("a<<EOF", None),
            ("<<\"\"", None),
        ] {
            let found = of_word(word).unwrap();
            let found = found.as_ref().map(|start| (start.name.as_str(), start.expand, start.strip_tabs, start.fd));
            assert_eq!(found, expected, "{word}");
        }
        assert!(of_word("<<'EOF").is_err());
    }

    #[test]
    fn places_in_a_line() {
        let line = "RUN a <<X 4<<-'Y' \"<<Z\" $((1<<2)) | b";
        let places: Vec<_> = of_line(line).unwrap().into_iter().map(|start| &line[start.place]).collect();
        assert_eq!(places, ["<<X", "4<<-'Y'"]);
        assert_eq!(of_line("RUN it's <<X").unwrap(), []);
    }
}
