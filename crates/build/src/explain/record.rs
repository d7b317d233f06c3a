//! What went into a step's key, kept beside its record: fields of the instruction, and the files that it read.
//!
//! A step's inputs in; a [`Preimage`] under the step's key in the store out, and back. Written when a step misses and
//! at no other time. Files are kept as path, kind, mode, owner, size and half of a digest, paths without the beginning
//! that they share with the one before. No file's content and no secret's value is in it.

use serde::{Deserialize, Serialize};

use kuz_image::Digest;
use kuz_image::index::join;
use kuz_image::tar::Kind;
use kuz_plan::key::reads;
use kuz_plan::plan::{Mount, Op, Source as From, Step};
use kuz_plan::preimage::{self, Field};
use kuz_rootfs::context::{Entry, EntryKind};

use crate::error::BuildError;
use crate::execute::Execution;
use crate::selection::Picked;
use crate::session::Session;
use crate::sources::{Piece, Sources};

/// The kind of the records.
const PREIMAGE: &str = "preimage";
/// The form of the records; others are as if they were not there.
const VERSION: u8 = 1;
/// A source with more files than this is kept as its digest alone: some 4 MB.
const FILES: usize = 100_000;
/// Bytes of a file's digest that are kept: two contents are told apart, nothing is verified by it.
const SUM: usize = 16;

/// What a key was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preimage {
    /// What stands for all content below; none where the step does not look at it, or it is not known.
    pub(crate) parent: Option<String>,
    /// The instruction.
    pub(crate) fields: Vec<Field>,
    /// What it reads, in the order of `kuz_plan::key::reads`.
    pub(crate) sources: Vec<SourceNote>,
    /// `SOURCE_DATE_EPOCH`
    pub(crate) epoch: Option<i64>,
    /// What the request says of a command's surroundings.
    pub(crate) surroundings: Vec<Surrounding>,
}

/// A setting of the request: name and value.
pub(crate) type Surrounding = (String, String);

/// Something that a step reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceNote {
    /// For people.
    pub(crate) label: String,
    /// Whether it is of the build context.
    pub(crate) context: bool,
    /// Of all of it; none: not known.
    pub(crate) digest: Option<String>,
    /// Its files, where they were looked at.
    pub(crate) files: Option<Vec<FileNote>>,
}

/// A file, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileNote {
    pub(crate) path: Vec<u8>,
    /// The letter that `ls` shows.
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    /// User and group; zero where they do not count.
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
    /// A link's target.
    pub(crate) link: Vec<u8>,
    pub(crate) sum: [u8; SUM],
}

/// A file as it is written: the bytes that its path shares with the one before, and the rest.
#[derive(Serialize, Deserialize)]
struct Packed(u16, Vec<u8>, u8, u32, (u32, u32), u64, Vec<u8>, [u8; SUM]);

impl Serialize for FileNote {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { path, kind, mode, owner, size, link, sum } = self.clone();
        Packed(0, path, kind, mode, owner, size, link, sum).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FileNote {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Packed(_, path, kind, mode, owner, size, link, sum) = Packed::deserialize(deserializer)?;
        Ok(Self { path, kind, mode, owner, size, link, sum })
    }
}

impl Preimage {
    fn to_bytes(&self) -> Vec<u8> {
        let mut plain = self.clone();
        let mut lists = Vec::new();
        for source in &mut plain.sources {
            lists.push(source.files.take().map(pack));
        }
        postcard::to_stdvec(&(VERSION, plain, lists)).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&first, _) = bytes.split_first()?;
        if first != VERSION {
            return None;
        }
        let (_, mut preimage, lists): (u8, Self, Vec<Option<Vec<Packed>>>) = postcard::from_bytes(bytes).ok()?;
        for (source, packed) in preimage.sources.iter_mut().zip(lists) {
            source.files = packed.map(unpack);
        }
        Some(preimage)
    }

    /// The preimage of a key, if it was kept.
    pub(crate) fn read(session: &Session<'_>, key: &str) -> Option<Self> {
        Self::from_bytes(&session.store.get(PREIMAGE, key).ok()??)
    }

    /// Names of variables whose values are not kept.
    pub(crate) fn hidden(&self) -> Vec<&str> {
        self.fields.iter().filter(|field| field.value.is_none()).map(|field| field.name.as_str()).collect()
    }

    /// A field of the instruction.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.name == name)?.value.as_deref()
    }
}

fn pack(files: Vec<FileNote>) -> Vec<Packed> {
    let mut last: Vec<u8> = Vec::new();
    let one = |file: FileNote| {
        let FileNote { path, kind, mode, owner, size, link, sum } = file;
        let same = path.iter().zip(&last).take_while(|(one, other)| one == other).count();
        let same = u16::try_from(same).unwrap_or(u16::MAX);
        let rest = path.get(usize::from(same)..).unwrap_or_default().to_vec();
        last = path;
        Packed(same, rest, kind, mode, owner, size, link, sum)
    };
    files.into_iter().map(one).collect()
}

fn unpack(packed: Vec<Packed>) -> Vec<FileNote> {
    let mut last: Vec<u8> = Vec::new();
    let one = |Packed(same, rest, kind, mode, owner, size, link, sum): Packed| {
        last.truncate(usize::from(same));
        last.extend(rest);
        FileNote { path: last.clone(), kind, mode, owner, size, link, sum }
    };
    packed.into_iter().map(one).collect()
}

impl Execution<'_> {
    /// A COPY or ADD misses: keeps what went into its key.
    pub(crate) fn keep_copy(
        &self,
        parent: Option<&Digest>,
        step: &Step,
        key: &Digest,
        digest: &Digest,
        sources: &Sources,
    ) {
        let files = files(sources);
        let from = reads(&step.op).into_iter().next();
        let note = from.map(|from| self.source_note(from, Some(digest), Some(files)));
        self.keep(key, &self.preimage(parent, &step.op, note.into_iter().collect(), Vec::new()));
    }

    /// A RUN or WORKDIR misses: keeps what went into its key. `inputs` are the digests of what it reads, in order.
    pub(crate) fn keep_step(
        &self,
        parent: &Digest,
        op: &Op,
        key: &Digest,
        sources: Vec<SourceNote>,
        surroundings: Vec<Surrounding>,
    ) {
        self.keep(key, &self.preimage(Some(parent), op, sources, surroundings));
    }

    pub(crate) fn preimage(
        &self,
        parent: Option<&Digest>,
        op: &Op,
        sources: Vec<SourceNote>,
        surroundings: Vec<Surrounding>,
    ) -> Preimage {
        Preimage {
            parent: parent.map(ToString::to_string),
            fields: preimage::fields(op),
            sources,
            epoch: self.epoch(),
            surroundings,
        }
    }

    /// An explanation is worth less than a build: if it cannot be kept, the build goes on.
    fn keep(&self, key: &Digest, preimage: &Preimage) {
        let _ = self.session.store.put(PREIMAGE, key.hex(), &preimage.to_bytes());
    }

    /// What is known of something that a step reads.
    pub(crate) fn source_note(&self, from: &From, digest: Option<&Digest>, files: Option<Vec<FileNote>>) -> SourceNote {
        let label = match from {
            From::Context => "the context".to_owned(),
            From::Named(name) => format!("the context `{name}`"),
            From::Stage(id) => self.plan.stages.get(id.0).map(stage_label).unwrap_or_default(),
            From::Image(image) => image.reference.clone(),
        };
        let files = files.filter(|files| files.len() <= FILES);
        let context = *from == From::Context;
        SourceNote { label, context, digest: digest.map(ToString::to_string), files }
    }
}

/// A stage for people.
pub(crate) fn stage_label(stage: &kuz_plan::plan::Stage) -> String {
    match &stage.name {
        Some(name) => format!("stage {name}"),
        None => format!("stage {}", stage.number),
    }
}

/// The paths that the mounts of a step read in the build context, in the order of `kuz_plan::key::reads`.
pub(crate) fn read_paths(op: &Op) -> Vec<String> {
    let Op::Run(run) = op else { return Vec::new() };
    let path = |mount: &Mount| match mount {
        Mount::Bind { source, .. } => Some(source.clone()),
        Mount::Cache { from: Some(_), .. } => Some("/".to_owned()),
        Mount::Cache { .. } | Mount::Tmpfs { .. } | Mount::Secret { .. } | Mount::Ssh { .. } => None,
    };
    run.mounts.iter().filter_map(path).collect()
}

/// The files of a selection.
pub(crate) fn files(sources: &Sources) -> Vec<FileNote> {
    let mut notes = Vec::new();
    match sources {
        Sources::Pieces(pieces) => {
            for piece in pieces {
                piece_files(piece, &mut notes);
            }
        }
        Sources::Layers(_, selected, digests) => {
            let mut digests = digests.iter();
            for entry in selected.iter().flat_map(|source| &source.entries) {
                let content = if entry.copy.header.kind == Kind::File { digests.next() } else { None };
                notes.push(of_layer(entry, content));
            }
        }
    }
    notes
}

fn piece_files(piece: &Piece, notes: &mut Vec<FileNote>) {
    let whole = |path: &[u8], digest: &[u8; 32], size| FileNote {
        path: path.to_vec(),
        kind: b'-',
        mode: 0,
        owner: (0, 0),
        size,
        link: Vec::new(),
        sum: half(digest),
    };
    match piece {
        Piece::Local { source, contents, .. } => {
            let entries = source.entries.iter().zip(contents);
            notes.extend(entries.map(|(entry, content)| of_context(&source.path, entry, content.as_ref())));
        }
        Piece::Fetched(fetched) => {
            notes.push(whole(fetched.name.as_bytes(), fetched.digest().as_bytes(), fetched.size));
        }
        Piece::Repository(revision) => notes.push(whole(b"the repository", revision.digest().as_bytes(), 0)),
    }
}

fn of_context(source: &[u8], entry: &Entry, content: Option<&[u8; 32]>) -> FileNote {
    let (kind, link) = match &entry.kind {
        EntryKind::File => (b'-', Vec::new()),
        EntryKind::Dir => (b'd', Vec::new()),
        EntryKind::Symlink(target) => (b'l', target.clone()),
        EntryKind::Fifo => (b'p', Vec::new()),
        EntryKind::Socket => (b's', Vec::new()),
        EntryKind::Char(number) => (b'c', number.to_string().into_bytes()),
        EntryKind::Block(number) => (b'b', number.to_string().into_bytes()),
    };
    let path = if entry.relative.is_empty() { source.to_vec() } else { join(source, &entry.relative) };
    FileNote {
        path,
        kind,
        mode: if kind == b'l' { 0o777 } else { entry.mode },
        owner: (0, 0),
        size: if kind == b'-' { entry.stamp.size } else { 0 },
        link,
        sum: content.map(half).unwrap_or_default(),
    }
}

fn of_layer(entry: &Picked, content: Option<&[u8; 32]>) -> FileNote {
    let header = &entry.copy.header;
    let (kind, link) = match header.kind {
        Kind::File | Kind::Hardlink => (b'-', Vec::new()),
        Kind::Dir => (b'd', Vec::new()),
        Kind::Symlink => (b'l', header.link.clone()),
        Kind::Fifo => (b'p', Vec::new()),
        Kind::Char { major, minor } => (b'c', format!("{major}:{minor}").into_bytes()),
        Kind::Block { major, minor } => (b'b', format!("{major}:{minor}").into_bytes()),
    };
    FileNote {
        path: [b"/", entry.path.as_slice()].concat(),
        kind,
        mode: header.mode,
        owner: (header.uid, header.gid),
        size: header.size,
        link,
        sum: content.map(half).unwrap_or_default(),
    }
}

fn half(digest: &[u8; 32]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    for (to, from) in sum.iter_mut().zip(digest) {
        *to = *from;
    }
    sum
}

/// What a step's mounts read, with the files of those in the build context: only asked for where the step misses.
pub(crate) fn mount_notes(
    execution: &Execution<'_>,
    op: &Op,
    inputs: &[Digest],
    select: impl Fn(&From, &str) -> Result<Option<Sources>, BuildError>,
) -> Vec<SourceNote> {
    let paths = read_paths(op);
    let mut notes = Vec::new();
    for ((from, path), digest) in reads(op).into_iter().zip(&paths).zip(inputs) {
        let found = match from {
            // Explaining must not fail a build: the digest stands for files that cannot be looked at again.
            From::Context | From::Named(_) => select(from, path).ok().flatten(),
            From::Stage(_) | From::Image(_) => None,
        };
        let mut note = execution.source_note(from, Some(digest), found.as_ref().map(files));
        note.label = format!("{} (mounted)", note.label);
        notes.push(note);
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, sum: u8) -> FileNote {
        FileNote { path: path.into(), kind: b'-', mode: 0o644, owner: (0, 0), size: 3, link: vec![], sum: [sum; SUM] }
    }

    #[test]
    fn preimages_come_back_as_they_were() {
        let files = vec![file("src", 0), file("src/a.py", 1), file("src/b/c.py", 2), file("z", 3)];
        let note = |files| SourceNote { label: "the context".into(), context: true, digest: Some("d".into()), files };
        let whole = Preimage {
            parent: Some("p".into()),
            sources: vec![note(Some(files)), note(None), note(Some(vec![]))],
            epoch: Some(7),
            ..Preimage::default()
        };
        let bytes = whole.to_bytes();
        assert_eq!(Preimage::from_bytes(&bytes), Some(whole));
        assert_eq!(Preimage::from_bytes(b""), None);
        let mut newer = bytes.clone();
        newer[0] = VERSION + 1;
        assert_eq!(Preimage::from_bytes(&newer), None);
        assert_eq!(Preimage::from_bytes(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn shared_beginnings_are_written_once() {
        let long = "a/long/directory/name/that/all/files/share/";
        let files: Vec<FileNote> = (0..100).map(|number| file(&format!("{long}{number}"), 0)).collect();
        let source = SourceNote { label: String::new(), context: true, digest: None, files: Some(files) };
        let whole = Preimage { sources: vec![source], ..Preimage::default() };
        assert!(whole.to_bytes().len() < 100 * 32 + 200, "{}", whole.to_bytes().len());
    }
}
