//! Operating system and processor names: `linux/arm64/v8` to a normalised [`Platform`] and back.
//!
//! Follows containerd's normalisation (`x86_64` is `amd64`, `aarch64` is `arm64`, `arm64/v8` is `arm64`, `arm` is
//! `arm/v7`). Deliberately knows nothing of emulation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A platform, normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, …
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …; `None` where it is the architecture's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Windows only.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// Why a text names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no platform (want os/architecture, for example linux/amd64)", text.escape_debug())]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// Builds a platform from its parts and normalises it.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|v| !v.is_empty());
        let (architecture, variant) = match (architecture.to_ascii_lowercase().as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64".to_owned(), None),
            ("x86_64" | "x86-64" | "amd64", _) => ("amd64".to_owned(), variant),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386".to_owned(), None),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64".to_owned(), None),
            ("aarch64" | "arm64", _) => ("arm64".to_owned(), variant),
            ("armhf", _) | ("arm", None | Some("7" | "v7")) => ("arm".to_owned(), Some("v7".to_owned())),
            ("armel", _) | ("arm", Some("6" | "v6")) => ("arm".to_owned(), Some("v6".to_owned())),
            ("arm", Some("5" | "v5")) => ("arm".to_owned(), Some("v5".to_owned())),
            ("arm", Some("8" | "v8")) => ("arm".to_owned(), Some("v8".to_owned())),
            (other, _) => (other.to_owned(), variant),
        };
        Self { os, architecture, variant, os_version: None }
    }

    /// The platform that this program was built for.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Whether an image made for `candidate` runs where `self` is asked for.
    pub fn accepts(&self, candidate: &Platform) -> bool {
        self.distance(candidate).is_some()
    }

    /// How much older than `self` the processors are that `candidate` is made for; `None` if it doesn't run here. Those of
    /// amd64 and arm run what is made for lower variants.
    pub fn distance(&self, candidate: &Platform) -> Option<u8> {
        let candidate = Self::new(&candidate.os, &candidate.architecture, candidate.variant.as_deref());
        if self.os != candidate.os || self.architecture != candidate.architecture {
            return None;
        }
        if self.variant == candidate.variant {
            return Some(0);
        }
        let level = |platform: &Self| match (platform.architecture.as_str(), platform.variant.as_deref()) {
            ("amd64", None) => Some(1),
            ("amd64" | "arm", Some(variant)) => variant.strip_prefix('v').and_then(|level| level.parse::<u8>().ok()),
            _ => None,
        };
        level(self)?.checked_sub(level(&candidate)?)
    }
}

/// Names of processors that may stand alone for a platform of this machine's system.
fn is_architecture(name: &str) -> bool {
    const KNOWN: [&str; 22] = [
        "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64",
        "mips64le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
    ];
    const OTHER: [&str; 6] = ["i386", "x86_64", "x86-64", "aarch64", "armhf", "armel"];
    let name = name.to_ascii_lowercase();
    KNOWN.contains(&name.as_str()) || OTHER.contains(&name.as_str())
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let bad = || PlatformError { text: text.chars().take(200).collect() };
        let valid = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        // `windows(10.0.17763)/amd64` carries the version in brackets.
        let (os_part, rest) = match text.split_once('/') {
            Some((os, rest)) => (os, Some(rest)),
            None => (text, None),
        };
        let (os, os_version) = match os_part.split_once('(') {
            Some((os, version)) => (os, Some(version.strip_suffix(')').ok_or_else(bad)?.to_owned())),
            None => (os_part, None),
        };
        let parts: Vec<&str> = rest.map(|rest| rest.split('/').collect()).unwrap_or_default();
        if !valid(os) || !parts.iter().all(|part| valid(part)) {
            return Err(bad());
        }
        let host = Self::host();
        let known_os =
            matches!(os.to_ascii_lowercase().as_str(), "linux" | "windows" | "darwin" | "macos" | "freebsd" | "wasi");
        let mut platform = match parts.as_slice() {
            [] if known_os => Self::new(os, &host.architecture, host.variant.as_deref()),
            [] if is_architecture(os) => Self::new(&host.os, os, None),
            [architecture] => Self::new(os, architecture, None),
            [architecture, variant] => Self::new(os, architecture, Some(variant)),
            _ => return Err(bad()),
        };
        platform.os_version = os_version;
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want);
        }
        for bad in ["", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/../x", "foo"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        for alone in ["arm64", "aarch64", "S390X", "linux"] {
            assert!(alone.parse::<Platform>().is_ok(), "{alone}");
        }
    }

    #[test]
    fn newer_processors_run_what_is_made_for_older_ones() {
        for (here, image, want) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/riscv64", "linux/riscv64", Some(0)),
        ] {
            let platform = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(platform(here).distance(&platform(image)), want, "{here} {image}");
        }
    }
}
