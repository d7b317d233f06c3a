//! `cargo xtask bench`: how fast kuz is, beside every other builder that is installed and beside the machine's own floors.
//!
//! In: options. Out: tables, JSON and charts, in `target/bench` or a directory of one's own, and with `--write` in
//! `docs/benchmarks.md` and beside it. What is measured and how to read it is said there; what the parts do in `bench/`.
//!
//! ```text
//! options ─► room (a file system of its own) ─► bases' registry ─► builders that are here
//!              └► workloads × rounds × phases × builders, in turns ─► readings ─► results ─► tables, JSON, charts
//!              └► growth: kuz alone, size after size ────────────────────────────┘
//! ```

mod builders;
mod clock;
mod daemon;
mod flame;
mod floors;
mod gate;
mod growth;
mod interrupt;
mod machine;
mod measure;
mod options;
mod profile;
mod registry;
mod report;
mod results;
mod room;
mod statistics;
mod svg;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use self::builders::{Builder, Kuz, Site};
use self::clock::Clock;
use self::growth::Extent;
use self::measure::Bench;
use self::options::{GROWTH, Options};
use self::results::{Named, Results, Section};
use self::room::Room;
use crate::problem::Problem;
use crate::program::Workspace;
use crate::{Outcome, bases, say};

pub(crate) use self::options::Request;

/// Where a bench writes if nobody says otherwise, below cargo's target directory.
const FOLDER: &str = "bench";
const DOCUMENT: &str = "docs/benchmarks.md";
const BESIDE: &str = "docs/benchmarks";
const JSON: &str = "results.json";

/// The task.
pub(crate) fn run(request: &Request) -> Outcome {
    match request {
        Request::Clock(words) => clock::run(&words.iter().map(String::as_str).collect::<Vec<_>>()),
        Request::RenewGate => gate::renew(&Workspace::find()?),
        Request::Gate => gate::check(&Workspace::find()?),
        Request::Profile => profile::run(&Workspace::find()?),
        Request::Measure(options) => measure(options),
    }
}

fn measure(options: &Options) -> Outcome {
    let started = Instant::now();
    let workspace = Workspace::find()?;
    let kuz = bases::build_kuz(&workspace, true)?;
    let kuz = std::path::absolute(&kuz).map_err(Problem::file("find", kuz))?;
    let layouts = bases::make(&workspace, &kuz, false)?;
    interrupt::listen()?;
    let results = within_room(options, &workspace, &kuz, &layouts)?;
    let target = workspace.target.join(FOLDER).join("results");
    let folder = options.out.clone().unwrap_or(target);
    write(&results, &folder)?;
    if options.write {
        write_document(&results, &workspace)?;
    }
    let charts = report::charts(&results);
    println!("{}", report::markdown(&results, &charts));
    let (noisy, all) = report::disturbed(&results);
    println!("{}; {noisy} of {all} here.", report::legend());
    println!("{} s in all; {}", started.elapsed().as_secs(), folder.display());
    Ok(())
}

/// Everything that lies in the room ends with it: builders and their daemons first.
fn within_room(options: &Options, workspace: &Workspace, kuz: &Path, layouts: &Path) -> Outcome<Results> {
    let room = Room::open(&workspace.target.join(FOLDER))?;
    say(&format!("measuring in {} ({})", room.path.display(), room.about));
    let server = bases::serve(layouts)?;
    let site = Site { room: room.path.clone(), bases: server.address() };
    let clock = Clock::new(&room.path)?;
    let wanted = |name: &str| options.only.iter().any(|one| one == name);
    let mut results = Results::default();
    let workloads: Vec<&str> = workloads::NAMES.into_iter().filter(|name| wanted(name)).collect();
    if !workloads.is_empty() {
        let mut all: Vec<Box<dyn Builder>> = vec![Box::new(Kuz::new(kuz, &site, "kuz")?)];
        let (peers, absent) = builders::find(&site, &options.peers);
        all.extend(peers);
        for (name, reason) in &absent {
            say(&format!("not measured: {name}: {reason}"));
        }
        let bench = Bench { clock: &clock, room: &room, rounds: options.runs, likes: options.named };
        for name in workloads {
            let folder = room.path.join("contexts");
            let Some(workload) = workloads::make(name, &folder, workspace, options.quick)? else { continue };
            let floors = floors::of(&workload, &room, layouts)?;
            let measured = bench.measure(&mut all, &workload, &floors)?;
            let names: Vec<&str> = all.iter().map(|builder| builder.name()).collect();
            let section = results::section(&workload, &names, &floors, &measured);
            let (here, left_out): (Vec<_>, Vec<_>) =
                all.iter().partition(|one| bench.takes_part(one.as_ref(), &workload));
            let with = |name: &str, about: &str| Named { name: name.into(), about: about.into() };
            let builders = here.iter().map(|one| with(one.name(), &one.version())).collect();
            let left_out = left_out.iter().map(|one| with(one.name(), one.much_like().unwrap_or_default()));
            let absent = absent.iter().map(|(name, reason)| with(name, reason)).chain(left_out);
            results.workloads.push(Section {
                day: today(),
                machine: machine::describe(),
                room: format!("{}, pushes to {}", room.about, registry::kind()),
                builders,
                absent: absent.collect(),
                ..section
            });
            drop(fs::remove_dir_all(&workload.job.context));
        }
    }
    if wanted(GROWTH) {
        let extent = Extent { quick: options.quick, full: options.full };
        let mut curves = growth::curves(&clock, &room, kuz, &site, extent)?;
        for curve in &mut curves {
            curve.day = today();
        }
        results.growth = curves;
    }
    Ok(results)
}

fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// JSON, charts and tables in a directory.
fn write(results: &Results, folder: &Path) -> Outcome {
    fs::create_dir_all(folder).map_err(Problem::file("make", folder))?;
    let charts = report::charts(results);
    let tables = ("results.md".to_owned(), report::markdown(results, &charts));
    let json = (JSON.to_owned(), results.to_json()?);
    for (name, text) in charts.into_iter().chain([tables, json]) {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Problem::file("write", path))?;
    }
    Ok(())
}

/// The document's measured part and what lies beside it; parts that were not measured now stay as they were.
fn write_document(newer: &Results, workspace: &Workspace) -> Outcome {
    let beside = workspace.root.join(BESIDE);
    fs::create_dir_all(&beside).map_err(Problem::file("make", &beside))?;
    let json = beside.join(JSON);
    let mut results = Results::read(&json)?;
    results.renew(newer.clone());
    let charts = report::charts(&results);
    let document = workspace.root.join(DOCUMENT);
    let before = fs::read_to_string(&document).map_err(Problem::file("read", &document))?;
    let after = report::into_document(&before, &report::markdown(&results, &charts));
    let after = after.ok_or_else(|| Problem::Answer(format!("{DOCUMENT} has no measured part")))?;
    let files: Vec<(PathBuf, String)> = charts.into_iter().map(|(name, chart)| (beside.join(name), chart)).collect();
    for (path, text) in files.into_iter().chain([(json, results.to_json()?), (document, after)]) {
        fs::write(&path, text).map_err(Problem::file("write", path))?;
    }
    Ok(())
}
