//! Image references: `python:3.10` to domain, path, tag and digest, and back.
//!
//! Text goes in, is checked against the grammar of distribution's reference specification and normalised as Docker
//! does: a name without a registry belongs to `docker.io`, and one without a namespace there to `library/`. The
//! registry's host name as it is dialled (`registry-1.docker.io`) is not decided here, and nothing is looked up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

/// The registry that a name without one belongs to.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Docker Hub's older name, still written in places.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where Docker Hub keeps the names without a namespace.
const OFFICIAL: &str = "library/";
/// The tag that is meant where none is written.
const DEFAULT_TAG: &str = "latest";
/// The longest path that registries take.
const PATH_MAX: usize = 255;
/// The longest tag that registries take.
const TAG_MAX: usize = 128;

/// A validated, normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No name in it at all.
    #[error("image reference is empty (want for example python:3.10)")]
    Empty,
    /// 64 hexadecimal digits are an image id, never a name.
    #[error("`{text}` is an image id, not a name")]
    Identifier {
        /// As written.
        text: String,
    },
    /// Upper case in the path.
    #[error("image name in `{}` must be lowercase", text.escape_debug())]
    Uppercase {
        /// As written.
        text: String,
    },
    /// The registry part.
    #[error("`{}` in image reference `{}` is no registry name (want host or host:port)", part.escape_debug(), text.escape_debug())]
    Domain {
        /// As written.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// The path part.
    #[error("`{}` in image reference `{}` is no image name (want a-z, 0-9, separated by / . _ or -)", part.escape_debug(), text.escape_debug())]
    Path {
        /// As written.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// The path is over the limit of registries.
    #[error("image name of {length} characters is over the limit of {PATH_MAX}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The tag.
    #[error("`{}` in image reference `{}` is no tag (want up to {TAG_MAX} of A-Z, a-z, 0-9, _ . -, the first a letter, digit or _)", part.escape_debug(), text.escape_debug())]
    Tag {
        /// As written.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// The digest.
    #[error("digest in image reference `{}` cannot be read", text.escape_debug())]
    Digest {
        /// As written.
        text: String,
        /// Why.
        #[source]
        source: DigestError,
    },
}

impl Reference {
    /// The registry as written, with its port: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in the registry: `library/python`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one is written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The tag, or `latest` where none is written.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or(DEFAULT_TAG)
    }

    /// Domain and path: `docker.io/library/python`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// As people write it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_rest(&mut text);
        text
    }

    /// [`Self::familiar`] without tag and digest.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        // `library/a/b` keeps its prefix: `a/b` would be another repository.
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Adds `latest` where neither tag nor digest is written.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository at exactly this digest, the tag kept.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    fn push_rest(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shown = || text.chars().take(300).collect::<String>();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier { text: text.to_owned() });
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::Digest { text: shown(), source })?;
                (named, Some(digest))
            }
            None => (text, None),
        };
        let (domain, rest) = split_domain(named);
        // A colon after the domain can only start the tag: neither path nor tag may hold one.
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(ReferenceError::Path { text: shown(), part: String::new() });
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase { text: shown() });
        }
        if !is_domain(domain) {
            return Err(ReferenceError::Domain { text: shown(), part: domain.chars().take(300).collect() });
        }
        if let Some(part) = path.split('/').find(|part| !is_path_component(part)) {
            return Err(ReferenceError::Path { text: shown(), part: part.chars().take(300).collect() });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { text: shown(), part: tag.chars().take(300).collect() });
        }
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if path.len() > PATH_MAX {
            return Err(ReferenceError::TooLong { length: path.len() });
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_rest(&mut text);
        f.write_str(&text)
    }
}

/// The first component is a registry only if it cannot be a namespace: `localhost`, a dot, a port or upper case.
fn split_domain(named: &str) -> (&str, &str) {
    match named.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.chars().any(|letter| letter.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, named),
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return false;
            }
            (None, if after.is_empty() { None } else { Some(after.strip_prefix(':').unwrap_or("")) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let host_ok = host.is_none_or(|host| {
        host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
    });
    host_ok && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+` runs separated by one of `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(alphanumeric) || !bytes.last().copied().is_some_and(alphanumeric) {
        return false;
    }
    text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= TAG_MAX
        && bytes.first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn references_are_normalised_and_shortened_again() {
        for (text, canonical, familiar) in [
            ("python:3.10", "docker.io/library/python:3.10", "python:3.10"),
            ("python", "docker.io/library/python", "python"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("index.docker.io/python", "docker.io/library/python", "python"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("localhost/x:1", "localhost/x:1", "localhost/x:1"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), canonical, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(canonical.parse::<Reference>().unwrap(), reference, "{text}");
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference, "{text}");
        }
        let both: Reference = format!("r.example/x:1@{D}").parse().unwrap();
        assert_eq!((both.tag(), both.digest().map(ToString::to_string)), (Some("1"), Some(D.to_owned())));
    }

    #[test]
    fn latest_is_added_only_where_nothing_is_written() {
        let text = |text: &str| text.parse::<Reference>().unwrap().with_default_tag().familiar();
        assert_eq!(text("a"), "a:latest");
        assert_eq!(text("a:b"), "a:b");
        assert_eq!(text(&format!("a@{D}")), format!("a@{D}"));
        assert_eq!("a".parse::<Reference>().unwrap().tag_or_latest(), "latest");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long_tag = format!("a:{}", "x".repeat(129));
        let long_path = "x".repeat(256);
        for bad in [
            "",
            ":",
            "@",
            "/",
            "a//b",
            "a:",
            "a@",
            "a:b:c",
            "A",
            "a/B",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a/../b",
            "a b",
            "x.example:/a",
            "x.example:port/a",
            "-x.example/a",
            "[::1/a",
            "[g::1]/a",
            "[]/a",
            "a:.b",
            "a\0",
            "ä",
            "a@sha256:abc",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "http://a/b",
            &long_tag,
            &long_path,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!(format!("a:{}", "x".repeat(128)).parse::<Reference>().is_ok());
    }
}
