//! The main process's side of the sandbox: a [`Worker`] that owns all work on trees.
//!
//! In: blobs, names of trees, steps to run. Out: layers, indexes, exit statuses. The worker is a process in a user
//! namespace; requests go to it over sockets, may run at the same time, and end with it. The main process touches no
//! file of a tree itself.

mod agent;
mod cancel;
mod client_run;
mod copied;
mod given;
mod inside;
mod launch;
mod server;
mod spawner;
mod start;
mod stubs;
mod terminal;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;

use kuz_image::compress::Compression;
use kuz_image::{IndexEntry, LayerIndex, Scanned};
use kuz_rootfs::read::TreeFile;

pub use cancel::{Cancel, Source, Trigger};
pub use inside::{Executed, Inside, InsideError, Watched, watched};
pub(crate) use server::main as worker_main;
pub use start::Options;
pub(crate) use start::WORKER;

use crate::errno::OsError;
use crate::ids::Ids;
use crate::isolation::Isolation;
use crate::order::{Applied, Control, Failure, Reply, Request};
use crate::protocol::{Channel, ProtocolError};
use crate::step::{Access, StartError};

/// Why the sandbox could not do something.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the message says and the kernel's answer")]
pub enum SandboxError {
    /// The program could not be started again.
    #[error("start the worker")]
    Spawn(#[source] std::io::Error),
    /// No user namespaces here.
    #[error("make a user namespace")]
    NoNamespaces { source: OsError },
    /// The kernel refused the id map.
    #[error("write `{what}` of the worker")]
    Map { what: String, source: OsError },
    /// `newuidmap` or `newgidmap` refused it.
    #[error("`{name}` failed: {message}")]
    Helper { name: String, message: String },
    /// A bug of ours that must not become a hole.
    #[error("refusing to map this machine's root into a sandbox")]
    RootInMap,
    /// The trees directory could not be given to the mapped root.
    #[error("give the trees to root of the sandbox")]
    OwnTrees { source: std::io::Error },
    /// The socket to the worker failed.
    #[error("talk to the worker")]
    Protocol(#[from] ProtocolError),
    /// The worker ended, or answered something else than it was asked.
    #[error("the worker has gone")]
    Gone,
    /// The worker could not do it.
    #[error("work on trees")]
    Worker(#[source] Failure),
    /// The command could not be started.
    #[error("start the command")]
    NotStarted(#[source] StartError),
    /// Cancelled before it started.
    #[error("cancelled")]
    Cancelled,
    /// The command's output could not be read.
    #[error("read the command's output")]
    Output { source: std::io::Error },
    /// The caller's terminal.
    #[error("prepare the terminal")]
    Terminal { source: std::io::Error },
}

/// A process that works on trees and runs commands in them.
#[derive(Debug)]
pub struct Worker {
    /// `None` only while it's being dropped.
    control: Option<Channel>,
    child: Child,
    isolation: Isolation,
    ids: Ids,
    namespace: Option<OwnedFd>,
}

impl Worker {
    /// Starts a worker. `trees` is a directory for trees alone; started as root, it is given to the mapped root.
    pub fn start(ids: &Ids, trees: OwnedFd, options: &Options) -> Result<Self, SandboxError> {
        let start::Started { control, child, isolation, namespace } = start::start(ids, trees, options)?;
        Ok(Self { control: Some(control), child, isolation, ids: *ids, namespace })
    }

    /// How well its commands are shut in.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// The ids behind its commands' ids.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Unpacks a layer's blob into a new tree. A tree that could not be completed is removed.
    pub fn apply(&self, blob: &File, compression: Compression, tree: &str) -> Result<Applied, SandboxError> {
        let request = Request::Apply { compression, tree: tree.to_owned() };
        match self.ask(&request, &[blob.as_fd()])? {
            Reply::Applied(applied) => Ok(applied),
            other => Err(unexpected(other)),
        }
    }

    /// Gives implied directories ([`Applied::implied`]) the attributes that they have in the layers below.
    pub fn settle(&self, tree: &str, directories: &[(Vec<u8>, IndexEntry)]) -> Result<(), SandboxError> {
        self.ask_done(&Request::Settle { tree: tree.to_owned(), directories: directories.to_vec() }, &[])
    }

    /// Writes the layer of a tree; times are cut to `epoch`, if any.
    pub fn pack(&self, tree: &str, out: &File, epoch: Option<i64>) -> Result<Scanned, SandboxError> {
        match self.ask(&Request::Pack { tree: tree.to_owned(), epoch }, &[out.as_fd()])? {
            Reply::Scanned(scanned) => Ok(scanned),
            other => Err(unexpected(other)),
        }
    }

    /// The index that the layer of a tree would have.
    pub fn index(&self, tree: &str) -> Result<LayerIndex, SandboxError> {
        match self.ask(&Request::Index { tree: tree.to_owned() }, &[])? {
            Reply::Index(index) => Ok(index),
            other => Err(unexpected(other)),
        }
    }

    /// The digests of files (kind, link target, attributes and bytes), in this order.
    pub fn digests(&self, files: &[TreeFile]) -> Result<Vec<[u8; 32]>, SandboxError> {
        match self.ask(&Request::Digests { files: files.to_vec() }, &[])? {
            Reply::Digests(digests) if digests.len() == files.len() => Ok(digests),
            other => Err(unexpected(other)),
        }
    }

    /// Writes a tar of files in this order; their names in it are their numbers, from 0. To be read from another thread
    /// when `out` is a pipe.
    pub fn export(&self, files: &[TreeFile], out: &OwnedFd) -> Result<(), SandboxError> {
        self.ask_done(&Request::Export { files: files.to_vec() }, &[out.as_fd()])
    }

    /// Removes trees; one that isn't there is no error.
    pub fn remove(&self, names: &[String]) -> Result<(), SandboxError> {
        self.ask_done(&Request::Remove { names: names.to_vec() }, &[])
    }

    /// Makes a tree that commands write to. With `seed`, what these trees show is copied into it.
    pub fn make_cache(&self, tree: &str, access: Access, seed: &[String]) -> Result<(), SandboxError> {
        self.ask_done(&Request::MakeCache { tree: tree.to_owned(), access, seed: seed.to_vec() }, &[])
    }

    /// Entries and bytes of trees, in this order.
    pub fn measure(&self, trees: &[String]) -> Result<Vec<(u64, u64)>, SandboxError> {
        match self.ask(&Request::Measure { trees: trees.to_vec() }, &[])? {
            Reply::Measured(sizes) if sizes.len() == trees.len() => Ok(sizes),
            other => Err(unexpected(other)),
        }
    }

    fn ask_done(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        match self.ask(request, fds)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Reply, SandboxError> {
        let channel = self.open()?;
        channel.send(request, fds)?;
        channel.recv()?.map(|(reply, _)| reply).ok_or(SandboxError::Gone)
    }

    /// A channel for one request.
    fn open(&self) -> Result<Channel, SandboxError> {
        let (ours, theirs) = Channel::pair()?;
        self.control.as_ref().ok_or(SandboxError::Gone)?.send(&Control::Open, &[theirs.as_fd()])?;
        Ok(ours)
    }
}

impl Drop for Worker {
    /// Ends the worker and everything that it runs.
    fn drop(&mut self) {
        // It ends when it reads the end of the control channel.
        self.control = None;
        let _ = self.child.wait();
    }
}

fn unexpected(reply: Reply) -> SandboxError {
    match reply {
        Reply::Failed(failure) => SandboxError::Worker(failure),
        Reply::NotStarted(error) => SandboxError::NotStarted(error),
        _ => SandboxError::Gone,
    }
}
