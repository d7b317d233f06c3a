//! Messages between the processes of one sandbox, as types: main and worker, worker and init.
//!
//! Values only; `protocol` carries them, descriptors travel beside them as each variant says.

use kuz_image::compress::Compression;
use kuz_image::scan::Scanned;
use kuz_image::{IndexEntry, LayerIndex};
use kuz_rootfs::read::TreeFile;
use serde::{Deserialize, Serialize};

use crate::errno::OsError;
use crate::isolation::Isolation;
use crate::step::{Access, Exit, Guest, Network, RunOrder, StartError};

/// Worker to main while it starts, and then never again on this channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    /// In its user namespace; the maps may be written.
    Unshared,
    /// Namespaces are refused.
    NoNamespaces(OsError),
    /// Ready for requests.
    Ready(Isolation),
    /// Not ready.
    Failed(Failure),
}

/// Main to worker on the control channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Control {
    /// The maps are written.
    Mapped { count: u32, force_copy: bool, own: Option<String> },
    /// A request follows on the channel beside this message.
    Open,
}

/// Worker to spawner: start an init. Beside it: its 0, 1, 2 and its channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spawn {
    /// The `CLONE_NEW…` flags of its namespaces.
    pub(crate) namespaces: i32,
}

/// Spawner to worker: the init's process id.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spawned(pub(crate) Result<i32, OsError>);

/// Main to worker on a channel of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Beside it: the blob.
    Apply {
        compression: Compression,
        tree: String,
    },
    /// Beside it: the binds (`detached`: they are mounts already), what is held, then the caller's 0-2 as far as `stdio`
    /// wants them.
    Run {
        order: Box<RunOrder>,
        detached: bool,
    },
    /// Beside it: the file for the tar.
    Pack {
        tree: String,
        epoch: Option<i64>,
    },
    Index {
        tree: String,
    },
    Digests {
        files: Vec<TreeFile>,
    },
    /// Beside it: the file or pipe for the tar.
    Export {
        files: Vec<TreeFile>,
    },
    /// Directories of a tree get the attributes of these entries.
    Settle {
        tree: String,
        directories: Vec<(Vec<u8>, IndexEntry)>,
    },
    Remove {
        names: Vec<String>,
    },
    /// A new tree that commands write to: with what these trees show, if any.
    MakeCache {
        tree: String,
        access: Access,
        seed: Vec<String>,
    },
    Measure {
        trees: Vec<String>,
    },
}

/// Main to worker while a command runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Poke {
    /// Forward this signal to the command.
    Signal(i32),
    /// End it: SIGTERM, and SIGKILL after the step's grace.
    Cancel,
    /// For the init of a command that is watched.
    Ask(Ask),
    /// End it at once.
    Kill,
}

/// Main to init, by way of the worker, while a command runs that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A TCP socket of the command's network, not connected.
    Socket { v6: bool },
    /// Another command beside it, started as it was. One at a time.
    Execute { argv: Vec<String> },
    /// End that one.
    EndExecuted,
    /// Ask the command to end, by this signal.
    Stop { signal: i32 },
}

/// Init to main, by way of the worker: what came of an [`Ask`], or of the command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The command runs.
    Started,
    /// Beside it: the socket.
    Socket,
    /// Beside it: the read end of what the other command writes.
    Executing,
    NotExecuted(StartError),
    Executed(Exit),
    /// The signal is on its way. Whether the command has anything for it, where that can be seen: as the first process of
    /// a container it would not hear it otherwise.
    Stopping {
        handled: Option<bool>,
    },
    Refused(OsError),
}

/// Worker to main.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Applied(Applied),
    Scanned(Scanned),
    Index(LayerIndex),
    Digests(Vec<[u8; 32]>),
    /// Entries and bytes, a tree each.
    Measured(Vec<(u64, u64)>),
    /// Beside it: listening sockets, one for each agent.
    Agents,
    /// Beside it: the read ends of standard output and standard error.
    Output,
    /// Beside it: the terminal's master.
    Terminal,
    /// Beside it: what the answer says.
    Answer(Answer),
    Exited(Exit),
    NotStarted(StartError),
    Failed(Failure),
}

/// What came of unpacking a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The uncompressed layer's digest, size and index.
    pub scanned: Scanned,
    /// Directories that the layer uses without an entry of their own; they were made 0755. Over layers that have them,
    /// [`crate::Worker::settle`] gives them their attributes.
    pub implied: Vec<Vec<u8>>,
    /// Extended attributes that the file system doesn't take.
    pub dropped_xattrs: usize,
}

/// An error of another process: its chain of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    message: String,
    source: Option<Box<Failure>>,
}

impl Failure {
    /// From an error and its sources.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        Self { message: error.to_string(), source: error.source().map(|source| Box::new(Self::of(source))) }
    }

    /// An action that failed because of `self`.
    pub(crate) fn during(self, action: impl Into<String>) -> Self {
        Self { message: action.into(), source: Some(Box::new(self)) }
    }

    /// One message without a source.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// What init does: everything but the descriptors (the binds, beside it).
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing that is done or not")]
pub(crate) struct InitOrder {
    /// Where the root comes from, by names in the current directory.
    pub root: RootSource,
    /// A directory of our own beside the trees: `m` (the root's place) and `s` (the scratch file system's) are in it.
    pub work: String,
    pub fresh_proc: bool,
    pub network: Network,
    /// How many ids are mapped.
    pub ids: u32,
    pub terminal: bool,
    /// Answer [`Ask`]s while the command runs.
    pub watched: bool,
    /// The binds are mounts already, not just descriptors of files.
    pub detached: bool,
    pub resolv_conf: Vec<u8>,
    pub guest: Guest,
}

/// Where the root file system comes from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RootSource {
    /// Overlaid; `lowers` from the bottom up.
    Overlay { lowers: Vec<String>, upper: String, work: String },
    /// A directory that holds everything.
    Directory(String),
}

/// Init to worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Beside it: listening sockets, one for each agent.
    Agents,
    /// The root is complete; these mount points were made for it.
    Mounted(Vec<Stub>),
    /// Beside it: the terminal's master.
    Terminal,
    /// Beside it: what the answer says.
    Answer(Answer),
    NotStarted(StartError),
    Exited(Exit),
}

/// A mount point that had to be made in the image's tree, to be taken away before the layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stub {
    /// Real path (no link in it), no leading slash.
    pub path: Vec<u8>,
    pub directory: bool,
    /// The time of change (seconds, nanoseconds) of its directory right after it was made.
    pub parent_mtime: (i64, i64),
}
