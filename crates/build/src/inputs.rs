//! The Dockerfile, the context and the ignore file of a request: paths in, parsed values out.
//!
//! Finds the files as `docker build` does, reads them once (regular files only, within a limit, never waiting on a
//! fifo) and parses them. Does not look at the context's contents.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kuz_dockerfile::ignore::Ignore;
use kuz_dockerfile::{Diagnostic, Dockerfile, Severity};

use crate::error::{BuildError, Findings};
use crate::request::BuildRequest;

/// A Dockerfile larger than this is a mistake; BuildKit's own limit is of this order.
const DOCKERFILE_BYTES: u64 = 16 << 20;
/// An ignore file larger than this is a mistake.
const IGNORE_BYTES: u64 = 4 << 20;

/// What a build reads before it plans.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The Dockerfile's name, as the user knows it.
    pub(crate) file: String,
    /// The parsed file; its text is in it.
    pub(crate) dockerfile: Dockerfile,
    /// Findings of the parser and the rules that do not stop the build.
    pub(crate) warnings: Vec<Diagnostic>,
    /// The context's directory.
    pub(crate) context: PathBuf,
    /// What of the context is not seen.
    pub(crate) ignore: Ignore,
    /// The ignore file's name, for messages.
    pub(crate) ignore_name: Option<String>,
}

/// Reads and parses what the request names.
pub(crate) fn read(request: &BuildRequest) -> Result<Inputs, BuildError> {
    let context = PathBuf::from(request.input.build_context.as_deref().unwrap_or("."));
    match std::fs::metadata(&context) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(BuildError::input(format!(
                "the build context `{}` is not a directory (name the directory that COPY reads from)",
                context.display()
            )));
        }
        Err(error) => {
            return Err(BuildError::Input {
                message: format!("the build context `{}` cannot be read", context.display()),
                source: Some(Box::new(error)),
            });
        }
    }
    let (path, file) = locate(request, &context)?;
    let bytes = read_regular(&path, DOCKERFILE_BYTES).map_err(|error| missing(request, &path, error))?;
    let parsed = kuz_dockerfile::parse(&bytes);
    let mut diagnostics = parsed.diagnostics;
    if diagnostics.iter().any(|finding| finding.severity == Severity::Error) {
        diagnostics.retain(|finding| finding.severity == Severity::Error);
        return Err(BuildError::Findings(Box::new(Findings { file, source: parsed.file.source, diagnostics })));
    }
    diagnostics.extend(kuz_dockerfile::lint::lint(&parsed.file));
    let (ignore, ignore_name) = read_ignore(&path, &context)?;
    Ok(Inputs { file, dockerfile: parsed.file, warnings: diagnostics, context, ignore, ignore_name })
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

/// `<Dockerfile>.dockerignore` beside the Dockerfile, else the context's `.dockerignore`.
fn read_ignore(dockerfile: &Path, context: &Path) -> Result<(Ignore, Option<String>), BuildError> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    for path in [PathBuf::from(beside), context.join(".dockerignore")] {
        match read_regular(&path, IGNORE_BYTES) {
            Ok(bytes) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let ignore = Ignore::parse(&bytes).map_err(|error| BuildError::Input {
                    message: format!("the ignore file `{}` cannot be used", path.display()),
                    source: Some(Box::new(error)),
                })?;
                return Ok((ignore, name));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(BuildError::Input {
                    message: format!("the ignore file `{}` cannot be read", path.display()),
                    source: Some(Box::new(error)),
                });
            }
        }
    }
    Ok((Ignore::default(), None))
}

/// A whole regular file, at most `limit` bytes; a fifo, device or socket is an error at once.
pub(crate) fn read_regular(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let file: File = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default())
        .open(path)?;
    let kind = file.metadata()?.file_type();
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
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it is over the limit of {limit} bytes")));
    }
    Ok(bytes)
}
