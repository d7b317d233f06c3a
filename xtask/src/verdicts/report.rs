//! What was seen, as lines and as the page `docs/verdicts.md`.
//!
//! In: cases and what was seen of them. Out: text. Prints nothing itself.

use std::fmt::Write as _;

use super::case::Case;
use super::judge::Seen;

/// Longer cells are cut.
const CELL: usize = 300;

/// One line about a case, and what is wrong with it below.
pub(super) fn line(case: &Case, seen: &Seen) -> String {
    let mut text = format!("{} {}", if seen.wrong.is_empty() { "right" } else { "WRONG" }, case.name);
    for wrong in &seen.wrong {
        let _ = write!(text, "\n      {wrong}");
    }
    text
}

/// The page.
pub(super) fn page(cases: &[Case], seen: &[Seen], bases: &str) -> String {
    let rows = || cases.iter().zip(seen);
    let wrong = rows().filter(|(_, seen)| !seen.wrong.is_empty()).count();
    let broken = cases.iter().filter(|case| case.is_broken()).count();
    let mended = seen.iter().filter(|seen| seen.mended).count();
    let mut text = format!(
        "# Verdicts that were confirmed

This page is written by `cargo xtask verdicts`. It builds the images of `verdicts/*.toml` from their Dockerfiles, with packages
of PyPI and Debian, on {bases} `python:3.10` and `python:3.10-slim`; asks `kuz verify`; and starts each image to see whether
that is true. A broken image must have exactly the errors that its case names, with advice, and must fail when started. A
sound one must have no error, and must work. Where \"mended\" stands, the patch of `kuz verify --fix` was applied, and the
image then was sound and ran.

**{broken} broken and {} sound images: {} right, {wrong} wrong; {mended} mended by the patch.**

## Broken

| image | what is broken | error | advice | when started |
|---|---|---|---|---|
",
        cases.len() - broken,
        cases.len() - wrong,
    );
    for (case, seen) in rows().filter(|(case, _)| case.is_broken()) {
        let errors: Vec<String> = seen.found.iter().map(|found| format!("{}: {}", found.rule, found.message)).collect();
        let mut advice: Vec<String> =
            seen.found.iter().map(super::judge::Found::advice).filter(|advice| !advice.is_empty()).collect();
        advice.dedup();
        if seen.mended {
            advice.push("**mended**".into());
        }
        let cells = [&case.name, &case.what, &errors.join("; "), &advice.join("; "), &seen.confirmed];
        row(&mut text, &cells.map(|cell| case.text(cell)), &seen.wrong);
    }
    text.push_str("\n## Sound\n\n| image | what it has | when started |\n|---|---|---|\n");
    for (case, seen) in rows().filter(|(case, _)| !case.is_broken()) {
        row(&mut text, &[case.name.clone(), case.what.clone(), seen.confirmed.clone()], &seen.wrong);
    }
    text
}

fn row(text: &mut String, cells: &[String], wrong: &[String]) {
    for cell in cells {
        let _ = write!(text, "| {} ", one_cell(cell));
    }
    let _ = match wrong {
        [] => writeln!(text, "|"),
        wrong => writeln!(text, "**WRONG: {}** |", one_cell(&wrong.join("; "))),
    };
}

/// A text that breaks no table.
fn one_cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;");
    if line.chars().count() <= CELL { line } else { line.chars().take(CELL).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_one_line_each() {
        assert_eq!(one_cell("a\n  b | <c>"), "a b \\| &lt;c>");
        assert_eq!(one_cell(&"x".repeat(CELL + 1)).chars().count(), CELL + 1);
    }
}
