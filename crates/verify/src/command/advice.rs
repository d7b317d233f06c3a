//! Where a missing command can come from: another place of the image, another stage, or a package.
//!
//! Gives advice only.

use kuz_image::index::{components, join};
use kuz_image::{Node, Stack};

use super::DEFAULT_PATH;
use crate::elf::packages::Packages;
use crate::elf::search::parent;
use crate::facts::Path;
use crate::finding::Advice;
use crate::subject::{Subject, show};

/// A command by its name: in this image off PATH, in another stage, or in a package of one.
pub(super) fn command(subject: &Subject<'_>, name: &str) -> Option<Advice> {
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

/// A file by its path: in another stage.
pub(super) fn file(subject: &Subject<'_>, path: &str) -> Option<Advice> {
    let plain = crate::elf::search::plain(path.as_bytes());
    let other = subject.others.iter().find(|other| {
        let found = other.stack().resolve(&plain, true).ok().and_then(|found| found.entry);
        found.is_some_and(|entry| entry.node != Node::Whiteout)
    })?;
    Some(from_stage(subject, other, &plain))
}

/// A script's interpreter: an environment that was not copied, or was moved.
pub(super) fn interpreter(subject: &Subject<'_>, path: &str) -> Option<Advice> {
    if let Some(advice) = file(subject, path) {
        return Some(advice);
    }
    let name = super::words::base(path);
    let there = anywhere(&subject.stack, name)?;
    Some(Advice::text(format!(
        "the image has `{}`: scripts name their interpreter's place, so install them where they will run, or carry a whole environment to the same path",
        show(&there)
    )))
}

/// A file that lies at the same path in another stage: from its package if it has one that this image can install, else
/// copied.
fn from_stage(subject: &Subject<'_>, other: &crate::subject::OtherStage<'_>, path: &Path) -> Advice {
    let place = show(path);
    let name = &other.name;
    let real = other.stack().resolve(path, true).map_or_else(|_| path.clone(), |found| found.path);
    let owner = [&real, path].into_iter().find_map(|path| other.owner(path));
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
