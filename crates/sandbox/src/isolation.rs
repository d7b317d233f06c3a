//! How well RUN can be shut in on this machine, in words.

use serde::{Deserialize, Serialize};

/// What a sandbox has and lacks, from best to none. Always said to the user, never weakened in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Isolation {
    /// User, mount, process, IPC, host-name and control-group namespaces, an overlay, a `/proc` of its own.
    Full,
    /// As `Full`, but file systems cannot be overlaid: each RUN copies the tree.
    NoOverlay,
    /// As `Full`, but the machine's `/proc` is seen, because a new one may not be mounted.
    NoProc,
    /// Neither.
    NoOverlayNoProc,
    /// No user namespace: no RUN.
    None,
}

impl Isolation {
    /// From what a probe found.
    pub(crate) fn from_probe(overlay: bool, proc: bool) -> Self {
        match (overlay, proc) {
            (true, true) => Self::Full,
            (false, true) => Self::NoOverlay,
            (true, false) => Self::NoProc,
            (false, false) => Self::NoOverlayNoProc,
        }
    }

    /// Can file systems be overlaid?
    pub fn overlay(self) -> bool {
        matches!(self, Self::Full | Self::NoProc)
    }

    /// Does RUN have a `/proc` of its own?
    pub fn fresh_proc(self) -> bool {
        matches!(self, Self::Full | Self::NoOverlay)
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full: own namespaces, overlay file system",
            Self::NoOverlay => "own namespaces; this file system cannot be overlaid, so each RUN copies its tree",
            Self::NoProc => "own namespaces, but RUN sees this machine's /proc: a new one may not be mounted here",
            Self::NoOverlayNoProc => {
                "own namespaces, but RUN sees this machine's /proc and each RUN copies its tree: neither a new /proc nor \
                 an overlay may be mounted here"
            }
            Self::None => "none: user namespaces are not available here, so RUN cannot be executed",
        })
    }
}
