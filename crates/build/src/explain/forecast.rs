//! What the next build would do, without doing it: keys as far as they can be known, and why they differ.
//!
//! Base images are resolved and files of the context are hashed as a build does it. Where a step misses, the rest of its
//! stage misses too, and what it reads is still compared, so that all of its reasons are told. What depends on the
//! result of a stage that must be done first stays open. Runs nothing and records no step.

use std::collections::BTreeMap;

use kuz_image::Digest;
use kuz_plan::key::reads;
use kuz_plan::plan::{Base, Op, Source, StageId, Step};

use super::journal::{carry, label_of, skeleton};
use super::record::{Preimage, SourceNote, files};
use super::{Explanation, Outcome, compare, journal};
use crate::copy_step::{NOTHING_BELOW, is_linked};
use crate::error::BuildError;
use crate::event::StepName;
use crate::execute::{Execution, StageDone, Stand};
use crate::mounts::At;
use crate::request::BuildRequest;
use crate::schedule::Stages;
use crate::session::Session;
use crate::{inputs, resolve};

/// Explains the next build.
pub(crate) fn next(session: &Session<'_>, request: &BuildRequest) -> Result<Explanation, BuildError> {
    let inputs = inputs::read(session, request)?;
    let plan = resolve::plan(session, request, &inputs)?;
    let execution = Execution::new(session, request, &inputs, &plan)?;
    let before = journal::read(session, request)?.map(|kept| kept.now);
    let mut now = skeleton(&execution);
    let mut forecast = Forecast {
        execution: &execution,
        done: Stages::none_of(plan.stages.len()),
        open: BTreeMap::new(),
        fresh: BTreeMap::new(),
        lines: kuz_dockerfile::Lines::of(&inputs.dockerfile.source),
    };
    for at in 0..plan.stages.len() {
        let steps = forecast.stage(at)?;
        for (entry, (outcome, key)) in now.stages.get_mut(at).into_iter().flat_map(|stage| &mut stage.steps).zip(steps)
        {
            entry.outcome = outcome;
            entry.key = key.map(|key| key.hex().to_owned());
        }
    }
    carry(&mut now, before.as_ref());
    Ok(compare::explain(session, &now, before.as_ref(), &forecast.fresh))
}

struct Forecast<'a, 'e> {
    execution: &'a Execution<'e>,
    /// The stages so far, those whose content is known only up to some step too.
    done: Stages,
    /// Those, by place in the plan.
    open: BTreeMap<usize, Below>,
    fresh: BTreeMap<(usize, usize), Preimage>,
    lines: kuz_dockerfile::Lines<'a>,
}

/// What is known of what a step stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    /// All of it.
    Known,
    /// That it is another than before, or the same, depending on what comes of a stage.
    Open,
    /// That it will be made anew.
    New,
}

/// What becomes of a step, and its key as far as it is known.
type Told = (Outcome, Option<Digest>);

impl Forecast<'_, '_> {
    fn stage(&mut self, at: usize) -> Result<Vec<Told>, BuildError> {
        let execution = self.execution;
        let Some(stage) = execution.plan.stages.get(at) else { return Ok(Vec::new()) };
        let mut stand = Stand::bare(stage);
        let mut below = Below::Known;
        match &stage.base {
            Base::Scratch => {}
            Base::Image(source) => {
                stand.layers = execution.image_layers(source);
                stand.chain = Execution::image_chain(source);
            }
            Base::Stage(id) => {
                below = self.open.get(&id.0).copied().unwrap_or(Below::Known);
                if let Some(done) = self.done.get(id.0) {
                    stand.layers.clone_from(&done.layers);
                    stand.chain = done.chain.clone();
                }
            }
        }
        let mut told = Vec::new();
        for (place, step) in stage.steps.iter().enumerate() {
            execution.session.cancelled()?;
            let (outcome, key) = self.step((at, place), &mut stand, step, below)?;
            below = match outcome {
                Outcome::Miss => Below::New,
                Outcome::Open if below == Below::Known => Below::Open,
                _ => below,
            };
            told.push((outcome, key));
        }
        if below != Below::Known {
            self.open.insert(at, below);
        }
        self.done.set(at, StageDone { layers: stand.layers, chain: stand.chain, history: Vec::new() });
        Ok(told)
    }

    fn step(
        &mut self,
        place: (usize, usize),
        stand: &mut Stand<'_>,
        step: &Step,
        below: Below,
    ) -> Result<Told, BuildError> {
        let execution = self.execution;
        let known = below == Below::Known;
        let linked = match &step.op {
            Op::Nothing => return Ok((Outcome::Config, None)),
            Op::MakeDir(directory) if directory.path == "/" => return Ok((Outcome::Config, None)),
            Op::Copy(copy) | Op::Add(copy) => is_linked(copy),
            Op::Run(_) | Op::MakeDir(_) => false,
        };
        let name = self.name(stand, place, step);
        let from = reads(&step.op);
        let is_open = |from: &&&Source| matches!(from, Source::Stage(StageId(at)) if self.open.contains_key(at));
        let waits: Vec<&Source> = from.iter().filter(is_open).copied().collect();
        let (inputs, sources) = if waits.is_empty() {
            self.inputs(At { stand, step, name: &name, done: &self.done })?
        } else {
            // Their fields are compared all the same.
            (None, from.iter().map(|from| execution.source_note(from, None, None)).collect())
        };
        let surroundings = if matches!(step.op, Op::Run(_)) { execution.surroundings_shown() } else { Vec::new() };
        let parent = (known && !linked).then_some(&stand.chain);
        let mut preimage = execution.preimage(parent, &step.op, sources, surroundings);
        if !known && !linked {
            preimage.parent = Some("not known yet".to_owned());
        }
        self.fresh.insert(place, preimage);
        let Some(inputs) = inputs.filter(|_| known || linked) else {
            let open = below == Below::Open || (!waits.is_empty() && (known || linked));
            return Ok((if open { Outcome::Open } else { Outcome::Miss }, None));
        };
        let parent = if linked { Digest::of(NOTHING_BELOW) } else { stand.chain.clone() };
        let key = execution.key_on(&parent, step, &inputs);
        let Some(outcome) = execution.recall(stand, &key)? else { return Ok((Outcome::Miss, Some(key))) };
        let outcome = if linked { outcome.on(&stand.chain) } else { outcome };
        stand.layers.push(outcome.layer);
        stand.chain = outcome.chain;
        Ok((Outcome::Hit, Some(key)))
    }

    /// The digests of what a step reads, and what is known of it for people.
    fn inputs(&self, at: At<'_>) -> Result<(Option<Vec<Digest>>, Vec<SourceNote>), BuildError> {
        let execution = self.execution;
        match &at.step.op {
            Op::Copy(copy) | Op::Add(copy) => {
                let (digest, found) = execution.select(at.step, copy, at.done)?;
                let note = execution.source_note(&copy.from, Some(&digest), found.as_ref().map(files));
                Ok((Some(vec![digest]), vec![note]))
            }
            Op::Run(run) => {
                let mut inputs = execution.mount_inputs(at, run)?;
                let notes = execution.mount_notes(at, &inputs);
                inputs.push(execution.surroundings());
                Ok((Some(inputs), notes))
            }
            Op::MakeDir(_) | Op::Nothing => Ok((Some(Vec::new()), Vec::new())),
        }
    }

    fn name(&mut self, stand: &Stand<'_>, (at, place): (usize, usize), step: &Step) -> StepName {
        StepName {
            stage: label_of(self.execution, StageId(at)),
            step: place + 1,
            steps: stand.stage.steps.len(),
            text: step.text.clone(),
            line: self.lines.line(step.span.start),
        }
    }
}
