//! Everything that touches an untrusted tree of files: unpacking, walking, copying and removing.
//!
//! [`root`] resolves paths inside a directory and nowhere else · [`apply`] turns a layer's tar into a tree · [`pack`]
//! turns a tree into a layer's tar · [`read`] digests and exports single files of a tree · [`flatten`] does without
//! overlayfs · [`remove`] deletes trees · [`context`] selects files of a build context · [`fingerprint`] remembers
//! their digests · [`copy`] writes the layers of COPY, ADD and WORKDIR · [`chmod`] reads `--chmod` · [`accounts`] looks
//! up users and groups.
//!
//! Nothing here opens a path that came from outside by its text: lookups start at a directory's descriptor and cannot
//! leave it. Nothing here starts a process, mounts anything or talks to the network.

pub mod accounts;
pub mod apply;
pub mod chmod;
pub mod context;
pub mod copy;
pub mod fingerprint;
pub mod flatten;
pub mod measure;
pub mod pack;
mod path;
pub mod read;
pub mod remove;
pub mod root;
#[cfg(test)]
mod testing;
mod walk;
pub mod xattrs;

pub use root::{GuestPath, Root};
