//! Archives of an image: what is in them and in which order, and the table of contents of Docker's.
//!
//! An OCI archive is an OCI layout as a tar. A Docker archive is the same with `manifest.json` and `repositories`
//! beside, which point into the layout's blobs: `docker load` and `podman load` of any age read one of the two.
//! Only the list is made here; whoever writes the tar has the blobs.
//!
//! ```text
//! oci-layout  index.json  [manifest.json  repositories]  blobs/  blobs/sha256/  <config>  <manifest>  <layer>…
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::image::Image;
use crate::layout;
use crate::limits;
use crate::manifest::Index;
use crate::reference::Reference;
use crate::scan::normalise;

/// The name of Docker's table of contents.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The name of the older one.
pub const REPOSITORIES_FILE: &str = "repositories";
/// Images in one archive: `docker save` of everything on a machine stays well below.
const IMAGES: usize = 10_000;

/// Which archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `docker load` of any age.
    Docker,
    /// OCI layout alone.
    Oci,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveFile {
    /// Its path in the archive, directories without a slash at the end.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// Where a file's content comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// It is a directory.
    Directory,
    /// From here.
    Bytes(Vec<u8>),
    /// The blob of this layer, as the manifest has it.
    Layer {
        /// Its address.
        digest: Digest,
        /// Its length.
        size: u64,
    },
}

/// An image in Docker's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// The path of its configuration.
    pub config: String,
    /// Its names, `python:3.10`.
    #[serde(default, deserialize_with = "crate::config::null_is_default")]
    pub repo_tags: Vec<String>,
    /// The paths of its layers, lowest first.
    #[serde(default, deserialize_with = "crate::config::null_is_default")]
    pub layers: Vec<String>,
}

/// Docker's `repositories`: name to tag to the digits of the topmost layer.
pub type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A table of contents cannot be written.
    #[error("write {file} of an archive")]
    Write {
        /// Which one.
        file: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `manifest.json` cannot be read.
    #[error("read {MANIFEST_FILE}")]
    Json(#[source] serde_json::Error),
    /// More than the named limit.
    #[error("{MANIFEST_FILE} has {found} {what}, over the limit of {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A path that leads out of the archive, or to nothing.
    #[error("{MANIFEST_FILE} names `{}`, which is no path in an archive", path.escape_debug())]
    Path {
        /// As written.
        path: String,
    },
}

/// The files of an archive with one image under these names, in the order in which they should be written.
pub fn files(image: &Image, names: &[Reference], format: Format) -> Result<Vec<ArchiveFile>, ArchiveError> {
    let file = |path: &str, content| ArchiveFile { path: path.to_owned(), content };
    let mut all = vec![
        file(layout::MARKER_FILE, Content::Bytes(layout::MARKER.to_vec())),
        file(layout::INDEX_FILE, Content::Bytes(json(layout::INDEX_FILE, &index(image, names))?)),
    ];
    if format == Format::Docker {
        all.push(file(MANIFEST_FILE, Content::Bytes(json(MANIFEST_FILE, &[docker_image(image, names)])?)));
        let repositories = repositories(image, names);
        if !repositories.is_empty() {
            all.push(file(REPOSITORIES_FILE, Content::Bytes(json(REPOSITORIES_FILE, &repositories)?)));
        }
    }
    let blobs = [
        (image.manifest.config.digest.clone(), Content::Bytes(image.config_bytes.clone())),
        (image.digest(), Content::Bytes(image.manifest_bytes.clone())),
    ];
    let layers = image.manifest.layers.iter().map(|layer| {
        let digest = layer.digest.clone();
        (digest.clone(), Content::Layer { digest, size: layer.size })
    });
    let blobs: Vec<(Digest, Content)> = blobs.into_iter().chain(layers).collect();
    all.push(file("blobs", Content::Directory));
    let algorithms: BTreeSet<&str> = blobs.iter().map(|(digest, _)| digest.algorithm().name()).collect();
    all.extend(algorithms.iter().map(|name| file(&format!("blobs/{name}"), Content::Directory)));
    // An image may have the same layer twice, an archive may not.
    let mut written = BTreeSet::new();
    for (digest, content) in blobs {
        let path = layout::blob_path(&digest);
        if written.insert(path.clone()) {
            all.push(ArchiveFile { path, content });
        }
    }
    Ok(all)
}

/// Reads Docker's `manifest.json`. Every path in it is checked to stay inside the archive.
pub fn parse_manifest(bytes: &[u8]) -> Result<Vec<DockerImage>, ArchiveError> {
    let too_many = |what, found, limit| Err(ArchiveError::TooMany { what, found, limit });
    if bytes.len() > limits::MANIFEST_BYTES {
        return too_many("bytes", bytes.len(), limits::MANIFEST_BYTES);
    }
    let images: Vec<DockerImage> = serde_json::from_slice(bytes).map_err(ArchiveError::Json)?;
    if images.len() > IMAGES {
        return too_many("images", images.len(), IMAGES);
    }
    for image in &images {
        if image.layers.len() > limits::LAYERS {
            return too_many("layers", image.layers.len(), limits::LAYERS);
        }
        for path in std::iter::once(&image.config).chain(&image.layers) {
            let inside = !path.starts_with('/') && normalise(path.as_bytes()).is_ok_and(|normal| !normal.is_empty());
            if !inside {
                return Err(ArchiveError::Path { path: path.chars().take(300).collect() });
            }
        }
    }
    Ok(images)
}

fn index(image: &Image, names: &[Reference]) -> Index {
    let manifests = match names {
        [] => vec![image.descriptor()],
        names => names.iter().map(|name| layout::named(image.descriptor(), name)).collect(),
    };
    Index { manifests, ..Index::default() }
}

fn docker_image(image: &Image, names: &[Reference]) -> DockerImage {
    DockerImage {
        config: layout::blob_path(&image.manifest.config.digest),
        repo_tags: tagged(names).map(|name| format!("{}:{}", name.familiar_name(), name.tag_or_latest())).collect(),
        layers: image.manifest.layers.iter().map(|layer| layout::blob_path(&layer.digest)).collect(),
    }
}

fn repositories(image: &Image, names: &[Reference]) -> Repositories {
    let mut all = Repositories::new();
    if let Some(top) = image.config.rootfs.diff_ids.last() {
        for name in tagged(names) {
            let tags = all.entry(name.familiar_name()).or_default();
            tags.insert(name.tag_or_latest().to_owned(), top.0.hex().to_owned());
        }
    }
    all
}

/// Docker's tables know no digests: a name with nothing else is left out.
fn tagged(names: &[Reference]) -> impl Iterator<Item = &Reference> {
    names.iter().filter(|name| name.tag().is_some() || name.digest().is_none())
}

fn json(file: &'static str, value: &impl Serialize) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value).map_err(|source| ArchiveError::Write { file, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::sample;
    use crate::manifest::media_type;

    fn content<'a>(files: &'a [ArchiveFile], path: &str) -> &'a [u8] {
        match files.iter().find(|file| file.path == path).map(|file| &file.content) {
            Some(Content::Bytes(bytes)) => bytes,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn archives_hold_all_that_they_point_to_once() {
        let mut image = sample(&[media_type::LAYER, media_type::LAYER_GZIP]).unwrap();
        let twice = image.manifest.layers[0].clone();
        image.manifest.layers.push(twice);
        let names: Vec<Reference> = vec!["python".parse().unwrap(), "r.example:5000/a/b:1".parse().unwrap()];
        let files = files(&image, &names, Format::Docker).unwrap();
        let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths.len(), files.len());
        assert_eq!(files.len(), 10);
        let docker = parse_manifest(content(&files, MANIFEST_FILE)).unwrap();
        assert_eq!(docker[0].repo_tags, ["python:latest", "r.example:5000/a/b:1"]);
        assert_eq!(docker[0].layers.len(), 3);
        assert!(docker[0].layers.iter().chain([&docker[0].config]).all(|path| paths.contains(path.as_str())));
        let repositories: Repositories = serde_json::from_slice(content(&files, REPOSITORIES_FILE)).unwrap();
        assert_eq!(repositories["python"]["latest"], image.config.rootfs.diff_ids[1].0.hex());
        let index = layout::parse_index(content(&files, layout::INDEX_FILE)).unwrap();
        assert_eq!(index.manifests.len(), 2);
        assert_eq!(content(&files, &layout::blob_path(&index.manifests[0].digest)), image.manifest_bytes);
    }

    #[test]
    fn oci_archives_are_layouts_alone() {
        let image = sample(&[]).unwrap();
        let files = files(&image, &[], Format::Oci).unwrap();
        assert!(files.iter().all(|file| file.path != MANIFEST_FILE && file.path != REPOSITORIES_FILE));
        assert_eq!(layout::parse_index(content(&files, layout::INDEX_FILE)).unwrap().manifests, [image.descriptor()]);
    }

    #[test]
    fn tables_of_contents_stay_inside_the_archive() {
        let table = |path: &str| format!(r#"[{{"Config":"a.json","RepoTags":null,"Layers":["{path}"]}}]"#);
        assert_eq!(parse_manifest(table("x/layer.tar").as_bytes()).unwrap()[0].repo_tags, Vec::<String>::new());
        for bad in ["", ".", "/etc/passwd", "../x", "a/../../x", "a\\u0000"] {
            assert!(matches!(parse_manifest(table(bad).as_bytes()), Err(ArchiveError::Path { .. })), "{bad}");
        }
        for bad in ["", "{}", "[{}]", "[] []", "[[[["] {
            assert!(matches!(parse_manifest(bad.as_bytes()), Err(ArchiveError::Json(_))), "{bad}");
        }
        let many = format!(r#"[{{"Config":"a","Layers":[{}"a"]}}]"#, "\"a\",".repeat(limits::LAYERS));
        assert!(matches!(parse_manifest(many.as_bytes()), Err(ArchiveError::TooMany { .. })));
    }
}
