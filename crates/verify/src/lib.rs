//! Questions about a finished image: will it run, does it give away secrets, where do its bytes come from.
//!
//! ```text
//! a layer's tar ─► collect ─► LayerFacts (kept by diff id) ─┐
//! configuration, path indexes ──────────────────────────────┴─► Subject ─► checks ─► findings, by place
//! ```
//! Facts are a layer's own and are gathered in one pass over its tar; everything after that is a pure function over
//! facts, indexes and the configuration. Nothing of an image is executed, loaded or unpacked, and nothing is read from
//! disk or network here.

pub mod access;
mod check;
pub mod collect;
pub mod command;
pub mod dpkg;
pub mod elf;
pub mod facts;
pub mod finding;
pub mod hygiene;
pub mod imprint;
pub mod python;
pub mod rules;
pub mod secrets;
pub mod size;
pub mod subject;
#[cfg(test)]
mod testing;

pub use check::{check, check_asking};
pub use collect::{collect, scan_and_collect};
pub use facts::LayerFacts;
pub use finding::{Advice, Finding, Level};
pub use imprint::Imprint;
pub use subject::{OtherStage, StageFiles, Subject};
