//! One file a command (or a few that belong together): arguments in, exit code out.
//!
//! All work is `kuz_build`'s; here are words for people, JSON for programs, and exit codes.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod images;
pub(crate) mod init;
mod passed;
pub(crate) mod plan;
pub(crate) mod remote;
pub(crate) mod run;
pub(crate) mod size;
pub(crate) mod store;
pub(crate) mod verify;

use std::io::Write as _;

use kuz_build::error::{BuildError, Class};
use kuz_build::{Events, Session};

use crate::args::ProgressArg;
use crate::progress::Progress;
use crate::{exit_code, machine, render, signals};

/// Opens the store and runs `work` with it; errors are shown and become exit codes.
fn with_session(quiet: bool, work: impl FnOnce(&Session<'_>, &Progress) -> Result<(), BuildError>) -> u8 {
    let progress = Progress::new(ProgressArg::Auto, quiet);
    let machine = match machine::read() {
        Ok(machine) => machine,
        Err(message) => {
            progress.say(&format!("error: {message}"));
            return exit_code::USAGE;
        }
    };
    let cancel = signals::listen(false);
    let events: &Events<'_> = &|event| progress.on(&event);
    let outcome = Session::open(&machine, &cancel, events).and_then(|session| work(&session, &progress));
    progress.close();
    match outcome {
        Ok(()) => exit_code::SUCCESS,
        Err(failure) => shown(&failure, &progress),
    }
}

/// Shows an error and gives its exit code.
fn shown(failure: &BuildError, progress: &Progress) -> u8 {
    progress.say(&render::error(failure, progress.colour()));
    match failure.class() {
        Class::Cancelled => signals::exit_code(),
        class => exit_code::of(class),
    }
}

/// Writes a result to standard output.
fn print(text: &str) -> Result<(), BuildError> {
    let mut stdout = std::io::stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| BuildError::store("write to standard output", error))
}

/// A value as JSON on standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), BuildError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| BuildError::store("encode the result", error))?;
    print(&(text + "\n"))
}
