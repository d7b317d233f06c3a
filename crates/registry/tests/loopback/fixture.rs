//! Clients, references and bytes that the tests share.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kuz_image::digest::Digest;
use kuz_image::manifest::{Descriptor, Manifest, media_type};
use kuz_image::reference::Reference;
use kuz_registry::config::Timing;
use kuz_registry::push::PushBlob;
use kuz_registry::{BlobSource, Client, CredentialPaths, PushEvent, PushImage, PushProgress, RegistryConfig};
use kuz_testkit::registry::TestRegistry;

/// Short pauses; deadlines that a busy machine still keeps.
pub(crate) fn timing() -> Timing {
    Timing {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        commit: Duration::from_secs(10),
        attempts: 4,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
        longest_retry_after: Duration::from_millis(20),
        budget: Duration::from_secs(5),
        helper: Duration::from_secs(20),
    }
}

/// For faults that never answer.
pub(crate) fn impatient() -> Timing {
    let short = Duration::from_millis(400);
    Timing { answer: short, stall: short, commit: short, attempts: 2, ..timing() }
}

pub(crate) fn config(text: &str) -> RegistryConfig {
    RegistryConfig { timing: timing(), ..toml::from_str(text).unwrap() }
}

/// The section that makes a registry's client speak plain HTTP at once.
pub(crate) fn plain(registry: &TestRegistry) -> String {
    format!("[registry.\"{}\"]\nhttp = true\n", registry.host())
}

pub(crate) fn client(registry: &TestRegistry) -> Client {
    Client::new(config(&plain(registry)), CredentialPaths::default()).unwrap()
}

pub(crate) fn reference(registry: &TestRegistry, name: &str) -> Reference {
    format!("{}/{name}", registry.host()).parse().unwrap()
}

/// A credentials file with `ada:hunter2` for each key.
pub(crate) fn auth_file(folder: &tempfile::TempDir, keys: &[&str]) -> CredentialPaths {
    let entries: Vec<String> = keys.iter().map(|key| format!(r#""{key}":{{"auth":"YWRhOmh1bnRlcjI="}}"#)).collect();
    write_file(folder, &format!(r#"{{"auths":{{{}}}}}"#, entries.join(",")))
}

pub(crate) fn write_file(folder: &tempfile::TempDir, content: &str) -> CredentialPaths {
    let path: PathBuf = folder.path().join("config.json");
    std::fs::write(&path, content).unwrap();
    CredentialPaths { docker_config: Some(path), ..CredentialPaths::default() }
}

/// Bytes that don't repeat within any buffer.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::LAYER, Digest::of(bytes), bytes.len() as u64)
}

/// Blobs in memory, and which of them were opened from where.
#[derive(Default)]
pub(crate) struct Blobs {
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) opened: Mutex<Vec<u64>>,
}

impl BlobSource for Blobs {
    fn open(&self, digest: &Digest, offset: u64) -> std::io::Result<Box<dyn Read + Send>> {
        self.opened.lock().unwrap().push(offset);
        let found = self.blobs.iter().find(|bytes| Digest::of(bytes) == *digest);
        let bytes = found.ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Box::new(std::io::Cursor::new(bytes[usize::try_from(offset).unwrap()..].to_vec())))
    }
}

/// An image of one layer and a config, ready to be pushed.
pub(crate) fn image(layer: &[u8]) -> (PushImage, Blobs) {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(layer)
    );
    let config = config.into_bytes();
    let config_descriptor = Descriptor { media_type: media_type::CONFIG.to_owned(), ..descriptor(&config) };
    let manifest = Manifest::new(config_descriptor.clone(), vec![descriptor(layer)]);
    let blobs =
        [config_descriptor, descriptor(layer)].map(|descriptor| PushBlob { descriptor, mount_from: None }).to_vec();
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let image = PushImage { manifest, media_type: media_type::MANIFEST.to_owned(), blobs, tags: vec![] };
    (image, Blobs { blobs: vec![config, layer.to_vec()], ..Blobs::default() })
}

pub(crate) fn silent() -> PushProgress {
    Arc::new(|_| {})
}

/// A listener, and what it heard.
pub(crate) fn listening() -> (PushProgress, Arc<Mutex<Vec<PushEvent>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    (Arc::new(move |event| ears.lock().unwrap().push(event)), heard)
}

/// An error with its whole chain.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}\n{inner}");
        source = inner.source();
    }
    text
}
