//! What the user's `kuz.toml` says about registries, and the proxies and deadlines that hold for all of them.
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["127.0.0.1:5000", "cache.example/hub"]
//! origin = false
//! [registry."127.0.0.1:5000"]
//! http = true
//! ```
//!
//! Parsed values in, a checked list of endpoints out. Reads no file, no environment; the certificates named by `ca`
//! are read when a connection first needs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::host::{self, Host};

/// All that a [`crate::Client`] is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RegistryConfig {
    /// The `[registry."HOST"]` sections by host.
    #[serde(default)]
    pub registry: BTreeMap<String, RegistrySection>,
    /// The proxies, from the environment.
    #[serde(skip)]
    pub proxy: ProxySettings,
    /// The deadlines.
    #[serde(skip)]
    pub timing: Timing,
}

/// One `[registry."HOST"]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySection {
    /// Asked before the registry itself, in this order: `host`, `host:port` or `host:port/prefix`.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Plain HTTP, and only that.
    #[serde(default)]
    pub http: bool,
    /// Certificates aren't checked, and plain HTTP is tried where TLS fails.
    #[serde(default)]
    pub insecure: bool,
    /// Further certificate authorities: PEM files.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// Whether the registry itself is asked after its mirrors.
    #[serde(default)]
    pub origin: Option<bool>,
    /// Other hosts that issue this registry's tokens and may be sent its credentials.
    #[serde(default)]
    pub auth: Vec<String>,
}

/// The proxies, as the environment names them (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`). Loopback is never proxied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// For `http://` addresses.
    pub http: Option<String>,
    /// For `https://` addresses.
    pub https: Option<String>,
    /// Hosts, suffixes, addresses and ranges that are asked directly, separated by commas.
    pub no_proxy: Option<String>,
}

impl ProxySettings {
    /// Takes the settings out of variables; the lower-case spelling wins, as in curl.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |lower: &str, upper: &str| {
            variable(lower)
                .or_else(|| variable(upper))
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
        };
        let all = either("all_proxy", "ALL_PROXY");
        Self {
            http: either("http_proxy", "HTTP_PROXY").or_else(|| all.clone()),
            https: either("https_proxy", "HTTPS_PROXY").or(all),
            no_proxy: either("no_proxy", "NO_PROXY"),
        }
    }
}

/// How long things may take, and how often they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until an answer begins.
    pub answer: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// From the last byte of an upload until its answer: registries copy and hash large blobs first.
    pub commit: Duration,
    /// Tries in a row that bring nothing new.
    pub attempts: u32,
    /// The pause before the second try; it doubles from there.
    pub first_pause: Duration,
    /// The longest pause of our own making.
    pub longest_pause: Duration,
    /// The longest pause that a `Retry-After` can ask for.
    pub longest_retry_after: Duration,
    /// All pauses of one action together.
    pub budget: Duration,
    /// A credential helper's whole run.
    pub helper: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            commit: Duration::from_mins(5),
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(10),
            longest_retry_after: Duration::from_mins(1),
            budget: Duration::from_mins(3),
            helper: Duration::from_secs(30),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A section's name is no host.
    #[error("[registry.\"{}\"]: the name is no registry host (want host or host:port)", host.escape_debug())]
    Section {
        /// The name.
        host: String,
    },
    /// A mirror is no host with an optional prefix.
    #[error("[registry.\"{host}\"] mirrors: `{}` is no mirror (want host[:port][/prefix], without a scheme)", mirror.escape_debug())]
    Mirror {
        /// The section.
        host: String,
        /// The entry.
        mirror: String,
    },
    /// An `auth` entry is no host.
    #[error("[registry.\"{host}\"] auth: `{}` is no host (want host or host:port)", entry.escape_debug())]
    Auth {
        /// The section.
        host: String,
        /// The entry.
        entry: String,
    },
    /// Nothing would ever be asked.
    #[error("[registry.\"{host}\"] origin = false, but no mirrors are named")]
    Nothing {
        /// The section.
        host: String,
    },
    /// A proxy's address cannot be used.
    #[error("the {scheme} proxy's address cannot be used: {detail}")]
    Proxy {
        /// `http` or `https`.
        scheme: &'static str,
        /// Why, without the address (it may hold a password).
        detail: String,
    },
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schemes {
    Https,
    Http,
    /// HTTPS, else HTTP: loopback, as in Docker, and `insecure`.
    Either,
}

/// One place to ask for a repository.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// What its section and its credentials are stored under.
    pub(crate) key: String,
    pub(crate) host: Host,
    /// Put before the repository; empty for none.
    pub(crate) prefix: String,
    pub(crate) mirror: bool,
    pub(crate) schemes: Schemes,
    pub(crate) insecure: bool,
    pub(crate) ca: Vec<PathBuf>,
    pub(crate) auth: Vec<String>,
}

impl Endpoint {
    /// As messages name it.
    pub(crate) fn label(&self) -> String {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("/{}", self.prefix) };
        format!("{}{}{prefix}", if self.mirror { "mirror " } else { "" }, self.host)
    }

    /// The repository as this endpoint names it.
    pub(crate) fn repository(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }
}

impl RegistryConfig {
    /// Makes relative `ca` paths relative to the configuration file's folder.
    pub fn relative_to(&mut self, folder: &Path) {
        for section in self.registry.values_mut() {
            for path in &mut section.ca {
                *path = folder.join(&path);
            }
        }
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (name, section) in &self.registry {
            let host = || name.clone();
            if name.parse::<Host>().is_err() {
                return Err(ConfigError::Section { host: host() });
            }
            if section.origin == Some(false) && section.mirrors.is_empty() {
                return Err(ConfigError::Nothing { host: host() });
            }
            for mirror in &section.mirrors {
                split_mirror(mirror).ok_or_else(|| ConfigError::Mirror { host: host(), mirror: mirror.clone() })?;
            }
            for entry in &section.auth {
                if entry.parse::<Host>().is_err() {
                    return Err(ConfigError::Auth { host: host(), entry: entry.clone() });
                }
            }
        }
        Ok(())
    }

    fn section(&self, key: &str) -> RegistrySection {
        let named =
            |(name, section): (&String, &RegistrySection)| (host::registry_key(name) == key).then(|| section.clone());
        self.registry.iter().find_map(named).unwrap_or_default()
    }

    /// Where to pull from, best first: the mirrors, then the registry itself.
    pub(crate) fn pull_endpoints(&self, domain: &str) -> Result<Vec<Endpoint>, host::HostError> {
        let section = self.section(&host::registry_key(domain));
        let mut endpoints = Vec::new();
        for mirror in &section.mirrors {
            if let Some((host, prefix)) = split_mirror(mirror) {
                let key = host.to_string();
                endpoints.push(self.endpoint(&key, host, prefix, true));
            }
        }
        if section.origin != Some(false) {
            endpoints.push(self.origin(domain)?);
        }
        Ok(endpoints)
    }

    /// Whether the registry itself may be asked.
    pub(crate) fn allows_origin(&self, domain: &str) -> bool {
        self.section(&host::registry_key(domain)).origin != Some(false)
    }

    /// The registry itself.
    pub(crate) fn origin(&self, domain: &str) -> Result<Endpoint, host::HostError> {
        let key = host::registry_key(domain);
        let host = host::api_host(&key)?;
        Ok(self.endpoint(&key, host, "", false))
    }

    fn endpoint(&self, key: &str, host: Host, prefix: &str, mirror: bool) -> Endpoint {
        let section = self.section(&host::registry_key(key));
        let schemes = match (section.http, section.insecure || host.is_loopback()) {
            (true, _) => Schemes::Http,
            (false, true) => Schemes::Either,
            (false, false) => Schemes::Https,
        };
        Endpoint {
            key: host::registry_key(key),
            host,
            prefix: prefix.to_owned(),
            mirror,
            schemes,
            insecure: section.insecure,
            ca: section.ca,
            auth: section.auth,
        }
    }
}

/// `host[:port][/prefix]`; the prefix is made of repository name components.
fn split_mirror(text: &str) -> Option<(Host, &str)> {
    let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
    let prefix = prefix.trim_end_matches('/');
    let component = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
            && part.starts_with(|first: char| first.is_ascii_alphanumeric())
    };
    if !prefix.is_empty() && !prefix.split('/').all(component) {
        return None;
    }
    let host = host.parse().ok()?;
    // A mirror named by a name of Docker Hub would be the Hub itself.
    Some((host, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RegistryConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn mirrors_come_before_the_origin() {
        let config = parse(
            "[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:5000\", \"cache.example:8443/hub/x\"]\n\
             [registry.\"cache.example:8443\"]\nhttp = true\n",
        );
        config.check().unwrap();
        let found: Vec<_> = config
            .pull_endpoints("docker.io")
            .unwrap()
            .iter()
            .map(|endpoint| (endpoint.label(), endpoint.repository("library/python"), endpoint.schemes))
            .collect();
        let python = "library/python".to_owned();
        assert_eq!(
            found,
            [
                ("mirror 127.0.0.1:5000".to_owned(), python.clone(), Schemes::Either),
                ("mirror cache.example:8443/hub/x".to_owned(), format!("hub/x/{python}"), Schemes::Http),
                ("registry-1.docker.io".to_owned(), python, Schemes::Https),
            ]
        );
    }

    #[test]
    fn the_origin_can_be_left_out() {
        let config = parse("[registry.\"index.docker.io\"]\nmirrors = [\"localhost:5000\"]\norigin = false\n");
        assert_eq!(config.pull_endpoints("docker.io").unwrap().len(), 1);
        assert!(!config.allows_origin("docker.io"));
        assert!(config.allows_origin("quay.io"));
    }

    #[test]
    fn wrong_settings_are_named() {
        for (text, part) in [
            ("[registry.\"http://a\"]", "http://a"),
            ("[registry.a]\norigin = false", "no mirrors"),
            ("[registry.a]\nmirrors = [\"https://b\"]", "https://b"),
            ("[registry.a]\nmirrors = [\"b/../c\"]", "b/../c"),
            ("[registry.a]\nauth = [\"https://b/token\"]", "https://b/token"),
        ] {
            let message = parse(text).check().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let unknown = toml::from_str::<RegistryConfig>("[registry.a]\nmirror = []").unwrap_err().to_string();
        assert!(unknown.contains("`mirror`"), "{unknown}");
    }

    #[test]
    fn proxies_come_from_variables() {
        let variable = |name: &str| match name {
            "https_proxy" => Some("http://a".to_owned()),
            "HTTPS_PROXY" => Some("http://b".to_owned()),
            "NO_PROXY" => Some("x".to_owned()),
            "http_proxy" => Some(" ".to_owned()),
            _ => None,
        };
        let settings = ProxySettings::from_variables(variable);
        assert_eq!(settings.https.as_deref(), Some("http://a"));
        assert_eq!((settings.http, settings.no_proxy.as_deref()), (None, Some("x")));
    }
}
