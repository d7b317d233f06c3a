//! Which credentials belong to a registry: docker's `config.json`, podman's `auth.json`, credential helpers.
//!
//! Paths and variables come in as values ([`CredentialPaths`]); a host and a repository go in, at most one credential
//! comes out, with the place that it came from. Hosts are compared whole. A file that cannot be read is an error; a
//! helper that fails is reported and leaves the caller anonymous.
//!
//! Order: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`, `$XDG_RUNTIME_DIR/containers/auth.json`,
//! `~/.config/containers/auth.json`. Within a file: `credHelpers`, `credsStore`, `auths` (longest matching path).

mod file;
mod helper;
mod login;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::secret::Secret;

pub use login::{Stored, login, logout};

use file::AuthFile;

/// Where credentials are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialPaths {
    /// `$REGISTRY_AUTH_FILE`: read first and written by [`login`] where it's set.
    pub auth_file: Option<PathBuf>,
    /// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`: written by [`login`].
    pub docker_config: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`.
    pub runtime_auth: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME/containers/auth.json`, else `~/.config/containers/auth.json`.
    pub home_auth: Option<PathBuf>,
    /// `$PATH`: where `docker-credential-*` programs are looked for.
    pub programs: Option<OsString>,
}

impl CredentialPaths {
    /// Takes the paths out of variables (`HOME` among them).
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = folder("HOME");
        let docker = folder("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let config = folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        Self {
            auth_file: folder("REGISTRY_AUTH_FILE"),
            docker_config: docker.map(|folder| folder.join("config.json")),
            runtime_auth: folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
            home_auth: config.map(|folder| folder.join("containers/auth.json")),
            programs: variable("PATH"),
        }
    }

    /// The files that are read, in order.
    fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.auth_file, &self.docker_config, &self.runtime_auth, &self.home_auth]
            .into_iter()
            .filter_map(Option::as_deref)
    }
}

/// What proves who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, to be traded for access tokens.
    Identity {
        /// The refresh token.
        token: Secret,
    },
    /// A token that's sent as it is.
    Registry {
        /// The access token.
        token: Secret,
    },
}

/// A credential and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The credential.
    pub credential: Credential,
    /// The file and key, or the helper.
    pub place: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.credential {
            Credential::Password { username, .. } => write!(f, "as `{}`", username.escape_debug())?,
            Credential::Identity { .. } => f.write_str("with an identity token")?,
            Credential::Registry { .. } => f.write_str("with a registry token")?,
        }
        write!(f, " (from {})", self.place)
    }
}

/// What a lookup gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lookup {
    pub(crate) found: Option<Found>,
    /// Helpers that failed on the way.
    pub(crate) notes: Vec<String>,
}

impl Lookup {
    /// For messages: as whom something was asked.
    pub(crate) fn identity(&self) -> String {
        match (&self.found, self.notes.as_slice()) {
            (Some(found), _) => found.to_string(),
            (None, []) => "without credentials".to_owned(),
            (None, notes) => format!("without credentials ({})", notes.join("; ")),
        }
    }
}

/// Why stored credentials cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file isn't what it should be.
    #[error("{} is no credentials file: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why, without any of its content.
        detail: String,
    },
    /// A file cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No registry.
    #[error("{0}")]
    Registry(crate::host::HostError),
    /// There's no file to write to.
    #[error("no place to keep credentials: neither HOME nor DOCKER_CONFIG is set")]
    Nowhere,
    /// A name that cannot be part of a program's name.
    #[error("credential helper `{}` has a name that no program can have", name.escape_debug())]
    HelperName {
        /// The name.
        name: String,
    },
    /// The helper isn't installed.
    #[error("credential helper `docker-credential-{name}` is not installed")]
    HelperMissing {
        /// The name.
        name: String,
    },
    /// The helper didn't end.
    #[error("credential helper `docker-credential-{name}` did not answer within {} s", waited.as_secs_f32())]
    HelperTimeout {
        /// The name.
        name: String,
        /// How long.
        waited: Duration,
    },
    /// The helper failed.
    #[error("credential helper `docker-credential-{name}` failed: {detail}")]
    HelperFailed {
        /// The name.
        name: String,
        /// Why.
        detail: String,
    },
}

/// The lookups of one client.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    paths: CredentialPaths,
    helper_timeout: Duration,
}

impl Credentials {
    pub(crate) fn new(paths: CredentialPaths, helper_timeout: Duration) -> Self {
        Self { paths, helper_timeout }
    }

    /// The credential for a repository of a registry (`docker.io`, `host:port`). Read anew each time: helpers hand out
    /// credentials that expire, and somebody may have logged in since.
    pub(crate) async fn find(&self, key: &str, repository: &str) -> Result<Lookup, CredentialError> {
        let mut lookup = Lookup::default();
        for path in self.paths.files() {
            let Some(file) = AuthFile::read(path)? else { continue };
            if let Some(name) = file.helper_for(key) {
                self.ask_helper(&name, key, path, &mut lookup).await;
            }
            if lookup.found.is_none() {
                lookup.found = file.find(key, repository)?;
            }
            if lookup.found.is_some() {
                break;
            }
        }
        Ok(lookup)
    }

    async fn ask_helper(&self, name: &str, key: &str, path: &Path, lookup: &mut Lookup) {
        for server in file::server_names(key) {
            match helper::get(name, &server, self.paths.programs.as_deref(), self.helper_timeout).await {
                Ok(Some(credential)) => {
                    let place = format!("docker-credential-{name}, named by {}", path.display());
                    lookup.found = Some(Found { credential, place });
                    return;
                }
                Ok(None) => {}
                Err(error) => {
                    lookup.notes.push(error.to_string());
                    return;
                }
            }
        }
    }
}
