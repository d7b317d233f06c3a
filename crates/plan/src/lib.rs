//! A Dockerfile, a request and known images to a plan: a pure function over values that can be printed.

pub mod key;
pub mod plan;
pub mod print;
pub mod request;

use kuz_dockerfile::Span;
use kuz_image::Platform;

pub use key::{CacheKey, cache_key};
pub use plan::{KnownImage, KnownImages, Plan};
pub use request::Request;

/// How far planning came.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// These images must be looked up first (manifest and configuration, no layers).
    Needs(Vec<Need>),
    /// All is known.
    Ready(Plan),
}

/// An image that must be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Canonical, with a tag or digest: the key of [`KnownImages`], together with the platform.
    pub reference: String,
    /// What it must be made for.
    pub platform: Platform,
    /// Where it is named first.
    pub span: Span,
}
