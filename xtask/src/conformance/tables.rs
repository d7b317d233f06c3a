//! The tables: the crates' own tests judge them, case by case.
//!
//! In: a corpus. Out: a verdict for every case of its tables. The tests (`kuz_testkit::conformance`) write a line for
//! each case that they judge into a file; a case without a line has no judge, which is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::report::{Row, State};
use crate::problem::Problem;
use crate::program::cargo;
use crate::{Outcome, say};

/// The packages whose test `conformance` judges tables.
const PACKAGES: [&str; 3] = ["kuz-dockerfile", "kuz-image", "kuz-plan"];
/// The folders of a corpus that hold tables.
const FOLDERS: [&str; 5] = ["parser", "shell", "dockerignore", "reference", "instructions"];
/// Folders with a folder for each case.
const FILES: [&str; 2] = ["parser/testfiles", "parser/testfiles-negative"];
/// They show how a peer does it, not what comes of it.
const INFORMATIVE: [&str; 2] = ["dockerignore/compile", "shell/pattern"];

/// Judges all tables.
pub(super) fn judge(corpus: &Path) -> Outcome<Vec<Row>> {
    let mut rows = cases(corpus)?;
    if rows.is_empty() {
        return Ok(rows);
    }
    say("tables: cargo test --test conformance");
    let report = tempfile::NamedTempFile::new().map_err(Problem::file("make", std::env::temp_dir()))?;
    let mut command = cargo();
    command.args(["test", "--quiet", "--locked", "--no-fail-fast", "--test", "conformance"]);
    command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    command.env("KUZ_CONFORMANCE", corpus).env("KUZ_CONFORMANCE_REPORT", report.path());
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(|source| Problem::Start { program: "cargo test".into(), source })?;
    let told = fs::read_to_string(report.path()).map_err(Problem::file("read", report.path()))?;
    if told.is_empty() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(Problem::Failed("the tests that judge the tables did not run".into()));
    }
    apply(&mut rows, &told);
    Ok(rows)
}

/// Every case of the corpus, not judged yet.
fn cases(corpus: &Path) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for folder in FOLDERS.map(|folder| corpus.join(folder)).iter().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder).map_err(Problem::file("list", folder))? {
            let path = entry.map_err(Problem::file("list", folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                rows.extend(table(corpus, &path)?);
            }
        }
    }
    for name in FILES {
        let folder = corpus.join(name);
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.map_err(Problem::file("list", &folder))?;
            rows.push(row(name, &entry.file_name().to_string_lossy(), "files"));
        }
    }
    Ok(rows)
}

fn table(corpus: &Path, path: &Path) -> Outcome<Vec<Row>> {
    let bytes = fs::read(path).map_err(Problem::file("read", path))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| Problem::Answer(format!("{}: {error}", path.display())))?;
    let name = path.strip_prefix(corpus).unwrap_or(path).with_extension("");
    let name = name.to_string_lossy().into_owned();
    let cases = value["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |case: &Value, key: &str| case[key].as_str().unwrap_or("?").to_owned();
    Ok(cases.iter().map(|case| row(&name, &text(case, "id"), &text(case, "feature"))).collect())
}

fn row(table: &str, id: &str, feature: &str) -> Row {
    let state = if INFORMATIVE.contains(&table) {
        State::Informative
    } else {
        State::Skipped("no test judges this table".into())
    };
    Row { folder: table.to_owned(), id: id.to_owned(), feature: feature.to_owned(), state }
}

/// Enters what the tests told. Several tests may judge a case, each its part: one that fails decides.
fn apply(rows: &mut [Row], told: &str) {
    let mut verdicts: BTreeMap<(&str, &str), Option<&str>> = BTreeMap::new();
    for line in told.lines() {
        let mut fields = line.splitn(5, '\t');
        let (Some(table), Some(id), Some(_), Some(word)) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let reason = (word == "failed").then(|| fields.next().unwrap_or_default());
        let verdict = verdicts.entry((table, id)).or_insert(reason);
        *verdict = verdict.or(reason);
    }
    for row in rows {
        match verdicts.get(&(row.folder.as_str(), row.id.as_str())) {
            Some(Some(reason)) => row.state = State::Failed((*reason).to_owned()),
            Some(None) => row.state = State::Passed,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_judge_that_finds_a_fault_decides() {
        let mut rows = [row("shell/words", "a", "x"), row("shell/words", "b", "x"), row("shell/words", "c", "x")];
        let told = "shell/words\ta\tx\tpassed\t\nshell/words\ta\tx\tfailed\tno\nshell/words\ta\tx\tpassed\t\n\
                    shell/words\tb\tx\tpassed\t\n";
        apply(&mut rows, told);
        assert_eq!(rows[0].state, State::Failed("no".into()));
        assert_eq!(rows[1].state, State::Passed);
        assert!(matches!(rows[2].state, State::Skipped(_)));
        assert_eq!(row("shell/pattern", "a", "x").state, State::Informative);
    }
}
