//! The parser directives at the very top of a file: `# syntax=`, `# escape=`, `# check=`.
//!
//! Text to [`Directives`]. Doesn't judge the value of `syntax`; that of `check` is judged by [`crate::lint::Check`].

use crate::ast::{Directives, Word};
use crate::diagnostic::Diagnostic;
use crate::json;
use crate::span::{Span, Spanned};

/// What stands at the top.
pub(crate) struct Top {
    pub(crate) directives: Directives,
    /// Where the first line begins that is no directive.
    pub(crate) end: usize,
}

/// Reads them. A `#!` line may stand first (then there's no `escape`).
pub(crate) fn read(source: &str, sink: &mut Vec<Diagnostic>) -> Top {
    let mut top = Top { directives: Directives::default(), end: shebang(source) };
    let after_shebang = top.end > 0;
    for raw in source[top.end..].split_inclusive('\n') {
        let Some((key, value)) = of_line(raw, top.end, "#") else { break };
        match key.as_str() {
            "syntax" => set(&mut top.directives.syntax, &key, value, sink),
            "check" => set(&mut top.directives.check, &key, value, sink),
            _ if after_shebang => {}
            _ => set_escape(&mut top.directives, &value, sink),
        }
        top.end += raw.len();
    }
    if top.directives.syntax.is_none() {
        top.directives.syntax = foreign_syntax(source);
    }
    top
}

/// The first word of a directive's value: what counts of `syntax` and `check`.
pub fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or(value)
}

/// `check=…` as a comment above an instruction has it.
pub(crate) fn check_of_comment(comment: &str) -> Option<&str> {
    let (key, range) = key_and_value(comment)?;
    (key.eq_ignore_ascii_case("check")).then(|| first_word(&comment[range.start..range.end]))
}

fn shebang(source: &str) -> usize {
    if source.starts_with("#!") { source.split_inclusive('\n').next().map_or(0, str::len) } else { 0 }
}

fn set(slot: &mut Option<Word>, key: &str, value: Word, sink: &mut Vec<Diagnostic>) {
    if slot.is_some() {
        sink.push(duplicate(key, value.span));
    } else {
        *slot = Some(value);
    }
}

fn set_escape(directives: &mut Directives, value: &Word, sink: &mut Vec<Diagnostic>) {
    let character = match value.value.as_str() {
        "\\" => '\\',
        "`" => '`',
        other => {
            let message = format!("invalid escape token '{other}' does not match ` or \\");
            let hint = "write # escape=` or # escape=\\, or leave the line out: a backslash is what is taken anyway";
            sink.push(Diagnostic::error("InvalidDirective", value.span, message).hint(hint));
            return;
        }
    };
    if directives.escape.is_some() {
        sink.push(duplicate("escape", value.span));
    } else {
        directives.escape = Some(Spanned::new(character, value.span));
    }
}

fn duplicate(key: &str, span: Span) -> Diagnostic {
    Diagnostic::error("DuplicateDirective", span, format!("only one {key} parser directive can be used"))
        .hint("remove one of them")
}

/// The directive on a line, its key in lower case.
fn of_line(raw: &str, at: usize, comment: &str) -> Option<(String, Word)> {
    let line = raw.trim_end_matches(['\r', '\n']).trim_start();
    let at = at + raw.len() - raw.trim_start().len();
    let text = line.strip_prefix(comment)?;
    let (key, range) = key_and_value(text)?;
    let start = at + comment.len() + range.start;
    let value = text[range.start..range.end].to_owned();
    let span = Span::new(start, start + value.len());
    Some((key.to_lowercase(), Spanned::new(value, span)))
}

fn key_and_value(text: &str) -> Option<(&str, Span)> {
    let (before, after) = text.split_once('=')?;
    let key = before.trim();
    let known = ["syntax", "escape", "check"].iter().any(|known| key.eq_ignore_ascii_case(known));
    let value = after.trim();
    if !known || value.is_empty() {
        return None;
    }
    let start = before.len() + 1 + after.len() - after.trim_start().len();
    Some((key, Span::new(start, start + value.len())))
}

/// `syntax` in a file that isn't a Dockerfile but names what can read it: in `//` comments or as a JSON object.
fn foreign_syntax(source: &str) -> Option<Word> {
    let start = shebang(source);
    let mut at = start;
    for raw in source[start..].split_inclusive('\n') {
        let Some((key, value)) = of_line(raw, at, "//") else { break };
        if key == "syntax" {
            return Some(value);
        }
        at += raw.len();
    }
    let (value, span) = json::string_member(&source[start..], "syntax")?;
    Some(Spanned::new(value, Span::new(start + span.start, start + span.end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_end_at_the_first_other_line() {
        let mut sink = Vec::new();
        let source = "# Syntax = a/b:1 x\n#escape=`\n# other=1\n# check=skip=all\nFROM a";
        let top = read(source, &mut sink);
        assert_eq!(sink, []);
        let syntax = top.directives.syntax.unwrap();
        assert_eq!(syntax.value, "a/b:1 x");
        assert_eq!(&source[syntax.span.start..syntax.span.end], "a/b:1 x");
        assert_eq!(top.directives.escape.unwrap().value, '`');
        assert_eq!(top.directives.check, None);
        assert_eq!(&source[top.end..top.end + 7], "# other");
    }

    #[test]
    fn mistakes() {
        for (source, rule) in [
            ("# escape=x\n", "InvalidDirective"),
            ("# escape=`\n# escape=`\n", "DuplicateDirective"),
            ("# syntax=a\n# syntax=a\n", "DuplicateDirective"),
        ] {
            let mut sink = Vec::new();
            read(source, &mut sink);
            assert_eq!(sink.iter().map(|found| found.rule).collect::<Vec<_>>(), [rule], "{source}");
        }
    }
}
