//! The smoke run: a finished image's own command, started in the sandbox, until it is ready; then stopped.
//!
//! ```text
//! configuration ─► sign (what to wait for) ─┐
//! layers ─► step ─► worker: the command runs ├─► report: how it became ready, how it stopped
//!                    └─ watch: asks, stops ──┘        or a failure, with the last lines that it wrote
//! ```
//! The service has a network of its own, unless asked otherwise, and its sockets are asked for from there. What it writes
//! to files is discarded. The image and the store stay as they were.

mod http;
mod report;
mod rounds;
mod sign;
mod signal;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kuz_image::Config;
use kuz_plan::plan::Network;
use kuz_sandbox::{Exit, RunStep, SandboxError, StartError, Stdio};

use crate::assemble::Image;
use crate::error::BuildError;
use crate::event::{Event, Stream};
use crate::execute::Execution;
use crate::run_step::{Tail, cause_chain};
use crate::schedule::Stages;
use crate::session::Session;
use crate::start::{self, StartRequest};

pub use report::{Report, SmokeFailure};
pub use sign::Health;

use report::{Ready, Stop, ended, seconds};
use rounds::Timing;
use sign::Sign;
use signal::Signal;
use watch::{Course, Watch};

/// How long a port of this machine may take to say that it is taken.
const TAKEN: Duration = Duration::from_millis(200);
/// A command line is cut here.
const LINE_CHARS: usize = 120;

/// A smoke run, as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmokeRequest {
    /// `--smoke=SECONDS`: how long the service may take.
    pub window: Option<Duration>,
    /// `--health`
    pub health: Option<Health>,
    /// What it may reach: [`Network::None`] is a loopback interface of its own.
    pub network: Network,
}

/// Reads the seconds of `--smoke=SECONDS`. The message says what to do.
pub fn window(text: &str) -> Result<Duration, String> {
    let longest = rounds::LONGEST.as_secs();
    match text.parse::<u64>() {
        Ok(seconds) if (1..=longest).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("want whole seconds, from 1 to {longest}")),
    }
}

/// `kuz run --smoke`: an image of the store.
pub fn run(session: &Session<'_>, start: &StartRequest, request: &SmokeRequest) -> Result<Report, BuildError> {
    let found = start::find(session, &start.image)?;
    check(request, &found.config)?;
    let lowers = found.unpack(session)?;
    let start = StartRequest { network: request.network, terminal: false, ..start.clone() };
    let report = smoke(session, &found.config, request, |upper| {
        start::step(&found.config, &start, found.id.0.short(), lowers, upper)
    });
    session.empty_trash();
    report
}

/// Whether the request fits an image, before anything is done for it.
pub(crate) fn check(request: &SmokeRequest, config: &Config) -> Result<(), BuildError> {
    let sign = Sign::choose(request.health.as_ref(), config).map_err(BuildError::input)?;
    if request.network == Network::Host
        && let Some(port) = sign.ports().iter().find(|port| is_taken(**port))
    {
        return Err(BuildError::input(format!(
            "port {port} of this machine is taken already, so that an answer there says nothing of the image (without \
             --network=host a smoke run has ports of its own)"
        )));
    }
    Ok(())
}

fn is_taken(port: u16) -> bool {
    std::net::TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), TAKEN).is_ok()
}

impl Execution<'_> {
    /// `kuz build --smoke`: the image that was just made, whose layers are all here.
    pub(crate) fn smoke(&self, done: &Stages, image: &Image, request: &SmokeRequest) -> Result<Report, BuildError> {
        let config = self.session.config(&image.id)?.config;
        check(request, &config)?;
        let layers = done.last().map(|stage| stage.layers.clone()).unwrap_or_default();
        let lowers = self.layers.all_trees(&layers)?;
        let start = StartRequest { image: image.id.to_string(), network: request.network, ..StartRequest::default() };
        smoke(self.session, &config, request, |upper| start::step(&config, &start, image.id.0.short(), lowers, upper))
    }
}

fn smoke(
    session: &Session<'_>,
    config: &Config,
    request: &SmokeRequest,
    step: impl FnOnce(String) -> Result<RunStep, BuildError>,
) -> Result<Report, BuildError> {
    let sign = Sign::choose(request.health.as_ref(), config).map_err(BuildError::input)?;
    let timing = Timing::new(request.window, config.healthcheck.as_ref(), matches!(sign, Sign::Check(_)));
    let stop_signal = config.stop_signal.as_deref();
    let signal = Signal::of_image(stop_signal).ok_or_else(|| {
        BuildError::input(format!("the image's STOPSIGNAL `{}` is no signal", stop_signal.unwrap_or_default()))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        BuildError::Environment { message: "the smoke run could not be started".into(), source: Some(Box::new(error)) }
    })?;
    let worker = session.worker()?;
    let trees = session.trees()?;
    let upper = trees.begin().map_err(|error| BuildError::store("make room for what the command writes", error))?;
    let step = RunStep { stdio: Stdio::Captured, ..step(upper.name().to_string())? };
    let command = line(&step.argv);
    let shell = shell_line(&step.argv).is_some();
    session.cancelled()?;
    (session.events)(Event::SmokeStarted {
        command: command.clone(),
        text: match sign {
            Sign::Alive => format!("watching for {} whether it stays alive", seconds(timing.window)),
            _ => format!("waiting up to {} for {sign}", seconds(timing.window)),
        },
    });
    let mut tail = Tail::default();
    let mut output = |stream, bytes: &[u8]| {
        tail.take(bytes);
        (session.events)(Event::SmokeOutput { stream: Stream::from(stream), bytes: bytes.to_vec() });
    };
    let (inside, watched) = kuz_sandbox::watched();
    let watch = Watch { inside, runtime: &runtime, cancel: &session.work, sign: &sign, timing, signal: &signal };
    let (exit, course) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch.until_end());
        let exit = worker.run_watched(&step, &mut output, &session.work, watched);
        (exit, watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    drop(upper);
    let judged = session.cancelled().and_then(|()| judge(exit, course, &sign, &signal, &command, shell));
    let outcome = match judged {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(Failed { what, may_lack_network })) => {
            let alone = may_lack_network && request.network == Network::None;
            let hint = alone.then(|| {
                "a smoke run has no network but loopback; if the service needs more to start, add --network=host"
                    .to_owned()
            });
            Err(BuildError::Smoke(Box::new(SmokeFailure { what, hint, tail: tail.lines() })))
        }
        Err(error) => Err(error),
    };
    (session.events)(Event::SmokeEnded(outcome.as_ref().ok().cloned().map(Box::new)));
    outcome
}

/// Why an image fails.
struct Failed {
    what: String,
    /// The service ran, and may have missed something.
    may_lack_network: bool,
}

/// What the command's end and what was seen of it before come to.
fn judge(
    exit: Result<Exit, SandboxError>,
    course: Course,
    sign: &Sign,
    signal: &Signal,
    command: &str,
    shell: bool,
) -> Result<Result<Report, Failed>, BuildError> {
    let exit = match exit {
        Ok(exit) => exit,
        Err(SandboxError::NotStarted(error)) => return not_started(error, command),
        Err(SandboxError::Cancelled) => return Err(BuildError::Cancelled),
        Err(error) => {
            return Err(BuildError::Environment {
                message: format!("`{command}` could not be started"),
                source: Some(Box::new(error)),
            });
        }
    };
    Ok(match course {
        Course::Cancelled => return Err(BuildError::Cancelled),
        Course::Ready { how, after, inside_only, stopped } => {
            let stop = Stop {
                signal: signal.name.clone(),
                took: stopped.took,
                exit,
                killed: stopped.killed,
                unhandled: stopped.unhandled,
                shell,
            };
            Ok(Report { ready: how, after, stop: Some(stop), inside_only })
        }
        Course::Ended { after } if *sign == Sign::Alive && exit.success() => {
            Ok(Report { ready: Ready::Finished, after, stop: None, inside_only: None })
        }
        Course::Ended { after } => {
            let after = seconds(after);
            let before = if *sign == Sign::Alive { "" } else { ", before it was ready" };
            let what = match exit {
                Exit::Code(code) => format!("`{command}` ended with exit code {code} after {after}{before}"),
                Exit::Signal(_) => format!("`{command}` was {} after {after}{before}", ended(exit)),
            };
            // A shell has said already that there is no such program.
            let may_lack_network = !matches!(exit, Exit::Code(126 | 127));
            Err(Failed { what, may_lack_network })
        }
        Course::GivenUp { why, knows } => Err(Failed { what: format!("`{command}`: {why}"), may_lack_network: !knows }),
        Course::NotStarted => Err(Failed { what: format!("`{command}` did not start"), may_lack_network: false }),
    })
}

/// The image's fault, or the machine's.
fn not_started(error: StartError, command: &str) -> Result<Result<Report, Failed>, BuildError> {
    match error {
        StartError::InTheWay { .. } | StartError::CwdOutside { .. } => {
            Err(BuildError::Refused { action: format!("start `{command}`"), source: Box::new(error) })
        }
        StartError::Kernel { .. } | StartError::UnmappedUser { .. } => Err(BuildError::Environment {
            message: format!("`{command}` could not be started"),
            source: Some(Box::new(error)),
        }),
        error => {
            let what = format!("`{command}` could not be started: {}", cause_chain(&error));
            Ok(Err(Failed { what, may_lack_network: false }))
        }
    }
}

/// A command line for people: one line, not too long.
fn line(argv: &[String]) -> String {
    // What a shell is given is what the Dockerfile says.
    let words = clean(&shell_line(argv).map_or_else(|| argv.join(" "), str::to_owned));
    let short: String = words.chars().take(LINE_CHARS).collect();
    if short.len() < words.len() { short + " …" } else { short }
}

/// What a shell is to run, if that is what is started.
fn shell_line(argv: &[String]) -> Option<&str> {
    match argv {
        [shell, flag, line] if flag == "-c" && shell.ends_with("sh") => Some(line),
        _ => None,
    }
}

/// Text from outside on one line.
fn clean(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .escape_debug()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_seconds() {
        for (text, want) in [("1", Some(1)), ("30", Some(30)), ("3600", Some(3600))] {
            assert_eq!(window(text).ok().map(|time| time.as_secs()), want, "{text}");
        }
        for bad in ["0", "", "-1", "1.5", "5s", "3601", "x", "99999999999999999999"] {
            assert!(window(bad).is_err_and(|message| message.contains("from 1 to 3600")), "{bad}");
        }
    }

    #[test]
    fn a_command_line_is_one_line() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (argv, want) in [
            (words(&["/bin/sh", "-c", "uvicorn  main:app\n"]), "uvicorn main:app"),
            (words(&["python", "-c", "print(\"a\")"]), "python -c print(\"a\")"),
            (words(&["a\u{1b}b"]), "a\\u{1b}b"),
        ] {
            assert_eq!(line(&argv), want);
        }
        let long = line(&words(&[&"x".repeat(500)]));
        assert_eq!(long.chars().count(), LINE_CHARS + 2);
    }

    #[test]
    fn an_end_by_itself_is_good_only_where_nothing_else_is_awaited() {
        let (term, after) = (Signal::of_image(None).unwrap(), Duration::from_secs(1));
        let judged = |exit, sign: &Sign| match judge(Ok(exit), Course::Ended { after }, sign, &term, "cmd", false) {
            Ok(Ok(report)) => report.summary(),
            Ok(Err(failed)) => failed.what,
            Err(error) => error.to_string(),
        };
        for (exit, sign, want) in [
            (Exit::Code(0), Sign::Alive, "smoke run: ended with exit code 0 after 1 s"),
            (Exit::Code(3), Sign::Alive, "`cmd` ended with exit code 3 after 1 s"),
            (Exit::Code(0), Sign::Ports(vec![1]), "`cmd` ended with exit code 0 after 1 s, before it was ready"),
            (Exit::Signal(11), Sign::Ports(vec![1]), "`cmd` was ended by SIGSEGV after 1 s, before it was ready"),
        ] {
            assert_eq!(judged(exit, &sign), want);
        }
    }
}
