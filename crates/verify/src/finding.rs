//! What a check found: rule, level, place, and what to do about it.
//!
//! Values only; rendering is the program's. A finding never holds the text that a secret rule matched.

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Probably not what was meant.
    Warning,
    /// The image will not run, or gives something away.
    Error,
}

/// One finding about a finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// One sentence: lower case, no period.
    pub text: String,
    /// Lines to add to the Dockerfile's final stage, such as `COPY --from=builder /usr/local/bin/uvicorn …`.
    pub lines: Vec<String>,
}
