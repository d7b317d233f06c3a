//! The worker's own process: becomes root of a user namespace, finds out what it can do there, then serves requests.
//!
//! In: a control channel as standard input, the trees directory as standard output. Out: one reply for each request. Ends,
//! and with it everything that it runs, when the control channel ends: however the main process dies.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use kuz_image::compress;
use kuz_image::digest::{Algorithm, HashReader};
use kuz_image::tar::{Header, Kind, TarWriter};
use kuz_image::{DiffId, Scanned};
use kuz_rootfs::apply::{Ownership, apply, settle_implied};
use kuz_rootfs::measure::measure;
use kuz_rootfs::read::{Files, TreeFile};
use kuz_rootfs::remove::remove_tree;
use kuz_rootfs::{GuestPath, Root, pack};
use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

use super::spawner::Spawner;
use super::{given, launch};
use crate::errno::OsError;
use crate::isolation::Isolation;
use crate::order::{Applied, Control, Failure, Hello, Reply, Request};
use crate::protocol::Channel;
use crate::sys::{self, Forked};

/// Descriptors that this process keeps are above the ones that children get.
const KEPT_FD: i32 = 10;
/// The largest program that is copied into memory.
const EXE_BYTES: usize = 1 << 30;

/// What all requests share.
pub(super) struct Shared {
    /// The trees directory.
    pub(super) trees: Root,
    /// A directory beside the trees for this worker, removed at its end; the bottom layer of every root is in it, and
    /// each RUN's work directory.
    pub(super) own: String,
    /// Runs this program from a file that no command can write to, whatever it does to `/proc/*/exe`.
    pub(super) spawner: Spawner,
    pub(super) isolation: Isolation,
    pub(super) ids: u32,
    pub(super) ownership: Ownership,
}

/// The bottom layer below [`Shared::own`]: places to mount on, for images that lack them. Never part of a layer.
pub(super) const STUB_LAYER: &str = "stub";
/// An empty directory below [`Shared::own`]: the bottom of what is mounted besides the root.
pub(super) const EMPTY: &str = "empty";
const STUB_DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];
const STUB_FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// The whole life of a worker.
pub(crate) fn main() -> i32 {
    let Some((control, trees)) = take_streams() else { return 2 };
    // Opened while we are still whoever may read it.
    let exe = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|exe| if is_out_of_reach(&exe)? { Ok(exe) } else { seal(&exe) });
    // A group of its own: Ctrl-C is for the main process, which then tells us.
    let _ = rustix::process::setsid();
    let unshared = rustix::process::fchdir(&trees)
        .map_err(OsError::from)
        .and_then(|()| sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(OsError::from));
    let hello = unshared.map_or_else(Hello::NoNamespaces, |()| Hello::Unshared);
    if control.send(&hello, &[]).is_err() || !matches!(hello, Hello::Unshared) {
        return 1;
    }
    let Ok(Some((Control::Mapped { count, force_copy, own }, _))) = control.recv() else { return 1 };
    let ready = exe
        .map_err(|errno| failed("open this program or copy it into memory", errno))
        .and_then(|exe| prepare(&exe, count, force_copy, own));
    let shared = match ready {
        Ok(shared) => Arc::new(shared),
        Err(failure) => {
            let _ = control.send(&Hello::Failed(failure), &[]);
            return 1;
        }
    };
    if control.send(&Hello::Ready(shared.isolation), &[]).is_ok() {
        serve(&control, &shared);
    }
    let _ = remove_tree(&shared.trees, shared.own.as_bytes());
    0
}

/// The two descriptors we were started with, out of the way of 0 and 1, which become `/dev/null`.
fn take_streams() -> Option<(Channel, OwnedFd)> {
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let is = |fd, kind| rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind);
    if !is(input, FileType::Socket) || !is(output, FileType::Directory) {
        return None;
    }
    let control = rustix::io::fcntl_dupfd_cloexec(input, KEPT_FD).ok()?;
    let trees = rustix::io::fcntl_dupfd_cloexec(output, KEPT_FD).ok()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    rustix::stdio::dup2_stdin(&null).ok()?;
    rustix::stdio::dup2_stdout(&null).ok()?;
    Some((control.into(), trees))
}

pub(super) fn failed(action: &str, error: impl Into<OsError>) -> Failure {
    Failure::of(&error.into()).during(action)
}

/// Becomes root of the namespace and gets everything ready.
fn prepare(exe: &OwnedFd, ids: u32, force_copy: bool, own: Option<String>) -> Result<Shared, Failure> {
    let groups: Option<&[u32]> = if ids > 1 { Some(&[]) } else { None };
    sys::become_user(0, 0, groups).map_err(|error| failed("become root of the sandbox", error))?;
    rustix::process::umask(Mode::empty());
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).map_err(|errno| failed("make the mounts private", errno))?;
    let trees = Root::open(Path::new(".")).map_err(|error| failed("open the trees", error))?;
    let own = match own {
        Some(own) => checked(&own)?.to_owned(),
        None => random_name()?,
    };
    lay_out(&own).map_err(|errno| failed("make the worker's directory", errno))?;
    let (overlay, proc) = probe(&own).map_err(|error| failed("try out the namespaces", error))?;
    let isolation = Isolation::from_probe(overlay && !force_copy, proc);
    let spawner = Spawner::start(exe)?;
    let ownership = if ids > 1 { Ownership::Mapped } else { Ownership::Single };
    Ok(Shared { trees, own, spawner, isolation, ids, ownership })
}

fn random_name() -> Result<String, Failure> {
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| failed("get a random name", errno))?;
    Ok(format!("work-{:016x}", u64::from_ne_bytes(random)))
}

/// Makes the worker's directory: the bottom layer, and a small overlay's parts for [`probe`].
fn lay_out(own: &str) -> Result<(), Errno> {
    let dir = |name: String| rustix::fs::mkdir(name, Mode::from_raw_mode(0o755));
    let file = |name: String| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::open(name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    rustix::fs::mkdir(own, Mode::from_raw_mode(0o700))?;
    dir(format!("{own}/{STUB_LAYER}"))?;
    for name in STUB_DIRECTORIES {
        dir(format!("{own}/{STUB_LAYER}/{name}"))?;
    }
    for name in STUB_FILES {
        file(format!("{own}/{STUB_LAYER}/{name}"))?;
    }
    for name in [EMPTY, "lower", "upper", "work", "merged"] {
        dir(format!("{own}/{name}"))?;
    }
    file(format!("{own}/lower/file"))
}

/// Tries an overlay and a fresh `/proc` in a child that is the first of its namespaces.
fn probe(own: &str) -> Result<(bool, bool), OsError> {
    match sys::fork_in_namespaces(launch::NAMESPACES)? {
        Forked::Child => {
            let overlay = try_overlay(own).is_ok();
            let proc = try_proc().is_ok();
            sys::exit_now(i32::from(overlay) | i32::from(proc) << 1)
        }
        Forked::Parent(pid) => {
            let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
                .map_err(OsError::from)?
                .ok_or(OsError(libc::ECHILD))?;
            let found = status.exit_status().ok_or(OsError(libc::EPERM))?;
            Ok((found & 1 != 0, found & 2 != 0))
        }
    }
}

/// Mounts one, removes a lower file through it (which makes a whiteout) and sets the mark of an opaque directory.
fn try_overlay(own: &str) -> Result<(), Errno> {
    let options = format!("lowerdir={own}/lower,upperdir={own}/upper,workdir={own}/work,userxattr,index=off");
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    let merged = format!("{own}/merged");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", merged.as_str(), "overlay", flags, Some(options.as_c_str()))?;
    rustix::fs::unlink(format!("{merged}/file"))?;
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(format!("{own}/upper"), "user.overlay.opaque", b"y", none)
}

fn try_proc() -> Result<(), Errno> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let fs = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
}

/// Whether everybody in the sandbox may execute this file and nobody may write to it: it is the machine's root's, who is in
/// no id map, and only its owner may write. To be asked before the user namespace is made, where root is still called 0.
fn is_out_of_reach(exe: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(exe)?;
    let roots = stat.st_uid == 0 && stat.st_gid == 0 && stat.st_mode & 0o027 == 0o005;
    // A list of further users and groups.
    let mut list = [0_u8; 1];
    let listed = rustix::fs::fgetxattr(exe, "system.posix_acl_access", &mut list[..]);
    Ok(roots && matches!(listed, Err(Errno::NODATA | Errno::OPNOTSUPP)))
}

/// A copy of the program that nobody can write to any more.
fn seal(exe: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 don't know that a memory file may be executed; for them it goes without saying.
    let copy = rustix::fs::memfd_create("kuz-init", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("kuz-init", flags))?;
    while rustix::fs::sendfile(&copy, exe, None, EXE_BYTES)? > 0 {}
    rustix::fs::fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // Executing a file that is open for writing is refused.
    rustix::fs::open(
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy)),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn serve(control: &Channel, shared: &Arc<Shared>) {
    while let Ok(Some((Control::Open, fds))) = control.recv() {
        let Some(channel) = fds.into_iter().next().map(Channel::from) else { continue };
        let shared = Arc::clone(shared);
        // Without a thread the channel is dropped, and the other side learns that nobody answers.
        let _ = std::thread::Builder::new().name("request".to_owned()).spawn(move || {
            if let Ok(Some((request, fds))) = channel.recv::<Request>() {
                let reply = answer(&shared, &channel, request, fds).unwrap_or_else(Reply::Failed);
                let _ = channel.send(&reply, &[]);
            }
        });
    }
}

fn answer(shared: &Shared, channel: &Channel, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, Failure> {
    let file = |fds: Vec<OwnedFd>| {
        fds.into_iter().next().map(File::from).ok_or_else(|| Failure::plain("a descriptor is missing"))
    };
    match request {
        Request::Apply { compression, tree } => {
            let name = checked(&tree)?;
            let result = unpack(shared, file(fds)?, compression, name);
            if result.is_err() {
                let _ = remove_tree(&shared.trees, name.as_bytes());
            }
            result.map(Reply::Applied)
        }
        Request::Run { order, detached } => launch::run(shared, channel, *order, detached, fds),
        Request::Pack { tree, epoch } => {
            let out = std::io::BufWriter::with_capacity(1 << 20, file(fds)?);
            let tree = self::tree(shared, &tree)?;
            pack::pack(&tree, out, epoch).map(Reply::Scanned).map_err(|error| Failure::of(&error))
        }
        Request::Index { tree } => {
            let tree = self::tree(shared, &tree)?;
            pack::index(&tree).map(Reply::Index).map_err(|error| Failure::of(&error))
        }
        Request::Digests { files } => digests(shared, &files).map(Reply::Digests),
        Request::Export { files } => export(shared, &files, file(fds)?).map(|()| Reply::Done),
        Request::Settle { tree, directories } => {
            let tree = self::tree(shared, &tree)?;
            for (path, entry) in directories {
                let path = GuestPath::new(&path).map_err(|error| Failure::of(&error))?;
                let header = Header {
                    kind: Kind::Dir,
                    mode: entry.mode,
                    uid: entry.uid,
                    gid: entry.gid,
                    mtime: entry.mtime,
                    ..Header::default()
                };
                settle_implied(&tree, &path, &header, shared.ownership).map_err(|error| Failure::of(&error))?;
            }
            Ok(Reply::Done)
        }
        Request::Remove { names } => {
            for name in &names {
                remove_tree(&shared.trees, checked(name)?.as_bytes()).map_err(|error| Failure::of(&error))?;
            }
            Ok(Reply::Done)
        }
        Request::MakeCache { tree, access, seed } => {
            let name = checked(&tree)?;
            let made = given::make_cache(shared, name, access, &seed);
            if made.is_err() {
                let _ = remove_tree(&shared.trees, name.as_bytes());
            }
            made.map(|()| Reply::Done)
        }
        Request::Measure { trees } => {
            let size = |name: &String| measure(&tree(shared, name)?).map_err(|error| Failure::of(&error));
            trees.iter().map(size).collect::<Result<_, _>>().map(Reply::Measured)
        }
    }
}

/// A name of a tree is one name, nothing that an option string or a path could take for something else.
pub(super) fn checked(name: &str) -> Result<&str, Failure> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    let good = (1..=200).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.');
    if good { Ok(name) } else { Err(Failure::plain(format!("`{}` is no name of a tree", name.escape_debug()))) }
}

pub(super) fn tree(shared: &Shared, name: &str) -> Result<Root, Failure> {
    shared
        .trees
        .child(checked(name)?.as_bytes())
        .map_err(|error| Failure::of(&error).during(format!("open tree `{name}`")))
}

fn unpack(shared: &Shared, blob: File, compression: compress::Compression, name: &str) -> Result<Applied, Failure> {
    rustix::fs::mkdirat(shared.trees.fd(), name, Mode::from_raw_mode(0o755))
        .map_err(|errno| failed("make a tree", errno))?;
    let tree = tree(shared, name)?;
    let reader = compress::reader(compression, blob).map_err(|error| failed("read layer", error))?;
    let mut hashed = HashReader::new(reader, Algorithm::Sha256);
    let applied = apply(&mut hashed, &tree, shared.ownership).map_err(|error| Failure::of(&error))?;
    // Whatever the tar's reader left over belongs to the digest too.
    std::io::copy(&mut hashed.by_ref(), &mut std::io::sink())
        .map_err(|error| Failure::of(&error).during("read layer"))?;
    let (digest, bytes) = hashed.finish();
    let scanned = Scanned { diff_id: DiffId(digest), bytes, index: applied.index };
    Ok(Applied { scanned, implied: applied.implied, dropped_xattrs: applied.dropped_xattrs })
}

/// Calls `each` for every file with the reader of its tree, which is kept as long as the tree stays the same.
fn each_file(
    shared: &Shared,
    files: &[TreeFile],
    each: &mut dyn FnMut(usize, &mut Files<'_>, &GuestPath) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut at = 0;
    while let Some(first) = files.get(at) {
        let root = tree(shared, &first.tree)?;
        let mut reader = Files::new(&root);
        while let Some(file) = files.get(at).filter(|file| file.tree == first.tree) {
            let path = GuestPath::new(&file.path).map_err(|error| Failure::of(&error))?;
            each(at, &mut reader, &path)?;
            at += 1;
        }
    }
    Ok(())
}

fn digests(shared: &Shared, files: &[TreeFile]) -> Result<Vec<[u8; 32]>, Failure> {
    let mut digests = Vec::with_capacity(files.len());
    each_file(shared, files, &mut |_, reader, path| {
        digests.push(reader.digest(path).map_err(|error| Failure::of(&error))?);
        Ok(())
    })?;
    Ok(digests)
}

fn export(shared: &Shared, files: &[TreeFile], out: File) -> Result<(), Failure> {
    let mut writer = TarWriter::new(std::io::BufWriter::with_capacity(1 << 20, out));
    each_file(shared, files, &mut |number, reader, path| {
        reader.append_to_tar(path, number.to_string().as_bytes(), &mut writer).map_err(|error| Failure::of(&error))
    })?;
    let mut out = writer.finish().map_err(|error| Failure::of(&error).during("write a tar"))?;
    std::io::Write::flush(&mut out).map_err(|error| Failure::of(&error).during("write a tar"))
}
