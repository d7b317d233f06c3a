//! How deep a source may nest, counted before it is parsed.
//!
//! A parser's memory and the stack of everything that walks its tree grow with nesting, and nesting costs an author one
//! byte a level: `((((`, `~~~~`, `a.b.c.d`. One pass over the tokens gives an upper bound, without recursion: every
//! bracket, operator and word since the last comma or line end may be one level. Tables and long strings stay flat.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, lexer};

/// Deeper than any program that people write: Python's own limits are 200 brackets and 100 levels of indentation, and
/// its compiler gives up a chain of some thousand operators.
pub(super) const DEPTH: u32 = 1000;

/// An upper bound of how deep the tree of a source is. Counting ends soon after [`DEPTH`].
pub(super) fn bound(source: &str) -> u32 {
    let mut lexer = lexer::lex(source, Mode::Module);
    // What each open bracket was reached at, and where the current chain stands.
    let mut open: Vec<u32> = Vec::new();
    let mut blocks: u32 = 0;
    let mut chain: u32 = 0;
    let mut deepest: u32 = 0;
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile => break,
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace => {
                open.push(chain);
                chain += 1;
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace => chain = open.pop().unwrap_or(blocks) + 1,
            TokenKind::Comma | TokenKind::Semi | TokenKind::Newline => {
                chain = open.last().map_or(blocks, |before| before + 1);
            }
            TokenKind::Indent => {
                blocks += 1;
                chain += 1;
            }
            TokenKind::Dedent => {
                blocks = blocks.saturating_sub(1);
                chain = chain.saturating_sub(1);
            }
            TokenKind::Comment
            | TokenKind::NonLogicalNewline
            | TokenKind::String
            | TokenKind::FStringMiddle
            | TokenKind::TStringMiddle => {}
            _ => chain += 1,
        }
        deepest = deepest.max(chain);
        if deepest > DEPTH {
            break;
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_is_counted_and_what_lies_flat_is_not() {
        let flat = format!("x = [{}]\n", "(1, 'a', -2), ".repeat(50_000));
        let lines = "def f(a, b):\n    return a + b\n".repeat(5_000);
        let text = format!("x = ({})\n", "'one' \n".repeat(5_000));
        let doc = format!("'''{}'''\n", "( [ { - . ".repeat(5_000));
        for (source, most) in [(flat, 20), (lines, 20), (text, 20), (doc, 20)] {
            assert!(bound(&source) < most, "{} for {:?}…", bound(&source), &source[..20]);
        }
        for deep in
            ["(", "[", "{", "-", "~", "not ", "await ", "lambda: ", "a.", "a+", "a**", "a if b else ", "f(", "async "]
        {
            assert!(bound(&deep.repeat(DEPTH as usize + 10)) > DEPTH, "{deep}");
        }
        let quotes = format!("x = f\"{{x[\"a\"{}", "(".repeat(DEPTH as usize + 10));
        assert!(bound(&quotes) > DEPTH);
        let calls = format!("x = a{}\n", "()".repeat(DEPTH as usize + 10));
        assert!(bound(&calls) > DEPTH);
    }
}
