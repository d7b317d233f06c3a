//! What to run: the public description of one RUN, and the form of it that travels to the worker and to init.
//!
//! Values only. Descriptors travel beside the message, in the order that [`RunStep::split`] gives.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::errno::OsError;

/// Size of `/dev/shm` where nothing else is asked for, as Docker's.
pub const SHM_BYTES: u64 = 64 << 20;

/// One RUN.
#[derive(Debug)]
pub struct RunStep {
    /// The trees below, lowest first (names in the trees directory).
    pub lowers: Vec<String>,
    /// The tree that receives the changes: made by the worker, must not exist.
    pub upper: String,
    /// Command and arguments. Without a slash the command is looked up in the environment's `PATH`, inside the root.
    pub argv: Vec<String>,
    /// The whole environment, in order. `HOME` is added from the image's passwd file where it's missing.
    pub env: Vec<(String, String)>,
    /// Absolute; must exist.
    pub cwd: String,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// What it may reach.
    pub network: Network,
    /// The name of the machine inside.
    pub hostname: String,
    /// More lines for `/etc/hosts`: address and name.
    pub hosts: Vec<(String, String)>,
    /// Files under `/dev/pipes/`.
    pub scripts: Vec<Script>,
    /// Files and directories from outside.
    pub binds: Vec<Bind>,
    /// What else is mounted, in the order of the targets (of equal ones in this order: the last is seen).
    pub mounts: Vec<Mount>,
    /// Variables whose values must not be shown; over those of `env`.
    pub secret_env: Vec<(String, Hidden)>,
    /// Kept open until no process of the command is left, however the caller dies: locks of what is mounted.
    pub held: Vec<OwnedFd>,
    /// Size of `/dev/shm`.
    pub shm_size: u64,
    /// Limits beside the standard ones.
    pub ulimits: Vec<Ulimit>,
    /// Where its input and output go.
    pub stdio: Stdio,
    /// How long a cancelled command has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Setuid programs gain nothing (off by default, as in BuildKit: in a user namespace they gain no more than its root).
    pub no_new_privileges: bool,
}

impl Default for RunStep {
    fn default() -> Self {
        Self {
            lowers: Vec::new(),
            upper: String::new(),
            argv: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            network: Network::Host,
            hostname: "buildkitsandbox".to_owned(),
            hosts: Vec::new(),
            scripts: Vec::new(),
            binds: Vec::new(),
            mounts: Vec::new(),
            secret_env: Vec::new(),
            held: Vec::new(),
            shm_size: SHM_BYTES,
            ulimits: Vec::new(),
            stdio: Stdio::Captured,
            grace: Duration::from_secs(10),
            no_new_privileges: false,
        }
    }
}

/// The network that a command sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Network {
    /// The machine's.
    #[default]
    Host,
    /// A loopback interface of its own, nothing else.
    None,
}

/// A file under `/dev/pipes/`, executable, owned by root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// One name.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// A file or directory from outside the image.
#[derive(Debug)]
pub struct Bind {
    /// What (any descriptor of it).
    pub source: OwnedFd,
    /// Where: a path inside, links followed inside the image; made where it's missing and taken away again afterwards.
    pub target: String,
    /// Not to be written.
    pub readonly: bool,
}

/// Something that the step sees at a path, and that leaves nothing in its layer.
#[derive(Debug)]
pub struct Mount {
    /// Where (as for [`Bind`]).
    pub target: String,
    /// What.
    pub what: Mounted,
}

/// What is mounted.
#[derive(Debug)]
pub enum Mounted {
    /// A directory in memory.
    Tmpfs {
        /// Bytes at most; the kernel's default where nothing is said.
        size: Option<u64>,
    },
    /// Trees, one over the other.
    Trees {
        /// Lowest first; none is an empty directory.
        lowers: Vec<String>,
        /// What of it: links in it are followed inside the trees.
        path: String,
        /// May be written to; what is written is gone afterwards.
        writable: bool,
    },
    /// A tree itself: what is written stays.
    Tree {
        /// Its name.
        tree: String,
        /// What of it: links in it are followed inside the tree.
        path: String,
        /// Not to be written.
        readonly: bool,
    },
    /// A file in memory, not to be written.
    File {
        /// Its content.
        content: Hidden,
        /// Whose, and who may read it.
        access: Access,
    },
    /// A socket whose connections are relayed to an ssh agent of this machine: listing keys and signing, nothing else.
    Agent {
        /// The agent's socket.
        socket: PathBuf,
        /// Whose, and who may connect.
        access: Access,
    },
}

/// Mode and owner, as the step sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "what they are called")]
pub struct Access {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Bytes that are never shown: `Debug` gives `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden(pub Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A limit, by its name in `--ulimit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, `core`…
    pub name: String,
    /// The soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// The hard limit.
    pub hard: Option<u64>,
}

/// Where input and output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Input is empty; output goes to the caller's function.
    Captured,
    /// Input is the caller's standard input; output goes to the caller's function.
    Relayed,
    /// The caller's standard streams themselves.
    Inherit,
    /// A terminal of its own, connected to the caller's.
    Terminal,
}

/// Which stream some output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output (and everything of a terminal).
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Did it succeed?
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// As a shell reports it: 128 + signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// Why a command did not start: the step's or the image's fault, or the machine's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are what the message says")]
pub enum StartError {
    /// The directory of the step.
    #[error("enter working directory `{path}`")]
    Cwd { path: String, source: OsError },
    /// It does not exist.
    #[error("working directory `{path}` does not exist in the image")]
    NoCwd { path: String },
    /// A link that leaves the image, such as `/proc/self/fd/7`.
    #[error("working directory `{path}` leads out of the image")]
    CwdOutside { path: String },
    /// The user of the step.
    #[error("user `{user}`: {reason}")]
    User { user: String, reason: String },
    /// The sandbox has a single id and the step wants another.
    #[error("user `{user}` needs the id {id}, and there are only {count} ids in the sandbox")]
    UnmappedUser { user: String, id: u32, count: u32 },
    /// The command is not there.
    #[error("`{program}` was not found in the image")]
    NotFound { program: String },
    /// It is there and cannot be executed.
    #[error("execute `{program}`")]
    Execute { program: String, source: OsError },
    /// An argument or variable with a NUL byte, an empty command line.
    #[error("{what}")]
    Malformed { what: String },
    /// Something else than a directory is in the way.
    #[error("`{path}` in the image is not a directory, so nothing can be mounted there")]
    InTheWay { path: String },
    /// The path of a mount's source.
    #[error("`{path}` does not exist in what is to be mounted at `{target}`")]
    NoSource { path: String, target: String },
    /// A mount's owner is no id of the sandbox.
    #[error("what is mounted at `{target}` cannot belong to {uid}:{gid}: the sandbox has {count} ids")]
    UnmappedOwner { target: String, uid: u32, gid: u32, count: u32 },
    /// A limit that isn't known.
    #[error("unknown limit `{name}`")]
    UnknownLimit { name: String },
    /// The kernel refused a step of the preparation.
    #[error("{action}")]
    Kernel { action: String, source: OsError },
}

impl StartError {
    /// The exit status that a shell would give: 127 not found, 126 not executable, 125 otherwise.
    pub fn shell_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::Execute { .. } => 126,
            _ => 125,
        }
    }
}

/// What the worker gets of a [`RunStep`]: everything but the descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunOrder {
    pub lowers: Vec<String>,
    pub upper: String,
    pub stdio: Stdio,
    pub grace_ms: u64,
    pub network: Network,
    /// The caller asks into the sandbox while the command runs.
    pub watched: bool,
    /// Descriptors that are only kept.
    pub held: usize,
    pub guest: Guest,
}

/// What init gets to know beside the mounts that the worker prepares for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Guest {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub user: String,
    pub hostname: String,
    pub hosts: Vec<(String, String)>,
    pub scripts: Vec<Script>,
    pub binds: Vec<BindTarget>,
    pub mounts: Vec<GuestMount>,
    pub secret_env: Vec<(String, Hidden)>,
    pub shm_size: u64,
    pub ulimits: Vec<Ulimit>,
    pub no_new_privileges: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BindTarget {
    pub target: String,
    pub readonly: bool,
}

/// A [`Mount`] on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GuestMount {
    pub target: String,
    pub what: Source,
}

/// [`Mounted`] without what only the main process has. For init, trees that cannot be overlaid are one tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Source {
    Tmpfs { size: Option<u64> },
    Trees { lowers: Vec<String>, path: String, writable: bool },
    Tree { tree: String, path: String, readonly: bool },
    File { content: Hidden, access: Access },
    Agent { access: Access },
}

impl Mount {
    fn guest(&self) -> GuestMount {
        let what = match &self.what {
            Mounted::Tmpfs { size } => Source::Tmpfs { size: *size },
            Mounted::Trees { lowers, path, writable } => {
                Source::Trees { lowers: lowers.clone(), path: path.clone(), writable: *writable }
            }
            Mounted::Tree { tree, path, readonly } => {
                Source::Tree { tree: tree.clone(), path: path.clone(), readonly: *readonly }
            }
            Mounted::File { content, access } => Source::File { content: content.clone(), access: *access },
            Mounted::Agent { socket: _, access } => Source::Agent { access: *access },
        };
        GuestMount { target: self.target.clone(), what }
    }
}

impl RunStep {
    /// The agents of the mounts, in order.
    pub(crate) fn agents(&self) -> Vec<PathBuf> {
        let agent = |mount: &Mount| match &mount.what {
            Mounted::Agent { socket, .. } => Some(socket.clone()),
            _ => None,
        };
        self.mounts.iter().filter_map(agent).collect()
    }

    /// The message, and the descriptors of the binds.
    pub(crate) fn split(&self) -> (RunOrder, Vec<BorrowedFd<'_>>) {
        let guest = Guest {
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            hosts: self.hosts.clone(),
            scripts: self.scripts.clone(),
            binds: self
                .binds
                .iter()
                .map(|bind| BindTarget { target: bind.target.clone(), readonly: bind.readonly })
                .collect(),
            mounts: self.mounts.iter().map(Mount::guest).collect(),
            secret_env: self.secret_env.clone(),
            shm_size: self.shm_size,
            ulimits: self.ulimits.clone(),
            no_new_privileges: self.no_new_privileges,
        };
        let order = RunOrder {
            lowers: self.lowers.clone(),
            upper: self.upper.clone(),
            stdio: self.stdio,
            grace_ms: u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX),
            network: self.network,
            watched: false,
            held: self.held.len(),
            guest,
        };
        (order, self.binds.iter().map(|bind| bind.source.as_fd()).collect())
    }
}
