//! One case: its images built by the program, and the verdict.
//!
//! In: a case and the workshop (program, configuration, directory). Out: a [`Verdict`]. Every case has a store and a
//! directory of its own, both gone afterwards. The program gets a fixed environment and a time limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::case::{Build, Case};
use super::image::Decoded;
use super::{compare, place};
use crate::Outcome;
use crate::problem::Problem;

/// A build that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(2);
/// The end of the program's messages that is shown.
const SHOWN: usize = 300;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As expected.
    Passed,
    /// It fails as expected, in words of its own.
    OtherWords(String),
    /// Something is not as expected.
    Failed(String),
    /// The program refuses, and says that it cannot do this yet.
    Unsupported(String),
    /// Could not be tried here.
    Skipped(String),
}

/// What all cases are built with.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) program: PathBuf,
    /// `kuz.toml`
    pub(super) config: PathBuf,
    /// Directories of cases are made here.
    pub(super) room: PathBuf,
    pub(super) decoded: Decoded,
    /// Why there is no base image, if there is none.
    pub(super) no_base: Option<String>,
}

/// A case on its way.
struct Attempt<'a> {
    workshop: &'a Workshop,
    case: &'a Case,
    room: &'a Path,
}

impl Workshop {
    /// Builds and judges.
    pub(super) fn judge(&self, case: &Case) -> Outcome<Verdict> {
        let uses_base = case.base != "scratch" || !case.prebuild.is_empty();
        if let (true, Some(reason)) = (uses_base, &self.no_base) {
            return Ok(Verdict::Skipped(reason.clone()));
        }
        let room = tempfile::Builder::new().prefix("case-").tempdir_in(&self.room);
        let room = room.map_err(Problem::file("make a directory in", &self.room))?;
        let attempt = Attempt { workshop: self, case, room: room.path() };
        // What is wrong with one case says nothing about the others.
        let verdict = attempt.verdict().unwrap_or_else(|problem| Verdict::Failed(chain(&problem)));
        attempt.clear();
        Ok(verdict)
    }
}

impl Attempt<'_> {
    fn verdict(&self) -> Outcome<Verdict> {
        let case = self.case;
        for (number, pre) in case.prebuild.iter().enumerate() {
            let context = self.room.join(format!("pre{number}"));
            place::context(&case.folder.join(&pre.ctx), &context, &[])?;
            let output =
                self.kuz(Command::new(&self.workshop.program).args(["build", "-t", &pre.name]).arg(&context))?;
            let Some(output) = output else { return Ok(Verdict::Failed(format!("`{}` hangs", pre.name))) };
            if !output.status.success() {
                let said = said(&output);
                let about = format!("`{}`, which is built first: {}", pre.name, tail(&said));
                return Ok(unsupported(&said).unwrap_or(Verdict::Failed(about)));
            }
        }
        let context = self.room.join("ctx");
        place::context(&case.folder.join("ctx"), &context, &case.ctx_ops)?;
        let layout = self.room.join("layout");
        let mut command = self.command(&context, &layout)?;
        let Some(output) = self.kuz(&mut command)? else {
            return Ok(Verdict::Failed(format!("no end after {} seconds", LIMIT.as_secs())));
        };
        let said = said(&output);
        if let (false, Some(verdict)) = (output.status.success(), unsupported(&said)) {
            return Ok(verdict);
        }
        Ok(match (case.expect.success, output.status.success()) {
            (true, true) => match self.workshop.decoded.image(&layout) {
                Ok(image) => verdict_of(&compare::differences(&image, case, &context)),
                Err(error) => Verdict::Failed(format!("the image cannot be read: {error}")),
            },
            (true, false) => Verdict::Failed(format!("{}: {}", output.status, tail(&said))),
            (false, true) => Verdict::Failed("is built, but must not be".into()),
            (false, false) => failure(case, &said),
        })
    }

    fn command(&self, context: &Path, layout: &Path) -> Outcome<Command> {
        let Self { case, room, .. } = self;
        let Build { dockerfile, dockerfile_outside_ctx, build_args, target, platform, secrets, flags, named_contexts } =
            &case.build;
        let mut command = Command::new(&self.workshop.program);
        command.args(["build", "--progress=plain", "-t", "case"]);
        if dockerfile.is_some() || *dockerfile_outside_ctx {
            let folder = if *dockerfile_outside_ctx { &case.folder } else { context };
            command.arg("-f").arg(folder.join(dockerfile.as_deref().unwrap_or("Dockerfile")));
        }
        command.arg("-o").arg(format!("type=oci,tar=false,dest={}", layout.display()));
        for (name, value) in build_args {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        command.args(target.iter().flat_map(|target| ["--target", target]));
        command.args(platform.iter().flat_map(|platform| ["--platform", platform]));
        for secret in secrets {
            let path = room.join(format!("secret-{}", secret.id));
            fs::write(&path, &secret.value).map_err(Problem::file("write", &path))?;
            command.arg("--secret").arg(format!("id={},src={}", secret.id, path.display()));
        }
        for (name, value) in flags {
            match value {
                serde_json::Value::Object(map) => {
                    for (key, value) in map {
                        let option = format!("--{}", name.strip_suffix('s').unwrap_or(name));
                        command.arg(option).arg(format!("{key}={}", value.as_str().unwrap_or_default()));
                    }
                }
                value => {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    command.arg(format!("--{name}")).arg(text);
                }
            }
        }
        for (name, named) in named_contexts {
            let value = match (&named.dir, &named.image) {
                (Some(dir), _) => {
                    let path = room.join("named").join(name);
                    place::context(&case.folder.join(dir), &path, &named.ctx_ops)?;
                    path.display().to_string()
                }
                (None, image) => format!("docker-image://{}", image.as_deref().unwrap_or_default()),
            };
            command.arg("--build-context").arg(format!("{name}={value}"));
        }
        command.arg(context);
        Ok(command)
    }

    /// Runs the program; `None`: it had to be killed.
    fn kuz(&self, command: &mut Command) -> Outcome<Option<Output>> {
        command
            .current_dir(self.room)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.room.join("home"))
            .env("KUZ_CONFIG", &self.workshop.config)
            .env("KUZ_STORE", self.room.join("store"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let program = || self.workshop.program.display().to_string();
        let child = command.spawn().map_err(|source| Problem::Start { program: program(), source })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (sender, receiver) = mpsc::channel();
        // Nobody listens any more once the time is up.
        std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
        if let Ok(output) = receiver.recv_timeout(LIMIT) {
            return output.map(Some).map_err(|source| Problem::Start { program: program(), source });
        }
        if let Some(pid) = pid {
            // It may have ended this moment.
            let _ = kill_process(pid, Signal::KILL);
        }
        Ok(None)
    }

    /// Trees in a store belong to ids that an ordinary user cannot remove; the program can.
    fn clear(&self) {
        if !crate::program::is_root() {
            // What is left is a directory among temporary files.
            drop(self.kuz(Command::new(&self.workshop.program).args(["image", "rm", "case"])));
            drop(self.kuz(Command::new(&self.workshop.program).args(["store", "prune", "--all"])));
        }
    }
}

fn chain(problem: &Problem) -> String {
    let causes = std::iter::successors(std::error::Error::source(problem), |cause| cause.source());
    causes.fold(problem.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn verdict_of(differences: &[String]) -> Verdict {
    if differences.is_empty() { Verdict::Passed } else { Verdict::Failed(differences.join("; ")) }
}

/// It must fail, and does: lines are asserted, other words are not.
fn failure(case: &Case, said: &str) -> Verdict {
    let expect = &case.expect;
    let name = case.build.dockerfile.as_deref().unwrap_or("Dockerfile");
    if !expect.error_lines.is_empty() && !expect.error_lines.iter().any(|line| names_line(said, name, *line)) {
        return Verdict::Failed(format!("the error names none of the lines {:?}: {}", expect.error_lines, tail(said)));
    }
    match expect.error_contains.iter().find(|part| !said.contains(part.as_str())) {
        None => Verdict::Passed,
        Some(part) => Verdict::OtherWords(format!("{part:?} is not in: {}", tail(said))),
    }
}

/// Whether a message has `Dockerfile:LINE`.
fn names_line(said: &str, file: &str, line: usize) -> bool {
    let file = format!("{file}:");
    said.match_indices(&file).any(|(at, _)| {
        let digits = said.get(at + file.len()..).unwrap_or_default();
        let end = digits.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(digits.len());
        digits.get(..end).is_some_and(|digits| digits.parse() == Ok(line))
    })
}

/// What the program cannot do yet, in its own words: a step, or a flag that it does not know.
fn unsupported(said: &str) -> Option<Verdict> {
    let steps: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_once(" is not supported yet")?.0.rsplit_once("error[NotSupportedYet]: "))
        .map(|(_, what)| what)
        .collect();
    let flag = said.lines().find_map(|line| line.strip_prefix("error: unexpected argument '")?.split('\'').next());
    let mut all: Vec<&str> = steps.into_iter().chain(flag).collect();
    all.sort_unstable();
    all.dedup();
    (!all.is_empty()).then(|| Verdict::Unsupported(all.join(", ")))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// The last words, on one line.
fn tail(said: &str) -> String {
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let skip = line.chars().count().saturating_sub(SHOWN);
    let cut: String = line.chars().skip(skip).collect();
    if skip > 0 { format!("…{cut}") } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_behind_the_file_name() {
        let said = "error: no\n  --> a/Dockerfile.x:12:3\n";
        assert!(names_line(said, "Dockerfile.x", 12));
        for (file, line) in [("Dockerfile.x", 1), ("Dockerfile.x", 2), ("Dockerfile", 12)] {
            assert!(!names_line(said, file, line), "{file} {line}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_told_from_what_is_wrong() {
        let refused = "error[NotSupportedYet]: `RUN --mount` is not supported yet\n --> Dockerfile:2:1";
        assert_eq!(unsupported(refused), Some(Verdict::Unsupported("`RUN --mount`".into())));
        let flag = "error: unexpected argument '--ssh' found\n\n  tip: to pass";
        assert_eq!(unsupported(flag), Some(Verdict::Unsupported("--ssh".into())));
        assert_eq!(unsupported("error: `a` is missing"), None);
    }
}
