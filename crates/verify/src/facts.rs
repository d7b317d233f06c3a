//! What is remembered of a layer's contents: enough to judge an image without opening its layers again.
//!
//! Facts belong to one layer and never depend on the layers below, so that they can be kept by diff id. All maps go from
//! path (no leading slash, as in [`kuz_image::LayerIndex`]) to what was seen. No file's bytes are kept but those of the
//! small, named kinds in [`LayerFacts::kept`], and no text that a secret rule matched is kept anywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A path in a layer: no leading slash.
pub type Path = Vec<u8>;

/// What one pass over a layer's tar showed of its files' contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// The first lines of files that begin with `#!`, without those two characters and the line's end.
    pub shebangs: BTreeMap<Path, Vec<u8>>,
    /// Small files that checks read whole: the loader's configuration, distributions' metadata, `.pth` files.
    pub kept: BTreeMap<Path, Vec<u8>>,
    /// What secret rules matched, without the text.
    pub secrets: Vec<crate::secrets::Hit>,
}
