//! The project's development tasks: one entry point for people and for CI.
//!
//! In: a task's name. Out: what the task prints, and an exit code: 0 done, 1 failed, 2 wrong arguments, 77 something that
//! the task needs is missing here. It is never part of the product, and no product crate depends on it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program of the project's own")]

mod bases;
mod bench;
mod check;
mod conformance;
mod count;
mod demo;
mod http;
mod packages;
mod problem;
mod program;
mod python;
mod test;
mod tidy_rules;
mod verdicts;

use std::process::ExitCode;

use crate::problem::Problem;

const USAGE: &str = "\
cargo xtask TASK

  demo [--bases=auto|hub|stand-in]  build the example, start it, ask it over HTTP; say what was seen
  test [--no-check]                 check, then every test; closes with `N passed, N failed, N skipped`
  check                             fmt, clippy, tidy, and cargo deny (bans, licences, sources)
  tidy                              the project's own rules alone
  release                           build the static program and say where it is
  conformance [DIR] [--only=TEXT]   cases of other builders and our own; DIR, else $KUZ_CONFORMANCE, else conformance/
  bench [--only=NAME,…] [--runs=N] [--peers=NAME,…|none] [--quick] [--full] [--out=DIR] [--write]
                                    measure kuz, other builders and the machine's floors; NAME: recipe, run, files, blob,
                                    growth; --write: into docs/benchmarks.md
  bench --gate | --renew-gate       count the instructions of two small builds and compare; or keep them as they are now
  bench --profile                  draw where the time of a cold build goes: docs/benchmarks/cold-build.svg
  verdicts [--only=TEXT] [--kuz=PATH] [--bases=stand-in|hub] [--fresh]
                                    broken and sound images of verdicts/: is `kuz verify` right? writes docs/verdicts.md
  bases [--serve] [--force]         make the stand-in base images; with --serve, serve them until interrupted

exit codes: 0 done, 1 failed, 2 wrong arguments, 77 something needed is missing on this machine";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["demo"] => demo::run(demo::Source::Auto),
        ["demo", option] => match option.strip_prefix("--bases=").and_then(demo::Source::named) {
            Some(source) => demo::run(source),
            None => return usage(option),
        },
        ["test"] => test::run(true),
        ["test", "--no-check"] => test::run(false),
        ["check"] => check::run(),
        ["tidy"] => check::tidy(),
        ["release"] => program::Workspace::find()
            .and_then(|workspace| bases::build_static(&workspace))
            .map(|path| println!("{}", path.display())),
        ["conformance", options @ ..] => match conformance::Options::parse(options) {
            Ok(options) => conformance::run(&options),
            Err(option) => return usage(&option),
        },
        ["bench", options @ ..] => match bench::Request::parse(options) {
            Ok(request) => bench::run(&request),
            Err(option) => return usage(&option),
        },
        ["verdicts", options @ ..] => match verdicts::Options::parse(options) {
            Ok(options) => verdicts::run(&options),
            Err(option) => return usage(&option),
        },
        ["bases", options @ ..] => match bases::Options::parse(options) {
            Ok(options) => bases::run(options),
            Err(option) => return usage(&option),
        },
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        other => return usage(&other.join(" ")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            problem.print();
            problem.exit_code()
        }
    }
}

fn usage(wrong: &str) -> ExitCode {
    eprintln!("xtask: no such task or option: `{wrong}`\n\n{USAGE}");
    ExitCode::from(2)
}

/// Says on standard error what is being done.
pub(crate) fn say(line: &str) {
    eprintln!("== {line}");
}

/// What a task gives back.
type Outcome<T = ()> = Result<T, Problem>;
