//! The gate against getting slower: how many instructions two small builds take, and how many system calls.
//!
//! In: the release program. Out: counts, kept in `bench/instructions.json`; a test compares. Instructions are counted and
//! not timed, so a busy machine changes nothing. The build copies a few files into an empty base and runs no command: it
//! needs no network, and what it does is the same each time. A processor with other vector instructions may count a
//! little differently, another architecture quite differently: the file says for which one it was made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::problem::Problem;
use crate::program::{self, Workspace};
use crate::{Outcome, bases, say};

/// How much a count may differ from the kept one. Smaller changes come and go with a compiler's mood.
const TOLERANCE: f64 = 0.15;
/// Files of the context, beside the one that is edited.
const FILES: usize = 20;
const DOCKERFILE: &str = "\
FROM scratch
ENV PATH=/bin LANG=C
WORKDIR /app
COPY tree ./tree
COPY main.py .
EXPOSE 8000
CMD [\"/bin/app\"]
";
/// Older than any rule that distrusts files that were changed just now.
const AGE: Duration = Duration::from_hours(24);
/// Where the counts are kept.
const KEPT: &str = "bench/instructions.json";

/// valgrind's words about a call that it can't pass on.
const UNHANDLED: &str = "unhandled";
const MEND: &str = "if it is meant: cargo xtask bench --renew-gate";

/// The kept counts.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    about: String,
    architecture: String,
    tolerance: f64,
    instructions: BTreeMap<String, u64>,
    system_calls: BTreeMap<String, u64>,
}

/// A context, a store and the program, all in a directory of their own.
#[derive(Debug)]
struct Fixture {
    folder: TempDir,
    program: PathBuf,
}

/// Why the gate can't be held here.
type Missing = String;

/// Counts anew and keeps the counts.
pub(super) fn renew(workspace: &Workspace) -> Outcome {
    let program = bases::build_kuz(workspace, true)?;
    let counted = count(&program)?;
    let text = serde_json::to_string_pretty(&counted).map_err(|error| Problem::Answer(error.to_string()))?;
    let path = workspace.root.join(KEPT);
    fs::write(&path, text + "\n").map_err(Problem::file("write", &path))?;
    for (name, number) in &counted.instructions {
        say(&format!("{name}: {number} instructions, {} system calls", counted.system_calls[name]));
    }
    Ok(())
}

/// Counts and compares, with a release program that is made for it.
pub(super) fn check(workspace: &Workspace) -> Outcome {
    let program = bases::build_kuz(workspace, true)?;
    let counted = count(&program)?;
    let kept = Kept::read(workspace)?;
    let mut found = differences("instructions", kept.tolerance, &kept.instructions, &counted.instructions);
    found.extend(differences("system calls", kept.tolerance, &kept.system_calls, &counted.system_calls));
    for (name, number) in &counted.instructions {
        say(&format!("{name}: {number} instructions, {} system calls", counted.system_calls[name]));
    }
    if found.is_empty() { Ok(()) } else { Err(Problem::Failed(format!("{}\n{MEND}", found.join("\n")))) }
}

impl Kept {
    fn read(workspace: &Workspace) -> Outcome<Self> {
        let path = workspace.root.join(KEPT);
        let bytes = fs::read(&path).map_err(Problem::file("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| Problem::Answer(format!("{KEPT}: {error}")))
    }
}

/// Counts of both builds, or why they can't be counted here.
type Counted = Outcome<Result<BTreeMap<String, u64>, Missing>>;

/// A build with nothing changed and one with a file edited, in a store that knows them.
fn counts(program: &Path, of_build: impl Fn(&Fixture) -> Outcome<Result<u64, Missing>>) -> Counted {
    let fixture = Fixture::new(program)?;
    // The first fills the store; the second finds everything and may note that files are old enough to be trusted.
    for _ in 0..2 {
        program::read(&mut fixture.build(&[]))?;
    }
    let mut found = BTreeMap::new();
    for name in ["no-op", "edit"] {
        if name == "edit" {
            fixture.edit(1)?;
        }
        match of_build(&fixture)? {
            Ok(number) => drop(found.insert(name.to_owned(), number)),
            Err(missing) => return Ok(Err(missing)),
        }
    }
    Ok(Ok(found))
}

fn instructions(program: &Path) -> Counted {
    counts(program, Fixture::instructions)
}

fn system_calls(program: &Path) -> Counted {
    if program::find("strace").is_none() {
        return Ok(Err("strace is not installed".into()));
    }
    counts(program, |fixture| fixture.system_calls().map(Ok))
}

/// Everything that is kept; nothing less will do.
fn count(program: &Path) -> Outcome<Kept> {
    let needed = |counted: Result<BTreeMap<String, u64>, Missing>| {
        counted.map_err(|what| Problem::Missing { what, mend: "install it, or name it".into() })
    };
    Ok(Kept {
        about:
            "what `cargo xtask bench --renew-gate` counted: a build with nothing changed, and one with a file edited"
                .into(),
        architecture: std::env::consts::ARCH.into(),
        tolerance: TOLERANCE,
        instructions: needed(instructions(program)?)?,
        system_calls: needed(system_calls(program)?)?,
    })
}

impl Fixture {
    fn new(program: &Path) -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Problem::file("make", std::env::temp_dir()))?;
        let tree = folder.path().join("context/tree");
        fs::create_dir_all(&tree).map_err(Problem::file("make", &tree))?;
        let program = std::path::absolute(program).map_err(Problem::file("find", program))?;
        let fixture = Self { folder, program };
        for number in 0..FILES {
            fixture.write(&format!("tree/f{number}"), &format!("file {number}\n").repeat(20), AGE)?;
        }
        fixture.write("Dockerfile", DOCKERFILE, AGE)?;
        let config = fixture.folder.path().join("kuz.toml");
        fs::write(&config, "").map_err(Problem::file("write", config))?;
        fixture.edit(0)?;
        Ok(fixture)
    }

    /// A file of the context with this age.
    fn write(&self, name: &str, text: &str, age: Duration) -> Outcome {
        let path = self.folder.path().join("context").join(name);
        fs::write(&path, text).map_err(Problem::file("write", &path))?;
        let file = File::options().write(true).open(&path).map_err(Problem::file("write", &path))?;
        file.set_modified(SystemTime::now() - age).map_err(Problem::file("write", path))
    }

    fn edit(&self, number: u32) -> Outcome {
        self.write("main.py", &format!("print({number})\n"), AGE / (number + 2))
    }

    /// `kuz build`, started by the given words.
    fn build(&self, words: &[&str]) -> Command {
        let own = self.program.to_string_lossy().into_owned();
        let mut words = words.iter().copied().chain([own.as_str(), "build", "--quiet", "-t", "gate", "context"]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Where a valgrind that lies in a place of its own finds its parts.
        command.envs(std::env::var_os("VALGRIND_LIB").map(|parts| ("VALGRIND_LIB", parts)));
        command.env("HOME", self.folder.path()).env("KUZ_STORE", self.folder.path().join("store"));
        command.env("KUZ_CONFIG", self.folder.path().join("kuz.toml"));
        command
    }

    /// All of one build, or why this valgrind can't count it.
    fn instructions(&self) -> Outcome<Result<u64, Missing>> {
        let Some(valgrind) = valgrind() else { return Ok(Err("valgrind is not installed".into())) };
        let log = self.folder.path().join("valgrind.log");
        let log_option = format!("--log-file={}", log.display());
        let valgrind = valgrind.to_string_lossy().into_owned();
        let words = [valgrind.as_str(), "--tool=callgrind", "--callgrind-out-file=/dev/null", &log_option];
        let output = self.build(&words).stderr(Stdio::null()).output();
        let output = output.map_err(|source| Problem::Start { program: valgrind.clone(), source })?;
        let text = fs::read_to_string(&log).map_err(Problem::file("read", &log))?;
        if text.contains(UNHANDLED) {
            return Ok(Err(
                "this valgrind does not know the program's system calls (3.24 does; VALGRIND names one)".into()
            ));
        }
        let count = collected(&text).filter(|_| output.status.success());
        count.map(Ok).ok_or_else(|| Problem::Answer(format!("callgrind counted nothing: {text}")))
    }

    fn system_calls(&self) -> Outcome<u64> {
        let summary = self.folder.path().join("strace.txt");
        let file = summary.to_string_lossy().into_owned();
        program::read(&mut self.build(&["strace", "-c", "-f", "-o", &file]))?;
        let text = fs::read_to_string(&summary).map_err(Problem::file("read", &summary))?;
        total_calls(&text).ok_or_else(|| Problem::Answer(format!("strace counted nothing: {text}")))
    }
}

/// By variable or on PATH.
fn valgrind() -> Option<PathBuf> {
    let named = std::env::var_os("VALGRIND").filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(|| program::find("valgrind"))
}

/// The number in callgrind's last words.
fn collected(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

/// The number of calls in the last line of `strace -c`.
fn total_calls(summary: &str) -> Option<u64> {
    let line = summary.lines().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// What differs by more than the tolerance.
fn differences(what: &str, tolerance: f64, kept: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<String> {
    #[expect(clippy::cast_precision_loss, reason = "counts of a second's work")]
    let float = |number: u64| number as f64;
    let mut found = Vec::new();
    for (name, before) in kept {
        let number = now.get(name).copied().unwrap_or_default();
        let ratio = float(number) / float(*before).max(1.0);
        if (ratio - 1.0).abs() > tolerance {
            let percent = (ratio - 1.0) * 100.0;
            found.push(format!("{name}: {number} {what}, {before} are kept ({percent:+.0} %)"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::ops::Not as _;

    use super::*;

    /// The release program, if it is there and newer than what it is made of.
    fn release_program(workspace: &Workspace) -> Result<PathBuf, Missing> {
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let program = workspace.target.join(host).join("release/kuz");
        let missing = |_| "no release program: `cargo xtask release` makes it".to_owned();
        let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let built = time(&program).map_err(missing)?;
        let sources = fs::read_to_string(program.with_extension("d")).map_err(missing)?;
        match sources_in(&sources).iter().find(|source| time(source).is_ok_and(|changed| changed <= built).not()) {
            None => Ok(program),
            Some(source) => {
                let name = source.strip_prefix(&workspace.root).unwrap_or(source).display();
                Err(format!("the release program is older than {name}: `cargo xtask release` makes it anew"))
            }
        }
    }

    /// What cargo says that a program is made of: `PROGRAM: SOURCE…`, with blanks in names escaped.
    fn sources_in(text: &str) -> Vec<PathBuf> {
        let sources = text.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
        let names = sources.replace("\\ ", "\0");
        names.split(' ').filter(|name| !name.is_empty()).map(|name| name.replace('\0', " ").into()).collect()
    }

    /// Compares one kind of count, or says why not.
    fn hold(what: &str, of: fn(&Kept) -> &BTreeMap<String, u64>, count: fn(&Path) -> Counted) {
        let workspace = Workspace::find().unwrap();
        let skip = |reason: &str| eprintln!("skipped: {reason}");
        let kept = Kept::read(&workspace).unwrap();
        assert_eq!(of(&kept).len(), 2, "both builds are kept");
        if kept.architecture != std::env::consts::ARCH {
            return skip(&format!("the counts are kept for {}", kept.architecture));
        }
        let program = match release_program(&workspace) {
            Ok(program) => program,
            Err(reason) => return skip(&reason),
        };
        match count(&program).unwrap() {
            Err(reason) => skip(&reason),
            Ok(counted) => {
                let found = differences(what, kept.tolerance, of(&kept), &counted);
                assert!(found.is_empty(), "{}\n{MEND}", found.join("\n"));
            }
        }
    }

    #[test]
    fn builds_take_as_many_instructions_as_are_kept() {
        hold("instructions", |kept| &kept.instructions, instructions);
    }

    #[test]
    fn builds_make_as_many_system_calls_as_are_kept() {
        hold("system calls", |kept| &kept.system_calls, system_calls);
    }

    #[test]
    fn counts_are_read_from_what_the_programs_print() {
        let log = "==7== Events    : Ir\n==7== Collected : 18293\n==7==\n";
        assert_eq!(collected(log), Some(18_293));
        assert_eq!(collected("==7== killed\n"), None);
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n 50.00    0.000100           1       100        20 openat\n------ ----------- ----------- --------- --------- ----------------\n100.00    0.000200           1       150        21 total\n";
        assert_eq!(total_calls(summary), Some(150));
        assert_eq!(total_calls(""), None);
    }

    #[test]
    fn a_count_beyond_the_tolerance_is_found_both_ways() {
        let counts = |number: u64| BTreeMap::from([("no-op".to_owned(), number)]);
        for (now, expected) in [(1000, 0), (1149, 0), (851, 0), (1160, 1), (840, 1), (0, 1)] {
            assert_eq!(differences("x", TOLERANCE, &counts(1000), &counts(now)).len(), expected, "{now}");
        }
        assert_eq!(differences("x", TOLERANCE, &counts(1000), &BTreeMap::new()).len(), 1, "a count that is missing");
    }

    #[test]
    fn sources_are_read_from_what_cargo_writes() {
        for (text, expected) in [
            ("/t/kuz: /a/lib.rs /b/x.rs\n", vec!["/a/lib.rs", "/b/x.rs"]),
            ("/t/kuz: /a\\ b/lib.rs\n", vec!["/a b/lib.rs"]),
            ("", vec![]),
        ] {
            assert_eq!(sources_in(text), expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{text}");
        }
    }
}
