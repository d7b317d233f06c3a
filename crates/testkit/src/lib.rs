//! What tests share: a registry out of layout directories.
//!
//! For tests, the demo and `xtask`; no product crate depends on it.

pub mod layout_server;
