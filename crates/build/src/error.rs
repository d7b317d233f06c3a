//! Why a build has no image, sorted by whose turn it is to act.
//!
//! Each variant is an action that failed and what it acted on; [`BuildError::class`] decides the exit code. Rendering
//! is the program's.

use std::fmt;

use kuz_dockerfile::Diagnostic;

/// Findings in a text, with the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The file's name, as the user knows it.
    pub file: String,
    /// Its text.
    pub source: String,
    /// What was found.
    pub diagnostics: Vec<Diagnostic>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A step's command failed.
    Step,
    /// The Dockerfile, the context or an argument is wrong.
    Input,
    /// A registry, credentials or the network.
    Remote,
    /// This machine cannot do it.
    Environment,
    /// The store or the disk.
    Store,
    /// Refused for safety.
    Refused,
    /// The user stopped it.
    Cancelled,
    /// A mistake in this program.
    Bug,
}

/// A RUN step that ended with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// The step.
    pub name: crate::event::StepName,
    /// The Dockerfile's name.
    pub file: String,
    /// How it ended: `exit code 1`, `killed by signal 9`, …
    pub ended: String,
    /// The last lines that it wrote.
    pub tail: Vec<String>,
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.name.text.chars().take(200).collect();
        write!(f, "{}:{}: `{}` failed: {}", self.file, self.name.line, text.escape_debug(), self.ended)
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The user's text is wrong.
    #[error("{}", summary(.0))]
    Findings(Box<Findings>),
    /// A command failed.
    #[error("{0}")]
    Step(Box<StepFailure>),
    /// Something that the user named cannot be used.
    #[error("{message}")]
    Input {
        /// What, and what to do.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A registry did not give or take something.
    #[error("{action}")]
    Remote {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: kuz_registry::RegistryError,
        /// The line of the Dockerfile that asked for it.
        place: Option<Box<Findings>>,
    },
    /// A file or repository on the network could not be fetched.
    #[error("{action}")]
    Fetch {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This machine cannot do it.
    #[error("{message}")]
    Environment {
        /// What is missing, and the command that mends it.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The store or the disk failed.
    #[error("{action}")]
    Store {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Content that must not be used.
    #[error("{action}")]
    Refused {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A command of an image could not be started; the code is a shell's.
    #[error("{message}")]
    NotStarted {
        /// 126 or 127.
        code: u8,
        /// Why.
        message: String,
    },
    /// The image is made, but was found not to be sound, and the request makes an error of that.
    #[error("{0}")]
    Unsound(String),
    /// The image is made, but its command does not come up.
    #[error("{0}")]
    Smoke(Box<crate::smoke::SmokeFailure>),
    /// The user stopped it.
    #[error("interrupted")]
    Cancelled,
}

impl BuildError {
    /// Whose turn it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Findings(_) | Self::Input { .. } | Self::NotStarted { .. } | Self::Unsound(_) | Self::Smoke(_) => {
                Class::Input
            }
            Self::Step(_) => Class::Step,
            Self::Remote { source, .. } if is_refusal(source) => Class::Refused,
            Self::Remote { .. } | Self::Fetch { .. } => Class::Remote,
            Self::Environment { .. } => Class::Environment,
            Self::Store { .. } => Class::Store,
            Self::Refused { .. } => Class::Refused,
            Self::Cancelled => Class::Cancelled,
        }
    }

    /// An input error without a cause.
    pub fn input(message: impl Into<String>) -> Self {
        Self::Input { message: message.into(), source: None }
    }

    /// A store error.
    pub fn store(action: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = Box::new(source);
        if is_stop(source.as_ref()) {
            return Self::Cancelled;
        }
        Self::Store { action: action.into(), source }
    }

    /// The error and its causes on one line.
    pub fn one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Whether the user stopped a wait for a lock.
fn is_stop(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if matches!(error.downcast_ref(), Some(kuz_store::StoreError::Stopped { .. })) {
            return true;
        }
        at = error.source();
    }
    false
}

/// Content or behaviour that this program would not accept, as against a registry that does not answer.
fn is_refusal(error: &kuz_registry::RegistryError) -> bool {
    use kuz_registry::Class as Remote;
    matches!(error.class(), Remote::DigestMismatch | Remote::Limit | Remote::Refused)
}

fn summary(findings: &Findings) -> String {
    let errors: Vec<&Diagnostic> =
        findings.diagnostics.iter().filter(|d| d.severity == kuz_dockerfile::Severity::Error).collect();
    let Some(first) = errors.first() else { return format!("{}: has errors", findings.file) };
    let line = kuz_dockerfile::line_of(&findings.source, first.span.start);
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    format!("{}:{line}: {}{more}", findings.file, first.message)
}
