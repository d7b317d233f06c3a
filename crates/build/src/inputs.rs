//! The Dockerfile, the context and the ignore file of a request: paths in, parsed values out.
//!
//! Finds the files as `docker build` does, reads them once (regular files only, within a limit, never waiting on a
//! fifo) and parses them. A context may also be a repository, a tar on the web or on standard input, and the Dockerfile
//! may come from standard input. Does not look at a directory's contents.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kuz_dockerfile::ignore::Ignore;
use kuz_dockerfile::{Diagnostic, Dockerfile};
use kuz_rootfs::{GuestPath, Root};

use crate::check;
use crate::contexts::{LocalContext, NamedContext};
use crate::download;
use crate::error::BuildError;
use crate::remote_context::{self, Remote};
use crate::request::BuildRequest;
use crate::scratch::Scratch;
use crate::session::Session;

/// A Dockerfile larger than this is a mistake; BuildKit's own limit is of this order.
pub(crate) const DOCKERFILE_BYTES: u64 = 16 << 20;
/// The build argument that keeps the `.git` of a context that is a repository.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// Standard input.
const STDIN: &str = "-";

/// What a build reads before it plans.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The Dockerfile's name, as the user knows it.
    pub(crate) file: String,
    /// The parsed file; its text is in it.
    pub(crate) dockerfile: Dockerfile,
    /// Findings of the parser and the rules that do not stop the build.
    pub(crate) warnings: Vec<Diagnostic>,
    /// What COPY and ADD read from.
    pub(crate) context: LocalContext,
    /// The contexts of `--build-context`, by name.
    pub(crate) named: BTreeMap<String, NamedContext>,
}

/// Reads and parses what the request names.
pub(crate) fn read(session: &Session<'_>, request: &BuildRequest) -> Result<Inputs, BuildError> {
    let (file, bytes, context) = files(session, request)?;
    let (dockerfile, warnings) = check::judge(request, &file, kuz_dockerfile::parse(&bytes))?;
    let named = request.contexts.iter().map(|(name, source)| (name.clone(), NamedContext::new(name, source))).collect();
    Ok(Inputs { file, dockerfile, warnings, context, named })
}

/// The Dockerfile's name and text, the context and what it leaves out: all that a check reads. It starts no session,
/// so that the context must be here.
pub(crate) fn texts(request: &BuildRequest) -> Result<(String, Vec<u8>, PathBuf, Ignore), BuildError> {
    let typed = request.input.build_context.as_deref().unwrap_or(".");
    if typed == STDIN || remote_context::is_remote(typed) {
        return Err(BuildError::input("a check needs a directory as its context (the Dockerfile may be `-f -`)"));
    }
    if request.dockerfile_given && download::is_meant(&request.input.dockerfile_path) {
        return Err(BuildError::input(
            "a check needs the Dockerfile here (fetch it, and name it with -f FILE, or - for \
                                      standard input)",
        ));
    }
    let file_on_stdin = request.dockerfile_given && request.input.dockerfile_path == STDIN;
    let (file, bytes, context) = local(request, Path::new(typed), file_on_stdin)?;
    Ok((file, bytes, context.path, context.ignore))
}

/// The Dockerfile's name and text, and the context.
fn files(session: &Session<'_>, request: &BuildRequest) -> Result<(String, Vec<u8>, LocalContext), BuildError> {
    let typed = request.input.build_context.as_deref().unwrap_or(".");
    let file_on_stdin = request.dockerfile_given && request.input.dockerfile_path == STDIN;
    if file_on_stdin {
        session.cancel.attend();
    }
    let from_web = download::is_meant(&request.input.dockerfile_path) && request.dockerfile_given;
    let apart = if from_web { Some(from_the_web(session, &request.input.dockerfile_path)?) } else { None };
    if typed != STDIN && !remote_context::is_remote(typed) {
        let Some((file, bytes)) = apart else { return local(request, Path::new(typed), file_on_stdin) };
        let shown = format!("the build context `{typed}`");
        return Ok((file, bytes, LocalContext::directory(PathBuf::from(typed), shown, None)?));
    }
    if typed == STDIN && file_on_stdin {
        let message = "standard input cannot be both the context and the Dockerfile (name one of them)";
        return Err(BuildError::input(message));
    }
    let (shown, remote) = if typed == STDIN {
        let shown = "the build context on standard input".to_owned();
        let remote = remote_context::from_stdin(session, &shown)?;
        (shown, remote)
    } else {
        let shown = format!("the build context `{}`", remote_context::shown(typed));
        let remote = remote_context::fetch(session, typed, &shown, keep_git_dir(request)?)?;
        (shown, remote)
    };
    match remote {
        Remote::Text(bytes, time) => {
            if request.dockerfile_given {
                return Err(BuildError::input(format!("{shown} is a Dockerfile, and -f names another one")));
            }
            let scratch = Scratch::new(&session.machine.store)
                .map_err(|error| BuildError::store("make an empty build context", error))?;
            let path = scratch.path().to_owned();
            let context = LocalContext::made(scratch, path, shown).dated(None, time);
            Ok(("Dockerfile".to_owned(), bytes, context))
        }
        directory @ Remote::Directory { .. } => {
            let context = directory.into_directory(shown)?;
            if file_on_stdin {
                return Ok((STDIN.to_owned(), read_stdin()?, context));
            }
            if let Some((file, bytes)) = apart {
                return Ok((file, bytes, context));
            }
            let (file, bytes) = read_inside(request, &context)?;
            Ok((file, bytes, context))
        }
    }
}

/// A Dockerfile on the web: its address, and its text.
fn from_the_web(session: &Session<'_>, address: &str) -> Result<(String, Vec<u8>), BuildError> {
    let shown = remote_context::shown(address);
    let fetched = download::fetch(session, address, None)?;
    if fetched.size > DOCKERFILE_BYTES {
        return Err(BuildError::input(format!(
            "the Dockerfile `{shown}` is over the limit of {DOCKERFILE_BYTES} bytes"
        )));
    }
    let mut bytes = Vec::new();
    let read = session.open_blob(&fetched.blob)?.take(DOCKERFILE_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| BuildError::store("read a Dockerfile", error))?;
    Ok((shown, bytes))
}

/// What the build argument says about the `.git` of a context that is a repository.
fn keep_git_dir(request: &BuildRequest) -> Result<bool, BuildError> {
    let given = request.input.build_args.as_ref().and_then(|args| args.get(KEEP_GIT_DIR));
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(false) };
    kuz_dockerfile::boolean(text).ok_or_else(|| {
        BuildError::input(format!("the build argument {KEEP_GIT_DIR} is `{}`: want 1 or 0", text.escape_debug()))
    })
}

/// A directory of the user's.
fn local(
    request: &BuildRequest,
    directory: &Path,
    file_on_stdin: bool,
) -> Result<(String, Vec<u8>, LocalContext), BuildError> {
    let shown = format!("the build context `{}`", directory.display());
    if file_on_stdin {
        let context = LocalContext::directory(directory.to_owned(), shown, None)?;
        return Ok((STDIN.to_owned(), read_stdin()?, context));
    }
    let checked = std::fs::metadata(directory).is_ok_and(|found| found.is_dir());
    if !checked {
        // Says what is wrong with it.
        LocalContext::directory(directory.to_owned(), shown.clone(), None)?;
    }
    let (path, file) = locate(request, directory)?;
    let bytes = read_regular(&path, DOCKERFILE_BYTES).map_err(|error| missing(request, &path, error))?;
    let context = LocalContext::directory(directory.to_owned(), shown, Some(&path))?;
    Ok((file, bytes, context))
}

/// The Dockerfile of a context that was fetched: `-f` is a path in it, and links do not lead out of it.
fn read_inside(request: &BuildRequest, context: &LocalContext) -> Result<(String, Vec<u8>), BuildError> {
    let failed = |name: &str, error: Box<dyn std::error::Error + Send + Sync>| BuildError::Input {
        message: format!("the Dockerfile `{name}` of {} cannot be read", context.shown),
        source: Some(error),
    };
    let root = Root::open(&context.path).map_err(|error| failed("Dockerfile", Box::new(error)))?;
    let given = [request.input.dockerfile_path.as_str()];
    let names: &[&str] = if request.dockerfile_given { &given } else { &["Dockerfile", "dockerfile"] };
    for &name in names {
        let path = GuestPath::new(name.as_bytes()).map_err(|error| failed(name, Box::new(error)))?;
        let found = root.stat(&path, true).map_err(|error| failed(name, Box::new(error)))?;
        if found.is_some() {
            let bytes = root.read_small(&path, DOCKERFILE_BYTES).map_err(|error| failed(name, Box::new(error)))?;
            return Ok((name.to_owned(), bytes));
        }
    }
    let how = if request.dockerfile_given { " (-f is a path in it)" } else { " (name it with -f FILE)" };
    Err(BuildError::input(format!("there is no `{}` in {}{how}", names.first().unwrap_or(&""), context.shown)))
}

fn read_stdin() -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(DOCKERFILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| BuildError::Input {
        message: "the Dockerfile on standard input cannot be read".into(),
        source: Some(Box::new(error)),
    })?;
    if bytes.len() as u64 > DOCKERFILE_BYTES {
        return Err(BuildError::input(format!(
            "the Dockerfile on standard input is over the limit of {DOCKERFILE_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

/// `-f` as typed, else `Dockerfile` or `dockerfile` in the context.
fn locate(request: &BuildRequest, context: &Path) -> Result<(PathBuf, String), BuildError> {
    let typed = &request.input.dockerfile_path;
    if request.dockerfile_given {
        return Ok((PathBuf::from(typed), typed.clone()));
    }
    for name in ["Dockerfile", "dockerfile"] {
        let path = context.join(name);
        if path.symlink_metadata().is_ok() {
            return Ok((path, name.to_owned()));
        }
    }
    Err(BuildError::input(format!("no Dockerfile in `{}` (write one, or name it with -f FILE)", context.display())))
}

fn missing(request: &BuildRequest, path: &Path, error: std::io::Error) -> BuildError {
    let how =
        if request.dockerfile_given { " (-f is relative to the working directory, not to the context)" } else { "" };
    BuildError::Input {
        message: format!("the Dockerfile `{}` cannot be read{how}", path.display()),
        source: Some(Box::new(error)),
    }
}

/// A whole regular file, at most `limit` bytes; a fifo, device or socket is an error at once.
pub(crate) fn read_regular(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let file: File = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default())
        .open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a fifo"
        } else {
            "not a regular file"
        };
        return Err(std::io::Error::other(format!("it is {what}, not a file")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or_default() + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it is over the limit of {limit} bytes")));
    }
    Ok(bytes)
}
