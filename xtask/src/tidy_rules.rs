//! The project's own rules, as checks over its files.
//!
//! In: the workspace's root. Out: a finding for each place that breaks a rule, in a fixed order. Changes nothing.
//! The rules: the edges between crates are those of the design; every Rust file opens with an essay and has at most 800
//! lines; no file is named after nothing; what is left to do has an issue's number; nothing names a developer's machine;
//! ARCHITECTURE.md names only files and tests that exist; no large file is checked in; the standing documents are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::problem::Problem;
use crate::program;

/// No Rust file is longer.
const LINES: usize = 800;
/// No other file is larger: what is generated is not checked in. The lock file is.
const BYTES: u64 = 200 * 1024;
/// Folders whose files are looked at, beside those directly in the root.
const FOLDERS: &[&str] = &["crates", "xtask", "docs", "examples", "fuzz", "types", ".ci", ".cargo"];
/// Which crate may name which; `xtask` and `testkit` are named apart.
const EDGES: &[(&str, &[&str])] = &[
    ("kuz-dockerfile", &[]),
    ("kuz-image", &[]),
    ("kuz-plan", &["kuz-dockerfile", "kuz-image"]),
    ("kuz-rootfs", &["kuz-image"]),
    ("kuz-sandbox", &["kuz-image", "kuz-rootfs"]),
    ("kuz-store", &["kuz-image", "kuz-rootfs"]),
    ("kuz-registry", &["kuz-image"]),
    ("kuz-verify", &["kuz-image", "kuz-rootfs"]),
    (
        "kuz-build",
        &[
            "kuz-dockerfile",
            "kuz-image",
            "kuz-plan",
            "kuz-registry",
            "kuz-rootfs",
            "kuz-sandbox",
            "kuz-store",
            "kuz-verify",
        ],
    ),
    ("kuz", &["kuz-build"]),
    ("kuz-testkit", &["kuz-image"]),
    ("xtask", &["kuz-image", "kuz-testkit"]),
];
/// For tests only, any crate may name these, and itself: the test kit, and the crate of plain values.
const TESTS_ONLY: &[&str] = &["kuz-testkit", "kuz-image"];
/// File names that say nothing about what is in them.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager", "handler", "data"];
/// Files that are named so for what they are about: `docker-credential-helpers` is that program's own word.
const NAMED_RIGHT: &[&str] = &["crates/registry/src/credentials/helper.rs"];
/// Documents that readers count on.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "docs/glossary.md",
    "docs/exit-codes.md",
];

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.rule),
            line => write!(f, "{}:{line}: {}", self.path, self.rule),
        }
    }
}

fn finding(path: &str, line: usize, rule: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, rule: rule.into() }
}

/// All findings.
pub(crate) fn findings(root: &Path) -> Outcome<Vec<Finding>> {
    let mut found = edges(&program::metadata(&["--no-deps"])?);
    for path in files(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let length = fs::metadata(&path).map_err(Problem::file("look at", &path))?.len();
        if length > BYTES && name != "Cargo.lock" {
            found.push(finding(&name, 0, format!("{length} bytes: over the limit of {BYTES}")));
        }
        let bytes = fs::read(&path).map_err(Problem::file("read", &path))?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            found.extend(text_rules(&name, text));
        }
    }
    for document in DOCUMENTS {
        if !root.join(document).is_file() {
            found.push(finding(document, 0, "is missing"));
        }
    }
    if let Ok(text) = fs::read_to_string(root.join("ARCHITECTURE.md")) {
        found.extend(named_paths("ARCHITECTURE.md", &text, root));
    }
    found.sort();
    Ok(found)
}

/// Files of the project: those in the root and below the folders named above.
fn files(root: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), false)];
    folders.extend(FOLDERS.iter().map(|folder| (root.join(folder), true)).filter(|(folder, _)| folder.is_dir()));
    while let Some((folder, deep)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Problem::file("list", &folder))? {
            let entry = entry.map_err(Problem::file("list", &folder))?;
            let kind = entry.file_type().map_err(Problem::file("look at", entry.path()))?;
            if kind.is_dir() && deep && entry.file_name() != "target" && entry.file_name() != "__pycache__" {
                folders.push((entry.path(), true));
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Which workspace crates name which, against [`EDGES`].
fn edges(metadata: &serde_json::Value) -> Vec<Finding> {
    let list = |value: &serde_json::Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let packages = list(metadata, "packages");
    let ours: BTreeSet<String> = packages.iter().map(|package| text(package, "name")).collect();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut found = Vec::new();
    for package in &packages {
        let name = text(package, "name");
        let Some(may_name) = allowed.get(name.as_str()) else {
            found.push(finding(&name, 0, "a crate that the design does not name (see tidy_rules.rs, EDGES)"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let other = text(&dependency, "name");
            let for_tests =
                text(&dependency, "kind") == "dev" && (TESTS_ONLY.contains(&other.as_str()) || other == name);
            if ours.contains(&other) && !for_tests && !may_name.contains(&other.as_str()) {
                found.push(finding(&name, 0, format!("must not depend on {other}")));
            }
        }
    }
    found
}

/// The rules that need no more than one file's text.
fn text_rules(name: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
        if !text.starts_with("//!") {
            found.push(finding(name, 1, "opens without saying what the file does (`//!`)"));
        }
        let lines = text.lines().count();
        if lines > LINES {
            found.push(finding(name, 0, format!("{lines} lines: over the limit of {LINES}")));
        }
        let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) && !NAMED_RIGHT.contains(&name) {
            found.push(finding(name, 0, format!("`{stem}` says nothing about what is in it")));
        }
    }
    for (line, content) in text.lines().enumerate().map(|(index, content)| (index + 1, content)) {
        if unnumbered(content) {
            found.push(finding(name, line, "left to do without an issue's number: write it as `(#12)`"));
        }
        if let Some(place) = machine_places().iter().find(|place| content.contains(place.as_str())) {
            found.push(finding(name, line, format!("names a developer's machine: `{place}`")));
        }
    }
    found
}

/// Marks of unfinished work; put together here so that this file does not break its own rule.
fn unnumbered(line: &str) -> bool {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    marks.iter().any(|mark| line.find(mark).is_some_and(|at| !line[at + mark.len()..].starts_with("(#")))
}

/// Folders in which only developers' checkouts and homes lie; put together here for the same reason.
fn machine_places() -> [String; 5] {
    let place = |top: &str, folder: &str| format!("/{top}/{folder}/");
    [
        place("work", "main"),
        place("work", "shared"),
        place("work", "target"),
        place("root", ".cargo"),
        place("root", ".pyenv"),
    ]
}

/// Paths in backquotes must exist, and so must the test in `path::test_name`.
fn named_paths(document: &str, text: &str, root: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    for (line, content) in text.lines().enumerate().map(|(index, content)| (index + 1, content)) {
        for name in content.split('`').skip(1).step_by(2) {
            let (path, function) =
                name.split_once("::").map_or((name, None), |(path, function)| (path, Some(function)));
            let top = path.split('/').next().unwrap_or_default();
            if !path.contains('/') || !FOLDERS.contains(&top) || path.contains(['*', '<', ' ']) {
                continue;
            }
            let file = root.join(path);
            if !file.exists() {
                found.push(finding(document, line, format!("names `{path}`, which does not exist")));
            } else if let Some(test) = function {
                let source = fs::read_to_string(&file).unwrap_or_default();
                if !source.contains(&format!("fn {test}(")) && !source.contains(&format!("Scenario: {test}")) {
                    found.push(finding(document, line, format!("names the test `{test}`, which is not in `{path}`")));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(name: &str, text: &str) -> Vec<String> {
        text_rules(name, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_project_keeps_its_rules() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = findings(root).unwrap();
        assert!(found.is_empty(), "{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn each_text_rule_finds_what_it_is_for() {
        let essay = "//! Does things.\n";
        let to_do = concat!("// TO", "DO");
        let place = ["", "work", "main", "x"].join("/");
        for (name, text, expected) in [
            ("a.rs", essay.to_owned(), None),
            ("a.rs", "fn main() {}\n".to_owned(), Some("opens without")),
            ("a.rs", format!("{essay}{}", "\n".repeat(800)), Some("over the limit")),
            ("src/util.rs", essay.to_owned(), Some("says nothing")),
            ("a.rs", format!("{essay}{to_do}: later\n"), Some("issue's number")),
            ("a.rs", format!("{essay}{to_do}(#12): later\n"), None),
            ("a.md", format!("see {place}\n"), Some("developer's machine")),
        ] {
            let found = rules(name, &text);
            match expected {
                None => assert!(found.is_empty(), "{name}: {found:?}"),
                Some(part) => assert!(found.len() == 1 && found[0].contains(part), "{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_edge_that_is_not_in_the_design_is_found() {
        let package = |name: &str, on: &str, kind: Option<&str>| serde_json::json!({ "name": name, "dependencies": [{ "name": on, "kind": kind }] });
        let metadata = serde_json::json!({ "packages": [
            package("kuz-plan", "kuz-image", None),
            package("kuz-image", "serde", None),
            package("kuz-store", "kuz-registry", None),
            package("kuz-registry", "kuz-testkit", Some("dev")),
            package("kuz-testkit", "kuz-build", None),
            package("kuz-build", "kuz-testkit", None),
            package("kuz-extra", "kuz-image", None),
        ]});
        let found: Vec<String> = edges(&metadata).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("kuz-store: must not depend on kuz-registry"), "{found:?}");
    }

    #[test]
    fn paths_and_tests_in_a_document_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("crates/a")).unwrap();
        fs::write(folder.path().join("crates/a/x.rs"), "//! x\nfn it_holds() {}\n").unwrap();
        let text = "`crates/a`, `crates/a/x.rs::it_holds`, `crates/b` and `crates/a/x.rs::it_does_not`; `etc/x`";
        let found = named_paths("A.md", text, folder.path());
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
