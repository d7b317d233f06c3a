//! `kuz init`: writes the two-stage recipe for a Python project, or shows it.
//!
//! Looking and deciding is `kuz_build::init`'s. Existing files are never written to, and nothing is written if one exists.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use kuz_build::error::BuildError;
use kuz_build::init::{self, Made, Wishes};

use super::{print, shown};
use crate::args::{InitArgs, ProgressArg};
use crate::exit_code;
use crate::progress::Progress;
use crate::render;

/// Runs the command.
pub(crate) fn run(arguments: &InitArgs) -> u8 {
    let progress = Progress::new(ProgressArg::Auto, false);
    let outcome = made(arguments).and_then(|made| {
        if arguments.print {
            print(&text(&made))?;
        } else {
            write(Path::new(&arguments.directory), &made)?;
        }
        Ok(made)
    });
    let made = match outcome {
        Ok(made) => made,
        Err(failure) => return shown(&failure, &progress),
    };
    for note in &made.notes {
        progress.say(&format!("note: {}", render::clean(note)));
    }
    if !arguments.print {
        let names: Vec<&str> = made.files.iter().map(|(name, _)| *name).collect();
        progress.say(&format!("wrote {}; next: kuz build -t app {}", names.join(" and "), arguments.directory));
    }
    exit_code::SUCCESS
}

fn made(arguments: &InitArgs) -> Result<Made, BuildError> {
    let directory = &arguments.directory;
    let project = init::read(Path::new(directory)).map_err(|error| failed(format!("read `{directory}`"), error))?;
    let wishes = Wishes { app: arguments.app.clone(), port: arguments.port, python: arguments.python.clone() };
    if !arguments.print {
        init::existing(&project).map_err(|error| wrong(&error))?;
    }
    init::init(&project, &wishes).map_err(|error| wrong(&error))
}

fn wrong(error: &init::InitError) -> BuildError {
    BuildError::Input { message: error.to_string(), source: None }
}

fn failed(message: String, error: io::Error) -> BuildError {
    BuildError::Input { message, source: Some(Box::new(error)) }
}

/// All files, each under its name; a single `Dockerfile` could be piped on, two cannot.
fn text(made: &Made) -> String {
    let parts: Vec<String> = made.files.iter().map(|(name, text)| format!("# {name}\n{text}")).collect();
    parts.join("\n")
}

/// Each file is created, not opened: what appeared in between stays as well.
fn write(directory: &Path, made: &Made) -> Result<(), BuildError> {
    for (name, text) in &made.files {
        let path = directory.join(name);
        let written = File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failed(format!("write `{}`", path.display()), error))?;
    }
    Ok(())
}
