//! `SOURCE_DATE_EPOCH`: a number of seconds, or whose time is meant.
//!
//! A file and a request in, an [`Epoch`] out. Whose time that is, and whether it has one, is found out by whoever can
//! look; it is then given as a number, as if the request had said so.

use kuz_dockerfile::ast::{Copy, Dockerfile, Kind};
use kuz_dockerfile::{Diagnostic, Span, suggest};

use crate::expand;
use crate::files::{is_git, is_url};
use crate::plan::Word;
use crate::request::Request;
use crate::scope::{Globals, Variables};
use crate::stages::{Cut, StageText, Stages};

/// The build argument and variable.
pub const NAME: &str = "SOURCE_DATE_EPOCH";
/// The image without files.
const SCRATCH: &str = "scratch";

/// What the variable says.
#[derive(Debug, Clone, PartialEq)]
pub enum Epoch {
    /// Nothing.
    Unset,
    /// Seconds since 1970.
    Seconds(i64),
    /// The time of the build context: a commit's, or that of a file from the web.
    Context,
    /// The time of a named context that is a directory or remote.
    Named(String),
    /// The time of a context that is an image, which has none.
    Image,
    /// The time of what the only ADD of a stage fetches.
    Fetched(Fetched),
}

/// What a stage that is nothing but one remote ADD fetches.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The address.
    pub source: Word,
    /// `--checksum`
    pub checksum: Option<String>,
}

/// What the build argument, or else a global ARG, says.
pub fn epoch(file: &Dockerfile, request: &Request) -> Result<Epoch, Diagnostic> {
    let escape = file.directives.escape_char();
    let cut = Cut::new(file)?;
    let globals = Globals::new(&cut.arguments, request, &cut.target(request), &request.build_args, escape)?;
    let stages = Stages::new(&cut, request, &globals, escape, &mut Vec::new());
    of(&cut, &stages, &globals, escape)
}

/// As [`epoch`], for what planning has at hand.
pub(crate) fn of(cut: &Cut<'_>, stages: &Stages<'_>, globals: &Globals, escape: char) -> Result<Epoch, Diagnostic> {
    let given = stages.request.build_args.get(NAME).map(String::as_str).or_else(|| globals.env.get(NAME));
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(Epoch::Unset) };
    let invalid = || Diagnostic::error("InvalidSourceDateEpoch", place(cut), format!("invalid {NAME}: {text}"));
    if let Ok(seconds) = text.parse::<i64>() {
        let seconds = (seconds >= 0).then_some(Epoch::Seconds(seconds));
        return seconds.ok_or_else(|| invalid().hint("want the seconds since 1970"));
    }
    if text == "context" {
        return Ok(Epoch::Context);
    }
    if let Some(found) = stages.epoch_of_context(text) {
        return Ok(found);
    }
    let lower = text.to_lowercase();
    if let Some(stage) = stages.list.iter().find(|stage| stage.name.as_ref() == Some(&lower)) {
        return only_add(stage, stages.request, globals, escape).map(Epoch::Fetched);
    }
    let names = stages.list.iter().filter_map(|stage| stage.name.as_deref()).chain(["context"]);
    Err(invalid().hint(match suggest::nearest(&lower, names) {
        Some(near) => format!("did you mean {near}?"),
        None => "want the seconds since 1970, `context`, or the name of a stage or context".to_owned(),
    }))
}

/// The global ARG, if there is one.
fn place(cut: &Cut<'_>) -> Span {
    let items = cut.arguments.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Arg(items) => Some(items),
        _ => None,
    });
    items.flatten().find(|item| item.name.value == NAME).map_or_else(Span::default, |item| item.name.span)
}

/// The ADD of a stage that is nothing but that: FROM scratch, ARGs, one ADD of one remote source.
fn only_add(stage: &StageText<'_>, request: &Request, globals: &Globals, escape: char) -> Result<Fetched, Diagnostic> {
    let error = |span, message: &str| {
        Diagnostic::error("InvalidSourceDateEpoch", span, format!("{NAME} stage {message}"))
            .hint("its time is that of what it fetches: FROM scratch, then one ADD of a URL or repository")
    };
    if stage.image != SCRATCH {
        return Err(error(stage.image_span, "must use FROM scratch"));
    }
    let mut env = globals.env.clone();
    let mut fetched = None;
    for instruction in stage.body {
        match &instruction.kind {
            Kind::Arg(items) => {
                for item in items.iter().filter(|item| item.name.value != NAME) {
                    let value = match (request.build_args.get(&item.name.value), &item.default) {
                        (Some(given), _) => given.clone(),
                        (None, Some(default)) => expand::word(default, &env, escape)?.text,
                        (None, None) => continue,
                    };
                    env.set(&item.name.value, &value);
                }
            }
            Kind::Add(_) if fetched.is_some() => {
                return Err(error(instruction.span, "must contain exactly one remote ADD"));
            }
            Kind::Add(add) => fetched = Some(remote(add, &env, escape, &|message| error(instruction.span, message))?),
            _ => {
                let message = format!(
                    "does not meet source-only requirements: unsupported {} instruction",
                    instruction.keyword.value
                );
                return Err(error(instruction.span, &message));
            }
        }
    }
    fetched.ok_or_else(|| error(stage.span, "must contain exactly one remote ADD"))
}

fn remote(
    add: &Copy,
    env: &Variables,
    escape: char,
    error: &dyn Fn(&str) -> Diagnostic,
) -> Result<Fetched, Diagnostic> {
    let ([source], []) = (add.sources.as_slice(), add.heredocs.as_slice()) else {
        return Err(error("must contain exactly one remote ADD source"));
    };
    let text = expand::word(source, env, escape)?.text;
    if !is_url(&text) && !is_git(&text) {
        return Err(error("source must be a single HTTP(S) or Git ADD"));
    }
    let checksum = add.checksum.as_ref().map(|word| expand::word(word, env, escape)).transpose()?;
    let checksum = checksum.map(|expanded| expanded.text).filter(|text| !text.is_empty());
    Ok(Fetched { source: Word { text, span: source.span }, checksum })
}
