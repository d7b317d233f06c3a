//! What the words of a COPY or ADD select: files of a context, of a stage or image, from the network.
//!
//! An instruction in, a digest of what it copies and the means to read it out. Digests are of content, never of times
//! or of where files came from. Nothing is copied here; a repository is only cloned when it is.

use std::rc::Rc;

use kuz_dockerfile::glob::Glob;
use kuz_image::Digest;
use kuz_image::tar::Kind;
use kuz_plan::plan::{Copy, Op, Source as From, Step, Word};
use kuz_rootfs::context::{Context, Source, Verdict};
use kuz_rootfs::copy::CopyEntry;
use kuz_rootfs::fingerprint::{self, FingerprintCache};
use kuz_rootfs::read::TreeFile;

use crate::contexts::LocalContext;
use crate::download::{self, Fetched};
use crate::error::BuildError;
use crate::execute::Execution;
use crate::filter::Wanted;
use crate::git::{self, Checkout, GitSource, Revision};
use crate::layers::Layer;
use crate::schedule::Stages;
use crate::selection::{self, Selected};

/// The kind of records with digests of what was selected in a stage.
const SELECTION: &str = "selection";
/// The kind of records with fingerprints of a context's files.
const FINGERPRINTS: &str = "fingerprints";

/// What is copied.
pub(crate) enum Sources {
    /// From this machine or the network, in the order of the words.
    Pieces(Vec<Piece>),
    /// From a stage or image, with the digests of the files' contents, in order.
    Layers(Vec<Layer>, Vec<Selected>, Vec<[u8; 32]>),
}

/// What one word, or one match of it, selects.
pub(crate) enum Piece {
    /// A file or directory of a context.
    Local {
        /// Reads it.
        context: Rc<Context>,
        /// What was selected.
        source: Source,
        /// The digests of its entries' contents, in order.
        contents: Vec<Option<[u8; 32]>>,
        /// The time that all of it gets.
        mtime: Option<i64>,
    },
    /// A file from the web, in the store.
    Fetched(Fetched),
    /// A commit of a repository.
    Repository(Revision),
}

/// The digest of a selection, and the selection unless the digest was remembered.
type Chosen = (Digest, Option<Sources>);

impl Execution<'_> {
    /// What an instruction copies.
    pub(crate) fn select(&self, step: &Step, copy: &Copy, done: &Stages) -> Result<Chosen, BuildError> {
        let chain = match &copy.from {
            From::Context => return self.select_pieces(step, copy, &self.inputs.context),
            From::Named(name) => return self.select_pieces(step, copy, self.named(name)?),
            From::Stage(id) => done.get(id.0).map(|stage| stage.chain.clone()),
            From::Image(source) => Some(Self::image_chain(source)),
        };
        let mut words: Vec<Vec<u8>> = copy.sources.iter().map(|word| word.text.clone().into_bytes()).collect();
        words.extend(copy.parents.then(|| b"\0parents".to_vec()));
        words.extend(copy.exclude.iter().map(|pattern| format!("\0exclude {pattern}").into_bytes()));
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
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

    /// A named context that is a directory.
    pub(crate) fn named(&self, name: &str) -> Result<&LocalContext, BuildError> {
        let named = self.inputs.named.get(name);
        named.ok_or_else(|| BuildError::input(format!("there is no build context `{name}`")))?.open(self.session)
    }

    fn wanted(&self, step: &Step, copy: &Copy, word: &Word) -> Result<Wanted, BuildError> {
        let wanted = Wanted::new(copy, &word.text).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let message = format!("a pattern of --exclude or --parents cannot be used: {error}{cause}");
            self.finding("BadPattern", step.span, message, None)
        })?;
        if Glob::new(wanted.start.as_bytes()).is_err() {
            let message = format!("`{}` is no wildcard pattern", word.text.escape_debug());
            return Err(self.finding("BadPattern", word.span, message, None));
        }
        Ok(wanted)
    }

    fn select_pieces(&self, step: &Step, copy: &Copy, from: &LocalContext) -> Result<Chosen, BuildError> {
        let context = Rc::new(from.open().map_err(|error| self.context_error(from, &error, step.span))?);
        let mut cache = self.fingerprints(from)?;
        let mut hash = blake3::Hasher::new();
        let mut pieces = Vec::new();
        let adds = matches!(step.op, Op::Add(_));
        for word in &copy.sources {
            self.session.cancelled()?;
            if adds && GitSource::is_meant(&word.text) {
                let revision = self.revision(copy, word)?;
                part(&mut hash, b"", true, revision.digest().as_bytes());
                pieces.push(Piece::Repository(revision));
            } else if adds && download::is_meant(&word.text) {
                let fetched = self.fetch(copy, word)?;
                part(&mut hash, fetched.name.as_bytes(), false, fetched.digest().as_bytes());
                pieces.push(Piece::Fetched(fetched));
            } else {
                let wanted = self.wanted(step, copy, word)?;
                for mut source in self.select_local(from, &context, &wanted, word)? {
                    let (digest, contents) = fingerprint::digest_each(&context, &mut source.entries, &mut cache)
                        .map_err(|error| self.context_error(from, &error, word.span))?;
                    part(&mut hash, source.name(), source.is_dir(), &digest);
                    pieces.push(Piece::Local { context: Rc::clone(&context), source, contents, mtime: from.mtime });
                }
            }
            hash.update(b"word");
        }
        self.save_fingerprints(from, &cache)?;
        Ok((Digest::of(hash.finalize().as_bytes()), Some(Sources::Pieces(pieces))))
    }

    /// The commit that a word of an ADD means.
    fn revision(&self, copy: &Copy, word: &Word) -> Result<Revision, BuildError> {
        let mut source = GitSource::parse(&word.text).map_err(|error| {
            let message = format!("the address of the git repository cannot be used: {error}");
            self.finding("BadGitAddress", word.span, message, None)
        })?;
        source.keep_git_dir |= copy.keep_git_dir;
        let checksum = copy.checksum.as_deref();
        if let Some(checksum) = checksum.filter(|checksum| !git::is_checksum(checksum)) {
            let message = format!("`{}` is no commit: want 1 to 64 hexadecimal digits", checksum.escape_debug());
            return Err(self.finding("InvalidChecksum", word.span, message, None));
        }
        Revision::find(self.session, &source, checksum).map_err(|error| self.placed(error, word.span))
    }

    /// All of a checkout but what `--exclude` leaves out.
    pub(crate) fn select_checkout(
        &self,
        step: &Step,
        copy: &Copy,
        checkout: &Checkout,
    ) -> Result<(Context, Source), BuildError> {
        let failed = |error| BuildError::store("read a checkout", error);
        let context = Context::open(&checkout.path).map_err(failed)?;
        let whole = Copy { parents: false, ..copy.clone() };
        let wanted = self.wanted(step, &whole, &Word { text: "/".to_owned(), span: step.span })?;
        let below = |path: &[u8], is_dir: bool| wanted.below(path, is_dir);
        let everything = |_: &[u8], _: bool| Verdict::Keep;
        let mut found = context.select_filtered(b"/", &|_, _| false, &everything, &below).map_err(failed)?;
        found.pop().map(|source| (context, source)).ok_or_else(|| BuildError::input("the checkout is empty"))
    }

    /// What a word names in a directory of this machine.
    fn select_local(
        &self,
        from: &LocalContext,
        context: &Context,
        wanted: &Wanted,
        word: &Word,
    ) -> Result<Vec<Source>, BuildError> {
        let failed = |error| self.source_error(from, &error, word);
        let matcher = |pattern: &[u8], name: &[u8]| Glob::new(pattern).is_ok_and(|glob| glob.matches(name));
        let ignored = |path: &[u8], is_dir: bool| from.verdict(path, is_dir);
        if let Some(required) = &wanted.required {
            let nothing_below = |_: &[u8], _: bool| Verdict::Drop;
            context.select_filtered(required.as_bytes(), &matcher, &ignored, &nothing_below).map_err(failed)?;
        }
        let below = |path: &[u8], is_dir: bool| wanted.below(path, is_dir);
        let mut sources =
            context.select_filtered(wanted.start.as_bytes(), &matcher, &ignored, &below).map_err(failed)?;
        sources.retain(|source| source.is_dir() || !wanted.excludes_file(source.name()));
        Ok(sources)
    }

    fn fingerprint_key(from: &LocalContext) -> String {
        let context = std::path::absolute(&from.path).unwrap_or_else(|_| from.path.clone());
        Digest::of(context.as_os_str().as_encoded_bytes()).hex().to_owned()
    }

    fn fingerprints(&self, from: &LocalContext) -> Result<FingerprintCache, BuildError> {
        let now = self.session.machine.now;
        if !from.lasts() {
            return Ok(FingerprintCache::new(now));
        }
        let known = self
            .session
            .store
            .get(FINGERPRINTS, &Self::fingerprint_key(from))
            .map_err(|error| BuildError::store("read the context's fingerprints", error))?;
        Ok(known.map_or_else(|| FingerprintCache::new(now), |bytes| FingerprintCache::from_bytes(&bytes, now)))
    }

    fn save_fingerprints(&self, from: &LocalContext, cache: &FingerprintCache) -> Result<(), BuildError> {
        if !cache.is_dirty() || !from.lasts() {
            return Ok(());
        }
        self.session
            .store
            .put(FINGERPRINTS, &Self::fingerprint_key(from), &cache.to_bytes())
            .map_err(|error| BuildError::store("write the context's fingerprints", error))
    }

    /// Selection in a stage or an image, with the digests of the files' contents.
    pub(crate) fn select_layers(
        &self,
        step: &Step,
        copy: &Copy,
        done: &Stages,
    ) -> Result<(Digest, Sources), BuildError> {
        let layers = match &copy.from {
            From::Stage(id) => done.get(id.0).map(|stage| stage.layers.clone()).unwrap_or_default(),
            From::Image(source) => self.image_layers(source),
            From::Context | From::Named(_) => Vec::new(),
        };
        let stack = self.stack(&layers)?;
        let mut chosen: Vec<Selected> = Vec::new();
        let mut marks = Vec::new();
        for word in &copy.sources {
            let wanted = self.wanted(step, copy, word)?;
            let failed = |error| self.selection_error(&error, copy, word);
            if let Some(required) = &wanted.required {
                selection::select(&stack, required.as_bytes()).map_err(failed)?;
            }
            let mut found = selection::select(&stack, wanted.start.as_bytes()).map_err(failed)?;
            found.retain(|source| source.is_dir() || !wanted.excludes_file(&source.name));
            if !wanted.wants_all() {
                for source in &mut found {
                    source.keep(|path, is_dir| wanted.below(path, is_dir));
                }
            }
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
        let mut contents = digests.iter();
        for source in &chosen {
            let mut content = blake3::Hasher::new();
            for entry in &source.entries {
                let CopyEntry { relative, header, .. } = &entry.copy;
                content.update(&(relative.len() as u64).to_le_bytes()).update(relative);
                for number in [header.mode, header.uid, header.gid] {
                    content.update(&number.to_le_bytes());
                }
                content.update(&(header.link.len() as u64).to_le_bytes()).update(&header.link);
                // The kind, with the numbers of a device.
                content.update(format!("{:?}\n", header.kind).as_bytes());
                if header.kind == Kind::File {
                    content.update(contents.next().map_or(&[0; 32], |digest| digest));
                }
            }
            part(&mut hash, &source.name, source.is_dir(), content.finalize().as_bytes());
        }
        for mark in marks {
            hash.update(&(mark as u64).to_le_bytes());
        }
        Ok((Digest::of(hash.finalize().as_bytes()), Sources::Layers(layers, chosen, digests)))
    }

    /// The regular files of a selection, in order, by the trees that hold them.
    pub(crate) fn tree_files(&self, layers: &[Layer], chosen: &[Selected]) -> Result<Vec<TreeFile>, BuildError> {
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
}

fn part(hash: &mut blake3::Hasher, name: &[u8], is_dir: bool, digest: &[u8; 32]) {
    // The name of a directory does not matter: its contents are copied.
    let name = if is_dir { b"" } else { name };
    hash.update(&[u8::from(is_dir)]).update(&(name.len() as u64).to_le_bytes()).update(name).update(digest);
}
