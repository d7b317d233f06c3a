//! The stages of a file: cut apart, FROM lines expanded, names resolved, the target found.
//!
//! A Dockerfile goes in, [`StageText`]s and answers to "what does this name mean here" come out. What the stages do
//! is not looked at here; which of them are needed is [`crate::reach`]'s question.
//!
//! A name means, in this order: a `--build-context` of that name, the last earlier stage of that name, an image.

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::ast::{Dockerfile, From, Instruction, Kind};
use kuz_dockerfile::{Diagnostic, Span, suggest};
use kuz_image::Platform;
use kuz_image::reference::Reference;

use crate::epoch::Epoch;
use crate::expand;
use crate::request::Request;
use crate::scope::Globals;
use crate::steps::{MAX_FINDINGS, MAX_NEAR};
use crate::work;

/// The base without a file system.
const SCRATCH: &str = "scratch";

/// A file cut at its FROM lines.
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    /// The ARGs before the first FROM.
    pub(crate) arguments: Vec<&'a Instruction>,
    /// FROM line and body of each stage.
    pub(crate) stages: Vec<(&'a Instruction, &'a From, &'a [Instruction])>,
}

impl<'a> Cut<'a> {
    /// Cuts a file; at least one stage.
    pub(crate) fn new(file: &'a Dockerfile) -> Result<Self, Diagnostic> {
        let mut cut = Self { arguments: Vec::new(), stages: Vec::new() };
        let mut begin = None;
        for (place, instruction) in file.instructions.iter().enumerate() {
            match (&instruction.kind, begin) {
                (Kind::From(from), _) => {
                    begin = Some(place + 1);
                    cut.stages.push((instruction, from, &[]));
                }
                (Kind::Arg(_), None) => cut.arguments.push(instruction),
                (_, None) => {
                    return Err(Diagnostic::error(
                        "NoBuildStage",
                        instruction.span,
                        "no build stage in current context",
                    )
                    .hint("only ARG may stand before the first FROM"));
                }
                (_, Some(begin)) => {
                    if let Some(stage) = cut.stages.last_mut() {
                        stage.2 = file.instructions.get(begin..=place).unwrap_or_default();
                    }
                }
            }
        }
        if cut.stages.is_empty() {
            let message = "dockerfile contains no stages to build";
            return Err(Diagnostic::error("NoBuildStage", Span::default(), message).hint("add a FROM line"));
        }
        Ok(cut)
    }

    /// What `TARGETSTAGE` says: the target as asked for, or the name of the last stage.
    pub(crate) fn target(&self, request: &Request) -> String {
        let last = || self.stages.last().and_then(|(_, from, _)| from.alias.as_ref());
        let name = request.target.clone().or_else(|| last().map(|alias| alias.value.to_lowercase()));
        name.unwrap_or_else(|| "default".to_owned())
    }
}

/// A stage as written, its FROM line expanded.
#[derive(Debug)]
pub(crate) struct StageText<'a> {
    /// From 0.
    pub(crate) number: usize,
    /// In lower case.
    pub(crate) name: Option<String>,
    /// The FROM instruction.
    pub(crate) span: Span,
    /// The image's name, expanded.
    pub(crate) image: String,
    /// The same as written.
    pub(crate) written: &'a str,
    /// Where it stands.
    pub(crate) image_span: Span,
    /// `--platform`, expanded.
    pub(crate) platform: Option<Platform>,
    /// What is done; nothing where the stage is replaced.
    pub(crate) body: &'a [Instruction],
    /// A `--build-context` of the stage's name takes its place.
    pub(crate) replaced: bool,
}

impl StageText<'_> {
    /// The name, or `stage-N`.
    pub(crate) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{}", self.number))
    }
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, canonical, with a tag or digest.
    Image(String),
    /// A named context that is a directory.
    Directory(String),
}

/// All stages, and what the request puts beside them.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    pub(crate) list: Vec<StageText<'a>>,
    /// The numbers of the stages of each name, in order.
    names: BTreeMap<String, Vec<usize>>,
    pub(crate) request: &'a Request,
}

impl<'a> Stages<'a> {
    /// Expands every FROM line. Findings go to `diagnostics`; a stage with an error has no entry, so that an error
    /// there must end the planning.
    pub(crate) fn new(
        cut: &Cut<'a>,
        request: &'a Request,
        globals: &Globals,
        escape: char,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut list = Vec::with_capacity(cut.stages.len());
        for (number, (instruction, from, body)) in cut.stages.iter().enumerate() {
            let text = stage_text(number, instruction, from, globals, escape, diagnostics);
            match text {
                Ok(text) => list.push(StageText { body, ..text }),
                Err(error) => diagnostics.push(error),
            }
        }
        let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for stage in &list {
            names.extend(stage.name.clone().filter(|name| !names.contains_key(name)).map(|name| (name, Vec::new())));
            if let Some(numbers) = stage.name.as_ref().and_then(|name| names.get_mut(name)) {
                numbers.push(stage.number);
            }
        }
        let mut stages = Self { list, names, request };
        for place in 0..stages.list.len() {
            if stages.list[place].name.as_deref().is_some_and(|name| stages.context(name).is_some()) {
                stages.list[place].replaced = true;
                stages.list[place].body = &[];
            }
        }
        stages
    }

    /// The stage that is asked for.
    pub(crate) fn target(&self) -> Result<usize, Diagnostic> {
        let last = self.list.len().saturating_sub(1);
        let Some(wanted) = &self.request.target else { return Ok(last) };
        let lower = wanted.to_lowercase();
        if let Some(stage) = self.list.iter().rfind(|stage| stage.name.as_ref() == Some(&lower)) {
            return Ok(stage.number);
        }
        if let Some(number) = wanted.parse::<usize>().ok().filter(|&number| number <= last) {
            return Ok(number);
        }
        let names: Vec<&str> = self.list.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let mut message = format!("target stage \"{wanted}\" could not be found");
        if let Some(near) = suggest::nearest(&lower, names.iter().copied()) {
            message = format!("{message} (did you mean {near}?)");
        }
        let hint = match names.as_slice() {
            [] => format!("no stage of the file has a name; number them from 0 to {last}"),
            names => format!("the stages of the file: {}", names.join(", ")),
        };
        Err(Diagnostic::error("TargetNotFound", Span::default(), message).hint(hint))
    }

    /// What the stage stands on.
    pub(crate) fn base(&self, stage: &StageText<'_>) -> Result<Found, Diagnostic> {
        if let Some(found) = stage.name.as_deref().and_then(|name| self.context(name)) {
            return found.map_err(|message| Diagnostic::error("InvalidBuildContext", stage.span, message));
        }
        self.named(&stage.image, stage.image_span, stage.number).map_err(|error| {
            if error.hint.is_some() || !stage.written.contains('$') {
                return error;
            }
            error.hint(format!(
                "it is written {}: give its variables values, by ARG NAME=value above it or --build-arg",
                stage.written
            ))
        })
    }

    /// What `--from` means in the stage number `of`.
    pub(crate) fn source(&self, name: &str, span: Span, of: usize) -> Result<Found, Diagnostic> {
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
            return self.numbered(name, span, of);
        }
        let (above, below) = self.called(&name.to_lowercase(), of);
        match below {
            Some(number) if above.is_none() && self.context(name).is_none() => {
                Err(self.too_late(number, name, span, of))
            }
            _ => self.named(name, span, of),
        }
    }

    /// The last stage of a name (in lower case) above a stage, and the first one that is not above it.
    fn called(&self, name: &str, of: usize) -> (Option<usize>, Option<usize>) {
        work::done(1);
        let numbers = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        let (above, below) = numbers.split_at(numbers.partition_point(|&number| number < of));
        (above.last().copied(), below.first().copied())
    }

    fn numbered(&self, name: &str, span: Span, of: usize) -> Result<Found, Diagnostic> {
        match name.parse::<usize>() {
            Ok(number) if number < of => Ok(Found::Stage(number)),
            Ok(number) if number < self.list.len() => Err(self.too_late(number, name, span, of)),
            _ => Err(Diagnostic::error("InvalidStageIndex", span, format!("invalid stage index {name}"))
                .hint(format!("the stages of the file have the numbers 0 to {}", self.list.len().saturating_sub(1)))),
        }
    }

    /// Context, earlier stage, `scratch` or image.
    fn named(&self, name: &str, span: Span, of: usize) -> Result<Found, Diagnostic> {
        if let Some(found) = self.context(name) {
            return found.map_err(|message| Diagnostic::error("InvalidBuildContext", span, message));
        }
        let lower = name.to_lowercase();
        if let Some(number) = self.called(&lower, of).0 {
            return Ok(Found::Stage(number));
        }
        if name == SCRATCH {
            return Ok(Found::Scratch);
        }
        let reference: Reference = name.parse().map_err(|error| {
            let error = Diagnostic::error("InvalidImageReference", span, chain(&error));
            match self.near_stage(&lower, of) {
                Some(near) => error.hint(format!("did you mean the stage {near}?")),
                None if name.contains("://") => error.hint("an image's name has no https:// in front"),
                None if lower != name && lower.parse::<Reference>().is_ok() => error.hint(format!("write {lower}")),
                None => error,
            }
        })?;
        Ok(Found::Image(reference.with_default_tag().to_string()))
    }

    /// The name of an earlier stage that is spelled nearly so: for errors about images too.
    pub(crate) fn near_stage(&self, name: &str, of: usize) -> Option<&str> {
        work::done(of.min(MAX_NEAR));
        suggest::nearest(name, self.list.iter().take(of.min(MAX_NEAR)).filter_map(|stage| stage.name.as_deref()))
    }

    /// A `--build-context` of this name; the message of an error where its image has no valid name.
    fn context(&self, name: &str) -> Option<Result<Found, String>> {
        let request = self.request;
        let none = request.named_contexts.is_empty() && request.named_images.is_empty();
        if none || name.eq_ignore_ascii_case(SCRATCH) || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let wanted = context_name(name);
        if let Some(directory) = self.request.named_contexts.iter().find(|given| context_name(given) == wanted) {
            return Some(Ok(Found::Directory(directory.clone())));
        }
        let (given, image) = self.request.named_images.iter().find(|(given, _)| context_name(given) == wanted)?;
        if image == SCRATCH {
            return Some(Ok(Found::Scratch));
        }
        let reference = image.parse::<Reference>();
        Some(match reference {
            Ok(reference) => Ok(Found::Image(reference.with_default_tag().to_string())),
            Err(error) => Err(format!("build context {given} names no image: {}", chain(&error))),
        })
    }

    /// A `--build-context` of this name: a directory as the request calls it, or an image.
    pub(crate) fn epoch_of_context(&self, name: &str) -> Option<Epoch> {
        match self.context(name)? {
            Ok(Found::Directory(name)) => Some(Epoch::Named(name)),
            _ => Some(Epoch::Image),
        }
    }

    /// The error for a stage that is not there yet where it is used.
    fn too_late(&self, number: usize, name: &str, span: Span, of: usize) -> Diagnostic {
        let here = self.list.get(of).map(StageText::label).unwrap_or_default();
        if number == of || self.needs(number, of) {
            let message = format!("circular dependency detected on stage: {here}");
            return Diagnostic::error("CircularStages", span, message).hint("a stage can only use stages above it");
        }
        let message =
            format!("cannot copy from stage \"{name}\", it needs to be defined before current stage \"{here}\"");
        Diagnostic::error("StageDefinedLater", span, message).hint(format!("move the stage {name} above this one"))
    }

    /// Whether `stage` cannot be built without `needed`, order of the file left aside.
    fn needs(&self, stage: usize, needed: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(number) = open.pop() {
            work::done(1);
            if number == needed {
                return true;
            }
            if let Some(stage) = self.list.get(number).filter(|_| seen.insert(number)) {
                open.extend(self.mentions(stage));
            }
        }
        false
    }

    /// The stages that a stage names, wherever they stand.
    fn mentions(&self, stage: &StageText<'_>) -> Vec<usize> {
        let mut names = vec![stage.image.to_lowercase()];
        for instruction in stage.body {
            names.extend(crate::reach::froms(instruction).iter().map(|(name, _)| name.to_lowercase()));
        }
        let place = |name: &String| {
            let (above, below) = self.called(name, stage.number);
            above.or(below).or_else(|| name.parse().ok())
        };
        names.iter().filter_map(place).filter(|&number| number < self.list.len()).collect()
    }
}

/// Expands one FROM line; the body is filled in by the caller.
fn stage_text<'a>(
    number: usize,
    instruction: &'a Instruction,
    from: &'a From,
    globals: &Globals,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<StageText<'a>, Diagnostic> {
    let mut expanded = |word| {
        let expanded = expand::word(word, &globals.env, escape)?;
        for name in expanded.unmatched.iter().filter(|name| !globals.knows(name)) {
            if diagnostics.len() < MAX_FINDINGS {
                diagnostics.push(undeclared(name, word.span, globals));
            }
        }
        Ok::<_, Diagnostic>(expanded.text)
    };
    let image = expanded(&from.image)?;
    if image.is_empty() {
        let message = format!("base name ({}) should not be blank", from.image.value);
        return Err(Diagnostic::error("BlankBaseName", from.image.span, message)
            .hint("give the ARG a default, or a value with --build-arg"));
    }
    let platform = match &from.platform {
        None => None,
        Some(word) => {
            let text = expanded(word)?;
            if text.is_empty() {
                let message = format!("empty platform value from expression {}", word.value);
                return Err(Diagnostic::error("InvalidPlatform", word.span, message));
            }
            let parsed = text.parse::<Platform>();
            let platform =
                parsed.map_err(|error| Diagnostic::error("InvalidPlatform", word.span, error.to_string()))?;
            Some(platform)
        }
    };
    Ok(StageText {
        number,
        name: from.alias.as_ref().map(|alias| alias.value.to_lowercase()),
        span: instruction.span,
        image,
        written: &from.image.value,
        image_span: from.image.span,
        platform,
        body: &[],
        replaced: false,
    })
}

fn undeclared(name: &str, span: Span, globals: &Globals) -> Diagnostic {
    let warning = Diagnostic::warning("UndefinedArgInFrom", span, format!("FROM argument `{name}` is not declared"));
    let known = globals.env.names().chain(globals.declared.iter().map(String::as_str));
    match suggest::nearest(name, known.take(MAX_NEAR)) {
        Some(near) => warning.hint(format!("did you mean {near}?")),
        None => warning.hint(format!("declare it above the first FROM: ARG {name}")),
    }
}

/// Warns of FROM lines whose image has no valid name as long as no build argument is given.
pub(crate) fn check_defaults(cut: &Cut<'_>, defaults: &Globals, escape: char, diagnostics: &mut Vec<Diagnostic>) {
    for (_, from, _) in &cut.stages {
        if !from.image.value.contains('$') {
            continue;
        }
        let Ok(expanded) = expand::word(&from.image, &defaults.env, escape) else { return };
        if expanded.text.parse::<Reference>().is_err() {
            let message =
                format!("default value for ARG {} results in empty or invalid base image name", from.image.value);
            let warning = Diagnostic::warning("InvalidDefaultArgInFrom", from.image.span, message);
            diagnostics.push(warning.hint("give the ARG a default that makes a whole image name: ARG NAME=value"));
        }
    }
}

/// As Docker compares names of contexts: familiar form, without `:latest`.
fn context_name(name: &str) -> String {
    let familiar = name.to_lowercase().parse::<Reference>().map(|reference| reference.familiar());
    let familiar = familiar.unwrap_or_else(|_| name.to_lowercase());
    familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
