//! What the program reads of its machine: environment, clock, user, configuration file. Read once, passed on as values.
//!
//! `$KUZ_STORE`, else the user's data directory; `$KUZ_CONFIG`, else `kuz/kuz.toml` in the user's configuration
//! directory. A configuration that cannot be read is an error, never skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kuz_build::request::Machine;
use kuz_build::{CredentialPaths, ProxySettings, RegistryConfig};
use serde::Deserialize;

/// A configuration file larger than this is a mistake.
const CONFIG_BYTES: u64 = 1 << 20;
/// The variables that tell programs of proxies.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
/// What git, and ssh under it, are started with.
const GIT_VARIABLES: [&str; 7] =
    ["PATH", "HOME", "SSH_AUTH_SOCK", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// `kuz.toml`. Sections that this version does not know are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    registry: BTreeMap<String, toml::Value>,
}

/// Reads the machine, or says what is wrong with it.
pub(crate) fn read() -> Result<Machine, String> {
    let uid = rustix::process::getuid().as_raw();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Ok(Machine {
        store: store()?,
        uid,
        gid: rustix::process::getgid().as_raw(),
        user: user_name(uid),
        now: (i64::try_from(now.as_secs()).unwrap_or(i64::MAX), now.subsec_nanos()),
        boot_id: boot.trim().to_owned(),
        proxies: proxies(),
        git_env: GIT_VARIABLES.iter().filter_map(|&name| Some((name.to_owned(), text(name)?))).collect(),
        docker_host: text("DOCKER_HOST"),
        in_kubernetes: text("KUBERNETES_SERVICE_HOST").is_some(),
        store_fault: fault()?,
        registries: registries()?,
        credentials: CredentialPaths::from_variables(|name| std::env::var_os(name)),
    })
}

/// A directory of the user's: a variable, else a place below the home directory.
fn directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

fn store() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("KUZ_STORE").filter(|path| !path.is_empty()) {
        return std::path::absolute(PathBuf::from(path)).map_err(|error| format!("KUZ_STORE cannot be used: {error}"));
    }
    directory("XDG_DATA_HOME", ".local/share")
        .map(|data| data.join("kuz"))
        .ok_or_else(|| "there is no place for the store: set KUZ_STORE to a directory (HOME is not set)".to_owned())
}

fn registries() -> Result<RegistryConfig, String> {
    let given = std::env::var_os("KUZ_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path =
        given.clone().or_else(|| directory("XDG_CONFIG_HOME", ".config").map(|config| config.join("kuz/kuz.toml")));
    let mut registries = match path {
        Some(path) => match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => RegistryConfig::default(),
            Err(error) => return Err(format!("the configuration `{}` cannot be read: {error}", path.display())),
            Ok(found) if !found.is_file() || found.len() > CONFIG_BYTES => {
                return Err(format!(
                    "the configuration `{}` is no file of at most {CONFIG_BYTES} bytes",
                    path.display()
                ));
            }
            Ok(_) => parse(&path)?,
        },
        None => RegistryConfig::default(),
    };
    registries.proxy = ProxySettings::from_variables(|name| std::env::var(name).ok());
    Ok(registries)
}

fn parse(path: &Path) -> Result<RegistryConfig, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the configuration `{}` is wrong: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let config: Config = toml::from_str(&text).map_err(|error| wrong(&error))?;
    let mut sections = toml::Table::new();
    sections.insert("registry".into(), toml::Value::Table(config.registry.into_iter().collect()));
    let mut registries: RegistryConfig = sections.try_into().map_err(|error| wrong(&error))?;
    registries.relative_to(path.parent().unwrap_or(Path::new(".")));
    registries.check().map_err(|error| wrong(&error))?;
    Ok(registries)
}

/// The proxy variables as set, both spellings.
fn proxies() -> BTreeMap<String, String> {
    let names = PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_lowercase()]);
    names.filter_map(|name| std::env::var(&name).ok().map(|value| (name, value))).collect()
}

/// The user's name, for `/etc/subuid`.
fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    // Users of a directory service are not in the file.
    known.or_else(|| std::env::var("USER").ok())
}

/// For tests of the whole program: a fault at a call of the store (`KUZ_STORE_FAULT=17:kill`).
fn fault() -> Result<Option<kuz_build::FaultPlan>, String> {
    let Ok(text) = std::env::var("KUZ_STORE_FAULT") else { return Ok(None) };
    text.parse().map(Some).map_err(|error| format!("KUZ_STORE_FAULT: {error}"))
}
