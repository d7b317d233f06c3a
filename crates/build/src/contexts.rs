//! The directories of this machine that a build reads from: the build context and those of `--build-context`.
//!
//! A directory, or a checkout that was made for this build, with the rules of its ignore file. What is selected in it
//! is decided elsewhere.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use kuz_dockerfile::ignore::Ignore;
use kuz_rootfs::context::{Context, ContextError, Verdict};

use crate::error::BuildError;
use crate::filter;
use crate::inputs::read_regular;
use crate::request::ContextSource;
use crate::scratch::Scratch;
use crate::session::Session;

/// An ignore file larger than this is a mistake.
const IGNORE_BYTES: u64 = 4 << 20;

/// A directory to read from.
#[derive(Debug)]
pub(crate) struct LocalContext {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What of it is not seen.
    pub(crate) ignore: Ignore,
    /// The ignore file's name, for messages.
    pub(crate) ignore_name: Option<String>,
    /// As messages name it.
    pub(crate) shown: String,
    /// The time that all that is in it gets, where it has one: a commit's.
    pub(crate) mtime: Option<i64>,
    /// The time of the whole, where it is known: a commit's, or that of a file from the web.
    pub(crate) time: Option<i64>,
    /// Keeps the directory for as long as the context is used, where it was made for this build.
    scratch: Option<Scratch>,
}

impl LocalContext {
    /// A directory of the user's. Its ignore file is `<dockerfile>.dockerignore` beside the Dockerfile, if it is given
    /// and there, else its own `.dockerignore`.
    pub(crate) fn directory(path: PathBuf, shown: String, dockerfile: Option<&Path>) -> Result<Self, BuildError> {
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(BuildError::input(format!(
                    "{shown} is not a directory (name the directory that COPY reads from)"
                )));
            }
            Err(error) => {
                return Err(BuildError::Input {
                    message: format!("{shown} cannot be read"),
                    source: Some(Box::new(error)),
                });
            }
        }
        let (ignore, ignore_name) = read_ignore(dockerfile, &path)?;
        Ok(Self { path, ignore, ignore_name, shown, mtime: None, time: None, scratch: None })
    }

    /// A directory inside a scratch directory. As in BuildKit, ignore files of remote contexts are not looked at.
    pub(crate) fn made(scratch: Scratch, path: PathBuf, shown: String) -> Self {
        let ignore = Ignore::default();
        Self { path, ignore, ignore_name: None, shown, mtime: None, time: None, scratch: Some(scratch) }
    }

    /// With the times that are known of it.
    pub(crate) fn dated(self, mtime: Option<i64>, time: Option<i64>) -> Self {
        Self { mtime, time, ..self }
    }

    /// Whether it will be there for the next build: what is known of its files is then worth keeping.
    pub(crate) fn lasts(&self) -> bool {
        self.scratch.is_none()
    }

    /// Safe access to its files.
    pub(crate) fn open(&self) -> Result<Context, ContextError> {
        Context::open(&self.path)
    }

    /// What the ignore file says about a path.
    pub(crate) fn verdict(&self, path: &[u8], is_dir: bool) -> Verdict {
        filter::judge(&self.ignore, path, is_dir)
    }
}

/// A named context, opened when it is first used.
#[derive(Debug)]
pub(crate) struct NamedContext {
    name: String,
    pub(crate) source: ContextSource,
    opened: OnceLock<LocalContext>,
    opening: Mutex<()>,
}

impl NamedContext {
    pub(crate) fn new(name: &str, source: &ContextSource) -> Self {
        Self { name: name.to_owned(), source: source.clone(), opened: OnceLock::new(), opening: Mutex::default() }
    }

    /// The directory; a remote one is fetched now if it hasn't been.
    pub(crate) fn open(&self, session: &Session<'_>) -> Result<&LocalContext, BuildError> {
        let _turn = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let shown = format!("the build context `{}` ({})", self.name, self.source.shown());
        let opened = match &self.source {
            ContextSource::Directory(path) => LocalContext::directory(path.clone(), shown, None)?,
            ContextSource::Remote(url) => {
                crate::remote_context::fetch(session, url, &shown, false)?.into_directory(shown)?
            }
            ContextSource::Image(_) | ContextSource::Layout { .. } => {
                return Err(BuildError::input(format!("{shown} is an image, not a directory")));
            }
        };
        Ok(self.opened.get_or_init(|| opened))
    }
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile, else the context's `.dockerignore`.
fn read_ignore(dockerfile: Option<&Path>, context: &Path) -> Result<(Ignore, Option<String>), BuildError> {
    let beside = dockerfile.map(|dockerfile| {
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        PathBuf::from(beside)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
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
