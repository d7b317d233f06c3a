//! Why a task ends early, and with which exit code.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Automake's "skipped": the task did not fail, it cannot be done on this machine.
const MISSING: u8 = 77;

/// Why a task ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// A program, package or version is not there.
    #[error("missing: {what}\n  to mend it: {mend}")]
    Missing { what: String, mend: String },
    /// A program could not be started.
    #[error("start `{program}`")]
    Start { program: String, source: io::Error },
    /// A program ended with a failure.
    #[error("`{command}` ended with {status}")]
    Ended { command: String, status: String, code: Option<i32> },
    /// A file or directory of the task's own.
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// A server on loopback.
    #[error("{action}")]
    Net { action: String, source: io::Error },
    /// A program's answer is not what it has to be.
    #[error("{0}")]
    Answer(String),
    /// Checks or tests failed; they have said why.
    #[error("{0}")]
    Failed(String),
}

impl Problem {
    /// A mapping for `map_err` on a file operation.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// The whole chain on standard error.
    pub(crate) fn print(&self) {
        eprintln!("xtask: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            eprintln!("  caused by: {error}");
            cause = error.source();
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Missing { .. } => ExitCode::from(MISSING),
            _ => ExitCode::FAILURE,
        }
    }
}
