//! The system calls that no safe binding covers, each as one safe function. The only unsafe code of the program.
//!
//! In: descriptors and plain values; out: results. No policy here: who may call what when is said in each function's
//! documentation, and kept by the modules that call it.

#![expect(unsafe_code, reason = "raw system calls; every block says why it is sound")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::thread::UnshareFlags;

use crate::seccomp::Insn;

/// Stack of a child between `clone` and `exec`: it calls a dozen functions with no large locals.
const CHILD_STACK_BYTES: usize = 128 << 10;
/// `pidfd` and friends aside, descriptors below this are kept for the child's own numbers.
const FIRST_FREE_FD: RawFd = 10;
/// What [`spawn`] hands over: 0, 1, 2 and the channel.
pub(crate) const PASSED_FDS: usize = 4;
/// The descriptor under which a started init finds its channel.
pub(crate) const CHANNEL_FD: RawFd = 3;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes over a descriptor that the process was started with. The caller says that nothing else owns it.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks; it fails when the number isn't open.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: fcntl takes integers; a failure is checked.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the number is open (checked above), and the callers are the first code that looks at it, in a fresh process
    // or in a fork in which `put_in_place` has made it anew and its owner of before was let go, so that no other exists.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Leaves the caller's namespaces. Only for processes with a single thread.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: CLONE_FILES, the one flag that breaks I/O safety, is never passed.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags.difference(UnshareFlags::FILES)) }?)
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one, and the child's id.
    Parent(rustix::process::Pid),
}

/// `fork`. Only for processes with a single thread: the child may then run any code.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the documented condition (one thread) is kept by the caller: init, which never starts a thread.
    let pid = check(unsafe { libc::fork() })?;
    Ok(rustix::process::Pid::from_raw(pid).map_or(Forked::Child, Forked::Parent))
}

/// As [`fork`], with the child as the first process of new namespaces.
pub(crate) fn fork_in_namespaces(flags: i32) -> io::Result<Forked> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: clone without CLONE_VM and without a stack behaves as fork: the child has copies of everything. The
    // caller has a single thread, so no lock is left held in the child.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    let pid = i32::try_from(pid).unwrap_or_default();
    Ok(rustix::process::Pid::from_raw(pid).map_or(Forked::Child, Forked::Parent))
}

/// As [`fork_in_namespaces`], with the child as another child of this process's parent.
pub(crate) fn fork_beside(namespaces: i32) -> io::Result<Forked> {
    fork_in_namespaces(namespaces | libc::CLONE_PARENT)
}

/// Makes descriptors this process's 0, 1, 2 and [`CHANNEL_FD`], and closes all others. Whoever owned those must have let
/// go of them; only for processes that are about to begin anew, after a fork.
pub(crate) fn put_in_place(fds: [OwnedFd; PASSED_FDS]) -> io::Result<()> {
    for (target, fd) in (0..).zip(fds) {
        // Received while those were open, all are above them. Letting go of them is what closes them below.
        let fd = std::os::fd::IntoRawFd::into_raw_fd(fd);
        if fd <= CHANNEL_FD {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: dup2 takes integers; the numbers from 0 to CHANNEL_FD have no owner in this process, as the caller says.
        check(unsafe { libc::dup2(fd, target) })?;
    }
    // SAFETY: close_range takes integers; in a process that begins anew nothing uses the descriptors above.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, CHANNEL_FD + 1, u32::MAX, 0) }).map(drop)
}

/// Ends the process at once: no destructors, no flushing. For children after a fork.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and doesn't return.
    unsafe { libc::_exit(code) }
}

struct ChildPlan {
    exe: RawFd,
    fds: [RawFd; PASSED_FDS],
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    errno: i32,
}

/// Runs in the child of [`spawn`], on its own stack but in the parent's memory, until `exec`.
/// Async-signal-safe calls only; no allocation.
extern "C" fn enter_child(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer is the parent's `ChildPlan`; the parent's thread is suspended (CLONE_VFORK) until this
    // function has executed a program or exited, so it's valid and unaliased. All calls take integers or pointers
    // that live in the plan: `argv` and `envp` are null-terminated arrays of C strings.
    unsafe {
        let plan = &mut *plan.cast::<ChildPlan>();
        let mut target: RawFd = 0;
        for fd in plan.fds {
            // The sources are all at least FIRST_FREE_FD, so none is overwritten before it's used.
            if libc::dup2(fd, target) < 0 {
                plan.errno = *libc::__errno_location();
                libc::_exit(127);
            }
            target += 1;
        }
        // Everything else is close-on-exec already; this holds even where a library forgot it.
        libc::syscall(libc::SYS_close_range, target, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::syscall(libc::SYS_execveat, plan.exe, c"".as_ptr(), plan.argv, plan.envp, libc::AT_EMPTY_PATH);
        plan.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// Starts `exe` with an empty environment, exactly the given descriptors as 0, 1, 2 and [`CHANNEL_FD`], and all signals
/// blocked. Works in processes with threads; costs no copy of the memory.
pub(crate) fn spawn(
    exe: BorrowedFd<'_>,
    argv: &[CString],
    fds: [BorrowedFd<'_>; PASSED_FDS],
) -> io::Result<rustix::process::Pid> {
    let mut high = Vec::with_capacity(PASSED_FDS);
    for fd in fds {
        high.push(rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE_FD)?);
    }
    // Out of the way of those numbers, too.
    let exe = rustix::io::fcntl_dupfd_cloexec(exe, FIRST_FREE_FD)?;
    let mut raw = [-1; PASSED_FDS];
    for (slot, fd) in raw.iter_mut().zip(&high) {
        *slot = fd.as_raw_fd();
    }
    let argv: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).chain([ptr::null()]).collect();
    let envp: [*const libc::c_char; 1] = [ptr::null()];
    let mut plan = ChildPlan { exe: exe.as_raw_fd(), fds: raw, argv: argv.as_ptr(), envp: envp.as_ptr(), errno: 0 };
    let mut stack = vec![0_u128; CHILD_STACK_BYTES / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let blocked = block_signals()?;
    // SAFETY: the stack is 16-byte aligned and grows down from its end; it, the plan and what the plan points to
    // outlive the child's use of them, because CLONE_VFORK suspends this thread until the child has executed or
    // exited. Signals are blocked, so no handler runs in the child on shared memory.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        check(libc::clone(enter_child, top, flags, (&raw mut plan).cast()))
    };
    restore_signals(&blocked)?;
    let pid = rustix::process::Pid::from_raw(pid?).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))?;
    // SAFETY: a plain read of our own variable; volatile because the child wrote it behind the compiler's back.
    let errno = unsafe { ptr::read_volatile(&raw const plan.errno) };
    if errno != 0 {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        return Err(io::Error::from_raw_os_error(errno));
    }
    Ok(pid)
}

/// Can an unprivileged user namespace be made and used here? Starts a child in new user and mount namespaces that
/// changes a mount's propagation (which `AppArmor`'s restriction forbids) and ends. Works in processes with threads.
pub(crate) fn try_user_namespace() -> io::Result<()> {
    extern "C" fn probe(_: *mut libc::c_void) -> libc::c_int {
        // SAFETY: mount with a null source, type and data and a constant target; async-signal-safe.
        unsafe {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            if libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) < 0 {
                libc::_exit(*libc::__errno_location());
            }
            libc::_exit(0)
        }
    }
    let mut stack = vec![0_u128; CHILD_STACK_BYTES / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    let blocked = block_signals()?;
    // SAFETY: as in `spawn`; the child touches nothing but its stack.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        check(libc::clone(probe, top, flags, ptr::null_mut()))
    };
    restore_signals(&blocked)?;
    let pid = rustix::process::Pid::from_raw(pid?).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))?;
    let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// The signals that were blocked before.
pub(crate) struct SignalMask(libc::sigset_t);

/// Blocks all signals in this thread.
pub(crate) fn block_signals() -> io::Result<SignalMask> {
    // SAFETY: a zeroed sigset_t is a valid value, and all three calls only read or write the two local sets.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        check(libc::sigfillset(&raw mut all))?;
        let result = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        if result == 0 { Ok(SignalMask(before)) } else { Err(io::Error::from_raw_os_error(result)) }
    }
}

fn restore_signals(mask: &SignalMask) -> io::Result<()> {
    // SAFETY: reads a set that `block_signals` filled in.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask.0, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// No signal blocked, all with their default action: the state in which a command starts.
pub(crate) fn default_signals() -> io::Result<()> {
    /// A kernel `sigaction` of zeros: `SIG_DFL` without flags. No architecture's has more than four words.
    const DEFAULT: [u64; 4] = [0; 4];
    /// Bytes of the kernel's signal set.
    const SET_BYTES: usize = 8;
    // SAFETY: sets actions to SIG_DFL, which runs no code of ours, from a constant that is long enough; numbers that
    // cannot be set are left alone. Not through libc, which keeps two signals for itself (and leaves them ignored in
    // processes that it spawned).
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            let none = ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, SET_BYTES);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        check(libc::sigemptyset(&raw mut none))?;
        restore_signals(&SignalMask(none))
    }
}

/// A descriptor that reads blocked signals.
pub(crate) fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set is filled in before it's read; the new descriptor has no other owner.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        check(libc::sigfillset(&raw mut all))?;
        let fd = check(libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The next signal of a [`signal_fd`], and whether it came from outside the process-id namespace.
pub(crate) fn read_signal(fd: BorrowedFd<'_>) -> io::Result<Option<(i32, bool)>> {
    let mut buffer = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut buffer) {
        Ok(n) if n == buffer.len() => {}
        Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    // SAFETY: the kernel filled the whole structure, all of whose bit patterns are valid; the read is unaligned.
    let info: libc::signalfd_siginfo = unsafe { ptr::read_unaligned(buffer.as_ptr().cast()) };
    Ok(Some((i32::try_from(info.ssi_signo).unwrap_or_default(), info.ssi_pid == 0)))
}

/// Sends a signal to every process that this one may signal, itself and the namespace's first excepted.
pub(crate) fn kill_all(signal: i32) {
    // SAFETY: kill takes integers. Only the first process of a process-id namespace calls this, so -1 means its
    // namespace and nothing else.
    let _ = unsafe { libc::kill(-1, signal) };
}

/// Sends a signal by number to a process (or, negative, a process group).
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes integers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Attributes of a mount: `set` are `MOUNT_ATTR_*` bits to turn on.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    set_attributes(mount, &libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 }, recursive)
}

/// Shows a mount's owners through the map of a user namespace.
pub(crate) fn mount_idmap(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::try_from(namespace.as_raw_fd()).unwrap_or_default();
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    set_attributes(mount, &attributes, false)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure is read only and its true size is passed.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// The machine's name in this namespace.
pub(crate) fn set_hostname(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe the slice.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// An empty session keyring, so that the caller's keys aren't reachable.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; the call takes no other pointer.
    check_long(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<u8>()) }).map(drop)
}

/// Puts a filter on this process for good. Needs `CAP_SYS_ADMIN` in its user namespace, or no new privileges.
pub(crate) fn install_filter(program: &[Insn]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `Insn` has the layout of `sock_filter` (repr(C), same four fields; asserted below); the kernel copies
    // the program and doesn't write to it.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const filter,
        )
    })
    .map(drop)
}

const _: () = assert!(size_of::<Insn>() == size_of::<libc::sock_filter>());

/// Turns on the loopback interface of this network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: a zeroed ifreq is valid; the name fits and is NUL-terminated; both requests read and write an ifreq,
    // of which the flags are the union's active member.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *slot = libc::c_char::from_ne_bytes([*byte]);
        }
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
        request.ifr_ifru.ifru_flags |= up;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)).map(drop)
    }
}

/// Sets close-on-exec on all descriptors from `first` on.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: changes a flag of descriptors; none is closed.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Replaces the process by a program. Returns only the error.
pub(crate) fn execute(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|item| item.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the path and all entries are C strings that live until the call returns, the arrays end in null.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// The effective user, group and supplementary groups of this process. Order matters: groups while still privileged.
pub(crate) fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    // SAFETY: plain integers, and a pointer with its length. The libc functions change all threads; callers have one.
    unsafe {
        if let Some(groups) = groups {
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        }
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid)).map(drop)
    }
}

/// Large blocks of memory go back to the kernel as soon as they are freed.
///
/// By default glibc keeps more and more of them for later, in an arena for each thread: a cold build held half as much
/// again as it used. Other libraries give them back anyway.
pub(crate) fn return_large_blocks() {
    /// Smaller blocks are many, and mapping each would take longer than to keep them.
    #[cfg(target_env = "gnu")]
    const LARGE_BYTES: i32 = 128 << 10;
    // SAFETY: takes plain integers and only sets a parameter of the allocator, for allocations to come.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}
