//! The verdicts as text: sums by folder and feature, what failed and why, and whether it is enough.
//!
//! In: a row for each case. Out: lines, and a yes or no. Prints nothing itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The folder of the build cases.
pub(super) const BUILDS: &str = "builds";
/// Of a hundred build cases, this many must be right.
const ENOUGH: usize = 98;

/// A case and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) folder: String,
    pub(super) id: String,
    pub(super) feature: String,
    pub(super) state: State,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Passed,
    /// Fails as it must, in other words than the peer's.
    OtherWords(String),
    Failed(String),
    /// Refused as not supported yet: a failure too.
    Unsupported(String),
    Skipped(String),
    /// Counts for nothing.
    Informative,
}

/// Sums.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Sum {
    fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut sum = Self::default();
        for row in rows {
            match row.state {
                State::Passed | State::OtherWords(_) => sum.passed += 1,
                State::Failed(_) | State::Unsupported(_) => sum.failed += 1,
                State::Skipped(_) => sum.skipped += 1,
                State::Informative => {}
            }
        }
        sum
    }

    fn total(self) -> usize {
        self.passed + self.failed + self.skipped
    }

    fn line(self) -> String {
        format!("{:4} passed {:4} failed {:4} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Every table case right, and enough of the builds. What was skipped is not right.
pub(super) fn is_enough(rows: &[Row]) -> bool {
    let builds = Sum::of(rows.iter().filter(|row| row.folder == BUILDS));
    let tables = Sum::of(rows.iter().filter(|row| row.folder != BUILDS));
    tables.passed == tables.total() && builds.passed * 100 >= builds.total() * ENOUGH
}

/// The whole report; its last line is the sum.
pub(super) fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    sums(&mut out, rows);
    listing(&mut out, rows, "failed", |state| match state {
        State::Failed(reason) => Some(reason),
        _ => None,
    });
    unsupported(&mut out, rows);
    listing(&mut out, rows, "skipped", |state| match state {
        State::Skipped(reason) => Some(reason),
        _ => None,
    });
    listing(&mut out, rows, "right, in other words than the peer's", |state| match state {
        State::OtherWords(reason) => Some(reason),
        _ => None,
    });
    let other = rows.iter().filter(|row| matches!(row.state, State::OtherWords(_))).count();
    let informative = rows.iter().filter(|row| row.state == State::Informative).count();
    line(&mut out, format_args!("{other} errors in other words than the peer's, {informative} informative cases"));
    let Sum { passed, failed, skipped } = Sum::of(rows);
    line(&mut out, format_args!("{passed} passed, {failed} failed, {skipped} skipped"));
    out
}

/// By folder, and by feature within it.
fn sums(out: &mut String, rows: &[Row]) {
    let mut folders: BTreeMap<&str, BTreeMap<&str, Vec<&Row>>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state != State::Informative) {
        folders.entry(&row.folder).or_default().entry(&row.feature).or_default().push(row);
    }
    for (folder, features) in folders {
        let all = Sum::of(features.values().flatten().copied());
        line(out, format_args!("{folder:32} {}", all.line()));
        for (feature, rows) in features {
            line(out, format_args!("  {feature:30} {}", Sum::of(rows).line()));
        }
    }
}

fn listing(out: &mut String, rows: &[Row], title: &str, reason: impl Fn(&State) -> Option<&String>) {
    let listed: Vec<_> = rows.iter().filter_map(|row| Some((row, reason(&row.state)?))).collect();
    if !listed.is_empty() {
        line(out, format_args!("\n{title}:"));
    }
    for (row, reason) in listed {
        line(out, format_args!("  {}/{} ({}): {reason}", row.folder, row.id, row.feature));
    }
}

/// What the program refuses for now, by what that is.
fn unsupported(out: &mut String, rows: &[Row]) {
    let mut by_what: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        if let State::Unsupported(what) = &row.state {
            by_what.entry(what).or_default().push(&row.id);
        }
    }
    if !by_what.is_empty() {
        line(out, format_args!("\nnot supported yet (counted as failed):"));
    }
    for (what, ids) in by_what {
        line(out, format_args!("  {:4} {what}: {}", ids.len(), ids.join(" ")));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes every write.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(folder: &str, state: &State, count: usize) -> Vec<Row> {
        let row = Row { folder: folder.into(), id: "a".into(), feature: "x".into(), state: state.clone() };
        vec![row; count]
    }

    #[test]
    fn enough_is_every_table_and_most_builds() {
        let no = || State::Failed("no".into());
        for (parts, enough) in [
            (vec![rows("t", &State::Passed, 3), rows(BUILDS, &State::Passed, 98), rows(BUILDS, &no(), 2)], true),
            (vec![rows(BUILDS, &State::Passed, 97), rows(BUILDS, &no(), 3)], false),
            (vec![rows(BUILDS, &State::Passed, 97), rows(BUILDS, &State::Skipped("no".into()), 3)], false),
            (vec![rows(BUILDS, &State::OtherWords("no".into()), 1)], true),
            (vec![rows("t", &no(), 1), rows(BUILDS, &State::Passed, 100)], false),
            (vec![rows("t", &State::Informative, 1)], true),
        ] {
            assert_eq!(is_enough(&parts.concat()), enough, "{parts:?}");
        }
    }

    #[test]
    fn the_last_line_is_the_sum() {
        let rows = [
            rows("t", &State::Passed, 2),
            rows(BUILDS, &State::Failed("because".into()), 1),
            rows(BUILDS, &State::Unsupported("--ssh".into()), 1),
            rows(BUILDS, &State::Skipped("no base".into()), 1),
        ]
        .concat();
        let text = text(&rows);
        assert!(text.ends_with("\n2 passed, 2 failed, 1 skipped\n"), "{text}");
        for part in ["builds/a (x): because", "   1 --ssh: a", "builds/a (x): no base"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
