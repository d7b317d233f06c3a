//! Where an image's bytes come from: layers, their indexes and contents to a report.
//!
//! ```text
//! a layer's tar ─► pass ─► Contents (kept by diff id) ─┐
//! path indexes, history, what the build recorded ──────┼─► account ─► Report ─► compare, html
//! facts about sources, if known ───────────────────────┘
//! ```
//! Files count with the length of their content; a layer also with that of its tar, whose headers and padding are what
//! the difference is. A file with several names counts once. Nothing is unpacked, and nothing here reads or prints.

mod account;
mod compare;
mod html;
mod imports;
mod layers;
mod owners;
pub mod pass;
mod reach;
mod tree;

use std::sync::Arc;

use kuz_image::{Config, LayerIndex};
use serde::{Deserialize, Serialize};

pub use account::account;
pub use compare::compare;
pub use html::{html, signed};
pub use pass::Contents;

/// The form of the report's JSON.
pub const VERSION: u32 = 1;

/// An image that is to be accounted for.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// As the user named it.
    pub name: String,
    /// The configuration's digest.
    pub id: String,
    /// What runs.
    pub config: &'a Config,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// The same image with facts about its files, where they are known: without them nothing is said of what Python needs.
    pub facts: Option<&'a crate::Subject<'a>>,
}

/// A layer that is to be accounted for.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Which.
    pub diff_id: String,
    /// Bytes of its uncompressed tar.
    pub tar: u64,
    /// Bytes as it is stored and transferred.
    pub blob: u64,
    /// The history line.
    pub created_by: Option<String>,
    /// What its build recorded.
    pub origin: Option<Origin>,
    /// What it does to a file system.
    pub index: Arc<LayerIndex>,
    /// What is in its files.
    pub contents: Arc<Contents>,
}

/// What a build records of a layer: the step that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The stage's name or number, or the base image.
    pub stage: String,
    /// Of a base image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base: bool,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its line in the Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The stage or image that its files were copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Where an image's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`]
    pub version: u32,
    /// As the user named it.
    pub image: String,
    /// The configuration's digest.
    pub id: String,
    /// The image's size as `kuz build` says it: the uncompressed tars.
    pub bytes: u64,
    /// As it is stored and transferred.
    pub stored: u64,
    /// Bytes of the files that a container sees.
    pub shown: u64,
    /// How many files a container sees.
    pub files: u64,
    /// Stages and base images, in the order of their layers.
    pub stages: Vec<Share>,
    /// Lowest first.
    pub layers: Vec<LayerReport>,
    /// Directories of the final file system, as a tree.
    pub tree: Node,
    /// Python distributions, largest first.
    pub distributions: Vec<Share>,
    /// Debian packages, largest first.
    pub packages: Vec<Share>,
    /// What was written and then deleted or overwritten.
    pub wasted: Wasted,
    /// What is there more than once.
    pub duplicates: Duplicates,
    /// What nothing reaches from the image's command: a hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreached: Option<Unreached>,
}

/// A part of the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Its name.
    pub name: String,
    /// Its version, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its bytes.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
}

/// A layer of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerReport {
    /// From 0, the lowest.
    pub number: usize,
    /// Which.
    pub diff_id: String,
    /// Bytes of its uncompressed tar.
    pub bytes: u64,
    /// As it is stored and transferred.
    pub stored: u64,
    /// Bytes of its files.
    pub written: u64,
    /// Those of its files that a container sees.
    pub shown: u64,
    /// How many files it has.
    pub files: u64,
    /// The history line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// What its build recorded.
    #[serde(flatten)]
    pub origin: Option<Origin>,
}

/// A directory or file of the final file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name; of many small ones together, how many they are.
    pub name: String,
    /// Bytes in all.
    pub bytes: u64,
    /// Files in all.
    pub files: u64,
    /// What is in it, largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

/// Bytes that no container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Wasted {
    /// In all.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// The largest, directories whose every file is gone as one.
    pub paths: Vec<WastedPath>,
}

/// A file, or a directory with all that was in it, that no container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WastedPath {
    /// With a leading slash.
    pub path: String,
    /// Bytes in all.
    pub bytes: u64,
    /// Files in all.
    pub files: u64,
    /// The layer that has it.
    pub layer: usize,
    /// The layer that hides it.
    pub by: usize,
    /// How.
    pub how: Hidden,
}

/// How a file is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hidden {
    /// A later layer removed it.
    Deleted,
    /// A later layer has another file there.
    Overwritten,
    /// A later layer has the same content there, with another mode, owner or time.
    Repeated,
}

/// What is there more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Bytes beyond the first copy of each.
    pub bytes: u64,
    /// The largest.
    pub groups: Vec<Duplicate>,
}

/// A content that several files have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Bytes of one copy.
    pub bytes: u64,
    /// How many copies.
    pub copies: u64,
    /// Some of them: layer and path.
    pub places: Vec<(usize, String)>,
}

/// What nothing reaches from the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreached {
    /// The program that the command starts, and what runs it.
    pub command: Vec<String>,
    /// Bytes in all.
    pub bytes: u64,
    /// Debian packages, Python distributions and directories, largest first.
    pub groups: Vec<Share>,
}

/// Two images, group by group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// [`VERSION`]
    pub version: u32,
    /// The image that is compared.
    pub image: String,
    /// The one that it is compared with.
    pub against: String,
    /// Bytes of the tars, of the second and of the first.
    pub bytes: (u64, u64),
    /// Bytes that containers see, of the second and of the first.
    pub shown: (u64, u64),
    /// Stages and base images.
    pub stages: Vec<Change>,
    /// Layers, by what made them.
    pub layers: Vec<Change>,
    /// Directories.
    pub directories: Vec<Change>,
    /// Python distributions.
    pub distributions: Vec<Change>,
    /// Debian packages.
    pub packages: Vec<Change>,
}

/// Something that differs between two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Bytes in the image that is compared with; none: it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<u64>,
    /// Bytes in the image that is compared; none: it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<u64>,
    /// Its versions then and now, where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<(String, String)>,
}

impl LayerReport {
    /// What made it, for people: the instruction and its line if they are known, else the history line without the
    /// arguments and shell that a builder puts into it, else which layer it is.
    pub fn step(&self) -> String {
        let origin = self.origin.as_ref();
        let line = origin.and_then(|origin| origin.line).map(|line| format!("line {line}: ")).unwrap_or_default();
        if let Some(text) = origin.and_then(|origin| origin.text.as_ref()) {
            return format!("{line}{text}");
        }
        let Some(history) = &self.created_by else { return self.diff_id.clone() };
        let plain = history.trim_end_matches(" # buildkit");
        match plain.split_once("/bin/sh -c ") {
            Some((before, command)) if before.is_empty() || before.starts_with("RUN ") => {
                command.strip_prefix("#(nop) ").map_or_else(|| format!("RUN {command}"), |nop| nop.trim().to_owned())
            }
            _ => plain.to_owned(),
        }
    }
}

impl Change {
    /// How many bytes more there are.
    pub fn delta(&self) -> i128 {
        i128::from(self.new.unwrap_or_default()) - i128::from(self.old.unwrap_or_default())
    }
}

/// Bytes as `ls -h` and `du -h` write them: powers of 1024, rounded up, one digit behind the point below ten.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut size = 1024_u128;
    for (place, unit) in (1..).zip(UNITS) {
        let bytes = u128::from(bytes);
        let tenths = (bytes * 10).div_ceil(size);
        if tenths < 100 {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
        let whole = bytes.div_ceil(size);
        if whole < 1024 || place == UNITS.len() {
            return format!("{whole}{unit}");
        }
        size *= 1024;
    }
    bytes.to_string()
}

/// A path for people, with its leading slash.
pub(crate) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_without_what_builders_put_into_them() {
        let layer = |created_by: Option<&str>, origin: Option<Origin>| LayerReport {
            number: 0,
            diff_id: "sha256:1".into(),
            bytes: 0,
            stored: 0,
            written: 0,
            shown: 0,
            files: 0,
            created_by: created_by.map(str::to_owned),
            origin,
        };
        for (history, want) in [
            (Some("RUN |1 A=b /bin/sh -c make all # buildkit"), "RUN make all"),
            (Some("RUN /bin/sh -c make # buildkit"), "RUN make"),
            (Some("/bin/sh -c #(nop) COPY file:1 in / "), "COPY file:1 in /"),
            (Some("/bin/sh -c make"), "RUN make"),
            (Some("COPY a /bin/sh -c # buildkit"), "COPY a /bin/sh -c"),
            (None, "sha256:1"),
        ] {
            assert_eq!(layer(history, None).step(), want);
        }
        let origin = Origin { stage: "s".into(), base: false, text: Some("RUN x".into()), line: Some(4), from: None };
        assert_eq!(layer(Some("y"), Some(origin)).step(), "line 4: RUN x");
    }

    #[test]
    fn sizes_are_those_of_ls() {
        for (bytes, want) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10 * 1024 - 1, "10K"),
            (10 * 1024, "10K"),
            (1024 * 1024 - 1, "1.0M"),
            (150 << 20, "150M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human(bytes), want, "{bytes}");
        }
    }
}
