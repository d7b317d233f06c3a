//! Two reports, group by group: what one image has more of than the other.
//!
//! Stages, layers, directories, distributions and packages are matched by name; what is the same in both is left out.
//! The greatest difference comes first, whichever way it goes.

use std::collections::BTreeMap;

use super::{Change, Comparison, LayerReport, Node, Report, Share, VERSION};

/// Directories that are compared: this deep below the root.
const DEPTH: usize = 4;

/// What `report` has and `against` has not, and the other way round.
pub fn compare(report: &Report, against: &Report) -> Comparison {
    let directories = |report: &Report| {
        let mut all = BTreeMap::new();
        directories(&report.tree, "", DEPTH, &mut all);
        all
    };
    Comparison {
        version: VERSION,
        image: report.image.clone(),
        against: against.image.clone(),
        bytes: (against.bytes, report.bytes),
        shown: (against.shown, report.shown),
        stages: changes(&shares(&against.stages), &shares(&report.stages)),
        layers: changes(&layers(&against.layers), &layers(&report.layers)),
        directories: changes(&directories(against), &directories(report)),
        distributions: changes(&shares(&against.distributions), &shares(&report.distributions)),
        packages: changes(&shares(&against.packages), &shares(&report.packages)),
    }
}

/// Bytes and version by name.
type Named = BTreeMap<String, (u64, Option<String>)>;

fn shares(shares: &[Share]) -> Named {
    let mut all = Named::new();
    for share in shares {
        let entry = all.entry(share.name.clone()).or_insert((0, share.version.clone()));
        entry.0 = entry.0.saturating_add(share.bytes);
    }
    all
}

fn layers(layers: &[LayerReport]) -> Named {
    let mut all = Named::new();
    for layer in layers {
        // Without the line: a moved instruction is the same one.
        let step = layer.step();
        let line = layer.origin.as_ref().and_then(|origin| origin.line).map(|line| format!("line {line}: "));
        let name = line.and_then(|line| step.strip_prefix(&line).map(str::to_owned)).unwrap_or(step);
        let entry = all.entry(name).or_insert((0, None));
        entry.0 = entry.0.saturating_add(layer.bytes);
    }
    all
}

fn directories(node: &Node, path: &str, depth: usize, all: &mut Named) {
    for child in node.children.iter().filter(|child| !child.name.starts_with('(')) {
        let path = format!("{path}/{}", child.name);
        if depth > 0 && !child.children.is_empty() {
            directories(child, &path, depth - 1, all);
        }
        all.insert(path, (child.bytes, None));
    }
}

fn changes(old: &Named, new: &Named) -> Vec<Change> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let (was, is) = (old.get(name), new.get(name));
        let versions = match (was, is) {
            (Some((_, Some(was))), Some((_, Some(is)))) if was != is => Some((was.clone(), is.clone())),
            _ => None,
        };
        let bytes = |named: Option<&(u64, Option<String>)>| named.map(|(bytes, _)| *bytes);
        if bytes(was) != bytes(is) || versions.is_some() {
            found.push(Change { name: name.clone(), old: bytes(was), new: bytes(is), versions });
        }
    }
    found.sort_by(|one, other| {
        other.delta().unsigned_abs().cmp(&one.delta().unsigned_abs()).then_with(|| one.name.cmp(&other.name))
    });
    found
}

#[cfg(test)]
mod tests {
    use kuz_image::Config;

    use super::super::account;
    use super::super::account::tests::sample;
    use super::super::layers::tests::file;
    use super::*;

    #[test]
    fn only_differences_are_told() {
        let config = Config::default();
        let old = account(&sample(&config));
        let same = compare(&old, &old);
        assert_eq!(same.stages.len() + same.layers.len() + same.directories.len(), 0);
        let mut subject = sample(&config);
        let index = std::sync::Arc::make_mut(&mut subject.layers[2].index);
        index.entries.insert(b"app/big".to_vec(), super::super::layers::tests::entry(file(70_000)));
        subject.layers[2].tar = 90_000;
        let found = compare(&account(&subject), &old);
        assert_eq!((found.bytes, found.shown), ((30_000, 110_000), (100_106, 170_106)));
        assert_eq!(found.stages.iter().map(Change::delta).collect::<Vec<_>>(), [80_000]);
        let named: Vec<(&str, i128)> =
            found.directories.iter().map(|change| (change.name.as_str(), change.delta())).collect();
        assert_eq!(named[0], ("/app", 70_000));
        let share = |name: &str, version: &str, bytes| {
            [(name.to_owned(), (bytes, Some(version.to_owned())))].into_iter().collect::<Named>()
        };
        let versions = changes(&share("x", "1", 5), &share("x", "2", 5));
        assert_eq!(versions[0].versions, Some(("1".into(), "2".into())));
        let gone = changes(&share("x", "1", 5), &Named::new());
        assert_eq!((gone[0].old, gone[0].new, gone[0].delta()), (Some(5), None, -5));
    }
}
