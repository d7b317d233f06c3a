//! The directory that a case is run in: its contexts, as they were when the case was recorded.
//!
//! In: a case's folder and its `ctx_ops`. Out: a copy of each context with fixed modes and what a version control system
//! does not carry: empty directories, links, sockets, times. The corpus itself is never changed.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::case::Op;
use crate::Outcome;
use crate::problem::Problem;

const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Copies a context and applies what is said about it. A missing one is empty.
pub(super) fn context(from: &Path, to: &Path, ops: &[Op]) -> Outcome {
    copy(from, to)?;
    for op in ops {
        apply(to, op).map_err(Problem::file("prepare", to.join(relative(&op.path))))?;
    }
    // Modes come last and from below: a directory without permissions would shut out the rest.
    let mut modes: Vec<(&str, u32)> = Vec::new();
    for op in ops {
        if let Some(mode) = &op.mode {
            let mode = u32::from_str_radix(mode, 8)
                .map_err(|_| Problem::Answer(format!("ctx_ops: `{mode}` is no octal number")))?;
            modes.push((&op.path, mode));
        }
    }
    modes.sort_by_key(|(path, _)| std::cmp::Reverse(relative(path).components().count()));
    for (path, mode) in modes {
        let path = to.join(relative(path));
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(Problem::file("set the mode of", path))?;
    }
    Ok(())
}

/// Copies files, directories and links; modes are fixed.
fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to).map_err(Problem::file("make", to))?;
    fs::set_permissions(to, Permissions::from_mode(DIRECTORY_MODE)).map_err(Problem::file("set the mode of", to))?;
    if !from.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(from).map_err(Problem::file("list", from))? {
        let entry = entry.map_err(Problem::file("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Problem::file("look at", &source))?;
        let copied = if kind.is_dir() {
            copy(&source, &target)?;
            Ok(())
        } else if kind.is_symlink() {
            fs::read_link(&source).and_then(|link| symlink(link, &target))
        } else {
            fs::copy(&source, &target).and_then(|_| fs::set_permissions(&target, Permissions::from_mode(FILE_MODE)))
        };
        copied.map_err(Problem::file("copy", source))?;
    }
    Ok(())
}

fn apply(context: &Path, op: &Op) -> io::Result<()> {
    let path = context.join(relative(&op.path));
    if let Some(parent) = path.parent() {
        // An empty directory is one of the things that were lost.
        fs::create_dir_all(parent)?;
    }
    let target = || op.target.as_deref().ok_or_else(|| io::Error::other("a link without target"));
    match op.op.as_str() {
        "mkdir" => fs::create_dir_all(&path),
        "symlink" => symlink(target()?, &path),
        "hardlink" => fs::hard_link(context.join(relative(target()?)), &path),
        // The name stays when the listener is closed.
        "socket" => UnixListener::bind(&path).map(drop),
        "fifo" => {
            let mode = rustix::fs::Mode::from_raw_mode(FILE_MODE);
            Ok(rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)?)
        }
        "mtime" => set_time(&path, op.mtime.unwrap_or_default()),
        "chmod" => Ok(()),
        other => Err(io::Error::other(format!("no operation `{other}`"))),
    }
}

fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance };
    File::open(path)?.set_times(FileTimes::new().set_modified(time))
}

/// Paths in a case are below the context, with or without a leading slash.
fn relative(path: &str) -> PathBuf {
    PathBuf::from(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_gets_fixed_modes_and_what_is_said_about_it() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("d")).unwrap();
        fs::write(from.join("d/f"), "x").unwrap();
        fs::set_permissions(from.join("d/f"), Permissions::from_mode(0o600)).unwrap();
        let op = |text: &str| serde_json::from_str::<Op>(text).unwrap();
        let ops = [
            op(r#"{"op": "mkdir", "path": "e", "mode": "0700"}"#),
            op(r#"{"op": "symlink", "path": "e/l", "target": "../d/f"}"#),
            op(r#"{"op": "fifo", "path": "p"}"#),
            op(r#"{"op": "mtime", "path": "d/f", "mtime": 1000}"#),
            op(r#"{"op": "chmod", "path": "d", "mode": "0500"}"#),
        ];
        let to = dir.path().join("to");
        context(&from, &to, &ops).unwrap();
        let look = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        let mode = |name: &str| look(name).permissions().mode() & 0o7777;
        assert_eq!((mode("d/f"), mode("d"), mode("e")), (0o644, 0o500, 0o700));
        assert_eq!(look("d/f").modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        assert_eq!(fs::read_link(to.join("e/l")).unwrap(), Path::new("../d/f"));
        assert!(!look("p").is_file());
        assert!(context(&from, &to, &[op(r#"{"op": "melt", "path": "d"}"#)]).is_err());
        fs::set_permissions(to.join("d"), Permissions::from_mode(0o755)).unwrap();
    }
}
