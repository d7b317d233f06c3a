//! A plan to layers: stage by stage, step by step, each step from its record or done anew.
//!
//! The order of the Dockerfile is the order in which steps take effect; [`crate::schedule`] knows which stages may be done
//! side by side. Base layers that only the final image needs are
//! fetched beside the steps. Nothing is fetched, unpacked or started before a step misses; see [`crate::layers`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kuz_image::{ChainId, DiffId, Digest};
use kuz_plan::key::cache_key;
use kuz_plan::plan::{Base, ImageSource, Op, Plan, Stage, Step};
use kuz_store::StepRecord;

use crate::error::BuildError;
use crate::event::{Event, StepEnd, StepName};
use crate::explain::Notes;
use crate::facts::Facts;
use crate::inputs::Inputs;
use crate::layers::{BaseImage, Layer, Layers, Queue};
use crate::mounts::At;
use crate::request::{BuildRequest, OutputSpec, Verify};
use crate::schedule::{self, FirstFailure, Stages};
use crate::session::Session;

/// Layers of the target's base that are fetched at a time.
const TRANSFERS: usize = 3;

/// A stage that is done.
#[derive(Debug, Clone)]
pub(crate) struct StageDone {
    /// Lowest first.
    pub(crate) layers: Vec<Layer>,
    /// Stands for all of its content.
    pub(crate) chain: Digest,
    /// One a step, in order.
    pub(crate) history: Vec<Made>,
}

/// What the history says of a step.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// RFC 3339.
    pub(crate) created: String,
    /// A layer was made.
    pub(crate) layer: bool,
}

/// What every step needs.
#[derive(Debug)]
pub(crate) struct Execution<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) request: &'a BuildRequest,
    pub(crate) inputs: &'a Inputs,
    pub(crate) plan: &'a Plan,
    pub(crate) layers: Layers<'a>,
    /// Facts about the target's layers, if it is to be judged.
    pub(crate) facts: Option<Arc<Facts>>,
    /// What became of each step.
    pub(crate) notes: Notes,
    sources: Vec<ImageSource>,
}

/// A stage on its way.
#[derive(Debug)]
pub(crate) struct Stand<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) layers: Vec<Layer>,
    pub(crate) chain: Digest,
    /// Its layers are the finished image's, which will be judged.
    pub(crate) judged: bool,
    history: Vec<Made>,
    /// The time of the last step that has one: what steps without a layer take.
    last: Option<String>,
}

/// What a step did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) layer: Layer,
    pub(crate) created: String,
    pub(crate) cached: bool,
    /// What stands for all content up to here.
    pub(crate) chain: Digest,
    /// What its record is under.
    pub(crate) key: Digest,
}

impl Outcome {
    /// A step's outcome. The chain names what came of the step, not only what was asked for: a step that is done anew
    /// with another result is another beginning for all steps after it.
    pub(crate) fn new(layer: Layer, key: &Digest, record: StepRecord, cached: bool) -> Self {
        let result = record.tree.or_else(|| record.diff_id.map(|diff_id| diff_id.to_string())).unwrap_or_default();
        let chain = Digest::of(format!("chain 1 {key} {result}").as_bytes());
        Self { layer, created: record.created, cached, chain, key: key.clone() }
    }

    /// The same where the step's key does not stand for what is below.
    pub(crate) fn on(self, chain: &Digest) -> Self {
        Self { chain: Digest::of(format!("{chain} {}", self.chain).as_bytes()), ..self }
    }
}

impl<'a> Stand<'a> {
    /// On nothing.
    pub(crate) fn bare(stage: &'a Stage) -> Self {
        Self {
            stage,
            layers: Vec::new(),
            chain: Digest::of(b"scratch"),
            judged: false,
            history: Vec::new(),
            last: None,
        }
    }
}

impl<'a> Execution<'a> {
    /// Prepares a plan: reads the base images' manifests from the store.
    pub(crate) fn new(
        session: &'a Session<'a>,
        request: &'a BuildRequest,
        inputs: &'a Inputs,
        plan: &'a Plan,
    ) -> Result<Self, BuildError> {
        let sources = crate::resolve::images(plan);
        let bases = sources
            .iter()
            .map(|source| {
                Ok(BaseImage { reference: source.reference.clone(), blobs: session.manifest(&source.manifest)?.layers })
            })
            .collect::<Result<Vec<_>, BuildError>>()?;
        let facts = (request.verify != Verify::Off).then(|| Arc::new(Facts::new(session)));
        let layers = Layers::new(session, bases).with_facts(facts.clone());
        Ok(Self { session, request, inputs, plan, layers, facts, notes: Notes::default(), sources })
    }

    /// Builds every stage; the target's is the last.
    pub(crate) fn run(&self) -> Result<Stages, BuildError> {
        crate::supported::check(self.plan, self.inputs)?;
        let failure = FirstFailure::default();
        let (wanted, later) = self.wanted_beside()?;
        let target = self.target_stages();
        if let Some(lowest) = target.iter().find_map(|at| self.plan.stages.get(*at))
            && let Base::Image(source) = &lowest.base
        {
            self.want_facts(&source.layers);
        }
        let stages = || {
            schedule::all(self.session, &self.plan.stages, self.request.jobs, &failure, &|place, stage, done| {
                self.stage(stage, done, target.contains(&place))
            })
        };
        let done = if wanted.is_empty() {
            stages()
        } else {
            let (fetch, read) = (Queue::new(wanted.iter()), Queue::new(wanted.iter()));
            let note = |outcome: Result<(), BuildError>| {
                if let Err(error) = outcome {
                    failure.note(self.session, error);
                }
            };
            let transfer = || {
                while let Some(layer) = fetch.next() {
                    note(self.layers.fetch_only(layer));
                }
                while let Some(layer) = read.next() {
                    note(self.layers.scan_beside(layer));
                }
            };
            std::thread::scope(|scope| {
                for _ in 0..TRANSFERS.min(wanted.len()) {
                    scope.spawn(transfer);
                }
                stages()
            })
        };
        if let Some(error) = failure.take() {
            return Err(error);
        }
        self.layers.scan_each(&later)?;
        Ok(done)
    }

    /// The layers of the target's base that are not here yet. The first come in beside the steps, and a failure to get one ends
    /// the build at once; the others lie below a RUN, which unpacks them as they come in, and are looked at when the
    /// stages are done. A build that only pushes may never need them.
    fn wanted_beside(&self) -> Result<(Vec<Layer>, Vec<Layer>), BuildError> {
        let (mut beside, mut later) = (Vec::new(), Vec::new());
        let Some(target) = self.plan.stages.last().filter(|_| !self.only_pushes()) else { return Ok((beside, later)) };
        let mut below_runs = None;
        for layer in self.base_layers(&target.base) {
            if self.is_here(&layer)? {
                continue;
            }
            match &layer {
                Layer::Base { diff_id, .. }
                    if below_runs.get_or_insert_with(|| self.below_runs()).contains(diff_id) =>
                {
                    later.push(layer);
                }
                _ => beside.push(layer),
            }
        }
        Ok((beside, later))
    }

    /// The layers of all images on which a stage runs something, itself or in a stage that stands on it.
    fn below_runs(&self) -> BTreeSet<&DiffId> {
        let mut layers = BTreeSet::new();
        let stages = &self.plan.stages;
        for stage in stages.iter().filter(|stage| stage.steps.iter().any(|step| matches!(step.op, Op::Run(_)))) {
            let below = |stage: &&'a Stage| match stage.base {
                Base::Stage(id) => stages.get(id.0),
                Base::Image(_) | Base::Scratch => None,
            };
            // A stage stands on an earlier one: there are no more steps down than stages.
            let lowest = std::iter::successors(Some(stage), below).take(stages.len()).last();
            if let Some(Stage { base: Base::Image(source), .. }) = lowest {
                layers.extend(&source.layers);
            }
        }
        layers
    }

    /// The image goes to a registry and nowhere else, and is not started either.
    pub(crate) fn only_pushes(&self) -> bool {
        self.request.outputs == [OutputSpec::Push] && self.request.smoke.is_none()
    }

    /// A base layer is in the store, and its tar was read through.
    pub(crate) fn is_here(&self, layer: &Layer) -> Result<bool, BuildError> {
        match layer {
            Layer::Base { base, position, diff_id } => {
                Ok(self.session.layer(diff_id)?.is_some() && self.layers.is_fetched(*base, *position)?)
            }
            Layer::Tar(_) | Layer::Tree { .. } => Ok(true),
        }
    }

    fn base_layers(&self, base: &Base) -> Vec<Layer> {
        match base {
            Base::Image(source) => self.image_layers(source),
            Base::Scratch | Base::Stage(_) => Vec::new(),
        }
    }

    /// The layers of an image that the plan uses.
    pub(crate) fn image_layers(&self, source: &ImageSource) -> Vec<Layer> {
        let base = self.sources.iter().position(|known| known == source).unwrap_or_default();
        Layer::of_base(base, &source.layers)
    }

    /// What stands for an image's content in keys.
    pub(crate) fn image_chain(source: &ImageSource) -> Digest {
        ChainId::of(&source.layers).map_or_else(|| Digest::of(b"scratch"), |chain| chain.0)
    }

    /// The target and the stages that it stands on, lowest first.
    pub(crate) fn target_stages(&self) -> BTreeSet<usize> {
        let below = |at: &usize| match self.plan.stages.get(*at)?.base {
            Base::Stage(id) if id.0 < *at => Some(id.0),
            _ => None,
        };
        std::iter::successors(self.plan.stages.len().checked_sub(1), below).collect()
    }

    /// These layers are the finished image's: what is in them will be asked for.
    pub(crate) fn want_facts<'d>(&self, diff_ids: impl IntoIterator<Item = &'d DiffId>) {
        if let Some(facts) = &self.facts {
            facts.want(diff_ids);
        }
    }

    fn stage(&self, stage: &Stage, done: &Stages, judged: bool) -> Result<StageDone, BuildError> {
        let (layers, chain, last) = match &stage.base {
            Base::Scratch => (Vec::new(), Digest::of(b"scratch"), None),
            Base::Image(source) => {
                let created = stage.config.history.last().and_then(|entry| entry.created.clone());
                (self.image_layers(source), Self::image_chain(source), created)
            }
            Base::Stage(id) => {
                let below = done.get(id.0).ok_or_else(|| BuildError::input("a stage stands on a later one"))?;
                (below.layers.clone(), below.chain.clone(), below.history.last().map(|made| made.created.clone()))
            }
        };
        let mut stand = Stand { stage, layers, chain, judged, history: Vec::new(), last };
        let mut lines = kuz_dockerfile::Lines::of(&self.inputs.dockerfile.source);
        for (number, step) in stage.steps.iter().enumerate() {
            self.session.cancelled()?;
            let name = StepName {
                stage: stage.name.clone().unwrap_or_else(|| format!("stage-{}", stage.number)),
                step: number + 1,
                steps: stage.steps.len(),
                text: step.text.clone(),
                line: lines.line(step.span.start),
            };
            self.step(&mut stand, step, &name, done)?;
            if let (true, Some(Layer::Tar(diff_id))) = (judged, stand.layers.last()) {
                self.want_facts([diff_id]);
            }
        }
        Ok(StageDone { layers: stand.layers, chain: stand.chain, history: stand.history })
    }

    fn step(&self, stand: &mut Stand<'_>, step: &Step, name: &StepName, done: &Stages) -> Result<(), BuildError> {
        let started = Instant::now();
        let outcome = match &step.op {
            Op::Nothing => return self.no_layer(stand, step),
            Op::MakeDir(directory) if directory.path == "/" => return self.no_layer(stand, step),
            Op::Run(run) => self.run_step(At { stand, step, name, done }, run),
            Op::Copy(copy) | Op::Add(copy) => self.copy_step(stand, step, copy, name, done),
            Op::MakeDir(directory) => self.make_dir_step(stand, step, directory, name),
        };
        let end = match &outcome {
            Ok(outcome) if outcome.cached => StepEnd::Cached,
            Ok(_) => StepEnd::Done,
            Err(_) => StepEnd::Failed,
        };
        let took = started.elapsed();
        self.notes.ended(stand.stage.number, name.step, outcome.as_ref().ok().map(|outcome| &outcome.key), end, took);
        (self.session.events)(Event::StepEnded { name: name.clone(), end, took });
        let outcome = outcome?;
        stand.layers.push(outcome.layer);
        stand.chain = outcome.chain;
        stand.last = Some(outcome.created.clone());
        stand.history.push(Made { created: outcome.created, layer: true });
        Ok(())
    }

    /// A step that only the configuration knows of takes the time of the step before it: never the clock's, which
    /// would give every rebuild another image. Where there is none before it, the first time is remembered.
    fn no_layer(&self, stand: &mut Stand<'_>, step: &Step) -> Result<(), BuildError> {
        let created = match self.epoch_time().or_else(|| stand.last.clone()) {
            Some(created) => created,
            None => self.session.first_time(&Digest::of(format!("{} {}", stand.chain, step.created_by).as_bytes()))?,
        };
        stand.last = Some(created.clone());
        stand.history.push(Made { created, layer: false });
        Ok(())
    }

    /// The key of a step here, and the stand's new chain if it is taken.
    pub(crate) fn key(&self, stand: &Stand<'_>, step: &Step, inputs: &[Digest]) -> Digest {
        self.key_on(&stand.chain, step, inputs)
    }

    /// The key of a step on something.
    pub(crate) fn key_on(&self, parent: &Digest, step: &Step, inputs: &[Digest]) -> Digest {
        let mut inputs = inputs.to_vec();
        if let Some(epoch) = self.epoch() {
            inputs.push(Digest::of(format!("epoch {epoch}").as_bytes()));
        }
        Digest::of(cache_key(parent, &step.op, &inputs).as_str().as_bytes())
    }

    /// `SOURCE_DATE_EPOCH` as the time of everything that is made, if it is set.
    pub(crate) fn epoch_time(&self) -> Option<String> {
        self.epoch().map(crate::time::rfc3339)
    }

    /// `SOURCE_DATE_EPOCH`: asked for, or a global ARG's default.
    pub(crate) fn epoch(&self) -> Option<i64> {
        self.plan.source_date_epoch
    }

    pub(crate) fn skips_cache(&self, stage: &Stage) -> bool {
        let named = stage.name.as_ref().is_some_and(|name| self.request.no_cache_stages.contains(name));
        self.request.no_cache || named || self.request.no_cache_stages.contains(&stage.number.to_string())
    }

    /// The layer of a step that was done before, if it is still here in some form.
    pub(crate) fn recall(&self, stand: &Stand<'_>, key: &Digest) -> Result<Option<Outcome>, BuildError> {
        let known = self.look_up(stand, key)?;
        if known.is_none() {
            // There is something to do: a request to stop must be heard, and what will be judged is read beside it.
            self.session.cancel.attend();
            if let Some(facts) = &self.facts {
                facts.begin();
            }
        }
        Ok(known)
    }

    fn look_up(&self, stand: &Stand<'_>, key: &Digest) -> Result<Option<Outcome>, BuildError> {
        if self.skips_cache(stand.stage) {
            return Ok(None);
        }
        let Some(record) = self.session.step(key)? else { return Ok(None) };
        let tree = record.tree.as_deref().and_then(|name| name.parse().ok());
        let layer = match (record.diff_id.clone(), tree) {
            (_, Some(name)) if self.session.has_tree(&name)? => Layer::Tree { name, key: key.clone() },
            (Some(diff_id), _) if self.session.find_blob(&diff_id)?.is_some() => Layer::Tar(diff_id),
            _ => return Ok(None),
        };
        Ok(Some(Outcome::new(layer, key, record, true)))
    }
}
