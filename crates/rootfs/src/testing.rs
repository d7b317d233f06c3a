//! What the tests of several files share: small tars, small trees, a canary.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kuz_image::scan::scan;
use kuz_image::tar::{Header, Kind, TarWriter};
use tempfile::TempDir;

use crate::apply::{Applied, ApplyError, Ownership, apply};
use crate::root::Root;

pub(crate) fn header(path: &str, kind: Kind) -> Header {
    let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    Header { path: path.as_bytes().to_vec(), kind, mode, mtime: 1_000_000, ..Header::default() }
}

pub(crate) fn file(path: &str, content: &str) -> (Header, Vec<u8>) {
    let size = content.len() as u64;
    (Header { size, ..header(path, Kind::File) }, content.as_bytes().to_vec())
}

pub(crate) fn dir(path: &str) -> (Header, Vec<u8>) {
    (header(path, Kind::Dir), Vec::new())
}

pub(crate) fn link(kind: Kind, path: &str, target: &str) -> (Header, Vec<u8>) {
    (Header { link: target.as_bytes().to_vec(), ..header(path, kind) }, Vec::new())
}

pub(crate) fn symlink(path: &str, target: &str) -> (Header, Vec<u8>) {
    link(Kind::Symlink, path, target)
}

pub(crate) fn tar(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (header, content) in entries {
        writer.append(header, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// Owners can be set and whiteouts made only by root, and by root of a user namespace with more ids than one.
pub(crate) fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let file = tempfile::NamedTempFile::new().unwrap();
    let root = root && std::os::unix::fs::chown(file.path(), Some(1000), Some(1000)).is_ok();
    if !root {
        eprintln!("skipped: {what} needs root with more than one id");
    }
    root
}

/// A tree with a canary beside it.
pub(crate) struct Yard {
    outer: TempDir,
}

impl Yard {
    pub(crate) fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("tree")).unwrap();
        std::fs::create_dir(outer.path().join("canary")).unwrap();
        std::fs::write(outer.path().join("canary/file"), "keep").unwrap();
        Self { outer }
    }

    pub(crate) fn outer(&self) -> &Path {
        self.outer.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.outer.path().join("tree")
    }

    pub(crate) fn tree(&self) -> Root {
        Root::open(&self.path()).unwrap()
    }

    pub(crate) fn apply(&self, entries: &[(Header, Vec<u8>)]) -> Result<Applied, ApplyError> {
        let ownership = if rustix::process::geteuid().is_root() { Ownership::Mapped } else { Ownership::Single };
        apply(tar(entries).as_slice(), &self.tree(), ownership)
    }

    /// Everything outside the tree with its mode, times and content.
    pub(crate) fn outside(&self) -> Vec<String> {
        use std::os::unix::fs::MetadataExt as _;
        let mut seen = Vec::new();
        for directory in [self.outer.path().to_path_buf(), self.outer.path().join("canary")] {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                let stat = entry.path().symlink_metadata().unwrap();
                // The tree itself may get another mode: its entry says so.
                let mut line = format!("{:?} {}", entry.path(), stat.uid());
                if entry.file_name() != "tree" {
                    let _ = write!(line, " {:o} {} {} {}", stat.mode(), stat.nlink(), stat.mtime(), stat.mtime_nsec());
                }
                if stat.is_file() {
                    std::fs::File::open(entry.path()).unwrap().read_to_string(&mut line).unwrap();
                }
                seen.push(line);
            }
        }
        seen.sort();
        seen
    }
}

/// The paths and nodes of a tar, for comparing.
pub(crate) fn listing(tar: &[u8]) -> Vec<String> {
    let mut reader = kuz_image::tar::TarReader::new(tar);
    let mut lines = Vec::new();
    while let Some(mut entry) = reader.next().unwrap() {
        let mut content = String::new();
        let header = entry.header().clone();
        entry.read_to_string(&mut content).unwrap();
        let kind = match header.kind {
            Kind::File => "file",
            Kind::Dir => "dir",
            Kind::Symlink => "link",
            Kind::Hardlink => "hard",
            Kind::Fifo => "fifo",
            _ => "device",
        };
        let tail = String::from_utf8(header.link).unwrap() + &content;
        let path = String::from_utf8(header.path).unwrap();
        lines.push(
            format!("{kind} {path} {:o} {}:{} {tail}", header.mode, header.uid, header.gid).trim_end().to_owned(),
        );
    }
    assert!(scan(tar).is_ok());
    lines
}
