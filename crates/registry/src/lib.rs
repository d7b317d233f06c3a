//! Pull, push, authentication, mirrors and retries against OCI registries.
//!
//! [`Client::resolve`] and [`Client::fetch_blob`] pull, [`Client::push`] pushes, [`credentials`] finds, stores and
//! forgets logins, [`daemon`] loads an image into a Docker daemon, [`download`] fetches
//! files from any web address. Everything that depends on the machine (settings,
//! credential files, proxies) comes in as a value. Deliberately stores no blobs and unpacks no layers.
//!
//! ```text
//! resolve, blob, push  what the requests mean
//!   client             one request: endpoint, scheme, authentication, retries
//!     auth, realm      challenges, tokens, who may be sent credentials
//!     transport        one HTTP exchange: trust, proxies, redirects, deadlines
//! ```

mod answer;
mod auth;
pub mod blob;
mod challenge;
mod client;
pub mod config;
pub mod credentials;
pub mod daemon;
pub mod download;
mod error;
mod host;
pub mod push;
mod realm;
pub mod resolve;
mod retry;
mod secret;
mod transport;
mod upload;
mod upload_body;

pub use blob::BlobSink;
pub use client::Client;
pub use config::RegistryConfig;
pub use credentials::{Credential, CredentialPaths};
pub use download::{Download, Validators, Wanted};
pub use error::{Action, Attempt, Cause, Class, RegistryError};
pub use host::{Host, HostError, registry_name};
pub use push::{BlobSource, PushBlob, PushEvent, PushImage, PushProgress};
pub use resolve::Resolved;
pub use secret::Secret;
