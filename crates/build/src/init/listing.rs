//! A project's directory as a value: which files it has, and the text of those that say what it is.
//!
//! A directory in, a [`Project`] out. Links are not followed; virtual environments, caches and what version control keeps
//! are passed over.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::Project;

/// Files that are listed: a project with more is found by its first ones.
const FILES: usize = 20_000;
/// Directories above one another. Applications lie near the top.
const DEPTH: usize = 6;
/// The longest source text that is looked at.
const SOURCE: u64 = 512 << 10;
/// The longest list of dependencies: lock files of large projects have a few megabytes.
const LIST: u64 = 16 << 20;
/// Directories that are not the project's own text.
const PASSED_OVER: &[&str] =
    &["node_modules", "__pycache__", "venv", "env", "build", "dist", "site-packages", "target"];

/// Reads a project's directory.
pub fn read(root: &Path) -> io::Result<Project> {
    let mut project = Project::default();
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, name, depth)) = folders.pop() {
        let mut entries = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        // What was installed is no source.
        if depth > 0 && entries.iter().any(|entry| entry.file_name() == "pyvenv.cfg") {
            continue;
        }
        for entry in entries {
            let Ok(file) = entry.file_name().into_string() else { continue };
            let path = if name.is_empty() { file.clone() } else { format!("{name}/{file}") };
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < DEPTH && !file.starts_with('.') && !PASSED_OVER.contains(&file.as_str()) {
                folders.push((entry.path(), path, depth + 1));
            } else if !kind.is_dir() && project.files.len() < FILES {
                let text = if kind.is_file() { text(&entry.path(), &path)? } else { None };
                project.files.insert(path, text);
            }
        }
    }
    Ok(project)
}

/// The text of a file, where it is of use.
fn text(file: &Path, path: &str) -> io::Result<Option<String>> {
    let end = path.rsplit('.').next().unwrap_or_default();
    let limit = match end {
        "py" => SOURCE,
        "txt" | "list" | "in" | "toml" | "lock" | "python-version" => LIST,
        _ => return Ok(None),
    };
    let mut bytes = Vec::new();
    File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    let whole = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    Ok(if whole { String::from_utf8(bytes).ok() } else { None })
}
