//! The user's `git`, with what a stranger's repository could misuse switched off.
//!
//! Arguments in, standard output out, within a deadline. No configuration of the system, the user or a template is
//! read, no hook runs, nobody is asked for a password, only the address's own protocol is spoken. Credentials go by the
//! environment, never by an argument or into a message.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kuz_registry::Secret;
use rustix::process::{Pid, Signal};

use crate::error::BuildError;
use crate::git::GitSource;
use crate::session::Session;

/// A whole run: large repositories on slow lines take their time; git itself gives up on a line that stands still.
const DEADLINE: Duration = Duration::from_hours(1);
/// How often a running git is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Standard output is a list of a few names.
const OUTPUT_BYTES: u64 = 4 << 20;
/// Of standard error only the end is shown.
const MESSAGE_BYTES: usize = 2000;

/// Settings of every run.
const SETTINGS: [&str; 16] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.autocrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.askPass=",
    "credential.helper=",
    "init.defaultBranch=main",
    "advice.detachedHead=false",
    "gc.auto=0",
    "fetch.fsckObjects=true",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "protocol.allow=never",
];

/// How git is run for one repository.
pub(super) struct Git<'a> {
    session: &'a Session<'a>,
    source: &'a GitSource,
    directory: &'a Path,
    authorization: Option<Authorization>,
}

/// A header, and the addresses that are shown it.
struct Authorization {
    scope: String,
    value: Secret,
}

impl<'a> Git<'a> {
    pub(super) fn new(
        session: &'a Session<'a>,
        source: &'a GitSource,
        directory: &'a Path,
    ) -> Result<Self, BuildError> {
        let passed_on = match source.web_host() {
            Some(host) => session.passed().for_git(host)?,
            None => None,
        };
        let scope = source.scope(passed_on.is_some());
        let value = passed_on.or_else(|| source.authorization().map(Secret::new));
        let authorization = value.map(|value| Authorization { scope, value });
        Ok(Self { session, source, directory, authorization })
    }

    /// Runs it in the directory; what it wrote.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String, BuildError> {
        let action = || format!("fetch git repository `{}`", self.source.shown());
        let mut child = self.command(arguments).spawn().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let message = format!("`{}` needs git, and there is none in PATH: install it", self.source.shown());
                return BuildError::Environment { message, source: None };
            }
            BuildError::Environment { message: "git could not be started".into(), source: Some(Box::new(error)) }
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (status, stdout, stderr) = std::thread::scope(|scope| {
            let stdout = scope.spawn(|| beginning(stdout));
            let stderr = scope.spawn(|| end(stderr));
            let status = self.wait(&mut child);
            (status, stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default())
        });
        match status? {
            Some(status) if status.success() => Ok(String::from_utf8_lossy(&stdout).into_owned()),
            Some(_) => Err(BuildError::Fetch { action: action(), source: self.message(&stderr).into() }),
            None => {
                let minutes = DEADLINE.as_secs() / 60;
                Err(BuildError::Fetch {
                    action: action(),
                    source: format!("git was not done in {minutes} minutes").into(),
                })
            }
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear().envs(&self.session.machine.git_env).envs(&self.session.machine.proxies);
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS", "true")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=30")
            .env("GIT_CEILING_DIRECTORIES", self.directory.parent().unwrap_or(self.directory))
            .env("LC_ALL", "C");
        if let Some(agent) = self.session.passed().agent("default") {
            command.env("SSH_AUTH_SOCK", agent);
        }
        if let Some(Authorization { scope, value }) = &self.authorization {
            // For these addresses alone, and not after a redirect.
            let settings = [
                (format!("http.{scope}.extraHeader"), format!("Authorization: {}", value.expose())),
                ("http.followRedirects".into(), "false".into()),
            ];
            command.env("GIT_CONFIG_COUNT", settings.len().to_string());
            for (number, (key, value)) in settings.iter().enumerate() {
                command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
            }
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        for protocol in self.source.protocols() {
            command.args(["-c", &format!("protocol.{protocol}.allow=always")]);
        }
        command.args(arguments);
        // A group of its own: what it starts is stopped with it.
        command.current_dir(self.directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        command
    }

    /// Its status; `None` after the deadline.
    fn wait(&self, child: &mut Child) -> Result<Option<ExitStatus>, BuildError> {
        let started = Instant::now();
        loop {
            let ended = child.try_wait().map_err(|error| BuildError::Environment {
                message: "git could not be waited for".into(),
                source: Some(Box::new(error)),
            })?;
            if ended.is_some() {
                return Ok(ended);
            }
            let cancelled = self.session.cancelled();
            if cancelled.is_err() || started.elapsed() > DEADLINE {
                stop(child);
                return cancelled.map(|()| None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// What git said, without credentials.
    fn message(&self, stderr: &[u8]) -> String {
        let mut text = self.source.scrub(&String::from_utf8_lossy(stderr));
        if let Some(Authorization { value, .. }) = &self.authorization {
            text = text.replace(value.expose(), "***");
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let text = lines.collect::<Vec<_>>().join("; ");
        if text.is_empty() { "git failed and did not say why".into() } else { text.escape_debug().to_string() }
    }
}

/// Stops a process group and takes its end.
fn stop(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// The first bytes; the rest is read and dropped, so that nobody waits for a reader.
fn beginning(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.by_ref().take(OUTPUT_BYTES).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    }
    bytes
}

/// The last bytes.
fn end(pipe: Option<impl Read>) -> Vec<u8> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    let Some(mut pipe) = pipe else { return bytes };
    while let Ok(read @ 1..) = pipe.read(&mut chunk) {
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let surplus = bytes.len().saturating_sub(MESSAGE_BYTES);
        bytes.drain(..surplus);
    }
    bytes
}
