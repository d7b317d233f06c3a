//! One case: built, verified, started; if it can be mended, mended and all again.
//!
//! In: a case and the workshop (program, store, configuration). Out: [`Seen`], with everything that is not as it should be.
//! The cases share a store, and with it pip's cache.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kuz_image::tar::TarReader;
use kuz_image::{compress, layout, manifest};
use serde::Deserialize;

use super::case::Case;
use super::started::{self, Ended};
use crate::Outcome;
use crate::problem::Problem;

/// The end of a program's words that is shown.
const SHOWN: usize = 400;
/// A file that a layer is searched for is not larger.
const FILE_BYTES: u64 = 1 << 20;

/// What all cases are tried with.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) kuz: PathBuf,
    pub(super) store: PathBuf,
    pub(super) config: PathBuf,
    pub(super) room: PathBuf,
}

/// A finding at error level.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Found {
    pub(super) rule: String,
    severity: String,
    pub(super) message: String,
    #[serde(default)]
    pub(super) hint: String,
    #[serde(default)]
    pub(super) lines: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Findings {
    findings: Vec<Found>,
}

/// What was seen of a case.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Errors only.
    pub(super) found: Vec<Found>,
    /// The line of the program's output, or of the answer, that confirms the verdict.
    pub(super) confirmed: String,
    /// Whether the advised lines were added, and the image then ran.
    pub(super) mended: bool,
    /// What is not as expected.
    pub(super) wrong: Vec<String>,
}

/// A case on its way.
struct Attempt<'a> {
    workshop: &'a Workshop,
    case: &'a Case,
    context: PathBuf,
    seen: Seen,
}

impl Workshop {
    /// Builds, verifies, runs.
    pub(super) fn judge(&self, case: &Case) -> Outcome<Seen> {
        let context = self.room.join(&case.name);
        let mut attempt = Attempt { workshop: self, case, context, seen: Seen::default() };
        attempt.write_context()?;
        // What is wrong with one case says nothing about the others.
        if let Err(problem) = attempt.all() {
            attempt.seen.wrong.push(problem.to_string());
        }
        let Attempt { context, seen, .. } = attempt;
        fs::remove_dir_all(&context).map_err(Problem::file("remove", &context))?;
        Ok(seen)
    }

    fn kuz(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kuz);
        command.args(arguments).env("KUZ_STORE", &self.store).env("KUZ_CONFIG", &self.config);
        command.env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str], folder: &Path) -> Outcome<Output> {
        let output = self.kuz(arguments).current_dir(folder).output();
        output.map_err(|source| Problem::Start { program: "kuz".into(), source })
    }
}

impl Attempt<'_> {
    fn write_context(&self) -> Outcome {
        let write = |name: &str, text: &str, mode: u32| -> Outcome {
            let path = self.context.join(name);
            let folder = path.parent().unwrap_or(&self.context);
            fs::create_dir_all(folder).map_err(Problem::file("make", folder))?;
            fs::write(&path, self.case.text(text)).map_err(Problem::file("write", &path))?;
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(&path, permissions).map_err(Problem::file("set the mode of", &path))
        };
        write("Dockerfile", &self.case.dockerfile, 0o644)?;
        // Not the Dockerfile: what a test of `COPY . .` means is the application.
        write(".dockerignore", "Dockerfile\n.dockerignore\n", 0o644)?;
        for (name, text) in &self.case.files {
            let mode = if self.case.executable.contains(name) { 0o755 } else { 0o644 };
            write(name, text, mode)?;
        }
        Ok(())
    }

    fn all(&mut self) -> Outcome {
        let case = self.case;
        if case.refused {
            let refused = self.build(&[])?;
            let said = said(&refused);
            if refused.status.success() || !case.errors.iter().all(|rule| said.contains(rule.as_str())) {
                self.seen.wrong.push(format!("the build is not refused for it: {}", tail(&said)));
            }
        }
        if !self.built(if case.refused { &["--verify=off"] } else { &[] })? {
            return Ok(());
        }
        self.seen.found = self.errors()?;
        self.compare();
        self.confirm()?;
        if case.mended { self.mend() } else { Ok(()) }
    }

    fn build(&self, options: &[&str]) -> Outcome<Output> {
        let mut arguments = vec!["build", "--progress=plain", "-t", &self.case.name];
        arguments.extend(options);
        arguments.push(".");
        self.workshop.output(&arguments, &self.context)
    }

    fn built(&mut self, options: &[&str]) -> Outcome<bool> {
        let output = self.build(options)?;
        if !output.status.success() {
            self.seen.wrong.push(format!("is not built: {}", tail(&said(&output))));
        }
        Ok(output.status.success())
    }

    /// What `kuz verify` finds at error level; its exit code must agree.
    fn errors(&mut self) -> Outcome<Vec<Found>> {
        let output = self.workshop.output(&["verify", "--format=json", &self.case.name], &self.context)?;
        let parsed: Result<Findings, _> = serde_json::from_slice(&output.stdout);
        let found =
            parsed.map_err(|error| Problem::Answer(format!("kuz verify: {error}: {}", tail(&said(&output)))))?;
        let errors: Vec<Found> = found.findings.into_iter().filter(|found| found.severity == "error").collect();
        if output.status.success() != errors.is_empty() {
            self.seen.wrong.push(format!("{} errors, and kuz verify ends with {}", errors.len(), output.status));
        }
        Ok(errors)
    }

    fn compare(&mut self) {
        let rules: BTreeSet<String> = self.seen.found.iter().map(|found| found.rule.clone()).collect();
        let messages = || {
            let all = self.seen.found.iter().map(|found| format!("{}: {}", found.rule, found.message));
            all.collect::<Vec<_>>().join("; ")
        };
        let mut wrong = Vec::new();
        if rules != self.case.errors {
            wrong.push(format!("errors must be {:?}, and are: {}", self.case.errors, messages()));
        } else if let Some(advice) = self.case.advice.as_deref().map(|advice| self.case.text(advice)) {
            let advised = self.seen.found.iter().any(|found| found.advice().contains(&advice));
            if !advised {
                let all: Vec<String> = self.seen.found.iter().map(Found::advice).collect();
                wrong.push(format!("the advice must have `{advice}`, and is: {}", all.join("; ")));
            }
        }
        self.seen.wrong.extend(wrong);
    }

    fn start(&self) -> Outcome<Ended> {
        let run = &self.case.run;
        let mut arguments = vec!["run", &self.case.name];
        arguments.extend(run.args.iter().map(String::as_str));
        let ask = run.get.as_deref().map(|path| (self.case.port, path));
        started::run(&mut self.workshop.kuz(&arguments), &self.context.join(".said"), ask)
    }

    /// Starts the image: a broken one must fail, a sound one must not.
    fn confirm(&mut self) -> Outcome {
        if let Some(path) = &self.case.run.layer {
            return self.confirm_layer(path);
        }
        let ended = self.start()?;
        let broken = self.case.is_broken();
        self.seen.confirmed = line_with(&ended, &self.case.run.says).unwrap_or_default();
        let failed = match (&ended.answer, ended.code) {
            (Some((status, _)), _) => *status >= 400,
            (None, Some(code)) => code != 0 || self.case.run.get.is_some(),
            (None, None) => true,
        };
        // What gives something away does so by working.
        if failed != (broken && !self.case.refused) || ended.answer.is_none() && ended.code.is_none() {
            let how = match (&ended.answer, ended.code) {
                (Some((status, _)), _) => format!("answers {status}"),
                (None, Some(code)) => format!("ends with {code}"),
                (None, None) => "does not end".to_owned(),
            };
            self.seen.wrong.push(format!("started, it {how}: {}", tail(&ended.said)));
        } else if self.seen.confirmed.is_empty() {
            self.seen.wrong.push(format!("started, it does not say `{}`: {}", self.case.run.says, tail(&ended.said)));
        }
        Ok(())
    }

    /// Reads the file out of the image's layers, whatever lies above.
    fn confirm_layer(&mut self, path: &str) -> Outcome {
        let folder = self.context.join(".layout");
        let output = format!("type=oci,tar=false,dest={}", folder.display());
        if !self.built(&["--verify=off", "-o", &output])? {
            return Ok(());
        }
        let text = in_layers(&folder, path.trim_start_matches('/').as_bytes())
            .map_err(|error| Problem::Answer(format!("the layers cannot be read: {error}")))?;
        match text.lines().find(|line| line.contains(&self.case.run.says)) {
            Some(_) => self.seen.confirmed = format!("a layer has {path}, with `{}`", self.case.run.says),
            None => self.seen.wrong.push(format!("no layer has {path} with `{}`", self.case.run.says)),
        }
        Ok(())
    }

    /// Adds the advised lines; the image must then be sound and run.
    fn mend(&mut self) -> Outcome {
        let output = self.workshop.output(&["verify", "--fix", &self.case.name], &self.context)?;
        let patch = self.context.join(".patch");
        fs::write(&patch, &output.stdout).map_err(Problem::file("write", &patch))?;
        crate::program::run(Command::new("patch").args(["-s", "-p0", "-i"]).arg(&patch).current_dir(&self.context))?;
        if !self.built(&[])? {
            return Ok(());
        }
        let left = self.errors()?;
        let ended = self.start()?;
        let works = ended.answer.as_ref().is_some_and(|(status, _)| *status < 400) || ended.code == Some(0);
        self.seen.mended = left.is_empty() && works;
        if !self.seen.mended {
            let rules: Vec<&str> = left.iter().map(|found| found.rule.as_str()).collect();
            self.seen.wrong.push(format!("mended, it has the errors {rules:?} and says: {}", tail(&ended.said)));
        }
        Ok(())
    }
}

impl Found {
    /// The advice on one line.
    pub(super) fn advice(&self) -> String {
        let lines = self.lines.iter().map(|line| format!("add `{line}`"));
        std::iter::once(self.hint.clone()).filter(|hint| !hint.is_empty()).chain(lines).collect::<Vec<_>>().join(": ")
    }
}

/// The line of the answer or of the output that has the text in it.
fn line_with(ended: &Ended, says: &str) -> Option<String> {
    let text = ended.answer.as_ref().map_or(&ended.said, |(_, body)| body);
    // The last one: what comes before an error are the lines of code that led to it.
    let line = text.lines().rev().find(|line| line.contains(says))?.trim();
    Some(match &ended.answer {
        Some((status, _)) => format!("{status} {line}"),
        None => line.to_owned(),
    })
}

/// The texts under a path in all layers of a layout's image, one after the other.
fn in_layers(folder: &Path, path: &[u8]) -> Result<String, Box<dyn std::error::Error>> {
    let read = |name: &str| fs::read(folder.join(name));
    let index = layout::parse_index(&read(layout::INDEX_FILE)?)?;
    let described = index.manifests.first().ok_or("the layout has no image")?;
    let bytes = read(&layout::blob_path(&described.digest))?;
    let manifest::Document::Manifest(manifest) = manifest::Document::parse(&bytes, Some(&described.media_type))? else {
        return Err("the image is an index".into());
    };
    let mut text = String::new();
    for layer in &manifest.layers {
        let bytes = read(&layout::blob_path(&layer.digest))?;
        let mut tar = TarReader::new(compress::reader(compress::detect(&bytes), bytes.as_slice())?);
        while let Some(entry) = tar.next()? {
            if entry.header().path == path {
                std::io::Read::read_to_string(&mut std::io::Read::take(entry, FILE_BYTES), &mut text)?;
            }
        }
    }
    Ok(text)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// The last words, on one line.
fn tail(said: &str) -> String {
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let skip = line.chars().count().saturating_sub(SHOWN);
    line.chars().skip(skip).collect()
}
