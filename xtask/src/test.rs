//! Every test: the checks, then all suites, then one line with their sum.
//!
//! In: the workspace. Out: what failed, which tests were skipped and why, and `N passed, N failed, N skipped`; a failure
//! is a problem. What the suites need is installed (as root) or named; the stand-in images are made for those that build
//! the example, which skip where they cannot be made.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::count::{Counter, Tally};
use crate::problem::Problem;
use crate::program::{Workspace, cargo};
use crate::{Outcome, bases, check, packages, say};

/// The task.
pub(crate) fn run(with_check: bool) -> Outcome {
    let checked = if with_check { check::run() } else { Ok(()) };
    if let Err(problem) = &checked {
        problem.print();
    }
    let workspace = Workspace::find()?;
    if let Err(problem) = packages::require(packages::TEST) {
        // The tests that need them say so and are counted as skipped.
        problem.print();
    }
    prepare_bases(&workspace);
    let mut tally = suites()?;
    tally.failed += usize::from(checked.is_err());
    println!("{tally}");
    if tally.failed == 0 { Ok(()) } else { Err(Problem::Failed("not everything passed".into())) }
}

/// Without them the tests of the example skip, and say so: no reason to run no test at all.
fn prepare_bases(workspace: &Workspace) {
    let made = bases::build_kuz(workspace, false).and_then(|kuz| bases::make(workspace, &kuz, false));
    if let Err(problem) = made {
        problem.print();
    }
}

/// Runs cargo's suites and counts.
fn suites() -> Outcome<Tally> {
    say("cargo test");
    let mut command = cargo();
    command.args(["test", "--locked", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|source| Problem::Start { program: "cargo test".into(), source })?;
    let mut counter = Counter::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).map_err(Problem::file("read", "cargo test"))? > 0 {
            if let Some(shown) = counter.line(String::from_utf8_lossy(&line).trim_end()) {
                println!("{shown}");
            }
            line.clear();
        }
    }
    let status = child.wait().map_err(|source| Problem::Start { program: "cargo test".into(), source })?;
    let mut tally = counter.tally();
    if !status.success() && tally.failed == 0 {
        // A suite that did not compile or was killed has no counts of its own.
        tally.failed += 1;
    }
    Ok(tally)
}
