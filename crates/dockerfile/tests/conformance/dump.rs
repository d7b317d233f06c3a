//! Statements as the s-expressions in which other builders' parsers are tested.

use kuz_dockerfile::ast::Word;
use kuz_dockerfile::statement::{Args, Statement};

pub(crate) fn all(statements: &[Statement]) -> String {
    statements.iter().map(|statement| format!("({})", one(statement))).collect::<Vec<_>>().join("\n")
}

fn one(statement: &Statement) -> String {
    let mut out = statement.keyword.value.to_lowercase();
    if !statement.flags.is_empty() {
        let flags: Vec<_> = statement.flags.iter().map(|flag| format!("{:?}", flag.word.value)).collect();
        out = format!("{out} [{}]", flags.join(" "));
    }
    out + &args(&statement.args)
}

fn args(args: &Args) -> String {
    let quoted = |words: &[Word]| words.iter().map(|word| quote(&word.value)).collect::<String>();
    match args {
        Args::None => String::new(),
        Args::Words(words) | Args::Json(words) => quoted(words),
        Args::Text(word) => quote(&word.value),
        Args::Pairs(pairs) => pairs
            .iter()
            .map(|pair| quote(&pair.key.value) + &quote(&pair.value.value) + &quote(if pair.legacy { "" } else { "=" }))
            .collect(),
        Args::Typed(kind, rest) => quote(&kind.value) + &self::args(rest),
        Args::Statement(inner) => format!(" ({})", one(inner)),
    }
}

/// Quoted as Go does: single quotes stay.
fn quote(text: &str) -> String {
    format!(" {text:?}")
}
