//! `cargo xtask bench --profile`: where the time of a cold build of the recipe goes, as a flame graph.
//!
//! In: `perf` and `inferno-collapse-perf` on PATH, and a release program with symbols, made for it
//! (or named by `KUZ_PROGRAM`). Out: `docs/benchmarks/cold-build.svg`, and a table of what kuz itself spends, by kind of
//! work, in percent of all samples. What the step's own programs (pip) do is one line of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::builders::{Builder as _, Kuz, Site};
use super::room::Room;
use super::{BESIDE, FOLDER, workloads};
use crate::problem::Problem;
use crate::program::{self, Workspace, cargo, command};
use crate::{Outcome, bases, say};

/// Samples a second: a prime, so that nothing periodic hides between them.
const FREQUENCY: &str = "997";
/// Bytes of stack that are kept with a sample.
const STACK: &str = "dwarf,16384";
const SVG: &str = "cold-build.svg";
/// Functions of kuz itself that are named, in percent of all samples.
const NAMED: f64 = 1.0;
/// How kuz's own processes call themselves; everything else belongs to the step.
const OWN: [&str; 7] = ["kuz", "exe", "request", "memfd:kuz-init", "facts", "tokio-rt-worker", "tokio-runtime-w"];
/// Kinds of work by what a frame's name contains; the first that matches any frame of a stack, from its leaf.
const KINDS: [(&str, &[&str]); 5] = [
    ("gunzip", &["inflate", "zlib_rs", "libz_rs", "crc32"]),
    ("sha256", &["sha256", "sha2::", "sha2_"]),
    ("write", &["sys_write", "sys_pwrite", "sys_splice", "sys_copy_file_range", "generic_perform_write", "shmem_"]),
    ("blake3", &["blake3"]),
    ("verify", &["kuz_verify", "ruff_", "aho_corasick", "regex_automata"]),
];

/// The task.
pub(super) fn run(workspace: &Workspace) -> Outcome {
    let tool = |name: &str, mend: &str| {
        let missing = || Problem::Missing { what: format!("{name} is not installed"), mend: mend.into() };
        program::find(name).ok_or_else(missing)
    };
    let perf = tool("perf", "Debian's package linux-perf")?;
    let collapse = tool("inferno-collapse-perf", "cargo install inferno")?;
    let kuz = build(workspace)?;
    let layouts = bases::make(workspace, &kuz, false)?;
    let room = Room::open(&workspace.target.join(FOLDER))?;
    let server = bases::serve(&layouts)?;
    let site = Site { room: room.path.clone(), bases: server.address() };
    let mut builder = Kuz::new(&kuz, &site, "kuz")?;
    let made = workloads::make("recipe", &room.path.join("contexts"), workspace, false)?;
    let workload = made.ok_or_else(|| Problem::Answer("there is no recipe".into()))?;
    builder.reset()?;
    say("recording a cold build of the recipe");
    let samples = room.path.join("perf.data");
    let build = builder.build(&workload.job);
    let mut record = command(&perf, ["record", "--quiet", "-F", FREQUENCY, "-e", "cpu-clock", "--call-graph", STACK]);
    record.arg("-o").arg(&samples).arg("--").arg(build.get_program()).args(build.get_args());
    record.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    program::run(record.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let folded = fold(&perf, &collapse, &samples, &room.path)?;
    let text = fs::read_to_string(&folded).map_err(Problem::file("read", &folded))?;
    let beside = workspace.root.join(BESIDE);
    fs::create_dir_all(&beside).map_err(Problem::file("make", &beside))?;
    let svg = beside.join(SVG);
    let picture = super::flame::draw(&text, "Cold build of the recipe");
    fs::write(&svg, picture).map_err(Problem::file("write", &svg))?;
    print(&text);
    say(&svg.display().to_string());
    Ok(())
}

/// A release program with symbols, in a directory of its own.
fn build(workspace: &Workspace) -> Outcome<PathBuf> {
    if let Some(program) = std::env::var_os("KUZ_PROGRAM").filter(|value| !value.is_empty()) {
        return Ok(program.into());
    }
    say("building kuz (release, with symbols)");
    let target = workspace.target.join(FOLDER).join("profiled");
    let mut command = cargo();
    command.args(["build", "--locked", "--release", "--package=kuz"]).arg("--target-dir").arg(&target);
    command.env("CARGO_PROFILE_RELEASE_STRIP", "none").env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    program::run(&mut command)?;
    Ok(target.join("release/kuz"))
}

/// Samples to lines of `frame;frame;frame count`.
fn fold(perf: &Path, collapse: &Path, samples: &Path, folder: &Path) -> Outcome<PathBuf> {
    let (script, stacks) = (folder.join("perf.txt"), folder.join("perf.folded"));
    let create = |path: &PathBuf| File::create(path).map_err(Problem::file("write", path));
    let mut list = command(perf, ["script", "--no-inline", "-i"]);
    program::run(list.arg(samples).stdout(create(&script)?).stderr(Stdio::null()))?;
    program::run(command(collapse, [&script]).stdout(create(&stacks)?).stderr(Stdio::null()))?;
    Ok(stacks)
}

/// Shares of all samples, in percent.
#[derive(Debug, Default, PartialEq)]
struct Shares {
    kinds: BTreeMap<&'static str, f64>,
    /// What kuz spends on something else, by function.
    other: BTreeMap<String, f64>,
}

impl Shares {
    fn of(folded: &str) -> Self {
        let mut shares = Self::default();
        let lines: Vec<(Vec<&str>, f64)> = folded.lines().filter_map(parse).collect();
        let all: f64 = lines.iter().map(|(_, count)| count).sum();
        for (frames, count) in lines {
            let share = 100.0 * count / all.max(1.0);
            let own = frames.first().is_some_and(|comm| OWN.contains(comm));
            let kind = if own { kind(&frames) } else { Some("the step's programs") };
            if let Some(kind) = kind {
                *shares.kinds.entry(kind).or_default() += share;
            } else {
                let leaf = frames.last().copied().unwrap_or_default().to_owned();
                *shares.other.entry(leaf).or_default() += share;
            }
        }
        shares
    }
}

fn parse(line: &str) -> Option<(Vec<&str>, f64)> {
    let (frames, count) = line.rsplit_once(' ')?;
    Some((frames.split(';').collect(), count.parse().ok()?))
}

fn kind(frames: &[&str]) -> Option<&'static str> {
    frames.iter().skip(1).rev().find_map(|frame| {
        let named = |(_, parts): &&(&str, &[&str])| parts.iter().any(|part| frame.contains(part));
        KINDS.iter().find(named).map(|(kind, _)| *kind)
    })
}

fn print(folded: &str) {
    let shares = Shares::of(folded);
    println!("| work | % of all samples |\n|---|---|");
    let mut kinds: Vec<_> = shares.kinds.iter().collect();
    kinds.sort_by(|one, two| two.1.total_cmp(one.1));
    for (kind, share) in kinds {
        println!("| {kind} | {share:.1} |");
    }
    println!("| everything else in kuz, with the kernel's work for it | {:.1} |", shares.other.values().sum::<f64>());
    let mut other: Vec<_> = shares.other.iter().filter(|(_, share)| **share >= NAMED).collect();
    other.sort_by(|one, two| two.1.total_cmp(one.1));
    for (function, share) in other {
        println!("| … in `{function}` | {share:.1} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_apart_by_process_and_work() {
        let folded = "kuz;main;inflate_fast 50\nkuz;main;sha256_compress 20\npip;main;sha256_update 10\n\
                      kuz;write_all;__x64_sys_write;copy 10\nexe;fork_thing 10\nnonsense\n";
        let shares = Shares::of(folded);
        let kinds = [("gunzip", 50.0), ("sha256", 20.0), ("the step's programs", 10.0), ("write", 10.0)];
        assert_eq!(shares.kinds, kinds.into());
        assert_eq!(shares.other, [("fork_thing".to_owned(), 10.0)].into());
    }
}
