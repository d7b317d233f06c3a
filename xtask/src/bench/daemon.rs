//! A server that the bench starts and ends: a builder's daemon, or a registry.
//!
//! In: a command. Out: its process id; it is asked to end, and then made to, when dropped. What an earlier bench that was
//! killed left behind is ended by [`end_leftovers`], if its command line still names that bench's directory.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::interrupt;
use crate::Outcome;
use crate::problem::Problem;

/// How long one may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A running server.
#[derive(Debug)]
pub(super) struct Daemon {
    name: String,
    child: Child,
    note: PathBuf,
}

impl Daemon {
    /// Starts it; its output goes to `NAME.log` in the directory, its id to `NAME.pid`.
    pub(super) fn start(name: &str, command: &mut Command, folder: &Path) -> Outcome<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).map_err(Problem::file("write", &log))?;
        let other = output.try_clone().map_err(Problem::file("write", &log))?;
        // A group of its own: Ctrl-C is for the bench, which ends its daemons in order.
        command.stdin(Stdio::null()).stdout(output).stderr(other).process_group(0);
        let child = command.spawn().map_err(|source| Problem::Start { program: name.into(), source })?;
        let note = folder.join(format!("{name}.pid"));
        let daemon = Self { name: name.into(), child, note };
        fs::write(&daemon.note, daemon.child.id().to_string()).map_err(Problem::file("write", &daemon.note))?;
        Ok(daemon)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers.
    pub(super) fn wait_until(&mut self, answers: impl Fn() -> bool) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while !answers() {
            interrupt::check()?;
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Problem::Answer(format!("{} ended by itself with {status}", self.name)));
            }
            if Instant::now() > deadline {
                return Err(Problem::Answer(format!("{} does not answer after {PATIENCE:?}", self.name)));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        // What has ended already needs no signal: errors mean just that.
        let _gone = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(PAUSE);
        }
        let _gone = kill_process_group(pid, Signal::KILL);
        drop(self.child.wait());
        drop(fs::remove_file(&self.note));
    }
}

/// Ends daemons whose ids an earlier bench noted in this directory and that still belong to it.
pub(super) fn end_leftovers(folder: &Path) {
    let name = folder.to_string_lossy().into_owned();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<i32>().ok());
        let Some((number, pid)) = pid.and_then(|number| Some((number, Pid::from_raw(number)?))) else { continue };
        let words = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&words).contains(&name) {
            continue;
        }
        let _gone = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && Path::new(&format!("/proc/{number}")).exists() {
            thread::sleep(PAUSE);
        }
    }
}
