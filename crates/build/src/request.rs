//! What a build is asked for, and what it is given of the machine: values, read at the edge by the program.
//!
//! The library reads no environment, home directory or clock of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kuz_dockerfile::ignore::Ignore;
use kuz_image::{Digest, Platform};
use kuz_plan::plan::Network;
use kuz_sandbox::{Hidden, Ulimit};

use crate::contract::InputData;

/// A build, as asked for.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct BuildRequest {
    /// The specification's four fields.
    pub input: InputData,
    /// `-f` was given: a missing file is then named as typed, and no other name is tried.
    pub dockerfile_given: bool,
    /// All tags, as typed; the first is `input.tag`.
    pub tags: Vec<String>,
    /// `--target`
    pub target: Option<String>,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--jobs`: stages that may be done side by side.
    pub jobs: usize,
    /// `--no-cache-filter`: stages whose steps are done anew.
    pub no_cache_stages: BTreeSet<String>,
    /// `--pull`: ask the registry even when the base is known.
    pub pull: bool,
    /// `--platform`
    pub platform: Option<Platform>,
    /// `--network`
    pub network: Network,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--add-host`
    pub hosts: Vec<(String, String)>,
    /// `--shm-size`, bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: agents' sockets by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// What is made of the image besides its place in the store.
    pub outputs: Vec<OutputSpec>,
    /// `--build-context`
    pub contexts: BTreeMap<String, ContextSource>,
    /// `--annotation`: of the image's manifest.
    pub annotations: BTreeMap<String, String>,
    /// `--explain`: an [`crate::event::Event::Explained`] at the end.
    pub explain: bool,
    /// `--allow-secret`
    pub allowed_secrets: Allowed,
    /// `--verify`
    pub verify: Verify,
    /// `--smoke`
    pub smoke: Option<crate::smoke::SmokeRequest>,
}

/// What is made of the verdict on a finished image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// It is not judged.
    Off,
    /// Findings are told; nothing else changes.
    #[default]
    Warn,
    /// A finding at error level fails the build.
    Error,
}

/// What a `--build-context` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory.
    Directory(PathBuf),
    /// An image, by name: `docker-image://`
    Image(String),
    /// An image of an OCI layout: `oci-layout://`
    Layout {
        /// The layout's directory.
        path: PathBuf,
        /// Which one, if it holds several.
        tag: Option<String>,
        /// Which one, exactly.
        digest: Option<Digest>,
    },
    /// A repository, or a tar on the web.
    Remote(String),
}

impl ContextSource {
    /// Reads the value of a `--build-context`, as buildx does.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("docker-image://") {
            return if name.is_empty() { Err("names no image".into()) } else { Ok(Self::Image(name.to_owned())) };
        }
        if let Some(rest) = text.strip_prefix("oci-layout://") {
            let (rest, digest) = match rest.split_once('@') {
                None => (rest, None),
                Some((rest, digest)) => {
                    (rest, Some(digest.parse().map_err(|error| format!("`{digest}` is no digest: {error}"))?))
                }
            };
            // A colon in a directory's name is none of a tag's.
            let tagged = rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
            let (path, tag) = tagged.map_or((rest, None), |(path, tag)| (path, Some(tag.to_owned())));
            if path.is_empty() || tag.as_ref().is_some_and(String::is_empty) {
                return Err("names no directory (want oci-layout://DIR[:TAG|@DIGEST])".into());
            }
            return Ok(Self::Layout { path: PathBuf::from(path), tag, digest });
        }
        if crate::remote_context::is_remote(text) {
            return Ok(Self::Remote(text.to_owned()));
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(format!("`{scheme}://` is no kind of context that kuz knows")),
            None if text.is_empty() => Err("is empty".into()),
            None => Ok(Self::Directory(PathBuf::from(text))),
        }
    }

    /// For messages: no credentials.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Image(name) => format!("docker-image://{name}"),
            Self::Layout { path, .. } => format!("oci-layout://{}", path.display()),
            Self::Remote(url) => crate::remote_context::shown(url),
        }
    }
}

/// Where a secret's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read when a step needs it.
    File(PathBuf),
    /// Here.
    Value(Hidden),
}

/// `-o`, `--push`, `--load`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSpec {
    /// Push to the tags' registries.
    Push,
    /// Load into a Docker daemon.
    Load,
    /// An OCI layout, as a tar or a directory.
    Oci {
        /// Where.
        dest: Dest,
        /// A tar, or a directory.
        tar: bool,
    },
    /// An OCI layout that also has `manifest.json`, for `docker load`.
    Docker {
        /// Where.
        dest: Dest,
        /// A tar, or a directory.
        tar: bool,
    },
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// A path.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// What the program knows of the machine and its user.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The store's directory.
    pub store: PathBuf,
    /// The user's id.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The user's name, if the account database has one.
    pub user: Option<String>,
    /// Seconds since 1970 and nanoseconds.
    pub now: (i64, u32),
    /// The kernel's boot id.
    pub boot_id: String,
    /// Proxy variables (`HTTP_PROXY`, …, both cases) as set.
    pub proxies: BTreeMap<String, String>,
    /// What git is started with: `PATH`, `HOME`, and what names the ssh agent and certificate authorities.
    pub git_env: BTreeMap<String, String>,
    /// `DOCKER_HOST`
    pub docker_host: Option<String>,
    /// Whether a Kubernetes pod is around: it changes the advice when steps cannot run.
    pub in_kubernetes: bool,
    /// A fault to be put into the store, for tests.
    pub store_fault: Option<kuz_store::FaultPlan>,
    /// Registries: `kuz.toml`.
    pub registries: kuz_registry::config::RegistryConfig,
    /// Where credentials may be.
    pub credentials: kuz_registry::credentials::CredentialPaths,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_as_buildx_reads_them() {
        let path = |text: &str| PathBuf::from(text);
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, want) in [
            ("dir", ContextSource::Directory(path("dir"))),
            ("../a:b", ContextSource::Directory(path("../a:b"))),
            ("docker-image://alpine:3", ContextSource::Image("alpine:3".into())),
            ("oci-layout://d", ContextSource::Layout { path: path("d"), tag: None, digest: None }),
            ("oci-layout://d/e:v1", ContextSource::Layout { path: path("d/e"), tag: Some("v1".into()), digest: None }),
            (
                &format!("oci-layout:///a:b/c@{digest}"),
                ContextSource::Layout { path: path("/a:b/c"), tag: None, digest: digest.parse().ok() },
            ),
            ("https://h/a.git#v1", ContextSource::Remote("https://h/a.git#v1".into())),
        ] {
            assert_eq!(ContextSource::parse(text), Ok(want), "{text}");
        }
        for bad in
            ["", "docker-image://", "oci-layout://", "oci-layout://d:", "oci-layout://d@x", "file:///etc", "s3://b"]
        {
            assert!(ContextSource::parse(bad).is_err(), "{bad}");
        }
    }
}

/// Places that may hold what looks like a secret: patterns as in an ignore file, for paths in the image (no leading slash)
/// and for names such as `env:TOKEN`.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    patterns: Vec<String>,
    matcher: Ignore,
}

impl Allowed {
    /// These patterns; the message says which is none.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let patterns: Vec<String> = patterns.iter().map(|text| text.trim_start_matches('/').to_owned()).collect();
        let matcher = Ignore::from_patterns(&patterns)
            .map_err(|error| format!("`--allow-secret`: {}", crate::run_step::cause_chain(&error)))?;
        Ok(Self { patterns, matcher })
    }

    /// As they were given.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a place is among them.
    pub fn has(&self, place: &[u8]) -> bool {
        !self.is_empty() && self.matcher.matches(place)
    }
}
