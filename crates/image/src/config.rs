//! The image configuration: what runs, and the history of how it was made.
//!
//! JSON in, JSON out, and nothing lost on the way: fields that this program does not know survive in the catch-all
//! maps, which is why the type is our own. Empty collections are kept apart from absent ones only where Docker does.
//!
//! Sources: OCI image-spec `config.md`; Docker's extensions (`Healthcheck`, `OnBuild`, `Shell`, `StopTimeout`,
//! `ArgsEscaped`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::digest::DiffId;
use crate::limits;
use crate::platform::Platform;

/// An image configuration document. Its digest is the image id.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `MAINTAINER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `linux`
    #[serde(default)]
    pub os: String,
    /// Windows only.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: Config,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// One entry a step.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Fields that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ImageConfig {
    /// The platform that the image says it is for.
    pub fn platform(&self) -> Platform {
        let mut platform = Platform::new(&self.os, &self.architecture, self.variant.as_deref());
        platform.os_version.clone_from(&self.os_version);
        platform
    }
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed tars, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// A step in an image's history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction, as `docker history` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What runs, and how. Docker spells the keys in camel case with a capital.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `USER`, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `EXPOSE`: `8000/tcp` to an empty object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `KEY=value`, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// `ENTRYPOINT`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Windows only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// `VOLUME`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// `WORKDIR`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `LABEL`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `STOPSIGNAL`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker: `HEALTHCHECK`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: `ONBUILD`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Docker: `SHELL`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Fields that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Docker's `HEALTHCHECK`. Durations are nanoseconds; zero means the engine's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// `--interval`
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// `--timeout`
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// `--start-period`
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// `--start-interval`
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// `--retries`
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Fields that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why bytes are no image configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Over [`limits::CONFIG_BYTES`].
    #[error("image configuration of {bytes} bytes is over the limit of {}", limits::CONFIG_BYTES)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// No JSON, nested too deep, something after it, or fields of the wrong kind.
    #[error("parse image configuration")]
    Json(#[source] serde_json::Error),
    /// More layers than [`limits::LAYERS`].
    #[error("image configuration lists {count} layers, over the limit of {}", limits::LAYERS)]
    TooManyLayers {
        /// How many.
        count: usize,
    },
}

/// Reads an image configuration that came from outside.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig, ConfigError> {
    if bytes.len() > limits::CONFIG_BYTES {
        return Err(ConfigError::TooLarge { bytes: bytes.len() });
    }
    let config: ImageConfig = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
    let count = config.rootfs.diff_ids.len();
    if count > limits::LAYERS { Err(ConfigError::TooManyLayers { count }) } else { Ok(config) }
}

/// Programs written in Go write empty lists as `null`.
pub(crate) fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"StopTimeout":3,"Healthcheck":{"Test":["NONE"],"X":1}},"rootfs":{"type":"layers","diff_ids":[]},"docker_version":"1"}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        let back: Value = serde_json::to_value(&config).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn configurations_from_outside_are_bounded() {
        let nulls = r#"{"architecture":"amd64","os":"linux","config":null,"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        assert_eq!(parse_config(nulls.as_bytes()).unwrap().rootfs, RootFs::default());
        assert!(parse_config(b"{}").is_ok());
        let digest = format!("\"sha256:{}\",", "0".repeat(64));
        let many = digest.repeat(limits::LAYERS + 1);
        let many = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, many.trim_end_matches(','));
        assert!(matches!(parse_config(many.as_bytes()), Err(ConfigError::TooManyLayers { .. })));
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(limits::CONFIG_BYTES));
        assert!(matches!(parse_config(large.as_bytes()), Err(ConfigError::TooLarge { .. })));
        for bad in [
            "",
            "[]",
            "null",
            "{} {}",
            "{}x",
            "{\"x\":\"\u{0}\"}",
            r#"{"os":1}"#,
            r#"{"os":"a","os":"b"}"#,
            r#"{"config":{"Env":"A=b"}}"#,
            r#"{"config":{"Entrypoint":"sh"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../etc"]}}"#,
            &deep,
        ] {
            assert!(matches!(parse_config(bad.as_bytes()), Err(ConfigError::Json(_))), "{bad:.80}");
        }
        assert!(parse_config(b"{\"author\":\"\xff\"}").is_err());
    }
}
