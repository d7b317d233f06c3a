//! Secrets in an image: what must not be in a layer, in a variable, in a label or in the history.
//!
//! ```text
//! a file's bytes ─► Scanner (keywords ─► regex ─► check) ─► Hits, part of the layer's facts
//! Hits, facts, configuration ─► check ─► findings
//! ```
//! [`rules`] is the table of what is looked for. The text that a rule matched is kept nowhere and shown nowhere: a hit is
//! a rule, a path, a line, and the digests of the whole file, by which a published file is known. Secrets that were
//! encoded, split or compressed are not found; neither are those in text of 16-bit characters.

use serde::{Deserialize, Serialize};

use crate::facts::Path;

mod assignment;
mod check;
mod config;
mod engine;
mod likely;
mod paths;
mod pem;
mod published;
pub mod rules;
pub mod scanner;
mod tokens;

pub use check::check;
pub use config::check_annotations;
pub use published::{trim, wanted};
pub use rules::{RULES, Rule, rule};
pub use scanner::Scanner;

/// A rule that matched in a file: one for each file and rule, however often it matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The rule's name, as in [`RULES`].
    pub rule: String,
    /// The file.
    pub path: Path,
    /// The line of the first match, from 1; none in binary files.
    pub line: Option<u32>,
    /// How often it matched, counted up to [`scanner::MATCHES`].
    pub count: u32,
    /// The SHA-256 digest of the whole file.
    pub sha256: [u8; 32],
    /// Its MD5 digest, which is what Debian's database has; none for files of more than [`scanner::WINDOW`] bytes.
    pub md5: Option<[u8; 16]>,
}

/// Changes whenever a scan of the same bytes may give other hits: kept facts of another version are of no use.
pub const VERSION: u32 = 1;

/// Builds what every search needs, which takes half a millisecond: for a thread that has nothing to read yet.
pub fn make_ready() {
    std::sync::LazyLock::force(&engine::ENGINE);
}
