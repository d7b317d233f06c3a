//! Rules about the commands of RUN: package managers, downloads, pipes, and configuration that is written by commands.
//!
//! They look at simple words only; see [`super::shell`].

use super::Findings;
use super::shell::Simple;
use super::view::View;
use crate::ast::{Instruction, Kind, Run};

/// Ids from here on make the log files of `useradd` large.
const HIGH_UID: u64 = 99_999;
/// Files that hold configuration.
const CONFIG_ENDS: [&str; 3] = [".json", ".yaml", ".yml"];

pub(super) fn all(view: &View<'_>, findings: &mut Findings<'_>) {
    for stage in &view.stages {
        let pip_cacheless = view.values(stage, "PIP_NO_CACHE_DIR").any(|value| !unset(value));
        let mut fetchers = Vec::new();
        let below: Vec<_> = view.chain(stage).skip(1).collect();
        let mut pipefail = below.iter().rev().flat_map(|stage| stage.body).filter_map(pipes_are_checked).next_back();
        // What a stage leaves that is no part of the image takes no space in it.
        let is_kept = view.last().is_some_and(|last| view.chain(last).any(|kept| kept.number == stage.number));
        let mut commands = stage.runs();
        for instruction in stage.body {
            pipefail = pipes_are_checked(instruction).or(pipefail);
            let Kind::Run(run) = &instruction.kind else { continue };
            let Some((_, commands)) = commands.next() else { break };
            let at = Place { pip_cacheless, instruction, run, commands };
            for command in commands {
                of_program(&at, command, findings);
                if matches!(command.program(), "wget" | "curl") {
                    fetchers.push((command.program().to_owned(), instruction));
                }
            }
            if is_kept {
                apt_lists(&at, findings);
            }
            written_config(&at, findings);
            pipes(&at, pipefail == Some(true), findings);
        }
        if let Some((program, instruction)) = fetchers.iter().find(|(program, _)| *program != fetchers[0].0) {
            let message = format!("{program} is used here and {} above", fetchers[0].0);
            findings.advise("WgetAndCurl", instruction, instruction.keyword.span, &message, "use one of them");
        }
    }
    findings.leave();
}

/// Whether the value of a variable means no.
fn unset(value: &str) -> bool {
    matches!(value.trim_matches(['"', '\'']), "" | "0" | "false" | "off" | "no")
}

/// A RUN that is looked at.
struct Place<'a, 'f> {
    /// A variable says that pip keeps no cache.
    pip_cacheless: bool,
    instruction: &'f Instruction,
    run: &'f Run,
    commands: &'a [Simple],
}

impl Place<'_, '_> {
    fn advise(&self, name: &'static str, findings: &mut Findings<'_>, message: &str, hint: &str) {
        findings.advise(name, self.instruction, self.instruction.span, message, hint);
    }

    /// Is something mounted at a path that holds this?
    fn mounts(&self, part: &str) -> bool {
        let target = |(key, value): &(String, Option<String>)| {
            matches!(key.as_str(), "target" | "dst" | "destination")
                && value.as_deref().is_some_and(|value| value.contains(part))
        };
        self.run.mounts.iter().any(|mount| mount.options.iter().any(target))
    }
}

fn of_program(at: &Place<'_, '_>, command: &Simple, findings: &mut Findings<'_>) {
    match command.program() {
        "cd" => at.advise("CdInRun", findings, "`cd` holds until the end of its RUN only", "use WORKDIR"),
        "sudo" => at.advise(
            "Sudo",
            findings,
            "`sudo` in a step, which is root's already",
            "leave it out, or switch with USER",
        ),
        "apt" => at.advise("AptInScript", findings, "`apt` is made for people: its options change", "use apt-get"),
        "useradd" => useradd(at, command, findings),
        "apk"
            if command.subcommand() == "add"
                && apk_packages(command)
                    .any(|name| !name.contains(['=', '<', '>', '~', '$', '/']) && !is_apk_file(name)) =>
        {
            at.advise("UnpinnedApk", findings, "packages of apk without versions", "write name=version");
        }
        _ => {}
    }
    if matches!(command.program(), "apt-get" | "apt") && command.subcommand() == "install" {
        apt_install(at, command, findings);
    }
    if is_pip(command) {
        pip(at, command, findings);
    }
}

/// The arguments behind the subcommand that are no options.
fn packages(command: &Simple) -> impl Iterator<Item = &str> {
    command.args().filter(|arg| !arg.starts_with('-')).skip(1)
}

fn is_apk_file(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|end| end == "apk")
}

/// What `apk add` installs: the values of its options are no packages.
fn apk_packages(command: &Simple) -> impl Iterator<Item = &str> {
    const VALUES: [&str; 9] =
        ["-t", "--virtual", "-X", "--repository", "-p", "--root", "--arch", "--keys-dir", "--wait"];
    let mut after_option = false;
    let words = command.args().filter(move |arg| {
        let is_value = std::mem::replace(&mut after_option, VALUES.contains(arg));
        !is_value && !arg.starts_with('-')
    });
    words.skip(1)
}

fn apt_install(at: &Place<'_, '_>, command: &Simple, findings: &mut Findings<'_>) {
    let letter = |arg: &str| arg.starts_with('-') && !arg.starts_with("--") && arg.contains('y');
    let quiet = command.args().filter(|arg| matches!(*arg, "-q" | "--quiet")).count() > 1;
    let yes =
        quiet || command.has(&["--yes", "--assume-yes", "-qq", "-q=2", "--quiet=2"]) || command.args().any(letter);
    if !yes {
        let message = "`apt-get install` asks whether to go on, and nobody answers";
        at.advise("AptAsks", findings, message, "add -y");
    }
    if !command.args().any(|arg| arg.contains("no-install-recommends") || arg.contains("APT::Install-Recommends=")) {
        let message = "recommended packages are installed, too";
        at.advise("AptRecommends", findings, message, "add --no-install-recommends");
    }
    if packages(command).any(|name| !name.contains(['=', '$', '/'])) {
        at.advise("UnpinnedApt", findings, "packages of apt without versions", "write name=version");
    }
}

/// `apt-get update` of which the lists stay in the layer.
fn apt_lists(at: &Place<'_, '_>, findings: &mut Findings<'_>) {
    let updates = |command: &Simple| matches!(command.program(), "apt-get" | "apt") && command.subcommand() == "update";
    let removes =
        |command: &Simple| command.program() == "rm" && command.args().any(|arg| arg.contains("/var/lib/apt"));
    if at.commands.iter().any(updates) && !at.commands.iter().any(removes) && !at.mounts("/var/lib/apt") {
        let message = "the lists of `apt-get update` stay in the layer";
        at.advise("AptListsLeft", findings, message, "add && rm -rf /var/lib/apt/lists/*");
    }
}

fn useradd(at: &Place<'_, '_>, command: &Simple, findings: &mut Findings<'_>) {
    let quiet =
        |arg: &str| arg == "--no-log-init" || arg.starts_with('-') && !arg.starts_with("--") && arg.contains('l');
    let mut args = command.args();
    let mut uid = None;
    while let Some(arg) = args.next() {
        uid = match arg.strip_prefix("--uid=") {
            Some(value) => Some(value),
            None if arg == "--uid" || arg.starts_with('-') && !arg.starts_with("--") && arg.ends_with('u') => {
                args.next()
            }
            None => uid,
        };
    }
    let high = uid.and_then(|uid| uid.parse::<u64>().ok()).is_some_and(|uid| uid > HIGH_UID);
    if high && !command.args().any(quiet) {
        let message = "`useradd` with a high id writes a log file as long as the id is high";
        at.advise("UseraddHighUid", findings, message, "add -l");
    }
}

/// `pip install`, `pip3 install`, `python -m pip install`.
pub(super) fn is_pip(command: &Simple) -> bool {
    pip_args(command).is_some()
}

/// What follows `install`.
pub(super) fn pip_args(command: &Simple) -> Option<&[String]> {
    let rest = match command.program() {
        "pip" | "pip2" | "pip3" => command.words.get(1..)?,
        program if program.starts_with("python") => {
            let at = command.words.windows(2).position(|pair| pair[0] == "-m" && pair[1] == "pip")?;
            command.words.get(at + 2..)?
        }
        program if program.strip_prefix("pip3.").is_some_and(|minor| minor.parse::<u8>().is_ok()) => {
            command.words.get(1..)?
        }
        _ => return None,
    };
    let at = rest.iter().position(|word| !word.starts_with('-'))?;
    (rest[at] == "install").then(|| &rest[at + 1..])
}

/// Options of `pip install` that take a value in the next word.
const PIP_VALUES: [&str; 33] = [
    "--abi",
    "--implementation",
    "--log",
    "--no-build-isolation-package",
    "--progress-bar",
    "--proxy",
    "--report",
    "--retries",
    "--root-user-action",
    "--src",
    "--upgrade-strategy",
    "-r",
    "--requirement",
    "-c",
    "--constraint",
    "-e",
    "--editable",
    "-t",
    "--target",
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--prefix",
    "--root",
    "--cache-dir",
    "--python-version",
    "--platform",
    "--trusted-host",
    "--no-binary",
    "--only-binary",
    "--timeout",
];

fn pip(at: &Place<'_, '_>, command: &Simple, findings: &mut Findings<'_>) {
    let Some(args) = pip_args(command) else { return };
    let mut assigned = at.commands.iter().flat_map(|command| command.assigned("PIP_NO_CACHE_DIR"));
    let cacheless =
        command.has(&["--no-cache-dir", "--no-cache"]) || at.pip_cacheless || assigned.any(|value| !unset(value));
    if !cacheless && !at.mounts(".cache") && !at.mounts("/pip") {
        let message = "pip keeps what it downloaded in the layer";
        at.advise(
            "PipCacheLeft",
            findings,
            message,
            "add --no-cache-dir, or --mount=type=cache,target=/root/.cache/pip",
        );
    }
    // Constraints name the versions.
    let constrained = |word: &String| word == "-c" || word.starts_with("--constraint");
    if args.iter().any(constrained) {
        return;
    }
    let mut words = args.iter();
    let mut loose = None;
    while let Some(word) = words.next() {
        if PIP_VALUES.contains(&word.as_str()) {
            words.next();
        } else if is_loose(word) {
            loose = loose.or(Some(word));
        }
    }
    if let Some(name) = loose {
        let message = format!("pip installs `{name}` in whatever version there is");
        at.advise("UnpinnedPip", findings, &message, &format!("write {name}==VERSION"));
    }
}

/// A package without a version; no option, path, URL or variable.
fn is_loose(word: &str) -> bool {
    !word.starts_with(['-', '.', '/', '$'])
        && !word.contains(['=', '<', '>', '~', '@', '/', '$', ':'])
        && ![".whl", ".tar.gz", ".zip"].iter().any(|end| word.ends_with(end))
        && !matches!(word, "pip" | "setuptools" | "wheel")
}

/// JSON and YAML that echo, printf, cat or tee write.
fn written_config(at: &Place<'_, '_>, findings: &mut Findings<'_>) {
    let is_config = |file: &str| CONFIG_ENDS.iter().any(|end| file.to_lowercase().ends_with(end));
    let mut text_piped = false;
    let mut found = None;
    for command in at.commands {
        let program = command.program();
        let prints = matches!(program, "echo" | "printf") || program == "cat" && command.words.len() == 1;
        if prints || text_piped {
            let mut files: Vec<&str> = command.writes.iter().map(String::as_str).collect();
            if program == "tee" {
                files.extend(command.args());
            }
            found = found.or(files.into_iter().find(|file| is_config(file)));
        }
        text_piped = command.piped && (prints || text_piped);
    }
    if let Some(file) = found {
        let message = format!("the configuration `{file}` is written by a command");
        at.advise("ConfigInCommand", findings, &message, "keep it as a file beside the Dockerfile and COPY it");
    }
}

/// Of a SHELL: whether a pipe fails with any of its commands. Shells that are none of Unix have rules of their own.
fn pipes_are_checked(instruction: &Instruction) -> Option<bool> {
    let Kind::Shell(words) = &instruction.kind else { return None };
    let program = words.first()?.rsplit(['/', '\\']).next()?.to_lowercase();
    let foreign = matches!(program.trim_end_matches(".exe"), "pwsh" | "powershell" | "cmd");
    Some(foreign || words.iter().any(|word| word.contains("pipefail")))
}

fn pipes(at: &Place<'_, '_>, pipefail: bool, findings: &mut Findings<'_>) {
    let set = |command: &Simple| command.program() == "set" && command.args().any(|arg| arg == "pipefail");
    // What only prints doesn't fail.
    let piped = |command: &Simple| command.piped && !matches!(command.program(), "echo" | "printf" | "yes" | "cat");
    if !pipefail && at.commands.iter().any(piped) && !at.commands.iter().any(set) {
        let message = "only the last command of a pipe counts: that one before it failed goes unnoticed";
        at.advise(
            "PipeNoPipefail",
            findings,
            message,
            "begin with SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]",
        );
    }
}
