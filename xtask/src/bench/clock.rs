//! Runs one command and says what it took: wall and CPU seconds, peak of memory.
//!
//! In: a command and whose processes to watch. Out: a reading, or how the command failed. The command is started by a
//! small process of its own (`cargo xtask bench clock`, this program again): what `wait4` says of a child's memory is
//! never less than its parent's at that moment. That process measures; this one watches the tree meanwhile.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wait4::Wait4 as _;

use super::{interrupt, machine};
use crate::Outcome;
use crate::problem::Problem;

/// How often memory is looked at. Looking costs about a millisecond.
const LOOKING: Duration = Duration::from_millis(150);
/// How much a failed command's last words may be.
const LAST_LINES: usize = 12;

/// What the small process writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Report {
    wall: f64,
    cpu: f64,
    peak: u64,
    status: String,
    success: bool,
}

/// What a command took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// Seconds from its start to its end.
    pub(super) wall: f64,
    /// CPU seconds of its processes and of the daemon's.
    pub(super) cpu: f64,
    /// Peak of memory in bytes: of the client's processes, and of the daemon's.
    pub(super) client: u64,
    pub(super) daemon: u64,
    /// Which part of the machine others used meanwhile; set afterwards.
    pub(super) others: f64,
}

/// Whose processes count.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    /// The builder's own programs: what its steps run doesn't count as its memory.
    pub(super) programs: Vec<&'static str>,
    pub(super) daemons: Vec<u32>,
}

/// The small process's program and a directory for its reports.
#[derive(Debug)]
pub(super) struct Clock {
    program: PathBuf,
    folder: PathBuf,
}

impl Clock {
    /// A copy of this program: the original may be built anew while the bench runs.
    pub(super) fn new(folder: &Path) -> Outcome<Self> {
        let program = folder.join("clock");
        let own = std::env::current_exe().map_err(Problem::file("find", "xtask"))?;
        fs::copy(own, &program).map_err(Problem::file("write", &program))?;
        Ok(Self { program, folder: folder.to_owned() })
    }

    /// Runs it; a command that fails is a reason, not a problem of the bench.
    pub(super) fn time(&self, command: &Command, watched: &Watched) -> Outcome<Result<Reading, String>> {
        let (report, log) = (self.folder.join("report.json"), self.folder.join("log.txt"));
        let mut small = Command::new(&self.program);
        small.args(["bench", "clock"]).arg(&report).arg(&log).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => small.env(name, value),
                None => small.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            small.current_dir(folder);
        }
        let daemons = machine::tree(&watched.daemons);
        machine::forget_peaks(&daemons);
        let before = machine::cpu(&daemons);
        let child = small.stdin(Stdio::null()).process_group(0).spawn();
        let child = child.map_err(|source| Problem::Start { program: "the clock".into(), source })?;
        let (client, daemon) = watch(child, watched)?;
        let daemons_after = machine::tree(&watched.daemons);
        let cpu = (machine::cpu(&daemons_after) - before).max(0.0);
        let daemon = daemon.max(machine::peak(&daemons_after, &watched.programs));
        interrupt::check()?;
        let text = fs::read_to_string(&report).map_err(Problem::file("read", &report))?;
        let said: Report =
            serde_json::from_str(&text).map_err(|error| Problem::Answer(format!("the clock: {error}")))?;
        if !said.success {
            return Ok(Err(format!("{}: {}", said.status, last_lines(&log))));
        }
        // A run too short to be looked at has no step whose memory would have to be left out.
        let client = if client == 0 { said.peak } else { client };
        Ok(Ok(Reading { wall: said.wall, cpu: said.cpu + cpu, client, daemon, others: 0.0 }))
    }
}

/// Waits for the end and looks at the memory meanwhile: the client's and the daemon's peaks.
fn watch(mut child: Child, watched: &Watched) -> Outcome<(u64, u64)> {
    let pid = child.id();
    interrupt::now_running(Some(pid));
    let (ended, end) = mpsc::channel::<()>();
    let (status, peaks) = thread::scope(|scope| {
        let looking = scope.spawn(move || {
            let (mut client, mut daemon) = (0, 0);
            while end.recv_timeout(LOOKING) == Err(RecvTimeoutError::Timeout) {
                client = client.max(machine::peak(&machine::tree(&[pid]), &watched.programs));
                daemon = daemon.max(machine::peak(&machine::tree(&watched.daemons), &watched.programs));
            }
            (client, daemon)
        });
        let status = child.wait();
        drop(ended);
        (status, looking.join().unwrap_or_default())
    });
    interrupt::now_running(None);
    status.map_err(|source| Problem::Start { program: "the clock".into(), source })?;
    Ok(peaks)
}

fn last_lines(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join(" | ")
}

/// The small process: REPORT LOG PROGRAM ARGUMENT…
pub(super) fn run(words: &[&str]) -> Outcome {
    let [report, log, program, arguments @ ..] = words else {
        return Err(Problem::Answer("the clock takes a report, a log and a command".into()));
    };
    let file = File::create(log).map_err(Problem::file("write", *log))?;
    let other = file.try_clone().map_err(Problem::file("write", *log))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(file).stderr(other);
    let started = Instant::now();
    let child = command.spawn().map_err(|source| Problem::Start { program: (*program).into(), source })?;
    let used = child.wait4().map_err(|source| Problem::Start { program: (*program).into(), source })?;
    let wall = started.elapsed().as_secs_f64();
    let status = match used.status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => used.status.to_string(),
    };
    let said = Report {
        wall,
        cpu: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        peak: used.rusage.maxrss,
        status,
        success: used.status.success(),
    };
    let text = serde_json::to_string(&said).map_err(|error| Problem::Answer(error.to_string()))?;
    fs::write(report, text).map_err(Problem::file("write", *report))
}
