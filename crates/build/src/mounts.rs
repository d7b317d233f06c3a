//! `RUN --mount`: what a step's mounts add to its key, and the mounts themselves, ready for the sandbox.
//!
//! In: the plan's mounts, finished stages, what the user granted. Out: digests (of content that is read: binds, seeds of
//! caches), then trees, locks and secrets. What is read from a context becomes a tree of the store by the way of a COPY, so
//! that the ignore file holds and nobody sees the context change. A secret's value is in no digest, record or message.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use kuz_dockerfile::Span;
use kuz_image::Digest;
use kuz_plan::plan::{Copy, ImageSource, Mount, Op, Run, Sharing, Source, Step, Word};
use kuz_sandbox::{Access, Hidden, Mounted};
use kuz_store::CacheId;

use crate::error::BuildError;
use crate::event::StepName;
use crate::execute::{Execution, Stand};
use crate::explain::{self, SourceNote};
use crate::schedule::Stages;

/// Where in its own tree a bind from a context is.
const BOUND: &str = "/m";

/// What a step's mounts come to.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// For the sandbox.
    pub(crate) mounts: Vec<kuz_sandbox::Mount>,
    /// Variables with secrets.
    pub(crate) secret_env: Vec<(String, Hidden)>,
    /// Variables that name a place.
    pub(crate) env: Vec<(String, String)>,
    /// Locks of caches.
    pub(crate) held: Vec<OwnedFd>,
    /// Values that are kept out of the output.
    pub(crate) secrets: Vec<Hidden>,
}

/// A cache that a step uses, perhaps at several places.
#[derive(Debug)]
pub(crate) struct CacheUse<'m> {
    pub(crate) name: &'m str,
    pub(crate) sharing: Sharing,
    pub(crate) access: Access,
    pub(crate) seed: Option<&'m Source>,
}

/// A step and where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'s> {
    pub(crate) stand: &'s Stand<'s>,
    pub(crate) step: &'s Step,
    pub(crate) name: &'s StepName,
    pub(crate) done: &'s Stages,
}

impl Execution<'_> {
    /// The digests of what a step's mounts read, in the order of `kuz_plan::key::reads`.
    pub(crate) fn mount_inputs(&self, at: At<'_>, run: &Run) -> Result<Vec<Digest>, BuildError> {
        let mut inputs = Vec::new();
        for mount in &run.mounts {
            match mount {
                Mount::Bind { from, source, .. } => inputs.push(self.bind_input(at, from, source)?),
                Mount::Cache { from: Some(from), .. } => inputs.push(self.seed_input(at, from)?),
                Mount::Cache { .. } | Mount::Tmpfs { .. } | Mount::Secret { .. } | Mount::Ssh { .. } => {}
            }
        }
        Ok(inputs)
    }

    fn bind_input(&self, at: At<'_>, from: &Source, source: &str) -> Result<Digest, BuildError> {
        match from {
            // The image's chain stands for all of it; reading it would tell no more.
            Source::Image(image) if source == "/" => Ok(Self::image_chain(image)),
            _ => Ok(self.select(at.step, &selection(from, source, at.step.span), at.done)?.0),
        }
    }

    /// What a step's mounts read, for people: with its files where it is read in a context.
    pub(crate) fn mount_notes(&self, at: At<'_>, inputs: &[Digest]) -> Vec<SourceNote> {
        let select =
            |from: &Source, path: &str| Ok(self.select(at.step, &selection(from, path, at.step.span), at.done)?.1);
        explain::mount_notes(self, &at.step.op, inputs, select)
    }

    /// A cache begins with all of its source.
    fn seed_input(&self, at: At<'_>, from: &Source) -> Result<Digest, BuildError> {
        match from {
            Source::Image(image) => Ok(Self::image_chain(image)),
            Source::Stage(id) => Ok(at.done.get(id.0).map_or_else(nothing, |stage| stage.chain.clone())),
            Source::Context | Source::Named(_) => self.bind_input(at, from, "/"),
        }
    }

    /// Makes everything ready: missing trees, caches (waiting for those that others use), secrets.
    pub(crate) fn prepare_mounts(&self, at: At<'_>, run: &Run) -> Result<Prepared, BuildError> {
        let mut ready = Prepared::default();
        let caches = self.caches(at, run, &mut ready)?;
        for mount in &run.mounts {
            match mount {
                Mount::Bind { from, source, target, writable } => {
                    let (lowers, path) = self.bind(at, from, source)?;
                    ready.push(target, Mounted::Trees { lowers, path, writable: *writable });
                }
                Mount::Cache { source, target, readonly, .. } => {
                    let tree = self.cache_id(at, mount)?.and_then(|(id, _)| caches.get(&id).cloned());
                    let tree = tree.ok_or_else(|| BuildError::input("a cache mount has no tree"))?;
                    ready.push(target, Mounted::Tree { tree, path: source.clone(), readonly: *readonly });
                }
                Mount::Tmpfs { target, size } => ready.push(target, Mounted::Tmpfs { size: *size }),
                Mount::Secret { id, target, env, required, mode, uid, gid } => {
                    let Some(value) = self.secret(at.step.span, id, *required)? else { continue };
                    let access = Access { mode: *mode, uid: *uid, gid: *gid };
                    if let Some(target) = target {
                        ready.push(target, Mounted::File { content: value.clone(), access });
                    }
                    ready.secret_env.extend(env.iter().map(|name| (name.clone(), value.clone())));
                    ready.secrets.push(value);
                }
                Mount::Ssh { .. } => self.ssh(at.step.span, run, mount, &mut ready)?,
            }
        }
        Ok(ready)
    }

    /// The trees of a bind's source and the path in them.
    fn bind(&self, at: At<'_>, from: &Source, source: &str) -> Result<(Vec<String>, String), BuildError> {
        match from {
            Source::Stage(_) | Source::Image(_) => Ok((self.source_trees(at, from)?, source.to_owned())),
            Source::Context | Source::Named(_) => Ok((self.context_trees(at, from, source)?, BOUND.to_owned())),
        }
    }

    /// All trees of a stage or image, and of a context that is copied now if it has not been.
    pub(crate) fn source_trees(&self, at: At<'_>, from: &Source) -> Result<Vec<String>, BuildError> {
        let layers = match from {
            Source::Stage(id) => at.done.get(id.0).map(|stage| stage.layers.clone()).unwrap_or_default(),
            Source::Image(image) => self.image_layers(image),
            Source::Context | Source::Named(_) => return self.context_trees(at, from, "/"),
        };
        self.layers.all_trees(&layers)
    }

    fn context_trees(&self, at: At<'_>, from: &Source, source: &str) -> Result<Vec<String>, BuildError> {
        let copy = selection(from, source, at.step.span);
        let op = Op::Copy(Box::new(copy.clone()));
        let step = Step { op, created_by: String::new(), ..at.step.clone() };
        let copied = self.copy_step(&Stand::bare(at.stand.stage), &step, &copy, at.name, at.done)?;
        self.layers.all_trees(&[copied.layer])
    }

    /// What tells a cache from others, and how it is used. `None` for other mounts.
    fn cache_id<'m>(&self, at: At<'_>, mount: &'m Mount) -> Result<Option<(CacheId, CacheUse<'m>)>, BuildError> {
        let Mount::Cache { id, from, source, sharing, mode, uid, gid, .. } = mount else { return Ok(None) };
        let seed = match from {
            Some(from) => self.seed_input(at, from)?.to_string(),
            None => String::new(),
        };
        // As in BuildKit, a cache with an owner is another cache, and a part of one keeps what it has.
        let plain = Access { mode: 0o755, uid: 0, gid: 0 };
        let access = if source == "/" { Access { mode: *mode, uid: *uid, gid: *gid } } else { plain };
        let owner = if access == plain { String::new() } else { format!("{mode:o} {uid} {gid}") };
        let key = CacheId::of(&[id.as_bytes(), seed.as_bytes(), owner.as_bytes()]);
        Ok(Some((key, CacheUse { name: id, sharing: *sharing, access, seed: from.as_ref() })))
    }

    /// The caches of a step with their trees. They are taken in the order of their ids, so that two steps never wait for
    /// each other.
    fn caches(&self, at: At<'_>, run: &Run, ready: &mut Prepared) -> Result<BTreeMap<CacheId, String>, BuildError> {
        let mut uses: BTreeMap<CacheId, CacheUse<'_>> = BTreeMap::new();
        for mount in &run.mounts {
            let Some((id, wanted)) = self.cache_id(at, mount)? else { continue };
            let known = uses.entry(id).or_insert(CacheUse { sharing: Sharing::Shared, ..wanted });
            // Whoever wants it for himself at one place does not share it at another.
            if known.sharing == Sharing::Shared {
                known.sharing = wanted.sharing;
            }
        }
        let mut trees = BTreeMap::new();
        for (id, wanted) in uses {
            let (tree, lock) = self.take_cache(at, &id, &wanted)?;
            ready.held.push(lock);
            trees.insert(id, tree);
        }
        Ok(trees)
    }

    fn secret(&self, span: Span, id: &str, required: bool) -> Result<Option<Hidden>, BuildError> {
        let value = self.session.passed().secret(id)?;
        if value.is_none() && required {
            let hint = format!("pass it on: --secret id={id},src=FILE or --secret id={id},env=VARIABLE");
            return Err(self.finding("MissingSecret", span, format!("secret {id}: not found"), Some(hint)));
        }
        Ok(value)
    }

    fn ssh(&self, span: Span, run: &Run, mount: &Mount, ready: &mut Prepared) -> Result<(), BuildError> {
        let Mount::Ssh { id, target, required, mode, uid, gid } = mount else { return Ok(()) };
        let all = run.mounts.iter().filter(|mount| matches!(mount, Mount::Ssh { .. }));
        let number = all.take_while(|other| !std::ptr::eq(*other, mount)).count();
        let target = target.clone().unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}"));
        if number == 0 && !run.env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
            ready.env.push(("SSH_AUTH_SOCK".to_owned(), target.clone()));
        }
        match self.session.passed().agent(id) {
            Some(socket) => {
                let access = Access { mode: *mode, uid: *uid, gid: *gid };
                ready.push(&target, Mounted::Agent { socket: socket.to_owned(), access });
                Ok(())
            }
            None if *required => {
                let hint = format!("pass an agent on: --ssh {id}, or --ssh {id}=SOCKET");
                Err(self.finding("MissingSsh", span, format!("ssh agent {id}: not found"), Some(hint)))
            }
            None => Ok(()),
        }
    }
}

impl Prepared {
    fn push(&mut self, target: &str, what: Mounted) {
        self.mounts.push(kuz_sandbox::Mount { target: target.to_owned(), what });
    }
}

fn nothing() -> Digest {
    ImageSource::scratch().manifest
}

/// A mount's source as what a COPY of it would select: a literal path, into an empty file system.
fn selection(from: &Source, source: &str, span: Span) -> Copy {
    let mut text = String::with_capacity(source.len());
    for c in source.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    Copy::plain(from.clone(), Word { text, span }, BOUND)
}
