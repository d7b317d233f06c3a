//! One stage: its instructions, each expanded, to steps and to the final configuration.
//!
//! A [`StageText`] and what it stands on go in, a [`Stage`] comes out. This page holds the state that instructions
//! share and hands each to its own page: [`crate::config`] for those that only change the configuration,
//! [`crate::files`] for COPY, ADD and WORKDIR, [`crate::run`] for RUN. Errors are collected, one an instruction.

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::ast::{Instruction, Kind, Word};
use kuz_dockerfile::{Diagnostic, Span, suggest};
use kuz_image::{ImageConfig, Platform};

use crate::expand;
use crate::plan::{Base, ImageSource, KnownImages, Op, Source, Stage, StageId, Step};
use crate::reach::Trigger;
use crate::request::Request;
use crate::scope::{Globals, Scope, split_pair};
use crate::stages::{Found, StageText, Stages};

/// Where programs are looked for if the base image doesn't say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is the same for every stage.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) request: &'a Request,
    pub(crate) globals: &'a Globals,
    pub(crate) stages: &'a Stages<'a>,
    pub(crate) images: &'a KnownImages,
    /// Where the reachable stages stand in the plan, by number.
    pub(crate) ids: BTreeMap<usize, StageId>,
    pub(crate) escape: char,
}

/// A finished stage, and what stages that stand on it go on from.
#[derive(Debug, Clone)]
pub(crate) struct Lowered {
    pub(crate) stage: Stage,
    pub(crate) scope: Scope,
}

/// A stage in the making.
#[derive(Debug)]
pub(crate) struct Lowering<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) number: usize,
    pub(crate) scope: Scope,
    pub(crate) config: ImageConfig,
    /// This stage has set CMD: ENTRYPOINT leaves it alone.
    pub(crate) cmd_set: bool,
    steps: Vec<Step>,
    /// The FROM line, while a base image's trigger is planned.
    at: Option<Span>,
    /// Variables that the present instruction has been warned of.
    warned: BTreeSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// What an instruction comes to: an effect and a history line, or nothing at all (ONBUILD).
pub(crate) type Effect = Result<Option<(Op, String)>, Diagnostic>;

/// Plans one stage. `below` is the stage that it stands on, if it stands on one.
pub(crate) fn lower<'a>(
    shared: &'a Shared<'a>,
    text: &StageText<'a>,
    found: &Found,
    triggers: &[Trigger<'a>],
    below: Option<&Lowered>,
    diagnostics: &'a mut Vec<Diagnostic>,
) -> Lowered {
    let wanted = text.platform.as_ref().unwrap_or(&shared.request.platform);
    let (base, mut config, scope, platform) = match (found, below) {
        (Found::Stage(number), Some(below)) => {
            let id = shared.ids.get(number).copied().unwrap_or(StageId(0));
            (Base::Stage(id), below.stage.config.clone(), below.scope.clone(), below.stage.platform.clone())
        }
        (Found::Image(reference), _) => {
            let (source, config) = image(shared, reference, wanted);
            check_platform(text, wanted, &config, diagnostics);
            (Base::Image(source), config, Scope::default(), wanted.clone())
        }
        _ => (Base::Scratch, scratch(wanted), Scope::default(), wanted.clone()),
    };
    config.created = None;
    config.config.on_build = None;
    let mut lowering = Lowering {
        shared,
        number: text.number,
        scope,
        config,
        cmd_set: false,
        steps: Vec::new(),
        at: None,
        warned: BTreeSet::new(),
        diagnostics,
    };
    lowering.inherit();
    if let Found::Directory(name) = found {
        lowering.take_directory(name, text.span);
    }
    for trigger in triggers {
        lowering.at = trigger.at;
        lowering.instruction(&trigger.instruction);
    }
    lowering.at = None;
    for instruction in text.body {
        lowering.instruction(instruction);
    }
    let Lowering { scope, config, steps, .. } = lowering;
    let stage = Stage { number: text.number, name: text.name.clone(), base, steps, config, platform, span: text.span };
    Lowered { stage, scope }
}

/// The image and its configuration; one that nobody knows (the walk has asked for all) is empty.
pub(crate) fn image(shared: &Shared<'_>, reference: &str, platform: &Platform) -> (ImageSource, ImageConfig) {
    match shared.images.get(&(reference.to_owned(), platform.clone())) {
        None => (ImageSource::scratch(), scratch(platform)),
        Some(known) => {
            let source = ImageSource {
                reference: reference.to_owned(),
                manifest: known.manifest.clone(),
                layers: known.config.rootfs.diff_ids.clone(),
            };
            let mut config = known.config.clone();
            if config.os.is_empty() || config.architecture.is_empty() {
                set_platform(&mut config, platform);
            }
            (source, config)
        }
    }
}

fn scratch(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig::default();
    set_platform(&mut config, platform);
    config.config.working_dir = Some("/".to_owned());
    config
}

fn set_platform(config: &mut ImageConfig, platform: &Platform) {
    config.os.clone_from(&platform.os);
    config.architecture.clone_from(&platform.architecture);
    config.variant.clone_from(&platform.variant);
    config.os_version.clone_from(&platform.os_version);
}

fn check_platform(text: &StageText<'_>, wanted: &Platform, config: &ImageConfig, diagnostics: &mut Vec<Diagnostic>) {
    let actual = config.platform();
    if (&actual.os, &actual.architecture) != (&wanted.os, &wanted.architecture) {
        let message = format!("base image {} was pulled for {actual}, but {wanted} is wanted", text.image);
        diagnostics.push(Diagnostic::warning("InvalidBaseImagePlatform", text.image_span, message));
    }
}

impl Lowering<'_> {
    /// The base's ENV as variables (it wins over an ARG that came with a stage), with the default PATH; its working
    /// directory made absolute.
    fn inherit(&mut self) {
        if let Some(directory) = &mut self.config.config.working_dir
            && !directory.is_empty()
            && !directory.starts_with('/')
        {
            *directory = crate::path::join("/", directory);
        }
        let env = self.config.config.env.get_or_insert_default();
        if !env.iter().any(|pair| split_pair(pair).0 == "PATH") {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for pair in env {
            let (name, value) = split_pair(pair);
            self.scope.set(name, value.to_owned());
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        self.warned.clear();
        match self.effect(instruction) {
            Ok(None) => {}
            Ok(Some((op, created_by))) => {
                let span = self.at.unwrap_or(instruction.span);
                let text = match op {
                    Op::Add(_) => crate::redact::addresses(&instruction.text).into_owned(),
                    _ => instruction.text.clone(),
                };
                self.steps.push(Step { op, span, text, created_by });
            }
            Err(error) => self.report(error),
        }
    }

    fn effect(&mut self, instruction: &Instruction) -> Effect {
        match &instruction.kind {
            Kind::Run(run) => self.run(run),
            Kind::Copy(copy) => self.copy(copy, instruction.span),
            Kind::Add(copy) => self.add(copy, instruction.span),
            Kind::Workdir(path) => self.workdir(path),
            Kind::From(_) => Err(Diagnostic::error("NestedFrom", instruction.span, "FROM cannot be a trigger")),
            other => self.configure(other),
        }
    }

    /// A word with its variables replaced. Names that nobody has set are warned of.
    pub(crate) fn word(&mut self, word: &Word) -> Result<String, Diagnostic> {
        let expanded = expand::word(word, &self.scope.env, self.shared.escape)?;
        self.warn(&expanded.unmatched, word.span);
        Ok(expanded.text)
    }

    /// As [`Self::word`], for an option that may be absent; empty is absent.
    pub(crate) fn option(&mut self, word: Option<&Word>) -> Result<Option<String>, Diagnostic> {
        let text = word.map(|word| self.word(word)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// Warns of variables that no ARG or ENV names.
    pub(crate) fn warn(&mut self, unmatched: &BTreeSet<String>, span: Span) {
        for name in unmatched {
            if self.scope.declares(name) || !self.warned.insert(name.clone()) {
                continue;
            }
            let near = suggest::nearest(name, self.scope.env.names());
            let warning = Diagnostic::warning("UndefinedVar", span, format!("usage of undefined variable `${name}`"));
            let warning = match near {
                Some(near) => warning.hint(format!("did you mean ${near}?")),
                None if self.shared.globals.knows(name) => {
                    warning.hint(format!("declare it in this stage: ARG {name}"))
                }
                None => warning,
            };
            self.report(warning);
        }
    }

    /// Notes a finding, at the FROM line where the text is not of this file.
    pub(crate) fn report(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.span = self.at.unwrap_or(diagnostic.span);
        self.diagnostics.push(diagnostic);
    }

    /// A place in this file.
    pub(crate) fn place(&self, span: Span) -> Span {
        self.at.unwrap_or(span)
    }

    /// What `--from` means here.
    pub(crate) fn source(&self, name: &str, span: Span) -> Result<Source, Diagnostic> {
        Ok(match self.shared.stages.source(name, span, self.number)? {
            Found::Scratch => Source::Image(ImageSource::scratch()),
            Found::Stage(number) => match self.shared.ids.get(&number) {
                Some(id) => Source::Stage(*id),
                None => Source::Image(ImageSource::scratch()),
            },
            Found::Image(reference) => Source::Image(image(self.shared, &reference, &self.shared.request.platform).0),
            Found::Directory(name) => Source::Named(name),
        })
    }

    /// The working directory at this point.
    pub(crate) fn cwd(&self) -> String {
        crate::path::join("/", self.config.config.working_dir.as_deref().unwrap_or_default())
    }

    /// The user at this point; empty is root.
    pub(crate) fn user(&self) -> String {
        self.config.config.user.clone().unwrap_or_default()
    }

    /// A step that stands for no instruction.
    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }
}
