//! Where a missing command can come from: another place of the image, another stage, or a package.
//!
//! Gives advice only. What no stage has is looked up in short tables of packages; other names are not guessed at.

use kuz_image::index::{components, join};
use kuz_image::{Node, Stack, limits};

use super::DEFAULT_PATH;
use crate::elf::packages::Packages;
use crate::elf::search::parent;
use crate::facts::Path;
use crate::finding::Advice;
use crate::subject::{Subject, show};

/// Commands that images often lack: the name, Debian's package, Alpine's.
const TOOLS: [(&str, &str, &str); 34] = [
    ("bash", "bash", "bash"),
    ("chromium", "chromium", "chromium"),
    ("convert", "imagemagick", "imagemagick"),
    ("cron", "cron", "dcron"),
    ("curl", "curl", "curl"),
    ("dumb-init", "dumb-init", "dumb-init"),
    ("envsubst", "gettext-base", "gettext-envsubst"),
    ("ffmpeg", "ffmpeg", "ffmpeg"),
    ("gcc", "gcc", "gcc"),
    ("git", "git", "git"),
    ("gosu", "gosu", "gosu"),
    ("jq", "jq", "jq"),
    ("make", "make", "make"),
    ("mysql", "default-mysql-client", "mysql-client"),
    ("nc", "netcat-openbsd", "netcat-openbsd"),
    ("nginx", "nginx", "nginx"),
    ("node", "nodejs", "nodejs"),
    ("npm", "npm", "npm"),
    ("openssl", "openssl", "openssl"),
    ("perl", "perl", "perl"),
    ("pg_isready", "postgresql-client", "postgresql-client"),
    ("php", "php-cli", "php"),
    ("ping", "iputils-ping", "iputils-ping"),
    ("ps", "procps", "procps"),
    ("psql", "postgresql-client", "postgresql-client"),
    ("redis-cli", "redis-tools", "redis"),
    ("rsync", "rsync", "rsync"),
    ("ruby", "ruby", "ruby"),
    ("ssh", "openssh-client", "openssh-client-default"),
    ("sudo", "sudo", "sudo"),
    ("supervisord", "supervisor", "supervisor"),
    ("tini", "tini", "tini"),
    ("wget", "wget", "wget"),
    ("zsh", "zsh", "zsh"),
];
/// Commands that Python's packages of the same name bring.
const SERVERS: [&str; 14] = [
    "alembic",
    "celery",
    "daphne",
    "flask",
    "granian",
    "gunicorn",
    "hypercorn",
    "litestar",
    "pytest",
    "sanic",
    "streamlit",
    "twist",
    "uvicorn",
    "uwsgi",
];

/// A command by its name: in this image off PATH, in another stage, or in a package of one.
pub(super) fn command(subject: &Subject<'_>, name: &str) -> Advice {
    let nowhere = || Advice::text("install the package that has it, or copy it into a directory on PATH");
    elsewhere(subject, name).or_else(|| package(subject, name)).unwrap_or_else(nowhere)
}

/// The package that has a command, for an image that can install it.
fn package(subject: &Subject<'_>, name: &str) -> Option<Advice> {
    if SERVERS.contains(&name) {
        let text = format!("no package `{name}` is installed: install it with your requirements");
        let line = format!("RUN pip install --no-cache-dir {name}");
        let pip = anywhere(&subject.stack, "pip").is_some();
        return Some(if pip { Advice::line(text, line) } else { Advice::text(text) });
    }
    let (_, debian, alpine) = TOOLS.iter().find(|(tool, ..)| *tool == name)?;
    let packages = Packages::of(&subject.stack)?;
    let package = match packages {
        Packages::Debian => debian,
        Packages::Alpine => alpine,
    };
    Some(Advice::line(format!("the package `{package}` has it: install that"), packages.install(package)))
}

/// What was meant by one word of the exec form that holds blanks.
pub(super) fn one_word(word: &str) -> Advice {
    if word.contains(['&', '|', ';', '<', '>', '$', '*', '`', '\'', '"']) {
        let text = "the exec form runs no shell: write the line without brackets and quotes, or start a shell: \
                    `[\"/bin/sh\", \"-c\", \"…\"]`";
        return Advice::text(text);
    }
    let words: Vec<&str> = word.split_whitespace().collect();
    Advice::text(format!("in the exec form each word stands by itself: `{}`", exec_form(&words)))
}

/// The shell form in an image without a shell.
pub(super) fn no_shell(words: Option<&[&str]>) -> Advice {
    Advice::text(match words {
        Some(words) => format!("the shell form needs a shell: write the exec form: `{}`", exec_form(words)),
        None => "the line needs a shell: base the final stage on an image that has one, or start one program in the \
                 exec form"
            .to_owned(),
    })
}

fn exec_form(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(", "))
}

/// In this image off PATH, in another stage, or in a package of one.
fn elsewhere(subject: &Subject<'_>, name: &str) -> Option<Advice> {
    if let Some(path) = anywhere(&subject.stack, name) {
        let directory = show(parent(&path));
        return Some(Advice::line(
            format!("it is at `{}`, which is not on PATH", show(&path)),
            format!("ENV PATH=\"{directory}:$PATH\""),
        ));
    }
    let path = subject.variable("PATH").unwrap_or(DEFAULT_PATH);
    for other in &subject.others {
        let on_path = path.split(':').map(|directory| join(directory.as_bytes(), name.as_bytes()));
        let on_path = on_path.map(|path| crate::elf::search::plain(&path)).find(|path| is_command(other.stack(), path));
        if let Some(at) = &on_path {
            return Some(from_stage(subject, other, at));
        }
        if let Some(at) = anywhere(other.stack(), name) {
            return Some(from_elsewhere(other, &at));
        }
    }
    None
}

/// A file by its path: in another stage, or not copied at all.
pub(super) fn file(subject: &Subject<'_>, path: &str) -> Advice {
    let name = super::words::base(path);
    let installed = || package(subject, name).filter(|_| is_usual(path));
    staged(subject, path).or_else(installed).unwrap_or_else(|| {
        Advice::text(format!("nothing puts it there: copy it (`COPY {name} {path}`), or name the path where it is"))
    })
}

/// Whether packages put their commands there.
fn is_usual(path: &str) -> bool {
    ["/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/"].iter().any(|folder| path.starts_with(folder))
}

/// A file by its path in another stage.
fn staged(subject: &Subject<'_>, path: &str) -> Option<Advice> {
    let plain = crate::elf::search::plain(path.as_bytes());
    let other = subject.others.iter().find(|other| {
        let found = other.stack().resolve(&plain, true).ok().and_then(|found| found.entry);
        found.is_some_and(|entry| entry.node != Node::Whiteout)
    })?;
    Some(from_stage(subject, other, &plain))
}

/// A script's interpreter: an environment that was not copied, or was moved.
pub(super) fn interpreter(subject: &Subject<'_>, path: &str) -> Advice {
    if let Some(advice) = staged(subject, path) {
        return advice;
    }
    let name = super::words::base(path);
    if let Some(there) = anywhere(&subject.stack, name) {
        return Advice::text(format!(
            "the image has `{}`: scripts name their interpreter's place, so install them where they will run, or carry a whole environment to the same path",
            show(&there)
        ));
    }
    package(subject, name).filter(|_| is_usual(path)).unwrap_or_else(|| {
        Advice::text(format!("install the package that has `{name}`, or name an interpreter that the image has"))
    })
}

/// A file that lies at the same path in another stage: from its package if it has one that this image can install, else
/// copied.
fn from_stage(subject: &Subject<'_>, other: &crate::subject::OtherStage<'_>, path: &Path) -> Advice {
    let place = show(path);
    let name = &other.name;
    let owner = links(other.stack(), path).iter().find_map(|path| other.owner(path));
    // Debian's Python without its library starts, and then lacks what most programs import.
    let owner =
        owner.map(|owner| owner.strip_suffix("-minimal").filter(|_| owner.starts_with("python3")).unwrap_or(owner));
    let packages = Packages::of(&subject.stack).filter(|here| Packages::of(other.stack()) == Some(*here));
    if let (Some(package), Some(packages)) = (owner, packages) {
        return Advice::line(
            format!(
                "it exists at `{place}` in stage {name}, from the package `{package}`: install that in the final stage"
            ),
            packages.install(package),
        );
    }
    if let Some(environment) = environment(other.stack(), path) {
        let environment = show(&environment);
        return Advice::line(
            format!("it exists at `{place}` in stage {name}, in a virtual environment: copy all of that"),
            format!("COPY --from={name} {environment} {environment}"),
        );
    }
    Advice::line(format!("it exists at `{place}` in stage {name}"), format!("COPY --from={name} {place} {place}"))
}

/// A path and what it leads to, link by link: the package of the first that has one brings the rest.
fn links(stack: &Stack, path: &Path) -> Vec<Path> {
    let mut all = vec![path.clone()];
    while let Some(last) = all.last().filter(|_| all.len() <= limits::SYMLINKS)
        && let Ok(found) = stack.resolve(last, false)
        && let Some(entry) = &found.entry
        && let Node::Symlink(target) = &entry.node
    {
        let target = match target.first() {
            Some(b'/') => target.clone(),
            _ => join(parent(&found.path), target),
        };
        all.push(crate::elf::search::plain(&target));
    }
    all.extend(stack.resolve(path, true).map(|found| found.path));
    all
}

/// A command that lies off PATH in another stage.
fn from_elsewhere(other: &crate::subject::OtherStage<'_>, path: &Path) -> Advice {
    let (place, name) = (show(path), &other.name);
    let whole = environment(other.stack(), path).unwrap_or_else(|| path.clone());
    let whole = show(&whole);
    Advice {
        text: format!("it exists at `{place}` in stage {name}: copy it, and put its directory on PATH"),
        lines: vec![
            format!("COPY --from={name} {whole} {whole}"),
            format!("ENV PATH=\"{}:$PATH\"", show(parent(path))),
        ],
    }
}

/// The virtual environment that a command lies in.
fn environment(stack: &Stack, path: &[u8]) -> Option<Path> {
    let root = parent(parent(path));
    (!root.is_empty() && stack.get(&join(root, b"pyvenv.cfg")).is_some()).then(|| root.to_vec())
}

/// A command of this name in some `bin` directory.
fn anywhere(stack: &Stack, name: &str) -> Option<Path> {
    let fits = |path: &Path| {
        let mut names = components(path).rev();
        names.next() == Some(name.as_bytes())
            && names.next().is_some_and(|directory| matches!(directory, b"bin" | b"sbin"))
            && is_command(stack, path)
    };
    stack.below(b"").into_iter().find(fits)
}

fn is_command(stack: &Stack, path: &[u8]) -> bool {
    let entry = stack.resolve(path, true).ok().and_then(|found| found.entry);
    entry.is_some_and(|entry| matches!(entry.node, Node::File { .. } | Node::Hardlink(_)) && entry.mode & 0o111 != 0)
}
