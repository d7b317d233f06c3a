//! `kuz`: arguments to a command, a command to an exit code.
//!
//! The only crate that prints, and the only one that reads the environment, the clock and the user's home. `kuz build`
//! writes exactly one JSON object to standard output, whatever happens; see [`result`].

mod args;
mod commands;
mod exit_code;
mod findings;
mod machine;
mod named;
mod progress;
mod refused;
mod render;
mod result;
mod signals;
mod sizes;
mod verdict;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    // The sandbox's processes are this program again, told apart by their first argument.
    if let Some(code) = kuz_build::sandbox_entry() {
        return ExitCode::from(u8::try_from(code).unwrap_or(exit_code::BUG));
    }
    result::install_panic_hook();
    let arguments: Vec<_> = std::env::args_os().collect();
    let building = result::prepare(&arguments);
    let outcome = std::panic::catch_unwind(|| dispatch(arguments));
    let code = outcome.unwrap_or_else(|_| {
        if building {
            result::fail("internal error: a bug in kuz; the details are on standard error");
        }
        exit_code::BUG
    });
    ExitCode::from(code)
}

fn dispatch(arguments: Vec<std::ffi::OsString>) -> u8 {
    let building = result::prepare(&arguments);
    let cli = match Cli::try_parse_from(args::without_booleans(arguments)) {
        Ok(cli) => cli,
        Err(error) => return wrong_arguments(&error, building),
    };
    match cli.command {
        Command::Build(arguments) => commands::build::run(&arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::Explain(arguments) => commands::explain::run(&arguments),
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Size(arguments) => commands::size::run(&arguments),
        Command::Pull(arguments) => commands::remote::pull(&arguments),
        Command::Push(arguments) => commands::remote::push(&arguments),
        Command::Tag { image, name } => commands::images::tag(&image, &name),
        Command::Login(arguments) => commands::remote::login(&arguments),
        Command::Logout { registry } => commands::remote::logout(&registry),
        Command::Image(command) => commands::images::run(&command),
        Command::Store(command) => commands::store::run(&command),
    }
}

/// Help and version are answers; everything else is a usage error, which `build` reports as JSON too.
fn wrong_arguments(error: &clap::Error, building: bool) -> u8 {
    let _ = error.print();
    if !error.use_stderr() {
        return exit_code::SUCCESS;
    }
    if building {
        let text = error.to_string();
        // The first paragraph: what is missing stands on lines of its own.
        let paragraph: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).collect();
        result::fail(paragraph.join(" ").trim_start_matches("error: "));
    }
    exit_code::USAGE
}
