//! What is remembered of a layer's contents: enough to judge an image without opening its layers again.
//!
//! Facts belong to one layer and never depend on the layers below, so that they can be kept by diff id. All maps go from
//! path (no leading slash, as in [`kuz_image::LayerIndex`]) to what was seen. No file's bytes are kept but those of the
//! small, named kinds in [`LayerFacts::kept`], and no text that a secret rule matched is kept anywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::elf::Elf;

/// A path in a layer: no leading slash.
pub type Path = Vec<u8>;

/// The form of kept facts. Raised with every change to what is collected, or how: older ones are collected anew then.
pub const FORMAT: u32 = 5 + 1000 * crate::secrets::VERSION;

/// What one pass over a layer's tar showed of its files' contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// The first lines of files that begin with `#!`, without those two characters and the line's end.
    #[serde(with = "kuz_image::by_path::bytes")]
    pub shebangs: BTreeMap<Path, Vec<u8>>,
    /// Small files that checks read whole: the loader's configuration, distributions' metadata, `.pth` files.
    #[serde(with = "kuz_image::by_path::bytes")]
    pub kept: BTreeMap<Path, Vec<u8>>,
    /// What secret rules matched, without the text.
    pub secrets: Vec<crate::secrets::Hit>,
    /// What Python source files import and bind.
    #[serde(with = "kuz_image::by_path")]
    pub modules: BTreeMap<Path, crate::python::Module>,
    /// Programs and shared objects.
    #[serde(with = "kuz_image::by_path")]
    pub elf: BTreeMap<Path, Elf>,
    /// Files that the system's packages own: libraries and commands, to the package's name.
    #[serde(with = "kuz_image::by_path")]
    pub owners: BTreeMap<Path, String>,
}

impl LayerFacts {
    /// A compact form for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(&(FORMAT, self)).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`] back; `None` if they were of another [`FORMAT`] or are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = postcard::take_from_bytes::<u32>(bytes).ok()?;
        if format != FORMAT {
            return None;
        }
        postcard::from_bytes(rest).ok()
    }

    /// A path was written again: what was seen there before no longer counts.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        self.shebangs.remove(path);
        self.kept.remove(path);
        self.elf.remove(path);
        self.modules.remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_another_format_are_not_read() {
        let facts = LayerFacts { kept: BTreeMap::from([(b"a".to_vec(), b"b".to_vec())]), ..LayerFacts::default() };
        let mut bytes = facts.to_bytes();
        assert_eq!(LayerFacts::from_bytes(&bytes), Some(facts));
        bytes[0] = 0;
        assert_eq!(LayerFacts::from_bytes(&bytes), None);
        assert_eq!(LayerFacts::from_bytes(&[]), None);
    }
}
