//! Which stages the target needs, which images those need, and the ONBUILD triggers that join in.
//!
//! Stages and known images go in; the reachable stages, or the images that must be looked up first, come out. A stage
//! or image that the target does not need is never asked for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::ast::{Instruction, Kind};
use kuz_dockerfile::{Diagnostic, Severity, Span};
use kuz_image::Platform;

use crate::Need;
use crate::expand;
use crate::plan::{KnownImage, KnownImages};
use crate::stages::{Found, StageText, Stages};
use crate::steps::MAX_FINDINGS;
use crate::work;

/// For so many images that are not known yet it is asked which stage may have been meant.
const MAX_HELPED: usize = 100;

/// An instruction that a base image or stage left for its children.
#[derive(Debug)]
pub(crate) struct Trigger<'a> {
    /// What is done.
    pub(crate) instruction: Cow<'a, Instruction>,
    /// The FROM line, where the trigger has no place in this file.
    pub(crate) at: Option<Span>,
}

/// What the target needs.
#[derive(Debug, Default)]
pub(crate) struct Reached<'a> {
    /// Numbers of stages, each with what it stands on.
    pub(crate) bases: BTreeMap<usize, Found>,
    /// Numbers of stages, each with what runs before its own instructions.
    pub(crate) triggers: BTreeMap<usize, Vec<Trigger<'a>>>,
    /// Images that are not known yet.
    pub(crate) needs: Vec<Need>,
    /// What is wrong.
    pub(crate) errors: Vec<Diagnostic>,
}

/// Follows FROM, `--from` and ONBUILD from the target. Stages only ever use earlier ones, so one pass from the last
/// to the first finds everything.
pub(crate) fn reach<'a>(stages: &Stages<'a>, target: usize, images: &KnownImages) -> Reached<'a> {
    let wanted = BTreeSet::from([target]);
    let mut walk = Walk { stages, images, wanted, noted: BTreeSet::new(), reached: Reached::default() };
    while let Some(number) = walk.wanted.pop_last() {
        if let Some(stage) = stages.list.get(number) {
            walk.visit(stage);
        }
    }
    walk.reached.needs.sort_by_key(|need| need.span);
    walk.reached
}

struct Walk<'w, 'a> {
    stages: &'w Stages<'a>,
    images: &'w KnownImages,
    wanted: BTreeSet<usize>,
    /// The images of the needs.
    noted: BTreeSet<(String, Platform)>,
    reached: Reached<'a>,
}

impl<'w, 'a> Walk<'w, 'a> {
    fn visit(&mut self, stage: &StageText<'a>) {
        work::done(1 + stage.body.len());
        let base = match self.stages.base(stage) {
            Ok(base) => base,
            Err(error) => return self.reached.errors.push(error),
        };
        let platform = stage.platform.as_ref().unwrap_or(&self.stages.request.platform);
        let triggers = match &base {
            Found::Stage(number) => {
                self.wanted.insert(*number);
                self.stages.list.get(*number).map(stage_triggers).unwrap_or_default()
            }
            Found::Image(reference) => {
                match self.image(reference, platform, (&stage.image, stage.image_span, stage.number)) {
                    Some(known) if !stage.replaced => self.image_triggers(reference, known, stage.image_span),
                    _ => Vec::new(),
                }
            }
            Found::Scratch | Found::Directory(_) => Vec::new(),
        };
        for trigger in &triggers {
            self.follow(&trigger.instruction, trigger.at, stage.number);
        }
        for instruction in stage.body {
            self.follow(instruction, None, stage.number);
        }
        self.reached.bases.insert(stage.number, base);
        self.reached.triggers.insert(stage.number, triggers);
    }

    /// Takes up what an instruction copies or mounts from.
    fn follow(&mut self, instruction: &Instruction, at: Option<Span>, of: usize) {
        for (name, span) in froms(instruction) {
            let span = at.unwrap_or(span);
            let found = check_from(instruction, &name, span).and_then(|()| self.stages.source(&name, span, of));
            match found {
                Ok(Found::Stage(number)) => {
                    self.wanted.insert(number);
                }
                Ok(Found::Image(reference)) => {
                    self.image(&reference, &self.stages.request.platform, (&name, span, of));
                }
                Ok(Found::Scratch | Found::Directory(_)) => {}
                Err(error) => self.reached.errors.push(error),
            }
            if self.reached.errors.len() >= MAX_FINDINGS {
                return;
            }
        }
    }

    /// The image if it is known; else it is noted as needed by what is written there in the stage of that number.
    fn image(
        &mut self,
        reference: &str,
        platform: &Platform,
        (written, span, of): (&str, Span, usize),
    ) -> Option<&'w KnownImage> {
        let key = (reference.to_owned(), platform.clone());
        let known = self.images.get(&key);
        if known.is_none() && self.noted.insert(key) {
            let helped = self.reached.needs.len() < MAX_HELPED;
            let near_stage = if helped { self.stages.near_stage(&written.to_lowercase(), of) } else { None };
            let near_stage = near_stage.map(str::to_owned);
            let (reference, platform) = (reference.to_owned(), platform.clone());
            self.reached.needs.push(Need { reference, platform, span, near_stage });
        }
        known
    }

    /// The ONBUILD lines of an image, parsed; what is wrong with them is told at the FROM line.
    fn image_triggers(&mut self, reference: &str, known: &KnownImage, span: Span) -> Vec<Trigger<'a>> {
        let mut triggers = Vec::new();
        for text in known.config.config.on_build.iter().flatten() {
            match kuz_dockerfile::parse_one(text) {
                Ok(instruction) if !matches!(instruction.kind, Kind::From(_) | Kind::OnBuild(_)) => {
                    triggers.push(Trigger { instruction: Cow::Owned(instruction), at: Some(span) });
                }
                Ok(_) => self.reached.errors.push(bad_trigger(reference, text, "not allowed as a trigger", span)),
                Err(errors) => {
                    let errors = errors.iter().filter(|error| error.severity == Severity::Error);
                    self.reached.errors.extend(errors.map(|error| bad_trigger(reference, text, &error.message, span)));
                }
            }
        }
        triggers
    }
}

fn bad_trigger(reference: &str, text: &str, reason: &str, span: Span) -> Diagnostic {
    let message = format!("the trigger `{}` of {reference} cannot be used: {reason}", text.escape_debug());
    Diagnostic::error("InvalidTrigger", span, message)
}

/// The ONBUILD lines of a stage in this file.
fn stage_triggers<'a>(stage: &StageText<'a>) -> Vec<Trigger<'a>> {
    let trigger = |instruction: &'a Instruction| match &instruction.kind {
        Kind::OnBuild(on_build) => Some(Trigger { instruction: Cow::Borrowed(&*on_build.instruction), at: None }),
        _ => None,
    };
    stage.body.iter().filter_map(trigger).collect()
}

/// The images and stages that an instruction names as a source: `COPY --from`, `RUN --mount=from=`.
pub(crate) fn froms(instruction: &Instruction) -> Vec<(String, Span)> {
    match &instruction.kind {
        Kind::Copy(copy) | Kind::Add(copy) => {
            copy.from.iter().map(|from| (from.value.clone(), from.span)).filter(|(name, _)| !name.is_empty()).collect()
        }
        Kind::Run(run) => run
            .mounts
            .iter()
            .flat_map(|mount| mount.options.iter().map(move |option| (option, mount.span)))
            .filter_map(|((key, value), span)| match (key.as_str(), value) {
                ("from", Some(name)) if !name.is_empty() => Some((name.clone(), span)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The source of a COPY is a name, never expanded: a stage of that FROM is the way to choose one by a variable. (Of a
/// mount the parser has judged so already.)
fn check_from(instruction: &Instruction, name: &str, span: Span) -> Result<(), Diagnostic> {
    if !matches!(instruction.kind, Kind::Copy(_) | Kind::Add(_)) || !expand::changes(name) {
        return Ok(());
    }
    let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global \
                   scope as a workaround";
    let hint = format!("declare the ARG above the first FROM, then: FROM {name} AS source");
    Err(Diagnostic::error("VariableNotExpanded", span, message).hint(hint))
}
