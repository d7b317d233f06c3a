//! A Dockerfile, a request and known images to a plan: a pure function over values that can be printed.
//!
//! ```text
//!   file ─► stages: cut, FROM lines expanded ─► reach: what the target needs ─┬► images to look up (Needs)
//!                                                                             └► steps: every stage lowered (Ready)
//! ```
//!
//! [`plan()`] is called again with what it asked for until the plan is ready. [`key`] gives steps their cache keys,
//! [`preimage`] says what those are made of, [`print`] shows a plan, [`outline`] what a file offers. No files, network, clock or environment.

mod config;
mod env;
pub mod epoch;
mod expand;
mod files;
mod history;
pub mod key;
mod mounts;
pub mod outline;
mod path;
pub mod plan;
mod ports;
pub mod preimage;
pub mod print;
mod reach;
mod redact;
pub mod request;
mod run;
mod scope;
mod stages;
mod steps;
mod work;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuz_dockerfile::ast::{Dockerfile, Instruction, Kind};
use kuz_dockerfile::{Diagnostic, Severity, Span, suggest};
use kuz_image::Platform;

pub use config::SIGNALS;
pub use epoch::epoch as source_date_epoch;
pub use files::is_git;
pub use key::{CacheKey, cache_key};
pub use plan::{KnownImage, KnownImages, Plan};
pub use request::Request;
pub use scope::CONTROLS;
pub use steps::MAX_PLAN;

use epoch::Epoch;
use plan::StageId;
use reach::Reached;
use scope::Globals;
use stages::{Cut, Found, Stages};
use steps::{Lowered, Shared};

/// How far planning came.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// These images must be looked up first (manifest and configuration, no layers).
    Needs(Vec<Need>),
    /// All is known.
    Ready(Plan),
}

/// An image that must be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Canonical, with a tag or digest: the key of [`KnownImages`], together with the platform.
    pub reference: String,
    /// What it must be made for.
    pub platform: Platform,
    /// Where it is named first.
    pub span: Span,
    /// An earlier stage that is spelled nearly like it: if there is no such image, that was meant perhaps.
    pub near_stage: Option<String>,
}

/// Plans the request's target. `Err` holds every finding, warnings too, at least one of them an error.
///
/// Call it again with `images` filled up while it answers [`Planned::Needs`]: a base image's ONBUILD triggers can
/// name further images.
pub fn plan(file: &Dockerfile, request: &Request, images: &KnownImages) -> Result<Planned, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    match attempt(file, request, images, &mut diagnostics) {
        Err(error) => {
            diagnostics.push(error);
            Err(diagnostics)
        }
        Ok(_) if has_error(&diagnostics) => Err(diagnostics),
        Ok(Planned::Ready(mut plan)) => {
            plan.warnings = diagnostics;
            Ok(Planned::Ready(plan))
        }
        Ok(needs) => Ok(needs),
    }
}

/// Plans; what is returned counts only if `diagnostics` holds no error.
fn attempt(
    file: &Dockerfile,
    request: &Request,
    images: &KnownImages,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Planned, Diagnostic> {
    let escape = file.directives.escape_char();
    let cut = Cut::new(file)?;
    let target = cut.target(request);
    if let Ok(defaults) = Globals::new(&cut.arguments, request, &target, &BTreeMap::new(), escape) {
        stages::check_defaults(&cut, &defaults, escape, diagnostics);
    }
    let globals = Globals::new(&cut.arguments, request, &target, &request.build_args, escape)?;
    let stages = Stages::new(&cut, request, &globals, escape, diagnostics);
    if has_error(diagnostics) {
        return Ok(Planned::Needs(Vec::new()));
    }
    let target = stages.target()?;
    let source_date_epoch = match epoch::of(&cut, &stages, &globals, escape)? {
        Epoch::Seconds(seconds) => Some(seconds),
        // Whoever can look has looked, and found no time; or nobody looks.
        _ => None,
    };
    let reached = reach::reach(&stages, target, images);
    if !reached.errors.is_empty() || !reached.needs.is_empty() {
        diagnostics.extend(reached.errors);
        return Ok(Planned::Needs(reached.needs));
    }
    check_build_args(file, request, &reached, diagnostics);
    let ids = reached.bases.keys().enumerate().map(|(place, number)| (*number, StageId(place))).collect();
    let shared = Shared {
        request,
        globals: &globals,
        stages: &stages,
        images,
        ids,
        escape,
        spent: Cell::default(),
        begun: RefCell::default(),
    };
    let mut plan = Plan { stages: lower(&shared, &reached, diagnostics), source_date_epoch, warnings: Vec::new() };
    if let Some(stage) = plan.stages.last_mut()
        && !request.labels.is_empty()
    {
        let config = &mut Arc::make_mut(&mut stage.config).config;
        config.labels.get_or_insert_default().extend(request.labels.clone());
    }
    Ok(Planned::Ready(plan))
}

/// Every reachable stage; those that stand on others find them finished.
fn lower(shared: &Shared<'_>, reached: &Reached<'_>, diagnostics: &mut Vec<Diagnostic>) -> Vec<plan::Stage> {
    let mut last_above: BTreeMap<usize, usize> = BTreeMap::new();
    for (number, found) in &reached.bases {
        if let Found::Stage(below) = found {
            last_above.insert(*below, *number);
        }
    }
    let mut lowered: BTreeMap<usize, Lowered> = BTreeMap::new();
    for (number, found) in &reached.bases {
        let Some(text) = shared.stages.list.get(*number) else { continue };
        let below = match found {
            Found::Stage(below) => {
                let last = last_above.get(below) == Some(number);
                lowered.get_mut(below).map(|below| (below, last))
            }
            _ => None,
        };
        let triggers = reached.triggers.get(number).map(Vec::as_slice).unwrap_or_default();
        let stage = steps::lower(shared, text, found, triggers, below, diagnostics);
        lowered.insert(*number, stage);
    }
    lowered.into_values().map(|lowered| lowered.stage).collect()
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// Warns of build arguments that no ARG declares, wherever in the file, and no trigger of a base image.
fn check_build_args(file: &Dockerfile, request: &Request, reached: &Reached<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let triggers = reached.triggers.values().flatten().map(|trigger| &*trigger.instruction);
    let declared: BTreeSet<&str> = file.instructions.iter().chain(triggers).flat_map(declarations).collect();
    for (name, value) in &request.build_args {
        if let Some(hint) = scope::never_done(name, value) {
            let message = format!("the build argument {name}={value} cannot be honoured");
            diagnostics.push(Diagnostic::error("UnsupportedBuildArg", Span::default(), message).hint(hint));
        }
        if declared.contains(name.as_str()) || scope::is_predefined(name) {
            continue;
        }
        let message = format!("build argument `{name}` is not used: no ARG declares it");
        let warning = Diagnostic::warning("UnusedBuildArg", Span::default(), message);
        diagnostics.push(match suggest::nearest(name, declared.iter().copied().chain(scope::controls())) {
            Some(near) => warning.hint(format!("did you mean {near}?")),
            None => warning.hint(format!("declare it in the stage that needs it: ARG {name}")),
        });
    }
}

fn declarations(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        Kind::Arg(items) => items.iter().map(|item| item.name.value.as_str()).collect(),
        Kind::OnBuild(on_build) => declarations(&on_build.instruction),
        _ => Vec::new(),
    }
}
