//! Rules about Dockerfiles of Python programs, as far as the file alone decides: versions and libraries that stages
//! must share, what has to be copied along, how servers are started.
//!
//! Whether the finished image starts is a question about its files, and not asked here.

use super::Findings;
use super::commands::{is_pip, pip_args};
use super::file::unquoted;
use super::shell::Simple;
use super::view::{Stage, View};
use crate::ast::{Copy, Instruction, Kind, Word};
use crate::span::Span;

/// Commands that packages install beside the interpreter, and people start containers with.
const CONSOLE_SCRIPTS: [&str; 25] = [
    "airflow",
    "alembic",
    "aiohttp",
    "celery",
    "daphne",
    "dagster",
    "django-admin",
    "fastapi",
    "flask",
    "gradio",
    "granian",
    "gunicorn",
    "hypercorn",
    "jupyter",
    "litestar",
    "mlflow",
    "poetry",
    "prefect",
    "pytest",
    "sanic",
    "scrapy",
    "streamlit",
    "uvicorn",
    "uwsgi",
    "waitress-serve",
];
/// Releases of Debian, oldest first; each has a newer C library than the one before.
const DEBIAN: [&str; 6] = ["stretch", "buster", "bullseye", "bookworm", "trixie", "forky"];

pub(super) fn all(view: &View<'_>, findings: &mut Findings<'_>) {
    for stage in &view.stages {
        for (instruction, copy, from) in stage.copies_from() {
            if let Some(source) = view.source(from, stage.number) {
                copied(view, stage, source, (instruction, copy), findings);
            }
        }
        carried_commands(view, stage, findings);
        own_user_packages(stage, findings);
        order(stage, findings);
        installed_too_early(stage, findings);
        activated(stage, findings);
        for (instruction, words) in stage.programs() {
            server(view, stage, instruction, &words, findings);
        }
    }
    if let Some(last) = view.last() {
        buffered(view, last, findings);
    }
    findings.leave();
}

/// `3.10` of `python:3.10-slim`.
fn version(image: &str) -> Option<&str> {
    let (name, tag) = image.split_once('@').map_or(image, |(name, _)| name).rsplit_once(':')?;
    if name.rsplit('/').next() != Some("python") {
        return None;
    }
    let number = tag.split('-').next().unwrap_or_default();
    let minor = number.match_indices('.').nth(1).map_or(number, |(at, _)| &number[..at]);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    minor.split_once('.').is_some_and(|(major, minor)| digits(major) && digits(minor)).then_some(minor)
}

/// `3.10` of `/usr/local/lib/python3.10/site-packages`.
fn version_in_path(path: &str) -> Option<&str> {
    let part = path.split('/').find_map(|part| part.strip_prefix("python"))?;
    part.starts_with("3.").then_some(part)
}

/// The path that a copy takes, without the slash at its end.
fn plain(path: &str) -> &str {
    let path = path.trim_matches(['"', '\'']);
    if path.len() > 1 { path.trim_end_matches('/') } else { path }
}

fn is_packages(path: &str) -> bool {
    path.contains("site-packages") || path.contains("dist-packages")
}

/// The environments that a stage makes.
fn environments<'v>(stage: &'v Stage<'_>) -> impl Iterator<Item = &'v str> {
    stage.runs().flat_map(|(_, commands)| commands).filter_map(|command| {
        let module =
            command.words.windows(2).any(|pair| pair[0] == "-m" && matches!(pair[1].as_str(), "venv" | "virtualenv"));
        let uv = command.program() == "uv" && command.subcommand() == "venv";
        let path = command.words.last().map(|path| plain(path));
        path.filter(|path| (module || uv || command.program() == "virtualenv") && path.starts_with('/'))
    })
}

/// What is copied from another stage must fit here.
fn copied(
    view: &View<'_>,
    stage: &Stage<'_>,
    source: &Stage<'_>,
    (at, copy): (&Instruction, &Copy),
    findings: &mut Findings<'_>,
) {
    let dest = unquoted(&copy.dest, view.escape);
    let dest = plain(&dest);
    let moved: Vec<&str> = environments(source).collect();
    for word in &copy.sources {
        let path = unquoted(word, view.escape);
        let path = plain(&path);
        let environment = moved.contains(&path);
        if is_packages(path) || environment || path == "/usr/local" {
            versions(stage, source, (at, word), path, findings);
            libraries(stage, source, (at, word), findings);
        }
        if environment && dest != path && dest.starts_with('/') {
            let message =
                format!("the virtual environment {path} is copied to {dest}, but its scripts hold the old path");
            findings.advise("VenvMoved", at, copy.dest.span, &message, format!("copy it to {path}"));
        }
        if path.ends_with("/.local") {
            user_packages(view, stage, (at, copy, word), dest, findings);
        }
    }
}

fn versions(
    stage: &Stage<'_>,
    source: &Stage<'_>,
    (at, word): (&Instruction, &Word),
    path: &str,
    findings: &mut Findings<'_>,
) {
    let here = stage.image.as_deref().and_then(version);
    let there = source.image.as_deref().and_then(version).or_else(|| version_in_path(path));
    let (Some(here), Some(there)) = (here, there) else { return };
    if here != there {
        let message =
            format!("packages of Python {there} are copied to an image with Python {here}, which doesn't look there");
        findings.advise("PythonVersionMismatch", at, word.span, &message, "use the same version in both FROM lines");
        return;
    }
    if let Some(named) = version_in_path(path).filter(|named| *named != here) {
        let message = format!("the path is that of Python {named}, and the images have Python {here}");
        findings.advise("PythonVersionMismatch", at, word.span, &message, format!("write python{here}"));
    }
}

fn libraries(stage: &Stage<'_>, source: &Stage<'_>, (at, word): (&Instruction, &Word), findings: &mut Findings<'_>) {
    let (Some(here), Some(there)) = (stage.image.as_deref(), source.image.as_deref()) else { return };
    let is_musl = |image: &str| image.contains("alpine");
    let age = |image: &str| DEBIAN.iter().position(|release| image.contains(release));
    let message = if is_musl(here) != is_musl(there) && (version(here).is_some() && version(there).is_some()) {
        "packages that were compiled for one C library are copied to an image with another (musl and glibc)"
    } else if let (Some(old), Some(new)) = (age(here), age(there))
        && old < new
    {
        "packages that were compiled for a newer C library are copied to an image with an older one"
    } else {
        return;
    };
    findings.advise(
        "LibcMismatch",
        at,
        word.span,
        message,
        "use images of the same distribution and release in both stages",
    );
}

/// With `pip install --user` comes a home directory and a PATH.
fn user_packages(
    view: &View<'_>,
    stage: &Stage<'_>,
    (at, copy, word): (&Instruction, &Copy, &Word),
    dest: &str,
    findings: &mut Findings<'_>,
) {
    let user = last_user(view, stage);
    if dest.starts_with("/root/") && user.as_deref().is_some_and(|user| !matches!(user, "root" | "0")) {
        let message = "packages are copied into root's home directory, and USER is somebody else";
        findings.advise(
            "PipUserNotCarried",
            at,
            copy.dest.span,
            message,
            "copy them into that user's home, with --chown",
        );
        return;
    }
    let on_path = view.values(stage, "PATH").any(|path| path.contains(".local/bin"));
    let script = stage.programs().into_iter().find_map(|(_, words)| console_script(&words).map(str::to_owned));
    if let Some(script) = script.filter(|_| !on_path) {
        let message = format!("`{script}` is in .local/bin, which is not in PATH");
        findings.advise("PipUserNotCarried", at, word.span, &message, format!("add ENV PATH={dest}/bin:$PATH"));
    }
}

fn last_user(view: &View<'_>, stage: &Stage<'_>) -> Option<String> {
    let mut body = view.chain(stage).flat_map(|stage| stage.body.iter().rev());
    body.find_map(|instruction| match &instruction.kind {
        Kind::User(user) => {
            let name = unquoted(user, view.escape);
            Some(name.split(':').next().unwrap_or_default().to_owned())
        }
        _ => None,
    })
}

/// `pip install --user` as one user, and the program runs as another.
fn own_user_packages(stage: &Stage<'_>, findings: &mut Findings<'_>) {
    let mut runs = stage.runs();
    let mut user = "root";
    let mut installed: Option<(&str, &Instruction)> = None;
    for instruction in stage.body {
        match &instruction.kind {
            Kind::User(name) => user = name.value.as_str(),
            Kind::Run(_) => {
                let commands = runs.next().map(|(_, commands)| commands).unwrap_or_default();
                if commands.iter().any(|command| is_pip(command) && command.has(&["--user"])) {
                    installed = Some((user, instruction));
                }
            }
            _ => {}
        }
    }
    if let Some((owner, instruction)) = installed.filter(|(owner, _)| *owner != user) {
        let message = format!("`pip install --user` is done as {owner}, but the program runs as {user}");
        findings.advise(
            "PipUserNotCarried",
            instruction,
            instruction.span,
            &message,
            format!("put USER {user} above it"),
        );
    }
}

fn console_script(words: &[String]) -> Option<&str> {
    let program = words.first()?;
    CONSOLE_SCRIPTS.iter().copied().find(|script| script == program)
}

/// Site-packages without the commands beside the interpreter.
fn carried_commands(view: &View<'_>, stage: &Stage<'_>, findings: &mut Findings<'_>) {
    let mut packages = None;
    for (_, copy, from) in stage.copies_from() {
        let words = copy.sources.iter().chain([&copy.dest]);
        for path in words.map(|word| unquoted(word, view.escape)) {
            if path.split('/').any(|part| part == "bin") || matches!(plain(&path), "/usr/local" | "/usr" | "/") {
                return;
            }
            if is_packages(&path) {
                packages = Some(from);
            }
        }
    }
    let Some(from) = packages else { return };
    let installs =
        |command: &Simple| is_pip(command) || matches!(command.program(), "uv" | "poetry" | "ln" | "cp" | "pipx");
    if stage.runs().flat_map(|(_, commands)| commands).any(installs) {
        return;
    }
    for (instruction, words) in stage.programs() {
        if let Some(script) = console_script(&words) {
            let message = format!(
                "`{script}` is not in this image: site-packages is copied, the command beside the interpreter is not"
            );
            let hint = format!(
                "add COPY --from={from} /usr/local/bin/{script} /usr/local/bin/{script}, or start it by python -m {script}"
            );
            findings.advise("ConsoleScriptNotCopied", instruction, instruction.span, &message, hint);
        }
    }
}

/// The whole source is copied before requirements are installed: every change of it installs them anew.
fn order(stage: &Stage<'_>, findings: &mut Findings<'_>) {
    let mut whole: Option<&Instruction> = None;
    let mut runs = stage.runs();
    for instruction in stage.body {
        match &instruction.kind {
            Kind::Copy(copy) | Kind::Add(copy) if copy.from.is_none() => {
                let all = copy.sources.iter().any(|source| matches!(source.value.as_str(), "." | "./" | "/"));
                whole = whole.or(all.then_some(instruction));
            }
            Kind::Run(_) => {
                let commands = runs.next().map(|(_, commands)| commands).unwrap_or_default();
                if let Some(copied) = whole.filter(|_| commands.iter().any(|command| !listed(command).is_empty())) {
                    let message = "the whole source is copied before its requirements are installed: each change installs them anew";
                    let hint = "copy the list of requirements first, install, then copy the rest";
                    findings.advise("SourceBeforeDependencies", copied, copied.span, message, hint);
                    return;
                }
            }
            _ => {}
        }
    }
}

/// `pip install -r FILE` above the COPY that brings the file.
fn installed_too_early(stage: &Stage<'_>, findings: &mut Findings<'_>) {
    let mut runs = stage.runs();
    for (place, instruction) in stage.body.iter().enumerate() {
        match &instruction.kind {
            // What is in it can't be known here.
            Kind::Copy(_) | Kind::Add(_) => return,
            Kind::Run(run) => {
                let commands = runs.next().map(|(_, commands)| commands).unwrap_or_default();
                let Some(file) = commands.iter().flat_map(listed).find(|file| !file.contains("://")) else { continue };
                if !run.mounts.is_empty() || !stage.body[place..].iter().any(|later| brings(later, file)) {
                    return;
                }
                let message = format!("{file} is installed before it is copied: it is not there yet");
                let name = file.rsplit('/').next().unwrap_or(file);
                let hint = format!("put COPY {name} . above this line");
                findings.advise("RequirementsNotCopied", instruction, instruction.span, &message, hint);
                return;
            }
            _ => {}
        }
    }
}

/// Does a COPY or ADD bring a file from the context, by its name or with all else?
fn brings(instruction: &Instruction, file: &str) -> bool {
    let (Kind::Copy(copy) | Kind::Add(copy)) = &instruction.kind else { return false };
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_it = |word: &Word| matches!(plain(&word.value), "." | "/" | "./") || name(&word.value) == name(file);
    copy.from.is_none() && copy.sources.iter().any(is_it)
}

/// `activate` as the last command of a RUN: the next one knows nothing of it.
fn activated(stage: &Stage<'_>, findings: &mut Findings<'_>) {
    for (instruction, commands) in stage.runs() {
        let Some(last) = commands.last() else { continue };
        let script = last.words.get(1).map(String::as_str).unwrap_or_default();
        let Some(directory) = script.strip_suffix("bin/activate") else { continue };
        if matches!(last.words[0].as_str(), "." | "source") {
            let message = "a virtual environment that is activated in a RUN is so until the end of that RUN only";
            let hint = format!("instead of it: ENV PATH={directory}bin:$PATH (with the whole path of the environment)");
            findings.advise("VenvActivated", instruction, instruction.span, message, hint);
        }
    }
}

/// The files of `-r`.
fn listed(command: &Simple) -> Vec<&str> {
    let mut files = Vec::new();
    let mut args = pip_args(command).unwrap_or_default().iter();
    while let Some(arg) = args.next() {
        let file = match arg.as_str() {
            "-r" | "--requirement" => args.next().map(String::as_str),
            other => other
                .strip_prefix("--requirement=")
                .or_else(|| other.strip_prefix("-r").filter(|file| !file.is_empty())),
        };
        files.extend(file);
    }
    files
}

fn server(view: &View<'_>, stage: &Stage<'_>, at: &Instruction, words: &[String], findings: &mut Findings<'_>) {
    let Some(program) = words.first() else { return };
    let module =
        program.starts_with("python").then(|| words.windows(2).find(|pair| pair[0] == "-m").map(|pair| &pair[1]));
    let name = module.flatten().unwrap_or(program);
    let value = |flag: &str| {
        let inline = format!("{flag}=");
        let next = words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_str());
        next.or_else(|| words.iter().find_map(|word| word.strip_prefix(&inline)))
    };
    let has = |word: &str| words.iter().any(|given| given == word);
    let local = |host: &str| host.starts_with("127.") || host.starts_with("localhost");
    let host = ["--host", "-h", "--bind", "-b"].into_iter().find_map(value);
    let set = |variable| view.values(stage, variable).next().is_some();
    let habit = if has("--reload") || has("--debug") {
        Some((
            "the server runs as while developing: it watches files and shows its insides",
            "leave out --reload and --debug",
        ))
    } else if name.ends_with("manage.py") && has("runserver") || has("runserver") {
        Some(("runserver is Django's development server", "start gunicorn or uvicorn instead"))
    } else if name == "fastapi" && has("dev") {
        Some(("`fastapi dev` is for developing: it reloads, and listens on 127.0.0.1", "write fastapi run"))
    } else {
        None
    };
    let address = if host.is_some_and(local) {
        Some(("the server listens on 127.0.0.1, where nobody outside the container reaches it", "write 0.0.0.0"))
    } else if host.is_none() && name == "uvicorn" && !set("UVICORN_HOST") && !has("--uds") && !has("--fd") {
        Some((
            "uvicorn listens on 127.0.0.1 where nothing else is said: nobody outside the container reaches it",
            "add --host 0.0.0.0",
        ))
    } else if host.is_none() && name == "flask" && has("run") && !set("FLASK_RUN_HOST") {
        Some((
            "flask listens on 127.0.0.1 where nothing else is said: nobody outside the container reaches it",
            "add --host 0.0.0.0",
        ))
    } else {
        None
    };
    for (message, hint) in habit.into_iter().chain(address) {
        findings.advise("DevelopmentServer", at, at.span, message, hint);
    }
    let shell = match &at.kind {
        Kind::Cmd(command) | Kind::Entrypoint(command) => {
            matches!(command, crate::ast::Command::Shell(word) if !word.value.trim_start().starts_with("exec "))
        }
        _ => false,
    };
    if shell && (CONSOLE_SCRIPTS.contains(&name.as_str()) || program.starts_with("python")) {
        let message = format!("a shell is the container's first process, and {name} doesn't get its signals");
        findings.advise("ServerBehindShell", at, at.span, &message, "write the JSON form, or exec in front");
    }
}

/// Logs of a Python program wait in a buffer.
fn buffered(view: &View<'_>, last: &Stage<'_>, findings: &mut Findings<'_>) {
    let python = last.image.as_deref().and_then(version).is_some();
    let flag = last.programs().iter().any(|(_, words)| words.iter().any(|word| word == "-u"));
    if python && !flag && view.values(last, "PYTHONUNBUFFERED").next().is_none() {
        let message = "what the program prints waits in a buffer, and is lost when it's killed";
        findings.advise("PythonBuffered", last.start, last.from.image.span, message, "add ENV PYTHONUNBUFFERED=1");
    }
}

/// The requirement files that the RUN instructions of a file name, each with its instruction.
pub fn requirement_files(file: &crate::Dockerfile) -> Vec<(String, Span)> {
    let view = View::new(file);
    let runs = view.stages.iter().flat_map(Stage::runs);
    let files =
        runs.flat_map(|(at, commands)| commands.iter().flat_map(listed).map(move |file| (file.to_owned(), at.span)));
    files.collect()
}

/// The lines of a requirement file that leave a version open: number from 1, and name.
pub fn unpinned(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let option = line.is_empty() || line.starts_with(['#', '-', '.', '/']);
        if option || line.contains("==") || line.contains(" @ ") || line.contains("://") {
            continue;
        }
        let name =
            line.split(|c: char| !(c.is_ascii_alphanumeric() || "._-[],".contains(c))).next().unwrap_or_default();
        if !name.is_empty() {
            found.push((number + 1, name.to_owned()));
        }
    }
    found
}
