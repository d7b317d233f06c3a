//! `--build-context NAME=oci-layout://DIR`: an image of an OCI layout as if a registry had it.
//!
//! The plan knows it by a name that no registry can have. When it is needed, the layout is loaded into the store, as
//! `kuz image load` does, unless all of it is there.

use std::path::Path;

use kuz_image::{Descriptor, Digest, Document, Index, Platform, limits};
use kuz_plan::KnownImage;
use kuz_rootfs::{GuestPath, Root};

use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::request::ContextSource;
use crate::session::Session;
use crate::{load, resolve};

/// The host of the names: reserved, so that nobody can have it.
const HOST: &str = "oci-layout.invalid";
/// What an entry of a layout's index is called by.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The name that the plan knows a layout by.
pub(crate) fn name(context: &str) -> String {
    format!("{HOST}/{}:latest", Digest::of(context.as_bytes()).short())
}

/// The image that such a name stands for; `None` for any other name.
pub(crate) fn resolve(
    session: &Session<'_>,
    inputs: &Inputs,
    reference: &str,
    platform: &Platform,
) -> Result<Option<KnownImage>, BuildError> {
    if !reference.starts_with(HOST) {
        return Ok(None);
    }
    let found = inputs.named.iter().find(|(context, _)| name(context) == reference);
    let Some(ContextSource::Layout { path, tag, digest }) = found.map(|(_, named)| &named.source) else {
        return Ok(None);
    };
    let shown = format!("oci-layout://{}", path.display());
    let entry = entry(path, tag.as_deref(), digest.as_ref(), &shown)?;
    if let Some(image) = complete(session, &entry.digest)? {
        return Ok(Some(image));
    }
    let manifest = load::keep_layout(session, path, &entry, platform)?;
    let image = complete(session, &manifest)?;
    image.map(Some).ok_or_else(|| refused(&shown, "a layer is missing in it"))
}

fn refused(shown: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BuildError {
    BuildError::Refused { action: format!("read `{shown}`"), source: why.into() }
}

/// The entry of the layout's index that is meant.
fn entry(path: &Path, tag: Option<&str>, digest: Option<&Digest>, shown: &str) -> Result<Descriptor, BuildError> {
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| BuildError::Input {
        message: format!("`{shown}` cannot be read"),
        source: Some(error),
    };
    let root = Root::open(path).map_err(|error| unreadable(Box::new(error)))?;
    let index = GuestPath::new(b"index.json").map_err(|error| unreadable(Box::new(error)))?;
    let bytes = root.read_small(&index, limits::MANIFEST_BYTES as u64).map_err(|error| unreadable(Box::new(error)))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| refused(shown, Box::new(error)))?;
    choose(index.manifests, tag, digest).map_err(|why| refused(shown, why))
}

/// By digest, by tag, or the only one; `latest` where there are several and none is named.
fn choose(entries: Vec<Descriptor>, tag: Option<&str>, digest: Option<&Digest>) -> Result<Descriptor, String> {
    let names: Vec<String> = entries.iter().filter_map(|entry| entry.annotations.get(REF_NAME).cloned()).collect();
    let single = entries.len() == 1 && tag.is_none();
    let is_meant = |entry: &Descriptor| match digest {
        Some(digest) => entry.digest == *digest,
        None => single || entry.annotations.get(REF_NAME).is_some_and(|name| is_tag(name, tag.unwrap_or("latest"))),
    };
    entries.into_iter().find(is_meant).ok_or_else(|| match digest {
        Some(digest) => format!("it has no image {digest} in its index"),
        None => format!("it has no image `{}` (it has: {})", tag.unwrap_or("latest"), names.join(", ")),
    })
}

/// Layouts name their images by a tag alone or by a whole reference.
fn is_tag(name: &str, tag: &str) -> bool {
    name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag)
}

/// Manifest and configuration, if the store has them and every layer.
fn complete(session: &Session<'_>, manifest: &Digest) -> Result<Option<KnownImage>, BuildError> {
    if !session.has_blob(manifest)? {
        return Ok(None);
    }
    let bytes = session.read_blob(manifest, limits::MANIFEST_BYTES)?;
    let Ok(Document::Manifest(document)) = Document::parse(&bytes, None) else { return Ok(None) };
    for layer in &document.layers {
        if !session.has_blob(&layer.digest)? {
            return Ok(None);
        }
    }
    resolve::known(session, manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_is_meant() {
        let entry = |content: &str, name: &str| {
            let mut entry = Descriptor::new(kuz_image::media_type::MANIFEST, Digest::of(content.as_bytes()), 1);
            entry.annotations.insert(REF_NAME.into(), name.into());
            entry
        };
        let (a, b) = (entry("a", "latest"), entry("b", "docker.io/x/y:v1"));
        let both = || vec![a.clone(), b.clone()];
        assert_eq!(choose(both(), None, None), Ok(a.clone()));
        assert_eq!(choose(both(), Some("v1"), None), Ok(b.clone()));
        assert_eq!(choose(both(), Some("v1"), Some(&a.digest)), Ok(a.clone()));
        assert_eq!(choose(vec![b.clone()], None, None), Ok(b.clone()));
        assert!(choose(vec![b.clone()], Some("latest"), None).is_err());
        assert!(choose(both(), None, Some(&Digest::of(b"c"))).is_err());
    }
}
