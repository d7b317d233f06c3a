//! `cargo xtask conformance [DIR] [--only=TEXT]`: cases of other builders and of our own, as data.
//!
//! In: a corpus (DIR, `$KUZ_CONFORMANCE`, or the project's own `conformance/`). Out: a report whose last line is
//! `N passed, N failed, N skipped`; a failure unless all tables and 98% of the build cases are right. Tables are judged
//! by the crates' tests, build cases by the program. `--only` takes the build cases whose id has TEXT, and no table.
//!
//! ```text
//! DIR/builds/ID ─► place (context) ─► build (kuz, a store of its own) ─► image ─► compare ─┐
//! DIR/*/TABLE.json ─► tables (cargo test) ─────────────────────────────────────────────────┴─► report
//! ```

mod base;
mod build;
mod case;
mod compare;
mod image;
mod place;
mod report;
mod tables;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kuz_testkit::layout_server::{ANY_TAG, LayoutServer, Served};

use self::build::{Verdict, Workshop};
use self::case::Case;
use self::report::{BUILDS, Row, State};
use crate::problem::Problem;
use crate::program::Workspace;
use crate::{Outcome, bases, say};

/// Builds at a time.
const WORKERS: usize = 2;

/// What the task is asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    folder: Option<PathBuf>,
    only: Option<String>,
}

impl Options {
    /// Names the first word that means nothing.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut parsed = Self::default();
        for word in words {
            if let Some(only) = word.strip_prefix("--only=") {
                parsed.only = Some(only.to_owned());
            } else if word.starts_with('-') || parsed.folder.is_some() {
                return Err((*word).to_owned());
            } else {
                parsed.folder = Some(PathBuf::from(word));
            }
        }
        Ok(parsed)
    }
}

/// The task.
pub(crate) fn run(options: &Options) -> Outcome {
    let workspace = Workspace::find()?;
    let corpus = corpus(options, &workspace)?;
    say(&format!("conformance: {}", corpus.display()));
    let program = std::path::absolute(bases::build_kuz(&workspace, false)?).map_err(Problem::file("find", "kuz"))?;
    let mut rows = if options.only.is_none() { tables::judge(&corpus)? } else { Vec::new() };
    rows.extend(builds(&corpus, program, options.only.as_deref())?);
    if rows.is_empty() {
        return Err(Problem::Answer(format!("{} has no such cases", corpus.display())));
    }
    rows.sort_by(|a, b| (&a.folder, &a.id).cmp(&(&b.folder, &b.id)));
    print!("{}", report::text(&rows));
    if report::is_enough(&rows) { Ok(()) } else { Err(Problem::Failed("too few cases are right".into())) }
}

fn corpus(options: &Options, workspace: &Workspace) -> Outcome<PathBuf> {
    let named = || env::var_os("KUZ_CONFORMANCE").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = options.folder.clone().or_else(named).unwrap_or_else(|| workspace.root.join("conformance"));
    if !folder.is_dir() {
        return Err(Problem::Missing {
            what: format!("the conformance corpus {}", folder.display()),
            mend: "name its folder, or set KUZ_CONFORMANCE".into(),
        });
    }
    // Tests run in directories of their own.
    std::path::absolute(&folder).map_err(Problem::file("find", folder))
}

/// Builds every build case.
fn builds(corpus: &Path, program: PathBuf, only: Option<&str>) -> Outcome<Vec<Row>> {
    let folders = case::folders(corpus)?;
    let cases = folders.iter().map(|folder| Case::read(folder)).collect::<Outcome<Vec<_>>>()?;
    let cases: Vec<Case> = cases.into_iter().filter(|case| only.is_none_or(|only| case.id.contains(only))).collect();
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    say(&format!("{} builds, {WORKERS} at a time", cases.len()));
    let room = tempfile::tempdir().map_err(Problem::file("make", env::temp_dir()))?;
    let layout = room.path().join("base");
    let no_base = base::make(corpus, &layout).err();
    let images = if no_base.is_none() { vec![busybox(layout)] } else { Vec::new() };
    let server = LayoutServer::start(images)
        .map_err(|source| Problem::Net { action: "serve the stand-in image".into(), source })?;
    let config = room.path().join("kuz.toml");
    std::fs::write(&config, server.config()).map_err(Problem::file("write", &config))?;
    let workshop =
        Workshop { program, config, room: room.path().to_owned(), decoded: image::Decoded::default(), no_base };
    side_by_side(&workshop, &cases)
}

fn busybox(layout: PathBuf) -> Served {
    Served { repository: "library/busybox".into(), tag: ANY_TAG.into(), layout }
}

fn side_by_side(workshop: &Workshop, cases: &[Case]) -> Outcome<Vec<Row>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Outcome<Row>>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = workshop.judge(case).map(|verdict| row(case, verdict));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
}

fn row(case: &Case, verdict: Verdict) -> Row {
    let state = match verdict {
        Verdict::Passed => State::Passed,
        Verdict::OtherWords(reason) => State::OtherWords(reason),
        Verdict::Failed(reason) => State::Failed(reason),
        Verdict::Unsupported(what) => State::Unsupported(what),
        Verdict::Skipped(reason) => State::Skipped(reason),
    };
    Row { folder: BUILDS.into(), id: case.id.clone(), feature: case.feature().to_owned(), state }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_a_folder_and_a_filter() {
        let both = Options { folder: Some("a".into()), only: Some("b".into()) };
        assert_eq!(Options::parse(&["a", "--only=b"]), Ok(both));
        assert_eq!(Options::parse(&[]), Ok(Options::default()));
        assert_eq!(Options::parse(&["a", "b"]), Err("b".into()));
        assert_eq!(Options::parse(&["--all"]), Err("--all".into()));
    }
}
