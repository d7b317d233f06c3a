//! The one seam through which everything in the store is read and written.
//!
//! Paths go in relative to the store's directory, which is held open; results or a [`DiskError`] that names action and
//! path come out. Each call passes the fault counter first, so that tests can fail or kill at any of them. Only blob
//! contents may bypass it, once a writer has handed its file to another process. No policy here: what is written where
//! and in which order is the business of the other files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use crate::fault::{FaultAction, FaultPlan, Faults, Needs};

/// A disk operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} `{path}` in the store")]
pub struct DiskError {
    action: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &str, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.to_owned(), source: source.into() }
    }

    /// The kind of the operating system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The medium could not be read.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.source.raw_os_error() == Some(Errno::IO.raw_os_error())
    }

    /// The disk, the quota or the table of inodes is full.
    pub fn is_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

type Result<T> = std::result::Result<T, DiskError>;

/// What a stat says, as far as the store cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: FileType,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    pub(crate) ino: u64,
    pub(crate) links: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
}

impl Stat {
    #[expect(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the fields' widths differ by architecture"
    )]
    fn of(stat: &sys::Stat) -> Self {
        // Enough until the year 2262.
        let nanoseconds = |seconds: i64, rest: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(rest).unwrap_or(0))
        };
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime.into(), stat.st_mtime_nsec as u64),
            ctime_ns: nanoseconds(stat.st_ctime.into(), stat.st_ctime_nsec as u64),
            ino: stat.st_ino.into(),
            links: stat.st_nlink.into(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
        }
    }

    /// Seconds since 1970 of the last modification.
    pub(crate) fn mtime(&self) -> i64 {
        self.mtime_ns.div_euclid(1_000_000_000)
    }
}

/// The store's directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: OwnedFd,
    faults: Faults,
}

impl Disk {
    pub(crate) fn new(root: OwnedFd, plan: Option<FaultPlan>) -> Self {
        Self { root, faults: Faults::new(plan) }
    }

    /// Calls made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.faults.calls()
    }

    /// Lets the fault plan have its say before a call.
    fn gate(&self, action: &'static str, path: &str, needs: Needs) -> Result<()> {
        match self.faults.next(needs) {
            None => Ok(()),
            Some(FaultAction::Kill) => std::process::abort(),
            Some(FaultAction::Fail(code)) => Err(DiskError::new(action, path, io::Error::from_raw_os_error(code))),
        }
    }

    fn open(&self, action: &'static str, path: &str, flags: OFlags, mode: u32) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        retry_on_intr(|| sys::openat(&self.root, path, flags, Mode::from_raw_mode(mode)))
            .map_err(|errno| DiskError::new(action, path, errno))
    }

    /// A new file, for reading and writing; fails where there is one.
    pub(crate) fn create(&self, path: &str, mode: u32) -> Result<File> {
        const ACTION: &str = "create";
        self.gate(ACTION, path, Needs::Space)?;
        self.open(ACTION, path, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR, mode).map(File::from)
    }

    /// A lock file, made if it is not there.
    pub(crate) fn open_lock(&self, path: &str) -> Result<File> {
        const ACTION: &str = "open lock";
        self.gate(ACTION, path, Needs::Space)?;
        self.open(ACTION, path, OFlags::CREATE | OFlags::RDWR, 0o600).map(File::from)
    }

    /// An existing regular file, for reading. `None` where there is none.
    pub(crate) fn open_read(&self, path: &str) -> Result<Option<(File, Stat)>> {
        const ACTION: &str = "open";
        self.gate(ACTION, path, Needs::Nothing)?;
        // Non-blocking, so that a planted fifo cannot hang the program.
        let file = match self.open(ACTION, path, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = self.stat_file(&file, path)?;
        if stat.kind != FileType::RegularFile {
            return Err(DiskError::new(ACTION, path, io::Error::other("not a regular file")));
        }
        Ok(Some((file, stat)))
    }

    /// A directory, to be used by its fd.
    pub(crate) fn open_dir(&self, path: &str) -> Result<OwnedFd> {
        const ACTION: &str = "open directory";
        self.gate(ACTION, path, Needs::Nothing)?;
        self.open(ACTION, path, OFlags::RDONLY | OFlags::DIRECTORY, 0)
    }

    /// Appends to an open file.
    pub(crate) fn write(&self, mut file: &File, path: &str, bytes: &[u8]) -> Result<()> {
        const ACTION: &str = "write";
        let fail = |error: io::Error| DiskError::new(ACTION, path, error);
        match self.faults.next(Needs::Space) {
            None => file.write_all(bytes).map_err(fail),
            Some(action) => {
                // A full disk and a dying process both leave a part of the bytes behind.
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                file.write_all(half).map_err(fail)?;
                match action {
                    FaultAction::Kill => std::process::abort(),
                    FaultAction::Fail(code) => Err(fail(io::Error::from_raw_os_error(code))),
                }
            }
        }
    }

    /// Replaces the start of an open file.
    pub(crate) fn overwrite(&self, file: &File, path: &str, bytes: &[u8]) -> Result<()> {
        const ACTION: &str = "write";
        self.gate(ACTION, path, Needs::Space)?;
        file.write_all_at(bytes, 0).map_err(|error| DiskError::new(ACTION, path, error))
    }

    /// What is in an open file from where it stands, refusing more than `limit` bytes. `expected` is its size, as far as
    /// that is known: with it, one call reads it all.
    pub(crate) fn read_file(&self, file: &File, path: &str, expected: u64, limit: u64) -> Result<Vec<u8>> {
        const ACTION: &str = "read";
        self.gate(ACTION, path, Needs::Nothing)?;
        // One byte more, so that the end is seen without growing.
        let room = usize::try_from(expected.min(limit)).unwrap_or_default().saturating_add(1);
        let mut bytes = Vec::with_capacity(room);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| DiskError::new(ACTION, path, error))?;
        if bytes.len() as u64 > limit {
            let over = io::Error::other(format!("longer than the limit of {limit} bytes"));
            return Err(DiskError::new(ACTION, path, over));
        }
        Ok(bytes)
    }

    /// The next bytes of an open file; 0 at its end.
    pub(crate) fn read_some(&self, mut file: &File, path: &str, buffer: &mut [u8]) -> Result<usize> {
        const ACTION: &str = "read";
        self.gate(ACTION, path, Needs::Nothing)?;
        loop {
            match file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| DiskError::new(ACTION, path, error)),
            }
        }
    }

    /// A whole file and its stat; `None` where there is none.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<(Vec<u8>, Stat)>> {
        let Some((file, stat)) = self.open_read(path)? else { return Ok(None) };
        Ok(Some((self.read_file(&file, path, stat.size, limit)?, stat)))
    }

    pub(crate) fn stat_file(&self, file: &File, path: &str) -> Result<Stat> {
        const ACTION: &str = "stat";
        self.gate(ACTION, path, Needs::Nothing)?;
        sys::fstat(file).map(|stat| Stat::of(&stat)).map_err(|errno| DiskError::new(ACTION, path, errno))
    }

    /// What is at a path, without following a link; `None` where nothing is.
    pub(crate) fn stat(&self, path: &str) -> Result<Option<Stat>> {
        const ACTION: &str = "stat";
        self.gate(ACTION, path, Needs::Nothing)?;
        match sys::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(DiskError::new(ACTION, path, errno)),
        }
    }

    /// The store's own directory.
    pub(crate) fn stat_root(&self) -> Result<Stat> {
        const ACTION: &str = "stat";
        self.gate(ACTION, ".", Needs::Nothing)?;
        sys::fstat(&self.root).map(|stat| Stat::of(&stat)).map_err(|errno| DiskError::new(ACTION, ".", errno))
    }

    /// Makes the store private, whatever the umask was.
    pub(crate) fn close_root(&self) -> Result<()> {
        const ACTION: &str = "set the mode of";
        self.gate(ACTION, ".", Needs::Nothing)?;
        sys::fchmod(&self.root, Mode::RWXU).map_err(|errno| DiskError::new(ACTION, ".", errno))
    }

    /// Mode and owner of an open directory.
    pub(crate) fn own_dir(&self, dir: &OwnedFd, path: &str, owner: Option<(u32, u32)>) -> Result<()> {
        const ACTION: &str = "set the owner of";
        self.gate(ACTION, path, Needs::Nothing)?;
        let fail = |errno| DiskError::new(ACTION, path, errno);
        let stat = sys::fstat(dir).map_err(fail)?;
        if stat.st_mode & 0o7777 != 0o700 {
            sys::fchmod(dir, Mode::RWXU).map_err(fail)?;
        }
        match owner {
            Some((uid, gid)) if (stat.st_uid, stat.st_gid) != (uid, gid) => {
                sys::fchown(dir, Some(sys::Uid::from_raw(uid)), Some(sys::Gid::from_raw(gid))).map_err(fail)
            }
            _ => Ok(()),
        }
    }

    /// Moves a file to a name that must be free; `false` if it is taken.
    pub(crate) fn rename_new(&self, from: &str, to: &str) -> Result<bool> {
        const ACTION: &str = "rename to";
        self.gate(ACTION, to, Needs::Space)?;
        match sys::renameat_with(&self.root, from, &self.root, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // Some network file systems know no flags for rename; a link never replaces either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link_and_unlink(from, to),
            Err(errno) => Err(DiskError::new(ACTION, to, errno)),
        }
    }

    fn link_and_unlink(&self, from: &str, to: &str) -> Result<bool> {
        match sys::linkat(&self.root, from, &self.root, to, AtFlags::empty()) {
            Ok(()) => self.unlink(from).map(|_| true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(DiskError::new("link", to, errno)),
        }
    }

    /// Moves a file to a name, replacing what is there.
    pub(crate) fn rename_over(&self, from: &str, to: &str) -> Result<()> {
        const ACTION: &str = "rename to";
        self.gate(ACTION, to, Needs::Space)?;
        sys::renameat(&self.root, from, &self.root, to).map_err(|errno| DiskError::new(ACTION, to, errno))
    }

    /// Removes a file; `false` if there was none.
    pub(crate) fn unlink(&self, path: &str) -> Result<bool> {
        const ACTION: &str = "remove";
        self.gate(ACTION, path, Needs::Nothing)?;
        match sys::unlinkat(&self.root, path, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(DiskError::new(ACTION, path, errno)),
        }
    }

    /// Makes a directory; `false` if there was something.
    pub(crate) fn mkdir(&self, path: &str) -> Result<bool> {
        const ACTION: &str = "make directory";
        self.gate(ACTION, path, Needs::Space)?;
        match sys::mkdirat(&self.root, path, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(DiskError::new(ACTION, path, errno)),
        }
    }

    /// The names in a directory, in order; none where there is no directory.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>> {
        const ACTION: &str = "list";
        self.gate(ACTION, path, Needs::Nothing)?;
        let dir = match self.open(ACTION, path, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let fail = |errno| DiskError::new(ACTION, path, errno);
        let mut names = Vec::new();
        for entry in sys::Dir::new(dir).map_err(fail)? {
            // The store makes no names but ASCII ones; what else lies there is shown as well as may be.
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Sets a file's modification time, in seconds since 1970.
    pub(crate) fn touch(&self, path: &str, time: i64) -> Result<()> {
        const ACTION: &str = "touch";
        self.gate(ACTION, path, Needs::Nothing)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: sys::UTIME_OMIT },
            last_modification: Timespec { tv_sec: time, tv_nsec: 0 },
        };
        sys::utimensat(&self.root, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| DiskError::new(ACTION, path, errno))
    }

    /// Waits until a file's content is on the medium.
    pub(crate) fn sync_file(&self, file: &File, path: &str) -> Result<()> {
        const ACTION: &str = "sync";
        self.gate(ACTION, path, Needs::Space)?;
        retry_on_intr(|| sys::fdatasync(file)).map_err(|errno| DiskError::new(ACTION, path, errno))
    }

    /// Waits until the store's own directory (`index.json`'s name) is on the medium.
    pub(crate) fn sync_root(&self) -> Result<()> {
        const ACTION: &str = "sync";
        self.gate(ACTION, ".", Needs::Space)?;
        retry_on_intr(|| sys::fsync(self.root.as_fd())).map_err(|errno| DiskError::new(ACTION, ".", errno))
    }

    /// Waits until everything in the store's file system is on the medium.
    pub(crate) fn sync_all(&self) -> Result<()> {
        const ACTION: &str = "sync the file system of";
        self.gate(ACTION, ".", Needs::Space)?;
        retry_on_intr(|| sys::syncfs(self.root.as_fd())).map_err(|errno| DiskError::new(ACTION, ".", errno))
    }

    /// Has the kernel begin to write what [`Self::sync_all`] will wait for, beside everything else. A hint: nothing depends on
    /// it, and it is no call that a fault could hit.
    pub(crate) fn sync_ahead(&self) {
        // A descriptor of its own: the kernel tells each of them once that something could not be written, and the sync
        // that counts must hear of it.
        let Ok(root) = self.open("open directory", ".", OFlags::RDONLY | OFlags::DIRECTORY, 0) else { return };
        let ahead = std::thread::Builder::new().name("sync".into());
        drop(ahead.spawn(move || retry_on_intr(|| sys::syncfs(root.as_fd()))));
    }
}
