//! The builders that are compared: kuz, and every other one that is installed.
//!
//! In: the bench's room and the registry of the base images. Out: builders that can be asked for a build, a push, and to
//! forget everything; or why one is absent. Each keeps all it stores in the room. None is configured to be slower than
//! its defaults; RUN uses the machine's network in all of them.

mod buildah;
mod buildkit;
mod docker;
mod kaniko;
mod kuz;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::problem::Problem;
use crate::program;

pub(super) use self::kuz::Kuz;

/// Names that `--peers=` takes, in the order of the report.
pub(super) const PEERS: [&str; 5] = ["docker", "buildkit", "buildah", "podman", "kaniko"];

/// What is to be built.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) context: PathBuf,
    pub(super) dockerfile: PathBuf,
    pub(super) tag: String,
    /// Every step anew, with the base at hand.
    pub(super) no_cache: bool,
}

/// A builder that can be measured.
pub(super) trait Builder {
    fn name(&self) -> &'static str;
    fn version(&self) -> String;
    /// Its own programs, whose memory is counted.
    fn programs(&self) -> &'static [&'static str];
    /// The daemons that work for it.
    fn daemons(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Why only what tells it from another builder is measured, unless it is asked for by name.
    fn much_like(&self) -> Option<&'static str> {
        None
    }
    /// Whether a second build can find anything of the first.
    fn caches(&self) -> bool {
        true
    }
    /// Forgets every image and everything cached.
    fn reset(&mut self) -> Outcome;
    /// Builds and keeps the image.
    fn build(&self, job: &Job) -> Command;
    /// Pushes a built image to HOST:PORT; none for a builder that only pushes while it builds.
    fn push(&self, job: &Job, host: &str) -> Outcome<Option<Command>>;
}

/// Where a builder may put its things and where bases come from.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) room: PathBuf,
    pub(super) bases: SocketAddr,
}

impl Site {
    /// A directory of this builder's own.
    fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.room.join(name);
        std::fs::create_dir_all(&folder).map_err(Problem::file("make", &folder))?;
        Ok(folder)
    }
}

/// A builder's name and why it is not measured.
pub(super) type Absent = (&'static str, String);

/// The peers that were asked for: those that are here, and why the others are not.
pub(super) fn find(site: &Site, wanted: &[String]) -> (Vec<Box<dyn Builder>>, Vec<Absent>) {
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for name in PEERS {
        if !wanted.iter().any(|one| one == name) {
            absent.push((name, "not asked for".to_owned()));
            continue;
        }
        let started: Outcome<Box<dyn Builder>> = match name {
            "docker" => docker::Docker::start(site).map(|one| Box::new(one) as _),
            "buildkit" => buildkit::Buildkit::start(site).map(|one| Box::new(one) as _),
            "kaniko" => kaniko::Kaniko::find(site).map(|one| Box::new(one) as _),
            _ => buildah::Buildah::find(name, site).map(|one| Box::new(one) as _),
        };
        match started {
            Ok(builder) => found.push(builder),
            Err(problem) => absent.push((name, first_line(&problem))),
        }
    }
    (found, absent)
}

fn first_line(problem: &Problem) -> String {
    match problem {
        Problem::Missing { what, .. } => what.clone(),
        other => other.to_string(),
    }
}

fn missing(what: impl Into<String>, mend: &str) -> Problem {
    Problem::Missing { what: what.into(), mend: mend.into() }
}

/// A program by variable or on PATH.
fn locate(variable: &str, name: &str) -> Outcome<PathBuf> {
    let named = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(|| program::find(name)).ok_or_else(|| missing(format!("{name} is not installed"), variable))
}

/// Root only: a daemon with storage of its own, mounts, namespaces.
fn require_root(name: &str) -> Outcome {
    if program::is_root() { Ok(()) } else { Err(missing(format!("{name} is measured as root only"), "run as root")) }
}

/// What a program says of its version: the first word with a digit and a dot.
fn version_of(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    version_in(&text)
}

fn version_in(text: &str) -> String {
    let is_version = |word: &&str| word.contains('.') && word.contains(|letter: char| letter.is_ascii_digit());
    let word = text.split([' ', '\n', ',', '"']).find(is_version).unwrap_or("?");
    word.trim_start_matches('v').to_owned()
}

/// Runs something that is not measured, without its output.
fn quietly(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output();
    let program = command.get_program().to_string_lossy().into_owned();
    let output = output.map_err(|source| Problem::Start { program: program.clone(), source })?;
    super::interrupt::check()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Problem::Answer(format!("{program}: {}: {}", output.status, said.lines().next_back().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_programs_say() {
        for (text, expected) in [
            ("Docker version 20.10.24+dfsg1, build 297e128\n", "20.10.24+dfsg1"),
            ("buildah version 1.28.2 (image-spec 1.1.0-rc2)", "1.28.2"),
            ("buildctl github.com/moby/buildkit v0.32.2 991535e", "0.32.2"),
            ("kuz 0.1.0\n", "0.1.0"),
            ("", "?"),
        ] {
            // A module's path has a dot and no digit.
            assert_eq!(version_in(text), expected, "{text}");
        }
    }
}
