//! What a build is asked for, and what it is given of the machine: values, read at the edge by the program.
//!
//! The library reads no environment, home directory or clock of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kuz_image::Platform;
use kuz_plan::plan::Network;
use kuz_sandbox::{Hidden, Ulimit};

use crate::contract::InputData;

/// A build, as asked for.
#[derive(Debug, Clone)]
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
    /// `SOURCE_DATE_EPOCH`, seconds.
    pub epoch: Option<i64>,
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
