//! Images of the store by name, id or prefix: finding, listing, describing, naming, removing.
//!
//! Reads documents only, never layers.

use kuz_image::reference::Reference;
use kuz_image::{Descriptor, Digest, ImageId, limits};
use kuz_store::ImageError;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::BuildError;
use crate::session::Session;

/// A line of the list of images.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The tag in familiar form, if it has one.
    pub name: Option<String>,
    /// The configuration's digest.
    pub id: ImageId,
    /// The manifest's digest.
    pub manifest: Digest,
    /// Sum of the uncompressed layers, if all are known.
    pub size: Option<u64>,
    /// RFC 3339.
    pub created: Option<String>,
    /// What it is for.
    pub platform: String,
}

/// An image that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The configuration's digest.
    pub id: ImageId,
    /// Its tags, familiar form.
    pub names: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
}

/// What a removal did.
#[derive(Debug, Clone)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// The image, if no name leads to it any more.
    pub deleted: Option<Digest>,
}

/// Turns the store's answer into whose turn it is.
pub(crate) fn failed(action: String, error: ImageError) -> BuildError {
    match error {
        ImageError::NotFound { .. } | ImageError::Ambiguous { .. } => BuildError::input(error.to_string()),
        other => BuildError::store(action, other),
    }
}

/// By tag, id, or beginning of an id.
pub fn find(session: &Session<'_>, name: &str) -> Result<Found, BuildError> {
    let image = session.store.find(name).map_err(|error| failed(format!("find image `{name}`"), error))?;
    Ok(Found { id: image.id, names: image.tags, manifest: image.manifest })
}

/// All images, a line for each name; those without any too.
pub fn list(session: &Session<'_>) -> Result<Vec<Listed>, BuildError> {
    let mut listed = Vec::new();
    for image in session.store.list().map_err(|error| failed("list images".into(), error))? {
        let Some(id) = image.id else { continue };
        // An image whose documents are damaged is listed by `store check`, not here.
        let Ok(documents) = session.store.documents(&image.manifest.digest) else { continue };
        let names: Vec<Option<String>> =
            if image.tags.is_empty() { vec![None] } else { image.tags.into_iter().map(Some).collect() };
        for name in names {
            listed.push(Listed {
                name,
                id: id.clone(),
                manifest: image.manifest.digest.clone(),
                size: size(session, &documents.config)?,
                created: documents.config.created.clone(),
                platform: documents.config.platform().to_string(),
            });
        }
    }
    listed.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
    Ok(listed)
}

fn size(session: &Session<'_>, config: &kuz_image::ImageConfig) -> Result<Option<u64>, BuildError> {
    let mut total = Some(0_u64);
    for diff_id in &config.rootfs.diff_ids {
        let bytes = session.layer(diff_id)?.map(|layer| layer.bytes);
        total = total.zip(bytes).map(|(total, bytes)| total.saturating_add(bytes));
    }
    Ok(total)
}

/// Everything that is known of an image, as JSON.
pub fn inspect(session: &Session<'_>, name: &str) -> Result<Value, BuildError> {
    let found = find(session, name)?;
    let documents = session
        .store
        .documents(&found.manifest.digest)
        .map_err(|error| failed(format!("read image `{name}`"), error))?;
    // The configuration as it is stored, not as this program understands it.
    let whole: Value = serde_json::from_slice(&session.read_blob(&found.id.0, limits::CONFIG_BYTES)?)
        .map_err(|error| BuildError::store(format!("read image `{name}`"), error))?;
    let mut layers = Vec::new();
    for (blob, diff_id) in documents.manifest.layers.iter().zip(&documents.config.rootfs.diff_ids) {
        let bytes = session.layer(diff_id)?.map(|layer| layer.bytes);
        layers.push(json!({"diffId": diff_id, "bytes": bytes, "blob": blob}));
    }
    Ok(json!({
        "id": found.id,
        "names": found.names,
        "manifest": found.manifest.digest,
        "created": documents.config.created,
        "platform": documents.config.platform().to_string(),
        "size": size(session, &documents.config)?,
        "config": whole,
        "layers": layers,
    }))
}

/// Gives an image one more name.
pub fn tag(session: &Session<'_>, image: &str, name: &str) -> Result<(), BuildError> {
    let found = find(session, image)?;
    let reference = reference(name)?;
    session
        .store
        .set_tag(&reference, &found.manifest)
        .map(|_| ())
        .map_err(|error| failed(format!("name image `{image}` `{name}`"), error))
}

/// Takes a name away; by id, all of an image's names.
pub fn remove(session: &Session<'_>, name: &str) -> Result<Removed, BuildError> {
    let id = session.store.find(name).ok().map(|image| image.id);
    let removed = session.store.remove(name).map_err(|error| failed(format!("remove image `{name}`"), error))?;
    // A damaged image has no id: its manifest's digest names it.
    let deleted = removed.image.map(|manifest| id.map_or(manifest, |id| id.0));
    Ok(Removed { untagged: removed.tags, deleted })
}

/// A name for an image: a tag, not a digest.
pub(crate) fn reference(name: &str) -> Result<Reference, BuildError> {
    let reference: Reference =
        name.parse().map_err(|error| BuildError::input(format!("`{}`: {error}", name.escape_debug())))?;
    if reference.digest().is_some() {
        return Err(BuildError::input(format!("`{name}`: a name cannot have a digest (leave out what follows the @)")));
    }
    Ok(reference.with_default_tag())
}
