//! A started image: its words and its end, or the answer of its server.
//!
//! In: a prepared `kuz run`. Out: [`Ended`]. A command that does not end in time is killed, and so is a server once it has
//! answered. Nothing is judged here.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::problem::Problem;
use crate::{Outcome, http};

/// A command that runs longer will not end.
const LIMIT: Duration = Duration::from_mins(2);
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(50);

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// `None`: by a signal, or not within the limit.
    pub(super) code: Option<i32>,
    /// Both outputs, as they came.
    pub(super) said: String,
    /// Status and body of the server's answer.
    pub(super) answer: Option<(u16, String)>,
}

/// Runs to the end, or until the server at a port has answered a path.
pub(super) fn run(command: &mut Command, output: &Path, ask: Option<(u16, &str)>) -> Outcome<Ended> {
    let file = File::create(output).map_err(Problem::file("make", output))?;
    let other = file.try_clone().map_err(Problem::file("open", output))?;
    command.stdin(Stdio::null()).stdout(file).stderr(other);
    let child = command.spawn().map_err(|source| Problem::Start { program: "kuz".into(), source })?;
    let mut child = Guard(child);
    let deadline = Instant::now() + LIMIT;
    let mut ended = Ended::default();
    loop {
        if let Some(status) = child.0.try_wait().map_err(|source| Problem::Start { program: "kuz".into(), source })? {
            ended.code = status.code();
            break;
        }
        if let Some(answer) = ask.and_then(|(port, path)| http::get(port, path).ok()) {
            ended.answer = Some(answer);
            break;
        }
        if Instant::now() > deadline {
            break;
        }
        thread::sleep(PAUSE);
    }
    child.end();
    let bytes = fs::read(output).map_err(Problem::file("read", output))?;
    ended.said = String::from_utf8_lossy(&bytes).into_owned();
    Ok(ended)
}

/// Ends with what holds it.
struct Guard(Child);

impl Guard {
    /// Asks it to end as `docker stop` does, then sees that it does.
    fn end(&mut self) {
        for (signal, patience) in [(Signal::TERM, Duration::from_secs(15)), (Signal::KILL, Duration::from_secs(5))] {
            let deadline = Instant::now() + patience;
            if let (Ok(None), Some(pid)) = (self.0.try_wait(), i32::try_from(self.0.id()).ok().and_then(Pid::from_raw))
            {
                // It may have ended this moment.
                let _gone = kill_process(pid, signal);
            }
            while Instant::now() < deadline {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(PAUSE);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_code_of_a_command() {
        let room = tempfile::tempdir().unwrap();
        let output = room.path().join("said");
        let ended = run(Command::new("sh").args(["-c", "echo a; echo b >&2; exit 3"]), &output, None).unwrap();
        assert_eq!((ended.code, ended.said.as_str(), ended.answer), (Some(3), "a\nb\n", None));
    }
}
