//! What came of a smoke run, for people: values to sentences.
//!
//! Nothing is measured or printed here.

use std::fmt;
use std::time::Duration;

use kuz_sandbox::Exit;

use super::signal;

/// A service that was ready, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub(super) ready: Ready,
    /// How long after its start.
    pub(super) after: Duration,
    /// How it was stopped; `None` if it ended by itself.
    pub(super) stop: Option<Stop>,
    /// It can be reached at this port from inside only.
    pub(super) inside_only: Option<u16>,
}

/// How it was seen to be ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ready {
    /// A URL, and its status.
    Answered { url: String, status: String },
    /// HEALTHCHECK succeeded.
    Healthy { command: String },
    /// A port accepts connections.
    Accepts { port: u16 },
    /// It was alive at the end of the window.
    Alive,
    /// It has done its work.
    Finished,
}

/// How it was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    /// `SIGTERM`
    pub(super) signal: String,
    pub(super) took: Duration,
    pub(super) exit: Exit,
    /// It had to be killed.
    pub(super) killed: bool,
    /// It has nothing for the signal: as process 1 of a container it would not even hear it.
    pub(super) unhandled: bool,
    /// It is a shell that was given a line.
    pub(super) shell: bool,
}

impl Report {
    /// Sentences: what was seen.
    pub fn lines(&self) -> Vec<String> {
        let after = seconds(self.after);
        let ready = match &self.ready {
            Ready::Answered { url, status } => format!("ready after {after}: {url} answered {status}"),
            Ready::Healthy { command } => format!("ready after {after}: HEALTHCHECK `{command}` succeeded"),
            Ready::Accepts { port } => format!("ready after {after}: port {port} accepts connections"),
            Ready::Alive => {
                format!("still running after {after}; it exposes no TCP port and has no HEALTHCHECK to ask")
            }
            Ready::Finished => format!("ended with exit code 0 after {after}"),
        };
        let stop = self.stop.as_ref().map(|stop| {
            let took = seconds(stop.took);
            if stop.killed {
                format!("killed {took} after {}", stop.signal)
            } else {
                format!("stopped by {} in {took}: {}", stop.signal, ended(stop.exit))
            }
        });
        std::iter::once(ready).chain(stop).collect()
    }

    /// What is wrong all the same.
    pub fn warnings(&self) -> Vec<String> {
        let reach = self.inside_only.map(|port| {
            format!(
                "port {port} is open on 127.0.0.1 only, which nothing outside the container reaches: listen on 0.0.0.0"
            )
        });
        let stop = self.stop.as_ref().and_then(|Stop { signal, took, killed, unhandled, shell, .. }| {
            let text = match (killed, unhandled, shell) {
                (true, ..) => format!(
                    "it did not end within {} of {signal} and was killed, as engines do; where a shell keeps the signal from \
                     the command, write CMD in JSON form or with `exec`, else name another STOPSIGNAL",
                    seconds(*took)
                ),
                (false, true, true) => format!(
                    "the command is started by a shell, which as process 1 of a container does not pass {signal} on: engines \
                     kill it after their grace; write CMD in JSON form, or with `exec`"
                ),
                (false, true, false) => format!(
                    "the command does not handle {signal}, and as process 1 of a container would not even hear it: engines \
                     kill it after their grace; handle {signal}, or run it with --init"
                ),
                (false, false, _) => return None,
            };
            Some(text)
        });
        reach.into_iter().chain(stop).collect()
    }

    /// One line for the result.
    pub fn summary(&self) -> String {
        let warnings = self.warnings().into_iter().map(|warning| format!("; warning: {warning}"));
        format!("smoke run: {}{}", self.lines().join(", "), warnings.collect::<String>())
    }
}

/// An image that does not come up as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmokeFailure {
    /// What was seen.
    pub what: String,
    /// What may help.
    pub hint: Option<String>,
    /// The last lines that it wrote.
    pub tail: Vec<String>,
}

impl fmt::Display for SmokeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smoke run failed: {}", self.what)?;
        match self.tail.iter().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => write!(f, "; the last that it wrote: {}", line.trim().escape_debug()),
            None => Ok(()),
        }
    }
}

/// `exit code 3`, or the signal.
pub(super) fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => format!("ended by {}", signal::name(number)),
    }
}

/// A time for people.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        milliseconds @ 0..1000 => format!("{milliseconds} ms"),
        _ if time.subsec_nanos() == 0 => format!("{} s", time.as_secs()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_sentences() {
        let stop = Stop {
            signal: "SIGTERM".into(),
            took: Duration::from_millis(40),
            exit: Exit::Code(0),
            killed: false,
            unhandled: false,
            shell: false,
        };
        let answered = Ready::Answered { url: "http://localhost:8000/".into(), status: "200 OK".into() };
        let good =
            Report { ready: answered, after: Duration::from_millis(1234), stop: Some(stop.clone()), inside_only: None };
        assert_eq!(
            good.summary(),
            "smoke run: ready after 1.2 s: http://localhost:8000/ answered 200 OK, stopped by SIGTERM in 40 ms: exit code 0"
        );
        assert!(good.warnings().is_empty());
        for (report, part) in [
            (Report { inside_only: Some(80), ..good.clone() }, "port 80 is open on 127.0.0.1 only"),
            (
                Report {
                    stop: Some(Stop { killed: true, took: Duration::from_secs(10), ..stop.clone() }),
                    ..good.clone()
                },
                "did not end within 10 s of SIGTERM",
            ),
            (
                Report { stop: Some(Stop { unhandled: true, exit: Exit::Signal(15), ..stop.clone() }), ..good.clone() },
                "does not handle SIGTERM",
            ),
            (
                Report { stop: Some(Stop { unhandled: true, shell: true, ..stop.clone() }), ..good.clone() },
                "does not pass SIGTERM on",
            ),
        ] {
            let warnings = report.warnings();
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
            assert!(report.summary().contains("; warning: "), "{}", report.summary());
        }
        let finished = Report { ready: Ready::Finished, stop: None, ..good };
        assert_eq!(finished.summary(), "smoke run: ended with exit code 0 after 1.2 s");
    }

    #[test]
    fn a_failure_says_the_last_that_was_written() {
        let failure = |tail: &[&str]| SmokeFailure {
            what: "it ended".into(),
            hint: None,
            tail: tail.iter().map(|&line| line.to_owned()).collect(),
        };
        assert_eq!(failure(&[]).to_string(), "smoke run failed: it ended");
        let text = failure(&["Traceback", "sh: uvicorn: \u{1b}not found", " "]).to_string();
        assert_eq!(text, "smoke run failed: it ended; the last that it wrote: sh: uvicorn: \\u{1b}not found");
    }
}
