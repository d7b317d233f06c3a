//! What the user passes on by the command line, by id: secrets and ssh agents, for steps and for what ADD and contexts
//! fetch.
//!
//! A secret's value is read when somebody needs it. Names of secrets that say what a server is shown are BuildKit's:
//! `GIT_AUTH_TOKEN`, `GIT_AUTH_HEADER` (also with `.host` behind), `HTTP_AUTH_TOKEN_host`, `HTTP_AUTH_HEADER_host`. Where
//! the values go is decided by who asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use kuz_registry::Secret;
use kuz_sandbox::Hidden;

use crate::error::BuildError;
use crate::request::{BuildRequest, SecretSource};

/// A secret may have this many bytes: the limit of other builders.
const SECRET_BYTES: u64 = 500 << 10;
/// More is no header.
const HEADER_BYTES: usize = 16 << 10;
/// The name that a token is shown with, as forges want it.
const TOKEN_USER: &str = "x-access-token";

/// Secrets and agents.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    secrets: BTreeMap<String, SecretSource>,
    agents: BTreeMap<String, PathBuf>,
}

impl Passed {
    pub(crate) fn new(request: &BuildRequest) -> Self {
        Self { secrets: request.secrets.clone(), agents: request.ssh.clone() }
    }

    /// The value of a secret, if it was passed on.
    pub(crate) fn secret(&self, id: &str) -> Result<Option<Hidden>, BuildError> {
        let value = match self.secrets.get(id) {
            None => return Ok(None),
            Some(SecretSource::Value(value)) => value.clone(),
            Some(SecretSource::File(path)) => {
                let bytes = crate::inputs::read_regular(path, SECRET_BYTES).map_err(|error| BuildError::Input {
                    message: format!("the file `{}` of secret `{id}` cannot be read", path.display()),
                    source: Some(Box::new(error)),
                })?;
                Hidden(bytes)
            }
        };
        if value.0.len() as u64 > SECRET_BYTES {
            return Err(BuildError::input(format!("secret `{id}` is over the limit of {SECRET_BYTES} bytes")));
        }
        Ok(Some(value))
    }

    /// The socket of an agent.
    pub(crate) fn agent(&self, id: &str) -> Option<&Path> {
        self.agents.get(id).map(PathBuf::as_path)
    }

    /// The value of an `Authorization` header for git at a host (with its port, if one is named).
    pub(crate) fn for_git(&self, host: &str) -> Result<Option<Secret>, BuildError> {
        for (id, is_token) in [
            (format!("GIT_AUTH_HEADER.{host}"), false),
            (format!("GIT_AUTH_TOKEN.{host}"), true),
            ("GIT_AUTH_HEADER".to_owned(), false),
            ("GIT_AUTH_TOKEN".to_owned(), true),
        ] {
            let Some(text) = self.header(&id)? else { continue };
            let encode = |pair: String| base64::engine::general_purpose::STANDARD.encode(pair);
            let text = if is_token { format!("basic {}", encode(format!("{TOKEN_USER}:{text}"))) } else { text };
            return Ok(Some(Secret::new(text)));
        }
        Ok(None)
    }

    /// The value of an `Authorization` header for the web at a host, its port left aside. As in BuildKit, a token wins.
    pub(crate) fn for_web(&self, host: &str) -> Result<Option<Secret>, BuildError> {
        if let Some(token) = self.header(&format!("HTTP_AUTH_TOKEN_{host}"))? {
            return Ok(Some(Secret::new(format!("Bearer {token}"))));
        }
        Ok(self.header(&format!("HTTP_AUTH_HEADER_{host}"))?.map(Secret::new))
    }

    /// A secret as (part of) a header: one line. The line end of a file is none of it.
    fn header(&self, id: &str) -> Result<Option<String>, BuildError> {
        let Some(value) = self.secret(id)? else { return Ok(None) };
        let text = String::from_utf8(value.0.clone()).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        let fits = |text: &String| !text.is_empty() && text.len() <= HEADER_BYTES && !text.contains(char::is_control);
        match text.filter(fits) {
            Some(text) => Ok(Some(text)),
            None => Err(BuildError::input(format!("secret `{id}` is no line of text, as a header must be"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(secrets: &[(&str, &str)]) -> Passed {
        let value = |text: &str| SecretSource::Value(Hidden(text.as_bytes().to_vec()));
        let secrets = secrets.iter().map(|(id, text)| ((*id).to_owned(), value(text))).collect();
        Passed { secrets, agents: BTreeMap::new() }
    }

    #[test]
    fn the_nearest_name_counts() {
        let all = [
            ("GIT_AUTH_TOKEN", "t"),
            ("GIT_AUTH_HEADER", "Custom h\n"),
            ("GIT_AUTH_TOKEN.a:81", "at81"),
            ("HTTP_AUTH_HEADER_a", "Custom w"),
            ("HTTP_AUTH_HEADER_b", "Custom b"),
            ("HTTP_AUTH_TOKEN_b", "wt"),
        ];
        let git = |passed: &Passed, host: &str| passed.for_git(host).unwrap().map(|secret| secret.expose().to_owned());
        let web = |host: &str| passed(&all).for_web(host).unwrap().map(|secret| secret.expose().to_owned());
        assert_eq!(git(&passed(&all), "b").as_deref(), Some("Custom h"));
        assert_eq!(git(&passed(&all), "a:81").as_deref(), Some("basic eC1hY2Nlc3MtdG9rZW46YXQ4MQ=="));
        assert_eq!(git(&passed(&all[..1]), "a").as_deref(), Some("basic eC1hY2Nlc3MtdG9rZW46dA=="));
        assert_eq!(git(&passed(&[]), "a"), None);
        assert_eq!((web("a").as_deref(), web("b").as_deref(), web("c")), (Some("Custom w"), Some("Bearer wt"), None));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for text in ["", "a\nHost: b", "a\0"] {
            let error = passed(&[("GIT_AUTH_TOKEN", text)]).for_git("a").unwrap_err().to_string();
            assert!(error.contains("GIT_AUTH_TOKEN"), "{error}");
        }
    }
}
