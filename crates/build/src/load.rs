//! Images from a file or directory into the store: OCI image layouts and what `docker save` writes, told apart by what
//! is in them.
//!
//! A tar is read once, forwards; every file goes into the store under its digest, and only then what the documents say
//! is checked: digests, sizes, diff ids. An input that does not hold what it promises leaves no image.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use kuz_image::compress::{self, Compression};
use kuz_image::tar::{Kind, TarReader};
use kuz_image::{Descriptor, Digest, Document, ImageConfig, ImageId, Index, Manifest, limits, media_type};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;

use crate::error::BuildError;
use crate::filter::clean;
use crate::images;
use crate::session::Session;

/// Files in an archive: an image has at most a few hundred, and no tool saves more than some hundred images at once.
const ENTRIES: usize = 100_000;
/// Images in an archive, by the same measure.
const IMAGES: usize = 1000;
/// How often a wait for more bytes looks whether it is to stop.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its name, if it got one.
    pub name: Option<String>,
    /// The configuration's digest.
    pub id: ImageId,
}

/// Files of an input by path: in the store, or (small ones) at hand.
#[derive(Debug, Default)]
struct Files {
    blobs: BTreeMap<String, (Digest, u64)>,
    links: BTreeMap<String, String>,
}

/// One entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Loads every image of `input` (a path, or `-`); `tag` names a single one.
pub fn load(session: &Session<'_>, input: &str, tag: Option<&str>) -> Result<Vec<Loaded>, BuildError> {
    let files = if input == "-" {
        if std::io::stdin().is_terminal() {
            return Err(BuildError::input("standard input is a terminal: name a file with -i, or pipe an archive in"));
        }
        from_tar(session, &mut Awaited::new(session, rustix::stdio::stdin()), "standard input")?
    } else if Path::new(input).is_dir() {
        from_directory(session, Path::new(input))?
    } else {
        // An open of a pipe that nobody writes to yet would wait, and not hear that it is to stop.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(input, flags, Mode::empty()).map_err(|error| BuildError::Input {
            message: format!("`{input}` cannot be read"),
            source: Some(Box::new(std::io::Error::from(error))),
        })?;
        from_tar(session, &mut Awaited::new(session, file.as_fd()), input)?
    };
    let images = if files.blobs.contains_key("manifest.json") {
        docker_images(session, &files, input)?
    } else if files.blobs.contains_key("index.json") {
        oci_images(session, &files, input)?
    } else {
        let message = format!("`{input}` is no saved image: it has neither manifest.json nor index.json");
        return Err(BuildError::input(message));
    };
    if tag.is_some() && images.len() != 1 {
        return Err(BuildError::input(format!(
            "`{input}` holds {} images: -t can name only a single one",
            images.len()
        )));
    }
    let mut loaded = Vec::new();
    for (manifest, id, names) in images {
        let names = tag.map_or(names, |tag| vec![tag.to_owned()]);
        let references = names.iter().map(|name| images::reference(name)).collect::<Result<Vec<_>, _>>()?;
        let failed = |error| images::failed("name the loaded image".into(), error);
        if references.is_empty() {
            session.store.add_untagged(&manifest).map_err(failed)?;
            loaded.push(Loaded { name: None, id });
        } else {
            session.store.set_tags(&references, &manifest).map_err(failed)?;
            let all = references.iter().map(|reference| Loaded { name: Some(reference.familiar()), id: id.clone() });
            loaded.extend(all);
        }
    }
    Ok(loaded)
}

/// A file or pipe that is read as its bytes come, and no longer once the user wants to stop.
struct Awaited<'s> {
    session: &'s Session<'s>,
    file: BorrowedFd<'s>,
}

impl<'s> Awaited<'s> {
    fn new(session: &'s Session<'s>, file: BorrowedFd<'s>) -> Self {
        Self { session, file }
    }
}

/// Waits a moment: whether there is something to read (an end or an error is something).
fn comes(file: BorrowedFd<'_>) -> std::io::Result<bool> {
    let mut wanted = [PollFd::from_borrowed_fd(file, PollFlags::IN)];
    match poll(&mut wanted, Some(&LOOK)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Session<'_> {
    /// Waits until standard input has something, or an end.
    pub fn await_input(&self) -> Result<(), BuildError> {
        loop {
            self.cancelled()?;
            if comes(rustix::stdio::stdin()).map_err(|error| BuildError::store("read standard input", error))? {
                return Ok(());
            }
        }
    }
}

impl Read for Awaited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.session.cancelled().is_err() {
                // Not `Interrupted`, which readers take for "try again".
                return Err(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, BuildError::Cancelled));
            }
            if !comes(self.file)? {
                continue;
            }
            match rustix::io::read(self.file, &mut *buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }
}

fn bad(input: &str, what: impl Into<String>) -> BuildError {
    BuildError::Refused { action: format!("load `{input}`"), source: what.into().into() }
}

fn from_tar(session: &Session<'_>, source: &mut dyn Read, input: &str) -> Result<Files, BuildError> {
    let damaged = |error: Box<dyn std::error::Error + Send + Sync>| match session.cancelled() {
        Err(stopped) => stopped,
        Ok(()) => BuildError::Refused { action: format!("read `{input}`"), source: error },
    };
    let mut head = Vec::new();
    source.take(16).read_to_end(&mut head).map_err(|error| damaged(Box::new(error)))?;
    let compression = compress::detect(&head);
    let whole = head.as_slice().chain(source);
    let reader = compress::reader(compression, whole).map_err(|error| damaged(Box::new(error)))?;
    let mut tar = TarReader::new(reader).end_optional();
    let mut files = Files::default();
    let mut entries = 0;
    while let Some(mut entry) = tar.next().map_err(|error| damaged(Box::new(error)))? {
        session.cancelled()?;
        entries += 1;
        if entries > ENTRIES {
            return Err(bad(input, format!("it has more than {ENTRIES} entries: no saved image has so many")));
        }
        let header = entry.header().clone();
        let path = clean(&String::from_utf8_lossy(&header.path));
        match header.kind {
            Kind::File => {
                files.blobs.insert(path, keep(session, &mut entry)?);
            }
            Kind::Symlink => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                let target = clean(&format!("{parent}/{}", String::from_utf8_lossy(&header.link)));
                files.links.insert(path, target);
            }
            Kind::Hardlink => {
                files.links.insert(path, clean(&String::from_utf8_lossy(&header.link)));
            }
            _ => {}
        }
    }
    Ok(files)
}

/// A directory's files, without following links.
fn from_directory(session: &Session<'_>, directory: &Path) -> Result<Files, BuildError> {
    let root = kuz_rootfs::Root::open(directory).map_err(|error| BuildError::Input {
        message: format!("`{}` cannot be read", directory.display()),
        source: Some(Box::new(error)),
    })?;
    let unreadable = |path: &str, error: Box<dyn std::error::Error + Send + Sync>| BuildError::Input {
        message: format!("`{path}` of `{}` cannot be read", directory.display()),
        source: Some(error),
    };
    let mut files = Files::default();
    let mut paths: Vec<String> = ["oci-layout", "index.json", "manifest.json"].map(str::to_owned).to_vec();
    if let Ok(entries) = std::fs::read_dir(directory.join("blobs/sha256")) {
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        paths.extend(names.take(ENTRIES).map(|name| format!("blobs/sha256/{name}")));
    }
    for path in paths {
        session.cancelled()?;
        let guest = kuz_rootfs::GuestPath::new(path.as_bytes()).map_err(|error| unreadable(&path, Box::new(error)))?;
        let found = root.stat(&guest, false).map_err(|error| unreadable(&path, Box::new(error)))?;
        if found.is_some() {
            let mut file = root.open_regular(&guest, u64::MAX).map_err(|error| unreadable(&path, Box::new(error)))?;
            files.blobs.insert(path, keep(session, &mut file)?);
        }
    }
    Ok(files)
}

/// A file's content into the store.
fn keep(session: &Session<'_>, content: &mut dyn Read) -> Result<(Digest, u64), BuildError> {
    let mut writer = session.store.blob_writer().map_err(|error| BuildError::store("write to the store", error))?;
    std::io::copy(content, &mut writer).map_err(|error| BuildError::store("write to the store", error))?;
    writer.commit(None).map_err(|error| BuildError::store("write to the store", error))
}

impl Files {
    fn find(&self, path: &str) -> Option<&(Digest, u64)> {
        let mut at = clean(path);
        for _ in 0..limits::SYMLINKS {
            match self.links.get(&at) {
                Some(target) => at.clone_from(target),
                None => break,
            }
        }
        self.blobs.get(&at)
    }
}

type Images = Vec<(Descriptor, ImageId, Vec<String>)>;

fn docker_images(session: &Session<'_>, files: &Files, input: &str) -> Result<Images, BuildError> {
    let (digest, _) = files.find("manifest.json").ok_or_else(|| bad(input, "manifest.json is missing"))?;
    let bytes = session.read_blob(digest, limits::MANIFEST_BYTES)?;
    let entries: Vec<DockerEntry> =
        serde_json::from_slice(&bytes).map_err(|error| bad(input, format!("manifest.json: {error}")))?;
    refuse_many(input, entries.len())?;
    let mut images = Vec::new();
    for entry in entries {
        let missing =
            |path: &str| bad(input, format!("`{}` is named in manifest.json and missing", path.escape_debug()));
        let (config, config_size) = files.find(&entry.config).ok_or_else(|| missing(&entry.config))?;
        let parsed = config_of(session, config, input)?;
        if entry.layers.len() > limits::LAYERS {
            let many = entry.layers.len();
            return Err(bad(input, format!("an image has {many} layers, over the limit of {}", limits::LAYERS)));
        }
        if parsed.rootfs.diff_ids.len() != entry.layers.len() {
            return Err(bad(input, "manifest.json and the configuration disagree about the layers"));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in entry.layers.iter().zip(&parsed.rootfs.diff_ids) {
            let (digest, size) = files.find(path).ok_or_else(|| missing(path))?;
            let blob = Descriptor::new(kind_of(session, digest)?, digest.clone(), *size);
            scan(session, &blob, diff_id, input)?;
            layers.push(blob);
        }
        let described = Descriptor::new(media_type::CONFIG, config.clone(), *config_size);
        let manifest = serde_json::to_vec(&Manifest::new(described, layers))
            .map_err(|error| BuildError::store("encode a manifest", error))?;
        let digest = session.put_blob(&manifest)?;
        let manifest = Descriptor::new(media_type::MANIFEST, digest, manifest.len() as u64);
        images.push((manifest, ImageId(config.clone()), entry.repo_tags.unwrap_or_default()));
    }
    Ok(images)
}

fn oci_images(session: &Session<'_>, files: &Files, input: &str) -> Result<Images, BuildError> {
    let (digest, _) = files.find("index.json").ok_or_else(|| bad(input, "index.json is missing"))?;
    let bytes = session.read_blob(digest, limits::MANIFEST_BYTES)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| bad(input, format!("index.json: {error}")))?;
    refuse_many(input, index.manifests.len())?;
    let mut images: Images = Vec::new();
    for entry in index.manifests {
        let digest = manifest_of(session, &entry, input)?;
        let document = session.manifest(&digest)?;
        let config = config_of(session, &document.config.digest, input)?;
        if config.rootfs.diff_ids.len() != document.layers.len() {
            return Err(bad(input, "manifest and configuration disagree about the layers"));
        }
        for (blob, diff_id) in document.layers.iter().zip(&config.rootfs.diff_ids) {
            scan(session, blob, diff_id, input)?;
        }
        let size = session.store.blob_size(&digest).ok().flatten().unwrap_or(entry.size);
        let kind = document.media_type.as_deref().unwrap_or(media_type::MANIFEST);
        let manifest = Descriptor::new(kind, digest, size);
        let name = name_of(&entry);
        match images.iter_mut().find(|(known, ..)| known.digest == manifest.digest) {
            Some((_, _, names)) => names.extend(name),
            None => images.push((manifest, ImageId(document.config.digest), name.into_iter().collect())),
        }
    }
    Ok(images)
}

fn refuse_many(input: &str, images: usize) -> Result<(), BuildError> {
    if images > IMAGES {
        return Err(bad(input, format!("it names {images} images, over the limit of {IMAGES}")));
    }
    Ok(())
}

/// Takes what is in a layout's directory into the store, and gives the manifest that an entry of its index leads to.
/// Its layers are checked where they are used.
pub(crate) fn keep_layout(
    session: &Session<'_>,
    directory: &Path,
    entry: &Descriptor,
    platform: &kuz_image::Platform,
) -> Result<Digest, BuildError> {
    let input = directory.display().to_string();
    from_directory(session, directory)?;
    if !session.has_blob(&entry.digest)? {
        return Err(bad(&input, format!("blob {} is named in index.json and missing", entry.digest)));
    }
    manifest_for(session, entry, platform, &input)
}

/// The manifest that an entry of `index.json` leads to: through one index, the one for this machine.
fn manifest_of(session: &Session<'_>, entry: &Descriptor, input: &str) -> Result<Digest, BuildError> {
    manifest_for(session, entry, &kuz_image::Platform::host(), input)
}

fn manifest_for(
    session: &Session<'_>,
    entry: &Descriptor,
    platform: &kuz_image::Platform,
    input: &str,
) -> Result<Digest, BuildError> {
    let bytes = session.read_blob(&entry.digest, limits::MANIFEST_BYTES)?;
    match Document::parse(&bytes, Some(&entry.media_type)) {
        Ok(Document::Manifest(_)) => Ok(entry.digest.clone()),
        Ok(Document::Index(index)) => index
            .find(platform)
            .map(|found| found.digest.clone())
            .ok_or_else(|| bad(input, format!("it has no image for {platform}"))),
        Err(error) => Err(bad(input, error.to_string())),
    }
}

/// The full name that containerd writes, else the reference name if it is one by itself.
fn name_of(entry: &Descriptor) -> Option<String> {
    let full = entry.annotations.get("io.containerd.image.name");
    let name = full.or_else(|| entry.annotations.get("org.opencontainers.image.ref.name"))?;
    images::reference(name).ok().map(|_| name.clone())
}

fn config_of(session: &Session<'_>, digest: &Digest, input: &str) -> Result<ImageConfig, BuildError> {
    let bytes = session.read_blob(digest, limits::CONFIG_BYTES)?;
    kuz_image::config::parse_config(&bytes).map_err(|error| bad(input, format!("its configuration: {error}")))
}

/// How a layer's blob is compressed, as a media type.
fn kind_of(session: &Session<'_>, digest: &Digest) -> Result<&'static str, BuildError> {
    let mut head = Vec::new();
    let file = session.open_blob(digest)?;
    file.take(16).read_to_end(&mut head).map_err(|error| BuildError::store("read a layer", error))?;
    Ok(match compress::detect(&head) {
        Compression::Gzip => media_type::LAYER_GZIP,
        Compression::Zstd => media_type::LAYER_ZSTD,
        _ => media_type::LAYER,
    })
}

/// Reads a layer through: it must be what the configuration says.
fn scan(session: &Session<'_>, blob: &Descriptor, diff_id: &kuz_image::DiffId, input: &str) -> Result<(), BuildError> {
    session.cancelled()?;
    let refused = |what: String| bad(input, format!("layer {}: {what}", blob.digest.short()));
    let file = session.open_blob(&blob.digest)?;
    let reader =
        compress::reader(crate::layers::compression(blob)?, file).map_err(|error| refused(error.to_string()))?;
    let scanned = kuz_image::scan::scan(reader).map_err(|error| refused(error.to_string()))?;
    if scanned.diff_id != *diff_id {
        return Err(refused(format!("its diff id is {}, the configuration says {diff_id}", scanned.diff_id)));
    }
    session.record_layer(scanned, blob).map(|_| ())
}
