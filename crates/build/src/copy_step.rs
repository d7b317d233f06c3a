//! COPY, ADD and WORKDIR: sources to a layer's tar in the store, in one pass.
//!
//! The key is the content of what is copied, never its times or where it came from. Files of the context are read in
//! place; files of a stage or image come out of its trees through the worker, and only the trees that own selected
//! files are made. From its record where the key was seen before.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::Path;

use kuz_dockerfile::glob::Glob;
use kuz_dockerfile::{Diagnostic, Span};
use kuz_image::compress::{self, Compression};
use kuz_image::scan::{LayerWriter, Scanned};
use kuz_image::tar::{Header, Kind, TarReader};
use kuz_image::{Digest, Stack};
use kuz_plan::plan::{Copy, MakeDir, Op, Source as From, Step, Word};
use kuz_rootfs::accounts::{self, Accounts};
use kuz_rootfs::chmod::Chmod;
use kuz_rootfs::context::{Context, ContextError, Source, Verdict};
use kuz_rootfs::copy::{CopyEntry, CopyError, CopyLayer, CopyOptions};
use kuz_rootfs::fingerprint::{self, FingerprintCache};
use kuz_rootfs::read::TreeFile;
use kuz_store::StepRecord;

use crate::error::{BuildError, Findings};
use crate::event::{Event, StepName};
use crate::execute::{Execution, Outcome, StageDone, Stand};
use crate::layers::Layer;
use crate::selection::{self, Selected};

/// The kind of records with digests of what was selected in a stage.
const SELECTION: &str = "selection";
/// The kind of records with fingerprints of a context's files.
const FINGERPRINTS: &str = "fingerprints";
/// A file that changes while it is copied is tried this often.
const TRIES: usize = 3;
/// What a tar's first header and a compressed file's mark need.
const SNIFF_BYTES: u64 = 1 << 16;

/// What is copied.
pub(crate) enum Sources {
    Context(Context, Vec<Source>),
    Layers(Vec<Layer>, Vec<Selected>),
}

impl Execution<'_> {
    pub(crate) fn copy_step(
        &self,
        stand: &Stand<'_>,
        step: &Step,
        copy: &Copy,
        name: &StepName,
        done: &[StageDone],
    ) -> Result<Outcome, BuildError> {
        for attempt in 1.. {
            let (digest, sources) = self.select(step, copy, done)?;
            let key = self.key(stand, step, &[digest]);
            if let Some(known) = self.recall(stand, &key)? {
                return Ok(known);
            }
            if attempt == 1 {
                (self.session.events)(Event::StepStarted(name.clone()));
            }
            let sources = match sources {
                Some(sources) => sources,
                None => self.select_layers(step, copy, done)?.1,
            };
            match self.write_copy(stand, step, copy, &sources) {
                Err(Failed::Changed) if attempt < TRIES => {}
                Err(Failed::Changed) => {
                    return Err(BuildError::input(format!(
                        "{}:{}: files of the context keep changing while they are copied",
                        self.inputs.file, name.line
                    )));
                }
                Err(failed) => return Err(self.explain(failed, step.span)),
                Ok(scanned) => return self.made(scanned, key),
            }
        }
        Err(BuildError::Cancelled)
    }

    pub(crate) fn make_dir_step(
        &self,
        stand: &Stand<'_>,
        step: &Step,
        directory: &MakeDir,
        name: &StepName,
    ) -> Result<Outcome, BuildError> {
        let key = self.key(stand, step, &[]);
        if let Some(known) = self.recall(stand, &key)? {
            return Ok(known);
        }
        (self.session.events)(Event::StepStarted(name.clone()));
        let stack = self.stack(&stand.layers)?;
        let owner = if directory.user.is_empty() {
            (0, 0)
        } else {
            accounts::identity(&directory.user, accounts_of(&stack))
                .map(|identity| (identity.uid, identity.gid))
                .map_err(|error| self.finding("UnknownUser", step.span, error.to_string(), None))?
        };
        let options =
            CopyOptions { owner, epoch: self.epoch(), now: self.session.machine.now.0, ..CopyOptions::default() };
        let scanned = self
            .layer(&stack, options, |layer| layer.make_dir(directory.path.as_bytes()).map(|_| ()).map_err(Failed::from))
            .map_err(|failed| self.explain(failed, step.span))?;
        self.made(scanned, key)
    }

    /// The index of all layers of a stand.
    fn stack(&self, layers: &[Layer]) -> Result<Stack, BuildError> {
        let indexes = layers.iter().map(|layer| self.layers.index(layer)).collect::<Result<Vec<_>, _>>()?;
        Ok(Stack::new(indexes))
    }

    fn made(&self, scanned: Scanned, key: Digest) -> Result<Outcome, BuildError> {
        let diff_id = self.session.record_tar(scanned)?;
        let created = self.epoch_time().unwrap_or_else(|| self.session.now());
        let record = StepRecord {
            created: created.clone(),
            diff_id: Some(diff_id.clone()),
            tree: None,
            notes: std::collections::BTreeMap::new(),
        };
        self.session.record_step(&key, &record)?;
        Ok(Outcome { layer: Layer::Tar(diff_id), created, cached: false, key })
    }

    /// The digest of what is copied, and the sources unless the digest was remembered.
    pub(crate) fn select(
        &self,
        step: &Step,
        copy: &Copy,
        done: &[StageDone],
    ) -> Result<(Digest, Option<Sources>), BuildError> {
        if copy.from == From::Context {
            return self.select_context(step, copy);
        }
        let chain = match &copy.from {
            From::Stage(id) => done.get(id.0).map(|stage| stage.chain.clone()),
            From::Image(source) => Some(Self::image_chain(source)),
            From::Context | From::Named(_) => None,
        };
        let words: Vec<&[u8]> = copy.sources.iter().map(|word| word.text.as_bytes()).collect();
        let key = Self::selection_key(&chain.unwrap_or_else(|| Digest::of(b"scratch")), &words);
        let failed = |error| BuildError::store("read a record", error);
        if let Some(known) = self.session.store.get(SELECTION, key.hex()).map_err(failed)?
            && let Ok(digest) = String::from_utf8_lossy(&known).parse()
        {
            return Ok((digest, None));
        }
        let (digest, sources) = self.select_layers(step, copy, done)?;
        self.session.store.put(SELECTION, key.hex(), digest.to_string().as_bytes()).map_err(failed)?;
        Ok((digest, Some(sources)))
    }

    fn select_context(&self, step: &Step, copy: &Copy) -> Result<(Digest, Option<Sources>), BuildError> {
        let context = Context::open(&self.inputs.context).map_err(|error| self.context_error(&error, step.span))?;
        let ignore = &self.inputs.ignore;
        let excluded = |path: &[u8], is_dir: bool| {
            if !ignore.matches(path) {
                Verdict::Keep
            } else if is_dir && ignore.could_match_below(path) {
                Verdict::DropButLookBelow
            } else {
                Verdict::Drop
            }
        };
        let matcher = |pattern: &[u8], name: &[u8]| Glob::new(pattern).is_ok_and(|glob| glob.matches(name));
        let mut cache = self.fingerprints()?;
        let mut hash = blake3::Hasher::new();
        let mut sources = Vec::new();
        for word in &copy.sources {
            if Glob::new(word.text.as_bytes()).is_err() {
                let message = format!("`{}` is no wildcard pattern", word.text.escape_debug());
                return Err(self.finding("BadPattern", word.span, message, None));
            }
            let selected = context
                .select(word.text.as_bytes(), &matcher, &excluded)
                .map_err(|error| self.context_error(&error, word.span))?;
            for mut source in selected {
                let digest = fingerprint::digest(&context, &mut source.entries, &mut cache)
                    .map_err(|error| self.context_error(&error, word.span))?;
                part(&mut hash, source.name(), source.is_dir(), &digest);
                sources.push(source);
            }
            hash.update(b"word");
        }
        self.save_fingerprints(&cache)?;
        Ok((Digest::of(hash.finalize().as_bytes()), Some(Sources::Context(context, sources))))
    }

    fn fingerprint_key(&self) -> String {
        let context = std::path::absolute(&self.inputs.context).unwrap_or_else(|_| self.inputs.context.clone());
        Digest::of(context.as_os_str().as_encoded_bytes()).hex().to_owned()
    }

    fn fingerprints(&self) -> Result<FingerprintCache, BuildError> {
        let now = self.session.machine.now;
        let known = self
            .session
            .store
            .get(FINGERPRINTS, &self.fingerprint_key())
            .map_err(|error| BuildError::store("read the context's fingerprints", error))?;
        Ok(known.map_or_else(|| FingerprintCache::new(now), |bytes| FingerprintCache::from_bytes(&bytes, now)))
    }

    fn save_fingerprints(&self, cache: &FingerprintCache) -> Result<(), BuildError> {
        if !cache.is_dirty() {
            return Ok(());
        }
        self.session
            .store
            .put(FINGERPRINTS, &self.fingerprint_key(), &cache.to_bytes())
            .map_err(|error| BuildError::store("write the context's fingerprints", error))
    }

    /// Selection in a stage or an image, with the digests of the files' contents.
    fn select_layers(&self, step: &Step, copy: &Copy, done: &[StageDone]) -> Result<(Digest, Sources), BuildError> {
        let layers = match &copy.from {
            From::Stage(id) => done.get(id.0).map(|stage| stage.layers.clone()).unwrap_or_default(),
            From::Image(source) => self.image_layers(source),
            From::Context | From::Named(_) => Vec::new(),
        };
        let stack = self.stack(&layers)?;
        let mut chosen: Vec<Selected> = Vec::new();
        let mut marks = Vec::new();
        for word in &copy.sources {
            let found = selection::select(&stack, word.text.as_bytes())
                .map_err(|error| self.selection_error(&error, copy, word))?;
            marks.push(found.len());
            chosen.extend(found);
        }
        let files = self.tree_files(&layers, &chosen)?;
        let digests = if files.is_empty() {
            Vec::new()
        } else {
            self.session
                .worker()?
                .digests(&files)
                .map_err(|error| BuildError::store(format!("read files for line {}", self.line(step.span)), error))?
        };
        let mut hash = blake3::Hasher::new();
        let mut digests = digests.iter();
        for source in &chosen {
            let mut content = blake3::Hasher::new();
            for entry in &source.entries {
                let CopyEntry { relative, header, .. } = &entry.copy;
                content.update(&(relative.len() as u64).to_le_bytes()).update(relative);
                content.update(&header.mode.to_le_bytes());
                content.update(&(header.link.len() as u64).to_le_bytes()).update(&header.link);
                content.update(match header.kind {
                    Kind::File => b"file",
                    Kind::Dir => b"dir ",
                    Kind::Symlink => b"link",
                    _ => b"dev ",
                });
                if header.kind == Kind::File {
                    content.update(digests.next().map_or(&[0; 32], |digest| digest));
                }
            }
            part(&mut hash, &source.name, source.is_dir(), content.finalize().as_bytes());
        }
        for mark in marks {
            hash.update(&(mark as u64).to_le_bytes());
        }
        Ok((Digest::of(hash.finalize().as_bytes()), Sources::Layers(layers, chosen)))
    }

    /// The regular files of a selection, in order, by the trees that hold them.
    fn tree_files(&self, layers: &[Layer], chosen: &[Selected]) -> Result<Vec<TreeFile>, BuildError> {
        let files = || {
            let entries = chosen.iter().flat_map(|source| &source.entries);
            entries.filter(|entry| entry.copy.header.kind == Kind::File)
        };
        let needed: std::collections::BTreeSet<usize> = files().map(|entry| entry.layer).collect();
        let places: Vec<usize> = needed.iter().copied().collect();
        let names = if places.is_empty() { Vec::new() } else { self.layers.trees(layers, &places)? };
        let trees: std::collections::BTreeMap<usize, String> = needed.into_iter().zip(names).collect();
        let file = |entry: &selection::Picked| {
            Some(TreeFile { tree: trees.get(&entry.layer)?.clone(), path: entry.path.clone() })
        };
        Ok(files().filter_map(file).collect())
    }

    fn write_copy(&self, stand: &Stand<'_>, step: &Step, copy: &Copy, sources: &Sources) -> Result<Scanned, Failed> {
        let stack = self.stack(&stand.layers)?;
        let owner = match &copy.chown {
            None => None,
            Some(spec) => Some(
                accounts::owner(spec, accounts_of(&stack))
                    .map_err(|error| self.finding("UnknownUser", step.span, error.to_string(), None))?,
            ),
        };
        let chmod = match &copy.chmod {
            None => None,
            Some(text) => {
                Some(Chmod::parse(text).map_err(|error| self.finding("BadChmod", step.span, error.to_string(), None))?)
            }
        };
        let count = copy.inline.len()
            + match sources {
                Sources::Context(_, sources) => sources.len(),
                Sources::Layers(_, sources) => sources.len(),
            };
        let options = CopyOptions {
            dest: copy.dest.clone().into_bytes(),
            dest_is_dir: copy.dest.ends_with('/') || count > 1,
            owner: owner.unwrap_or_default(),
            chmod,
            epoch: self.epoch(),
            now: self.session.machine.now.0,
            archive_owner: owner,
        };
        let unpacks = matches!(step.op, Op::Add(_)) && copy.unpack != Some(false);
        let made = self.layer(&stack, options, |layer| {
            match sources {
                Sources::Context(context, sources) => {
                    for source in sources {
                        self.session.cancelled()?;
                        add_context(layer, context, source, unpacks)?;
                    }
                }
                Sources::Layers(layers, sources) => self.add_layers(layer, layers, sources)?,
            }
            for file in &copy.inline {
                layer.begin_source(file.name.as_bytes(), false)?;
                let size = file.content.len() as u64;
                let mtime = self.session.machine.now.0;
                let header = Header { kind: Kind::File, mode: 0o644, mtime, size, ..Header::default() };
                let entry = CopyEntry { relative: Vec::new(), header, inode: None };
                layer.add(&entry, &mut file.content.as_bytes())?;
            }
            Ok(())
        });
        made.map_err(|failed| match failed {
            Failed::Changed => Failed::Changed,
            other => Failed::Build(self.explain(other, step.span)),
        })
    }

    /// Writes a layer to the store.
    fn layer(
        &self,
        stack: &Stack,
        options: CopyOptions,
        fill: impl FnOnce(&mut CopyLayer<'_, File>) -> Result<(), Failed>,
    ) -> Result<Scanned, Failed> {
        let writer = self.session.store.blob_writer().map_err(|error| BuildError::store("write a layer", error))?;
        let sink = writer.file().try_clone().map_err(|error| BuildError::store("write a layer", error))?;
        let mut layer = CopyLayer::new(stack, options, LayerWriter::new(sink));
        fill(&mut layer)?;
        for skipped in layer.skipped() {
            let text =
                format!("the socket `{}` is left out: a layer cannot hold one", String::from_utf8_lossy(skipped));
            (self.session.events)(Event::Note { text });
        }
        let (_, scanned) = layer.finish()?;
        writer
            .commit_digest(&scanned.diff_id.0, scanned.bytes)
            .map_err(|error| BuildError::store("write a layer", error))?;
        Ok(scanned)
    }

    /// Copies a selection of a stage or image: metadata from the indexes, contents from the worker's stream.
    fn add_layers(
        &self,
        layer: &mut CopyLayer<'_, File>,
        layers: &[Layer],
        sources: &[Selected],
    ) -> Result<(), Failed> {
        let files = self.tree_files(layers, sources)?;
        let worker = if files.is_empty() { None } else { Some(self.session.worker()?) };
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| BuildError::store("open a pipe", error))?;
        std::thread::scope(|scope| {
            let export = worker.map(|worker| {
                scope.spawn(move || {
                    let write = write;
                    worker.export(&files, &write)
                })
            });
            let mut stream = TarReader::new(File::from(read));
            let outcome = sources.iter().try_for_each(|source| {
                layer.begin_source(&source.name, source.is_dir())?;
                for entry in &source.entries {
                    if entry.copy.header.kind != Kind::File {
                        layer.add(&entry.copy, &mut std::io::empty())?;
                        continue;
                    }
                    let next = stream.next().map_err(|error| BuildError::store("read a file of a stage", error))?;
                    let mut content = next.ok_or_else(|| BuildError::Store {
                        action: "read a file of a stage".into(),
                        source: "the worker's stream ended early".into(),
                    })?;
                    let mut copy = entry.copy.clone();
                    copy.header.size = content.header().size;
                    copy.header.xattrs = content.header().xattrs.clone();
                    layer.add(&copy, &mut content)?;
                }
                Ok(())
            });
            // Closed before the join: a worker that still writes must not wait for a reader that has left.
            drop(stream);
            match export.map(std::thread::ScopedJoinHandle::join) {
                Some(Ok(Err(error))) if outcome.is_ok() || matches!(outcome, Err(Failed::Build(_))) => {
                    Err(BuildError::store("read files of a stage", error).into())
                }
                _ => outcome,
            }
        })
    }

    // Words for mistakes.

    fn line(&self, span: Span) -> usize {
        kuz_dockerfile::line_of(&self.inputs.dockerfile.source, span.start)
    }

    pub(crate) fn finding(&self, rule: &'static str, span: Span, message: String, hint: Option<String>) -> BuildError {
        let mut diagnostic = Diagnostic::error(rule, span, message);
        diagnostic.hint = hint;
        BuildError::Findings(Box::new(Findings {
            file: self.inputs.file.clone(),
            source: self.inputs.dockerfile.source.clone(),
            diagnostics: vec![diagnostic],
        }))
    }

    fn explain(&self, failed: Failed, span: Span) -> BuildError {
        match failed {
            Failed::Build(error) => error,
            Failed::Changed => BuildError::input("files of the context changed while they were read"),
            Failed::Copy(CopyError::Write(error)) => BuildError::store("write a layer", error),
            Failed::Copy(CopyError::Context(error)) => self.context_error(&error, span),
            Failed::Copy(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.finding("CopyFailed", span, format!("{error}{cause}"), None)
            }
        }
    }

    fn context_error(&self, error: &ContextError, span: Span) -> BuildError {
        let context = self.inputs.context.display();
        match error {
            ContextError::NotFound { path } => {
                let hint = near(&self.inputs.context, path).map_or_else(
                    || format!("paths are relative to the build context `{context}`: put the file there"),
                    |near| format!("did you mean `{near}`?"),
                );
                self.finding("CopySourceNotFound", span, format!("`{path}` is not in the build context"), Some(hint))
            }
            ContextError::Ignored { path } => {
                let name = self.inputs.ignore_name.as_deref().unwrap_or(".dockerignore");
                let decision = self.inputs.ignore.decide(path.as_bytes());
                let rule = decision.map(|decision| {
                    let pattern = decision.pattern;
                    format!("line {} of {name} says `{}`", decision.line, String::from_utf8_lossy(pattern))
                });
                let hint = rule.unwrap_or_else(|| format!("add `!{path}` to {name} to keep it"));
                self.finding("CopySourceIgnored", span, format!("`{path}` is excluded by {name}"), Some(hint))
            }
            _ => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.finding("CopyFailed", span, format!("{error}{cause}"), None)
            }
        }
    }

    fn selection_error(&self, error: &selection::SelectionError, copy: &Copy, word: &Word) -> BuildError {
        let place = match &copy.from {
            From::Stage(id) => {
                let stage = self.plan.stages.get(id.0);
                let name = stage.map(|stage| stage.name.clone().unwrap_or_else(|| stage.number.to_string()));
                format!("stage `{}`", name.unwrap_or_default())
            }
            From::Image(source) => format!("image `{}`", source.reference),
            From::Context | From::Named(_) => "the source".to_owned(),
        };
        let message = match error {
            selection::SelectionError::NotFound { .. } => format!("`{}` does not exist in {place}", word.text),
            other => {
                format!("{other}: {}", std::error::Error::source(other).map(ToString::to_string).unwrap_or_default())
            }
        };
        self.finding("CopySourceNotFound", word.span, message, None)
    }
}

/// Why a layer was not written.
enum Failed {
    /// A file changed while it was read: try again.
    Changed,
    Copy(CopyError),
    Build(BuildError),
}

impl std::convert::From<CopyError> for Failed {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Context(ContextError::Changed { .. }) => Self::Changed,
            other => Self::Copy(other),
        }
    }
}

impl std::convert::From<BuildError> for Failed {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

fn part(hash: &mut blake3::Hasher, name: &[u8], is_dir: bool, digest: &[u8; 32]) {
    // The name of a directory does not matter: its contents are copied.
    let name = if is_dir { b"" } else { name };
    hash.update(&[u8::from(is_dir)]).update(&(name.len() as u64).to_le_bytes()).update(name).update(digest);
}

fn accounts_of(stack: &Stack) -> Accounts<'_> {
    Accounts { passwd: stack.account_file(b"etc/passwd"), group: stack.account_file(b"etc/group") }
}

/// One source of the context; ADD unpacks a file that is an archive, by its content.
fn add_context(
    layer: &mut CopyLayer<'_, File>,
    context: &Context,
    source: &Source,
    unpacks: bool,
) -> Result<(), Failed> {
    let single = source.entries.first().filter(|_| unpacks && source.entries.len() == 1 && !source.is_dir());
    if let Some(entry) = single.filter(|entry| entry.kind == kuz_rootfs::context::EntryKind::File) {
        let mut file = context.open_entry(entry).map_err(CopyError::from)?;
        if let Some(compression) = archive(&mut file) {
            let reader = compress::reader(compression, &mut file)
                .map_err(|error| BuildError::store("read an archive of the context", error))?;
            layer.add_archive(reader)?;
            context.check_unchanged(entry, &file).map_err(CopyError::from)?;
            return Ok(());
        }
    }
    Ok(layer.add_context_source(context, source)?)
}

/// Whether a file is a tar, plain or compressed: decided by its beginning alone.
fn archive(file: &mut File) -> Option<Compression> {
    let mut head = Vec::new();
    file.by_ref().take(SNIFF_BYTES).read_to_end(&mut head).ok()?;
    file.rewind().ok()?;
    let compression = compress::detect(&head);
    let reader = compress::reader(compression, head.as_slice()).ok()?;
    let mut tar = TarReader::new(reader);
    matches!(tar.next(), Ok(Some(_))).then_some(compression)
}

/// A name in the same directory of the context that is spelled nearly the same.
fn near(context: &Path, missing: &str) -> Option<String> {
    let (parent, name) = missing.rsplit_once('/').unwrap_or(("", missing));
    let names: Vec<String> = std::fs::read_dir(context.join(parent))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = kuz_dockerfile::suggest::nearest(name, names.iter().map(String::as_str))?;
    Some(if parent.is_empty() { near.to_owned() } else { format!("{parent}/{near}") })
}
