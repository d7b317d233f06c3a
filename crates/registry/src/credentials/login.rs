//! Writing credentials down and striking them out again.
//!
//! The file keeps all of its other content, is replaced in one step and readable by its owner only. Where a
//! credential store is configured, the secret goes there and the file only notes that there is one. Verifying the
//! credentials comes before, see [`crate::Client::verify_login`].

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::file::{AuthFile, server_names, split_key};
use super::{Credential, CredentialError, CredentialPaths, helper};
use crate::host;

/// Where credentials were put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// In a file, coded but not encrypted.
    File(PathBuf),
    /// With a credential helper.
    Helper(String),
}

/// Stores credentials for a registry (`docker.io`, `host:port`, also as a web address).
pub async fn login(
    paths: &CredentialPaths,
    registry: &str,
    credential: &Credential,
    timeout: Duration,
) -> Result<Stored, CredentialError> {
    let key = host::registry_name(registry).map_err(CredentialError::Registry)?;
    let path = place(paths)?;
    let mut file = AuthFile::read(path)?.unwrap_or_else(|| AuthFile { path: path.to_owned(), content: Map::new() });
    let server = server_names(&key).swap_remove(0);
    let (entry, stored) = match file.helper_for(&key) {
        Some(name) => {
            helper::store(&name, &server, credential, paths.programs.as_deref(), timeout).await?;
            (json!({}), Stored::Helper(name))
        }
        None => (entry(credential), Stored::File(path.to_owned())),
    };
    let auths = auths(&mut file)?;
    auths.retain(|name, _| split_key(name) != (key.clone(), String::new()));
    auths.insert(server, entry);
    write(path, &file.content)?;
    Ok(stored)
}

/// Forgets the credentials for a registry; whether there were any.
pub async fn logout(paths: &CredentialPaths, registry: &str, timeout: Duration) -> Result<bool, CredentialError> {
    let key = host::registry_name(registry).map_err(CredentialError::Registry)?;
    let path = place(paths)?;
    let Some(mut file) = AuthFile::read(path)? else { return Ok(false) };
    let mut known = false;
    if let Some(name) = file.helper_for(&key) {
        for server in server_names(&key) {
            let programs = paths.programs.as_deref();
            known |= helper::get(&name, &server, programs, timeout).await?.is_some();
            helper::erase(&name, &server, programs, timeout).await?;
        }
    }
    let auths = auths(&mut file)?;
    let before = auths.len();
    auths.retain(|name, _| split_key(name) != (key.clone(), String::new()));
    if auths.len() != before {
        known = true;
        write(path, &file.content)?;
    }
    Ok(known)
}

/// The file that is written.
fn place(paths: &CredentialPaths) -> Result<&Path, CredentialError> {
    paths.auth_file.as_deref().or(paths.docker_config.as_deref()).ok_or(CredentialError::Nowhere)
}

fn auths(file: &mut AuthFile) -> Result<&mut Map<String, Value>, CredentialError> {
    let path = file.path.clone();
    let auths = file.content.entry("auths").or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    auths
        .as_object_mut()
        .ok_or_else(|| CredentialError::Malformed { path, detail: "`auths` is no JSON object".to_owned() })
}

fn entry(credential: &Credential) -> Value {
    match credential {
        Credential::Password { username, password } => {
            json!({"auth": STANDARD.encode(format!("{username}:{}", password.expose()))})
        }
        Credential::Identity { token } => json!({"identitytoken": token.expose()}),
        Credential::Registry { token } => json!({"registrytoken": token.expose()}),
    }
}

/// Replaces the file in one step; `tempfile` makes files that only their owner can read.
fn write(path: &Path, content: &Map<String, Value>) -> Result<(), CredentialError> {
    let failed = |source| CredentialError::Write { path: path.to_owned(), source };
    // A link (dotfiles kept elsewhere) stays a link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut text = serde_json::to_vec_pretty(content).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}
