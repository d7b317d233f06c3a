//! Statements: an instruction cut into keyword, flags, arguments and heredocs by the form that its keyword asks for,
//! not yet judged.
//!
//! A source in, statements and comments out. What flags and arguments mean is judged
//! afterwards, by `instruction`.

use crate::ast::{Heredoc, Pair, Word};
use crate::diagnostic::Diagnostic;
use crate::json::{self, NotStrings};
use crate::source::{Item, Line, Part, Reader};
use crate::span::{Span, Spanned};
use crate::split::{self, Flag};
use crate::{directive, heredoc};

/// One instruction, cut but not judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// From the keyword to the end of its last line.
    pub span: Span,
    /// As written.
    pub keyword: Word,
    /// In order.
    pub flags: Vec<Flag>,
    /// What follows the flags.
    pub args: Args,
    /// What follows the flags, as text up to the end of the line.
    pub tail: String,
    /// The line, continuations joined.
    pub text: String,
    /// Bodies, in order of their words.
    pub heredocs: Vec<Heredoc>,
    /// The comment lines above.
    pub comments: Vec<Word>,
}

/// Arguments by their form.
#[derive(Debug, Clone, PartialEq)]
pub enum Args {
    /// None.
    None,
    /// Between blanks.
    Words(Vec<Word>),
    /// `["a", "b"]`
    Json(Vec<Word>),
    /// The rest of the line.
    Text(Word),
    /// `KEY=value…` or `KEY value`
    Pairs(Vec<Pair>),
    /// HEALTHCHECK's first word, and the form of the rest.
    Typed(Word, Box<Args>),
    /// ONBUILD's.
    Statement(Box<Statement>),
}

/// What instructions there are, in upper case.
pub const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// More instructions (good and bad) are not read: four times what any generated file was seen to have.
pub const MAX_STATEMENTS: usize = 1 << 18;
/// More comment lines above an instruction are a text of its own.
const MAX_COMMENTS: usize = 1000;

/// ONBUILD in ONBUILD is refused later; until then it may not exhaust the stack.
const MAX_ONBUILD_DEPTH: usize = 4;

impl Statement {
    /// The keyword in upper case.
    pub fn name(&self) -> String {
        self.keyword.value.to_uppercase()
    }

    /// May heredocs follow?
    fn takes_heredocs(&self) -> bool {
        let statement = match &self.args {
            Args::Statement(inner) => inner,
            _ => self,
        };
        matches!(statement.name().as_str(), "ADD" | "COPY" | "RUN") && !matches!(statement.args, Args::Json(_))
    }
}

/// Reads all statements of a source. `from` is where the directives end.
pub fn read(source: &str, from: usize, escape: char, sink: &mut Vec<Diagnostic>) -> Vec<Statement> {
    let mut reader = Reader::new(source, escape);
    let mut statements = Vec::new();
    let mut comments: Vec<Word> = Vec::new();
    while let Some(item) = reader.next() {
        match item {
            Item::Comment(comment) if comment.span.start < from => {}
            Item::Comment(comment) if comment.value.is_empty() || comments.len() == MAX_COMMENTS => comments.clear(),
            Item::Comment(comment) => comments.push(comment),
            Item::Line(line) if statements.len() + sink.len() >= MAX_STATEMENTS => {
                let message = format!("more than {MAX_STATEMENTS} instructions");
                sink.push(Diagnostic::error("SourceTooLarge", line.span, message));
                break;
            }
            Item::Line(line) => {
                let found = of_line(&line, escape).and_then(|statement| with_bodies(statement, &line, &mut reader));
                match found {
                    Ok(statement) => {
                        statements.push(Statement { comments: std::mem::take(&mut comments), ..statement });
                    }
                    Err(diagnostic) => {
                        comments.clear();
                        sink.push(diagnostic);
                    }
                }
            }
        }
    }
    statements
}

/// The source's text and where its directives end, for who reads statements only.
pub fn directives_end(source: &str) -> usize {
    directive::read(source, &mut Vec::new()).end
}

fn with_bodies(mut statement: Statement, line: &Line, reader: &mut Reader<'_>) -> Result<Statement, Diagnostic> {
    if !statement.takes_heredocs() {
        return Ok(statement);
    }
    let start = reader.at();
    let heredocs = heredoc::read(line, reader)?;
    if reader.at() > start {
        // Without the last line's end, as in spans of lines.
        statement.span.end = reader.last_line_end();
    }
    if let Args::Statement(inner) = &mut statement.args {
        inner.span.end = statement.span.end;
        inner.heredocs.clone_from(&heredocs);
    }
    statement.heredocs = heredocs;
    Ok(statement)
}

fn of_line(line: &Line, escape: char) -> Result<Statement, Diagnostic> {
    of_part(line.all(), line.span, escape, 0)
}

fn of_part(part: Part<'_>, span: Span, escape: char, depth: usize) -> Result<Statement, Diagnostic> {
    let part = part.trim();
    let (keyword, rest) = split::first_and_rest(part);
    let (flags, rest) = split::flags(rest, escape);
    let keyword = keyword.word();
    let args = arguments(&keyword, rest.trim(), span, escape, depth)?;
    Ok(Statement {
        span: Span::new(keyword.span.start, span.end),
        keyword,
        flags,
        args,
        tail: rest.tail().to_owned(),
        text: part.text().to_owned(),
        heredocs: Vec::new(),
        comments: Vec::new(),
    })
}

fn arguments(keyword: &Word, rest: Part<'_>, span: Span, escape: char, depth: usize) -> Result<Args, Diagnostic> {
    let name = keyword.value.to_uppercase();
    if rest.is_empty() {
        return Ok(Args::None);
    }
    Ok(match name.as_str() {
        "ADD" | "COPY" | "VOLUME" => json_or(rest, |rest| Args::Words(split::at_blanks(rest)))?,
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => json_or(rest, |rest| Args::Text(rest.word()))?,
        "EXPOSE" | "FROM" => Args::Words(split::at_blanks(rest)),
        "ARG" => Args::Words(split::quoted_words(rest, escape)),
        "ENV" | "LABEL" => pairs(&name, rest, escape)?,
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => Args::Text(rest.word()),
        "HEALTHCHECK" => {
            let (kind, command) = split::first_and_rest(rest);
            let command = command.trim();
            let args = if command.is_empty() { Args::None } else { json_or(command, |rest| Args::Text(rest.word()))? };
            Args::Typed(kind.word(), Box::new(args))
        }
        "ONBUILD" if depth < MAX_ONBUILD_DEPTH => Args::Statement(Box::new(of_part(rest, span, escape, depth + 1)?)),
        _ => Args::None,
    })
}

fn json_or(rest: Part<'_>, otherwise: impl FnOnce(Part<'_>) -> Args) -> Result<Args, Diagnostic> {
    match json::strings(rest.text()) {
        Ok(items) => {
            let word = |(value, place): json::Item| Spanned::new(value, rest.part(place).span());
            Ok(Args::Json(items.into_iter().map(word).collect()))
        }
        Err(NotStrings::NotArray) => Ok(otherwise(rest)),
        Err(NotStrings::OtherValues) => {
            let message = "when using JSON array syntax, arrays must be comprised of strings only";
            Err(Diagnostic::error("InvalidJsonForm", rest.span(), message)
                .hint("put double quotes around every word, numbers too: [\"sleep\", \"10\"]"))
        }
    }
}

fn pairs(name: &str, rest: Part<'_>, escape: char) -> Result<Args, Diagnostic> {
    let words = split::quoted_words(rest, escape);
    let Some(first) = words.first() else { return Ok(Args::None) };
    if !first.value.contains('=') {
        let (key, value) = split::first_and_rest(rest);
        if value.is_empty() {
            let found = Diagnostic::error("ArgumentCount", rest.span(), format!("{name} must have two arguments"));
            return Err(found.hint(format!("write {name} {}=value", key.text())));
        }
        return Ok(Args::Pairs(vec![Pair { key: key.word(), value: value.word(), legacy: true }]));
    }
    words.iter().map(pair).collect::<Result<_, _>>().map(Args::Pairs)
}

fn pair(word: &Word) -> Result<Pair, Diagnostic> {
    let Some((key, value)) = word.value.split_once('=') else {
        let message = format!("Syntax error - can't find = in {:?}. Must be of the form: name=value", word.value);
        let hint = match word.value.as_str() {
            "=" => "write name=value, without blanks around the =",
            comment if comment.starts_with('#') => "give the comment a line of its own, above",
            curly if curly.contains(['“', '”', '‘', '’', '„']) => {
                "curly quotes are letters like any other: quote with \" or '"
            }
            _ => "quote a value that holds blanks",
        };
        return Err(Diagnostic::error("KeyValueSyntax", word.span, message).hint(hint));
    };
    let (key, value) = halves(word, key, value);
    Ok(Pair { key, value, legacy: false })
}

/// The two sides of a word's `=` with their places. A continuation may lie within either, so places are those of the
/// word's ends.
pub(crate) fn halves(word: &Word, key: &str, value: &str) -> (Word, Word) {
    let Span { start, end } = word.span;
    let joined = end - start == word.value.len();
    let middle = if joined { start + key.len() } else { end };
    let key_span = Span::new(start, middle);
    let value_span = if joined { Span::new(middle + 1, end) } else { word.span };
    (Spanned::new(key.to_owned(), key_span), Spanned::new(value.to_owned(), value_span))
}
