//! `kuz size`: an image of the store to its layers, their passes side by side, and the report.
//!
//! A layer's pass is kept by its diff id, beside its index, and goes with it. What a build knows of the layers that it
//! made (stage, line, where files came from) is kept by the chain of its layers; of images from elsewhere only the
//! history line is known. What the layers' files import comes from their facts, as for a verdict. Accounting itself is
//! `kuz_verify::size`'s.

use std::sync::Arc;

use kuz_image::compress;
use kuz_image::{ChainId, DiffId, Digest, ImageConfig, Stack};
use kuz_plan::plan::{Base, Op, Source, Step};
use kuz_plan::preimage;
use kuz_verify::size::{self, Contents, Origin, Subject};
use rayon::prelude::*;

pub use kuz_verify::size::{
    Change, Comparison, Hidden, LayerReport, Node, Report, Share, Unreached, compare, html, human, signed,
};

use crate::error::BuildError;
use crate::execute::Execution;
use crate::facts::Facts;
use crate::images;
use crate::layers::{BaseImage, Layer, Layers, compression};
use crate::schedule::Stages;
use crate::session::Session;

/// The kind of records with what made an image's layers.
const ORIGINS: &str = "origins";

/// Accounts for an image of the store.
pub fn report(session: &Session<'_>, image: &str) -> Result<Report, BuildError> {
    let found = images::find(session, image)?;
    let documents = session
        .store
        .documents(&found.manifest.digest)
        .map_err(|error| images::failed(format!("read image `{image}`"), error))?;
    let diff_ids = &documents.config.rootfs.diff_ids;
    if diff_ids.len() != documents.manifest.layers.len() {
        let message = "its manifest and configuration disagree about its layers";
        return Err(BuildError::Refused { action: format!("read image `{image}`"), source: message.into() });
    }
    let reference = found.names.first().cloned().unwrap_or_else(|| found.id.to_string());
    let blobs = documents.manifest.layers.clone();
    let (layers, facts) = Layers::of_image(session, BaseImage { reference, blobs }, diff_ids);
    let stack = Layer::of_base(0, diff_ids);
    let passed = passes(session, &layers, &stack)?;
    let origins = origins(session, diff_ids)?;
    let history = documents.config.history.iter().filter(|entry| !entry.empty_layer);
    let mut history: Vec<Option<String>> = history.map(|entry| entry.created_by.clone()).collect();
    // A history of another length says nothing about layers.
    if history.len() != diff_ids.len() {
        history = vec![None; diff_ids.len()];
    }
    let mut accounted = Vec::new();
    for (at, (diff_id, blob)) in diff_ids.iter().zip(&documents.manifest.layers).enumerate() {
        let Some(layer) = stack.get(at) else { continue };
        accounted.push(size::Layer {
            diff_id: diff_id.to_string(),
            tar: session.layer_bytes(diff_id)?,
            blob: blob.size,
            created_by: history.get(at).cloned().flatten(),
            origin: origins.get(at).cloned(),
            index: layers.index(layer)?,
            contents: passed.get(at).cloned().unwrap_or_default(),
        });
    }
    let name = found.names.first().cloned().unwrap_or_else(|| image.to_owned());
    let seen = seen(&facts, &documents.config, &accounted)?;
    let subject = Subject {
        name,
        id: found.id.to_string(),
        config: &documents.config.config,
        layers: accounted,
        facts: seen.as_ref(),
    };
    Ok(size::account(&subject))
}

/// The image with facts about its files; none where there is no Python to ask about, or no facts are to be had.
fn seen<'c>(
    facts: &Facts,
    config: &'c ImageConfig,
    layers: &[size::Layer],
) -> Result<Option<kuz_verify::Subject<'c>>, BuildError> {
    let has_python =
        layers.iter().any(|layer| layer.contents.kept.keys().any(|path| path.ends_with(b".dist-info/RECORD")));
    if !has_python {
        return Ok(None);
    }
    let facts = match facts.get(&config.rootfs.diff_ids) {
        Ok(facts) => facts,
        Err(error @ BuildError::Cancelled) => return Err(error),
        Err(_) => return Ok(None),
    };
    let stack = Stack::new(layers.iter().map(|layer| Arc::clone(&layer.index)).collect());
    Ok(Some(kuz_verify::Subject { config, stack, facts, others: Vec::new(), base_layers: 0 }))
}

/// The passes over all layers, those that are not kept side by side.
fn passes(session: &Session<'_>, layers: &Layers<'_>, stack: &[Layer]) -> Result<Vec<Arc<Contents>>, BuildError> {
    stack.par_iter().map(|layer| passed(session, layers, layer)).collect()
}

fn passed(session: &Session<'_>, layers: &Layers<'_>, layer: &Layer) -> Result<Arc<Contents>, BuildError> {
    let Layer::Base { base, position, diff_id } = layer else { return Ok(Arc::default()) };
    let failed = |error| BuildError::store("read what is known of a layer's contents", error);
    let known = session.store.contents(diff_id).map_err(failed)?;
    if let Some(contents) = known.and_then(|bytes| Contents::from_bytes(&bytes)) {
        return Ok(Arc::new(contents));
    }
    // The layer is verified by its diff id before anything is kept under that.
    layers.scan(layer)?;
    session.cancelled()?;
    let blob = layers.fetch(*base, *position)?;
    let file = session.open_blob(&blob.digest)?;
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| BuildError::Refused {
        action: format!("read layer {}", blob.digest.short()),
        source,
    };
    let reader = compress::reader(compression(&blob)?, file).map_err(|error| refused(Box::new(error)))?;
    let contents = size::pass::pass(reader).map_err(|error| refused(Box::new(error)))?;
    session
        .store
        .record_contents(diff_id, &contents.to_bytes())
        .map_err(|error| BuildError::store("keep what is known of a layer's contents", error))?;
    Ok(Arc::new(contents))
}

fn chain(diff_ids: &[DiffId]) -> Option<Digest> {
    ChainId::of(diff_ids).map(|chain| chain.0)
}

/// What made each of an image's layers, if it was built here.
fn origins(session: &Session<'_>, diff_ids: &[DiffId]) -> Result<Vec<Origin>, BuildError> {
    let Some(chain) = chain(diff_ids) else { return Ok(Vec::new()) };
    let failed = |error| BuildError::store("read what made an image's layers", error);
    let bytes = session.store.get(ORIGINS, chain.hex()).map_err(failed)?;
    let known: Vec<Origin> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    Ok(if known.len() == diff_ids.len() { known } else { Vec::new() })
}

/// Keeps what made each layer of a finished image. An image that cannot be explained is an image nevertheless.
pub(crate) fn keep_origins(execution: &Execution<'_>, done: &Stages, diff_ids: &[DiffId]) {
    let (Some(chain), Some(place)) = (chain(diff_ids), execution.plan.stages.len().checked_sub(1)) else { return };
    let origins = of_stage(execution, done, place);
    if origins.len() == diff_ids.len()
        && let Ok(json) = serde_json::to_vec(&origins)
    {
        let _ = execution.session.store.put(ORIGINS, chain.hex(), &json);
    }
}

/// One for each layer of a stage, lowest first.
fn of_stage(execution: &Execution<'_>, done: &Stages, place: usize) -> Vec<Origin> {
    let Some((stage, finished)) = execution.plan.stages.get(place).zip(done.get(place)) else { return Vec::new() };
    let mut origins = match &stage.base {
        Base::Scratch => Vec::new(),
        Base::Image(image) => {
            let of_base = Origin { stage: image.reference.clone(), base: true, text: None, line: None, from: None };
            vec![of_base; image.layers.len()]
        }
        Base::Stage(id) => of_stage(execution, done, id.0),
    };
    let name = stage.name.clone().unwrap_or_else(|| format!("stage {}", stage.number));
    let mut lines = kuz_dockerfile::Lines::of(&execution.inputs.dockerfile.source);
    for (step, _) in stage.steps.iter().zip(&finished.history).filter(|(_, made)| made.layer) {
        origins.push(Origin {
            stage: name.clone(),
            base: false,
            text: Some(preimage::line(&step.text)),
            line: Some(lines.line(step.span.start)),
            from: copied_from(execution, step),
        });
    }
    origins
}

/// The stage or image that a step copies from.
fn copied_from(execution: &Execution<'_>, step: &Step) -> Option<String> {
    let (Op::Copy(copy) | Op::Add(copy)) = &step.op else { return None };
    match &copy.from {
        Source::Stage(id) => {
            let stage = execution.plan.stages.get(id.0)?;
            Some(stage.name.clone().unwrap_or_else(|| format!("stage {}", stage.number)))
        }
        Source::Image(image) => Some(image.reference.clone()),
        Source::Context | Source::Named(_) => None,
    }
}
