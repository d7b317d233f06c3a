//! Contexts that are no directory of this machine: a repository, a file on the web, standard input.
//!
//! An address in, a directory made for this build or the text of a Dockerfile out. A file is unpacked if it is a tar,
//! plain or compressed, and taken for a Dockerfile if not.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;

use kuz_image::compress;
use kuz_registry::download;
use kuz_rootfs::Root;
use kuz_rootfs::apply::{Ownership, apply};

use crate::contexts::LocalContext;
use crate::copy_step::archive;
use crate::error::BuildError;
use crate::git::{Checkout, GitSource, Revision};
use crate::inputs::DOCKERFILE_BYTES;
use crate::scratch::Scratch;
use crate::session::Session;

/// A context on standard input: more than any directory that people build from.
const STDIN_BYTES: u64 = 64 << 30;

/// What was fetched.
#[derive(Debug)]
pub(crate) enum Remote {
    /// Files.
    Directory {
        scratch: Scratch,
        path: PathBuf,
        /// The time that its files get.
        mtime: Option<i64>,
        /// A commit's time, or what the server says.
        time: Option<i64>,
    },
    /// A Dockerfile, and when the server says that it was changed.
    Text(Vec<u8>, Option<i64>),
}

impl Remote {
    /// The files; an error where there is only a text.
    pub(crate) fn into_directory(self, shown: String) -> Result<LocalContext, BuildError> {
        match self {
            Self::Directory { scratch, path, mtime, time } => {
                Ok(LocalContext::made(scratch, path, shown).dated(mtime, time))
            }
            Self::Text(..) => Err(BuildError::input(format!("{shown} is neither a tar nor a git repository"))),
        }
    }
}

/// Whether a context's name is an address.
pub(crate) fn is_remote(text: &str) -> bool {
    GitSource::is_meant(text) || crate::download::is_meant(text) || text.starts_with("github.com/")
}

/// An address for messages: no credentials.
pub(crate) fn shown(text: &str) -> String {
    if is_git(text) {
        return GitSource::parse(text)
            .map_or_else(|_| "a git repository".to_owned(), |source| source.shown().to_owned());
    }
    download::shown(text)
}

fn is_git(text: &str) -> bool {
    GitSource::is_meant(text) || text.starts_with("github.com/")
}

/// Fetches what is at an address; with `keep_git_dir` a repository keeps its `.git`.
pub(crate) fn fetch(session: &Session<'_>, text: &str, shown: &str, keep_git_dir: bool) -> Result<Remote, BuildError> {
    if !is_git(text) {
        let fetched = crate::download::fetch(session, text, None)?;
        return from_file(session, session.open_blob(&fetched.blob)?, shown, fetched.time());
    }
    let mut source = GitSource::parse(text).map_err(|error| BuildError::Input {
        message: format!("{shown} cannot be used"),
        source: Some(Box::new(error)),
    })?;
    source.keep_git_dir |= keep_git_dir;
    let Checkout { scratch, path, mtime, time } = Revision::find(session, &source, None)?.check_out(session)?;
    Ok(Remote::Directory { scratch, path, mtime, time: Some(time) })
}

/// Reads standard input to its end.
pub(crate) fn from_stdin(session: &Session<'_>, shown: &str) -> Result<Remote, BuildError> {
    let keep = |error| BuildError::store("keep what came on standard input", error);
    session.cancel.attend();
    let scratch = Scratch::new(&session.machine.store).map_err(keep)?;
    let mut file = tempfile::tempfile_in(scratch.path()).map_err(keep)?;
    let mut stdin = std::io::stdin().lock().take(STDIN_BYTES + 1);
    let mut chunk = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        session.cancelled()?;
        let read = stdin.read(&mut chunk).map_err(|error| BuildError::Input {
            message: format!("{shown} cannot be read"),
            source: Some(Box::new(error)),
        })?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        if bytes > STDIN_BYTES {
            return Err(BuildError::input(format!("{shown} is over the limit of {STDIN_BYTES} bytes")));
        }
        std::io::Write::write_all(&mut file, chunk.get(..read).unwrap_or_default()).map_err(keep)?;
    }
    if bytes == 0 {
        return Err(BuildError::input(format!("{shown} is empty (want a tar or a Dockerfile)")));
    }
    file.rewind().map_err(keep)?;
    from_file(session, file, shown, None)
}

fn from_file(session: &Session<'_>, mut file: File, shown: &str, time: Option<i64>) -> Result<Remote, BuildError> {
    let Some(compression) = archive(&mut file) else {
        let mut bytes = Vec::new();
        let read = file.take(DOCKERFILE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| BuildError::store("read a Dockerfile", error))?;
        if bytes.len() as u64 > DOCKERFILE_BYTES {
            let message = format!("{shown} is no tar, and over the limit of {DOCKERFILE_BYTES} bytes for a Dockerfile");
            return Err(BuildError::input(message));
        }
        return Ok(Remote::Text(bytes, time));
    };
    let keep = |error| BuildError::store("unpack a build context", error);
    let scratch = Scratch::new(&session.machine.store).map_err(keep)?;
    let path = scratch.path().join("tree");
    std::fs::create_dir(&path).map_err(keep)?;
    let root = Root::open(&path).map_err(keep)?;
    let reader = compress::reader(compression, file).map_err(keep)?;
    apply(reader, &root, Ownership::Single)
        .map_err(|error| BuildError::Refused { action: format!("unpack {shown}"), source: Box::new(error) })?;
    Ok(Remote::Directory { scratch, path, mtime: None, time })
}
