//! The file system on which everything that is compared lies.
//!
//! In: a directory. Out: a directory in it that is, as root, ext4 with a journal in a loop-mounted file, else memory; it
//! is gone when dropped. The reason: the machine's own file system would be measured with the builders. An ext4 without a
//! journal, for one, makes creating files ten times as slow for a minute after many were deleted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags};

use super::{daemon, machine};
use crate::Outcome;
use crate::problem::Problem;
use crate::program::{self, command, is_root};

/// The file's size; it is sparse, so it takes what is written.
const BYTES: u64 = 48 << 30;
/// What must stay free on the file system that the file lies on.
const SPARE_BYTES: u64 = 2 << 30;
/// Less than this is too little for the workloads.
const LEAST_BYTES: u64 = 16 << 30;
/// A file system in memory, for ordinary users.
const MEMORY: &str = "/dev/shm";

/// A mounted room.
#[derive(Debug)]
pub(super) struct Room {
    /// Where to put things.
    pub(super) path: PathBuf,
    /// One line for the report.
    pub(super) about: String,
    /// The loop file, if there is one.
    image: Option<PathBuf>,
    /// Held while the bench runs: two would measure each other.
    _lock: File,
}

impl Room {
    /// Makes it; cleans up after a bench that was killed.
    pub(super) fn open(folder: &Path) -> Outcome<Self> {
        fs::create_dir_all(folder).map_err(Problem::file("make", folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(Problem::file("write", &lock_path))?;
        if lock.try_lock().is_err() {
            return Err(Problem::Answer("another bench is running".into()));
        }
        if !is_root() {
            return Self::in_memory(folder, lock);
        }
        let path = folder.join("room");
        let image = folder.join("room.img");
        daemon::end_leftovers(&path);
        let mut room = Self { path, about: String::new(), image: Some(image), _lock: lock };
        room.clean();
        room.mount()?;
        Ok(room)
    }

    fn in_memory(folder: &Path, lock: File) -> Outcome<Self> {
        let memory = Path::new(MEMORY);
        let there = machine::file_system(memory) == "tmpfs" && fs::metadata(memory).is_ok();
        let parent = if there { memory } else { folder };
        let path = parent.join(format!("kuz-bench-{}", rustix::process::getuid().as_raw()));
        let mut room = Self { path, about: String::new(), image: None, _lock: lock };
        room.clean();
        fs::create_dir_all(&room.path).map_err(Problem::file("make", &room.path))?;
        room.about = machine::file_system(&room.path);
        Ok(room)
    }

    fn mount(&mut self) -> Outcome {
        let Some(image) = &self.image else { return Ok(()) };
        fs::create_dir_all(&self.path).map_err(Problem::file("make", &self.path))?;
        let around = rustix::fs::statvfs(&self.path)
            .map_err(|errno| Problem::file("look at", &self.path)(std::io::Error::from(errno)))?;
        let free = (around.f_bavail * around.f_frsize).saturating_sub(SPARE_BYTES);
        if free < LEAST_BYTES {
            return Err(Problem::Missing {
                what: format!("{} GiB of room in {}", (LEAST_BYTES + SPARE_BYTES) >> 30, self.path.display()),
                mend: "free some, or name another place by CARGO_TARGET_DIR".into(),
            });
        }
        let file = File::create(image).map_err(Problem::file("write", image))?;
        file.set_len(free.min(BYTES)).map_err(Problem::file("write", image))?;
        drop(file);
        program::run(command("mkfs.ext4", ["-q", "-F", "-m", "0"]).arg(image))?;
        // Without the thread that would go on making inode tables while the first builds are measured.
        program::run(command("mount", ["-o", "loop,noinit_itable"]).arg(image).arg(&self.path))?;
        self.about = "ext4 with a journal in a loop-mounted file".into();
        Ok(())
    }

    /// Everything written before reaches the disk now, and not during a later run.
    pub(super) fn settle(&self) {
        if let Ok(directory) = rustix::fs::openat(CWD, &self.path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()) {
            // Only a disturbance less: a failure here is none of the bench's.
            let _unsettled = rustix::fs::syncfs(directory);
        }
    }

    /// Takes away what is mounted below, the room and its file.
    fn clean(&self) {
        let umount = |place: &Path, options: &[&str]| {
            let mut command = Command::new("umount");
            command.args(options).arg(place).stdin(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if self.image.is_some() {
            let mut mounts = mounts_below(&self.path);
            mounts.reverse();
            for mount in mounts {
                if !umount(&mount, &[]) {
                    umount(&mount, &["--lazy"]);
                }
            }
        }
        if mounts_below(&self.path).is_empty() && self.path.exists() {
            drop(fs::remove_dir_all(&self.path));
        }
        if let Some(image) = self.image.as_ref().filter(|image| image.exists()) {
            drop(fs::remove_file(image));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clean();
    }
}

/// Mounts at and below a directory, in the order in which they were made.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    places.filter(|place| place.starts_with(folder)).collect()
}
