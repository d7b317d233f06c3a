//! The verdict on a finished image: facts, indexes and configuration to findings with their place in the Dockerfile.
//!
//! Kept by image id, so that an image that was judged is not judged again; and by what the checks can see of an image
//! (its layers' imprints), so that neither is one that differs only in what they cannot see. A build hands in its other stages, which are
//! only looked into when something is missing. What cannot be judged fails nothing, unless the request says so.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Read as _;

use kuz_dockerfile::Span;
use kuz_image::{DiffId, Digest, ImageConfig, ImageId, Stack};
use kuz_plan::plan::Base;
use kuz_verify::rules::{self, About};
use kuz_verify::subject::OtherStage;
use kuz_verify::{Advice, Finding, Imprint, Level, StageFiles, Subject, dpkg};
use serde::{Deserialize, Serialize};

use crate::assemble::Image;
use crate::error::BuildError;
use crate::event::Event;
use crate::execute::{Execution, StageDone};
use crate::facts::Facts;
use crate::images;
use crate::layers::{BaseImage, Layer, Layers};
use crate::request::{Allowed, Verify};
use crate::run_step::cause_chain;
use crate::schedule::Stages;
use crate::selection;
use crate::session::Session;

/// The form of kept verdicts. Raised with every change to what is judged, or how.
const FORMAT: u32 = 2;
/// The kind of records with the packages' files of a stage.
const OWNERS: &str = "owners";
/// A list of a package's files, as read from a stage.
const LIST_BYTES: u64 = 16 << 20;
/// Where dpkg and apk say which package owns what.
const LISTS: [&[u8]; 2] = [b"var/lib/dpkg/info/*.list", b"lib/apk/db/installed"];

/// What was found about an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The Dockerfile, as the user knows it; empty where none is known.
    pub file: String,
    /// Its text.
    pub source: String,
    /// The worst first.
    pub findings: Vec<Placed>,
}

/// A finding and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// What was found.
    pub finding: Finding,
    /// The instruction that it comes from.
    pub span: Option<Span>,
    /// What the history says of the layer that it was found in.
    pub made_by: Option<String>,
}

impl Placed {
    /// The finding on one line, with its file if the words do not name it.
    pub fn headline(&self) -> String {
        let message = &self.finding.message;
        match &self.finding.path {
            Some(path) if rules::is_secret(self.finding.rule) && !message.contains(path.as_str()) => {
                format!("{path}: {message}")
            }
            _ => message.clone(),
        }
    }
}

impl Verdict {
    /// The findings of these rules alone.
    fn only(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        self.findings.retain(|placed| wanted(placed.finding.rule));
        self
    }

    /// Findings of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|placed| placed.finding.level == level).count()
    }

    /// One line, if there is an error or a warning.
    pub fn summary(&self) -> Option<String> {
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warning));
        let first = self.findings.iter().find(|placed| placed.finding.level > Level::Note)?;
        let counted = [(errors, "error"), (warnings, "warning")].into_iter().filter(|(count, _)| *count > 0);
        let counted = counted.map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
        let mut text = format!("verify: {}: {}", counted.collect::<Vec<_>>().join(", "), first.headline());
        if let Some(advice) = &first.finding.advice {
            let _ = write!(text, "; {}", advice.text);
            if let Some(line) = advice.lines.first() {
                let _ = write!(text, ": add `{line}`");
            }
        }
        Some(text)
    }

    /// Without notes: what a build tells.
    fn told(mut self) -> Self {
        self.findings.retain(|placed| placed.finding.level > Level::Note);
        self
    }
}

/// The kind of records with verdicts by what the checks can see.
const JUDGED: &str = "judged";

/// Rules about Python whose findings say nothing about the user's modules, also where they name no file.
const OF_PACKAGES: [&str; 3] = ["PythonScriptsMissing", "PythonConsoleScriptMissing", "PythonOtherVersion"];

/// A verdict by what the checks can see.
#[derive(Debug, Serialize, Deserialize)]
struct Judged {
    /// The layers' exact imprints.
    exact: Vec<[u8; 32]>,
    /// Names that the user's modules were asked for.
    asked: BTreeSet<String>,
    /// What these answered, by layer; nothing of the base's.
    answers: Vec<Option<[u8; 32]>>,
    findings: Vec<KeptFinding>,
}

impl Judged {
    /// Its findings, if they hold for layers of these imprints, which are loosely equal to its own: where modules have
    /// changed, they answer as before, and nothing may have been said about them. `answer` asks a layer.
    fn findings_for(
        self,
        imprints: &[Imprint],
        answer: impl Fn(usize, &BTreeSet<String>) -> Result<[u8; 32], BuildError>,
    ) -> Result<Option<Vec<Finding>>, BuildError> {
        let changed = |(at, imprint): (usize, &Imprint)| (self.exact.get(at) != Some(&imprint.exact)).then_some(at);
        let changed: Vec<usize> = imprints.iter().enumerate().filter_map(changed).collect();
        let of_package = |path: &String| {
            let directory = path.rsplit_once('/').map(|(directory, _)| directory.as_bytes());
            directory.is_some_and(kuz_verify::collect::in_packages)
        };
        let holds = |finding: &KeptFinding| {
            !finding.rule.starts_with("Python")
                || OF_PACKAGES.contains(&finding.rule.as_str())
                || finding.path.as_ref().is_some_and(of_package)
        };
        if !changed.is_empty() && !self.findings.iter().all(holds) {
            return Ok(None);
        }
        for layer in changed {
            let Some(Some(before)) = self.answers.get(layer) else { return Ok(None) };
            if answer(layer, &self.asked)? != *before {
                return Ok(None);
            }
        }
        Ok(self.findings.into_iter().map(KeptFinding::finding).collect())
    }
}

/// All that a verdict depends on beside exact lines, as a key.
fn sight(inputs: &str, base_layers: usize, config: &ImageConfig, imprints: &[Imprint]) -> Option<String> {
    // Times are not looked at, and of layers only what their imprints tell.
    let mut config = ImageConfig { created: None, ..config.clone() };
    config.rootfs.diff_ids.clear();
    for entry in &mut config.history {
        entry.created = None;
    }
    let mut bytes = serde_json::to_vec(&(program(), inputs, base_layers, config)).ok()?;
    bytes.extend(imprints.iter().flat_map(|imprint| imprint.loose));
    Some(Digest::of(&bytes).hex().to_owned())
}

/// A verdict as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// What else than the image it depends on.
    inputs: String,
    findings: Vec<KeptFinding>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptFinding {
    rule: String,
    level: Level,
    message: String,
    path: Option<String>,
    layer: Option<usize>,
    advice: Option<Advice>,
}

impl KeptFinding {
    fn of(finding: &Finding) -> Self {
        let Finding { rule, level, message, path, layer, advice } = finding.clone();
        Self { rule: rule.to_owned(), level, message, path, layer, advice }
    }

    /// `None` for a rule that this program does not have.
    fn finding(self) -> Option<Finding> {
        let Self { rule, level, message, path, layer, advice } = self;
        Some(Finding { rule: rules::find(&rule)?.name, level, message, path, layer, advice })
    }
}

/// What the program itself adds to what a verdict depends on.
fn program() -> String {
    format!("{FORMAT} {} {}", kuz_verify::facts::FORMAT, env!("CARGO_PKG_VERSION"))
}

/// A kept verdict; with `inputs`, only one that depended on these.
fn recall(session: &Session<'_>, id: &ImageId, inputs: Option<&str>) -> Result<Option<Vec<Finding>>, BuildError> {
    let bytes = session.store.verdict(id).map_err(|error| BuildError::store("read a verdict", error))?;
    let Some(kept) = bytes.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok()) else { return Ok(None) };
    let (version, others) = kept.inputs.split_once('\n').unwrap_or((&kept.inputs, ""));
    if version != program() || inputs.is_some_and(|inputs| inputs != others) {
        return Ok(None);
    }
    Ok(kept.findings.into_iter().map(KeptFinding::finding).collect())
}

fn keep(session: &Session<'_>, id: &ImageId, inputs: &str, findings: &[Finding]) -> Result<(), BuildError> {
    let kept =
        Kept { inputs: format!("{}\n{inputs}", program()), findings: findings.iter().map(KeptFinding::of).collect() };
    let bytes = serde_json::to_vec(&kept).map_err(|error| BuildError::store("encode a verdict", error))?;
    session.store.record_verdict(id, &bytes).map_err(|error| BuildError::store("record a verdict", error))
}

/// Judges an image whose layers are in the store.
fn find<'s>(
    layers: &Layers<'_>,
    facts: &Facts,
    config: &'s ImageConfig,
    others: Vec<OtherStage<'s>>,
    base_layers: usize,
    allowed: &Allowed,
) -> Result<(Vec<Finding>, BTreeSet<String>), BuildError> {
    let diff_ids = &config.rootfs.diff_ids;
    let facts = facts.get(diff_ids)?;
    let index = |diff_id: &DiffId| layers.index(&Layer::Tar(diff_id.clone()));
    let stack = Stack::new(diff_ids.iter().map(index).collect::<Result<Vec<_>, _>>()?);
    let subject = Subject { config, stack, facts, others, base_layers };
    Ok(kuz_verify::check_asking(&subject, &|place| allowed.has(place)))
}

/// `kuz verify`: judges any image in the store. What a build found about it is taken from there.
pub fn verify(session: &Session<'_>, name: &str, allowed: &Allowed) -> Result<Verdict, BuildError> {
    let found = images::find(session, name)?;
    let documents = session.store.documents(&found.manifest.digest);
    let documents = documents.map_err(|error| images::failed(format!("read image `{name}`"), error))?;
    let config = &documents.config;
    let known = if allowed.is_empty() { recall(session, &found.id, None)? } else { None };
    let findings = if let Some(findings) = known {
        findings
    } else {
        let blobs = documents.manifest.layers.clone();
        let image = BaseImage { reference: name.to_owned(), blobs };
        let (layers, facts) = Layers::of_image(session, image, &config.rootfs.diff_ids);
        for layer in Layer::of_base(0, &config.rootfs.diff_ids) {
            layers.scan(&layer)?;
        }
        let (findings, _) = find(&layers, &facts, config, Vec::new(), base_layers(config), allowed)?;
        if allowed.is_empty() {
            keep(session, &found.id, "", &findings)?;
        }
        findings
    };
    let mut findings = findings;
    findings.extend(annotated(&documents.manifest.annotations, allowed));
    let made_by = makers(config);
    let place = |finding: Finding| {
        let made_by = finding.layer.and_then(|layer| made_by.get(layer).cloned());
        Placed { finding, span: None, made_by }
    };
    Ok(Verdict { findings: findings.into_iter().map(place).collect(), ..Verdict::default() })
}

/// Secrets in a manifest's annotations. They are no part of the image's id, so a verdict that is kept by it does not hold
/// them.
fn annotated(annotations: &BTreeMap<String, String>, allowed: &Allowed) -> Vec<Finding> {
    kuz_verify::secrets::check_annotations(annotations, &|place| allowed.has(place))
}

/// How many of an image's layers are its base's: those from before the first step that this program did. Of an image that
/// it did not make, none is known to be.
fn base_layers(config: &ImageConfig) -> usize {
    let ours = config.history.iter().position(|entry| entry.comment.as_deref() == Some(crate::assemble::COMMENT));
    let before = config.history.get(..ours.unwrap_or_default()).unwrap_or_default();
    before.iter().filter(|entry| !entry.empty_layer).count()
}

/// What made each layer, by the history.
fn makers(config: &ImageConfig) -> Vec<String> {
    let made = config.history.iter().filter(|entry| !entry.empty_layer);
    made.map(|entry| entry.created_by.clone().unwrap_or_default()).collect()
}

impl Execution<'_> {
    /// Judges the finished image, tells what was found, and gives the line for the result. An error only where the
    /// request asks for it.
    pub(crate) fn judge(&self, done: &Stages, image: &Image) -> Result<Option<String>, BuildError> {
        let Some(facts) = &self.facts else { return Ok(None) };
        let fails = self.request.verify == Verify::Error;
        if !image.absent.is_empty() {
            let absent = image.absent.len();
            let text = format!("the image is not verified: {absent} layers of its base were left in the registry");
            (self.session.events)(Event::Note { text: text + " (--verify=error fetches them)" });
            return Ok(None);
        }
        let verdict = match self.verdict(done, image, facts) {
            Ok(verdict) => verdict,
            Err(error @ BuildError::Cancelled) => return Err(error),
            Err(error) if fails => return Err(error),
            Err(error) => {
                let text = format!("the image could not be verified: {}", cause_chain(&error));
                (self.session.events)(Event::Note { text });
                return Ok(None);
            }
        };
        // Whoever gives away a key by mistake wants to know before it is out, whatever else is asked.
        let leaks = verdict
            .findings
            .iter()
            .any(|placed| placed.finding.level == Level::Error && rules::is_secret(placed.finding.rule));
        let failed = leaks || fails && verdict.count(Level::Error) > 0;
        let told = verdict.told();
        let summary = told.summary();
        if !told.findings.is_empty() {
            (self.session.events)(Event::Verdict(Box::new(told.clone())));
        }
        if failed {
            // Why it failed, and not what else was found.
            let summary = if fails { summary } else { told.only(rules::is_secret).summary() };
            return Err(BuildError::Unsound(summary.unwrap_or_default()));
        }
        Ok(summary)
    }

    fn verdict(&self, done: &Stages, image: &Image, facts: &Facts) -> Result<Verdict, BuildError> {
        let target = self.target_stages();
        let others = || {
            let stages = self.plan.stages.iter().enumerate().filter(|(at, _)| !target.contains(at));
            stages.filter_map(|(at, stage)| {
                let name = stage.name.clone().unwrap_or_else(|| stage.number.to_string());
                Some((name, done.get(at)?))
            })
        };
        let start = format!("{}\n", self.request.allowed_secrets.patterns().join(" "));
        let inputs = others().fold(start, |text, (name, done)| format!("{text}{name} {}\n", done.chain));
        let inputs = Digest::of(inputs.as_bytes()).to_string();
        let findings = if let Some(findings) = recall(self.session, &image.id, Some(&inputs))? {
            findings
        } else {
            let config = self.session.read_blob(&image.id.0, kuz_image::limits::CONFIG_BYTES)?;
            let config = kuz_image::parse_config(&config)
                .map_err(|error| BuildError::store("read the image's configuration", error))?;
            let others = others().map(|(name, done)| OtherStage::new(name, Built { execution: self, done })).collect();
            let findings = self.findings(facts, &config, &inputs, others)?;
            keep(self.session, &image.id, &inputs, &findings)?;
            findings
        };
        let mut findings = findings;
        findings.extend(annotated(&self.request.annotations, &self.request.allowed_secrets));
        let places = self.places(done);
        let findings = findings.into_iter().map(|finding| places.place(finding)).collect();
        Ok(Verdict { file: self.inputs.file.clone(), source: self.inputs.dockerfile.source.clone(), findings })
    }

    /// What is found in an image that has no verdict yet: known of one that looks the same, or found anew.
    fn findings<'s>(
        &self,
        facts: &Facts,
        config: &'s ImageConfig,
        inputs: &str,
        others: Vec<OtherStage<'s>>,
    ) -> Result<Vec<Finding>, BuildError> {
        let store = &self.session.store;
        let diff_ids = &config.rootfs.diff_ids;
        let below = self.layers_below();
        let (base, own) = diff_ids.split_at_checked(below).unwrap_or((diff_ids, &[]));
        let imprints = facts.imprints(own)?;
        let imprints = imprints.map(|own| base.iter().map(Imprint::of_base).chain(own).collect::<Vec<_>>());
        let sight = imprints.and_then(|imprints| Some((sight(inputs, below, config, &imprints)?, imprints)));
        if let Some((key, imprints)) = &sight {
            let bytes = store.get(JUDGED, key).map_err(|error| BuildError::store("read a verdict", error))?;
            let judged = bytes.and_then(|bytes| postcard::from_bytes::<Judged>(&bytes).ok());
            let answer = |layer: usize, asked: &BTreeSet<String>| {
                let facts = facts.get(diff_ids.get(layer..=layer).unwrap_or_default())?;
                Ok(facts.first().map(|facts| kuz_verify::imprint::answers(facts, asked)).unwrap_or_default())
            };
            if let Some(judged) = judged
                && let Some(findings) = judged.findings_for(imprints, answer)?
            {
                return Ok(findings);
            }
        }
        let allowed = &self.request.allowed_secrets;
        let (findings, asked) = find(&self.layers, facts, config, others, below, allowed)?;
        if let Some((key, imprints)) = &sight {
            let exact = imprints.iter().map(|imprint| imprint.exact).collect();
            let answers = facts.get(diff_ids)?.into_iter().enumerate();
            let answers =
                answers.map(|(at, facts)| (at >= below).then(|| kuz_verify::imprint::answers(&facts, &asked)));
            let (answers, findings) = (answers.collect(), findings.iter().map(KeptFinding::of).collect());
            let judged = Judged { exact, asked, answers, findings };
            // Made of values that have a form: writing it cannot fail.
            let bytes = postcard::to_stdvec(&judged).unwrap_or_default();
            store.put(JUDGED, key, &bytes).map_err(|error| BuildError::store("record a verdict", error))?;
        }
        Ok(findings)
    }

    /// How many of the target's layers are its base image's.
    fn layers_below(&self) -> usize {
        let lowest = self.target_stages().first().and_then(|at| self.plan.stages.get(*at));
        lowest.map_or(0, |stage| if let Base::Image(image) = &stage.base { image.layers.len() } else { 0 })
    }

    /// Which instruction each layer of the target comes from, and the instructions that its configuration comes from.
    fn places(&self, done: &Stages) -> Places {
        let mut places = Places::default();
        for at in self.target_stages() {
            let (Some(stage), Some(made)) = (self.plan.stages.get(at), done.get(at)) else { continue };
            if places.layers.is_empty() {
                let own = made.history.iter().filter(|made| made.layer).count();
                let below = made.layers.len().saturating_sub(own);
                places.layers = vec![(stage.span, None); below];
                places.base = Some(stage.span);
            }
            for (step, made) in stage.steps.iter().zip(&made.history) {
                let keyword = step.text.split_whitespace().next().unwrap_or_default().to_uppercase();
                places.words.insert(keyword, step.span);
                if made.layer {
                    places.layers.push((step.span, Some(step.created_by.clone())));
                }
            }
        }
        places
    }
}

/// Where things come from.
#[derive(Debug, Default)]
struct Places {
    /// The target's FROM, or that of the lowest stage that it stands on.
    base: Option<Span>,
    layers: Vec<(Span, Option<String>)>,
    /// The last instruction with each keyword.
    words: BTreeMap<String, Span>,
}

impl Places {
    fn place(&self, finding: Finding) -> Placed {
        let words: &[&str] = match rules::find(finding.rule).map(|rule| rule.about) {
            Some(About::Command) => &["CMD", "ENTRYPOINT"],
            Some(About::User) => &["USER"],
            Some(About::Workdir) => &["WORKDIR"],
            Some(About::Healthcheck) => &["HEALTHCHECK"],
            Some(About::File) | None => &[],
        };
        let layer = finding.layer.and_then(|layer| self.layers.get(layer));
        let word = || words.iter().filter_map(|word| self.words.get(*word)).max().copied();
        let span = layer.map(|(span, _)| *span).or_else(word).or(self.base.filter(|_| !words.is_empty()));
        Placed { finding, span, made_by: layer.and_then(|(_, made_by)| made_by.clone()) }
    }
}

/// Another stage of this build.
#[derive(Debug)]
struct Built<'s> {
    execution: &'s Execution<'s>,
    done: &'s StageDone,
}

impl StageFiles for Built<'_> {
    fn stack(&self) -> Stack {
        // What cannot be looked into has nothing to offer.
        self.execution.stack(&self.done.layers).unwrap_or_default()
    }

    fn owners(&self) -> BTreeMap<Vec<u8>, String> {
        self.execution.owners(self.done).unwrap_or_default()
    }
}

impl Execution<'_> {
    /// The libraries and commands of a stage with their packages: remembered, or read out of its trees.
    fn owners(&self, done: &StageDone) -> Result<BTreeMap<Vec<u8>, String>, BuildError> {
        let failed = |error| BuildError::store("read a stage's packages", error);
        let store = &self.session.store;
        if let Some(known) = store.get(OWNERS, done.chain.hex()).map_err(failed)?
            && let Ok(owners) = serde_json::from_slice::<Vec<(Vec<u8>, String)>>(&known)
        {
            return Ok(owners.into_iter().collect());
        }
        let stack = self.stack(&done.layers)?;
        let chosen: Vec<_> = LISTS.iter().filter_map(|list| selection::select(&stack, list).ok()).flatten().collect();
        let files = self.tree_files(&done.layers, &chosen)?;
        let mut owners = BTreeMap::new();
        // A stream that ended early has given what it could.
        let (Ok(()), _) = self.session.export(&files, |stream| {
            for file in &files {
                let Ok(Some(content)) = stream.next() else { break };
                let mut bytes = Vec::new();
                if content.take(LIST_BYTES).read_to_end(&mut bytes).is_ok() {
                    owners.extend(dpkg::owners(&file.path, &bytes));
                }
            }
            Ok::<(), Infallible>(())
        })?;
        let all: Vec<(&Vec<u8>, &String)> = owners.iter().collect();
        let bytes = serde_json::to_vec(&all).map_err(|error| BuildError::store("encode a stage's packages", error))?;
        store.put(OWNERS, done.chain.hex(), &bytes).map_err(failed)?;
        Ok(owners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rule: &str, path: Option<&str>) -> Judged {
        let finding = KeptFinding {
            rule: rule.to_owned(),
            level: Level::Warning,
            message: "line 3".into(),
            path: path.map(str::to_owned),
            layer: Some(0),
            advice: None,
        };
        let asked = BTreeSet::from(["app".to_owned()]);
        let answers = vec![None, Some([7; 32])];
        Judged { exact: vec![[1; 32], [2; 32]], asked, answers, findings: vec![finding] }
    }

    #[test]
    fn a_verdict_that_speaks_of_lines_holds_only_where_they_stand() {
        let moved = [Imprint { exact: [1; 32], loose: [0; 32] }, Imprint { exact: [3; 32], loose: [0; 32] }];
        let same = [Imprint { exact: [1; 32], loose: [0; 32] }, Imprint { exact: [2; 32], loose: [0; 32] }];
        let package = "/usr/lib/python3/site-packages/a-1.dist-info";
        for (rule, path, holds) in [
            ("PythonModuleNotFound", Some("/app/main.py"), false),
            ("PythonRecordIncomplete", Some(package), true),
            ("PythonTargetNotFound", None, false),
            ("PythonConsoleScriptMissing", None, true),
            ("CommandNotFound", None, true),
        ] {
            assert!(rules::find(rule).is_some(), "{rule}");
            let found = |imprints: &[Imprint], answer: [u8; 32]| {
                judged(rule, path).findings_for(imprints, |layer, asked| {
                    assert_eq!((layer, asked.len()), (1, 1), "only what changed is asked");
                    Ok(answer)
                })
            };
            assert_eq!(found(&moved, [7; 32]).unwrap().is_some(), holds, "{rule}");
            assert!(found(&moved, [8; 32]).unwrap().is_none(), "{rule}: another answer");
            assert!(found(&same, [8; 32]).unwrap().is_some(), "{rule}: nobody is asked");
            let base = [Imprint { exact: [4; 32], loose: [0; 32] }, same[1]];
            let other = judged(rule, path).findings_for(&base, |_, _| Ok([7; 32]));
            assert!(other.unwrap().is_none(), "{rule}: another base");
        }
    }

    #[test]
    fn times_and_diff_ids_are_not_looked_at() {
        let imprints = [Imprint { exact: [1; 32], loose: [2; 32] }];
        let mut config = ImageConfig::default();
        let key = sight("i", 1, &config, &imprints);
        config.created = Some("2026-01-01T00:00:00Z".into());
        config.rootfs.diff_ids = vec![DiffId(Digest::of(b"x"))];
        assert_eq!(sight("i", 1, &config, &imprints), key);
        config.config.user = Some("app".into());
        assert_ne!(sight("i", 1, &config, &imprints), key);
        assert_ne!(sight("j", 1, &ImageConfig::default(), &imprints), key);
        assert_ne!(sight("i", 2, &ImageConfig::default(), &imprints), key);
    }
}
