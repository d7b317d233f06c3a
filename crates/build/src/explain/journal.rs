//! The journal of the last build of a Dockerfile and target: keys, outcomes and times of its steps.
//!
//! Steps note what becomes of them while they run. At the end the notes are compared with the journal that is kept, by
//! a digest of all keys: a build that repeats the last one reads that digest and writes nothing. Any other is written
//! together with the one before it, so that the two can be compared later. Nothing is synced: a lost journal costs an
//! explanation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kuz_image::Digest;
use kuz_plan::plan::{Base, Op, Source};
use kuz_plan::preimage;
use serde::{Deserialize, Serialize};

use super::record::stage_label;
use super::{Explanation, Outcome, compare, matching};
use crate::error::BuildError;
use crate::event::StepEnd;
use crate::execute::Execution;
use crate::request::BuildRequest;
use crate::session::Session;

/// The kind of the records.
const JOURNAL: &str = "journal";
/// The form of the records; others are as if they were not there.
const VERSION: u32 = 1;
/// An instruction is cut here: enough to know it again, and heredocs are long.
const TEXT: usize = 2000;

/// What steps note, by stage and step.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<BTreeMap<(usize, usize), Note>>);

#[derive(Debug, Clone, Default)]
struct Note {
    key: Option<Digest>,
    end: Option<StepEnd>,
    took: Duration,
}

impl Notes {
    /// A step is about to be done; if it fails, its key is known nevertheless.
    pub(crate) fn keyed(&self, stage: usize, step: usize, key: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((stage, step)).or_default().key = Some(key.clone());
    }

    /// A step has ended.
    pub(crate) fn ended(&self, stage: usize, step: usize, key: Option<&Digest>, end: StepEnd, took: Duration) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let note = notes.entry((stage, step)).or_default();
        note.key = key.cloned().or_else(|| note.key.take());
        note.end = Some(end);
        note.took = took;
    }
}

/// A build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(super) version: u32,
    pub(crate) file: String,
    pub(crate) target: Option<String>,
    /// RFC 3339; none: it was not built.
    pub(crate) at: Option<String>,
    pub(crate) took_us: u64,
    pub(crate) stages: Vec<StageEntry>,
}

/// A stage of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageEntry {
    pub(crate) number: usize,
    pub(crate) name: Option<String>,
    /// The base image's reference and manifest.
    pub(crate) image: Option<(String, String)>,
    /// The number of the stage that it stands on.
    pub(crate) stage: Option<usize>,
    /// Its cache was not to be used.
    pub(crate) no_cache: bool,
    pub(crate) steps: Vec<StepEntry>,
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepEntry {
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) verb: Verb,
    pub(crate) key: Option<String>,
    pub(crate) outcome: Outcome,
    pub(crate) took_us: u64,
    /// What it took when it was last done.
    pub(crate) cost_us: Option<u64>,
    /// Builds in a row that did it anew.
    pub(crate) in_a_row: u32,
    /// The stages that it reads files from.
    pub(crate) from: Vec<usize>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verb {
    Run,
    Copy,
    Add,
    MakeDir,
    Config,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) now: Journal,
    pub(crate) before: Option<Journal>,
}

impl StageEntry {
    /// For people.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("stage {name}"),
            None => format!("stage {}", self.number),
        }
    }
}

/// The Dockerfile of a request, for people.
pub(crate) fn shown_file(request: &BuildRequest) -> String {
    let context = request.input.build_context.as_deref().unwrap_or(".");
    if request.dockerfile_given || context == "." {
        return request.input.dockerfile_path.clone();
    }
    let remote = crate::remote_context::is_remote(context);
    let context = if remote { crate::remote_context::shown(context) } else { context.to_owned() };
    format!("{}/{}", context.trim_end_matches('/'), request.input.dockerfile_path)
}

/// What tells the builds of one Dockerfile and target from others.
fn place(request: &BuildRequest) -> String {
    let context = request.input.build_context.as_deref().unwrap_or(".");
    let file = request.input.dockerfile_path.as_str();
    let local = context != "-" && !crate::remote_context::is_remote(context);
    let absolute = |path: &Path| {
        let whole = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
        whole.unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
    };
    let context = if local { absolute(Path::new(context)) } else { context.to_owned() };
    let file = match (request.dockerfile_given, local) {
        (true, true) if file != "-" => absolute(Path::new(file)),
        (true, _) => format!("{context}\0{file}"),
        (false, _) => format!("{context}/{file}"),
    };
    let target = request.target.as_deref().unwrap_or_default();
    Digest::of(format!("journal {VERSION} {file}\0{target}").as_bytes()).hex().to_owned()
}

/// The digest that is kept in front, and the rest.
fn parts(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    payload.split_at_checked(blake3::OUT_LEN)
}

/// What is kept of a request's Dockerfile and target.
pub(crate) fn read(session: &Session<'_>, request: &BuildRequest) -> Result<Option<Kept>, BuildError> {
    let failed = |error| BuildError::store("read the journal of a build", error);
    let payload = session.store.get(JOURNAL, &place(request)).map_err(failed)?;
    Ok(payload.as_deref().and_then(parts).and_then(|(_, json)| parse(json)))
}

fn parse(json: &[u8]) -> Option<Kept> {
    let kept: Kept = serde_json::from_slice(json).ok()?;
    (kept.now.version == VERSION).then_some(kept)
}

/// The end of a build's steps.
pub(crate) struct Concluded {
    /// Every step hit, as in the build before.
    pub(crate) repeated: bool,
    /// Where it was asked for.
    pub(crate) explanation: Option<Explanation>,
}

/// The end of a build's steps, also of one that failed: keeps its journal if it is no repetition, and explains it if
/// that was asked for.
pub(crate) fn conclude(execution: &Execution<'_>, took: Duration) -> Concluded {
    // A build that was called off tells nothing about its steps.
    if execution.session.cancel.is_cancelled() {
        return Concluded { repeated: true, explanation: None };
    }
    let notes = execution.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let place = place(execution.request);
    let store = &execution.session.store;
    // Explaining must not fail a build: what cannot be read or kept is as if it were not there.
    let payload = store.get(JOURNAL, &place).ok().flatten();
    let old = payload.as_deref().and_then(parts);
    let sum = sum(execution, &notes);
    let repeated = notes.values().all(|note| note.end == Some(StepEnd::Cached))
        && old.is_some_and(|(known, _)| known == sum.as_bytes());
    if repeated && !execution.request.explain {
        return Concluded { repeated, explanation: None };
    }
    let before = old.and_then(|(_, json)| parse(json)).map(|kept| kept.now);
    let mut now = journal(execution, &notes);
    now.took_us = micros(took);
    carry(&mut now, before.as_ref());
    let explanation =
        execution.request.explain.then(|| compare::explain(execution.session, &now, before.as_ref(), &BTreeMap::new()));
    if !repeated {
        let kept = Kept { now, before };
        if let Ok(json) = serde_json::to_vec(&kept) {
            let _ = store.put(JOURNAL, &place, &[sum.as_bytes(), json.as_slice()].concat());
        }
    }
    Concluded { repeated, explanation }
}

/// Stands for all keys of a build and for what its stages stand on.
fn sum(execution: &Execution<'_>, notes: &BTreeMap<(usize, usize), Note>) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    hash.update(&VERSION.to_le_bytes());
    for stage in &execution.plan.stages {
        if let Base::Image(image) = &stage.base {
            hash.update(image.manifest.hex().as_bytes());
        }
    }
    for ((stage, step), note) in notes {
        hash.update(&(*stage as u64).to_le_bytes()).update(&(*step as u64).to_le_bytes());
        hash.update(note.key.as_ref().map_or("", Digest::hex).as_bytes());
    }
    hash.finalize()
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn journal(execution: &Execution<'_>, notes: &BTreeMap<(usize, usize), Note>) -> Journal {
    let mut journal = skeleton(execution);
    journal.at = Some(execution.session.now());
    for stage in &mut journal.stages {
        let number = stage.number;
        for (place, step) in (1..).zip(&mut stage.steps) {
            let note = notes.get(&(number, place));
            step.key = note.and_then(|note| note.key.as_ref()).map(|key| key.hex().to_owned());
            step.took_us = note.map(|note| micros(note.took)).unwrap_or_default();
            step.outcome = match note.and_then(|note| note.end) {
                Some(StepEnd::Cached) => Outcome::Cached,
                Some(StepEnd::Done) => Outcome::Done,
                Some(StepEnd::Failed) => Outcome::Failed,
                None => step.outcome,
            };
        }
    }
    journal
}

/// A build's stages and steps, with nothing done.
pub(crate) fn skeleton(execution: &Execution<'_>) -> Journal {
    let request = execution.request;
    let mut lines = kuz_dockerfile::Lines::of(&execution.inputs.dockerfile.source);
    let stages = &execution.plan.stages;
    let number = |id: &kuz_plan::plan::StageId| stages.get(id.0).map(|stage| stage.number);
    let entry = |stage: &kuz_plan::plan::Stage| StageEntry {
        number: stage.number,
        name: stage.name.clone(),
        image: match &stage.base {
            Base::Image(image) => Some((image.reference.clone(), image.manifest.to_string())),
            Base::Scratch | Base::Stage(_) => None,
        },
        stage: match &stage.base {
            Base::Stage(id) => number(id),
            Base::Scratch | Base::Image(_) => None,
        },
        no_cache: execution.skips_cache(stage),
        steps: stage
            .steps
            .iter()
            .map(|step| {
                let verb = verb(&step.op);
                let from = kuz_plan::key::reads(&step.op).into_iter().filter_map(|from| match from {
                    Source::Stage(id) => number(id),
                    Source::Context | Source::Image(_) | Source::Named(_) => None,
                });
                StepEntry {
                    text: preimage::line(&step.text.chars().take(TEXT).collect::<String>()),
                    line: lines.line(step.span.start),
                    verb,
                    key: None,
                    outcome: if verb == Verb::Config { Outcome::Config } else { Outcome::NotReached },
                    took_us: 0,
                    cost_us: None,
                    in_a_row: 0,
                    from: from.collect(),
                }
            })
            .collect(),
    };
    Journal {
        version: VERSION,
        file: shown_file(request),
        target: request.target.clone(),
        at: None,
        took_us: 0,
        stages: stages.iter().map(entry).collect(),
    }
}

fn verb(op: &Op) -> Verb {
    match op {
        Op::Run(_) => Verb::Run,
        Op::Copy(_) => Verb::Copy,
        Op::Add(_) => Verb::Add,
        Op::MakeDir(directory) if directory.path != "/" => Verb::MakeDir,
        Op::MakeDir(_) | Op::Nothing => Verb::Config,
    }
}

/// What steps took when they were last done, and how often in a row they were, goes on from build to build.
pub(crate) fn carry(now: &mut Journal, before: Option<&Journal>) {
    let matched = before.map(|before| matching::journals(before, now)).unwrap_or_default();
    for (at, stage) in now.stages.iter_mut().enumerate() {
        for (place, step) in stage.steps.iter_mut().enumerate() {
            let old = before
                .zip(matched.get(&(at, place)))
                .and_then(|(before, &(stage, step))| before.stages.get(stage).and_then(|stage| stage.steps.get(step)));
            let done = matches!(step.outcome, Outcome::Done | Outcome::Failed);
            step.cost_us = if done { Some(step.took_us) } else { old.and_then(|old| old.cost_us) };
            step.in_a_row = if done { old.map_or(0, |old| old.in_a_row).saturating_add(1) } else { 0 };
        }
    }
}

/// How a stage is named where a step reads from it.
pub(crate) fn label_of(execution: &Execution<'_>, id: kuz_plan::plan::StageId) -> String {
    execution.plan.stages.get(id.0).map(stage_label).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::matching::tests::stage;
    use super::*;
    use crate::contract::InputData;

    pub(crate) fn empty() -> Journal {
        Journal {
            version: VERSION,
            file: "Dockerfile".into(),
            target: None,
            at: Some("2026-01-01T00:00:00Z".into()),
            took_us: 1,
            stages: Vec::new(),
        }
    }

    #[test]
    fn times_and_counts_go_on() {
        let mut before = Journal { stages: vec![stage(0, None, &["RUN a", "RUN b"])], ..empty() };
        for step in &mut before.stages[0].steps {
            (step.cost_us, step.in_a_row) = (Some(700), 2);
        }
        let mut now = Journal { stages: vec![stage(0, None, &["RUN a", "RUN b", "RUN c"])], ..empty() };
        for (step, outcome) in now.stages[0].steps.iter_mut().zip([Outcome::Cached, Outcome::Done, Outcome::Failed]) {
            (step.outcome, step.took_us) = (outcome, 5);
        }
        carry(&mut now, Some(&before));
        let seen: Vec<_> = now.stages[0].steps.iter().map(|step| (step.cost_us, step.in_a_row)).collect();
        assert_eq!(seen, [(Some(700), 0), (Some(5), 3), (Some(5), 1)]);
    }

    #[test]
    fn a_build_has_one_place_however_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("Dockerfile"), "").unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let request = |file: Option<&str>, context: &str, target: Option<&str>| {
            let path = |name: &str| format!("{}/{name}", directory.path().display());
            place(&BuildRequest {
                input: InputData {
                    dockerfile_path: file.map_or_else(|| "Dockerfile".into(), path),
                    build_context: Some(path(context)),
                    ..InputData::default()
                },
                dockerfile_given: file.is_some(),
                target: target.map(str::to_owned),
                ..BuildRequest::default()
            })
        };
        let plain = request(None, ".", None);
        assert_eq!(request(Some("Dockerfile"), ".", None), plain);
        assert_eq!(request(Some("sub/../Dockerfile"), "sub", None), plain);
        assert_ne!(request(None, ".", Some("one")), plain);
        assert_ne!(request(Some("Other"), ".", None), plain);
        assert_ne!(request(None, "sub", None), plain);
    }
}
