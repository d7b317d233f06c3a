//! What is wrong or doubtful with a Dockerfile, said without building: no network, no store, no sandbox.
//!
//! A request in, findings out: the parser's, the rules', the planner's (with base images unknown) and those that need
//! the context. The same rules speak in a build, where the plan is the real one ([`warnings`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kuz_dockerfile::ast::Kind;
use kuz_dockerfile::ignore::Ignore;
use kuz_dockerfile::lint::{self, Check, Family, LabelForm, Options, Scope};
use kuz_dockerfile::{Diagnostic, Dockerfile, Parsed, Severity, syntax};
use kuz_image::{Digest, ImageConfig};
use kuz_plan::outline::{self, Outline, Target};
use kuz_plan::plan::{Base, Op, Plan, Source, StageId};
use kuz_plan::{KnownImage, KnownImages, Need, Planned};

use crate::error::{BuildError, Findings};
use crate::inputs;
use crate::request::BuildRequest;
use crate::resolve;

/// Takes the place of the file's `# check=`.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";
/// Takes the place of the file's `# syntax=`.
const SYNTAX_ARGUMENT: &str = "BUILDKIT_SYNTAX";
/// Rounds of planning: each can only need images that the last one's ONBUILD triggers named.
const ROUNDS: usize = 8;
/// More stages that no other needs are not planned by themselves.
const MAX_TARGETS: usize = 64;
/// So many entries of the context's root are looked at.
const MAX_ENTRIES: usize = 10_000;
/// A list of requirements larger than this is none.
const REQUIREMENTS_BYTES: u64 = 1 << 20;
/// What `COPY .` should not take along: names, and ends of names.
const NOT_FOR_IMAGES: [&str; 11] =
    [".git", ".env", ".venv", "venv", "__pycache__", ".ssh", ".aws", ".netrc", ".pypirc", "id_rsa", "id_ed25519"];
const NOT_FOR_IMAGES_ENDS: [&str; 3] = [".pem", ".key", ".p12"];

/// How to check.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Stages that the target doesn't need are checked, too.
    pub all_stages: bool,
    /// Rules, codes and families to be turned on; `all` for all.
    pub enable: BTreeSet<String>,
    /// Registries that base images may come from; any, if there's none.
    pub trusted_registries: BTreeSet<String>,
    /// Labels that the image must have, and what their values are.
    pub label_schema: BTreeMap<String, LabelForm>,
    /// No labels but those.
    pub strict_labels: bool,
}

/// Checks the Dockerfile of a request. Errors in it are findings; an `Err` is that it cannot be read.
pub fn check(request: &BuildRequest, options: &CheckOptions) -> Result<Findings, BuildError> {
    if let Some(name) = options.enable.iter().find(|name| *name != "all" && !lint::is_known(name)) {
        return Err(BuildError::input(format!("there is no rule `{name}` (docs/rules.md lists them)")));
    }
    let (file, bytes, context, ignore) = inputs::texts(request)?;
    let parsed = kuz_dockerfile::parse(&bytes);
    if let Err(error) = syntax::check_frontend(&parsed.file, argument(request, SYNTAX_ARGUMENT)) {
        return Ok(Findings { file, source: parsed.file.source, diagnostics: vec![error] });
    }
    let mut wanted = wanted(&parsed.file, request)?;
    wanted.enable_all = options.enable.contains("all");
    wanted.experimental.extend(options.enable.iter().cloned());
    let rules = Options {
        trusted_registries: options.trusted_registries.clone(),
        label_schema: options.label_schema.clone(),
        strict_labels: options.strict_labels,
        syntax: argument(request, SYNTAX_ARGUMENT).map(str::to_owned),
    };
    let mut diagnostics = parsed.diagnostics.clone();
    let mut advice = lint::lint_with(&parsed.file, &wanted, &rules);
    without_named(request, &parsed.file, &mut advice);
    if !parsed.has_errors() {
        let subject = Subject { file: &parsed.file, context: &context, ignore: &ignore };
        let reached = planned(&subject, request, options, &mut diagnostics);
        keep_reached(&parsed.file, reached.as_ref(), &mut advice);
        diagnostics.extend(open_requirements(&subject));
    }
    wanted.keep_wanted(&parsed.file, &mut diagnostics);
    diagnostics.extend(advice);
    diagnostics.sort_by(|a, b| (a.span, a.rule, &a.message).cmp(&(b.span, b.rule, &b.message)));
    diagnostics.dedup();
    Ok(Findings { file, source: parsed.file.source, diagnostics })
}

/// The targets of a request's Dockerfile.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>, BuildError> {
    listed(request, outline::targets)
}

/// What the request's target takes.
pub fn outline(request: &BuildRequest) -> Result<Outline, BuildError> {
    listed(request, outline::outline)
}

fn listed<T>(
    request: &BuildRequest,
    work: impl FnOnce(&Dockerfile, &kuz_plan::Request) -> Result<T, Vec<Diagnostic>>,
) -> Result<T, BuildError> {
    let (file, bytes, ..) = inputs::texts(request)?;
    let (dockerfile, _) = judge(request, &file, kuz_dockerfile::parse(&bytes))?;
    work(&dockerfile, &resolve::wanted(request)).map_err(|diagnostics| {
        BuildError::Findings(Box::new(Findings { file, source: dockerfile.source, diagnostics }))
    })
}

/// Parser and rules, for a build. A file with errors gives `Err`.
pub(crate) fn judge(
    request: &BuildRequest,
    name: &str,
    parsed: Parsed,
) -> Result<(Dockerfile, Vec<Diagnostic>), BuildError> {
    let mut diagnostics = parsed.diagnostics;
    let foreign = syntax::check_frontend(&parsed.file, argument(request, SYNTAX_ARGUMENT));
    if let Err(error) = foreign {
        diagnostics = vec![error];
    }
    if diagnostics.iter().any(|finding| finding.severity == Severity::Error) {
        diagnostics.retain(|finding| finding.severity == Severity::Error);
        let findings = Findings { file: name.to_owned(), source: parsed.file.source, diagnostics };
        return Err(BuildError::Findings(Box::new(findings)));
    }
    let wanted = wanted(&parsed.file, request)?;
    let rules = Options { syntax: argument(request, SYNTAX_ARGUMENT).map(str::to_owned), ..Options::default() };
    wanted.keep_wanted(&parsed.file, &mut diagnostics);
    diagnostics.extend(lint::lint_with(&parsed.file, &wanted, &rules));
    without_named(request, &parsed.file, &mut diagnostics);
    Ok((parsed.file, diagnostics))
}

/// What there is to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) file: &'a Dockerfile,
    /// The context's directory.
    pub(crate) context: &'a Path,
    pub(crate) ignore: &'a Ignore,
}

/// The findings to show in a build of this plan, by place: no notes, nothing of stages that aren't built. With
/// `# check=error=true` a finding of BuildKit's rules is an error, and given as `Err`.
pub(crate) fn warnings(
    request: &BuildRequest,
    subject: &Subject<'_>,
    plan: &Plan,
    mut advice: Vec<Diagnostic>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let wanted = wanted(subject.file, request).unwrap_or_default();
    keep_reached(subject.file, Some(&numbers(plan)), &mut advice);
    let mut diagnostics = plan.warnings.clone();
    diagnostics.extend(of_context(plan, subject));
    wanted.keep_wanted(subject.file, &mut diagnostics);
    diagnostics.extend(advice);
    diagnostics.retain(|finding| finding.severity > Severity::Note);
    diagnostics.sort_by_key(|finding| finding.span.start);
    let mut failed = false;
    for finding in diagnostics.iter_mut().filter(|_| wanted.error) {
        if lint::rule(finding.rule).is_some_and(|rule| rule.family == Family::BuildKit) {
            finding.severity = Severity::Error;
            finding.hint.get_or_insert_with(|| "the file asks for it: check=error=true makes it an error".to_owned());
            failed = true;
        }
    }
    if failed { Err(diagnostics) } else { Ok(diagnostics) }
}

fn argument<'r>(request: &'r BuildRequest, name: &str) -> Option<&'r str> {
    request.input.build_args.as_ref()?.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// The rules know the file alone: a name that they don't know may be a named context's.
fn without_named(request: &BuildRequest, file: &Dockerfile, findings: &mut Vec<Diagnostic>) {
    findings.retain(|finding| {
        let named = file.source.get(finding.span.start..finding.span.end);
        finding.rule != "CopyFromUnknown" || named.is_none_or(|name| !request.contexts.contains_key(name))
    });
}

/// Which rules are wanted: what the build argument says, else the file.
fn wanted(file: &Dockerfile, request: &BuildRequest) -> Result<Check, BuildError> {
    let check = match argument(request, CHECK_ARGUMENT) {
        None => Check::of_file(file),
        Some(text) => Check::parse(text).map_err(|error| BuildError::Input {
            message: format!("the build argument {CHECK_ARGUMENT} cannot be read"),
            source: Some(Box::new(error)),
        })?,
    };
    Ok(check.with_global_comments(file))
}

/// Plans what is asked for, with base images unknown, and adds what's found. Gives the stages that were reached, where
/// only those count.
fn planned(
    subject: &Subject<'_>,
    request: &BuildRequest,
    options: &CheckOptions,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<BTreeSet<usize>> {
    let mut wanted = resolve::wanted(request);
    let stages =
        subject.file.instructions.iter().filter(|instruction| matches!(instruction.kind, Kind::From(_))).count();
    let mut seen = BTreeSet::new();
    let mut failed = false;
    let mut take = |wanted: &kuz_plan::Request, seen: &mut BTreeSet<usize>| match offline(subject.file, wanted) {
        Ok(plan) => {
            seen.extend(numbers(&plan));
            diagnostics.extend(plan.warnings.iter().filter(|found| is_certain(found, &plan)).cloned());
            diagnostics.extend(of_context(&plan, subject));
        }
        Err(errors) => {
            failed = true;
            diagnostics.extend(errors);
        }
    };
    take(&wanted, &mut seen);
    if !options.all_stages || wanted.target.is_some() {
        return (!failed).then_some(seen);
    }
    for _ in 0..MAX_TARGETS {
        let Some(number) = (0..stages).rev().find(|number| !seen.contains(number)) else { break };
        wanted.target = Some(number.to_string());
        take(&wanted, &mut seen);
        seen.insert(number);
    }
    None
}

/// A plan as far as it goes without knowing any image: each is taken to be empty.
fn offline(file: &Dockerfile, wanted: &kuz_plan::Request) -> Result<Plan, Vec<Diagnostic>> {
    let mut known = KnownImages::new();
    for _ in 0..ROUNDS {
        match kuz_plan::plan(file, wanted, &known)? {
            Planned::Ready(plan) => return Ok(plan),
            Planned::Needs(needs) => known.extend(needs.into_iter().map(stand_in)),
        }
    }
    Ok(Plan { stages: Vec::new(), source_date_epoch: None, warnings: Vec::new() })
}

fn stand_in(need: Need) -> ((String, kuz_image::Platform), KnownImage) {
    let config = ImageConfig {
        os: need.platform.os.clone(),
        architecture: need.platform.architecture.clone(),
        variant: need.platform.variant.clone(),
        ..ImageConfig::default()
    };
    ((need.reference, need.platform), KnownImage { manifest: Digest::of(b""), config })
}

/// A variable that nobody sets may be the base image's, unless its name is nearly another's.
fn is_certain(found: &Diagnostic, plan: &Plan) -> bool {
    if found.rule != "UndefinedVar" || found.hint.is_some() {
        return true;
    }
    let mut stage =
        plan.stages.iter().filter(|stage| stage.span.start <= found.span.start).max_by_key(|stage| stage.number);
    while let Some(known) = stage {
        match &known.base {
            Base::Scratch => return true,
            Base::Image(_) => return false,
            Base::Stage(StageId(below)) => stage = plan.stages.get(*below),
        }
    }
    true
}

fn numbers(plan: &Plan) -> BTreeSet<usize> {
    plan.stages.iter().map(|stage| stage.number).collect()
}

/// Drops what rules about stages found in stages that were not reached.
fn keep_reached(file: &Dockerfile, reached: Option<&BTreeSet<usize>>, findings: &mut Vec<Diagnostic>) {
    let Some(reached) = reached else { return };
    let starts: Vec<usize> = file
        .instructions
        .iter()
        .filter(|instruction| matches!(instruction.kind, Kind::From(_)))
        .map(|instruction| instruction.span.start)
        .collect();
    findings.retain(|found| {
        let of_stage = lint::rule(found.rule).is_some_and(|rule| rule.scope == Scope::Stage);
        let stage = starts.partition_point(|&start| start <= found.span.start).checked_sub(1);
        !of_stage || stage.is_none_or(|stage| reached.contains(&stage))
    });
}

/// The rules that need the context's root and the ignore file.
fn of_context(plan: &Plan, subject: &Subject<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut root: Option<Vec<String>> = None;
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let (copy, verb) = match &step.op {
            Op::Copy(copy) => (copy, "Copy"),
            Op::Add(copy) => (copy, "Add"),
            _ => continue,
        };
        if copy.from != Source::Context {
            continue;
        }
        for word in copy.sources.iter().filter(|word| !word.text.contains("://")) {
            let path = word.text.trim_start_matches(['/', '.']).is_empty();
            let whole = path && !word.text.contains("..");
            if is_left_out(subject.ignore, &word.text, whole) {
                let message = format!("Attempting to {verb} file {:?} that is excluded by .dockerignore", word.text);
                found.push(warning("CopyIgnoredFile", step.span, message).hint(let_in(subject.ignore, &word.text)));
            } else if whole {
                let names = root.get_or_insert_with(|| not_for_images(subject));
                found.extend(leak(step.span, names));
            }
        }
    }
    found
}

/// The context's root is left out where a pattern of all does that and nothing is taken back.
fn is_left_out(ignore: &Ignore, source: &str, whole: bool) -> bool {
    if whole {
        return !ignore.has_negations()
            && ignore.patterns().iter().any(|pattern| matches!(pattern.text(), b"*" | b"**"));
    }
    ignore.matches(source.trim_start_matches('/').as_bytes())
}

/// Which line of the ignore file leaves a path out, and how it's let in.
fn let_in(ignore: &Ignore, source: &str) -> String {
    let path = source.trim_start_matches('/');
    match ignore.decide(path.as_bytes()) {
        Some(decision) => format!(
            "line {} of the ignore file says `{}`: change it, or add `!{path}` below it",
            decision.line,
            String::from_utf8_lossy(decision.pattern)
        ),
        None => "change the ignore file's patterns".to_owned(),
    }
}

/// Names in the context's root that don't belong into images and aren't ignored.
fn not_for_images(subject: &Subject<'_>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(subject.context) else { return Vec::new() };
    let names = entries.take(MAX_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let doubtful = |name: &String| {
        NOT_FOR_IMAGES.contains(&name.as_str()) || NOT_FOR_IMAGES_ENDS.iter().any(|end| name.ends_with(end))
    };
    let mut names: Vec<String> =
        names.filter(doubtful).filter(|name| !subject.ignore.matches(name.as_bytes())).collect();
    names.sort();
    names
}

fn leak(span: kuz_dockerfile::Span, names: &[String]) -> Option<Diagnostic> {
    if names.is_empty() {
        return None;
    }
    let message = format!("the whole context is copied, and with it {}", names.join(", "));
    Some(warning("ContextLeaks", span, message).hint("name them in .dockerignore, or copy what is needed only"))
}

/// Requirements without a version, in the files that `pip install -r` names and the context has.
fn open_requirements(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let mut found = BTreeMap::new();
    for (name, span) in lint::requirement_files(subject.file) {
        let file = name.rsplit('/').next().unwrap_or(&name);
        let Ok(bytes) = inputs::read_regular(&subject.context.join(file), REQUIREMENTS_BYTES) else { continue };
        let open = lint::unpinned(&String::from_utf8_lossy(&bytes));
        if let Some((line, requirement)) = open.first() {
            let more = if open.len() > 1 { format!(" and {} more", open.len() - 1) } else { String::new() };
            let message = format!("{file}:{line}: `{requirement}`{more} has no single version");
            let hint = format!("write {requirement}==VERSION; pip freeze prints them");
            found.entry(file.to_owned()).or_insert_with(|| warning("UnpinnedRequirements", span, message).hint(hint));
        }
    }
    found.into_values().collect()
}

/// A finding with its rule's severity.
fn warning(rule: &'static str, span: kuz_dockerfile::Span, message: String) -> Diagnostic {
    let severity = lint::rule(rule).map_or(Severity::Warning, |rule| rule.severity);
    Diagnostic { severity, ..Diagnostic::warning(rule, span, message) }
}
