//! Opening a store, and making it on first use.
//!
//! Takes a path and options; gives a handle, or says why the directory is none of ours. An open of an existing store is
//! one open, one stat and one read. Making it is a list of steps that each may already be done; `version` comes last,
//! so that a store that was half made by a killed process is completed by the next.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::Store;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::fault::FaultPlan;
use crate::lock::Stop;

/// The format that this program writes.
const VERSION: u32 = 1;
/// What stands before the number.
const VERSION_WORDS: &str = "kuznitsa store ";
/// The version file is one line.
const VERSION_BYTES: u64 = 4096;
/// The content of `oci-layout`.
pub(crate) const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// All directories, parents first.
const DIRECTORIES: [&str; 7] = ["tmp", "lock", "meta", "blobs", "blobs/sha256", "trees", "quarantine"];
/// All entries of the store's directory.
pub(crate) const ENTRIES: [&str; 9] =
    ["version", "oci-layout", "index.json", "tmp", "lock", "meta", "blobs", "trees", "quarantine"];

/// What the store must be told.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The id of this boot (`/proc/sys/kernel/random/boot_id`): one word.
    pub boot: String,
    /// Now, in seconds since 1970: for what is recent.
    pub now: i64,
    /// Sync once before a tag. Without it a power cut may lose or damage the newest images.
    pub durable: bool,
    /// How long locks are waited for.
    pub wait: Duration,
    /// Whether to stop waiting before that.
    pub stop: Stop,
    /// A fault to be put in, for tests.
    pub fault: Option<FaultPlan>,
}

impl StoreOptions {
    /// The usual options.
    pub fn new(boot: &str, now: i64) -> Self {
        let boot = boot.split_whitespace().next().unwrap_or("unknown").to_owned();
        Self { boot, now, durable: true, wait: Duration::from_mins(1), stop: Stop::default(), fault: None }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It could not be made or opened.
    #[error("open the store at `{}`", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of it.
    #[error("open the store at `{}`", path.display())]
    Part {
        /// Where.
        path: PathBuf,
        /// What failed.
        #[source]
        source: StoreError,
    },
    /// Made by a later version of this program.
    #[error("the store at `{}` has format {found}, this kuz knows formats up to {VERSION}: use a newer kuz or another store", path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The version file makes no sense.
    #[error("`{}` is no store, or its version file is damaged (it should say `{VERSION_WORDS}{VERSION}`)", path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
    },
    /// A directory with other things in it.
    #[error("`{}` is not empty and no store (it has `{}`): name an empty or new directory", path.display(), entry.escape_debug())]
    NotAStore {
        /// Where.
        path: PathBuf,
        /// Something that is in it.
        entry: String,
    },
    /// Another user's.
    #[error("the store at `{}` belongs to user id {owner}, this is {user}: name another directory", path.display())]
    NotOurs {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
}

impl Store {
    /// Opens the store at `path`; makes it if there is nothing.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let directory = |source: io::Error| OpenError::Directory { path: path.to_owned(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(root) => root,
            Err(rustix::io::Errno::NOENT) => {
                DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(directory)?;
                rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| directory(errno.into()))?
            }
            Err(errno) => return Err(directory(errno.into())),
        };
        let disk = Disk::new(root, options.fault);
        let store = Self {
            path: Arc::from(path),
            disk: Arc::new(disk),
            options: Arc::new(options),
            session: Arc::default(),
            synced: Arc::default(),
            indexes: Arc::default(),
        };
        store.check_owner()?;
        match store.version()? {
            Some(VERSION) => {}
            Some(found) => return Err(OpenError::Newer { path: path.to_owned(), found }),
            None => {
                store.refuse_foreign()?;
                store.make().map_err(|source| store.part(source))?;
            }
        }
        Ok(store)
    }

    fn part(&self, source: impl Into<StoreError>) -> OpenError {
        OpenError::Part { path: self.path.to_path_buf(), source: source.into() }
    }

    /// A store is one user's own: files of another in it, or files that others can read, would be a trap.
    fn check_owner(&self) -> Result<(), OpenError> {
        let stat = self.disk.stat_root().map_err(|error| self.part(error))?;
        let user = rustix::process::geteuid().as_raw();
        if stat.uid != user {
            return Err(OpenError::NotOurs { path: self.path.to_path_buf(), owner: stat.uid, user });
        }
        if stat.mode & 0o077 != 0 {
            // An empty directory may be made ours; one with other things in it must not be closed to others.
            self.refuse_foreign()?;
            self.disk.close_root().map_err(|error| self.part(error))?;
        }
        Ok(())
    }

    /// The format's number; `None` if there is no version file.
    fn version(&self) -> Result<Option<u32>, OpenError> {
        let read = self.disk.read("version", VERSION_BYTES).map_err(|error| self.part(error))?;
        let Some((bytes, _)) = read else { return Ok(None) };
        let text = str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
        let number = text.and_then(|text| text.strip_prefix(VERSION_WORDS)).and_then(|number| number.parse().ok());
        match number {
            Some(number) if number >= VERSION => Ok(Some(number)),
            _ => Err(OpenError::Unreadable { path: self.path.to_path_buf() }),
        }
    }

    fn refuse_foreign(&self) -> Result<(), OpenError> {
        let names = self.disk.list(".").map_err(|error| self.part(error))?;
        match names.into_iter().find(|name| !ENTRIES.contains(&name.as_str())) {
            Some(entry) => Err(OpenError::NotAStore { path: self.path.to_path_buf(), entry }),
            None => Ok(()),
        }
    }

    fn make(&self) -> Result<(), StoreError> {
        for directory in DIRECTORIES {
            self.disk.mkdir(directory)?;
        }
        self.write_new("oci-layout", OCI_LAYOUT.as_bytes())?;
        self.write_new("index.json", &crate::listing::Listing::of(&crate::images::empty_index()).sealed())?;
        if self.disk.stat("version")?.is_none() {
            let mut version = self.temp_with(format!("{VERSION_WORDS}{VERSION}\n").as_bytes())?;
            // A power cut must not leave a version file over others that are empty.
            if self.options.durable {
                self.disk.sync_all()?;
            }
            version.publish("version")?;
        }
        Ok(())
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        if self.disk.stat(path)?.is_none() {
            self.temp_with(bytes)?.publish(path)?;
        }
        Ok(())
    }
}
