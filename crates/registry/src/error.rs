//! What can go wrong between here and a registry.
//!
//! One action asks several endpoints; the error keeps what happened at each. As a chain it reads
//!
//! ```text
//! resolve docker.io/library/python:3.10
//!   mirror 127.0.0.1:5000: no connection: connection refused
//!   registry-1.docker.io: not found (404): MANIFEST_UNKNOWN: manifest unknown
//! ```

use std::fmt;
use std::io;
use std::time::Duration;

use kuz_image::digest::Digest;
use kuz_image::manifest::ManifestError;

use crate::config::{ConfigError, Endpoint};
use crate::credentials::CredentialError;
use crate::host::HostError;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A reference to a manifest and a config.
    Resolve,
    /// A blob to here.
    FetchBlob,
    /// A blob, or an image, to there.
    Push,
    /// Whether a push would be allowed.
    CheckPush,
    /// Credentials tried out.
    Login,
    /// A file from any web address.
    Download,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::FetchBlob | Self::Download => "fetch",
            Self::Push => "push",
            Self::CheckPush => "check that a push is allowed to",
            Self::Login => "log in to",
        })
    }
}

/// What kind of failure it was, for exit codes and advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// There's no such image or blob.
    NotFound,
    /// No, or wrong, credentials.
    Unauthorized,
    /// The credentials don't suffice.
    Denied,
    /// Nobody answered, or not in time, or not to the end.
    Unreachable,
    /// The bytes aren't those that were named.
    DigestMismatch,
    /// Something was larger than is taken.
    Limit,
    /// This program would not do it: it was unsafe.
    Refused,
    /// The image isn't there for the platform.
    Platform,
    /// The registry answered something that makes no sense, or failed.
    Protocol,
    /// A file of this machine.
    Local,
    /// A setting.
    Config,
}

/// An action that failed, with what happened at each endpoint as its chain of sources.
#[derive(Debug)]
pub struct RegistryError {
    action: Action,
    subject: String,
    attempts: Option<Box<Attempt>>,
}

impl RegistryError {
    /// What was being done.
    pub fn action(&self) -> Action {
        self.action
    }

    /// What it was done to.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Every endpoint that was asked, in order.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        std::iter::successors(self.attempts.as_deref(), |attempt| attempt.next.as_deref())
    }

    /// The cause that counts: the last one, which is the registry's own.
    pub fn cause(&self) -> Option<&Cause> {
        self.attempts().last().map(|attempt| &attempt.cause)
    }

    /// What kind of failure it was.
    pub fn class(&self) -> Class {
        self.cause().map_or(Class::Config, Cause::class)
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.subject)
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.attempts.as_deref().map(|attempt| attempt as _)
    }
}

/// One endpoint, and what happened there.
#[derive(Debug)]
pub struct Attempt {
    endpoint: String,
    cause: Cause,
    next: Option<Box<Attempt>>,
}

impl Attempt {
    /// The endpoint.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What happened.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.cause)
    }
}

impl std::error::Error for Attempt {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|attempt| attempt as _)
    }
}

/// Collects attempts, endpoint by endpoint.
#[derive(Debug)]
pub(crate) struct Attempts {
    action: Action,
    subject: String,
    list: Vec<(String, Cause)>,
}

impl Attempts {
    pub(crate) fn new(action: Action, subject: impl fmt::Display) -> Self {
        Self { action, subject: subject.to_string(), list: Vec::new() }
    }

    pub(crate) fn add(&mut self, endpoint: &Endpoint, cause: Cause) {
        self.list.push((endpoint.label(), cause));
    }

    pub(crate) fn fail(self) -> RegistryError {
        let chain = |next, (endpoint, cause)| Some(Box::new(Attempt { endpoint, cause, next }));
        let attempts = self.list.into_iter().rev().fold(None, chain);
        RegistryError { action: self.action, subject: self.subject, attempts }
    }

    /// The error for a cause that no further endpoint can mend.
    pub(crate) fn fail_with(mut self, endpoint: &Endpoint, cause: Cause) -> RegistryError {
        self.add(endpoint, cause);
        self.fail()
    }

    /// The error for a cause that came before any endpoint.
    pub(crate) fn fail_early(mut self, place: &str, cause: Cause) -> RegistryError {
        self.list.push((place.to_owned(), cause));
        self.fail()
    }
}

/// What happened at an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// 404.
    #[error("not found ({status}){detail}")]
    NotFound {
        /// The status.
        status: u16,
        /// What the registry said, with a leading colon.
        detail: String,
    },
    /// 401, even with what credentials there are.
    #[error("access refused ({status}){detail}; asked for `{scope}` {identity}; {hint}")]
    Unauthorized {
        /// The status.
        status: u16,
        /// What the registry said.
        detail: String,
        /// What was asked for.
        scope: String,
        /// As whom.
        identity: String,
        /// What to do.
        hint: String,
    },
    /// 403.
    #[error("denied (403){detail}; asked for `{scope}` {identity}")]
    Denied {
        /// What the registry said.
        detail: String,
        /// What was asked for.
        scope: String,
        /// As whom.
        identity: String,
    },
    /// No connection.
    #[error("no connection: {detail}")]
    Unreachable {
        /// Why.
        detail: String,
    },
    /// The server's certificate isn't trusted.
    #[error(
        "certificate not trusted: {detail}; if it's yours: [registry.\"{host}\"] ca = [\"/path/to/ca.pem\"] in kuz.toml"
    )]
    Untrusted {
        /// Why.
        detail: String,
        /// The host.
        host: String,
    },
    /// A deadline passed.
    #[error("waited {} s for {what}", waited.as_secs_f32())]
    TimedOut {
        /// For what.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The connection ended in the middle.
    #[error("connection broke off {what}: {detail}")]
    Broken {
        /// Where.
        what: String,
        /// Why.
        detail: String,
    },
    /// Any other status.
    #[error("unexpected answer ({status}){detail}")]
    Status {
        /// The status.
        status: u16,
        /// What the registry said.
        detail: String,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// The bytes aren't those that were named.
    #[error("{what} has digest {found}, not {expected}")]
    DigestMismatch {
        /// Manifest, config or blob.
        what: &'static str,
        /// What was named.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The bytes aren't as many as were named.
    #[error("{what} has {found} bytes, not {expected}")]
    SizeMismatch {
        /// Manifest, config or blob.
        what: &'static str,
        /// What was named.
        expected: u64,
        /// What came, as far as it was read.
        found: u64,
    },
    /// Larger than is taken.
    #[error("{what} is over the limit of {limit} bytes")]
    Limit {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Unsafe.
    #[error("refused: {reason}")]
    Refused {
        /// Why, and what allows it.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("answer makes no sense: {detail}")]
    Protocol {
        /// Why.
        detail: String,
    },
    /// A manifest that cannot be used.
    #[error("manifest cannot be used: {}", flatten(.0))]
    Manifest(ManifestError),
    /// No such platform in the index.
    #[error("no image for {wanted}; there is {available}")]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// The file here could not be written or read.
    #[error("{what}: {error}")]
    Local {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// A blob that the registry wants isn't here.
    #[error("blob {digest} isn't in the registry and isn't stored here either")]
    MissingBlob {
        /// Which.
        digest: Digest,
    },
    /// Stored credentials cannot be read.
    #[error("credentials cannot be read: {}", flatten(.0))]
    Credentials(CredentialError),
    /// The token server's failure.
    #[error("token server {host}: {cause}")]
    TokenServer {
        /// Its host.
        host: String,
        /// What happened there.
        cause: Box<Cause>,
    },
    /// A setting.
    #[error("{}", flatten(.0))]
    Config(ConfigError),
    /// A name that is no host.
    #[error("{0}")]
    Host(HostError),
}

impl Cause {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } => Class::NotFound,
            Self::Unauthorized { .. } => Class::Unauthorized,
            Self::Denied { .. } => Class::Denied,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. } => Class::Unreachable,
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => Class::DigestMismatch,
            Self::Limit { .. } => Class::Limit,
            Self::Refused { .. } | Self::Untrusted { .. } => Class::Refused,
            Self::Platform { .. } => Class::Platform,
            Self::Status { .. } | Self::Protocol { .. } | Self::Manifest(_) => Class::Protocol,
            Self::Local { .. } | Self::MissingBlob { .. } => Class::Local,
            Self::Credentials(_) | Self::Config(_) | Self::Host(_) => Class::Config,
            Self::TokenServer { cause, .. } => cause.class(),
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599) && *status != 501,
            Self::TokenServer { cause, .. } => cause.is_passing(),
            _ => false,
        }
    }

    /// When to come back, if the server said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::TokenServer { cause, .. } => cause.retry_after(),
            _ => None,
        }
    }

    /// Whether another endpoint would fail in the same way.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Local { .. } | Self::MissingBlob { .. })
    }
}

/// An error and its sources in one line: foreign errors are not part of the chain that is shown.
pub(crate) fn flatten(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    printable(&text, 500)
}

/// Foreign text for a message: bounded, control characters escaped.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for character in text.trim().chars() {
        if shown.len() >= limit {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_tamed() {
        assert_eq!(printable("a\u{1b}[31mb\n", 100), "a\\u{1b}[31mb");
        assert_eq!(printable(&"x".repeat(50), 3), "xxx…");
    }

    #[test]
    fn attempts_form_a_chain() {
        let mut attempts = Attempts::new(Action::Resolve, "a/b:c");
        attempts.list.push(("one".into(), Cause::Unreachable { detail: "refused".into() }));
        attempts.list.push(("two".into(), Cause::NotFound { status: 404, detail: String::new() }));
        let error = attempts.fail();
        assert_eq!(error.class(), Class::NotFound);
        assert_eq!(flatten(&error), "resolve a/b:c: one: no connection: refused: two: not found (404)");
    }
}
