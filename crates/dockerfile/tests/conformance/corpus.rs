//! What the tables' judges share; reading and reporting is the test kit's.

use serde_json::Value;

pub(crate) use kuz_testkit::conformance::{Verdicts, folder, judge, same, text, texts, wants_error};

/// `NAME=value` entries as pairs.
pub(crate) fn env(case: &Value) -> Vec<(String, String)> {
    let entry = |entry: String| entry.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
    texts(case, "env").into_iter().map(entry).collect()
}
