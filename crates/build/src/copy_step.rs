//! COPY, ADD and WORKDIR: sources to a layer's tar in the store, in one pass.
//!
//! The key is the content of what is copied, never its times or where it came from. Files of a context are read in
//! place; files of a stage or image come out of its trees through the worker, and only the trees that own selected
//! files are made. From its record where the key was seen before. A `--link` layer is made on nothing, and its key does
//! not know what it will lie on.

use std::fs::File;
use std::io::{Read, Seek as _};

use kuz_dockerfile::Diagnostic;
use kuz_image::compress::{self, Compression};
use kuz_image::scan::{LayerWriter, Scanned};
use kuz_image::tar::{Header, Kind, TarReader};
use kuz_image::{Digest, Stack};
use kuz_plan::plan::{Copy, MakeDir, Op, Step};
use kuz_rootfs::accounts::{self, Accounts};
use kuz_rootfs::chmod::Chmod;
use kuz_rootfs::context::{Context, ContextError, EntryKind, Source};
use kuz_rootfs::copy::{CopyEntry, CopyError, CopyLayer, CopyOptions};
use kuz_store::StepRecord;

use crate::error::{BuildError, Findings};
use crate::event::{Event, StepName};
use crate::execute::{Execution, Outcome, Stand};
use crate::facts::Following;
use crate::follow::Followed;
use crate::layers::Layer;
use crate::schedule::Stages;
use crate::selection::Selected;
use crate::sources::{Piece, Sources};

/// A file that changes while it is copied is tried this often.
const TRIES: usize = 3;
/// What stands for what is below, in the key of a layer that does not look at it.
pub(crate) const NOTHING_BELOW: &[u8] = b"linked layer";

impl Execution<'_> {
    pub(crate) fn copy_step(
        &self,
        stand: &Stand<'_>,
        step: &Step,
        copy: &Copy,
        name: &StepName,
        done: &Stages,
    ) -> Result<Outcome, BuildError> {
        for attempt in 1.. {
            let (digest, sources) = self.select(step, copy, done)?;
            let linked = is_linked(copy);
            let key = if linked {
                self.key_on(&Digest::of(NOTHING_BELOW), step, std::slice::from_ref(&digest))
            } else {
                self.key(stand, step, std::slice::from_ref(&digest))
            };
            // What stands for all content is what is below and the layer.
            let placed = |outcome: Outcome| if linked { outcome.on(&stand.chain) } else { outcome };
            if let Some(known) = self.recall(stand, &key)? {
                return Ok(placed(known));
            }
            if attempt == 1 {
                (self.session.events)(Event::StepStarted(name.clone()));
            }
            let sources = match sources {
                Some(sources) => sources,
                None => self.select_layers(step, copy, done)?.1,
            };
            self.keep_copy((!linked).then_some(&stand.chain), step, &key, &digest, &sources);
            match self.write_copy(stand, step, copy, &sources) {
                Err(Failed::Changed) if attempt < TRIES => {}
                Err(Failed::Changed) => {
                    return Err(BuildError::input(format!(
                        "{}:{}: files of the context keep changing while they are copied",
                        self.inputs.file, name.line
                    )));
                }
                Err(failed) => return Err(self.explain(failed, step)),
                Ok(written) => return self.made(written, &key).map(placed),
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
        self.keep_step(&stand.chain, &step.op, &key, Vec::new(), Vec::new());
        let stack = self.stack_for(stand, step, &directory.path)?;
        let owner = if directory.user.is_empty() { (0, 0) } else { self.owner_or_root(step, &directory.user, &stack)? };
        let options =
            CopyOptions { owner, epoch: self.epoch(), now: self.session.machine.now.0, ..CopyOptions::default() };
        let written = self
            .layer(stand, &stack, options, |layer| {
                layer.make_dir(directory.path.as_bytes()).map(|_| ()).map_err(Failed::from)
            })
            .map_err(|failed| self.explain(failed, step))?;
        self.made(written, &key)
    }

    /// What a step looks at below its destination. Where a later step of the stage runs something, the layers are
    /// unpacked for it now: that reads them through as well, and once is enough.
    fn stack_for(&self, stand: &Stand<'_>, step: &Step, destination: &str) -> Result<Stack, BuildError> {
        let later = stand.stage.steps.iter().skip_while(|other| !std::ptr::eq(*other, step));
        if later.into_iter().any(|step| matches!(step.op, Op::Run(_))) {
            self.layers.all_trees(&stand.layers)?;
        }
        self.stack_at(&stand.layers, destination)
    }

    /// The index of all layers of a stand.
    pub(crate) fn stack(&self, layers: &[Layer]) -> Result<Stack, BuildError> {
        self.layers.scan_all(layers)?;
        let indexes = layers.iter().map(|layer| self.layers.index(layer)).collect::<Result<Vec<_>, _>>()?;
        Ok(Stack::new(indexes))
    }

    fn made(&self, written: Written, key: &Digest) -> Result<Outcome, BuildError> {
        let diff_id = self.session.record_tar(written.scanned)?;
        if let Some(following) = written.following {
            following.named(&diff_id);
        }
        let created = self.epoch_time().unwrap_or_else(|| self.session.now());
        let record = StepRecord {
            created,
            diff_id: Some(diff_id.clone()),
            tree: None,
            notes: std::collections::BTreeMap::new(),
        };
        self.session.record_step(key, &record)?;
        Ok(Outcome::new(Layer::Tar(diff_id), key, record, false))
    }

    fn write_copy(&self, stand: &Stand<'_>, step: &Step, copy: &Copy, sources: &Sources) -> Result<Written, Failed> {
        let stack = if is_linked(copy) { Stack::new(Vec::new()) } else { self.stack_for(stand, step, &copy.dest)? };
        let owner = copy.chown.as_ref().map(|spec| self.owner(step, copy, spec, &stack)).transpose()?;
        let chmod = match &copy.chmod {
            None => None,
            Some(text) => {
                Some(Chmod::parse(text).map_err(|error| self.finding("BadChmod", step.span, error.to_string(), None))?)
            }
        };
        let keeps_owner = owner.is_none() && matches!(sources, Sources::Layers(..));
        let options = CopyOptions {
            dest: copy.dest.clone().into_bytes(),
            // However many sources there are: of several files for one name the last stays, as in BuildKit.
            dest_is_dir: copy.dest.ends_with('/'),
            owner: owner.unwrap_or_default(),
            keeps_owner,
            chmod,
            epoch: self.epoch(),
            now: self.session.machine.now.0,
            archive_owner: owner,
        };
        let made = self.layer(stand, &stack, options, |layer| {
            match sources {
                Sources::Pieces(pieces) => {
                    for piece in pieces {
                        self.session.cancelled()?;
                        self.add_piece(layer, step, copy, piece)?;
                        layer.set_mtime(None);
                    }
                }
                Sources::Layers(layers, sources, _) => self.add_layers(layer, layers, sources)?,
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
            other => Failed::Build(self.explain(other, step)),
        })
    }

    /// Whom `--chown` means.
    fn owner(&self, step: &Step, copy: &Copy, spec: &str, stack: &Stack) -> Result<(u32, u32), BuildError> {
        if !is_linked(copy) {
            return self.owner_or_root(step, spec, stack);
        }
        accounts::owner(spec, accounts_of(stack)).map_err(|error| {
            let hint = accounts::is_named(spec).then(|| {
                "a layer made with --link does not see the files below it: give numbers, or leave out --link".to_owned()
            });
            self.finding("UnknownUser", step.span, error.to_string(), hint)
        })
    }

    /// Whom `--chown` or USER means, as far as the image knows. A name that it does not know is root's, which is told.
    fn owner_or_root(&self, step: &Step, spec: &str, stack: &Stack) -> Result<(u32, u32), BuildError> {
        let (owner, unknown) = accounts::owner_or_root(spec, accounts_of(stack))
            .map_err(|error| self.finding("UnknownUser", step.span, error.to_string(), None))?;
        if let Some(unknown) = unknown {
            let message = format!("{unknown}: the files belong to {}:{}", owner.0, owner.1);
            let warning = Diagnostic::warning("UnknownUser", step.span, message).hint("add the user or group before");
            let (file, source) = (self.inputs.file.clone(), self.inputs.dockerfile.source.clone());
            let findings = Findings { file, source, diagnostics: vec![warning] };
            (self.session.events)(Event::Warnings(Box::new(findings)));
        }
        Ok(owner)
    }

    /// ADD unpacks archives of a context unless told otherwise, those from the web only when told so.
    fn add_piece(
        &self,
        layer: &mut CopyLayer<'_, Followed<'_>>,
        step: &Step,
        copy: &Copy,
        piece: &Piece,
    ) -> Result<(), Failed> {
        let adds = matches!(step.op, Op::Add(_));
        match piece {
            Piece::Local { context, source, mtime, .. } => {
                layer.set_mtime(*mtime);
                add_local(layer, context, source, copy.unpack.unwrap_or(adds))
            }
            Piece::Fetched(fetched) => {
                let mut file = self.session.open_blob(&fetched.blob)?;
                if copy.unpack == Some(true) && add_archive(layer, &mut file)? {
                    return Ok(());
                }
                let header = Header {
                    kind: Kind::File,
                    mode: 0o600,
                    mtime: fetched.modified,
                    size: fetched.size,
                    ..Header::default()
                };
                layer.begin_source(fetched.name.as_bytes(), false)?;
                Ok(layer.add(&CopyEntry { relative: Vec::new(), header, inode: None }, &mut file)?)
            }
            Piece::Repository(revision) => {
                let checkout = revision.check_out(self.session)?;
                let (context, source) = self.select_checkout(step, copy, &checkout)?;
                layer.set_mtime(checkout.mtime);
                Ok(layer.add_context_source(&context, &source)?)
            }
        }
    }

    /// Writes a layer to the store.
    fn layer(
        &self,
        stand: &Stand<'_>,
        stack: &Stack,
        options: CopyOptions,
        fill: impl FnOnce(&mut CopyLayer<'_, Followed<'_>>) -> Result<(), Failed>,
    ) -> Result<Written, Failed> {
        let writer = self.session.store.blob_writer().map_err(|error| BuildError::store("write a layer", error))?;
        let sink = writer.file().try_clone().map_err(|error| BuildError::store("write a layer", error))?;
        let facts = self.facts.as_deref().filter(|_| stand.judged);
        let mut layer = CopyLayer::new(stack, options, LayerWriter::new(Followed::new(sink, facts)));
        fill(&mut layer)?;
        for skipped in layer.skipped() {
            let text =
                format!("the socket `{}` is left out: a layer cannot hold one", String::from_utf8_lossy(skipped));
            (self.session.events)(Event::Note { text });
        }
        let (sink, scanned) = layer.finish()?;
        let following = sink.finish();
        writer
            .commit_digest(&scanned.diff_id.0, scanned.bytes)
            .map_err(|error| BuildError::store("write a layer", error))?;
        Ok(Written { scanned, following })
    }

    /// Copies a selection of a stage or image: metadata from the indexes, contents from the worker's stream.
    fn add_layers(
        &self,
        layer: &mut CopyLayer<'_, Followed<'_>>,
        layers: &[Layer],
        sources: &[Selected],
    ) -> Result<(), Failed> {
        let files = self.tree_files(layers, sources)?;
        let (outcome, failed) = self.session.export(&files, |stream| {
            sources.iter().try_for_each(|source| {
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
            })
        })?;
        match failed {
            Some(error) if outcome.is_ok() || matches!(outcome, Err(Failed::Build(_))) => {
                Err(BuildError::store("read files of a stage", error).into())
            }
            _ => outcome,
        }
    }
}

/// A layer whose tar is in the store.
#[derive(Debug)]
struct Written {
    scanned: Scanned,
    /// Who reads what was written, if it is long and will be judged.
    following: Option<Following>,
}

/// Why a layer was not written.
pub(crate) enum Failed {
    /// A file changed while it was read: try again.
    Changed,
    /// The files cannot be copied so.
    Copy(CopyError),
    /// Anything else.
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

fn accounts_of(stack: &Stack) -> Accounts<'_> {
    Accounts { passwd: stack.account_file(b"etc/passwd"), group: stack.account_file(b"etc/group") }
}

/// Whether a copy is made on nothing. As in BuildKit, a `--chmod` makes an ordinary copy of it.
pub(crate) fn is_linked(copy: &Copy) -> bool {
    copy.link && copy.chmod.is_none()
}

/// One source of a context; ADD unpacks a file that is an archive, by its content.
fn add_local(
    layer: &mut CopyLayer<'_, Followed<'_>>,
    context: &Context,
    source: &Source,
    unpacks: bool,
) -> Result<(), Failed> {
    let single = source.entries.first().filter(|_| unpacks && source.entries.len() == 1 && !source.is_dir());
    if let Some(entry) = single.filter(|entry| entry.kind == EntryKind::File) {
        let mut file = context.open_entry(entry).map_err(CopyError::from)?;
        if add_archive(layer, &mut file)? {
            context.check_unchanged(entry, &file).map_err(CopyError::from)?;
            return Ok(());
        }
    }
    Ok(layer.add_context_source(context, source)?)
}

/// Unpacks a file if it is an archive; says whether it is.
fn add_archive(layer: &mut CopyLayer<'_, Followed<'_>>, file: &mut File) -> Result<bool, Failed> {
    let Some(compression) = archive(file) else { return Ok(false) };
    let reader = compress::reader(compression, file).map_err(|error| BuildError::store("read an archive", error))?;
    layer.add_archive(reader)?;
    Ok(true)
}

/// Whether a file is a tar, plain or compressed: decided by its first entry. The file stands at its beginning then.
pub(crate) fn archive(file: &mut File) -> Option<Compression> {
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head).ok()?;
    file.rewind().ok()?;
    let compression = compress::detect(&head);
    let found = compress::reader(compression, &mut *file)
        .ok()
        .is_some_and(|reader| matches!(TarReader::new(reader).next(), Ok(Some(_))));
    file.rewind().ok()?;
    found.then_some(compression)
}
