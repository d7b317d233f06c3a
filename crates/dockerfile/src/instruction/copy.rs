//! COPY and ADD.

use super::flags::{self, Flags, Takes};
use super::{Scene, count};
use crate::ast::{Copy, Heredoc, Word};
use crate::heredoc;
use crate::span::Span;
use crate::statement::{Args, Statement};

pub(super) const COPY_FLAGS: [(&str, Takes); 6] = [
    ("chown", Takes::Text),
    ("from", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Switch),
    ("exclude", Takes::List),
    ("parents", Takes::Switch),
];
pub(super) const ADD_FLAGS: [(&str, Takes); 7] = [
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Switch),
    ("keep-git-dir", Takes::Switch),
    ("checksum", Takes::Text),
    ("unpack", Takes::Switch),
    ("exclude", Takes::List),
];

/// `COPY [flags] source… dest`
pub(super) fn copy(statement: &Statement, scene: &mut Scene<'_>) -> Option<Copy> {
    let flags = flags::read(statement, &COPY_FLAGS, scene);
    assemble(statement, &flags, scene)
}

/// `ADD [flags] source… dest`
pub(super) fn add(statement: &Statement, scene: &mut Scene<'_>) -> Option<Copy> {
    let flags = flags::read(statement, &ADD_FLAGS, scene);
    assemble(statement, &flags, scene)
}

fn assemble(statement: &Statement, flags: &Flags, scene: &mut Scene<'_>) -> Option<Copy> {
    let name = statement.name();
    let words = match &statement.args {
        Args::Words(words) | Args::Json(words) => words.as_slice(),
        _ => &[],
    };
    let words = without_heredocs(words, &statement.heredocs, &name, scene);
    let (dest, sources) = match words.split_last() {
        Some((dest, sources)) if sources.len() + statement.heredocs.len() > 0 => (*dest, sources),
        _ => {
            let message = format!(
                "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
            );
            if words.first().is_some_and(|word| word.value.starts_with('[')) && matches!(statement.args, Args::Words(_))
            {
                let hint = "what looks like the JSON form is none: it has double quotes, and no comma behind the last word: \
                            [\"a\", \"b\"]";
                scene.refuse("ArgumentCount", statement.span, message, hint);
            } else {
                count(statement, message, scene);
            }
            return None;
        }
    };
    if let Some(last) = statement.heredocs.iter().find(|heredoc| heredoc.span.start > dest.span.start) {
        scene.error("InvalidHeredoc", last.span, format!("{name} cannot accept a heredoc as a destination"));
    }
    Some(Copy {
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.list("exclude"),
        keep_git_dir: flags.switch("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.switch("unpack"),
        sources: sources.iter().map(|&word| word.clone()).collect(),
        heredocs: statement.heredocs.clone(),
        dest: dest.clone(),
    })
}

/// The arguments that are paths. One that looks like a heredoc's start but announced no body is a mistake.
fn without_heredocs<'w>(words: &'w [Word], heredocs: &[Heredoc], name: &str, scene: &mut Scene<'_>) -> Vec<&'w Word> {
    // Both are in the order of the line.
    let is_heredoc = |word: Span| {
        let after = heredocs.partition_point(|heredoc| heredoc.span.end <= word.start);
        heredocs.get(after).is_some_and(|heredoc| heredoc.span.start < word.end)
    };
    let mut paths = Vec::new();
    for word in words {
        if is_heredoc(word.span) {
            continue;
        }
        if heredocs.is_empty() && matches!(heredoc::of_word(&word.value), Ok(Some(_))) {
            let message = format!("{name} has a heredoc without a body: {}", word.value);
            scene.error("InvalidHeredoc", word.span, message);
        }
        paths.push(word);
    }
    paths
}
