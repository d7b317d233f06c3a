//! The command's own process: user, directory, limits, capabilities, seccomp, and then the program of the image.
//!
//! In: what the step says and the image's passwd and group files. Out: a running child of init, or why it couldn't be
//! started. Everything is given up in an order in which each step still has the right it needs.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kuz_image::limits;
use kuz_rootfs::accounts::{self, Accounts};
use kuz_rootfs::{GuestPath, Root};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Resource, Rlimit, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::target::Guest as GuestRoot;
use super::{Result, kernel};
use crate::errno::OsError;
use crate::order::InitOrder;
use crate::seccomp;
use crate::step::{Guest, StartError, Ulimit};
use crate::sys::{self, Forked};

/// What root may do in the sandbox: Docker's fourteen.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);
/// Where a command is looked up when the environment has no `PATH`: Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Open files: what programs that still use `select` can take, and what others may ask for.
const OPEN_FILES: (u64, u64) = (1024, 1_048_576);
/// A message of the child about its failure.
const FAILURE_BYTES: usize = 16 << 10;

/// Whom the command runs as.
#[derive(Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    /// `None` where groups may not be set (a single id).
    groups: Option<Vec<u32>>,
    home: Vec<u8>,
}

/// Where a command's input and output go.
#[derive(Debug)]
pub(super) enum Streams {
    /// To init's own 0, 1 and 2.
    Own,
    /// To a terminal.
    Terminal(OwnedFd),
    /// Output and errors to a pipe; the input is init's own.
    Written(OwnedFd),
}

/// Looks the step's user up in the image.
pub(super) fn account(guest: &GuestRoot, order: &InitOrder) -> Result<Account> {
    let spec = &order.guest.user;
    let passwd = account_file(guest.tree(), b"etc/passwd");
    let group = account_file(guest.tree(), b"etc/group");
    let files = Accounts { passwd: passwd.as_deref(), group: group.as_deref() };
    let identity = accounts::identity(spec, files)
        .map_err(|error| StartError::User { user: spec.clone(), reason: error.to_string() })?;
    for id in [identity.uid, identity.gid] {
        if id >= order.ids {
            return Err(StartError::UnmappedUser { user: spec.clone(), id, count: order.ids });
        }
    }
    // Groups that don't exist in the sandbox cannot be joined; their files belong to nobody in it anyway.
    // The group of the user is among its groups: a file that refuses it refuses it in both roles (CVE-2022-36109).
    let groups = std::iter::once(identity.gid).chain(identity.supplementary);
    let groups: Vec<u32> = groups.filter(|&id| id < order.ids).collect();
    let groups = (order.ids > 1).then_some(groups);
    Ok(Account { uid: identity.uid, gid: identity.gid, groups, home: identity.home })
}

/// One of the two files, bounded; `None` where it is missing or is no regular file.
fn account_file(tree: &Root, path: &[u8]) -> Option<Vec<u8>> {
    let limit = u64::try_from(limits::ACCOUNT_FILE_BYTES).unwrap_or(u64::MAX);
    tree.read_small(&GuestPath::new(path).ok()?, limit).ok()
}

/// Forks the command. The root has been entered already.
pub(super) fn start(guest: &Guest, account: &Account, streams: Streams) -> Result<Pid> {
    start_other(&guest.argv, guest, account, streams)
}

/// The same with another command line.
pub(super) fn start_other(argv: &[String], guest: &Guest, account: &Account, streams: Streams) -> Result<Pid> {
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        return Err(StartError::Malformed { what: "the command line is empty".to_owned() });
    };
    let env = environment(guest, account)?;
    let candidates = candidates(program, guest)?;
    let words = strings("argument", argv.iter().map(|arg| arg.as_bytes().to_vec()))?;
    let limits = limits_of(&guest.ulimits)?;
    let filter = seccomp::program();
    let (read, write) = kernel("make a pipe", rustix::pipe::pipe_with(PipeFlags::CLOEXEC))?;
    match kernel("start a process", sys::fork())? {
        Forked::Child => {
            let prepared = prepare(guest, account, &limits, &filter, streams);
            let error = match prepared {
                Ok(()) => execute(program, &candidates, &words, &env),
                Err(error) => error,
            };
            let _ = rustix::io::write(&write, &postcard::to_stdvec(&error).unwrap_or_default());
            sys::exit_now(127)
        }
        Forked::Parent(pid) => {
            drop((write, streams));
            let mut message = vec![0_u8; FAILURE_BYTES];
            let bytes = loop {
                match rustix::io::read(&read, &mut message[..]) {
                    Err(Errno::INTR) => {}
                    other => break kernel("hear from the command", other)?,
                }
            };
            if bytes == 0 {
                return Ok(pid);
            }
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            Err(postcard::from_bytes(message.get(..bytes).unwrap_or_default()).unwrap_or_else(|_| {
                StartError::Malformed { what: "the command's process failed without a reason".to_owned() }
            }))
        }
    }
}

fn strings(what: &str, list: impl Iterator<Item = Vec<u8>>) -> Result<Vec<CString>> {
    list.map(|item| {
        CString::new(item).map_err(|_| StartError::Malformed { what: format!("{what} with a NUL byte in it") })
    })
    .collect()
}

fn environment(guest: &Guest, account: &Account) -> Result<Vec<CString>> {
    let line = |name: &str, value: &[u8]| [name.as_bytes(), b"=", value].concat();
    let hidden = |name: &str| guest.secret_env.iter().any(|(secret, _)| secret == name);
    let given = guest.env.iter().filter(|(name, _)| !hidden(name)).map(|(name, value)| line(name, value.as_bytes()));
    let secret = guest.secret_env.iter().map(|(name, value)| line(name, &value.0));
    let home = (!hidden("HOME") && !guest.env.iter().any(|(name, _)| name == "HOME")).then(|| {
        let home: &[u8] = if account.home.is_empty() { b"/" } else { &account.home };
        line("HOME", home)
    });
    strings("environment variable", given.chain(secret).chain(home))
}

/// The paths to try for a program, in order.
fn candidates(program: &str, guest: &Guest) -> Result<Vec<CString>> {
    if program.contains('/') {
        return strings("command", std::iter::once(program.as_bytes().to_vec()));
    }
    let path = guest.env.iter().rev().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
    let paths = path.split(':').map(|dir| {
        let dir = if dir.is_empty() { "." } else { dir };
        format!("{dir}/{program}").into_bytes()
    });
    strings("PATH", paths)
}

/// Everything before the program; in the child.
fn prepare(
    guest: &Guest,
    account: &Account,
    limits: &[(Resource, Rlimit)],
    filter: &[seccomp::Insn],
    streams: Streams,
) -> Result<()> {
    kernel("start a session", rustix::process::setsid())?;
    match streams {
        Streams::Own => {}
        Streams::Terminal(terminal) => take_terminal(&terminal)?,
        Streams::Written(pipe) => {
            kernel("take the output", rustix::stdio::dup2_stdout(&pipe))?;
            kernel("take the output", rustix::stdio::dup2_stderr(&pipe))?;
        }
    }
    give_streams(account);
    enter_directory(&guest.cwd)?;
    for (resource, limit) in limits {
        kernel("set a limit", rustix::process::setrlimit(*resource, *limit))?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    drop_bounding_set()?;
    kernel("clear the ambient capabilities", rustix::thread::clear_ambient_capability_set())?;
    if guest.no_new_privileges {
        kernel("give up new privileges", rustix::thread::set_no_new_privs(true))?;
    }
    kernel("install the seccomp filter", sys::install_filter(filter))?;
    kernel("change the user", sys::become_user(account.uid, account.gid, account.groups.as_deref()))?;
    let sets = if account.uid == 0 { CAPABILITIES } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: sets, permitted: sets, inheritable: CapabilitySet::empty() };
    kernel("give up capabilities", rustix::thread::set_capabilities(None, sets))?;
    kernel("reset the signals", sys::default_signals())?;
    kernel("close descriptors", sys::close_on_exec_from(3))
}

fn take_terminal(terminal: &OwnedFd) -> Result<()> {
    let action = "take the terminal";
    kernel(action, rustix::process::ioctl_tiocsctty(terminal))?;
    kernel(action, rustix::stdio::dup2_stdin(terminal))?;
    kernel(action, rustix::stdio::dup2_stdout(terminal))?;
    kernel(action, rustix::stdio::dup2_stderr(terminal))
}

/// `/dev/stdout` and its kin can be opened only by the owner of what is behind them. Pipes and terminals that were made
/// for this command are given to its user; others refuse, which is right.
fn give_streams(account: &Account) {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        give_stream(stream, account);
    }
}

fn give_stream(stream: BorrowedFd<'_>, account: &Account) {
    let Ok(stat) = rustix::fs::fstat(stream) else { return };
    let own_terminal = rustix::fs::major(stat.st_rdev) == UNIX98_SLAVE && stat.st_uid == 0;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo || own_terminal {
        let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(account.uid)), None::<Gid>);
    }
}

/// The major number of the slaves of a devpts.
const UNIX98_SLAVE: u32 = 136;

fn enter_directory(path: &str) -> Result<()> {
    let shown = || path.escape_debug().to_string();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = kernel("open the root", rustix::fs::openat(CWD, "/", flags, Mode::empty()))?;
    let directory = match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Err(StartError::NoCwd { path: shown() }),
        Err(Errno::LOOP) => return Err(StartError::CwdOutside { path: shown() }),
        Err(errno) => return Err(StartError::Cwd { path: shown(), source: errno.into() }),
    };
    let failed = |errno: Errno| StartError::Cwd { path: shown(), source: errno.into() };
    rustix::process::fchdir(directory.as_fd()).map_err(failed)?;
    // A directory outside the root would read as "(unreachable)/…".
    match rustix::process::getcwd(Vec::new()) {
        Ok(at) if at.to_bytes().first() == Some(&b'/') => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(StartError::CwdOutside { path: shown() }),
        Err(errno) => Err(failed(errno)),
    }
}

fn drop_bounding_set() -> Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if CAPABILITIES.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return kernel("limit the capabilities", Err(errno)),
        }
    }
    Ok(())
}

/// The limits of every command, then the step's own.
fn limits_of(extra: &[Ulimit]) -> Result<Vec<(Resource, Rlimit)>> {
    let allowed = rustix::process::getrlimit(Resource::Nofile).maximum;
    let hard = allowed.map_or(OPEN_FILES.1, |allowed| allowed.min(OPEN_FILES.1));
    let files = Rlimit { current: Some(OPEN_FILES.0.min(hard)), maximum: Some(hard) };
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let mut limits = vec![(Resource::Core, none), (Resource::Nofile, files)];
    for limit in extra {
        let resource = resource(&limit.name).ok_or_else(|| StartError::UnknownLimit { name: limit.name.clone() })?;
        limits.push((resource, Rlimit { current: limit.soft, maximum: limit.hard }));
    }
    Ok(limits)
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Tries the candidates as a shell would; returns only the error.
fn execute(program: &str, candidates: &[CString], argv: &[CString], env: &[CString]) -> StartError {
    let program = program.escape_debug().to_string();
    let mut denied = None;
    for path in candidates {
        let error = OsError::from(sys::execute(path, argv, env));
        match error.0 {
            // Also the answer when the file is there and its interpreter isn't.
            libc::ENOENT if exists(path) => return StartError::Execute { program, source: error },
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => denied = Some(error),
            _ => return StartError::Execute { program, source: error },
        }
    }
    match denied {
        Some(source) => StartError::Execute { program, source },
        None => StartError::NotFound { program },
    }
}

fn exists(path: &CStr) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}
