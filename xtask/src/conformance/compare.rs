//! A finished image against what a case expects of it.
//!
//! In: an image and expectations. Out: every difference as a sentence; none is a pass.

use std::path::Path;

use kuz_image::digest::Digest;
use kuz_image::tar::Kind;
use serde_json::Value;

use super::case::{Case, ExpectedFile, ExpectedHistory};
use super::image::{File, Files, Image};

/// A content in a message is cut here.
const SHOWN: usize = 120;
/// Unexpected paths in a message.
const LISTED: usize = 8;

/// Everything that is not as expected. `context` is the context that was built.
pub(super) fn differences(image: &Image, case: &Case, context: &Path) -> Vec<String> {
    let expect = &case.expect;
    let mut found = Vec::new();
    for file in &expect.files {
        for wrong in file_differences(&image.files, file, context) {
            found.push(format!("{}: {wrong}", file.path));
        }
    }
    if expect.files_complete {
        found.extend(unexpected(&image.files, &expect.files));
    }
    found.extend(config_differences(&image.config["config"], case));
    if let Some(want) = expect.layers.filter(|want| *want != image.layers) {
        found.push(format!("{} layers, not {want}", image.layers));
    }
    found.extend(history_differences(&image.config, &expect.history));
    for (name, want) in &expect.image {
        let got = if name == "created" { seconds(&image.config[name]) } else { image.config[name].clone() };
        if got != *want {
            found.push(format!("image {name} is {got}, not {want}"));
        }
    }
    found
}

fn file_differences(files: &Files, want: &ExpectedFile, context: &Path) -> Vec<String> {
    let Some(file) = files.get(&want.path) else {
        return if want.absent { Vec::new() } else { vec!["is missing".into()] };
    };
    if want.absent {
        return vec!["is there".into()];
    }
    let mut found = Vec::new();
    let mut check = |what: &str, got: &dyn std::fmt::Display, right: bool, want: &dyn std::fmt::Display| {
        if !right {
            found.push(format!("{what} is {got}, not {want}"));
        }
    };
    let header = &file.header;
    if let Some(kind) = &want.kind {
        check("type", &kind_name(header.kind), kind_name(header.kind) == kind, kind);
    }
    if let Some(mode) = &want.mode {
        let right = u32::from_str_radix(mode, 8) == Ok(header.mode);
        check("mode", &format!("{:04o}", header.mode), right, mode);
    }
    for (what, got, want) in [("uid", header.uid, want.uid), ("gid", header.gid, want.gid)] {
        if let Some(want) = want {
            check(what, &got, got == want, &want);
        }
    }
    if let Some(link) = &want.linkname {
        check("link target", &shown(&header.link), header.link == link.as_bytes(), link);
    }
    for (name, value) in &want.xattrs {
        let got = header.xattrs.get(name.as_bytes());
        let right = got.is_some_and(|got| got == value.as_bytes());
        check(&format!("xattr {name}"), &shown(got.map_or(b"", Vec::as_slice)), right, value);
    }
    if let Some(empty) = want.empty {
        let got = files.resolve(&want.path).is_some_and(|path| !files.has_below(&path));
        check("empty", &got, got == empty, &empty);
    }
    if let Some(other) = &want.same_inode_as {
        let right = files.get(other).is_some_and(|other| other.inode == file.inode);
        check("inode", &"its own", right, &format!("that of {other}"));
    }
    found.extend(content_differences(file, want, context));
    found
}

fn content_differences(file: &File, want: &ExpectedFile, built: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let content = file.content.as_slice();
    if let Some(text) = want.content.as_ref().filter(|text| text.as_bytes() != content) {
        found.push(format!("content is {}, not {}", shown(content), shown(text.as_bytes())));
    }
    if let Some(size) = want.size.filter(|size| *size != content.len() as u64) {
        found.push(format!("size is {}, not {size}", content.len()));
    }
    if let Some(digest) = want.sha256.as_ref().filter(|digest| Digest::of(content).hex() != digest.as_str()) {
        found.push(format!("content is {} of {} bytes, not {digest}", Digest::of(content).hex(), content.len()));
    }
    let has = |part: &str| String::from_utf8_lossy(content).contains(part);
    for part in want.content_contains.list().into_iter().filter(|part| !has(part)) {
        found.push(format!("content is {}, without {}", shown(content), shown(part.as_bytes())));
    }
    for part in want.content_not_contains.list().into_iter().filter(|part| has(part)) {
        found.push(format!("content has {}", shown(part.as_bytes())));
    }
    if let Some(name) = &want.same_as_ctx {
        match std::fs::read(built.join(name.trim_start_matches('/'))) {
            Ok(bytes) if bytes == content => {}
            Ok(_) => found.push(format!("content is not that of {name}")),
            Err(error) => found.push(format!("{name} of the context: {error}")),
        }
    }
    found
}

fn unexpected(files: &Files, expected: &[ExpectedFile]) -> Option<String> {
    let listed: Vec<Vec<u8>> = expected.iter().filter_map(|file| files.resolve(&file.path)).collect();
    let more: Vec<String> = files.paths().filter(|path| !listed.contains(path)).map(|path| shown(path)).collect();
    let first = more.get(..more.len().min(LISTED)).unwrap_or_default();
    (!more.is_empty()).then(|| format!("{} more files than listed: {}", more.len(), first.join(", ")))
}

fn config_differences(config: &Value, case: &Case) -> Vec<String> {
    let expect = &case.expect;
    let mut found = Vec::new();
    for (name, want) in &expect.config {
        if plain(name, &config[name]) != plain(name, want) {
            found.push(format!("config {name} is {}, not {want}", config[name]));
        }
    }
    for (name, want) in &expect.config_contains {
        if !contains(&config[name], want) {
            found.push(format!("config {name} is {}, without all of {want}", config[name]));
        }
    }
    for name in &expect.env_absent {
        let env = config["Env"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_set =
            |entry: &Value| entry.as_str().and_then(|entry| entry.split_once('=')).is_some_and(|(key, _)| key == name);
        if env.iter().any(is_set) {
            found.push(format!("config Env sets {name}"));
        }
    }
    found
}

/// Absent, null and empty are the same; no working directory is the root.
fn plain(name: &str, value: &Value) -> Value {
    match value {
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() || (name == "WorkingDir" && text == "/") => Value::Null,
        other => other.clone(),
    }
}

fn contains(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Array(got), Value::Array(want)) => want.iter().all(|one| got.contains(one)),
        (Value::Object(got), Value::Object(want)) => want.iter().all(|(key, value)| got.get(key) == Some(value)),
        (got, want) => got == want,
    }
}

fn history_differences(config: &Value, expected: &[ExpectedHistory]) -> Vec<String> {
    let history = config["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    if history.len() < expected.len() {
        return vec![format!("{} history entries, not {}", history.len(), expected.len())];
    }
    let mut found = Vec::new();
    for (entry, want) in history.iter().skip(history.len() - expected.len()).zip(expected) {
        let line = entry["created_by"].as_str().unwrap_or_default();
        let part = want.created_by_contains.as_deref().unwrap_or_default();
        let empty = entry["empty_layer"] == true;
        if !line.contains(part) {
            found.push(format!("history has {line:?}, not {part:?}"));
        }
        if want.empty_layer.is_some_and(|want| want != empty) {
            found.push(format!("history entry {line:?}: empty layer is {empty}"));
        }
        if want.created.is_some_and(|want| seconds(&entry["created"]) != want) {
            found.push(format!("history entry {line:?} is of {}, not {:?}", entry["created"], want.created));
        }
    }
    found
}

fn seconds(time: &Value) -> Value {
    let parsed = time.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map_or(Value::Null, |time| time.as_second().into())
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File | Kind::Hardlink => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
        Kind::Char { .. } => "char",
        Kind::Block { .. } => "block",
        Kind::Fifo => "fifo",
    }
}

fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN).unwrap_or(bytes);
    let more = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(expect: &str) -> Case {
        let text = format!(r#"{{"id": "a", "features": ["x"], "base": "scratch", "expect": {expect}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn settings_are_the_same_where_they_mean_the_same() {
        let config = serde_json::json!({"Env": ["A=1", "B=2"], "WorkingDir": "/", "Cmd": null});
        for (expect, wrong) in [
            (r#"{"success": true, "config": {"WorkingDir": "", "Cmd": [], "Labels": {}}}"#, 0),
            (r#"{"success": true, "config": {"WorkingDir": "/a", "Cmd": ["a"]}}"#, 2),
            (r#"{"success": true, "config_contains": {"Env": ["B=2"]}}"#, 0),
            (r#"{"success": true, "config_contains": {"Env": ["B=3"]}, "env_absent": ["A", "C"]}"#, 2),
        ] {
            assert_eq!(config_differences(&config, &case(expect)).len(), wrong, "{expect}");
        }
    }

    #[test]
    fn history_is_compared_from_its_end() {
        let config = serde_json::json!({"history": [
            {"created_by": "base", "created": "1970-01-01T00:00:00Z"},
            {"created_by": "ENV A=1", "empty_layer": true, "created": "1970-01-01T00:00:07Z"},
        ]});
        for (expect, wrong) in [
            (r#"{"success": true, "history": [{"created_by_contains": "A=1", "empty_layer": true, "created": 7}]}"#, 0),
            (
                r#"{"success": true, "history": [{"created_by_contains": "RUN", "empty_layer": false, "created": 8}]}"#,
                3,
            ),
            (r#"{"success": true, "history": [{}, {}, {}]}"#, 1),
        ] {
            assert_eq!(history_differences(&config, &case(expect).expect.history).len(), wrong, "{expect}");
        }
    }
}
