//! `config.json` and `auth.json`: reading them and finding the entry for a repository.
//!
//! Keys look like `host`, `host:port`, `host/namespace/repository` (podman) or `https://index.docker.io/v1/`
//! (docker). The longest path that leads to the repository wins.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Credential, CredentialError, Found};
use crate::host::{self, HUB};
use crate::secret::Secret;

/// A credentials file: people keep few registries; a megabyte is far beyond any.
const FILE_BYTES: u64 = 1 << 20;
/// What docker calls the Hub in its files and towards helpers.
const HUB_LEGACY: &str = "https://index.docker.io/v1/";

/// A parsed file.
#[derive(Debug)]
pub(super) struct AuthFile {
    pub(super) path: PathBuf,
    pub(super) content: Map<String, Value>,
}

impl AuthFile {
    /// Reads a file; `None` where there's none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CredentialError> {
        let failed = |source| CredentialError::Read { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        let malformed = |detail: &str| CredentialError::Malformed { path: path.to_owned(), detail: detail.to_owned() };
        if bytes.len() as u64 > FILE_BYTES {
            return Err(malformed("it is over a megabyte"));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(Self { path: path.to_owned(), content: Map::new() }));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(content)) => Ok(Some(Self { path: path.to_owned(), content })),
            Ok(_) => Err(malformed("it is no JSON object")),
            // serde's messages name a line and column, and never quote strings of the file.
            Err(error) => Err(malformed(&format!("no JSON at line {}, column {}", error.line(), error.column()))),
        }
    }

    /// The helper that keeps this registry's credentials.
    pub(super) fn helper_for(&self, key: &str) -> Option<String> {
        let own = self.content.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            let mut entries = helpers.iter();
            entries.find_map(|(name, value)| (split_key(name).0 == key).then(|| value.as_str()).flatten())
        });
        let name = own.or_else(|| self.content.get("credsStore").and_then(Value::as_str))?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// The entry whose key leads furthest towards the repository.
    pub(super) fn find(&self, key: &str, repository: &str) -> Result<Option<Found>, CredentialError> {
        let Some(auths) = self.content.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let mut entries: Vec<(usize, &String, &Value)> = auths
            .iter()
            .filter_map(|(name, entry)| {
                let (host, path) = split_key(name);
                let leads = host == key && leads_to(&path, repository);
                leads.then_some((path.len(), name, entry))
            })
            .collect();
        entries.sort_by_key(|(length, _, _)| std::cmp::Reverse(*length));
        for (_, name, entry) in entries {
            if let Some(credential) = self.credential(name, entry)? {
                let place = format!("{}, key `{}`", self.path.display(), name.escape_debug());
                return Ok(Some(Found { credential, place }));
            }
        }
        Ok(None)
    }

    fn credential(&self, name: &str, entry: &Value) -> Result<Option<Credential>, CredentialError> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credential::Identity { token: Secret::new(token) }));
        }
        if let Some(token) = text("registrytoken") {
            return Ok(Some(Credential::Registry { token: Secret::new(token) }));
        }
        if let (Some(username), Some(password)) = (text("username"), text("password")) {
            return Ok(Some(Credential::Password { username: username.to_owned(), password: Secret::new(password) }));
        }
        let Some(coded) = text("auth") else { return Ok(None) };
        let malformed = || CredentialError::Malformed {
            path: self.path.clone(),
            detail: format!("`auth` of key `{}` is no base64 of name:password", name.escape_debug()),
        };
        let bytes = STANDARD.decode(coded.trim()).map_err(|_| malformed())?;
        let plain = String::from_utf8(bytes).map_err(|_| malformed())?;
        let (username, password) = plain.split_once(':').ok_or_else(malformed)?;
        // Docker pads with NUL what it wrote long ago.
        let password = password.trim_matches('\0');
        Ok(Some(Credential::Password { username: username.to_owned(), password: Secret::new(password) }))
    }
}

/// A key to the registry that it names and the path below it.
pub(super) fn split_key(key: &str) -> (String, String) {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let path = path.trim_matches('/');
    // Docker's old form carries the API's version.
    let path = if bare.is_some() && matches!(path, "v1" | "v2") { "" } else { path };
    (host::registry_key(host), path.to_owned())
}

/// Whether `path` is the repository or one of its parents.
fn leads_to(path: &str, repository: &str) -> bool {
    path.is_empty() || repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What helpers and files may know a registry as, the preferred name first.
pub(super) fn server_names(key: &str) -> Vec<String> {
    if key == HUB { vec![HUB_LEGACY.to_owned(), HUB.to_owned()] } else { vec![key.to_owned()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auths(content: &str) -> AuthFile {
        AuthFile { path: "x".into(), content: serde_json::from_str(content).unwrap() }
    }

    fn user(found: Option<Found>) -> String {
        match found.map(|found| found.credential) {
            Some(Credential::Password { username, .. }) => username,
            Some(Credential::Identity { .. }) => "<identity>".to_owned(),
            Some(Credential::Registry { .. }) => "<registry>".to_owned(),
            None => String::new(),
        }
    }

    #[test]
    fn the_longest_path_of_exactly_this_host_wins() {
        let file = auths(
            r#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"aHViOnA="},
                "quay.io":{"auth":"cXVheTpw"},"quay.io/team":{"auth":"dGVhbTpw"},"quay.io/team/app":{"auth":"YXBwOnA="},
                "reg.example:5000":{"username":"five","password":"p"},"https://legacy.example/v2/":{"auth":"bGVnOnA="},
                "empty.example":{},"id.example":{"identitytoken":"t","auth":"aDpw"},"tok.example":{"registrytoken":"t"}
            }}"#,
        );
        for (key, repository, want) in [
            ("docker.io", "library/python", "hub"),
            ("quay.io", "other/app", "quay"),
            ("quay.io", "team/other", "team"),
            ("quay.io", "teams/other", "quay"),
            ("quay.io", "team/app", "app"),
            ("quay.io", "team/app/sub", "app"),
            ("reg.example:5000", "a", "five"),
            ("reg.example", "a", ""),
            ("legacy.example", "a", "leg"),
            ("empty.example", "a", ""),
            ("id.example", "a", "<identity>"),
            ("tok.example", "a", "<registry>"),
            // Look-alikes.
            ("quay.io.evil.example", "team/app", ""),
            ("evilquay.io", "team/app", ""),
            ("quay.io.", "team/app", ""),
            ("quay.io:443", "team/app", ""),
            ("index.docker.io.evil.example", "a", ""),
        ] {
            assert_eq!(user(file.find(key, repository).unwrap()), want, "{key}/{repository}");
        }
    }

    #[test]
    fn a_bad_entry_is_an_error_without_its_content() {
        let file = auths(r#"{"auths":{"a.example":{"auth":"c2VjcmV0"}}}"#);
        let message = file.find("a.example", "x").unwrap_err().to_string();
        assert!(message.contains("a.example") && !message.contains("c2VjcmV0"), "{message}");
    }

    #[test]
    fn helpers_are_chosen_by_registry() {
        let file = auths(r#"{"credsStore":"store","credHelpers":{"gcr.io":"gcloud"}}"#);
        assert_eq!(file.helper_for("gcr.io").as_deref(), Some("gcloud"));
        assert_eq!(file.helper_for("quay.io").as_deref(), Some("store"));
        assert_eq!(auths("{}").helper_for("quay.io"), None);
    }
}
