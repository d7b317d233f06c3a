//! `cargo xtask verdicts [--only=TEXT] [--kuz=PATH] [--bases=stand-in|hub] [--fresh]`: is `kuz verify` right?
//!
//! In: `verdicts/*.toml`, broken and sound images as Dockerfiles with what must be found. Out: a line for each case, the table
//! `docs/verdicts.md` (only if all cases were tried), and the sum `N right, N wrong`; a failure if one is wrong. Each verdict
//! is confirmed by starting the image. The store stays in `target/verdicts`, so that a second run is short; `--fresh`
//! empties it first.
//!
//! ```text
//! verdicts/*.toml ─► case ─► judge: build, verify, run, mend and run again (kuz, one store) ─► report
//! ```

mod case;
mod judge;
mod report;
mod started;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use self::case::Case;
use self::judge::{Seen, Workshop};
use crate::problem::Problem;
use crate::program::{self, Workspace, command};
use crate::{Outcome, bases, say};

/// Cases at a time: pip waits for its index half of the time.
const WORKERS: usize = 2;

/// What the task is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    only: Option<String>,
    kuz: Option<PathBuf>,
    hub: bool,
    fresh: bool,
}

impl Options {
    /// Names the first word that means nothing.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut parsed = Self::default();
        for word in words {
            match word.split_once('=') {
                Some(("--only", only)) => parsed.only = Some(only.to_owned()),
                Some(("--kuz", path)) => parsed.kuz = Some(path.into()),
                Some(("--bases", "stand-in")) => parsed.hub = false,
                Some(("--bases", "hub")) => parsed.hub = true,
                None if *word == "--fresh" => parsed.fresh = true,
                _ => return Err((*word).to_owned()),
            }
        }
        Ok(parsed)
    }
}

/// The task.
pub(crate) fn run(options: &Options) -> Outcome {
    let workspace = Workspace::find()?;
    let all = case::read(&workspace.root.join("verdicts"))?;
    let total = all.len();
    let only = options.only.as_deref();
    let cases: Vec<Case> = all.into_iter().filter(|case| only.is_none_or(|only| case.name.contains(only))).collect();
    if cases.is_empty() {
        return Err(Problem::Answer("there are no such cases".into()));
    }
    let kuz = match &options.kuz {
        Some(path) => path.clone(),
        None => bases::build_kuz(&workspace, true)?,
    };
    let kuz = std::path::absolute(kuz).map_err(Problem::file("find", "kuz"))?;
    let folder = workspace.target.join("verdicts");
    let store = folder.join("store");
    if options.fresh && store.exists() {
        // Trees belong to ids that only the program can act as: it empties its store first.
        program::output(command(&kuz, ["store", "prune", "--all"]).env("KUZ_STORE", &store))?;
        fs::remove_dir_all(&store).map_err(Problem::file("remove", &store))?;
    }
    fs::create_dir_all(&folder).map_err(Problem::file("make", &folder))?;
    let config = folder.join("kuz.toml");
    // Serves as long as the cases are tried.
    let server = if options.hub { None } else { Some(bases::serve(&bases::make(&workspace, &kuz, false)?)?) };
    let text = server.as_ref().map(|server| server.config().clone()).unwrap_or_default();
    fs::write(&config, text).map_err(Problem::file("write", &config))?;
    let room = tempfile::tempdir_in(&folder).map_err(Problem::file("make a directory in", &folder))?;
    let workshop = Workshop { kuz, store, config, room: room.path().to_owned() };
    say(&format!("{} cases, {WORKERS} at a time", cases.len()));
    let seen = side_by_side(&workshop, &cases)?;
    if cases.len() == total {
        let page = workspace.root.join("docs/verdicts.md");
        let bases = if options.hub { "Docker Hub's" } else { "the project's stand-ins for" };
        fs::write(&page, report::page(&cases, &seen, bases)).map_err(Problem::file("write", &page))?;
        say(&format!("written: {}", page.display()));
    }
    let wrong = seen.iter().filter(|seen| !seen.wrong.is_empty()).count();
    println!("{} right, {wrong} wrong", seen.len() - wrong);
    if wrong == 0 { Ok(()) } else { Err(Problem::Failed("verdicts are wrong".into())) }
}

/// Tries all cases; what was seen of each, in the cases' order.
fn side_by_side(workshop: &Workshop, cases: &[Case]) -> Outcome<Vec<Seen>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Outcome<Seen>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    let seen = workshop.judge(case);
                    if let Ok(seen) = &seen {
                        println!("{}", report::line(case, seen));
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, seen));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, seen)| seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let all = Options { only: Some("a".into()), kuz: Some("b/kuz".into()), hub: true, fresh: true };
        for (words, expected) in [
            (&[][..], Ok(Options::default())),
            (&["--bases=stand-in"], Ok(Options::default())),
            (&["--only=a", "--kuz=b/kuz", "--bases=hub", "--fresh"], Ok(all)),
            (&["--bases=own"], Err("--bases=own".to_owned())),
            (&["a"], Err("a".to_owned())),
        ] {
            assert_eq!(Options::parse(words), expected, "{words:?}");
        }
    }
}
