//! The pipeline: a request to an image, its outputs and a result.
//!
//! ```text
//! request ─► inputs (Dockerfile, context) ─► resolve + plan ─► execute (steps to layers) ─► assemble (image) ─► verdict ─► smoke ─► outputs
//! ```
//! Everything up to execution is values. [`Session`] holds what is started late (network, worker). Never prints, and
//! reads no environment, home directory or clock: they come in as [`request::Machine`].

mod assemble;
mod caches;
pub mod check;
mod compressed;
mod contexts;
pub mod contract;
mod copy_step;
mod copy_words;
mod download;
mod epoch;
pub mod error;
pub mod event;
mod execute;
pub mod explain;
mod facts;
mod filter;
pub mod fix;
mod follow;
mod git;
pub mod images;
pub mod init;
mod inputs;
mod known;
mod layers;
mod layout_context;
pub mod load;
mod mounts;
mod network;
mod output;
mod passed;
mod place;
mod redact;
pub mod remote;
mod remote_context;
pub mod request;
mod resolve;
mod run_step;
pub mod save;
mod schedule;
mod scratch;
mod selection;
mod session;
pub mod size;
pub mod smoke;
mod sources;
pub mod start;
mod supported;
mod time;
pub mod upkeep;
pub mod verdict;

use std::time::Instant;

use kuz_image::{Descriptor, ImageId};

pub use kuz_dockerfile::lint::{Family, RULES, Rule, rule};
pub use kuz_dockerfile::lint::{LabelForm, UnknownForm};
pub use kuz_dockerfile::{Diagnostic, Severity, Span};
pub use kuz_image::Platform;
pub use kuz_image::reference::Reference;
pub use kuz_plan::outline::{Outline, Target};
pub use kuz_plan::plan::Network;
pub use kuz_plan::{Plan, print};
pub use kuz_registry::config::{ProxySettings, RegistryConfig};
pub use kuz_registry::credentials::CredentialPaths;
pub use kuz_sandbox::{Cancel, Hidden, Source, Trigger, Ulimit, main_if_reexec as sandbox_entry};
pub use kuz_store::FaultPlan;
pub use kuz_verify::{Finding, Level, rules::find as verify_rule};
pub use session::{Events, Session};

use error::{BuildError, Findings};
use event::Event;
use execute::Execution;
use request::{BuildRequest, Machine};

/// A finished build.
#[derive(Debug, Clone)]
pub struct Built {
    /// The digest of the image's configuration.
    pub image_id: ImageId,
    /// Its manifest in the store.
    pub manifest: Descriptor,
    /// Bytes of the uncompressed layers.
    pub size: Option<u64>,
    /// The tags in full.
    pub names: Vec<String>,
    /// What to know, on one line.
    pub message: Option<String>,
}

/// Builds what was asked for. Nothing is tagged unless everything before it went well.
pub fn build(
    request: &BuildRequest,
    machine: &Machine,
    cancel: &Cancel,
    events: &Events<'_>,
) -> Result<Built, BuildError> {
    let session = Session::open(machine, cancel, events)?;
    let built = build_in(&session, request);
    session.empty_trash_if_started();
    built
}

fn build_in(session: &Session<'_>, request: &BuildRequest) -> Result<Built, BuildError> {
    session.pass_on(request);
    let inputs = inputs::read(session, request)?;
    let plan = resolve::plan(session, request, &inputs)?;
    warn(session, request, &inputs, &plan)?;
    if let (Some(smoke), Some(target)) = (&request.smoke, plan.stages.last()) {
        smoke::check(smoke, &target.config.config)?;
    }
    let execution = Execution::new(session, request, &inputs, &plan)?;
    let started = Instant::now();
    let done = execution.run();
    let concluded = explain::conclude(&execution, started.elapsed());
    if let Some(explanation) = concluded.explanation {
        (session.events)(Event::Explained(Box::new(explanation)));
    }
    let done = done?;
    let mut image = execution.assemble(&done)?;
    if !concluded.repeated {
        size::keep_origins(&execution, &done, &image.diff_ids);
    }
    session.cancelled()?;
    if !image.absent.is_empty() && request.verify == request::Verify::Error {
        // Whoever wants no image that will not run wants it looked at as a whole.
        image = execution.complete(image)?;
    }
    let mut message = execution.judge(&done, &image)?;
    if let Some(smoke) = &request.smoke {
        let seen = execution.smoke(&done, &image, smoke)?.summary();
        message = Some(message.map_or_else(|| seen.clone(), |judged| format!("{judged}; {seen}")));
    }
    let references = request.tags.iter().map(|tag| images::reference(tag)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = references.iter().map(ToString::to_string).collect();
    let image = output::write(&execution, request, image, &names)?;
    if image.absent.is_empty() {
        name(session, &references, &image)?;
    } else {
        let absent = image.absent.len();
        let only = format!("the image is in the registry only: {absent} of its base's layers were not needed here");
        message = Some(message.map_or_else(|| only.clone(), |judged| format!("{judged}; {only}")));
    }
    Ok(Built { image_id: image.id, manifest: image.manifest, size: image.size, names, message })
}

/// A build's plan, with every base image looked up, and what is said about it; nothing is built.
pub fn plan(
    request: &BuildRequest,
    machine: &Machine,
    cancel: &Cancel,
    events: &Events<'_>,
) -> Result<kuz_plan::Plan, BuildError> {
    let session = Session::open(machine, cancel, events)?;
    session.pass_on(request);
    let inputs = inputs::read(&session, request)?;
    let mut plan = resolve::plan(&session, request, &inputs)?;
    warn(&session, request, &inputs, &plan)?;
    plan.warnings.clear();
    Ok(plan)
}

/// Tells the findings that do not stop the build, in the order of the file; or stops it, where the file asks for that.
fn warn(
    session: &Session<'_>,
    request: &BuildRequest,
    inputs: &inputs::Inputs,
    plan: &kuz_plan::Plan,
) -> Result<(), BuildError> {
    let subject =
        check::Subject { file: &inputs.dockerfile, context: &inputs.context.path, ignore: &inputs.context.ignore };
    let judged = check::warnings(request, &subject, plan, inputs.warnings.clone());
    let in_file = |diagnostics| {
        Box::new(Findings { file: inputs.file.clone(), source: inputs.dockerfile.source.clone(), diagnostics })
    };
    let diagnostics = judged.map_err(|found| BuildError::Findings(in_file(found)))?;
    if !diagnostics.is_empty() {
        (session.events)(Event::Warnings(in_file(diagnostics)));
    }
    Ok(())
}

/// Puts the image under its tags; without any it stays findable by its id.
fn name(session: &Session<'_>, references: &[Reference], image: &assemble::Image) -> Result<(), BuildError> {
    let failed = |error| images::failed("name the image".into(), error);
    if references.is_empty() {
        session.store.add_untagged(&image.manifest).map_err(failed)?;
    } else {
        session.store.set_tags(references, &image.manifest).map_err(failed)?;
    }
    Ok(())
}
