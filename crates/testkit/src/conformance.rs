//! Tables of a conformance corpus, judged by the tests of the crates.
//!
//! In: the corpus (`$KUZ_CONFORMANCE`, or `shared/conformance` beside the checkout) and a judge for one case. Out: a
//! panic that shows every case of the table that fails, and, where `$KUZ_CONFORMANCE_REPORT` names a file, a line for
//! each case: table, id, feature, verdict, reason, with tabs between them. A table that the corpus lacks is passed over.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The corpus, or `None` and a line that says why.
#[expect(clippy::print_stderr, reason = "a test says why it is skipped")]
pub fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder = std::env::var_os("KUZ_CONFORMANCE").filter(|value| !value.is_empty()).map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no conformance corpus (set KUZ_CONFORMANCE)");
    None
}

/// Judges each case of a table; the judge says what is wrong.
///
/// # Panics
/// When a case fails, or the table cannot be read.
#[expect(clippy::panic, clippy::print_stderr, reason = "a test says so by panicking")]
pub fn judge(table: &str, judge: impl Fn(&Value) -> Result<(), String>) {
    let Some(folder) = folder() else { return };
    let path = folder.join(format!("{table}.json"));
    if !path.exists() {
        eprintln!("skipped: this conformance corpus has no table {table}");
        return;
    }
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    let parsed = read.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string()));
    let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases = parsed["cases"].as_array().filter(|cases| !cases.is_empty());
    let cases = cases.unwrap_or_else(|| panic!("{} has no cases", path.display()));
    let mut verdicts = Verdicts::new(table);
    for case in cases {
        let name = |key: &str| case[key].as_str().unwrap_or("?");
        verdicts.add(name("id"), name("feature"), judge(case));
    }
    verdicts.close();
}

/// The verdicts of one table, or of one folder of files.
#[derive(Debug)]
pub struct Verdicts {
    table: String,
    lines: String,
    total: usize,
    failures: Vec<String>,
}

impl Verdicts {
    /// None yet.
    pub fn new(table: &str) -> Self {
        Self { table: table.to_owned(), lines: String::new(), total: 0, failures: Vec::new() }
    }

    /// One case.
    pub fn add(&mut self, id: &str, feature: &str, verdict: Result<(), String>) {
        self.total += 1;
        let (word, reason) = match &verdict {
            Ok(()) => ("passed", String::new()),
            Err(reason) => ("failed", reason.escape_debug().to_string()),
        };
        let table = &self.table;
        // A string takes every write.
        let _ = writeln!(self.lines, "{table}\t{id}\t{feature}\t{word}\t{reason}");
        self.failures.extend(verdict.err().map(|reason| format!("{id}: {reason}")));
    }

    /// Writes the report, if one is asked for.
    ///
    /// # Panics
    /// When a case failed.
    #[expect(clippy::panic, reason = "a test says so by panicking")]
    pub fn close(self) {
        if let Some(report) = std::env::var_os("KUZ_CONFORMANCE_REPORT") {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(&report);
            // One write for all lines: tests run side by side.
            let written = file.and_then(|mut file| file.write_all(self.lines.as_bytes()));
            written.unwrap_or_else(|error| panic!("{}: {error}", Path::new(&report).display()));
        }
        let Self { table, total, failures, .. } = self;
        assert!(failures.is_empty(), "{} of {total} of {table} fail:\n{}", failures.len(), failures.join("\n"));
    }
}

/// Equal, or a text that shows both.
#[expect(clippy::needless_pass_by_value, reason = "callers have values")]
pub fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}

/// A field that must be a text.
///
/// # Panics
/// When it is none: the table is malformed.
#[expect(clippy::panic, reason = "a malformed table is nothing to go on with")]
pub fn text<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} in {case}"))
}

/// A field that must be a list of texts.
///
/// # Panics
/// When it is none: the table is malformed.
#[expect(clippy::panic, reason = "a malformed table is nothing to go on with")]
pub fn texts(case: &Value, key: &str) -> Vec<String> {
    let list = case[key].as_array().unwrap_or_else(|| panic!("{key} in {case}"));
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether the case says that there must be an error.
pub fn wants_error(case: &Value) -> bool {
    !matches!(case["error"], Value::Null | Value::Bool(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "1 of 2 of some/table fail:\nb: one: 1, not 2")]
    fn what_fails_is_named() {
        let mut verdicts = Verdicts::new("some/table");
        verdicts.add("a", "x", Ok(()));
        verdicts.add("b", "x", same("one", 1, 2));
        verdicts.close();
    }

    #[test]
    fn only_an_error_that_is_asked_for_is_wanted() {
        for (case, wanted) in [("{}", false), (r#"{"error":false}"#, false), (r#"{"error":"no"}"#, true)] {
            assert_eq!(wants_error(&serde_json::from_str(case).unwrap()), wanted, "{case}");
        }
    }
}
