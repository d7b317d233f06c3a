//! `kuz` as the first process of a sandbox: mounts the root, enters it, starts the command, waits for everything.
//!
//! In: an [`InitOrder`] over the channel it was started with. Out: [`Report`]s over the same. Single-threaded; prints
//! nothing; keeps no descriptor of the machine but the channel once the command runs. It never executes or loads anything of
//! the image itself: that is the command's process.
//!
//! ```text
//! spawner ── clone(pid, mount, ipc, uts, cgroup [, net]) ──► init (1) ── fork ──► command ──► whatever it starts
//!                                                             ├ reaps all of them; kills what is left when the command ends
//!                                                             └ if the command is watched: sockets and other commands, on request
//! ```

mod ask;
mod command;
mod devices;
mod files;
mod given;
mod mounts;
mod reap;
mod root;
pub(crate) mod spawner;
mod target;

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, Signal};

use self::ask::Asked;
use self::command::Streams;
use crate::errno::OsError;
use crate::order::{InitOrder, Report};
use crate::protocol::Channel;
use crate::step::{Exit, Network, StartError};
use crate::sys;

/// How much likelier than the caller the commands of an image are to be killed when memory runs out (0 to 1000).
const OOM_SCORE: i32 = 100;

/// The directory below the step's own where its files in memory are mounted.
pub(crate) const MEMORY: &str = "k";
/// The directories below the step's own for a mount of trees: its place, and what is written to it.
pub(crate) const TREES_AT: [&str; 3] = ["p", "u", "x"];

type Result<T> = std::result::Result<T, StartError>;

/// Names the action that the kernel refused.
fn kernel<T, E: Into<OsError>>(action: &str, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| StartError::Kernel { action: action.to_owned(), source: error.into() })
}

/// The whole life of an init. Returns its exit status, which only says whether it could do its work.
pub(crate) fn main() -> i32 {
    let Ok(channel) = sys::take_inherited(sys::CHANNEL_FD).map(Channel::from) else { return 2 };
    // First of all: without the worker there is nobody to answer to. Should it be gone already, the channel says so.
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return 2;
    }
    raise_oom_score();
    // Nobody inside may look into this process or its descriptors.
    if rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        return 2;
    }
    let Ok(Some((order, fds))) = channel.recv::<InitOrder>() else { return 2 };
    let report = match live(&channel, &order, fds) {
        Ok(exit) => Report::Exited(exit),
        Err(error) => Report::NotStarted(error),
    };
    i32::from(channel.send(&report, &[]).is_err())
}

fn live(channel: &Channel, order: &InitOrder, fds: Vec<OwnedFd>) -> Result<Exit> {
    kernel("block signals", sys::block_signals())?;
    // What is made here has exactly the modes that it's made with; the command gets its own mask.
    rustix::process::umask(rustix::fs::Mode::empty());
    // Not fatal: where the call is refused (in some containers), the keyring stays the worker's, which has no keys either.
    let _ = sys::new_session_keyring();
    if order.network == Network::None {
        kernel("turn on the loopback interface", sys::loopback_up())?;
        free_ports();
    }
    let hostname = order.guest.hostname.as_bytes();
    kernel("set the host name", sys::set_hostname(hostname))?;
    let mut guest = root::mount(order)?;
    let terminal = mounts::fill(&mut guest, order, fds)?;
    let listeners = given::mount(&mut guest, order)?;
    if !listeners.is_empty() {
        let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        let sent = channel.send(&Report::Agents, &fds);
        sent.map_err(|_| StartError::Malformed { what: "the worker has gone".to_owned() })?;
    }
    drop(listeners);
    let account = command::account(&guest, order)?;
    if send_mounted(channel, guest.stubs()).is_err() {
        return Err(StartError::Malformed { what: "the worker has gone".to_owned() });
    }
    root::enter(guest)?;
    if let Some(terminal) = &terminal {
        let sent = channel.send(&Report::Terminal, &[terminal.master.as_fd()]);
        sent.map_err(|_| StartError::Malformed { what: "the worker has gone".to_owned() })?;
    }
    let streams = terminal.map_or(Streams::Own, |terminal| Streams::Terminal(terminal.slave));
    let child = command::start(&order.guest, &account, streams)?;
    let asked = order.watched.then(|| Asked::new(channel, order, &account, child));
    reap::until_end(child, asked)
}

/// In a network of its own every port is everybody's, as in Docker's containers. Not fatal: where it cannot be said, a
/// server that is not root cannot have the ports below 1024.
fn free_ports() {
    use rustix::fs::{Mode, OFlags};
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    if let Ok(file) = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
}

fn send_mounted(channel: &Channel, stubs: Vec<crate::order::Stub>) -> std::result::Result<(), ()> {
    channel.send(&Report::Mounted(stubs), &[]).map_err(drop)
}

/// Only ever up; a machine that doesn't let us is no reason to stop.
fn raise_oom_score() {
    use rustix::fs::{Mode, OFlags};
    let Ok(file) = rustix::fs::open("/proc/self/oom_score_adj", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    let mut text = [0_u8; 16];
    let read = rustix::io::read(&file, &mut text).unwrap_or(0);
    let now: i32 = std::str::from_utf8(text.get(..read).unwrap_or_default())
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let raised = (now + OOM_SCORE).min(1000);
    let _ = rustix::io::pwrite(&file, raised.to_string().as_bytes(), 0);
}
