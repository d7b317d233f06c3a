//! Images to and from registries and a Docker daemon.
//!
//! A pull leaves the image complete in the store: manifest, configuration and every layer, verified and indexed. A push
//! sends only what the registry lacks. Credentials are the registry crate's.

use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use kuz_image::reference::Reference;
use kuz_image::{Descriptor, Digest, Platform};
use kuz_registry::credentials::{self, Credential, Stored};
use kuz_registry::daemon::{self, DaemonError};
use kuz_registry::{BlobSource, PushBlob, PushImage, PushProgress, Secret};

use crate::error::BuildError;
use crate::event::Event;
use crate::images;
use crate::layers::{BaseImage, Layer, Layers};
use crate::network::remote;
use crate::session::Session;
use crate::{compressed, save};

/// How long a credential helper may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches an image and names it; gives its id.
pub fn pull(session: &Session<'_>, name: &str, platform: &Platform) -> Result<String, BuildError> {
    let reference: Reference = name
        .parse::<Reference>()
        .map_err(|error| BuildError::input(format!("`{}`: {error}", name.escape_debug())))?
        .with_default_tag();
    let found = session.network()?.resolve(session, &reference, platform)?;
    let manifest = session.put_blob(&found.manifest_bytes)?;
    session.put_blob(&found.config_bytes)?;
    let blobs = found.manifest.layers.clone();
    let layers = Layers::new(session, vec![BaseImage { reference: reference.to_string(), blobs }]);
    let diff_ids = &found.config.rootfs.diff_ids;
    if diff_ids.len() != found.manifest.layers.len() {
        return Err(BuildError::Refused {
            action: format!("pull `{name}`"),
            source: "its manifest and configuration disagree about the layers".into(),
        });
    }
    let all = Layer::of_base(0, diff_ids);
    std::thread::scope(|scope| {
        let jobs: Vec<_> = all.iter().map(|layer| scope.spawn(|| layers.scan(layer))).collect();
        jobs.into_iter().try_for_each(|job| job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let config = &found.manifest.config.digest;
    crate::resolve::remember(session, &reference.to_string(), platform, &manifest, config, diff_ids)?;
    let described = Descriptor::new(&found.media_type, manifest, found.manifest_bytes.len() as u64);
    let failed = |error| images::failed(format!("name image `{name}`"), error);
    if reference.digest().is_none() {
        session.store.set_tag(&reference, &described).map_err(failed)?;
    } else {
        session.store.add_untagged(&described).map_err(failed)?;
    }
    Ok(config.to_string())
}

/// Pushes an image to its own name or another; gives the name with the digest that the registry has now.
pub fn push(session: &Session<'_>, image: &str, to: Option<&str>) -> Result<String, BuildError> {
    let found = images::find(session, image)?;
    let name = match to {
        Some(name) => name.to_owned(),
        None => image
            .parse::<Reference>()
            .ok()
            .map(|reference| reference.with_default_tag().familiar())
            .filter(|name| found.names.contains(name))
            .or_else(|| found.names.first().cloned())
            .ok_or_else(|| {
                BuildError::input(format!("`{image}` has no name to push to: give one as second argument"))
            })?,
    };
    let digest = push_to(session, &found.manifest, &images::reference(&name)?)?;
    Ok(format!("{name}@{digest}"))
}

/// Pushes to all of these names.
pub(crate) fn push_all(session: &Session<'_>, manifest: &Descriptor, names: &[String]) -> Result<(), BuildError> {
    names.iter().try_for_each(|name| push_to(session, manifest, &images::reference(name)?).map(|_| ()))
}

fn push_to(session: &Session<'_>, manifest: &Descriptor, reference: &Reference) -> Result<Digest, BuildError> {
    let image = push_image(session, manifest)?;
    let silent: PushProgress = Arc::new(|_| {});
    let network = session.network()?;
    let action = format!("push to `{}`", reference.familiar());
    let source = StoreBlobs { store: session.store.clone() };
    network.wait(session, network.client.push(reference, &image, &source, &silent), |error| remote(action, error))
}

/// Whether the places of a push have every blob of the image that the store lacks: as their own, or mounted from where
/// the blob came from.
pub(crate) fn have_all(session: &Session<'_>, manifest: &Descriptor, names: &[String]) -> Result<bool, BuildError> {
    let mut image = push_image(session, manifest)?;
    let mut lacking = Vec::new();
    for blob in image.blobs {
        if !session.has_blob(&blob.descriptor.digest)? {
            lacking.push(blob);
        }
    }
    image.blobs = lacking;
    let network = session.network()?;
    for name in names {
        let reference = images::reference(name)?;
        let action = format!("push to `{}`", reference.familiar());
        let placed = network.client.place(&reference, &image.blobs);
        if !network.wait(session, placed, |error| remote(action, error))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a push sends: the manifest with compressed layers, and where its blobs may be mounted from.
fn push_image(session: &Session<'_>, manifest: &Descriptor) -> Result<PushImage, BuildError> {
    let manifest = compressed::manifest(session, manifest)?;
    let document = session.manifest(&manifest.digest)?;
    let bytes = session.read_blob(&manifest.digest, kuz_image::limits::MANIFEST_BYTES)?;
    let mut blobs: Vec<PushBlob> = Vec::new();
    for descriptor in document.layers.iter().chain(std::iter::once(&document.config)) {
        if !blobs.iter().any(|blob| blob.descriptor.digest == descriptor.digest) {
            let mount_from = session.origin_of(&descriptor.digest)?;
            blobs.push(PushBlob { descriptor: descriptor.clone(), mount_from });
        }
    }
    let media_type = manifest.media_type.clone();
    Ok(PushImage { manifest: bytes, media_type, blobs, tags: Vec::new() })
}

/// The store as what a push reads from.
#[derive(Debug)]
struct StoreBlobs {
    store: kuz_store::Store,
}

impl BlobSource for StoreBlobs {
    fn open(&self, digest: &Digest, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{digest} is not in the store"));
        let mut file = self.store.open_blob(digest).map_err(io::Error::other)?.ok_or_else(missing)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// Streams the image into a Docker daemon.
pub(crate) fn load_into_docker(
    session: &Session<'_>,
    manifest: &Descriptor,
    names: &[String],
) -> Result<(), BuildError> {
    let failed = |error| BuildError::store("write an archive for the Docker daemon", error);
    let unusable = |error: DaemonError| BuildError::Environment { message: error.to_string(), source: None };
    let socket = daemon::socket(session.machine.docker_host.as_deref()).map_err(unusable)?;
    let network = session.network()?;
    // The archive goes through a nameless file, so that its length is known before the first byte is sent.
    let mut spool = tempfile::tempfile_in(session.store.path()).map_err(failed)?;
    save::write_tar(session, manifest, names, save::Format::Docker, &mut spool)?;
    let length = spool.stream_position().map_err(failed)?;
    spool.rewind().map_err(failed)?;
    let timing = &session.machine.registries.timing;
    let loaded = network.wait(session, daemon::load(&socket, Box::new(spool), length, timing), unusable)?;
    for text in loaded {
        (session.events)(Event::Note { text });
    }
    Ok(())
}

/// Tries credentials out and keeps them; says where.
pub fn login(session: &Session<'_>, registry: &str, username: &str, password: String) -> Result<String, BuildError> {
    let credential = Credential::Password { username: username.to_owned(), password: Secret::new(password) };
    let network = session.network()?;
    let action = format!("log in to {registry}");
    network.wait(session, network.client.verify_login(registry, &credential), |error| remote(action, error))?;
    let stored = credentials::login(&session.machine.credentials, registry, &credential, HELPER_TIMEOUT);
    let place = network.wait(session, stored, |error| BuildError::store("keep the credentials", error))?;
    Ok(match place {
        Stored::Helper(name) => format!("the credentials are with docker-credential-{name}"),
        Stored::File(path) => format!("the credentials are in {}, readable by you alone", path.display()),
    })
}

/// Forgets credentials; says whether there were any.
pub fn logout(session: &Session<'_>, registry: &str) -> Result<bool, BuildError> {
    let network = session.network()?;
    let forgotten = credentials::logout(&session.machine.credentials, registry, HELPER_TIMEOUT);
    network.wait(session, forgotten, |error| BuildError::store("forget the credentials", error))
}
