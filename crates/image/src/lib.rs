//! Container images as values: bytes in, bytes out, no files, no network, no clock.
//!
//! [`digest`] addresses content · [`reference`] and [`platform`] name images · [`manifest`] and [`config`] are the
//! documents · [`index`] is what a layer does to a file system · [`limits`] bounds what others control.

pub mod compress;
pub mod config;
pub mod digest;
pub mod index;
pub mod limits;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod scan;
pub mod tar;

pub use config::{Config, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{ChainId, DiffId, Digest, Hasher, ImageId};
pub use index::{IndexEntry, LayerIndex, Node, Stack};
pub use manifest::{Descriptor, Document, Index, Manifest, media_type};
pub use platform::Platform;
pub use reference::Reference;
pub use scan::{LayerWriter, Scanned};
