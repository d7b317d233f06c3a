//! The plan: every stage that the target needs, every step fully expanded, the final configuration folded.
//!
//! A value that can be printed, compared and keyed. No variable, ARG, ONBUILD, relative WORKDIR or default SHELL is
//! left in it. What needs a file system stays symbolic and typed: wildcards, user names, remote sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuz_dockerfile::{Diagnostic, Span};
use kuz_image::{DiffId, Digest, ImageConfig, Platform};
use serde::{Deserialize, Serialize, Serializer};

pub use crate::env::Env;

/// All that is to be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Reachable stages, dependencies first; the target is the last.
    pub stages: Vec<Stage>,
    /// `SOURCE_DATE_EPOCH` in seconds, from a build argument or a global ARG with a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_date_epoch: Option<i64>,
    /// Findings that do not stop the build.
    #[serde(skip)]
    pub warnings: Vec<Diagnostic>,
}

/// A place in [`Plan::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StageId(pub usize);

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Its number in the file, from 0, as `--from=0` counts.
    pub number: usize,
    /// `AS`, in lower case.
    pub name: Option<String>,
    /// What it stands on.
    pub base: Base,
    /// What is done.
    pub steps: Vec<Step>,
    /// The configuration after the last step: without diff ids and without the history of these steps (a base
    /// image's diff ids and history are in it). Stages share it as long as none changes it.
    #[serde(serialize_with = "shared")]
    pub config: Arc<ImageConfig>,
    /// What it is built for.
    pub platform: Platform,
    /// The FROM instruction.
    #[serde(skip)]
    pub span: Span,
}

fn shared<S: Serializer>(config: &Arc<ImageConfig>, serializer: S) -> Result<S::Ok, S::Error> {
    config.as_ref().serialize(serializer)
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image.
    Image(ImageSource),
    /// An earlier stage.
    Stage(StageId),
}

/// An image that a plan uses, as it was resolved. (`scratch` as a source is one without layers, see
/// [`ImageSource::scratch`].)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSource {
    /// The reference, canonical (`docker.io/library/python:3.10`).
    pub reference: String,
    /// The digest of the platform's manifest.
    pub manifest: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<DiffId>,
}

impl ImageSource {
    /// The empty image as a source of files: `RUN --mount=from=scratch`.
    pub fn scratch() -> Self {
        Self { reference: "scratch".to_owned(), manifest: Digest::of(b""), layers: Vec::new() }
    }
}

/// One instruction's effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// What is done to the file system.
    pub op: Op,
    /// The instruction (of an image's ONBUILD trigger: the FROM).
    #[serde(skip)]
    pub span: Span,
    /// The line for people: the instruction with its continuations joined.
    pub text: String,
    /// The history line (`RUN /bin/sh -c … # buildkit`, as BuildKit writes it).
    pub created_by: String,
}

/// What a step does to the file system.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Run a command.
    Run(Box<Run>),
    /// Copy files.
    Copy(Box<Copy>),
    /// Copy files, unpack archives, fetch remote sources.
    Add(Box<Copy>),
    /// WORKDIR: make a directory where there is none.
    MakeDir(MakeDir),
    /// Only the configuration changed: a history entry, no layer.
    Nothing,
}

/// The network that a RUN sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The machine's.
    #[default]
    Host,
    /// A loopback interface of its own, nothing else.
    None,
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The command line, shell included.
    pub argv: Vec<String>,
    /// ENV and ARG, in order, PATH included.
    pub env: Env,
    /// The predefined proxy variables that no ARG or ENV declares, in both spellings. The command sees them; keys,
    /// history and printed plans don't (they may hold credentials).
    #[serde(skip)]
    pub proxies: Vec<(String, String)>,
    /// Absolute.
    pub cwd: String,
    /// As USER says it; empty is root.
    pub user: String,
    /// What it may reach.
    pub network: Network,
    /// Files that the step sees under `/dev/pipes/` (heredoc scripts with a `#!` line).
    pub scripts: Vec<Inline>,
    /// `--mount`, interpreted.
    pub mounts: Vec<Mount>,
    /// `--security=insecure`
    pub insecure: bool,
}

/// `RUN --mount`: typed, values expanded. (Names of options as in the reference.)
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the fields are the options of their names")]
pub enum Mount {
    Bind {
        from: Source,
        source: String,
        target: String,
        writable: bool,
    },
    Cache {
        id: String,
        from: Option<Source>,
        source: String,
        target: String,
        readonly: bool,
        sharing: Sharing,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Tmpfs {
        target: String,
        size: Option<u64>,
    },
    Secret {
        id: String,
        target: Option<String>,
        env: Option<String>,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Ssh {
        id: String,
        target: Option<String>,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of the reference")]
pub enum Sharing {
    Shared,
    Private,
    Locked,
}

/// A file given in the Dockerfile itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inline {
    /// Its name.
    pub name: String,
    /// Its content.
    pub content: String,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The build context.
    Context,
    /// An earlier stage's final file system.
    Stage(StageId),
    /// An image.
    Image(ImageSource),
    /// A named context (`--build-context`) that is a directory.
    Named(String),
}

/// `COPY` and `ADD`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Copy {
    /// Where from.
    pub from: Source,
    /// Paths, wildcards, or for ADD remote sources.
    pub sources: Vec<Word>,
    /// Files given inline (heredocs), expanded.
    pub inline: Vec<Inline>,
    /// Absolute; a slash at the end means a directory.
    pub dest: String,
    /// `--chown`, expanded, as written.
    pub chown: Option<String>,
    /// `--chmod`, expanded, as written.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// ADD: `--unpack`
    pub unpack: Option<bool>,
    /// ADD: `--checksum`
    pub checksum: Option<String>,
    /// ADD: `--keep-git-dir`
    pub keep_git_dir: bool,
}

impl Op {
    /// Everything that is read besides the file system that the step stands on.
    pub fn sources(&self) -> Vec<&Source> {
        match self {
            Self::Run(run) => run
                .mounts
                .iter()
                .filter_map(|mount| match mount {
                    Mount::Bind { from, .. } => Some(from),
                    Mount::Cache { from, .. } => from.as_ref(),
                    Mount::Tmpfs { .. } | Mount::Secret { .. } | Mount::Ssh { .. } => None,
                })
                .collect(),
            Self::Copy(copy) | Self::Add(copy) => vec![&copy.from],
            Self::MakeDir(_) | Self::Nothing => Vec::new(),
        }
    }
}

impl Stage {
    /// The stages that must be done before this one.
    pub fn needs(&self) -> BTreeSet<StageId> {
        let below = match self.base {
            Base::Stage(id) => Some(id),
            Base::Scratch | Base::Image(_) => None,
        };
        let read = self.steps.iter().flat_map(|step| step.op.sources());
        let read = read.filter_map(|source| if let Source::Stage(id) = source { Some(*id) } else { None });
        below.into_iter().chain(read).collect()
    }
}

impl Copy {
    /// One source to a place, without any option.
    pub fn plain(from: Source, source: Word, dest: &str) -> Self {
        Self {
            from,
            sources: vec![source],
            inline: Vec::new(),
            dest: dest.to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: None,
            checksum: None,
            keep_git_dir: false,
        }
    }
}

/// An expanded word and where it stood, for messages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Word {
    /// Expanded.
    pub text: String,
    /// Where.
    #[serde(skip)]
    pub span: Span,
}

/// `WORKDIR`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MakeDir {
    /// Absolute, no slash at the end.
    pub path: String,
    /// USER at that point: owner of what is made; empty is root.
    pub user: String,
}

/// An image that somebody has looked up: manifest and configuration, no layer contents.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownImage {
    /// The digest of the platform's manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
}

/// Images by (canonical reference, platform), as [`crate::Planned::Needs`] asked for them.
pub type KnownImages = BTreeMap<(String, Platform), KnownImage>;
