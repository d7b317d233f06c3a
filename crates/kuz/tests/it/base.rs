//! A small base image for RUN: a static busybox with a link for every applet.
//!
//! Made from the machine's own `/bin/busybox`; tests that need it are skipped where there is none.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use kuz_image::tar::{Header, Kind, TarWriter};
use kuz_testkit::registry::TestImage;

static BUSYBOX: OnceLock<Option<Vec<u8>>> = OnceLock::new();

/// The image, if it can be made here.
pub(crate) fn busybox() -> Option<TestImage> {
    busybox_with(Vec::new())
}

/// The image with more layers on top.
pub(crate) fn busybox_with(layers: Vec<Vec<u8>>) -> Option<TestImage> {
    let mut all = vec![BUSYBOX.get_or_init(layer).clone()?];
    all.extend(layers);
    Some(TestImage::new(all))
}

fn layer() -> Option<Vec<u8>> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok())?;
    if is_dynamic(&program)? {
        return None;
    }
    let applets = Command::new("busybox").arg("--list").output().ok()?;
    let mut tar = TarWriter::new(Vec::new());
    let mut put = |path: &str, kind: Kind, mode: u32, link: &str, content: &[u8]| {
        let header = Header {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            size: content.len() as u64,
            link: link.into(),
            xattrs: BTreeMap::new(),
        };
        let mut content = content;
        tar.append(&header, &mut content).unwrap();
    };
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var"] {
        let mode = if directory == "tmp" { 0o1777 } else { 0o755 };
        put(directory, Kind::Dir, mode, "", b"");
    }
    put("bin/busybox", Kind::File, 0o755, "", &program);
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        put(&format!("bin/{applet}"), Kind::Symlink, 0o777, "busybox", b"");
    }
    put("etc/passwd", Kind::File, 0o644, "", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n");
    put("etc/group", Kind::File, 0o644, "", b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n");
    tar.finish().ok()
}

/// What [`tar`] takes: entries and their contents.
pub(crate) type Entries = Vec<(Header, Vec<u8>)>;

/// One entry of a layer.
pub(crate) fn entry(path: impl Into<Vec<u8>>, kind: Kind) -> Header {
    let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    Header { path: path.into(), kind, mode, mtime: 1_700_000_000, ..Header::default() }
}

/// A file of a layer.
pub(crate) fn file(path: impl Into<Vec<u8>>, content: &[u8]) -> (Header, Vec<u8>) {
    (Header { size: content.len() as u64, ..entry(path, Kind::File) }, content.to_vec())
}

/// A directory of a layer.
pub(crate) fn dir(path: impl Into<Vec<u8>>) -> (Header, Vec<u8>) {
    (entry(path, Kind::Dir), Vec::new())
}

/// A symbolic link of a layer.
pub(crate) fn symlink(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> (Header, Vec<u8>) {
    (Header { link: target.into(), ..entry(path, Kind::Symlink) }, Vec::new())
}

/// A hard link of a layer.
pub(crate) fn hardlink(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> (Header, Vec<u8>) {
    (Header { link: target.into(), ..entry(path, Kind::Hardlink) }, Vec::new())
}

/// A layer's tar.
pub(crate) fn tar(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (header, content) in entries {
        tar.append(header, &mut content.as_slice()).unwrap();
    }
    tar.finish().unwrap()
}

/// Whether an ELF program (64 bits, little-endian) names an interpreter: one that does would miss its libraries.
fn is_dynamic(program: &[u8]) -> Option<bool> {
    const INTERPRETER: u64 = 3;
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = program.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    let kind = |at: u64| number(usize::try_from(table + at * size).ok()?, 4);
    Some((0..count).any(|at| kind(at) == Some(INTERPRETER)))
}
