//! A build case as its `case.json` says it.
//!
//! In: a case's folder. Out: typed values. What is expected is read strictly: an expectation that is not known here is
//! an error, so that none is passed over. What a case says about its origin is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Outcome;
use crate::problem::Problem;

/// A build and what must come of it.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    /// The first one is what the case is about.
    pub(super) features: Vec<String>,
    pub(super) base: String,
    #[serde(default)]
    pub(super) ctx_ops: Vec<Op>,
    #[serde(default)]
    pub(super) prebuild: Vec<Prebuild>,
    #[serde(default)]
    pub(super) build: Build,
    pub(super) expect: Expect,
    #[serde(skip)]
    pub(super) folder: PathBuf,
}

/// A change of a context that a version control system would lose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names of the file's fields")]
pub(super) struct Op {
    pub(super) op: String,
    pub(super) path: String,
    pub(super) target: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) mtime: Option<i64>,
}

/// An image that is built first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prebuild {
    pub(super) name: String,
    pub(super) ctx: String,
}

/// How the build is called.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the names of the file's fields")]
pub(super) struct Build {
    pub(super) dockerfile: Option<String>,
    pub(super) dockerfile_outside_ctx: bool,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) target: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) secrets: Vec<Secret>,
    pub(super) flags: Map<String, Value>,
    pub(super) named_contexts: BTreeMap<String, NamedContext>,
}

/// A secret and its value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secret {
    pub(super) id: String,
    pub(super) value: String,
}

/// What a name stands for beside the stages of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedContext {
    pub(super) dir: Option<String>,
    #[serde(default)]
    pub(super) ctx_ops: Vec<Op>,
    pub(super) image: Option<String>,
}

/// What must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) success: bool,
    #[serde(default)]
    pub(super) error_contains: Vec<String>,
    #[serde(default)]
    pub(super) error_lines: Vec<usize>,
    #[serde(default)]
    pub(super) files: Vec<ExpectedFile>,
    #[serde(default)]
    pub(super) files_complete: bool,
    #[serde(default)]
    pub(super) config: Map<String, Value>,
    #[serde(default)]
    pub(super) config_contains: Map<String, Value>,
    #[serde(default)]
    pub(super) env_absent: Vec<String>,
    pub(super) layers: Option<usize>,
    #[serde(default)]
    pub(super) history: Vec<ExpectedHistory>,
    #[serde(default)]
    pub(super) image: Map<String, Value>,
}

/// What is expected of one path.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectedFile {
    pub(super) path: String,
    pub(super) absent: bool,
    /// A directory without entries.
    pub(super) empty: Option<bool>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) content: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) content_contains: Texts,
    pub(super) content_not_contains: Texts,
    pub(super) same_as_ctx: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) linkname: Option<String>,
    pub(super) xattrs: BTreeMap<String, String>,
    pub(super) same_inode_as: Option<String>,
}

/// One text or several.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub(super) fn list(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => vec![text],
            Self::Many(texts) => texts.iter().map(String::as_str).collect(),
        }
    }
}

/// What is expected of one entry of the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedHistory {
    pub(super) created_by_contains: Option<String>,
    pub(super) empty_layer: Option<bool>,
    /// Seconds since 1970.
    pub(super) created: Option<i64>,
}

impl Case {
    /// Reads the case of a folder.
    pub(super) fn read(folder: &Path) -> Outcome<Self> {
        let path = folder.join("case.json");
        let bytes = fs::read(&path).map_err(Problem::file("read", &path))?;
        let mut case: Self =
            serde_json::from_slice(&bytes).map_err(|error| Problem::Answer(format!("{}: {error}", path.display())))?;
        folder.clone_into(&mut case.folder);
        Ok(case)
    }

    /// What it is about.
    pub(super) fn feature(&self) -> &str {
        self.features.first().map_or("?", String::as_str)
    }
}

/// The folders of all build cases, in order. A corpus need not have any.
pub(super) fn folders(corpus: &Path) -> Outcome<Vec<PathBuf>> {
    let builds = corpus.join("builds");
    if !builds.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&builds).map_err(Problem::file("list", &builds))? {
        let path = entry.map_err(Problem::file("list", &builds))?.path();
        if path.join("case.json").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_that_is_not_known_is_an_error() {
        let case = |expect: &str| {
            serde_json::from_str::<Case>(&format!(
                r#"{{"id": "a", "features": ["COPY"], "base": "scratch", "note": "free", "expect": {{"success": true{expect}}}}}"#
            ))
        };
        assert_eq!(case("").unwrap().feature(), "COPY");
        assert!(case(r#", "files": [{"path": "/a", "content_contains": ["b"]}]"#).is_ok());
        for unknown in [r#", "layer": 1"#, r#", "files": [{"path": "/a", "colour": "red"}]"#] {
            assert!(case(unknown).is_err(), "{unknown}");
        }
    }
}
