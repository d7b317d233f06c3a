//! Results as Markdown and charts.
//!
//! In: results. Out: the measured part of `docs/benchmarks.md`, and SVG files beside it. The words around that part are
//! written by people and stay. Numbers are medians; what disturbed them is marked, never left out.

use super::results::{Cell, Curve, Line, NOISY, Results, Row, Section};
use super::statistics::{exponent, tail};
use super::svg::{self, Group, Series, seconds};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";
/// Growth that is more than linear by more than what measuring errs.
const STEEP: f64 = 1.1;
/// Growth that can't be told from none.
const FLAT: f64 = 0.1;

/// The document with its measured part replaced; nothing if it has no such part.
pub(super) fn into_document(document: &str, measured: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{measured}\n{END}{after}"))
}

/// Name and content of each chart.
pub(super) fn charts(results: &Results) -> Vec<(String, String)> {
    let mut charts = vec![("builds.svg".to_owned(), builds(&results.workloads))];
    for curve in &results.growth {
        let lines = curve.lines.iter().filter(|line| !line.points.is_empty());
        let series: Vec<Series> =
            lines.map(|line| Series { name: line.name.clone(), points: line.points.clone() }).collect();
        let title = format!("kuz: cost by {}", curve.axis);
        charts.push((format!("growth-{}.svg", curve.name), svg::lines(&title, &curve.axis, &series)));
    }
    charts.retain(|(_, chart)| !chart.is_empty());
    charts
}

fn builds(sections: &[Section]) -> String {
    let mut names: Vec<String> = Vec::new();
    for cell in sections.iter().flat_map(|section| &section.rows).flat_map(|row| &row.cells) {
        if !names.contains(&cell.name) {
            names.push(cell.name.clone());
        }
    }
    names.push("floor".into());
    let mut groups = Vec::new();
    for section in sections {
        for row in &section.rows {
            let timed = row
                .cells
                .iter()
                .filter_map(|cell| Some((names.iter().position(|name| *name == cell.name)?, cell.wall?.median)));
            let mut bars: Vec<(usize, f64)> = timed.collect();
            bars.extend(row.floor.map(|floor| (names.len() - 1, floor)));
            groups.push(Group { label: format!("{}, {}", short(section), row.phase), bars });
        }
    }
    svg::bars("Seconds by the wall, median; each line is ten times the one before", &names, &groups)
}

fn short(section: &Section) -> &str {
    match section.name.as_str() {
        "recipe" => "recipe",
        "run" => "RUN true",
        "files" => "COPY of many files",
        "blob" => "COPY of a large file",
        other => other,
    }
}

/// The measured part.
pub(super) fn markdown(results: &Results, charts: &[(String, String)]) -> String {
    let mut text = String::new();
    let has = |name: &str| charts.iter().any(|(chart, _)| chart == name);
    if has("builds.svg") {
        put(&mut text, "![All builds, on a logarithmic scale](benchmarks/builds.svg)\n");
    }
    for section in &results.workloads {
        workload(&mut text, section);
    }
    if !results.growth.is_empty() {
        growth(&mut text, &results.growth);
        for curve in &results.growth {
            let chart = format!("growth-{}.svg", curve.name);
            if has(&chart) {
                put(&mut text, &format!("![Cost by {}](benchmarks/{chart})\n", curve.axis));
            }
        }
    }
    text
}

fn workload(text: &mut String, section: &Section) {
    let names: Vec<&str> = section.builders.iter().map(|builder| builder.name.as_str()).collect();
    put(text, &format!("### {}\n", section.title));
    let versions: Vec<String> = section.builders.iter().map(|one| format!("{} {}", one.name, one.about)).collect();
    put(text, &format!("{}; {}; stores on {}. {}.\n", section.day, section.machine, section.room, versions.join(", ")));
    put(text, &format!("| seconds | {} | best other ÷ kuz | floor | kuz ÷ floor |", names.join(" | ")));
    put(text, &format!("|---|{}---|---|---|", "---|".repeat(names.len())));
    for row in &section.rows {
        let cells: Vec<String> = names.iter().map(|name| timed(row, name)).collect();
        let kuz = row.seconds("kuz");
        let ratio = row.best_other().zip(kuz).map_or_else(dash, |((_, best), kuz)| factor(best / kuz));
        let floor = row.floor.map_or_else(dash, seconds);
        let above = row.floor.zip(kuz).map_or_else(dash, |(floor, kuz)| factor(kuz / floor));
        put(text, &format!("| {} | {} | {ratio} | {floor} | {above} |", row.phase, cells.join(" | ")));
    }
    for (title, sums) in derived(section, &names) {
        let kuz = names.iter().position(|name| *name == "kuz").and_then(|at| sums[at]);
        let best = names.iter().zip(&sums).filter(|(name, _)| **name != "kuz").filter_map(|(_, sum)| *sum);
        let ratio = best.reduce(f64::min).zip(kuz).map_or_else(dash, |(best, kuz)| factor(best / kuz));
        let cells: Vec<String> = sums.iter().map(|sum| sum.map_or_else(dash, seconds)).collect();
        put(text, &format!("| *{title}* | {} | {ratio} | | |", cells.join(" | ")));
    }
    put(text, &format!("\n| CPU seconds; peak MB of client / daemon | {} |", names.join(" | ")));
    put(text, &format!("|---|{}", "---|".repeat(names.len())));
    for row in &section.rows {
        let cells: Vec<String> = names.iter().map(|name| resources(row, name)).collect();
        put(text, &format!("| {} | {} |", row.phase, cells.join(" | ")));
    }
    put(text, "");
    for floor in &section.floors {
        let figure = match (&floor.wall, &floor.failed) {
            (Some(wall), _) => format!("{} ({}–{})", seconds(wall.median), seconds(wall.min), seconds(wall.max)),
            (None, Some(reason)) => format!("failed: {reason}"),
            (None, None) => "not measured".into(),
        };
        put(text, &format!("- Floor, {}: {figure}.", floor.name));
    }
    for absent in &section.absent {
        put(text, &format!("- Not measured: {}: {}.", absent.name, absent.about));
    }
    let failures = section.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
    for (row, cell) in failures {
        if let Some(reason) = &cell.failed {
            put(text, &format!("- {} failed ({}): {}", cell.name, row.phase, reason.replace('|', "/")));
        }
    }
    put(text, "");
}

/// Rows that follow from others: what is left of a cold build without pip, and a build with its push.
fn derived(section: &Section, names: &[&str]) -> Vec<(&'static str, Vec<Option<f64>>)> {
    let row = |phase: &str| section.rows.iter().find(|row| row.phase == phase);
    let mut rows = Vec::new();
    let Some(cold) = row("cold") else { return rows };
    let pip = section.floors.iter().find(|floor| floor.name.starts_with("pip alone")).and_then(|floor| floor.wall);
    if let Some(pip) = pip {
        let less = |name: &&str| cold.seconds(name).map(|seconds| (seconds - pip.median).max(0.0));
        rows.push(("cold, less pip alone", names.iter().map(less).collect()));
    }
    if let Some(push) = row("push, empty registry") {
        let sum = |name: &&str| Some(cold.seconds(name)? + push.seconds(name)?);
        rows.push(("cold + push", names.iter().map(sum).collect()));
    }
    rows
}

fn timed(row: &Row, name: &str) -> String {
    let Some(cell) = row.cells.iter().find(|cell| cell.name == name) else { return dash() };
    let Some(wall) = cell.wall else { return if cell.failed.is_some() { "failed".into() } else { dash() } };
    let spread =
        if wall.count > 1 { format!(" ({}–{})", seconds(wall.min), seconds(wall.max)) } else { String::new() };
    let mark = match cell.noisy {
        0 => String::new(),
        noisy => format!(" ~{noisy}/{}", wall.count),
    };
    let strong = if name == "kuz" { "**" } else { "" };
    format!("{strong}{}{strong}{spread}{mark}", seconds(wall.median))
}

fn resources(row: &Row, name: &str) -> String {
    let Some(cell) = row.cells.iter().find(|cell| cell.name == name) else { return dash() };
    let Some(cpu) = cell.cpu else { return dash() };
    format!("{}; {}", seconds(cpu.median), memory(cell))
}

fn memory(cell: &Cell) -> String {
    let megabytes = |bytes: u64| (bytes / 100_000).div_ceil(10);
    match cell.daemon {
        0 => format!("{}", megabytes(cell.client)),
        daemon => format!("{} / {}", megabytes(cell.client), megabytes(daemon)),
    }
}

fn growth(text: &mut String, curves: &[Curve]) {
    put(text, "### How cost grows\n");
    put(
        text,
        "Cold and unchanged builds of kuz. The exponent k of seconds = c · size^k is fitted to the sizes from a \
         hundredth of the largest on, since a fixed cost hides the growth of small ones: 0 is independent, 1 linear.\n",
    );
    put(text, "| by | largest | cold there | exponent | no-op there | exponent | reading |");
    put(text, "|---|---|---|---|---|---|---|");
    for curve in curves {
        let line = |name: &str| curve.lines.iter().find(|line| line.name == name);
        let (Some(cold), Some(noop)) = (line("cold"), line("no-op")) else { continue };
        let last = |line: &Line| line.points.last().map_or_else(dash, |point| seconds(point.1));
        let slope = |line: &Line| exponent(&tail(&line.points));
        let shown = |slope: Option<f64>| slope.map_or_else(dash, |slope| format!("{slope:.2}"));
        let largest = cold.points.last().map_or_else(dash, |point| format!("{}", point.0));
        put(
            text,
            &format!(
                "| {} | {largest} | {} | {} | {} | {} | {} |",
                curve.axis,
                last(cold),
                shown(slope(cold)),
                last(noop),
                shown(slope(noop)),
                reading(slope(cold), slope(noop))
            ),
        );
    }
    put(text, "");
    for curve in curves {
        put(text, &format!("- {}: {} ({}).", curve.axis, curve.about, curve.day));
        for line in &curve.lines {
            if let Some(reason) = &line.failed {
                put(text, &format!("- **{} stopped {}**", curve.axis, reason.replace('|', "/")));
            }
        }
    }
    put(text, "");
}

fn reading(cold: Option<f64>, noop: Option<f64>) -> String {
    let word = |slope: Option<f64>| match slope {
        None => "unknown",
        Some(slope) if slope > STEEP => "**more than linear**",
        Some(slope) if slope > FLAT => "linear or less",
        Some(_) => "independent",
    };
    format!("cold {}, no-op {}", word(cold), word(noop))
}

/// How many readings others disturbed, of how many.
pub(super) fn disturbed(results: &Results) -> (usize, usize) {
    let cells = || results.workloads.iter().flat_map(|section| &section.rows).flat_map(|row| &row.cells);
    (cells().map(|cell| cell.noisy).sum(), cells().map(|cell| cell.readings.len()).sum())
}

/// What the marks mean.
pub(super) fn legend() -> String {
    format!("`~2/3`: in 2 of 3 runs others used more than {:.0} % of the machine", NOISY * 100.0)
}

fn factor(ratio: f64) -> String {
    if ratio >= 9.95 { format!("{ratio:.0}×") } else { format!("{ratio:.1}×") }
}

fn dash() -> String {
    "–".into()
}

fn put(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::clock::Reading;
    use super::super::measure;
    use super::super::results::{self, Named};
    use super::*;

    fn cell(name: &str, walls: &[f64], others: f64) -> Cell {
        let readings =
            walls.iter().map(|wall| Reading { wall: *wall, cpu: 0.5, client: 10_000_000, daemon: 0, others }).collect();
        results::cell(name, &measure::Series { readings, failed: None })
    }

    fn recipe() -> Section {
        let named = |name: &str| Named { name: name.into(), about: "1.0".into() };
        let row = |phase: &str, kuz: f64, docker: f64, others: f64, floor| Row {
            phase: phase.into(),
            cells: vec![cell("kuz", &[kuz], 0.0), cell("docker", &[docker, docker * 3.0, docker * 2.0], others)],
            floor,
        };
        Section {
            name: "recipe".into(),
            title: "Recipe".into(),
            builders: vec![named("kuz"), named("docker")],
            absent: vec![Named { name: "kaniko".into(), about: "not installed".into() }],
            rows: vec![row("cold", 8.0, 7.0, 0.0, None), row("no-op", 0.005, 0.05, 0.3, Some(0.001))],
            floors: vec![cell("pip alone, in a ready root", &[5.0], 0.0)],
            ..Section::default()
        }
    }

    #[test]
    fn the_table_has_medians_ratios_marks_and_reasons() {
        let text = markdown(&Results { workloads: vec![recipe()], growth: Vec::new() }, &[]);
        for part in [
            "| cold | **8.00 s** | 14.0 s (7.00 s–21.0 s) | 1.8× | – | – |",
            "| no-op | **5.0 ms** | 100 ms (50 ms–150 ms) ~3/3 | 20× | 1.0 ms | 5.0× |",
            "| *cold, less pip alone* | 3.00 s | 9.00 s | 3.0× | | |",
            "| cold | 500 ms; 10 | 500 ms; 10 |",
            "- Floor, pip alone, in a ready root: 5.00 s",
            "- Not measured: kaniko: not installed.",
        ] {
            assert!(text.contains(part), "{part}\n\n{text}");
        }
    }

    #[test]
    fn growth_beyond_linear_is_said_plainly() {
        let line = |name: &str, power: f64| Line {
            name: name.into(),
            points: [1.0, 10.0, 100.0].iter().map(|x: &f64| (*x, 0.01 * x.powf(power))).collect(),
            failed: None,
        };
        for (cold, noop, expected) in [
            (1.0, 0.0, "cold linear or less, no-op independent"),
            (1.5, 1.2, "cold **more than linear**, no-op **more than linear**"),
        ] {
            let curve =
                Curve { name: "x".into(), lines: vec![line("cold", cold), line("no-op", noop)], ..Curve::default() };
            let text = markdown(&Results { workloads: Vec::new(), growth: vec![curve] }, &[]);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn only_the_measured_part_of_the_document_is_replaced() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(into_document(&document, "new"), Some(format!("a\n{BEGIN}\n\nnew\n{END}\nb\n")));
        assert_eq!(into_document("a\n", "new"), None);
    }

    #[test]
    fn charts_are_of_what_was_measured() {
        let results =
            Results { workloads: vec![recipe()], growth: vec![Curve { name: "x".into(), ..Curve::default() }] };
        let charts = charts(&results);
        assert_eq!(charts.len(), 1, "an empty curve has no chart");
        assert!(charts[0].1.contains("recipe, no-op") && charts[0].1.contains(">floor<"), "{}", charts[0].1);
        assert_eq!(disturbed(&results), (3, 8));
    }
}
