//! `kuz init`: a Python project's files in, a Dockerfile and an ignore file out.
//!
//! ```text
//! directory ─► listing ─► Project ─► dependencies, app ─► server, native ─► recipe ─► files, notes
//! ```
//! What is found is found in text: nothing of the project is run or imported. Where that leaves a doubt, a note says so.
//! [`listing::read`] reads the directory; everything else is a pure function. Writes nothing.

mod app;
mod dependencies;
pub mod listing;
mod native;
mod recipe;
mod server;

use std::collections::BTreeMap;

pub use listing::read;

/// Files of a project by path (relative, with slashes); text where it is of use here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    /// All files, within the limits of [`listing`].
    pub files: BTreeMap<String, Option<String>>,
}

/// What the user has decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `module:attribute`, or a script such as `main.py`.
    pub app: Option<String>,
    /// The port that the service listens on.
    pub port: Option<u16>,
    /// Python's version, as in `3.12`.
    pub python: Option<String>,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Path and text.
    pub files: Vec<(&'static str, String)>,
    /// What was guessed, and what the user should look at: one sentence each, lower case.
    pub notes: Vec<String>,
}

/// Why there is no recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// A file that would be written is there.
    #[error("`{0}` exists and is not overwritten; --print shows what would be in it")]
    Exists(String),
    /// Nothing says what to install.
    #[error("found no libraries.list, requirements.txt, uv.lock or pyproject.toml with dependencies{}", also(*.0))]
    NoDependencies(Option<&'static str>),
    /// A list of requirements names another that is not there.
    #[error("`{list}` names `{missing}`, which is not in the project")]
    MissingList {
        /// The list.
        list: String,
        /// What it names.
        missing: String,
    },
    /// `pyproject.toml` is no TOML.
    #[error("`{file}` cannot be read: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// Where and why, on one line.
        reason: String,
    },
    /// No application by name or by text.
    #[error("found no application; name it with --app, as in --app main:app or --app main.py")]
    NoApp,
    /// A wish that is none.
    #[error("`{0}` is no application: write module:attribute or the name of a script")]
    BadApp(String),
    /// A version that is none.
    #[error("`{0}` is no version of Python: write it as 3.12")]
    BadPython(String),
}

fn also(found: Option<&'static str>) -> String {
    found.map_or_else(String::new, |how| format!(" ({how})"))
}

impl Project {
    /// The text of a file.
    fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }
}

/// The files that exist already, of those that [`init`] writes.
pub fn existing(project: &Project) -> Result<(), InitError> {
    let there = recipe::FILES.iter().find(|file| project.has(file));
    there.map_or(Ok(()), |file| Err(InitError::Exists((*file).to_owned())))
}

/// The recipe for a project.
pub fn init(project: &Project, wishes: &Wishes) -> Result<Made, InitError> {
    let dependencies = dependencies::find(project)?;
    let mut notes = dependencies.notes.clone();
    let python = match &wishes.python {
        Some(version) => dependencies::version(version).ok_or_else(|| InitError::BadPython(version.clone()))?,
        None => dependencies::python(project, &mut notes),
    };
    let app = app::find(project, &dependencies, wishes.app.as_deref(), &mut notes)?;
    let port = wishes.port.or(app.port).unwrap_or(server::PORT);
    let server = server::choose(&app, &dependencies, port, &mut notes);
    let native = native::needed(&dependencies, &mut notes);
    let recipe =
        recipe::Recipe { python, dependencies: &dependencies, app: &app, server: &server, native: &native, port };
    Ok(Made { files: recipe.files(project), notes })
}

#[cfg(test)]
mod tests;
