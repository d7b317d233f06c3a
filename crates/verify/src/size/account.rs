//! The report of one image, out of everything that is known of its layers.
//!
//! Pure: a [`Subject`] in, a [`Report`] out. Lists are cut where nobody reads on; sums are of all.

use std::collections::{BTreeMap, HashMap, HashSet};

use kuz_image::Stack;
use kuz_image::index::ancestors;

use super::layers::{self, File};
use super::owners::{self, View};
use super::pass::Sum;
use super::{
    Duplicate, Duplicates, Hidden, Layer, LayerReport, Report, Share, Subject, VERSION, Wasted, WastedPath, imports,
    reach, shown, tree,
};

/// Entries of a list in the report.
const ENTRIES: usize = 500;
/// Places of one content.
const PLACES: usize = 10;

/// Accounts for an image.
pub fn account(subject: &Subject<'_>) -> Report {
    let layers = &subject.layers;
    let stack = Stack::new(layers.iter().map(|layer| layer.index.clone()).collect());
    let all = layers::files(layers);
    let seen: HashMap<&[u8], u64> =
        all.iter().filter(|file| file.hidden.is_none()).map(|file| (file.path, file.bytes)).collect();
    let view = View { layers, stack: &stack, files: &seen };
    let mut taken = HashSet::new();
    let distributions = owners::distributions(&view, &mut taken);
    let packages = owners::packages(&view, &mut taken);
    let idle = imports::unreached(subject.facts, &all, &distributions, &packages);
    let shares = |owners: &[owners::Owner]| -> Vec<Share> {
        owners.iter().filter(|owner| owner.bytes > 0).take(ENTRIES).map(owners::Owner::share).collect()
    };
    let reports: Vec<LayerReport> =
        layers.iter().enumerate().map(|(number, layer)| report(number, layer, &all)).collect();
    Report {
        version: VERSION,
        image: subject.name.clone(),
        id: subject.id.clone(),
        bytes: layers.iter().map(|layer| layer.tar).sum(),
        stored: layers.iter().map(|layer| layer.blob).sum(),
        shown: seen.values().sum(),
        files: seen.len() as u64,
        stages: stages(layers, &reports),
        tree: tree::tree(seen.iter().map(|(path, bytes)| (*path, *bytes))),
        distributions: shares(&distributions),
        packages: shares(&packages),
        wasted: wasted(&all),
        duplicates: duplicates(layers, &all),
        unreached: reach::unreached(subject.config, layers, &stack, &seen, &packages, &idle),
        layers: reports,
    }
}

fn report(number: usize, layer: &Layer, all: &[File<'_>]) -> LayerReport {
    let files = || all.iter().filter(|file| file.layer == number);
    LayerReport {
        number,
        diff_id: layer.diff_id.clone(),
        bytes: layer.tar,
        stored: layer.blob,
        written: files().map(|file| file.bytes).sum(),
        shown: files().filter(|file| file.hidden.is_none()).map(|file| file.bytes).sum(),
        files: files().count() as u64,
        created_by: layer.created_by.clone(),
        origin: layer.origin.clone(),
    }
}

/// Bytes by stage: what was copied from another stage counts as that one's.
fn stages(layers: &[Layer], reports: &[LayerReport]) -> Vec<Share> {
    let mut found: Vec<Share> = Vec::new();
    for (layer, report) in layers.iter().zip(reports) {
        let name = match &layer.origin {
            Some(origin) => match &origin.from {
                Some(from) => format!("{} (copied from {from})", origin.stage),
                None if origin.base => format!("base {}", origin.stage),
                None => origin.stage.clone(),
            },
            None => "(not recorded)".to_owned(),
        };
        match found.iter_mut().find(|share| share.name == name) {
            Some(share) => {
                share.bytes = share.bytes.saturating_add(report.bytes);
                share.files += report.files;
            }
            None => found.push(Share { name, bytes: report.bytes, files: report.files, ..Share::default() }),
        }
    }
    found
}

/// What no container sees, whole directories as one.
fn wasted(all: &[File<'_>]) -> Wasted {
    // The layer that has it, the one that hides it, and whether that only removes it.
    type Why = (usize, usize, bool);
    #[derive(Default)]
    struct Group<'a> {
        bytes: u64,
        files: u64,
        repeated: u64,
        first: &'a [u8],
    }
    // Of each directory of a layer: its files, and those that are hidden in the same way.
    let mut totals: HashMap<(usize, &[u8]), u64> = HashMap::new();
    let mut gone: HashMap<(&[u8], Why), u64> = HashMap::new();
    for file in all {
        for directory in ancestors(file.path).filter(|directory| !directory.is_empty()) {
            *totals.entry((file.layer, directory)).or_default() += 1;
            if let Some((by, how)) = file.hidden {
                *gone.entry((directory, (file.layer, by, how == Hidden::Deleted))).or_default() += 1;
            }
        }
    }
    let mut groups: BTreeMap<(&[u8], Why), Group<'_>> = BTreeMap::new();
    let mut wasted = Wasted::default();
    for file in all {
        let Some((by, how)) = file.hidden else { continue };
        let why = (file.layer, by, how == Hidden::Deleted);
        let whole = |directory: &&[u8]| {
            !directory.is_empty() && gone.get(&(*directory, why)) == totals.get(&(file.layer, *directory))
        };
        // The outermost directory whose every file went the same way.
        let at = ancestors(file.path).filter(whole).last().unwrap_or(file.path);
        let group = groups.entry((at, why)).or_insert_with(|| Group { first: file.path, ..Group::default() });
        group.bytes = group.bytes.saturating_add(file.bytes);
        group.files += 1;
        group.repeated += u64::from(how == Hidden::Repeated);
        wasted.bytes = wasted.bytes.saturating_add(file.bytes);
        wasted.files += 1;
    }
    wasted.paths = groups
        .into_iter()
        .map(|((directory, (layer, by, deleted)), Group { bytes, files, repeated, first })| {
            let path = if files > 1 { shown(directory) + "/" } else { shown(first) };
            let how = match deleted {
                true => Hidden::Deleted,
                false if repeated == files => Hidden::Repeated,
                false => Hidden::Overwritten,
            };
            WastedPath { path, bytes, files, layer, by, how }
        })
        .collect();
    wasted.paths.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.path.cmp(&other.path)));
    wasted.paths.truncate(ENTRIES);
    wasted
}

/// Contents that a container sees more than once.
fn duplicates(layers: &[Layer], all: &[File<'_>]) -> Duplicates {
    let mut same: HashMap<(Sum, u64), Vec<&File<'_>>> = HashMap::new();
    for file in all.iter().filter(|file| file.hidden.is_none()) {
        if let Some(sum) = layers.get(file.layer).and_then(|layer| layer.contents.sums.get(file.path)) {
            same.entry((*sum, file.bytes)).or_default().push(file);
        }
    }
    let mut found = Duplicates::default();
    for ((_, bytes), files) in same.into_iter().filter(|(_, files)| files.len() > 1) {
        let copies = files.len() as u64;
        found.bytes = found.bytes.saturating_add(bytes.saturating_mul(copies - 1));
        let places = files.iter().take(PLACES).map(|file| (file.layer, shown(file.path))).collect();
        found.groups.push(Duplicate { bytes, copies, places });
    }
    let weight = |group: &Duplicate| group.bytes.saturating_mul(group.copies - 1);
    found.groups.sort_by(|one, other| weight(other).cmp(&weight(one)).then_with(|| one.places.cmp(&other.places)));
    found.groups.truncate(ENTRIES);
    found
}

#[cfg(test)]
pub(super) mod tests {
    use kuz_image::{Config, Node};

    use super::super::Origin;
    use super::super::layers::tests::{file, layer, sums};
    use super::*;

    pub(in super::super) fn origin(stage: &str, base: bool, from: Option<&str>) -> Origin {
        Origin { stage: stage.into(), base, text: None, line: Some(3), from: from.map(str::to_owned) }
    }

    pub(in super::super) fn sample(config: &Config) -> Subject<'_> {
        let mut base = layer(
            vec![
                ("usr/lib/a.so", file(50_000)),
                ("var/cache/apt/one.deb", file(700)),
                ("var/cache/apt/two.deb", file(800)),
                ("var/log", file(5)),
                ("etc/conf", file(9000)),
            ],
            sums(&[("usr/lib/a.so", 1), ("etc/conf", 2)]),
        );
        base.origin = Some(origin("python:3", true, None));
        let mut copied = layer(
            vec![("opt/lib/a.so", file(50_000)), ("etc/conf", file(9000)), ("var/cache/apt", Node::Whiteout)],
            sums(&[("opt/lib/a.so", 1), ("etc/conf", 2)]),
        );
        copied.origin = Some(origin("final", false, Some("builder")));
        let own = layer(vec![("app/main.py", file(100)), ("etc/conf", file(1))], sums(&[]));
        Subject { name: "app".into(), id: "sha256:id".into(), config, layers: vec![base, copied, own], facts: None }
    }

    #[test]
    fn bytes_are_accounted_for() {
        let config = Config::default();
        let report = account(&sample(&config));
        assert_eq!((report.bytes, report.stored, report.shown), (30_000, 15_000, 100_106));
        assert_eq!((report.files, report.tree.bytes, report.tree.files), (5, 100_106, 5));
        let stages: Vec<(&str, u64)> = report.stages.iter().map(|share| (share.name.as_str(), share.files)).collect();
        assert_eq!(stages, [("base python:3", 5), ("final (copied from builder)", 2), ("(not recorded)", 2)]);
        let layers: Vec<(u64, u64)> = report.layers.iter().map(|layer| (layer.written, layer.shown)).collect();
        assert_eq!(layers, [(60_505, 50_005), (59_000, 50_000), (101, 101)]);
        assert_eq!((report.wasted.bytes, report.wasted.files), (9000 + 9000 + 1500, 4));
        let wasted: Vec<_> = report
            .wasted
            .paths
            .iter()
            .map(|wasted| (wasted.path.as_str(), wasted.bytes, wasted.layer, wasted.by, wasted.how))
            .collect();
        assert_eq!(
            wasted,
            [
                ("/etc/conf", 9000, 0, 1, Hidden::Repeated),
                ("/etc/conf", 9000, 1, 2, Hidden::Overwritten),
                ("/var/cache/", 1500, 0, 1, Hidden::Deleted),
            ]
        );
        assert_eq!(report.duplicates.bytes, 50_000);
        assert_eq!(report.duplicates.groups[0].places, [(0, "/usr/lib/a.so".into()), (1, "/opt/lib/a.so".into())]);
        assert_eq!(report.unreached, None, "no command");
    }
}
