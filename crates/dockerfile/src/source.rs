//! Bytes of a Dockerfile to logical lines: byte order mark, line ends, comments, continuations; and the way back from
//! a place in a logical line to the place in the source.
//!
//! Knows no instruction. Heredoc bodies are taken physical line by physical line by whoever found their start.

use std::ops::Range;

use crate::ast::Word;
use crate::diagnostic::Diagnostic;
use crate::span::{Span, Spanned, line_of};

/// A larger file is not written by hand; it bounds what a hostile one can cost.
pub const MAX_SOURCE: usize = 4 << 20;
/// So many places that are no text are reported; then it's no text file.
const MAX_ENCODING_REPORTS: usize = 20;

/// Turns bytes to text, with a diagnostic for each place that is none. What they hide is a replacement character.
pub(crate) fn decode(bytes: &[u8], sink: &mut Vec<Diagnostic>) -> String {
    if bytes.len() > MAX_SOURCE {
        let message = format!("the file has {} bytes, more than the {MAX_SOURCE} that are read", bytes.len());
        sink.push(Diagnostic::error("SourceTooLarge", Span::default(), message));
        return String::new();
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let found = Diagnostic::error("InvalidEncoding", Span::default(), "the file is UTF-16, not UTF-8");
        sink.push(found.hint("save it as UTF-8"));
        return String::new();
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut text = String::with_capacity(bytes.len());
    let mut reports = 0;
    let mut last = None;
    for chunk in bytes.utf8_chunks() {
        let start = text.len();
        text.push_str(chunk.valid());
        let nuls = chunk.valid().match_indices('\0').map(|(at, _)| (start + at, 1, "a NUL character"));
        // Several in a row are one place.
        let is_next = chunk.valid().is_empty() && last == Some(text.len());
        let broken = !chunk.invalid().is_empty() && !is_next;
        let broken = broken.then_some((text.len(), 3, "bytes that are not UTF-8"));
        for (at, length, what) in nuls.chain(broken) {
            reports += 1;
            if reports <= MAX_ENCODING_REPORTS {
                let message = format!("{what} in the file");
                let found = Diagnostic::error("InvalidEncoding", Span::new(at, at + length), message);
                sink.push(found.hint(if length == 1 {
                    "remove it"
                } else {
                    "save the file as UTF-8; editors show it as Latin-1 or Windows-1252 perhaps"
                }));
            }
        }
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            last = Some(text.len());
        }
    }
    text
}

/// An instruction's line with its continuations joined.
#[derive(Debug)]
pub(crate) struct Line {
    /// Without blanks in front, comments and continuation characters.
    pub(crate) text: String,
    /// (offset in `text`, offset in the source) of each physical line's share.
    pieces: Vec<(usize, usize)>,
    /// From the first character to the end of the last physical line that has a share.
    pub(crate) span: Span,
    /// Blank lines stood inside: the last physical line that was read.
    pub(crate) empty_continuation: Option<Span>,
}

impl Line {
    /// Where this part of `text` stands in the source.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        if range.is_empty() {
            let at = if range.start == 0 { self.source_of(0) } else { self.source_of(range.start - 1) + 1 };
            return Span::new(at, at);
        }
        Span::new(self.source_of(range.start), self.source_of(range.end - 1) + 1)
    }

    fn source_of(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|&(start, _)| start <= offset).saturating_sub(1);
        let (start, source) = self.pieces.get(piece).copied().unwrap_or((0, self.span.start));
        source + (offset - start.min(offset))
    }

    /// All of it.
    pub(crate) fn all(&self) -> Part<'_> {
        Part { line: self, start: 0, end: self.text.len() }
    }
}

/// A part of a line: text that knows where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    line: &'a Line,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'a> Part<'a> {
    pub(crate) fn text(self) -> &'a str {
        &self.line.text[self.start..self.end]
    }

    /// From here to the end of the line.
    pub(crate) fn tail(self) -> &'a str {
        &self.line.text[self.start..]
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn span(self) -> Span {
        self.line.span(self.start..self.end)
    }

    /// A part of this part.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        Self { line: self.line, start: self.start + range.start, end: self.start + range.end }
    }

    pub(crate) fn trim(self) -> Self {
        let end = self.text().trim_end().len();
        let start = end - self.text()[..end].trim_start().len();
        self.part(start..end)
    }

    pub(crate) fn word(self) -> Word {
        Spanned::new(self.text().to_owned(), self.span())
    }
}

/// What a file consists of.
pub(crate) enum Item {
    /// A comment line outside an instruction: the text behind its `#`, trimmed.
    Comment(Word),
    /// An instruction.
    Line(Line),
}

/// Reads a source from its start.
pub(crate) struct Reader<'s> {
    source: &'s str,
    at: usize,
    escape: char,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s str, escape: char) -> Self {
        Self { source, at: 0, escape }
    }

    /// Where the next physical line begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The line of a place, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        line_of(self.source, at)
    }

    /// Where the line ended that was read last, its line end not counted.
    pub(crate) fn last_line_end(&self) -> usize {
        trim_line_end(&self.source[..self.at]).len()
    }

    /// The next physical line as it stands, line end included.
    pub(crate) fn physical(&mut self) -> Option<&'s str> {
        let rest = &self.source[self.at..];
        let line = rest.split_inclusive('\n').next()?;
        self.at += line.len();
        Some(line)
    }

    /// The next comment or instruction; blank lines are passed over.
    pub(crate) fn next(&mut self) -> Option<Item> {
        loop {
            let start = self.at;
            let line = trim_line_end(self.physical()?);
            let body = line.trim_start();
            let at = start + line.len() - body.len();
            if let Some(comment) = body.strip_prefix('#') {
                let span = Span::new(at, start + line.len());
                return Some(Item::Comment(Spanned::new(comment.trim().to_owned(), span)));
            }
            let (kept, open) = continuation(body, self.escape);
            if open || !kept.is_empty() {
                return Some(Item::Line(self.join(at, start + line.len(), kept, open)));
            }
        }
    }

    fn join(&mut self, start: usize, end: usize, first: &str, mut open: bool) -> Line {
        let mut line = Line {
            text: first.to_owned(),
            pieces: vec![(0, start)],
            span: Span::new(start, end),
            empty_continuation: None,
        };
        let mut blank = false;
        let mut last = line.span;
        while open {
            let at = self.at;
            let Some(raw) = self.physical() else { break };
            let body = trim_line_end(raw);
            last = Span::new(at, at + body.len());
            let visible = body.trim_start();
            if visible.starts_with('#') {
                continue;
            }
            if visible.is_empty() {
                blank = true;
                continue;
            }
            let kept;
            (kept, open) = continuation(body, self.escape);
            line.pieces.push((line.text.len(), at));
            line.text.push_str(kept);
            line.span.end = last.end;
        }
        line.empty_continuation = blank.then_some(last);
        line
    }
}

/// The line without its line end, however many carriage returns that has.
pub(crate) fn trim_line_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// The line without a continuation character, and whether it had one: the escape character last but for blanks, and
/// not behind another.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(head) if !head.ends_with(escape) => (head, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &str) -> Vec<Line> {
        let mut reader = Reader::new(source, '\\');
        let mut lines = Vec::new();
        while let Some(item) = reader.next() {
            if let Item::Line(line) = item {
                lines.push(line);
            }
        }
        lines
    }

    #[test]
    fn continuations_are_joined() {
        for (source, expected) in [
            ("RUN a \\\n  b", vec!["RUN a   b"]),
            ("RUN a \\ \t\r\n# no\n\n  # neither\n  b\r\n\nRUN c", vec!["RUN a   b", "RUN c"]),
            ("RUN a \\\\\nRUN b", vec!["RUN a \\\\", "RUN b"]),
            ("\\\nRUN a", vec!["RUN a"]),
            ("RUN a\\", vec!["RUN a"]),
            ("  RUN a # b \\\nc", vec!["RUN a # b c"]),
            ("# only\n\n", vec![]),
        ] {
            let texts: Vec<_> = lines(source).into_iter().map(|line| line.text).collect();
            assert_eq!(texts, expected, "{source:?}");
        }
    }

    #[test]
    fn places_lead_back_to_the_source() {
        let source = " RUN aa \\\n# x\n  bb cc\n";
        let line = lines(source).remove(0);
        for word in ["RUN", "aa", "bb", "cc"] {
            let at = line.text.find(word).unwrap();
            let span = line.span(at..at + word.len());
            assert_eq!(&source[span.start..span.end], word);
        }
        assert_eq!(&source[line.span.start..line.span.end], "RUN aa \\\n# x\n  bb cc");
        let end = line.text.len();
        assert_eq!(line.span(end..end).start, line.span.end);
    }

    #[test]
    fn what_is_no_text_is_reported() {
        for (bytes, reports) in [
            (b"FROM a".as_slice(), 0),
            (b"\xef\xbb\xbfFROM a", 0),
            (b"FROM a\0\0", 2),
            (b"FROM \xff\xfeb\xc3", 2),
            (b"\xff\xfeF\0R\0", 1),
        ] {
            let mut sink = Vec::new();
            let text = decode(bytes, &mut sink);
            assert_eq!(sink.len(), reports, "{bytes:?}");
            for found in sink {
                assert!(text.is_char_boundary(found.span.start) && text.is_char_boundary(found.span.end));
            }
        }
    }
}
