//! Which stage and step of a build is which of the build before.
//!
//! Two journals in, pairs out. Stages go by name, then by number, then by the likeness of their steps. Steps of a stage
//! that have the same text, in the same order, are the same; what lies between those goes by kind, then by likeness
//! and position. Every stage and step is the other half of at most one.

use std::collections::{BTreeMap, BTreeSet};

use super::journal::{Journal, StageEntry, StepEntry};

/// Places of steps: stage and step in the build now, to stage and step in the one before.
pub(crate) type Matched = BTreeMap<(usize, usize), (usize, usize)>;

/// Steps of two stages whose numbers multiply to more are matched by position: the table would be too large.
const TABLE: usize = 4 << 20;
/// Texts that are less alike than this are no versions of one instruction, in parts of a hundred.
const ALIKE: usize = 35;

/// Pairs of steps.
pub(crate) fn journals(before: &Journal, now: &Journal) -> Matched {
    let mut matched = Matched::new();
    for (at, old) in stages(&before.stages, &now.stages) {
        let (Some(new_stage), Some(old_stage)) = (now.stages.get(at), before.stages.get(old)) else { continue };
        for (step, old_step) in steps(&old_stage.steps, &new_stage.steps) {
            matched.insert((at, step), (old, old_step));
        }
    }
    matched
}

/// Pairs of stages: now, before.
pub(crate) fn stages(before: &[StageEntry], now: &[StageEntry]) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let mut take = |wanted: &dyn Fn(&StageEntry, &StageEntry) -> bool| {
        for (at, stage) in now.iter().enumerate() {
            let free = |old: &usize| !pairs.iter().any(|(_, taken)| taken == old);
            if pairs.iter().any(|(known, _)| *known == at) {
                continue;
            }
            let found = before.iter().enumerate().filter(|(old, _)| free(old)).find(|(_, old)| wanted(stage, old));
            if let Some((old, _)) = found {
                pairs.push((at, old));
            }
        }
    };
    take(&|new, old| new.name.is_some() && new.name == old.name);
    take(&|new, old| new.number == old.number && (new.name.is_none() || old.name.is_none()));
    take(&|new, old| new.number == old.number && stage_likeness(new, old) >= ALIKE);
    take(&|new, old| stage_likeness(new, old) >= ALIKE);
    pairs
}

fn stage_likeness(one: &StageEntry, other: &StageEntry) -> usize {
    let text = |stage: &StageEntry| stage.steps.iter().map(|step| step.text.as_str()).collect::<Vec<_>>().join(" ");
    likeness(&text(one), &text(other))
}

/// Pairs of steps of one stage: now, before.
fn steps(before: &[StepEntry], now: &[StepEntry]) -> Vec<(usize, usize)> {
    let mut pairs = common(before, now);
    let mut gaps = Vec::new();
    let (mut from_now, mut from_before) = (0, 0);
    for &(new, old) in pairs.iter().chain(&[(now.len(), before.len())]) {
        gaps.push((from_now..new, from_before..old));
        (from_now, from_before) = (new + 1, old + 1);
    }
    for (new, old) in gaps {
        let mut free: BTreeSet<usize> = old.clone().collect();
        for at in new.clone() {
            let Some(step) = now.get(at) else { continue };
            let place = at - new.start;
            let score = |candidate: usize| {
                let other = before.get(candidate).filter(|other| other.verb == step.verb)?;
                let near = (candidate - old.start).abs_diff(place);
                let alike = likeness(&step.text, &other.text);
                // In a gap of one and one the position alone says that it is the same.
                let alone = new.len() == old.len() && near == 0;
                (alone || alike >= ALIKE).then_some((alike, usize::MAX - near))
            };
            let best = free.iter().filter_map(|&old| Some((score(old)?, old))).max_by_key(|(score, _)| *score);
            if let Some((_, old)) = best {
                free.remove(&old);
                pairs.push((at, old));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

/// The longest common sequence of equal texts: now, before.
fn common(before: &[StepEntry], now: &[StepEntry]) -> Vec<(usize, usize)> {
    let (rows, columns) = (now.len(), before.len());
    let same = |row: usize, column: usize| match (now.get(row), before.get(column)) {
        (Some(new), Some(old)) => new.text == old.text && new.verb == old.verb,
        _ => false,
    };
    if rows.saturating_mul(columns) > TABLE {
        return (0..rows.min(columns)).filter(|&at| same(at, at)).map(|at| (at, at)).collect();
    }
    let mut table = vec![vec![0_u32; columns + 1]; rows + 1];
    let length = |table: &Vec<Vec<u32>>, row: usize, column: usize| {
        table.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default()
    };
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let value = if same(row, column) {
                length(&table, row + 1, column + 1) + 1
            } else {
                length(&table, row + 1, column).max(length(&table, row, column + 1))
            };
            if let Some(cell) = table.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = value;
            }
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while row < rows && column < columns {
        if same(row, column) {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if length(&table, row + 1, column) >= length(&table, row, column + 1) {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

/// How much two texts have in common: words that both have, in parts of a hundred.
fn likeness(one: &str, other: &str) -> usize {
    let words = |text: &str| -> Vec<String> {
        let split = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')));
        let mut words: Vec<String> = split.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    let (one, mut other) = (words(one), words(other));
    let all = one.len() + other.len();
    let both = one.iter().filter(|word| other.binary_search(word).map(|at| drop(other.remove(at))).is_ok()).count();
    (200 * both).checked_div(all).unwrap_or(100)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::Outcome;
    use super::super::journal::Verb;
    use super::*;

    pub(crate) fn step(text: &str) -> StepEntry {
        let verb = match text.split(' ').next() {
            Some("RUN") => Verb::Run,
            Some("COPY") => Verb::Copy,
            Some("ADD") => Verb::Add,
            Some("WORKDIR") => Verb::MakeDir,
            _ => Verb::Config,
        };
        let outcome = if verb == Verb::Config { Outcome::Config } else { Outcome::Cached };
        let text = text.to_owned();
        let (key, cost_us, from) = (None, None, Vec::new());
        StepEntry { text, line: 1, verb, key, outcome, took_us: 0, cost_us, in_a_row: 0, from }
    }

    pub(crate) fn stage(number: usize, name: Option<&str>, steps: &[&str]) -> StageEntry {
        StageEntry {
            number,
            name: name.map(str::to_owned),
            image: None,
            stage: None,
            no_cache: false,
            steps: steps.iter().map(|text| step(text)).collect(),
        }
    }

    #[test]
    fn steps_are_known_again() {
        // A name, the steps before and now, and the pairs that are wanted.
        type Case<'c> = (&'c str, &'c [&'c str], &'c [&'c str], &'c [(usize, usize)]);
        let cases: [Case<'_>; 8] = [
            ("the same", &["RUN a", "RUN b"], &["RUN a", "RUN b"], &[(0, 0), (1, 1)]),
            ("one more before", &["RUN a"], &["RUN new", "RUN a"], &[(1, 0)]),
            ("one less", &["RUN a", "RUN b", "RUN c"], &["RUN a", "RUN c"], &[(0, 0), (1, 2)]),
            (
                "edited in its place",
                &["RUN a", "RUN x", "RUN c"],
                &["RUN a", "RUN y", "RUN c"],
                &[(0, 0), (1, 1), (2, 2)],
            ),
            ("another kind", &["RUN a", "COPY x y"], &["RUN a", "RUN x y"], &[(0, 0)]),
            (
                "edited and one more",
                &["RUN pip install -r req.txt", "COPY . ."],
                &["RUN apt-get update", "RUN pip install -U -r req.txt", "COPY . ."],
                &[(1, 0), (2, 1)],
            ),
            ("nothing before", &[], &["RUN a"], &[]),
            ("turned", &["COPY a b", "RUN c"], &["RUN c", "COPY a b"], &[(1, 0)]),
        ];
        for (name, before, now, want) in cases {
            let list = |texts: &[&str]| texts.iter().map(|text| step(text)).collect::<Vec<_>>();
            assert_eq!(steps(&list(before), &list(now)), want, "{name}");
        }
    }

    #[test]
    fn stages_go_by_name_then_number_then_likeness() {
        let before =
            [stage(0, Some("forge"), &["RUN make all"]), stage(1, None, &["RUN x"]), stage(2, Some("z"), &["RUN q"])];
        let now = [
            stage(0, Some("tools"), &["RUN other things here"]),
            stage(1, Some("forge"), &["RUN make all"]),
            stage(2, None, &["RUN x"]),
        ];
        let mut pairs = stages(&before, &now);
        pairs.sort_unstable();
        assert_eq!(pairs, [(1, 0), (2, 2)]);
        let renamed = [stage(3, Some("smithy"), &["RUN make all"])];
        assert_eq!(stages(&before, &renamed), [(0, 0)]);
    }
}
