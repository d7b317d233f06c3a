//! One stage: its instructions, each expanded, to steps and to the final configuration.
//!
//! A [`StageText`] and what it stands on go in, a [`Stage`] comes out. This page holds the state that instructions
//! share and hands each to its own page: [`crate::config`] for those that only change the configuration,
//! [`crate::files`] for COPY, ADD and WORKDIR, [`crate::run`] for RUN. Errors are collected, one an instruction.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuz_dockerfile::ast::{Instruction, Kind, Word};
use kuz_dockerfile::{Diagnostic, Severity, Span, suggest};
use kuz_image::{Config, ImageConfig, Platform};

use crate::expand;
use crate::plan::{Base, ImageSource, KnownImages, Op, Source, Stage, StageId, Step};
use crate::reach::Trigger;
use crate::request::Request;
use crate::scope::{Globals, Scope, is_never_variable, split_pair};
use crate::stages::{Found, StageText, Stages};
use crate::work;

/// Where programs are looked for if the base image doesn't say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a plan may hold in bytes, about: no image's configuration may have a hundredth of it, and a small file can ask
/// for much more (variables that double, a thousand stages that each change a large configuration).
pub const MAX_PLAN: usize = 512 << 20;
/// More findings than this are not kept, nor is "did you mean" asked for them.
pub(crate) const MAX_FINDINGS: usize = 1000;
/// So many names are compared to one that is mistyped.
pub(crate) const MAX_NEAR: usize = 1000;

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
    /// Bytes of the plan so far.
    pub(crate) spent: Cell<usize>,
    /// Configurations of base images as stages begin with them.
    pub(crate) begun: RefCell<BTreeMap<(String, Platform), Arc<ImageConfig>>>,
}

impl Shared<'_> {
    fn spend(&self, bytes: usize) {
        work::done(1 + bytes / 256);
        self.spent.set(self.spent.get().saturating_add(bytes));
    }

    fn exhausted(&self) -> bool {
        self.spent.get() > MAX_PLAN
    }
}

/// A finished stage, and what stages that stand on it go on from.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) stage: Stage,
    /// Taken by the last stage that stands on this one.
    pub(crate) scope: Option<Scope>,
}

impl Lowered {
    /// The scope for a stage that stands on this one; `last` if no other will.
    fn hand_down(&mut self, shared: &Shared<'_>, last: bool) -> Scope {
        let scope = if last {
            self.scope.take()
        } else {
            shared.spend(self.scope.as_ref().map_or(0, |scope| scope.weight() * PAIR));
            self.scope.clone()
        };
        scope.unwrap_or_default().handed_down()
    }
}

/// What a variable takes in memory besides its letters.
const PAIR: usize = 64;

/// A stage in the making.
#[derive(Debug)]
pub(crate) struct Lowering<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) number: usize,
    pub(crate) scope: Scope,
    pub(crate) config: Arc<ImageConfig>,
    /// This stage has set CMD: ENTRYPOINT leaves it alone.
    pub(crate) cmd_set: bool,
    steps: Vec<Step>,
    /// The instructions of this file.
    body: &'a [Instruction],
    /// The FROM line, while a base image's trigger is planned.
    at: Option<Span>,
    /// Variables that the present instruction has been warned of.
    warned: BTreeSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// What an instruction comes to: an effect and a history line, or nothing at all (ONBUILD).
pub(crate) type Effect = Result<Option<(Op, String)>, Diagnostic>;

/// Plans one stage. `below` is the stage that it stands on, if it stands on one, and whether no other will.
pub(crate) fn lower<'a>(
    shared: &'a Shared<'a>,
    text: &StageText<'a>,
    found: &Found,
    triggers: &[Trigger<'a>],
    below: Option<(&mut Lowered, bool)>,
    diagnostics: &'a mut Vec<Diagnostic>,
) -> Lowered {
    let wanted = text.platform.as_ref().unwrap_or(&shared.request.platform);
    let (base, config, scope, platform) = match (found, below) {
        (Found::Stage(number), Some((below, last))) => {
            let id = shared.ids.get(number).copied().unwrap_or(StageId(0));
            let scope = Some(below.hand_down(shared, last));
            (Base::Stage(id), Arc::clone(&below.stage.config), scope, below.stage.platform.clone())
        }
        (Found::Image(reference), _) => {
            let (source, config) = begin(shared, reference, wanted);
            check_platform(text, wanted, &config, diagnostics);
            (Base::Image(source), config, None, wanted.clone())
        }
        _ => (Base::Scratch, Arc::new(begun(scratch(wanted))), None, wanted.clone()),
    };
    let mut lowering = Lowering {
        shared,
        number: text.number,
        scope: scope.unwrap_or_else(|| of_image(&config)),
        config,
        cmd_set: false,
        steps: Vec::new(),
        body: text.body,
        at: None,
        warned: BTreeSet::new(),
        diagnostics,
    };
    if lowering.config.config.on_build.is_some() {
        lowering.config_mut().on_build = None;
    }
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
    Lowered { stage, scope: Some(scope) }
}

/// The image and its configuration as a stage begins with it; one that nobody knows (the walk has asked for all) is
/// empty.
fn begin(shared: &Shared<'_>, reference: &str, platform: &Platform) -> (ImageSource, Arc<ImageConfig>) {
    let source = image(shared, reference, platform);
    let key = (reference.to_owned(), platform.clone());
    let mut configs = shared.begun.borrow_mut();
    let config = configs.entry(key).or_insert_with_key(|key| {
        Arc::new(begun(match shared.images.get(key) {
            None => scratch(platform),
            Some(known) => {
                let mut config = known.config.clone();
                if config.os.is_empty() || config.architecture.is_empty() {
                    set_platform(&mut config, platform);
                }
                config
            }
        }))
    });
    (source, Arc::clone(config))
}

/// What is of an image itself is dropped, what every stage has is added: a PATH, an absolute working directory.
fn begun(mut config: ImageConfig) -> ImageConfig {
    config.created = None;
    config.config.on_build = None;
    if let Some(directory) = &mut config.config.working_dir
        && !directory.is_empty()
        && !directory.starts_with('/')
    {
        *directory = crate::path::join("/", directory);
    }
    let env = config.config.env.get_or_insert_default();
    if !env.iter().any(|pair| split_pair(pair).0 == "PATH") {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    config
}

/// The variables of a base image.
fn of_image(config: &ImageConfig) -> Scope {
    let mut scope = Scope::default();
    for (place, pair) in config.config.env.iter().flatten().enumerate() {
        let (name, value) = split_pair(pair);
        scope.set(name, value);
        scope.keep(name, place);
    }
    scope
}

/// The image as a source of files; one that nobody knows is empty.
fn image(shared: &Shared<'_>, reference: &str, platform: &Platform) -> ImageSource {
    match shared.images.get(&(reference.to_owned(), platform.clone())) {
        None => ImageSource::scratch(),
        Some(known) => ImageSource {
            reference: reference.to_owned(),
            manifest: known.manifest.clone(),
            layers: known.config.rootfs.diff_ids.clone(),
        },
    }
}

fn scratch(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig::default();
    set_platform(&mut config, platform);
    config.config.working_dir = Some("/".to_owned());
    config
}

/// About what a copy of a configuration takes.
fn weight(image: &ImageConfig) -> usize {
    let config = &image.config;
    let texts = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| text.len() + PAIR).sum::<usize>();
    let keys = |map: &Option<BTreeMap<String, serde_json::Value>>| {
        map.iter().flat_map(BTreeMap::keys).map(|key| key.len() + PAIR).sum::<usize>()
    };
    let labels = config.labels.iter().flatten().map(|(key, value)| key.len() + value.len() + PAIR).sum::<usize>();
    let history =
        image.history.iter().map(|entry| entry.created_by.as_ref().map_or(0, String::len) + PAIR).sum::<usize>();
    texts(&config.env)
        + texts(&config.cmd)
        + texts(&config.entrypoint)
        + texts(&config.on_build)
        + labels
        + history
        + keys(&config.exposed_ports)
        + keys(&config.volumes)
        + image.rootfs.diff_ids.len() * PAIR
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
        let warning = Diagnostic::warning("InvalidBaseImagePlatform", text.image_span, message);
        diagnostics.push(warning.hint("choose a base image for that platform, or another --platform"));
    }
}

impl Lowering<'_> {
    /// The configuration, to be changed: from now on this stage has its own.
    pub(crate) fn image_mut(&mut self) -> &mut ImageConfig {
        if Arc::strong_count(&self.config) > 1 {
            self.shared.spend(weight(&self.config));
        }
        Arc::make_mut(&mut self.config)
    }

    /// What containers are started with, to be changed.
    pub(crate) fn config_mut(&mut self) -> &mut Config {
        &mut self.image_mut().config
    }

    fn instruction(&mut self, instruction: &Instruction) {
        if self.shared.exhausted() {
            return;
        }
        self.warned.clear();
        match self.effect(instruction) {
            Ok(None) => {}
            Ok(Some((op, created_by))) => {
                let span = self.at.unwrap_or(instruction.span);
                let text = match op {
                    Op::Add(_) => crate::redact::addresses(&instruction.text).into_owned(),
                    _ => instruction.text.clone(),
                };
                self.shared.spend(created_by.len() + text.len());
                self.steps.push(Step { op, span, text, created_by });
            }
            Err(error) => self.report(error),
        }
        if self.shared.exhausted() {
            let message = format!("the plan takes more than {} MiB", MAX_PLAN >> 20);
            let error = Diagnostic::error("PlanTooLarge", instruction.span, message);
            self.report(error.hint("a variable doubles, or very many stages or steps each hold very many variables"));
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
        self.shared.spend(expanded.text.len());
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
            if self.scope.declares(name) || is_never_variable(name) || !self.warned.insert(name.clone()) {
                continue;
            }
            if self.diagnostics.len() >= MAX_FINDINGS {
                return;
            }
            work::done(self.scope.env.len().min(MAX_NEAR));
            let near = suggest::nearest(name, self.scope.env.names().take(MAX_NEAR));
            let warning = Diagnostic::warning("UndefinedVar", span, format!("usage of undefined variable `${name}`"));
            let warning = match near {
                Some(near) => warning.hint(format!("did you mean ${near}?")),
                None if self.shared.globals.knows(name) => {
                    warning.hint(format!("declare it in this stage: ARG {name}"))
                }
                None if self.is_set_below(name, span) => {
                    warning.hint("it is set below: move that instruction above this one")
                }
                None => warning,
            };
            self.report(warning);
        }
    }

    /// Whether one of the next instructions sets the variable, other than to more of what it was.
    fn is_set_below(&self, name: &str, span: Span) -> bool {
        let below = self.body.partition_point(|instruction| instruction.span.start <= span.start);
        let mut next = self.body.get(below..).unwrap_or_default().iter().take(MAX_NEAR);
        work::done(MAX_NEAR.min(self.body.len()));
        next.any(|instruction| match &instruction.kind {
            Kind::Arg(items) => items.iter().any(|item| item.name.value == name),
            Kind::Env(pairs) => pairs.iter().any(|pair| pair.key.value == name && !pair.value.value.contains(name)),
            _ => false,
        })
    }

    /// Notes a finding, at the FROM line where the text is not of this file.
    pub(crate) fn report(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.span = self.at.unwrap_or(diagnostic.span);
        if self.diagnostics.len() < MAX_FINDINGS || diagnostic.severity == Severity::Error {
            self.diagnostics.push(diagnostic);
        }
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
            Found::Image(reference) => Source::Image(image(self.shared, &reference, &self.shared.request.platform)),
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
