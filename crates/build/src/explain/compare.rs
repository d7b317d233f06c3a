//! Two journals and what went into their keys, to an explanation: why each step is what it is.
//!
//! A step's own differences come first. One that has none was done for what it stands on: its cause is the base, or the
//! first step of its stage that has differences of its own, however many steps lie between.

use std::collections::BTreeMap;

use super::diff::{self, Difference};
use super::journal::{Journal, StageEntry, StepEntry, Verb};
use super::record::Preimage;
use super::{Explanation, Outcome, Reason, ReasonKind, StageView, StepView, advice, matching, ms};
use crate::session::Session;

/// A place in a journal: stage and step, from 0.
pub(crate) type Place = (usize, usize);

/// A step with all that is known about it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) verb: Verb,
    pub(crate) number: usize,
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) outcome: Outcome,
    pub(crate) took_us: u64,
    pub(crate) cost_us: u64,
    pub(crate) in_a_row: u32,
    /// The key is another than before.
    pub(crate) moved: bool,
    pub(crate) difference: Difference,
    pub(crate) now: Option<Preimage>,
    /// Why, if only for what it stands on.
    pub(crate) cause: Option<Cause>,
}

/// Why a step is done that has no difference of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The step at this place of the stage, from 0.
    Step(usize),
    /// What the stage stands on.
    Base,
    /// It cannot be told.
    Unknown,
}

/// A stage with its steps.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) number: usize,
    pub(crate) name: Option<String>,
    pub(crate) label: String,
    pub(crate) base: String,
    /// Another stage that it stands on.
    pub(crate) below: Option<usize>,
    pub(crate) base_change: Option<(String, String)>,
    pub(crate) items: Vec<Item>,
}

impl Item {
    /// Whether it was, or will be, done anew.
    pub(crate) fn missed(&self) -> bool {
        matches!(self.outcome, Outcome::Done | Outcome::Failed | Outcome::Miss | Outcome::Open)
    }

    /// Whether it is done only for what it stands on.
    pub(crate) fn only_parent(&self) -> bool {
        self.missed() && self.difference.reasons.is_empty() && self.difference.parent
    }
}

/// Explains a build; `fresh` are preimages that are not in the store.
pub(crate) fn explain(
    session: &Session<'_>,
    now: &Journal,
    before: Option<&Journal>,
    fresh: &BTreeMap<Place, Preimage>,
) -> Explanation {
    let load = |key: &str| Preimage::read(session, key);
    let groups = groups(now, before, &load, fresh);
    let advice = advice::advise(&groups);
    Explanation {
        file: now.file.clone(),
        target: now.target.clone(),
        built: now.at.clone(),
        compared: before.and_then(|before| before.at.clone()),
        ms: now.at.as_ref().map(|_| ms(now.took_us)),
        stages: groups.iter().map(|group| view(group, &groups)).collect(),
        advice,
    }
}

/// All stages with reasons and causes.
pub(crate) fn groups(
    now: &Journal,
    before: Option<&Journal>,
    load: &dyn Fn(&str) -> Option<Preimage>,
    fresh: &BTreeMap<Place, Preimage>,
) -> Vec<Group> {
    let matched = before.map(|before| matching::journals(before, now)).unwrap_or_default();
    let pairs: BTreeMap<usize, usize> =
        before.map(|before| matching::stages(&before.stages, &now.stages).into_iter().collect()).unwrap_or_default();
    let mut groups = Vec::new();
    for (at, stage) in now.stages.iter().enumerate() {
        let old_stage = before.zip(pairs.get(&at)).and_then(|(before, old)| before.stages.get(*old));
        let items = stage.steps.iter().enumerate().map(|(place, step)| {
            let old = before
                .zip(matched.get(&(at, place)))
                .and_then(|(before, &(stage, step))| before.stages.get(stage).and_then(|stage| stage.steps.get(step)));
            let subject = Subject { stage, step, old, any: before.is_some() };
            item(&subject, place + 1, fresh.get(&(at, place)).cloned(), load)
        });
        let items = items.collect();
        let mut group = Group {
            number: stage.number,
            name: stage.name.clone(),
            label: stage.label(),
            base: base(stage, now),
            below: stage.stage,
            base_change: old_stage.and_then(|old| base_change(old, stage)),
            items,
        };
        let below = group.below.and_then(|number| groups.iter().find(|group: &&Group| group.number == number));
        let base_moved = group.base_change.is_some()
            || old_stage.is_some_and(|old| base_kind(old) != base_kind(stage))
            || below.is_some_and(|below| below.items.iter().any(|item| item.moved || item.missed()));
        causes(&mut group, base_moved);
        groups.push(group);
    }
    groups
}

fn base(stage: &StageEntry, journal: &Journal) -> String {
    match (&stage.image, stage.stage) {
        (Some((reference, _)), _) => reference.clone(),
        (None, Some(number)) => {
            let below = journal.stages.iter().find(|stage| stage.number == number);
            below.map_or_else(|| format!("stage {number}"), StageEntry::label)
        }
        (None, None) => "scratch".to_owned(),
    }
}

fn base_kind(stage: &StageEntry) -> (bool, bool) {
    (stage.image.is_some(), stage.stage.is_some())
}

fn base_change(old: &StageEntry, new: &StageEntry) -> Option<(String, String)> {
    let ((_, was), (_, is)) = old.image.as_ref().zip(new.image.as_ref())?;
    (was != is).then(|| (was.clone(), is.clone()))
}

/// A step now and before.
struct Subject<'a> {
    stage: &'a StageEntry,
    step: &'a StepEntry,
    old: Option<&'a StepEntry>,
    /// There is an earlier build at all.
    any: bool,
}

fn item(
    subject: &Subject<'_>,
    number: usize,
    fresh: Option<Preimage>,
    load: &dyn Fn(&str) -> Option<Preimage>,
) -> Item {
    let Subject { step, old, .. } = subject;
    let missed = matches!(step.outcome, Outcome::Done | Outcome::Failed | Outcome::Miss | Outcome::Open);
    let moved = old.is_some_and(|old| old.key != step.key);
    // What hits as before needs no look into the store.
    let now = fresh.or_else(|| step.key.as_deref().filter(|_| missed || moved).and_then(load));
    let difference = judge(subject, missed, now.as_ref(), load);
    Item {
        verb: step.verb,
        number,
        line: step.line,
        text: step.text.clone(),
        outcome: step.outcome,
        took_us: step.took_us,
        cost_us: step.cost_us.unwrap_or_default(),
        in_a_row: step.in_a_row,
        moved,
        difference,
        now,
        cause: None,
    }
}

fn judge(
    subject: &Subject<'_>,
    missed: bool,
    now: Option<&Preimage>,
    load: &dyn Fn(&str) -> Option<Preimage>,
) -> Difference {
    let Subject { stage, step, old, any } = subject;
    let plain = |kind| Difference { reasons: vec![Reason::plain(kind)], ..Difference::default() };
    if matches!(step.outcome, Outcome::Config | Outcome::NotReached) {
        return Difference::default();
    }
    let before = old.and_then(|old| old.key.as_deref()).and_then(load);
    let compared = || before.as_ref().zip(now).map(|(before, now)| diff::preimages(before, now));
    if !missed {
        let moved = old.is_some_and(|old| old.key != step.key);
        return if moved { compared().unwrap_or_default() } else { Difference::default() };
    }
    let Some(old) = old else { return plain(if *any { ReasonKind::New } else { ReasonKind::First }) };
    if old.key.is_none() {
        return plain(ReasonKind::NotReached);
    }
    if old.key == step.key {
        return plain(match old.outcome {
            Outcome::Failed => ReasonKind::FailedBefore,
            _ if stage.no_cache => ReasonKind::NoCache,
            _ => ReasonKind::Gone,
        });
    }
    let mut found = compared().unwrap_or_else(|| plain(ReasonKind::Unrecorded));
    if step.outcome == Outcome::Open && !step.from.is_empty() && !found.parent {
        // What is not known yet is no difference that nobody recorded.
        found.reasons.retain(|reason| !matches!(reason.kind, ReasonKind::Unrecorded | ReasonKind::Hidden));
    }
    if stage.no_cache && found.reasons.is_empty() {
        // Steps before it may have been done anew to another result: that is not why it was.
        return plain(ReasonKind::NoCache);
    }
    if step.outcome == Outcome::Open && !step.from.is_empty() && found.reasons.is_empty() && !found.parent {
        let from: Vec<String> = step.from.iter().map(|number| format!("stage {number}")).collect();
        found.reasons.push(Reason::new(ReasonKind::Stage, from.join(" and ")));
    }
    found
}

/// Finds for steps without differences of their own what they were done for.
fn causes(group: &mut Group, base_moved: bool) {
    let own = |item: &Item| (item.missed() || item.moved) && !item.difference.reasons.is_empty();
    let first = group.items.iter().position(own);
    for at in 0..group.items.len() {
        let Some(item) = group.items.get_mut(at).filter(|item| item.difference.parent) else { continue };
        if item.difference.reasons.is_empty() {
            item.cause = Some(match first.filter(|first| *first < at) {
                _ if base_moved => Cause::Base,
                Some(first) => Cause::Step(first),
                None => Cause::Unknown,
            });
        }
    }
}

/// A step for people.
pub(crate) fn step_label(item: &Item) -> String {
    const SHOWN: usize = 40;
    let text = item.text.replace('\n', " ");
    let cut = if text.chars().count() > SHOWN { "…" } else { "" };
    format!("step {}, {}{cut}", item.number, text.chars().take(SHOWN).collect::<String>())
}

fn view(group: &Group, groups: &[Group]) -> StageView {
    let steps = group.items.iter().map(|item| {
        let mut reasons = item.difference.reasons.clone();
        for reason in reasons.iter_mut().filter(|reason| reason.kind == ReasonKind::Stage) {
            for other in groups {
                // By its name, where it has one.
                reason.what = reason.what.replace(&format!("stage {}", other.number), &other.label);
            }
        }
        match &item.cause {
            Some(Cause::Base) => {
                let (old, new) = group.base_change.clone().unzip();
                reasons.push(Reason::change(ReasonKind::Base, group.base.clone(), old, new));
            }
            Some(Cause::Step(at)) => {
                let label = group.items.get(*at).map(step_label).unwrap_or_default();
                reasons.push(Reason::new(ReasonKind::Parent, label));
            }
            Some(Cause::Unknown) => reasons.push(Reason::new(ReasonKind::Parent, "a step before it")),
            None => {}
        }
        // What the next build would do takes what it took before.
        let us = if item.outcome == Outcome::Miss { item.cost_us } else { item.took_us };
        StepView {
            number: item.number,
            line: item.line,
            text: item.text.clone(),
            outcome: item.outcome,
            ms: ms(us),
            reasons,
            in_a_row: item.in_a_row,
        }
    });
    let steps: Vec<StepView> = steps.collect();
    StageView {
        number: group.number,
        name: group.name.clone(),
        base: group.base.clone(),
        base_change: group.base_change.clone(),
        ms: steps.iter().map(|step| step.ms).sum(),
        steps,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::diff::tests::{copy, file, run};
    use super::super::matching::tests::stage;
    use super::*;

    /// A journal with one stage; keys are names of preimages.
    pub(crate) fn journal(image: &str, steps: &[(&str, &str, Outcome)]) -> Journal {
        let texts: Vec<&str> = steps.iter().map(|(text, ..)| *text).collect();
        let mut stage = stage(0, None, &texts);
        stage.image = Some(("python:3".into(), image.into()));
        for (step, (_, key, outcome)) in stage.steps.iter_mut().zip(steps) {
            step.key = Some((*key).to_owned()).filter(|key| !key.is_empty());
            step.outcome = *outcome;
            step.took_us = 5_000_000;
            step.cost_us = Some(5_000_000);
        }
        Journal { stages: vec![stage], ..crate::explain::journal::tests::empty() }
    }

    pub(crate) fn load(key: &str) -> Option<Preimage> {
        let on = |parent: &str, preimage: Preimage| Some(Preimage { parent: Some(parent.into()), ..preimage });
        match key {
            "copy1" => on("base", copy(vec![file("main.py", 1), file("requirements.txt", 1)])),
            "copy2" => on("base", copy(vec![file("main.py", 2), file("requirements.txt", 1)])),
            "copy3" => on("other base", copy(vec![file("main.py", 1), file("requirements.txt", 1)])),
            "pip1" => on("c1", run("pip install -r requirements.txt", &[])),
            "pip2" => on("c2", run("pip install -r requirements.txt", &[])),
            "arg1" => on("c1", run("make", &[("SHA", "1")])),
            "arg2" => on("c1", run("make", &[("SHA", "2")])),
            _ => None,
        }
    }

    fn reasons(now: &Journal, before: Option<&Journal>) -> Vec<String> {
        let groups = groups(now, before, &load, &BTreeMap::new());
        let steps = groups.iter().flat_map(|group| view(group, &groups).steps);
        steps.map(|step| step.reasons.first().map(ToString::to_string).unwrap_or_default()).collect()
    }

    #[test]
    fn steps_are_explained_by_the_first_thing_that_differed() {
        use Outcome::{Cached, Done, Failed, NotReached};
        let copy = "COPY . .";
        let pip = "RUN pip install -r requirements.txt";
        let old = journal("a", &[(copy, "copy1", Done), (pip, "pip1", Done)]);
        let content = "main.py has another content";
        let parent = "only what it stands on changed: step 1, COPY . .";
        for (name, now, before, want) in [
            ("same", journal("a", &[(copy, "copy1", Cached), (pip, "pip1", Cached)]), Some(&old), ["", ""]),
            ("a file", journal("a", &[(copy, "copy2", Done), (pip, "pip2", Done)]), Some(&old), [content, parent]),
            (
                "hit of an earlier build",
                journal("a", &[(copy, "copy2", Cached), (pip, "pip2", Cached)]),
                Some(&old),
                [content, parent],
            ),
            (
                "first",
                journal("a", &[(copy, "copy1", Done), (pip, "pip1", Failed)]),
                None,
                ["no earlier build of this file and target is recorded"; 2],
            ),
            (
                "gone",
                journal("a", &[(copy, "copy1", Cached), (pip, "pip1", Done)]),
                Some(&old),
                ["", "nothing differs, but its result is no longer in the store"],
            ),
            (
                "base",
                journal("b", &[(copy, "copy3", Done), (pip, "pip2", Done)]),
                Some(&old),
                ["its base changed: python:3 is b, was a"; 2],
            ),
            (
                "unrecorded",
                journal("a", &[(copy, "lost", Done), (pip, "pip1", Cached)]),
                Some(&old),
                ["it differs, and what went into it before is not recorded", ""],
            ),
            (
                "after a failure",
                journal("a", &[(copy, "copy1", Done), (pip, "pip1", Done)]),
                Some(&journal("a", &[(copy, "copy1", Failed), (pip, "", NotReached)])),
                ["it failed in the build before", "the build before did not come so far"],
            ),
        ] {
            assert_eq!(reasons(&now, before), want, "{name}");
        }
        let mut forced = journal("a", &[(copy, "copy1", Done)]);
        forced.stages[0].no_cache = true;
        assert_eq!(reasons(&forced, Some(&old)), ["nothing of its own differs: the cache was not to be used"]);
        let new = journal("a", &[(copy, "copy1", Cached), (pip, "pip1", Cached), ("WORKDIR /x", "w", Done)]);
        assert_eq!(reasons(&new, Some(&old))[2], "the build before had no such step");
    }
}
