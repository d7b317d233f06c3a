//! Places in a source text: byte ranges, and their lines and columns.
//!
//! Offsets count bytes of the text as it was read (after a byte order mark was taken off, with carriage returns in
//! place). Nothing here reads files.

/// A half-open byte range of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// The line (from 1) that holds this byte.
pub fn line_of(source: &str, offset: usize) -> usize {
    1 + source.as_bytes().iter().take(offset).filter(|&&b| b == b'\n').count()
}

/// Lines of places, for whoever asks for many: what lies between one place and a later one is read once.
#[derive(Debug, Clone)]
pub struct Lines<'s> {
    source: &'s str,
    offset: usize,
    line: usize,
}

impl<'s> Lines<'s> {
    /// Of a text.
    pub fn of(source: &'s str) -> Self {
        Self { source, offset: 0, line: 1 }
    }

    /// As [`line_of`].
    pub fn line(&mut self, offset: usize) -> usize {
        if offset < self.offset {
            (self.offset, self.line) = (0, 1);
        }
        let between = self.source.as_bytes().iter().take(offset).skip(self.offset);
        self.line += between.filter(|&&b| b == b'\n').count();
        self.offset = offset;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_in_any_order() {
        let source = "a\nbc\n\nd";
        let mut lines = Lines::of(source);
        for offset in [0, 1, 2, 4, 5, 6, 7, 100, 3, 0, 7] {
            assert_eq!(lines.line(offset), line_of(source, offset), "{offset}");
        }
    }
}
