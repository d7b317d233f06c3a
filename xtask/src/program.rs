//! Runs other programs: cargo, apt, tar, kuz.
//!
//! In: a prepared `Command`. Out: nothing, or its output, or a problem that names the command. No shell is involved.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Outcome;
use crate::problem::Problem;

/// A command with these arguments.
pub(crate) fn command<I: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs it with this process's output; a failure is a problem.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.stdin(Stdio::null()).status().map_err(|source| start(command, source))?;
    if status.success() { Ok(()) } else { Err(ended(command, status)) }
}

/// Runs it and takes its standard output as text; a failure is a problem.
pub(crate) fn read(command: &mut Command) -> Outcome<String> {
    let output = output(command)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(ended(command, output.status))
    }
}

/// Runs it and takes its standard output, however it ends.
pub(crate) fn output(command: &mut Command) -> Outcome<Output> {
    let command = command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command.output().map_err(|source| start(command, source))
}

/// The file that a program's name stands for.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Where the workspace lies and where cargo puts what it builds.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Cargo knows both.
    pub(crate) fn find() -> Outcome<Self> {
        let value = metadata(&["--no-deps"])?;
        let field = |name: &str| {
            let path = value.get(name).and_then(serde_json::Value::as_str).map(PathBuf::from);
            path.ok_or_else(|| Problem::Answer(format!("cargo metadata says no `{name}`")))
        };
        Ok(Self { root: field("workspace_root")?, target: field("target_directory")? })
    }
}

/// `cargo metadata`, as JSON.
pub(crate) fn metadata(options: &[&str]) -> Outcome<serde_json::Value> {
    let text = read(cargo().args(["metadata", "--format-version=1"]).args(options))?;
    serde_json::from_str(&text).map_err(|error| Problem::Answer(format!("cargo metadata: {error}")))
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")));
    command
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn start(command: &Command, source: std::io::Error) -> Problem {
    let program = command.get_program().to_string_lossy().into_owned();
    Problem::Start { program, source }
}

fn ended(command: &Command, status: std::process::ExitStatus) -> Problem {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    Problem::Ended { command: text.join(" "), status: status.to_string(), code: status.code() }
}
