//! What the user asked for, as far as planning goes: values only, no environment, no clock.

use std::collections::{BTreeMap, BTreeSet};

use kuz_image::Platform;

use crate::plan::Network;

/// A request for a plan.
#[derive(Debug, Clone)]
pub struct Request {
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage's name or number; the last stage if `None`.
    pub target: Option<String>,
    /// What the image is for.
    pub platform: Platform,
    /// What this machine is.
    pub build_platform: Platform,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--network`
    pub network: Network,
    /// Names of `--build-context`s that are directories.
    pub named_contexts: BTreeSet<String>,
    /// Names of `--build-context`s that are images: name to reference.
    pub named_images: BTreeMap<String, String>,
}
