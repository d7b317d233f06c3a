//! `kuz verify`: an image of the store to what is wrong with it, or to a patch for its Dockerfile.
//!
//! Findings go to standard output; the exit code says whether the image will do.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::path::Path;

use kuz_build::error::BuildError;
use kuz_build::request::Allowed;
use kuz_build::verdict::{self, Verdict};
use kuz_build::{Level, fix};

use super::{print, print_json, with_session};
use crate::args::{VerifyArgs, VerifyFormat};
use crate::render::{Colour, clean_line};
use crate::{exit_code, verdict as shown};

/// A Dockerfile larger than this is a mistake.
const DOCKERFILE_BYTES: u64 = 16 << 20;

/// Runs the command.
pub(crate) fn run(arguments: &VerifyArgs) -> u8 {
    let unsound = Cell::new(false);
    let code = with_session(false, |session, progress| {
        let allowed = Allowed::new(&arguments.allowed_secrets).map_err(BuildError::input)?;
        let found = verdict::verify(session, &arguments.image, &allowed)?;
        unsound.set(found.count(Level::Error) > 0);
        if arguments.fix {
            let source = read(&arguments.file)?;
            if let Some(patch) = fix::patch(&arguments.file, &source, &found) {
                return print(&patch);
            }
            progress.say("note: there is no line to add");
            return Ok(());
        }
        write(arguments, &found)
    });
    if code == exit_code::SUCCESS && unsound.get() { exit_code::UNSOUND } else { code }
}

fn write(arguments: &VerifyArgs, found: &Verdict) -> Result<(), BuildError> {
    match arguments.format {
        VerifyFormat::Json => print_json(&shown::as_json(&arguments.image, found)),
        VerifyFormat::Sarif => print_json(&shown::as_sarif(&arguments.image, found)),
        VerifyFormat::Text => {
            let terminal = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let colour = if terminal { Colour::On } else { Colour::Off };
            let findings = if found.findings.is_empty() { String::new() } else { shown::text(found, colour) };
            print(&format!("{findings}{}: {}\n", clean_line(&arguments.image), shown::counts(found)))
        }
    }
}

fn read(file: &str) -> Result<String, BuildError> {
    let failed = |error| BuildError::Input {
        message: format!("read `{}` (name the Dockerfile with -f)", Path::new(file).display()),
        source: Some(Box::new(error)),
    };
    let open = std::fs::File::open(file).map_err(failed)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(open, DOCKERFILE_BYTES), &mut text).map_err(failed)?;
    Ok(text)
}
