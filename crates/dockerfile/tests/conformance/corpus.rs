//! The tables: read once, each case judged, all failures of a table shown together.

use std::path::PathBuf;

use serde_json::Value;

/// The folder, or `None` with a line that says why.
pub(crate) fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("KUZ_CONFORMANCE").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder = named.unwrap_or(beside);
    if folder.join("INDEX.json").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no conformance tables in {}", folder.display());
    None
}

/// Judges each case of a table; a judge says what's wrong.
pub(crate) fn judge(table: &str, judge: impl Fn(&Value) -> Result<(), String>) {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join(format!("{table}.json"))).unwrap();
    let table_value: Value = serde_json::from_str(&text).unwrap();
    let cases = table_value["cases"].as_array().unwrap();
    assert!(!cases.is_empty(), "{table} has no cases");
    let failures: Vec<String> =
        cases.iter().filter_map(|case| judge(case).err().map(|why| format!("{}: {why}", case["id"]))).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases of {table} fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[expect(clippy::needless_pass_by_value, reason = "callers have values")]
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}

pub(crate) fn text<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} in {case}"))
}

pub(crate) fn texts(case: &Value, key: &str) -> Vec<String> {
    let list = case[key].as_array().unwrap_or_else(|| panic!("{key} in {case}"));
    list.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// `NAME=value` entries as pairs.
pub(crate) fn env(case: &Value) -> Vec<(String, String)> {
    let entry = |entry: String| entry.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
    texts(case, "env").into_iter().map(entry).collect()
}

pub(crate) fn wants_error(case: &Value) -> bool {
    !matches!(case["error"], Value::Null | Value::Bool(false))
}
