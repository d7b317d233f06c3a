//! `kuz run`: starts an image's command in the sandbox and ends as it ends.
//!
//! The program's own exit code is returned; 125 when kuz could not start it, 126 and 127 as shells have them. With
//! `--smoke` it is started only to see whether it comes up: 0 if so, 1 if not, and no output of it unless it does not.

use std::io::Write as _;

use kuz_build::error::{BuildError, Class};
use kuz_build::event::Stream;
use kuz_build::smoke;
use kuz_build::start::{self, Ended, StartRequest, Volume};
use kuz_build::{Cancel, Events, Session};

use super::build::network;
use crate::args::{ProgressArg, RunArgs};
use crate::progress::Progress;
use crate::{exit_code, machine, render, signals};

/// Runs the command.
pub(crate) fn run(arguments: &RunArgs) -> u8 {
    if arguments.smoke.smoke.is_some() {
        return smoke_run(arguments);
    }
    let progress = Progress::new(arguments.progress, arguments.progress == ProgressArg::Auto);
    let attempt = || -> Result<Ended, BuildError> {
        let request = request(arguments).map_err(BuildError::input)?;
        let machine = machine::read().map_err(BuildError::input)?;
        let cancel = signals::listen(false);
        let events: &Events<'_> = &|event| progress.on(&event);
        let session = Session::open(&machine, &cancel, events)?;
        start::start(&session, &request, &mut |stream, bytes| pass_on(stream, bytes, &cancel))
    };
    match attempt() {
        Ok(Ended::Code(code)) => code,
        Ok(Ended::Signal(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Err(failure) => {
            progress.say(&render::error(&failure, progress.colour()));
            match (&failure, failure.class()) {
                (BuildError::NotStarted { code, .. }, _) => *code,
                (_, Class::Cancelled) => signals::exit_code(),
                _ => exit_code::RUN_FAILED,
            }
        }
    }
}

fn smoke_run(arguments: &RunArgs) -> u8 {
    let progress = Progress::new(arguments.progress, false);
    let attempt = || {
        let request = request(arguments).map_err(BuildError::input)?;
        let machine = machine::read().map_err(BuildError::input)?;
        let cancel = signals::listen(false);
        let events: &Events<'_> = &|event| progress.on(&event);
        let session = Session::open(&machine, &cancel, events)?;
        let asked = super::build::smoke(&arguments.smoke, arguments.network).unwrap_or_default();
        smoke::run(&session, &request, &asked)
    };
    let outcome = attempt();
    progress.close();
    match outcome {
        Ok(_) => exit_code::SUCCESS,
        Err(failure) => {
            progress.say(&render::error(&failure, progress.colour()));
            match (&failure, failure.class()) {
                (BuildError::Smoke(_), _) => exit_code::UNSOUND,
                (_, Class::Cancelled) => signals::exit_code(),
                _ => exit_code::RUN_FAILED,
            }
        }
    }
}

/// What the program writes, as it comes. Where nobody listens any more it gets the signal that a pipe would give it.
fn pass_on(stream: Stream, bytes: &[u8], cancel: &Cancel) {
    let written = match stream {
        Stream::Out => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Stream::Err => std::io::stderr().write_all(bytes),
    };
    if written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        cancel.signal(signal_hook::consts::SIGPIPE);
    }
}

fn request(arguments: &RunArgs) -> Result<StartRequest, String> {
    let env = arguments.env.iter().filter_map(|word| match word.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(word).ok().map(|value| (word.clone(), value)),
    });
    Ok(StartRequest {
        image: arguments.image.clone(),
        args: arguments.args.clone(),
        entrypoint: arguments.entrypoint.clone(),
        env: env.collect(),
        volumes: arguments.volumes.iter().map(|word| volume(word)).collect::<Result<_, _>>()?,
        workdir: arguments.workdir.clone(),
        user: arguments.user.clone(),
        terminal: arguments.tty,
        network: network(arguments.network),
    })
}

/// `HOST:PATH[:ro|rw]`; both are absolute, `.` and relative host paths start at the working directory.
fn volume(word: &str) -> Result<Volume, String> {
    let bad = |why: &str| format!("`-v {word}`: {why} (want HOST:PATH or HOST:PATH:ro)");
    let parts: Vec<&str> = word.split(':').collect();
    let (source, target, readonly) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => return Err(bad("it does not have two parts")),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(bad("the path in the image must be absolute"));
    }
    Ok(Volume { source: source.into(), target: target.to_owned(), readonly })
}
