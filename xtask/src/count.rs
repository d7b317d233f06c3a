//! Counts what test runners print.
//!
//! In: the lines of `cargo test -- --show-output`, of several suites one after another. Out: what a person should see of
//! them, and how many tests passed, failed and were skipped. A test that printed a line beginning with `skipped:` did not
//! test what it is named for: it counts as skipped, though the runner calls it passed. Runs nothing.

use std::collections::BTreeSet;
use std::fmt;

/// A line with which a test says that it could not be done here.
const SKIPPED: &str = "skipped:";

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Where in a suite's output a line stands.
#[derive(Debug, Default, PartialEq)]
enum Part {
    /// Test names with their ends, or a runner of another kind.
    #[default]
    Tests,
    /// What tests that passed printed; the name of the test whose lines these are.
    Successes(Option<String>),
    /// What tests that failed printed.
    Failures,
}

/// Reads line after line.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    tally: Tally,
    part: Part,
    /// Tests of this suite that said so.
    skipped: BTreeSet<String>,
}

impl Counter {
    /// Takes a line; gives back what to show of it.
    pub(crate) fn line(&mut self, line: &str) -> Option<String> {
        if let Some((passed, failed, ignored)) = libtest_result(line) {
            let skipped = std::mem::take(&mut self.skipped).len().min(passed);
            self.part = Part::Tests;
            self.tally.passed += passed - skipped;
            self.tally.failed += failed;
            self.tally.skipped += ignored + skipped;
            return Some(line.to_owned());
        }
        if let Some((passed, failed, skipped)) = plain_result(line) {
            self.tally.passed += passed;
            self.tally.failed += failed;
            self.tally.skipped += skipped;
            return Some(format!("  {line}"));
        }
        match line {
            "successes:" => self.part = Part::Successes(None),
            "failures:" => self.part = Part::Failures,
            _ => {}
        }
        match &mut self.part {
            Part::Failures => Some(line.to_owned()),
            Part::Successes(current) => {
                if let Some(name) = section(line) {
                    *current = Some(name.to_owned());
                }
                let name = current.as_ref().filter(|_| line.starts_with(SKIPPED))?;
                self.skipped.insert(name.clone());
                Some(format!("{line} [{name}]"))
            }
            Part::Tests => {
                let quiet = line.is_empty()
                    || line.starts_with("running ")
                    || (line.starts_with("test ") && (line.ends_with(" ok") || line.contains(" ... ignored")));
                (!quiet).then(|| line.to_owned())
            }
        }
    }

    /// What was counted up to now.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}

/// `---- NAME stdout ----`
fn section(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" ----")?.rsplit_once(' ').map(|(name, _)| name)
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn libtest_result(line: &str) -> Option<(usize, usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    Some((count("passed")?, count("failed")?, count("ignored")?))
}

/// `3 passed, 0 failed, 1 skipped`, as suites with a runner of their own close.
fn plain_result(line: &str) -> Option<(usize, usize, usize)> {
    let mut parts = line.trim().split(", ");
    let mut count = |word: &str| parts.next()?.strip_suffix(word)?.trim().parse().ok();
    Some((count("passed")?, count("failed")?, count("skipped")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two suites of libtest and one of another kind, as they print.
    const OUTPUT: &str = "\
running 3 tests
test one ... ok
test two ... ok
test three ... ignored

successes:

---- one stdout ----
some words
skipped: no /dev/fuse

---- two stdout ----
this line says skipped: in its middle


successes:
    one
    two

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
test four ... FAILED

failures:

---- four stdout ----
assertion failed

failures:
    four

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
Feature: something
5 passed, 1 failed, 2 skipped
";

    #[test]
    fn suites_are_summed_and_skips_are_told_from_passes() {
        let mut counter = Counter::default();
        let shown: Vec<String> = OUTPUT.lines().filter_map(|line| counter.line(line)).collect();
        assert_eq!(counter.tally(), Tally { passed: 6, failed: 2, skipped: 4 });
        assert_eq!(counter.tally().to_string(), "6 passed, 2 failed, 4 skipped");
        let shown = shown.join("\n");
        assert!(shown.contains("skipped: no /dev/fuse [one]"), "{shown}");
        assert!(shown.contains("assertion failed"), "{shown}");
        assert!(shown.contains("test four ... FAILED"), "{shown}");
        assert!(!shown.contains("some words"), "{shown}");
    }

    #[test]
    fn other_lines_are_no_results() {
        for line in ["passed", "1 passed", "x passed, 0 failed, 0 skipped", "test result: ok", "1 passed, 2 failed"] {
            assert_eq!((libtest_result(line), plain_result(line)), (None, None), "{line}");
        }
    }
}
