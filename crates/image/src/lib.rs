//! Container images as values: bytes in, bytes out, no files, no network, no clock.
//!
//! [`digest`] addresses content · [`mod@reference`] and [`platform`] name images · [`manifest`] and [`config`] are the
//! documents, [`image`] both together, [`validate`] whether they agree · [`tar`] and [`compress`] are the formats that
//! layers come in, [`scan`] reads and writes one, [`index`] is what it does to a file system · [`layout`] and
//! [`archive`] are the forms in which images are handed on · [`limits`] bounds what others control.

pub mod archive;
pub mod by_path;
pub mod compress;
pub mod config;
pub mod digest;
pub mod image;
pub mod index;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod scan;
pub mod tar;
pub mod validate;

pub use compress::Compression;
pub use config::{Config, ConfigError, Healthcheck, History, ImageConfig, RootFs, parse_config};
pub use digest::{ChainId, DiffId, Digest, Hasher, ImageId};
pub use image::Image;
pub use index::{IndexEntry, LayerIndex, Node, Stack};
pub use manifest::{Descriptor, Document, Index, Manifest, media_type};
pub use platform::Platform;
pub use reference::Reference;
pub use scan::{LayerWriter, Scanned};
