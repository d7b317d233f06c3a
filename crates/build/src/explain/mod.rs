//! Why each step of a build was a hit or a miss, what took how long, and what would make the next build faster.
//!
//! ```text
//! build ─► notes (key, end, time of each step) ─┬► journal of the build, kept by Dockerfile and target ─┐
//!          preimages of steps that miss ────────┴► kept by key ─────────────────────────────────────────┤
//!                                                   matching ─► diff ─► compare ─► advice ─► Explanation ◄┘
//! ```
//! What a build keeps: for each step that missed, what its key was made of ([`record`]); and, where anything but the
//! times differs from the build before, a journal ([`journal`]). A build in which everything is as it was reads one
//! small record and writes nothing. From the kept things on, all is functions over values. No value of a secret is in a
//! record: see `kuz_plan::preimage`.

mod advice;
mod compare;
mod diff;
mod forecast;
mod installers;
mod journal;
mod matching;
mod record;

use std::fmt;

use kuz_sandbox::Cancel;
use serde::Serialize;

pub(crate) use journal::{Notes, conclude};
pub(crate) use record::{SourceNote, Surrounding, mount_notes};

use crate::error::BuildError;
use crate::request::{BuildRequest, Machine};
use crate::session::{Events, Session};

/// A build, explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The Dockerfile, as the user knows it.
    pub file: String,
    /// `--target`, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// When the build was (RFC 3339); none: this is what the next build would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built: Option<String>,
    /// When the build was that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<String>,
    /// Milliseconds from the beginning to the last step's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// The stages that the target needs, in the order of the file.
    pub stages: Vec<StageView>,
    /// What would make the next build faster, best first.
    pub advice: Vec<Advice>,
}

/// A stage of an explained build.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageView {
    /// From 0, as `--from=0` counts.
    pub number: usize,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it stands on.
    pub base: String,
    /// The base is another than before: its digest then and now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_change: Option<(String, String)>,
    /// Milliseconds of all its steps.
    pub ms: f64,
    /// Its steps.
    pub steps: Vec<StepView>,
}

/// A step of an explained build.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// From 1.
    pub number: usize,
    /// Its line in the Dockerfile, from 1.
    pub line: usize,
    /// The instruction, secrets hidden.
    pub text: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Milliseconds that it took.
    pub ms: f64,
    /// Why it is no hit, or one with other inputs than last time; the most telling first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// How many builds in a row did it anew, this one included.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_a_row: u32,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Its record was there.
    Cached,
    /// It was done.
    Done,
    /// It failed.
    Failed,
    /// It is a hit in the next build.
    Hit,
    /// The next build does it.
    Miss,
    /// Whether the next build does it depends on what comes of a stage before.
    Open,
    /// It only changes the configuration.
    Config,
    /// The build did not come so far.
    NotReached,
}

/// Why a step's key differs, or why it was done anyway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// What kind of reason.
    pub kind: ReasonKind,
    /// What differs: a path, a variable, a setting, a step.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// As it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// As it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// More files that differ in the same source: the first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// More files that differ in the same source, in all.
    #[serde(skip_serializing_if = "is_none")]
    pub more: usize,
}

/// Kinds of [`Reason`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ReasonKind {
    /// No earlier build is recorded.
    First,
    /// The earlier build had no such step.
    New,
    /// The earlier build stopped before it.
    NotReached,
    /// The earlier build failed in it.
    FailedBefore,
    /// The command line, a source's name or the destination.
    Command,
    /// A variable that a RUN sees.
    Variable,
    /// One of the variables whose values are not kept.
    Hidden,
    /// A setting.
    Setting,
    /// A file is new.
    FileAdded,
    /// A file is gone.
    FileRemoved,
    /// A file has another content.
    FileContent,
    /// A file has other permissions.
    FileMode,
    /// A file has another owner.
    FileOwner,
    /// A file is of another kind.
    FileKind,
    /// A link leads elsewhere.
    FileLink,
    /// What it reads has another digest, and no file says why.
    Source,
    /// `SOURCE_DATE_EPOCH`.
    Epoch,
    /// A step before it has another result.
    Parent,
    /// The base image, or the stage that it stands on.
    Base,
    /// Another stage must be done first.
    Stage,
    /// The same inputs: the result is no longer in the store.
    Gone,
    /// No input of its own differs: the cache was not to be used.
    NoCache,
    /// What went into it before was not recorded.
    Unrecorded,
}

/// What would make the next build faster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// A stable name.
    pub rule: &'static str,
    /// The line in the Dockerfile that it is about; 0: another file.
    pub line: usize,
    /// One or more sentences.
    pub message: String,
    /// Where `lines` belong: `Dockerfile` or `.dockerignore`.
    pub file: &'static str,
    /// What to write there.
    pub lines: Vec<String>,
    /// Milliseconds that the steps in question last took.
    pub ms: f64,
}

impl Reason {
    pub(crate) fn new(kind: ReasonKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), old: None, new: None, also: Vec::new(), more: 0 }
    }

    pub(crate) fn plain(kind: ReasonKind) -> Self {
        Self::new(kind, "")
    }

    pub(crate) fn change(kind: ReasonKind, what: impl Into<String>, old: Option<String>, new: Option<String>) -> Self {
        Self { old, new, ..Self::new(kind, what) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ReasonKind as Kind;
        let Self { kind, what, old, new, also: _, more } = self;
        match kind {
            Kind::First => f.write_str("no earlier build of this file and target is recorded"),
            Kind::New => f.write_str("the build before had no such step"),
            Kind::NotReached => f.write_str("the build before did not come so far"),
            Kind::FailedBefore => f.write_str("it failed in the build before"),
            Kind::Command | Kind::Setting | Kind::Variable => {
                let named = if *kind == Kind::Variable { format!("variable {what}") } else { what.clone() };
                match (old, new) {
                    (None, Some(new)) => write!(f, "{named} is new: {}", quoted(new)),
                    (Some(old), None) => write!(f, "{named} is gone, was {}", quoted(old)),
                    (old, new) => {
                        let (old, new) = apart(old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default());
                        write!(f, "{named} is {}, was {}", quoted(&new), quoted(&old))
                    }
                }
            }
            Kind::Hidden => write!(f, "{what}: *** (values of this kind are not kept)"),
            Kind::FileAdded => write!(f, "{what} is new"),
            Kind::FileRemoved => write!(f, "{what} is gone"),
            Kind::FileContent => match (old, new) {
                (Some(old), Some(new)) if old != new => write!(f, "{what} has another content ({new}, was {old})"),
                _ => write!(f, "{what} has another content"),
            },
            Kind::FileMode => write!(f, "{what} has mode {}, had {}", shown(new.as_ref()), shown(old.as_ref())),
            Kind::FileOwner => write!(f, "{what} belongs to {}, did to {}", shown(new.as_ref()), shown(old.as_ref())),
            Kind::FileKind => write!(f, "{what} is a {}, was a {}", shown(new.as_ref()), shown(old.as_ref())),
            Kind::FileLink => write!(f, "{what} leads to {}, led to {}", shown(new.as_ref()), shown(old.as_ref())),
            Kind::Source => write!(f, "what it reads from {what} is another"),
            Kind::Epoch => {
                let none = || "not set".to_owned();
                let (old, new) = (old.clone().unwrap_or_else(none), new.clone().unwrap_or_else(none));
                write!(f, "SOURCE_DATE_EPOCH is {new}, was {old}")
            }
            Kind::Parent => write!(f, "only what it stands on changed: {what}"),
            Kind::Base => match (old, new) {
                (Some(old), Some(new)) => write!(f, "its base changed: {what} is {}, was {}", short(new), short(old)),
                _ => write!(f, "its base changed: {what}"),
            },
            Kind::Stage => write!(f, "it depends on what comes of {what}"),
            Kind::Gone => f.write_str("nothing differs, but its result is no longer in the store"),
            Kind::NoCache => f.write_str("nothing of its own differs: the cache was not to be used"),
            Kind::Unrecorded => f.write_str("it differs, and what went into it before is not recorded"),
        }?;
        match more {
            0 => Ok(()),
            1 => f.write_str(", and 1 more file differs"),
            more => write!(f, ", and {more} more files differ"),
        }
    }
}

/// A value for people is cut here.
const SHOWN: usize = 60;
/// What two long values have in common before their difference is cut to this.
const COMMON: usize = 20;

fn quoted(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    if line.chars().count() <= SHOWN {
        return format!("`{line}`");
    }
    format!("`{}…`", line.chars().take(SHOWN).collect::<String>())
}

/// Two values without a long beginning that they share.
fn apart(old: &str, new: &str) -> (String, String) {
    let same = old.chars().zip(new.chars()).take_while(|(one, other)| one == other).count();
    if same <= COMMON || old.chars().count().max(new.chars().count()) <= SHOWN {
        return (old.to_owned(), new.to_owned());
    }
    let rest = |text: &str| format!("…{}", text.chars().skip(same - COMMON / 2).collect::<String>());
    (rest(old), rest(new))
}

fn shown(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_none(number: &usize) -> bool {
    *number == 0
}

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
pub(crate) fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Explains the last build of a request's Dockerfile and target that was anything but a repetition.
pub fn last(
    request: &BuildRequest,
    machine: &Machine,
    cancel: &Cancel,
    events: &Events<'_>,
) -> Result<Explanation, BuildError> {
    let session = Session::open(machine, cancel, events)?;
    let kept = journal::read(&session, request)?;
    let Some(kept) = kept else {
        return Err(BuildError::input(format!(
            "no build of `{}` is recorded in this store (name the Dockerfile, context and --target as in the build)",
            journal::shown_file(request)
        )));
    };
    Ok(compare::explain(&session, &kept.now, kept.before.as_ref(), &std::collections::BTreeMap::new()))
}

/// Explains what the next build would do, as far as that can be told without doing it.
pub fn next(
    request: &BuildRequest,
    machine: &Machine,
    cancel: &Cancel,
    events: &Events<'_>,
) -> Result<Explanation, BuildError> {
    let session = Session::open(machine, cancel, events)?;
    forecast::next(&session, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences() {
        use ReasonKind as Kind;
        let change = |kind, what: &str, old: &str, new: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Reason::change(kind, what, some(old), some(new)).to_string()
        };
        let long =
            |end: &str| format!("pip install --no-cache-dir --disable-pip-version-check -r requirements-{end}.txt");
        for (got, want) in [
            (change(Kind::Variable, "V", "1", "2"), "variable V is `2`, was `1`"),
            (change(Kind::Variable, "V", "", "2"), "variable V is new: `2`"),
            (
                change(Kind::Command, "command", &long("a"), &long("b")),
                "command is `…uirements-b.txt`, was `…uirements-a.txt`",
            ),
            (change(Kind::FileMode, "a.sh", "0644", "0755"), "a.sh has mode 0755, had 0644"),
            (change(Kind::FileContent, "a", "1 B", "1 B"), "a has another content"),
            (change(Kind::Epoch, "", "", "5"), "SOURCE_DATE_EPOCH is 5, was not set"),
        ] {
            assert_eq!(got, want);
        }
        let files = Reason { more: 2, ..Reason::new(Kind::FileAdded, "x") };
        assert_eq!(files.to_string(), "x is new, and 2 more files differ");
    }
}
