//! Python

mod depth;
mod facts;
mod prune;
mod read;
mod requirement;
mod tree;
mod version;

pub use facts::*;
pub use read::module;
