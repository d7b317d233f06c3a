//! The stand-in base image `busybox` as an OCI layout.
//!
//! In: a corpus, whose `base/make-base` makes it, or else this machine's static busybox. Out: a layout directory, or why
//! there is none. The project's own image: a link for each applet, the usual directories, root and one more user.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use kuz_image::digest::Digest;
use kuz_image::layout;
use kuz_image::manifest::{Descriptor, Index, media_type};
use kuz_image::tar::{Header, Kind, TarWriter};

/// Where a static busybox may be.
const PROGRAMS: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nextra:x:2000:app\n";

/// Makes it in `folder`.
pub(super) fn make(corpus: &Path, folder: &Path) -> Result<(), String> {
    let recipe = corpus.join("base/make-base");
    if !recipe.is_file() {
        return own(folder);
    }
    let output = Command::new(&recipe).arg(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", recipe.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().next_back().unwrap_or_default();
    Err(format!("no base image (Debian: busybox-static): {} ended with {}: {last}", recipe.display(), output.status))
}

fn own(folder: &Path) -> Result<(), String> {
    let tar = layer().map_err(|error| format!("no base image: {error}"))?;
    let config = serde_json::json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": {"Env": [SEARCH_PATH], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "stand-in for busybox"}],
    });
    let blob = |bytes: &[u8], kind: &str| {
        let described = Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64);
        write(&folder.join(layout::blob_path(&described.digest)), bytes).map(|()| described)
    };
    let config = blob(config.to_string().as_bytes(), media_type::CONFIG)?;
    let layer = blob(&tar, media_type::LAYER)?;
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [layer],
    });
    let manifest = blob(manifest.to_string().as_bytes(), media_type::MANIFEST)?;
    let mut index = Index::default();
    layout::set(&mut index, "latest", manifest);
    let index = layout::index_bytes(&index).map_err(|error| error.to_string())?;
    write(&folder.join(layout::INDEX_FILE), &index)?;
    write(&folder.join(layout::MARKER_FILE), layout::MARKER)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error| format!("write {}: {error}", path.display()))
}

fn layer() -> Result<Vec<u8>, String> {
    let missing = || "there is no static busybox on this machine (Debian: busybox-static)".to_owned();
    let program = PROGRAMS.iter().find_map(|path| Some((path, fs::read(path).ok()?))).ok_or_else(missing)?;
    let (path, program) = program;
    // A dynamic one would miss its libraries in the image.
    if program.windows(6).any(|bytes| bytes == b"/ld-li" || bytes == b"/ld-mu") {
        return Err(missing());
    }
    let applets = Command::new(path).arg("--list").output().map_err(|error| format!("{path} --list: {error}"))?;
    let mut tar = TarWriter::new(Vec::new());
    let mut put = |path: &str, kind: Kind, mode: u32, link: &str, content: &[u8]| {
        let size = content.len() as u64;
        let header = Header { path: path.into(), kind, mode, size, link: link.into(), ..Header::default() };
        let mut content = content;
        tar.append(&header, &mut content).map_err(|error| format!("{path}: {error}"))
    };
    for directory in ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var"] {
        put(directory, Kind::Dir, if directory == "tmp" { 0o1777 } else { 0o755 }, "", b"")?;
    }
    put("bin/busybox", Kind::File, 0o755, "", &program)?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        put(&format!("bin/{applet}"), Kind::Symlink, 0o777, "busybox", b"")?;
    }
    put("etc/passwd", Kind::File, 0o644, "", PASSWD.as_bytes())?;
    put("etc/group", Kind::File, 0o644, "", GROUP.as_bytes())?;
    tar.finish().map_err(|error| error.to_string())
}
