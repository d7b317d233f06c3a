//! Starting the worker: a process of the same program in a user namespace of its own, with its id map written from here.
//!
//! In: ids and the trees directory. Out: a channel to a worker that is ready, and what it found it can do.
//!
//! ```text
//! main: spawn ───────► worker: unshare(user, mount)
//!       write the maps ◄─ Unshared
//!       Mapped ────────► become root, probe
//!                     ◄─ Ready(isolation)
//! ```

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::SandboxError;
use crate::errno::OsError;
use crate::ids::{Extent, Ids, helper};
use crate::isolation::Isolation;
use crate::order::{Control, Hello};
use crate::protocol::Channel;

/// The first argument of a worker.
pub(crate) const WORKER: &str = "kuz-sandbox-worker";
/// What `newuidmap` may say when it fails.
const HELPER_MESSAGE_BYTES: usize = 4096;

/// How to start a worker.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The program to start again; it must call [`crate::main_if_reexec`] first of all. The running one by default.
    pub exe: Option<PathBuf>,
    /// Copy trees even if they could be overlaid.
    pub force_copy: bool,
    /// The name of the worker's own directory beside the trees, a random one by default. The worker makes it and removes
    /// it; all that a killed worker leaves is in there and in the trees of unfinished steps.
    pub own: Option<String>,
}

pub(super) struct Started {
    pub(super) control: Channel,
    pub(super) child: Child,
    pub(super) isolation: Isolation,
    /// The worker's user namespace, where we may look at it.
    pub(super) namespace: Option<OwnedFd>,
}

pub(super) fn start(ids: &Ids, trees: OwnedFd, options: &Options) -> Result<Started, SandboxError> {
    own_trees(ids, &trees)?;
    let (control, theirs) = Channel::pair()?;
    let exe = options.exe.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    // The two descriptors travel as standard input and output: nothing is ever inheritable in this process, so no
    // other child started meanwhile can catch them.
    let child = Command::new(exe)
        .arg(WORKER)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(trees))
        .spawn()
        .map_err(SandboxError::Spawn)?;
    let mut started = Started { control, child, isolation: Isolation::None, namespace: None };
    match handshake(ids, &mut started, options) {
        Ok(()) => Ok(started),
        Err(error) => {
            let _ = started.child.kill();
            let _ = started.child.wait();
            Err(error)
        }
    }
}

fn handshake(ids: &Ids, started: &mut Started, options: &Options) -> Result<(), SandboxError> {
    match hello(&started.control)? {
        Hello::Unshared => {}
        other => return Err(unexpected(other)),
    }
    let pid = started.child.id();
    write_maps(ids, pid)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    started.namespace = rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty()).ok();
    let mapped = Control::Mapped { count: ids.count(), force_copy: options.force_copy, own: options.own.clone() };
    started.control.send(&mapped, &[])?;
    match hello(&started.control)? {
        Hello::Ready(isolation) => started.isolation = isolation,
        other => return Err(unexpected(other)),
    }
    Ok(())
}

fn hello(control: &Channel) -> Result<Hello, SandboxError> {
    control.recv()?.map(|(hello, _)| hello).ok_or(SandboxError::Gone)
}

fn unexpected(hello: Hello) -> SandboxError {
    match hello {
        Hello::NoNamespaces(source) => SandboxError::NoNamespaces { source },
        Hello::Failed(failure) => SandboxError::Worker(failure),
        Hello::Unshared | Hello::Ready(_) => SandboxError::Gone,
    }
}

/// Started as root, the trees belong to the range that is root inside.
fn own_trees(ids: &Ids, trees: &OwnedFd) -> Result<(), SandboxError> {
    let Ids::Range { first, .. } = *ids else { return Ok(()) };
    let failed = |errno: rustix::io::Errno| SandboxError::OwnTrees { source: errno.into() };
    let stat = rustix::fs::fstat(trees).map_err(failed)?;
    if (stat.st_uid, stat.st_gid) == (first, first) {
        return Ok(());
    }
    rustix::fs::fchown(trees, Some(Uid::from_raw(first)), Some(Gid::from_raw(first))).map_err(failed)?;
    rustix::fs::fchmod(trees, Mode::from_raw_mode(0o700)).map_err(failed)
}

fn write_maps(ids: &Ids, pid: u32) -> Result<(), SandboxError> {
    let (uids, gids) = (ids.uid_map(), ids.gid_map());
    // Whatever chose the ids: the machine's root is never in a map.
    if uids.iter().chain(&gids).any(|&(_, host, count)| host == 0 || count == 0) {
        return Err(SandboxError::RootInMap);
    }
    match ids {
        Ids::Range { .. } => {
            write_file(pid, "uid_map", &map_text(&uids))?;
            write_file(pid, "gid_map", &map_text(&gids))
        }
        Ids::Single { .. } => {
            // The kernel wants this before an ordinary user may map a group: nobody drops a group to get around it.
            write_file(pid, "setgroups", "deny")?;
            write_file(pid, "uid_map", &map_text(&uids))?;
            write_file(pid, "gid_map", &map_text(&gids))
        }
        Ids::Subordinate { .. } => {
            run_helper("newuidmap", pid, &uids)?;
            run_helper("newgidmap", pid, &gids)
        }
    }
}

fn map_text(map: &[Extent]) -> String {
    map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}")).collect::<Vec<_>>().join("\n")
}

fn write_file(pid: u32, name: &str, text: &str) -> Result<(), SandboxError> {
    let failed = |errno: rustix::io::Errno| SandboxError::Map { what: name.to_owned(), source: OsError::from(errno) };
    let path = format!("/proc/{pid}/{name}");
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    rustix::io::write(&file, text.as_bytes()).map_err(failed).map(drop)
}

fn run_helper(name: &str, pid: u32, map: &[Extent]) -> Result<(), SandboxError> {
    let path = helper(name)
        .ok_or_else(|| SandboxError::Helper { name: name.to_owned(), message: "it is not installed".to_owned() })?;
    let numbers = map.iter().flat_map(|&(inside, outside, count)| [inside, outside, count]);
    let output = Command::new(path)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(SandboxError::Spawn)?;
    if output.status.success() {
        return Ok(());
    }
    let said = output.stderr.get(..HELPER_MESSAGE_BYTES).unwrap_or(&output.stderr);
    let message = String::from_utf8_lossy(said).trim().escape_debug().to_string();
    Err(SandboxError::Helper { name: name.to_owned(), message })
}
