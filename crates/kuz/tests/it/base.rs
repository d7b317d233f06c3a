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
    BUSYBOX.get_or_init(layer).clone().map(|tar| TestImage::new(vec![tar]))
}

fn layer() -> Option<Vec<u8>> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok())?;
    // A dynamic one would miss its libraries.
    if program.windows(10).any(|bytes| bytes == b"ld-linux-x") || program.windows(7).any(|bytes| bytes == b"ld-musl") {
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
