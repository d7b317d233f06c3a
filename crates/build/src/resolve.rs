//! Base images by name: to a manifest and a configuration, both in the store afterwards; no layers.
//!
//! Looks in this order: an image of that name in the store, what the name led to before (unless `--pull`), the registry.
//! The plan is asked again with what was found until it needs no more.

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::Diagnostic;
use kuz_image::reference::Reference;
use kuz_image::{DiffId, Digest, Platform, limits};
use kuz_plan::plan::{Base, ImageSource, Plan, Source};
use kuz_plan::{KnownImage, KnownImages, Need, Planned, Request};
use kuz_registry::{Class, RegistryError};
use kuz_store::Refs;

use crate::error::{BuildError, Findings};
use crate::event::Event;
use crate::inputs::Inputs;
use crate::request::{BuildRequest, ContextSource};
use crate::session::Session;

/// The kind of records that say what a name led to.
const BASE: &str = "base";
/// Rounds of planning: each can only need images that the last one's ONBUILD triggers named.
const ROUNDS: usize = 8;

/// A plan of the inputs, with every image that it needs resolved.
pub(crate) fn plan(session: &Session<'_>, request: &BuildRequest, inputs: &Inputs) -> Result<Plan, BuildError> {
    let mut wanted = wanted(request);
    crate::epoch::settle(session, inputs, &mut wanted)?;
    let mut known = KnownImages::new();
    for _ in 0..ROUNDS {
        match kuz_plan::plan(&inputs.dockerfile, &wanted, &known) {
            Ok(Planned::Ready(plan)) => return Ok(plan),
            Ok(Planned::Needs(needs)) => {
                for need in needs {
                    let image =
                        resolve(session, inputs, request.pull, &need).map_err(|error| placed(error, inputs, &need))?;
                    known.insert((need.reference.clone(), need.platform.clone()), image);
                }
            }
            Err(diagnostics) => {
                let source = inputs.dockerfile.source.clone();
                return Err(BuildError::Findings(Box::new(Findings {
                    file: inputs.file.clone(),
                    source,
                    diagnostics,
                })));
            }
        }
    }
    Err(BuildError::input("the base images' ONBUILD triggers name ever more images"))
}

/// The request, as far as planning goes.
pub(crate) fn wanted(request: &BuildRequest) -> Request {
    let host = Platform::host();
    Request {
        build_args: request.input.build_args.clone().unwrap_or_default(),
        target: request.target.clone(),
        platform: request.platform.clone().unwrap_or_else(|| host.clone()),
        build_platform: host,
        labels: request.labels.clone(),
        network: request.network,
        named_contexts: directories(request),
        named_images: named_images(request),
    }
}

/// The named contexts that are directories.
fn directories(request: &BuildRequest) -> BTreeSet<String> {
    let is_directory =
        |source: &ContextSource| matches!(source, ContextSource::Directory(_) | ContextSource::Remote(_));
    request.contexts.iter().filter(|(_, source)| is_directory(source)).map(|(name, _)| name.clone()).collect()
}

/// The named contexts that are images, by what the plan looks them up as.
fn named_images(request: &BuildRequest) -> BTreeMap<String, String> {
    let image = |(name, source): (&String, &ContextSource)| match source {
        ContextSource::Image(reference) => Some((name.clone(), reference.clone())),
        ContextSource::Layout { .. } => Some((name.clone(), crate::layout_context::name(name))),
        ContextSource::Directory(_) | ContextSource::Remote(_) => None,
    };
    request.contexts.iter().filter_map(image).collect()
}

/// Says which line asked for the image.
fn placed(error: BuildError, inputs: &Inputs, need: &Need) -> BuildError {
    let BuildError::Remote { action, source, .. } = error else { return error };
    let place = Findings {
        file: inputs.file.clone(),
        source: inputs.dockerfile.source.clone(),
        diagnostics: vec![hinted(Diagnostic::error("BaseImage", need.span, action.clone()), &source, need)],
    };
    BuildError::Remote { action, source, place: Some(Box::new(place)) }
}

/// What to do about an image that cannot be had.
fn hinted(found: Diagnostic, error: &RegistryError, need: &Need) -> Diagnostic {
    let login = || "if it is private, log in: kuz login REGISTRY";
    match (&need.near_stage, error.class()) {
        (Some(near), Class::NotFound | Class::Unauthorized | Class::Denied | Class::Unreachable) => {
            found.hint(format!("did you mean the stage {near}?"))
        }
        (None, Class::NotFound) => {
            found.hint(format!("check the name and the tag: the registry has no {}; {}", need.reference, login()))
        }
        (None, Class::Unauthorized | Class::Denied) => found.hint(format!("check the name; {}", login())),
        (None, Class::Unreachable) => found.hint("is the network there? a mirror can be named in kuz.toml"),
        _ => found,
    }
}

/// The image of a name, from the store or the registry.
fn resolve(session: &Session<'_>, inputs: &Inputs, pull: bool, need: &Need) -> Result<KnownImage, BuildError> {
    if let Some(image) = crate::layout_context::resolve(session, inputs, &need.reference, &need.platform)? {
        return Ok(image);
    }
    let bad_name = |error| BuildError::input(format!("`{}`: {error}", need.reference));
    let reference: Reference = need.reference.parse().map_err(bad_name)?;
    let name = reference.familiar();
    if !pull && let Some(known) = local(session, &reference, &need.platform)? {
        let digest = known.manifest.to_string();
        (session.events)(Event::Resolved { image: name, digest, local: true });
        return Ok(known);
    }
    (session.events)(Event::ResolveStarted { image: name.clone() });
    let found = session.network()?.resolve(session, &reference, &need.platform)?;
    let manifest = session.put_blob(&found.manifest_bytes)?;
    session.put_blob(&found.config_bytes)?;
    let layers = &found.config.rootfs.diff_ids;
    remember(session, &need.reference, &need.platform, &manifest, &found.manifest.config.digest, layers)?;
    (session.events)(Event::Resolved { image: name, digest: manifest.to_string(), local: false });
    Ok(KnownImage { manifest, config: found.config })
}

fn key(reference: &str, platform: &Platform) -> String {
    format!("{reference} {platform}")
}

/// Notes what a name led to.
pub(crate) fn remember(
    session: &Session<'_>,
    reference: &str,
    platform: &Platform,
    manifest: &Digest,
    id: &Digest,
    layers: &[DiffId],
) -> Result<(), BuildError> {
    let refs = Refs { blobs: vec![manifest.clone(), id.clone()], layers: layers.to_vec(), ..Refs::default() };
    session
        .store
        .put_with(BASE, &key(reference, platform), manifest.to_string().as_bytes(), &refs)
        .map_err(|error| BuildError::store("record a base image", error))
}

/// What the store knows of a name: an image that was tagged so, or what it led to before.
fn local(session: &Session<'_>, reference: &Reference, platform: &Platform) -> Result<Option<KnownImage>, BuildError> {
    if reference.digest().is_none()
        && let Ok(Some(manifest)) = session.store.tagged(reference)
        && let Some(known) = known(session, &manifest.digest)?
        && platform.accepts(&known.config.platform())
    {
        return Ok(Some(known));
    }
    let record = session
        .store
        .get(BASE, &key(&reference.to_string(), platform))
        .map_err(|error| BuildError::store("read a base image's record", error))?;
    let digest = record.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| text.parse::<Digest>().ok());
    digest.map_or(Ok(None), |digest| known(session, &digest))
}

/// Manifest and configuration, if both are in the store.
pub(crate) fn known(session: &Session<'_>, manifest: &Digest) -> Result<Option<KnownImage>, BuildError> {
    if !session.has_blob(manifest)? {
        return Ok(None);
    }
    let Ok(document) = session.manifest(manifest) else { return Ok(None) };
    if !session.has_blob(&document.config.digest)? {
        return Ok(None);
    }
    let bytes = session.read_blob(&document.config.digest, limits::CONFIG_BYTES)?;
    Ok(serde_json::from_slice(&bytes).ok().map(|config| KnownImage { manifest: manifest.clone(), config }))
}

/// Every image of a plan, once.
pub(crate) fn images(plan: &Plan) -> Vec<ImageSource> {
    let mut images: Vec<ImageSource> = Vec::new();
    let mut add = |image: &ImageSource| {
        if image.reference != "scratch" && !images.contains(image) {
            images.push(image.clone());
        }
    };
    for stage in &plan.stages {
        if let Base::Image(image) = &stage.base {
            add(image);
        }
        for source in stage.steps.iter().flat_map(|step| step.op.sources()) {
            if let Source::Image(image) = source {
                add(image);
            }
        }
    }
    images
}
