//! References to manifests and configs: the mirrors are asked in order, then the registry itself.
//!
//! A reference and a platform go in; checked documents with their original bytes come out. Layers aren't touched.

use kuz_image::config::ImageConfig;
use kuz_image::digest::{Digest, Hasher};
use kuz_image::limits;
use kuz_image::manifest::{Descriptor, Document, Index, Manifest, media_type};
use kuz_image::platform::Platform;
use kuz_image::reference::Reference;
use reqwest::Method;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap};

use crate::answer::is_html;
use crate::client::{Ask, Client, Inner, Repository};
use crate::config::Endpoint;
use crate::error::{Action, Attempts, Cause, RegistryError};
use crate::retry::Patience;
use crate::transport::read_small;

/// Indexes may point to indexes, but not for long.
const INDEX_DEPTH: usize = 4;

/// An image, known but not fetched.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What was asked for.
    pub reference: Reference,
    /// The manifest's digest.
    pub manifest_digest: Digest,
    /// What the reference itself named, where that was an index.
    pub index_digest: Option<Digest>,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest as it was sent.
    pub manifest_bytes: Vec<u8>,
    /// The config as it was sent; its digest (`manifest.config.digest`) is the image id.
    pub config_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
    /// The config.
    pub config: ImageConfig,
}

impl Resolved {
    /// What the reference named: the index's digest, else the manifest's. `name@digest` pins it.
    pub fn digest(&self) -> &Digest {
        self.index_digest.as_ref().unwrap_or(&self.manifest_digest)
    }
}

/// A manifest or an index as it was sent.
struct Fetched {
    bytes: Vec<u8>,
    digest: Digest,
    document: Document,
    media_type: String,
}

impl Client {
    /// Finds the image that a reference names for a platform. The manifest by its digest where the reference has one.
    pub async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, RegistryError> {
        let (mut attempts, endpoints) = self.pull_endpoints(Action::Resolve, reference)?;
        for (position, endpoint) in endpoints.iter().enumerate() {
            let others_left = position + 1 < endpoints.len();
            match self.inner.resolve_at(endpoint, reference, platform, others_left).await {
                Ok(resolved) => return Ok(resolved),
                Err(cause) => attempts.add(endpoint, cause),
            }
        }
        Err(attempts.fail())
    }

    /// The digest that a reference names now. Asks with HEAD, which registries that count pulls don't count.
    pub async fn resolve_digest(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        if let Some(digest) = reference.digest() {
            return Ok(digest.clone());
        }
        let (mut attempts, endpoints) = self.pull_endpoints(Action::Resolve, reference)?;
        for (position, endpoint) in endpoints.iter().enumerate() {
            let others_left = position + 1 < endpoints.len();
            match self.inner.digest_at(endpoint, reference, others_left).await {
                Ok(digest) => return Ok(digest),
                Err(cause) => attempts.add(endpoint, cause),
            }
        }
        Err(attempts.fail())
    }

    pub(crate) fn pull_endpoints(
        &self,
        action: Action,
        subject: &Reference,
    ) -> Result<(Attempts, Vec<Endpoint>), RegistryError> {
        let attempts = Attempts::new(action, subject);
        match self.inner.config.pull_endpoints(subject.domain()) {
            Ok(endpoints) => Ok((attempts, endpoints)),
            Err(error) => Err(attempts.fail_early(subject.domain(), Cause::Host(error))),
        }
    }
}

impl Inner {
    async fn resolve_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        platform: &Platform,
        others_left: bool,
    ) -> Result<Resolved, Cause> {
        let repository = Repository::new(endpoint, reference.path(), "pull");
        let tag = reference.tag_or_latest();
        let name = reference.digest().map_or_else(|| tag.to_owned(), Digest::to_string);
        let mut fetched = self.document(&repository, &name, reference.digest(), None, others_left).await?;
        let mut index_digest = None;
        for _ in 0..INDEX_DEPTH {
            let Document::Index(index) = &fetched.document else { break };
            index_digest.get_or_insert_with(|| fetched.digest.clone());
            let chosen = choose(index, platform)?;
            let digest = &chosen.digest;
            fetched = self.document(&repository, &digest.to_string(), Some(digest), Some(chosen), others_left).await?;
        }
        let Document::Manifest(manifest) = fetched.document else {
            return Err(Cause::Protocol { detail: format!("indexes nested deeper than {INDEX_DEPTH}") });
        };
        let config_bytes = self.config_bytes(&repository, &manifest.config, others_left).await?;
        let config = read_config(&manifest, &config_bytes)?;
        Ok(Resolved {
            reference: reference.clone(),
            manifest_digest: fetched.digest,
            index_digest,
            media_type: fetched.media_type,
            manifest_bytes: fetched.bytes,
            config_bytes,
            manifest: *manifest,
            config,
        })
    }

    /// Fetches and checks a manifest or an index.
    async fn document(
        &self,
        repository: &Repository<'_>,
        name: &str,
        expected: Option<&Digest>,
        descriptor: Option<&Descriptor>,
        others_left: bool,
    ) -> Result<Fetched, Cause> {
        let ask = accepting(repository.ask(Method::GET, &format!("manifests/{name}"), &[200]));
        let (headers, bytes) = self.small(&ask, limits::MANIFEST_BYTES, "manifest", others_left).await?;
        if let Some(descriptor) = descriptor
            && descriptor.size != bytes.len() as u64
        {
            let found = bytes.len() as u64;
            return Err(Cause::SizeMismatch { what: "manifest", expected: descriptor.size, found });
        }
        let claimed = claimed_digest(&headers)?;
        let digest = match expected.or(claimed.as_ref()) {
            Some(expected) => {
                check_digest("manifest", &bytes, expected)?;
                expected.clone()
            }
            None => Digest::of(&bytes),
        };
        let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let declared = descriptor.map(|descriptor| descriptor.media_type.as_str()).or(declared);
        let document = Document::parse(&bytes, declared).map_err(Cause::Manifest)?;
        let (said, usual) = match &document {
            Document::Manifest(manifest) => (&manifest.media_type, media_type::MANIFEST),
            Document::Index(index) => (&index.media_type, media_type::INDEX),
        };
        let known = declared.filter(|kind| kind.starts_with("application/vnd."));
        let media_type = said.as_deref().or(known).unwrap_or(usual).to_owned();
        Ok(Fetched { bytes, digest, document, media_type })
    }

    async fn config_bytes(
        &self,
        repository: &Repository<'_>,
        descriptor: &Descriptor,
        others_left: bool,
    ) -> Result<Vec<u8>, Cause> {
        if descriptor.size > limits::CONFIG_BYTES as u64 {
            return Err(Cause::Limit { what: "image config", limit: limits::CONFIG_BYTES });
        }
        let ask = repository.ask(Method::GET, &format!("blobs/{}", descriptor.digest), &[200]);
        let ask = ask.header(ACCEPT_ENCODING, "identity");
        let (_, bytes) = self.small(&ask, limits::CONFIG_BYTES, "image config", others_left).await?;
        if descriptor.size != bytes.len() as u64 {
            let found = bytes.len() as u64;
            return Err(Cause::SizeMismatch { what: "image config", expected: descriptor.size, found });
        }
        check_digest("image config", &bytes, &descriptor.digest)?;
        Ok(bytes)
    }

    /// Asks and reads a bounded body, with the retries around both.
    async fn small(
        &self,
        ask: &Ask<'_>,
        limit: usize,
        what: &'static str,
        others_left: bool,
    ) -> Result<(HeaderMap, Vec<u8>), Cause> {
        let timing = &self.config.timing;
        let mut patience = Patience::new(timing, others_left);
        loop {
            let reply = self.ask(ask, &mut patience).await?;
            if is_html(&reply.response) {
                let detail = format!("a web page instead of a {what} (a sign-in page, or a proxy?)");
                return Err(Cause::Protocol { detail });
            }
            let headers = reply.response.headers().clone();
            match read_small(reply.response, limit, what, timing.stall).await {
                Ok(bytes) => return Ok((headers, bytes)),
                Err(cause) => patience.wait(cause).await?,
            }
        }
    }

    async fn digest_at(&self, endpoint: &Endpoint, reference: &Reference, others_left: bool) -> Result<Digest, Cause> {
        let repository = Repository::new(endpoint, reference.path(), "pull");
        self.head_digest(&repository, reference.tag_or_latest(), others_left).await
    }

    /// A tag's digest by HEAD; by GET where the registry doesn't send it.
    pub(crate) async fn head_digest(
        &self,
        repository: &Repository<'_>,
        tag: &str,
        others_left: bool,
    ) -> Result<Digest, Cause> {
        if let Some(digest) = self.claimed(repository, tag, others_left).await? {
            return Ok(digest);
        }
        Ok(self.document(repository, tag, None, None, others_left).await?.digest)
    }

    /// What the registry says that a tag stands for, if it says so without sending it.
    pub(crate) async fn claimed(
        &self,
        repository: &Repository<'_>,
        tag: &str,
        others_left: bool,
    ) -> Result<Option<Digest>, Cause> {
        let ask = accepting(repository.ask(Method::HEAD, &format!("manifests/{tag}"), &[200]));
        let mut patience = Patience::new(&self.config.timing, others_left);
        let reply = self.ask(&ask, &mut patience).await?;
        claimed_digest(reply.response.headers())
    }
}

fn accepting(ask: Ask<'_>) -> Ask<'_> {
    let kinds =
        [media_type::INDEX, media_type::MANIFEST, media_type::DOCKER_INDEX, media_type::DOCKER_MANIFEST].join(", ");
    ask.header(ACCEPT, &kinds).header(ACCEPT_ENCODING, "identity")
}

/// `Docker-Content-Digest`, which is optional but must not be nonsense.
pub(crate) fn claimed_digest(headers: &HeaderMap) -> Result<Option<Digest>, Cause> {
    let Some(value) = headers.get("docker-content-digest") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| Cause::Protocol { detail: "its `Docker-Content-Digest` is no digest".to_owned() })
}

pub(crate) fn check_digest(what: &'static str, bytes: &[u8], expected: &Digest) -> Result<(), Cause> {
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    if found == *expected { Ok(()) } else { Err(Cause::DigestMismatch { what, expected: expected.clone(), found }) }
}

fn read_config(manifest: &Manifest, bytes: &[u8]) -> Result<ImageConfig, Cause> {
    let kind = &manifest.config.media_type;
    let config: ImageConfig = serde_json::from_slice(bytes).map_err(|error| Cause::Protocol {
        detail: format!("the config of type `{}` is no image configuration: {error}", kind.escape_debug()),
    })?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        let detail = format!("the manifest lists {layers} layers, its config {diff_ids}");
        return Err(Cause::Protocol { detail });
    }
    Ok(config)
}

/// The index's entry for a platform, or for the nearest older variant of its processor.
fn choose<'a>(index: &'a Index, platform: &Platform) -> Result<&'a Descriptor, Cause> {
    let older: &[&str] = match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("arm", Some("v8")) => &["v7", "v6", "v5"],
        ("arm", Some("v7")) => &["v6", "v5"],
        ("arm", Some("v6")) => &["v5"],
        ("amd64", Some("v4")) => &["v3", "v2", "v1"],
        ("amd64", Some("v3")) => &["v2", "v1"],
        ("amd64", Some("v2")) => &["v1"],
        ("arm64", Some(_)) => &["v8"],
        _ => &[],
    };
    let nearest = older.iter().map(|variant| Platform::new(&platform.os, &platform.architecture, Some(variant)));
    if let Some(found) = std::iter::once(platform.clone()).chain(nearest).find_map(|wanted| index.find(&wanted)) {
        return Ok(found);
    }
    let images = || index.manifests.iter().filter(|entry| !entry.annotations.contains_key("vnd.docker.reference.type"));
    let mut unlabelled = images().filter(|entry| entry.platform.is_none());
    if let (Some(only), None, 1) = (unlabelled.next(), unlabelled.next(), images().count()) {
        return Ok(only);
    }
    let mut available: Vec<String> = images()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(Platform::to_string)
        .collect();
    available.sort();
    available.dedup();
    let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
    Err(Cause::Platform { wanted: platform.to_string(), available: crate::error::printable(&available, 500) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let entry = |text: &&str| Descriptor {
            platform: Some(text.parse().unwrap()),
            ..Descriptor::new(media_type::MANIFEST, Digest::of(text.as_bytes()), 1)
        };
        Index { manifests: platforms.iter().map(entry).collect(), ..Index::default() }
    }

    #[test]
    fn platforms_are_chosen() {
        let all = index(&["linux/amd64", "linux/arm/v6", "linux/arm64", "windows/amd64"]);
        for (wanted, found) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v3", Some("linux/amd64")),
            ("linux/arm/v7", Some("linux/arm/v6")),
            ("linux/arm/v5", None),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("linux/s390x", None),
        ] {
            let chosen = choose(&all, &wanted.parse().unwrap()).ok().map(|entry| entry.digest.clone());
            assert_eq!(chosen, found.map(|text| Digest::of(text.as_bytes())), "{wanted}");
        }
        let message = choose(&all, &"linux/s390x".parse().unwrap()).unwrap_err().to_string();
        assert!(message.contains("linux/amd64, linux/arm/v6, linux/arm64, windows/amd64"), "{message}");
    }
}
