//! An image of the store to a file or directory: an OCI image layout, or one that `docker load` reads too.
//!
//! Blobs are copied as they are; nothing is unpacked. A tar is written in one pass with sorted, time-free entries, so
//! that equal images give equal files. A failed write leaves no file behind.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use kuz_image::reference::Reference;
use kuz_image::tar::{Header, Kind, TarWriter};
use kuz_image::{Descriptor, Digest, Index, Manifest};
use serde_json::json;

use crate::error::BuildError;
use crate::request::Dest;
use crate::session::Session;

/// The forms of a saved image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout.
    Oci,
    /// The same with `manifest.json` and `repositories`' successor, for `docker load`.
    Docker,
}

/// Saves the image of this manifest under these names.
pub fn save(
    session: &Session<'_>,
    manifest: &Descriptor,
    names: &[String],
    format: Format,
    dest: &Dest,
    tar: bool,
) -> Result<(), BuildError> {
    let files = files(session, manifest, names, format)?;
    match dest {
        Dest::Path(path) if !tar => to_directory(session, path, &files),
        Dest::Path(path) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let failed = |error| BuildError::store(format!("write `{}`", path.display()), error);
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let partial = parent.join(format!(".{name}.{}.partial", std::process::id()));
            let written = File::create(&partial)
                .map_err(failed)
                .and_then(|file| to_tar(session, BufWriter::with_capacity(1 << 18, file), &files))
                .and_then(|_| std::fs::rename(&partial, path).map_err(failed));
            if written.is_err() {
                let _ = std::fs::remove_file(&partial);
            }
            written
        }
        Dest::Stdout => to_tar(session, BufWriter::with_capacity(1 << 18, std::io::stdout()), &files).map(|_| ()),
    }
}

/// What a saved image consists of, in order of writing.
enum Content {
    Bytes(Vec<u8>),
    Blob(Digest, u64),
}

fn files(
    session: &Session<'_>,
    manifest: &Descriptor,
    names: &[String],
    format: Format,
) -> Result<Vec<(String, Content)>, BuildError> {
    let document = session.manifest(&manifest.digest)?;
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
    let mut blobs: Vec<(String, Content)> = std::iter::once(manifest)
        .chain(std::iter::once(&document.config))
        .chain(&document.layers)
        .map(|blob| (path(&blob.digest), Content::Blob(blob.digest.clone(), blob.size)))
        .collect();
    blobs.sort_by(|(a, _), (b, _)| a.cmp(b));
    blobs.dedup_by(|(a, _), (b, _)| a == b);
    let encode = |value: &serde_json::Value| Content::Bytes(value.to_string().into_bytes());
    blobs.push(("index.json".into(), index(manifest, names)?));
    if format == Format::Docker {
        blobs.push(("manifest.json".into(), encode(&docker_manifest(&document, names, &path))));
    }
    blobs.push(("oci-layout".into(), encode(&json!({"imageLayoutVersion": "1.0.0"}))));
    Ok(blobs)
}

/// One entry a name; containerd reads the full name from its own annotation.
fn index(manifest: &Descriptor, names: &[String]) -> Result<Content, BuildError> {
    let entry = |name: Option<&String>| {
        let mut entry = manifest.clone();
        entry.annotations.clear();
        if let Some(reference) = name.and_then(|name| name.parse::<Reference>().ok()) {
            let full = reference.clone().with_default_tag().to_string();
            entry.annotations.insert("io.containerd.image.name".into(), full);
            let tag = reference.tag_or_latest().to_owned();
            entry.annotations.insert("org.opencontainers.image.ref.name".into(), tag);
        }
        entry
    };
    let manifests =
        if names.is_empty() { vec![entry(None)] } else { names.iter().map(|name| entry(Some(name))).collect() };
    let index = Index { manifests, ..Index::default() };
    serde_json::to_vec(&index).map(Content::Bytes).map_err(|error| BuildError::store("encode index.json", error))
}

fn docker_manifest(document: &Manifest, names: &[String], path: &dyn Fn(&Digest) -> String) -> serde_json::Value {
    let tags: Vec<String> = names
        .iter()
        .filter_map(|name| name.parse::<Reference>().ok())
        .map(|reference| reference.with_default_tag().familiar())
        .collect();
    let layers: Vec<String> = document.layers.iter().map(|layer| path(&layer.digest)).collect();
    json!([{"Config": path(&document.config.digest), "RepoTags": tags, "Layers": layers}])
}

/// Writes the image as a tar to a stream.
pub(crate) fn write_tar(
    session: &Session<'_>,
    manifest: &Descriptor,
    names: &[String],
    format: Format,
    out: impl Write,
) -> Result<(), BuildError> {
    to_tar(session, out, &files(session, manifest, names, format)?).map(|_| ())
}

fn to_tar<W: Write>(session: &Session<'_>, out: W, files: &[(String, Content)]) -> Result<W, BuildError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| BuildError::Store {
        action: "write the image".into(),
        source: error,
    };
    let mut tar = TarWriter::new(out);
    let header = |path: &str, kind, mode, size| Header {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: 0,
        size,
        link: Vec::new(),
        xattrs: std::collections::BTreeMap::new(),
    };
    for directory in ["blobs", "blobs/sha256"] {
        let entry = header(directory, Kind::Dir, 0o755, 0);
        tar.append(&entry, &mut std::io::empty()).map_err(|error| failed(Box::new(error)))?;
    }
    for (path, content) in files {
        session.cancelled()?;
        let (size, mut reader): (u64, Box<dyn Read>) = match content {
            Content::Bytes(bytes) => (bytes.len() as u64, Box::new(bytes.as_slice())),
            Content::Blob(digest, size) => (*size, Box::new(session.open_blob(digest)?)),
        };
        tar.append(&header(path, Kind::File, 0o644, size), &mut reader).map_err(|error| failed(Box::new(error)))?;
    }
    let mut out = tar.finish().map_err(|error| failed(Box::new(error)))?;
    out.flush().map_err(|error| failed(Box::new(error)))?;
    Ok(out)
}

/// Writes beside the directory and renames, so that it is whole or not there. One that exists must be empty or a layout.
fn to_directory(session: &Session<'_>, directory: &Path, files: &[(String, Content)]) -> Result<(), BuildError> {
    let failed = |error| BuildError::store(format!("write `{}`", directory.display()), error);
    let holds_something = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something && !directory.join("oci-layout").is_file() {
        let message = format!("`{}` is not empty and no image layout: name another directory", directory.display());
        return Err(BuildError::input(message));
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let partial = tempfile::Builder::new().prefix(".kuz-").tempdir_in(parent).map_err(failed)?;
    for (path, content) in files {
        session.cancelled()?;
        let target: PathBuf = partial.path().join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match content {
            Content::Bytes(bytes) => std::fs::write(&target, bytes).map_err(failed)?,
            Content::Blob(digest, _) => {
                let mut file = File::create(&target).map_err(failed)?;
                std::io::copy(&mut session.open_blob(digest)?, &mut file).map_err(failed)?;
            }
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(partial.path(), mode).map_err(failed)?;
    if std::fs::remove_dir(directory).is_ok() || !directory.exists() {
        let whole = partial.keep();
        return std::fs::rename(&whole, directory).map_err(|error| {
            let _ = std::fs::remove_dir_all(&whole);
            failed(error)
        });
    }
    // An older layout: the blobs first, what names them last; nothing else of it is touched.
    for (path, _) in files {
        let target = directory.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::rename(partial.path().join(path), target).map_err(failed)?;
    }
    Ok(())
}
