//! One RUN in the worker: the directories, the init, the conversation with it, and the clean-up.
//!
//! In: an order and descriptors. Out: how the command ended, and a tree with its changes and nothing of ours. Each RUN has
//! a thread, which waits here until no process of the command is left.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use kuz_rootfs::Root;
use kuz_rootfs::remove::remove_tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitOptions};

use super::server::{STUB_LAYER, Shared, checked, failed, tree};
use super::{copied, given, stubs};
use crate::init::MEMORY;
use crate::order::{Failure, InitOrder, Poke, Reply, Report, RootSource, Stub};
use crate::protocol::Channel;
use crate::step::{Exit, Network, RunOrder, StartError, Stdio};
use crate::sys;

/// What every command has of its own.
pub(super) const NAMESPACES: i32 =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

/// How a command's life went.
enum End {
    Exited(Exit),
    NotStarted(StartError),
    /// Init ended without a word: it was killed, by us or for lack of memory.
    Killed,
}

/// Runs an order to its end.
pub(super) fn run(
    shared: &Shared,
    channel: &Channel,
    order: RunOrder,
    detached: bool,
    fds: Vec<OwnedFd>,
) -> Result<Reply, Failure> {
    let upper = checked(&order.upper)?.to_owned();
    for lower in &order.lowers {
        checked(lower)?;
    }
    let own = tree(shared, &shared.own)?;
    let done = run_in(shared, channel, order, detached, fds, &own);
    let cleaned = remove_tree(&own, upper.as_bytes());
    match done {
        Ok(Reply::Exited(exit)) => {
            cleaned.map_err(|error| Failure::of(&error))?;
            Ok(Reply::Exited(exit))
        }
        other => {
            let _ = remove_tree(&shared.trees, upper.as_bytes());
            other
        }
    }
}

fn run_in(
    shared: &Shared,
    channel: &Channel,
    order: RunOrder,
    detached: bool,
    fds: Vec<OwnedFd>,
    own: &Root,
) -> Result<Reply, Failure> {
    // Named like the tree that is being made; seen from the trees directory.
    let work = format!("{}/{}", shared.own, order.upper);
    let work_root = make_directories(shared, &order, own)?;
    let copied =
        if shared.isolation.overlay() { None } else { Some(copied::fill(shared, &order.lowers, &work_root, &work)?) };
    let root = match &copied {
        Some(copied) => RootSource::Directory(copied.path.clone()),
        None => RootSource::Overlay {
            lowers: layers(shared, &order.lowers),
            upper: order.upper.clone(),
            work: format!("{work}/w"),
        },
    };
    let mut binds = fds;
    let mut held = binds.split_off(order.guest.binds.len().min(binds.len()));
    let given = held.split_off(order.held.min(held.len()));
    let streams = streams(channel, order.stdio, given)?;
    let mut guest = order.guest;
    given::prepare(shared, &mut guest.mounts, &work_root, &work)?;
    let init = InitOrder {
        root,
        work,
        fresh_proc: shared.isolation.fresh_proc(),
        network: order.network,
        ids: shared.ids,
        terminal: order.stdio == Stdio::Terminal,
        watched: order.watched,
        detached,
        resolv_conf: resolv_conf(order.network),
        guest,
    };
    let grace = Duration::from_millis(order.grace_ms);
    let (end, stubs) = live(shared, channel, &init, streams, &binds, grace)?;
    // Nobody uses any more what these stand for.
    drop(held);
    match end {
        End::Exited(exit) => {
            let changed = copied.as_ref().map_or(&order.upper, |copied| &copied.path);
            stubs::remove(shared, changed, &order.lowers, &stubs, copied.is_none())
                .map_err(|errno| failed("remove the mount points", errno))?;
            if let Some(copied) = &copied {
                copied.take_changes(shared, &order.upper)?;
            }
            Ok(Reply::Exited(exit))
        }
        End::NotStarted(error) => Ok(Reply::NotStarted(error)),
        // Changes of a command that was killed outright are nobody's; its exit says so.
        End::Killed => Ok(Reply::Exited(Exit::Signal(libc::SIGKILL))),
    }
}

/// The lower layers from the bottom up, on top of the mount points.
fn layers(shared: &Shared, lowers: &[String]) -> Vec<String> {
    std::iter::once(format!("{}/{STUB_LAYER}", shared.own)).chain(each_once(lowers)).collect()
}

/// Images may have a layer twice (an empty one, often), and overlayfs takes a directory once only. What a layer shows and
/// hides, its highest occurrence shows and hides by itself.
pub(super) fn each_once(lowers: &[String]) -> impl Iterator<Item = String> {
    let last = |at: usize, name: &String| lowers.get(at + 1..).is_none_or(|above| !above.contains(name));
    lowers.iter().enumerate().filter(move |(at, name)| last(*at, name)).map(|(_, name)| name.clone())
}

/// The tree of the changes, and the work directory with its parts; the latter is returned.
fn make_directories(shared: &Shared, order: &RunOrder, own: &Root) -> Result<Root, Failure> {
    let mkdir = |at: BorrowedFd<'_>, name: &str, mode: u32| {
        rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode))
            .map_err(|errno| failed(&format!("make directory `{name}`"), errno))
    };
    mkdir(shared.trees.fd(), &order.upper, 0o755)?;
    // The root directory of the overlay is the upper's: it continues the one below.
    if let Some(top) = order.lowers.last() {
        let stat = rustix::fs::fstat(tree(shared, top)?.fd()).map_err(|errno| failed("look at a tree", errno))?;
        let upper = tree(shared, &order.upper)?;
        like(&upper, &stat).map_err(|errno| failed("make the root directory", errno))?;
    }
    mkdir(own.fd(), &order.upper, 0o700)?;
    let work = own.child(order.upper.as_bytes()).map_err(|error| failed("open the work directory", error))?;
    for name in ["w", "m", "s", MEMORY] {
        mkdir(work.fd(), name, 0o700)?;
    }
    Ok(work)
}

pub(super) fn like(upper: &Root, stat: &rustix::fs::Stat) -> Result<(), Errno> {
    use rustix::fs::{Gid, Uid};
    rustix::fs::fchown(upper.fd(), Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(upper.fd(), Mode::from_raw_mode(stat.st_mode))
}

/// The command's 0, 1 and 2.
fn streams(channel: &Channel, stdio: Stdio, given: Vec<OwnedFd>) -> Result<[OwnedFd; 3], Failure> {
    let null = || {
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("open /dev/null", errno))
    };
    let missing = || Failure::plain("a standard stream is missing");
    let mut given = given.into_iter();
    match stdio {
        Stdio::Inherit => match (given.next(), given.next(), given.next()) {
            (Some(input), Some(output), Some(error)) => Ok([input, output, error]),
            _ => Err(missing()),
        },
        // Replaced by the terminal in the command's process.
        Stdio::Terminal => Ok([null()?, null()?, null()?]),
        Stdio::Captured | Stdio::Relayed => {
            let input = if stdio == Stdio::Captured { null()? } else { given.next().ok_or_else(missing)? };
            // Made here and not by the caller: the command may open /dev/stdout only if its root owns the pipe.
            let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("make a pipe", errno));
            let ((out_read, out), (err_read, err)) = (pipe()?, pipe()?);
            channel.send(&Reply::Output, &[out_read.as_fd(), err_read.as_fd()]).map_err(|error| Failure::of(&error))?;
            Ok([input, out, err])
        }
    }
}

/// The machine's name servers, where they can be reached.
fn resolv_conf(network: Network) -> Vec<u8> {
    match network {
        Network::Host => crate::ids::read_small("/etc/resolv.conf").into_bytes(),
        Network::None => Vec::new(),
    }
}

/// Starts init and talks to it until nothing of it is left.
fn live(
    shared: &Shared,
    channel: &Channel,
    order: &InitOrder,
    streams: [OwnedFd; 3],
    binds: &[OwnedFd],
    grace: Duration,
) -> Result<(End, Vec<Stub>), Failure> {
    let (ours, theirs) = Channel::pair().map_err(|error| Failure::of(&error))?;
    let mut namespaces = NAMESPACES;
    if order.network == Network::None {
        namespaces |= libc::CLONE_NEWNET;
    }
    let [input, output, error] = &streams;
    let fds = [input.as_fd(), output.as_fd(), error.as_fd(), theirs.as_fd()];
    let pid = shared.spawner.spawn(namespaces, fds)?;
    // Only the command holds the pipes now, so that their end is its end.
    drop((streams, theirs));
    let binds: Vec<BorrowedFd<'_>> = binds.iter().map(OwnedFd::as_fd).collect();
    let sent = ours.send(order, &binds);
    let mut watch = Watch { main: channel, init: &ours, pid, grace, deadline: None, end: None, stubs: Vec::new() };
    if sent.is_err() {
        watch.kill();
    }
    watch.until_silent();
    let end = watch.end.take().unwrap_or(End::Killed);
    let stubs = std::mem::take(&mut watch.stubs);
    // Its end is the end of everything in its process-id namespace.
    while let Err(Errno::INTR) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {}
    Ok((end, stubs))
}

/// A command being watched.
struct Watch<'a> {
    main: &'a Channel,
    init: &'a Channel,
    pid: Pid,
    grace: Duration,
    /// When a cancelled command is killed.
    deadline: Option<Instant>,
    end: Option<End>,
    stubs: Vec<Stub>,
}

impl Watch<'_> {
    fn kill(&self) {
        let _ = sys::kill(self.pid.as_raw_nonzero().get(), libc::SIGKILL);
    }

    /// Until init closes its channel, which it does only by ending.
    fn until_silent(&mut self) {
        let mut main_open = true;
        loop {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                self.kill();
                self.deadline = None;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = vec![PollFd::new(self.init, PollFlags::IN)];
            if main_open {
                fds.push(PollFd::new(self.main, PollFlags::IN));
            }
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => self.kill(),
            }
            let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let (from_init, from_main) = (ready(0), ready(1));
            if from_main && !self.hear_main() {
                main_open = false;
                self.kill();
            }
            if from_init && !self.hear_init() {
                return;
            }
        }
    }

    /// `false` when there is nobody to run the command for any more.
    fn hear_main(&mut self) -> bool {
        match self.main.recv::<Poke>() {
            Ok(Some((Poke::Signal(number), _))) => {
                let _ = sys::kill(self.pid.as_raw_nonzero().get(), number);
            }
            Ok(Some((Poke::Cancel, _))) if self.deadline.is_some() => self.kill(),
            Ok(Some((Poke::Cancel, _))) => {
                let _ = sys::kill(self.pid.as_raw_nonzero().get(), libc::SIGTERM);
                // A grace beyond all time is as good as none.
                self.deadline = Instant::now().checked_add(self.grace);
            }
            Ok(Some((Poke::Kill, _))) => self.kill(),
            // One that has just ended doesn't hear it; its end is the answer.
            Ok(Some((Poke::Ask(ask), _))) => drop(self.init.send(&ask, &[])),
            Ok(None) | Err(_) => return false,
        }
        true
    }

    fn pass_on(&self, reply: &Reply, fds: &[OwnedFd]) {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
        if self.main.send(reply, &fds).is_err() {
            self.kill();
        }
    }

    /// `false` when init has ended.
    fn hear_init(&mut self) -> bool {
        match self.init.recv::<Report>() {
            Ok(Some((Report::Mounted(stubs), _))) => self.stubs = stubs,
            Ok(Some((Report::Agents, fds))) => self.pass_on(&Reply::Agents, &fds),
            Ok(Some((Report::Terminal, fds))) => self.pass_on(&Reply::Terminal, &fds),
            Ok(Some((Report::Answer(answer), fds))) => self.pass_on(&Reply::Answer(answer), &fds),
            Ok(Some((Report::NotStarted(error), _))) => self.end = Some(End::NotStarted(error)),
            Ok(Some((Report::Exited(exit), _))) => self.end = Some(End::Exited(exit)),
            Ok(None) => return false,
            Err(_) => {
                self.kill();
                return false;
            }
        }
        true
    }
}
