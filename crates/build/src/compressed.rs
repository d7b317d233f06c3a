//! The same image with compressed layers, for registries and archives.
//!
//! Layers that we made are plain tars in the store; here each gets a gzip form beside it, once: the store remembers it
//! by diff id. Layers that came compressed stay as they are. The configuration, and so the image's id, is the same.

use std::io::Write as _;

use kuz_image::{Descriptor, DiffId, Manifest, compress, media_type};
use kuz_store::{LayerBlob, LayerRecord};

use crate::error::BuildError;
use crate::session::Session;

/// What gzip, docker and BuildKit use where nothing else is asked for.
const LEVEL: i32 = 6;

/// The manifest of the image with every layer compressed, in the store.
pub(crate) fn manifest(session: &Session<'_>, manifest: &Descriptor) -> Result<Descriptor, BuildError> {
    let document = session.manifest(&manifest.digest)?;
    if document.layers.iter().all(|layer| !is_plain(layer)) {
        return Ok(manifest.clone());
    }
    let layers = document.layers.iter().map(|layer| compress_layer(session, layer)).collect::<Result<Vec<_>, _>>()?;
    let compressed = Manifest { layers, ..document };
    let bytes = serde_json::to_vec(&compressed).map_err(|error| BuildError::store("encode a manifest", error))?;
    let digest = session.put_blob(&bytes)?;
    Ok(Descriptor::new(media_type::MANIFEST, digest, bytes.len() as u64))
}

/// A layer that is not compressed.
pub(crate) fn is_plain(layer: &Descriptor) -> bool {
    matches!(layer.media_type.as_str(), media_type::LAYER | media_type::DOCKER_LAYER)
}

fn compress_layer(session: &Session<'_>, layer: &Descriptor) -> Result<Descriptor, BuildError> {
    if !is_plain(layer) {
        return Ok(layer.clone());
    }
    session.cancelled()?;
    // A plain layer's blob has the digest of its content: the diff id.
    let diff_id = DiffId(layer.digest.clone());
    let record = session.layer(&diff_id)?;
    for blob in record.iter().flat_map(|record| &record.blobs) {
        if blob.media_type == media_type::LAYER_GZIP && session.has_blob(&blob.digest)? {
            return Ok(Descriptor::new(&blob.media_type, blob.digest.clone(), blob.size));
        }
    }
    let failed = |error| BuildError::store("compress a layer", error);
    let mut plain = session.open_blob(&layer.digest)?;
    let mut writer = session.store.blob_writer().map_err(|error| BuildError::store("compress a layer", error))?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    compress::gzip(&mut plain, &mut writer, LEVEL, threads).and_then(|()| writer.flush()).map_err(failed)?;
    let (digest, size) = writer.commit(None).map_err(|error| BuildError::store("compress a layer", error))?;
    let bytes = record.map_or(layer.size, |record| record.bytes);
    let blobs = vec![LayerBlob { digest: digest.clone(), size, media_type: media_type::LAYER_GZIP.to_owned() }];
    session.record_forms(&LayerRecord { diff_id, bytes, blobs })?;
    Ok(Descriptor::new(media_type::LAYER_GZIP, digest, size))
}
