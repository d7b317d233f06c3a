//! What a check found: rule, level, place, and what to do about it.
//!
//! Values only; rendering is the program's. A finding never holds the text that a secret rule matched.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Probably not what was meant.
    Warning,
    /// The image will not run, or gives something away.
    Error,
}

impl Level {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One finding about a finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name in camel case, such as `CommandNotFound`.
    pub rule: &'static str,
    /// How bad.
    pub level: Level,
    /// Lower case, no period.
    pub message: String,
    /// The file that it is about, as a path in the image with its leading slash, if it is about one.
    pub path: Option<String>,
    /// The layer that the file lies in, counted from the lowest.
    pub layer: Option<usize>,
    /// What to do, if that can be said.
    pub advice: Option<Advice>,
}

/// What to do about a finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// One sentence: lower case, no period.
    pub text: String,
    /// Lines to add to the Dockerfile's final stage, such as `COPY --from=builder /usr/local/bin/uvicorn …`.
    pub lines: Vec<String>,
}

impl Finding {
    /// A finding about the whole image.
    pub fn new(rule: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self { rule, level, message: message.into(), path: None, layer: None, advice: None }
    }

    /// It is about this file (no leading slash) of a layer.
    #[must_use]
    pub fn at(mut self, path: &[u8], layer: Option<usize>) -> Self {
        self.path = Some(crate::subject::show(path));
        self.layer = layer;
        self
    }

    /// This is what to do.
    #[must_use]
    pub fn advise(mut self, advice: Option<Advice>) -> Self {
        self.advice = advice;
        self
    }
}

impl Advice {
    /// A sentence alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), lines: Vec::new() }
    }

    /// A sentence and a line for the Dockerfile.
    pub fn line(text: impl Into<String>, line: impl Into<String>) -> Self {
        Self { text: text.into(), lines: vec![line.into()] }
    }
}
