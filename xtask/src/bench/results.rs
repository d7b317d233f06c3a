//! What a bench found, as it is written to JSON and read again.
//!
//! In: readings. Out: rows with medians, from which tables and charts are made; and back from a file, so that a part that
//! is measured anew does not lose the others.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::clock::Reading;
use super::floors::{self, Floor};
use super::measure::{Measured, Series};
use super::statistics::Spread;
use super::workloads::Workload;
use crate::Outcome;
use crate::problem::Problem;

/// A run during which others had more of the machine than this is marked.
pub(super) const NOISY: f64 = 0.2;

/// Everything, as `results.json` has it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) workloads: Vec<Section>,
    pub(super) growth: Vec<Curve>,
}

/// One workload.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) title: String,
    /// The day, the machine, its file system and registry.
    pub(super) day: String,
    pub(super) machine: String,
    pub(super) room: String,
    pub(super) builders: Vec<Named>,
    /// Peers that were not measured, each with the reason.
    pub(super) absent: Vec<Named>,
    pub(super) rows: Vec<Row>,
    pub(super) floors: Vec<Cell>,
}

/// A name with what belongs to it: a version, or a reason.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) about: String,
}

/// One phase of a workload.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) phase: String,
    pub(super) cells: Vec<Cell>,
    /// Seconds of the least floor of this phase.
    pub(super) floor: Option<f64>,
}

/// One builder's or floor's figures.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) wall: Option<Spread>,
    pub(super) cpu: Option<Spread>,
    /// Peaks in bytes.
    pub(super) client: u64,
    pub(super) daemon: u64,
    /// How many of the runs others disturbed.
    pub(super) noisy: usize,
    pub(super) failed: Option<String>,
    pub(super) readings: Vec<Reading>,
}

/// How the cost of something grows.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Curve {
    pub(super) name: String,
    /// What the horizontal axis counts.
    pub(super) axis: String,
    pub(super) about: String,
    pub(super) day: String,
    pub(super) lines: Vec<Line>,
}

/// One line of a curve: sizes and median seconds.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Why there are no more points.
    pub(super) failed: Option<String>,
}

impl Row {
    pub(super) fn seconds(&self, name: &str) -> Option<f64> {
        self.cells.iter().find(|cell| cell.name == name)?.wall.map(|wall| wall.median)
    }

    /// The fastest of the others.
    pub(super) fn best_other(&self) -> Option<(&str, f64)> {
        let others = self.cells.iter().filter(|cell| cell.name != "kuz");
        let timed = others.filter_map(|cell| Some((cell.name.as_str(), cell.wall?.median)));
        timed.reduce(|best, one| if one.1 < best.1 { one } else { best })
    }
}

/// Readings as a cell.
pub(super) fn cell(name: &str, series: &Series) -> Cell {
    let of = |field: fn(&Reading) -> f64| Spread::of(&series.readings.iter().map(field).collect::<Vec<_>>());
    let peak = |field: fn(&Reading) -> u64| series.readings.iter().map(field).max().unwrap_or(0);
    Cell {
        name: name.into(),
        wall: of(|reading| reading.wall),
        cpu: of(|reading| reading.cpu),
        client: peak(|reading| reading.client),
        daemon: peak(|reading| reading.daemon),
        noisy: series.readings.iter().filter(|reading| reading.others > NOISY).count(),
        failed: series.failed.clone(),
        readings: series.readings.clone(),
    }
}

/// A workload's measurements as a section, still without day and machine.
pub(super) fn section(workload: &Workload, names: &[&str], floors: &[Floor], measured: &Measured) -> Section {
    let none = Series::default();
    let floor_cells: Vec<Cell> = floors
        .iter()
        .enumerate()
        .map(|(number, floor)| cell(&floor.name, measured.floors.get(&number).unwrap_or(&none)))
        .collect();
    let medians: Vec<(f64, &Floor)> =
        floor_cells.iter().zip(floors).filter_map(|(cell, floor)| cell.wall.map(|wall| (wall.median, floor))).collect();
    let rows = workload.phases.iter().enumerate().map(|(phase_number, (phase, _))| {
        let cells = names
            .iter()
            .enumerate()
            .filter_map(|(number, name)| measured.phases.get(&(phase_number, number)).map(|series| cell(name, series)));
        Row { phase: phase.title().into(), cells: cells.collect(), floor: floors::least(&medians, *phase) }
    });
    Section {
        name: workload.name.into(),
        title: workload.title.clone(),
        rows: rows.collect(),
        floors: floor_cells,
        ..Section::default()
    }
}

impl Results {
    /// Those of a file; none if there is no such file.
    pub(super) fn read(path: &Path) -> Outcome<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let bytes = fs::read(path).map_err(Problem::file("read", path))?;
        serde_json::from_slice(&bytes).map_err(|error| Problem::Answer(format!("{}: {error}", path.display())))
    }

    /// Puts newer parts in the place of older ones.
    pub(super) fn renew(&mut self, newer: Self) {
        for section in newer.workloads {
            match self.workloads.iter_mut().find(|one| one.name == section.name) {
                Some(older) => *older = section,
                None => self.workloads.push(section),
            }
        }
        for curve in newer.growth {
            match self.growth.iter_mut().find(|one| one.name == curve.name) {
                Some(older) => *older = curve,
                None => self.growth.push(curve),
            }
        }
    }

    pub(super) fn to_json(&self) -> Outcome<String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Problem::Answer(error.to_string()))?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: f64, others: f64) -> Reading {
        Reading { wall, cpu: wall / 2.0, client: 10, daemon: 20, others }
    }

    #[test]
    fn a_cell_has_medians_peaks_and_marks() {
        let readings = vec![reading(3.0, 0.0), reading(1.0, 0.5), reading(2.0, 0.2)];
        let got = cell("docker", &Series { readings, failed: None });
        assert_eq!(got.wall.map(|wall| (wall.median, wall.min, wall.max)), Some((2.0, 1.0, 3.0)));
        assert_eq!(got.cpu.map(|cpu| cpu.median), Some(1.0));
        assert_eq!((got.client, got.daemon, got.noisy), (10, 20, 1));
    }

    #[test]
    fn the_best_other_is_never_kuz() {
        let cell = |name: &str, wall: f64| cell(name, &Series { readings: vec![reading(wall, 0.0)], failed: None });
        let row = Row { cells: vec![cell("kuz", 0.1), cell("a", 3.0), cell("b", 2.0)], ..Row::default() };
        assert_eq!(row.best_other(), Some(("b", 2.0)));
        assert_eq!(row.seconds("kuz"), Some(0.1));
        assert_eq!(Row { cells: vec![cell("kuz", 0.1)], ..Row::default() }.best_other(), None);
    }

    #[test]
    fn a_part_measured_anew_leaves_the_others() {
        let section = |name: &str, day: &str| Section { name: name.into(), day: day.into(), ..Section::default() };
        let mut all = Results { workloads: vec![section("a", "1"), section("b", "1")], growth: Vec::new() };
        let curve = Curve { name: "files".into(), ..Curve::default() };
        all.renew(Results { workloads: vec![section("b", "2")], growth: vec![curve] });
        let days: Vec<(&str, &str)> = all.workloads.iter().map(|one| (&*one.name, &*one.day)).collect();
        assert_eq!(days, [("a", "1"), ("b", "2")]);
        assert_eq!(all.growth.len(), 1);
    }

    #[test]
    fn json_is_read_as_it_was_written() {
        let series = Series { readings: vec![reading(1.5, 0.1)], failed: Some("x".into()) };
        let row = Row { phase: "cold".into(), cells: vec![cell("kuz", &series)], floor: Some(0.1) };
        let section = Section { name: "a".into(), rows: vec![row], ..Section::default() };
        let all = Results { workloads: vec![section], growth: Vec::new() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        fs::write(&path, all.to_json().unwrap()).unwrap();
        assert_eq!(Results::read(&path).unwrap(), all);
        assert_eq!(Results::read(&folder.path().join("none")).unwrap(), Results::default());
    }
}
