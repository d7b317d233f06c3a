//! Whether what is installed fits: wheels and the interpreter, files and RECORD, requirements and versions.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use kuz_image::Node;

use super::distribution::{Distribution, Recorded, in_site};
use super::imports::{rebuild, shown};
use super::requirement::{Environment, Requirement, normalize};
use super::runtime::{Image, Python};
use super::tree::{Dir, split};
use super::version::contains;
use crate::finding::{Advice, Finding, Level};

/// Names in a message; the rest is a number.
const NAMED: usize = 3;
/// Requirements of extras of extras: deeper than any distribution goes.
const ROUNDS: usize = 8;

/// The distributions that an interpreter finds, those first that go first on `sys.path`.
pub(super) fn distributions<'a>(image: &Image<'a>, python: &Python<'a>) -> Vec<Distribution<'a>> {
    let mut seen = BTreeSet::new();
    let places = python.sites.iter().chain(&python.added);
    places.flat_map(|site| in_site(image, site)).filter(|found| seen.insert(found.key.clone())).collect()
}

/// Directories of packages below the usual prefixes that belong to a Python which the image has not.
pub(super) fn foreign_sites<'a>(image: &Image<'a>, python: &Python<'a>) -> Vec<Rc<Dir<'a>>> {
    let mut found = Vec::new();
    for prefix in ["usr/local", "usr", "opt/venv", "root/.local"] {
        let Some(lib) = image.tree.dir(format!("{prefix}/lib").as_bytes()) else { continue };
        let mut names: Vec<&[u8]> = lib.names().map(|(name, _)| name).collect();
        names.sort_unstable();
        for name in names {
            let Some(minor) = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix("python3.")) else {
                continue;
            };
            let own = minor.parse() == Ok(python.abi.minor);
            let has_program = ["usr/local", "usr", prefix]
                .iter()
                .any(|p| image.tree.at(format!("{p}/bin/python3.{minor}").as_bytes()).is_some());
            if own || has_program {
                continue;
            }
            let Some(version) = image.tree.child(&lib, name) else { continue };
            for folder in [&b"site-packages"[..], b"dist-packages"] {
                if let Some(site) = image.tree.child(&version, folder)
                    && in_site(image, &site).iter().any(|it| !matches!(it.key.as_str(), "pip" | "setuptools" | "wheel"))
                {
                    found.push(site);
                }
            }
        }
    }
    found
}

/// The names of what distributions require, also for extras only.
pub(super) fn required(installed: &[Distribution<'_>]) -> BTreeSet<String> {
    let lines = installed.iter().flat_map(|it| &it.requires).filter_map(|line| Requirement::parse(line));
    lines.map(|line| normalize(line.name)).collect()
}

/// Judges what is installed. `reached` are the files that the command certainly imports.
pub(super) fn check<'a>(
    image: &Image<'a>,
    python: &Python<'a>,
    installed: &[Distribution<'a>],
    reached: &BTreeSet<Vec<u8>>,
    command: Option<&str>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut scripts: Vec<(String, String)> = Vec::new();
    for it in installed {
        let record = it.record(image);
        let layer = image.tree.at(&it.info).map(|(_, seen)| seen.layer);
        let in_use = || record.iter().any(|file| reached.contains(&it.site.join(file.path.as_bytes())));
        let mut add = |rule, level, message: String, advice| {
            findings.push(Finding { rule, level, message, path: Some(shown(&it.info)), layer, advice });
        };
        let unfit = python.abi.refuses(it.tags(image).into_iter());
        if let Some(why) = &unfit {
            let level = if in_use() { Level::Error } else { Level::Warning };
            add("PythonWheelMismatch", level, format!("`{} {}` {why}", it.name, it.version), Some(rebuild()));
        }
        if let Some(wanted) = it.requires_python
            && contains(wanted, &format!("3.{}.99", python.abi.minor)) == Some(false)
        {
            let message =
                format!("`{} {}` wants Python {wanted}, the image has 3.{}", it.name, it.version, python.abi.minor);
            add("PythonVersionMismatch", Level::Warning, message, Some(rebuild()));
        }
        if unfit.is_none()
            && let Some((file, why)) = unfit_extension(image, python, it, &record)
        {
            let level = if in_use() { Level::Error } else { Level::Warning };
            add("PythonExtensionMismatch", level, format!("`{}`: {file} {why}", it.name), Some(rebuild()));
        }
        let files = Files::of(image, it, &record);
        if !files.missing.is_empty() {
            let message = format!(
                "`{} {}` lacks {} of its {} files: {}",
                it.name,
                it.version,
                files.missing.len(),
                record.len(),
                list(&files.missing)
            );
            add("PythonRecordIncomplete", Level::Warning, message, copy_site(image, it, &files.missing));
        }
        if !files.changed.is_empty() {
            let message =
                format!("`{} {}`: {} changed since it was installed", it.name, it.version, list(&files.changed));
            add("PythonRecordChanged", Level::Note, message, None);
        }
        scripts.extend(files.scripts.into_iter().map(|script| (it.name.clone(), script)));
    }
    requirements(image, python, installed, &mut findings);
    lost_lines(python, &mut findings);
    missing_scripts(&scripts, command, &mut findings);
    findings
}

/// The first extension module in a RECORD that this interpreter cannot load, and no other of the same name can.
fn unfit_extension(
    image: &Image<'_>,
    python: &Python<'_>,
    it: &Distribution<'_>,
    record: &[Recorded],
) -> Option<(String, String)> {
    let stem = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        (folder.to_owned(), name.split('.').next().unwrap_or(name).to_owned())
    };
    let modules = || record.iter().filter(|file| file.path.ends_with(".so"));
    let unfit = |file: &&Recorded| python.abi.refuses_extension(file.path.rsplit('/').next().unwrap_or_default());
    let fitting: BTreeSet<(String, String)> =
        modules().filter(|file| unfit(file).is_none()).map(|file| stem(&file.path)).collect();
    modules().find_map(|file| {
        let why = unfit(&file)?;
        let there = image.tree.at(&it.site.join(file.path.as_bytes())).is_some();
        (there && !fitting.contains(&stem(&file.path))).then(|| (file.path.clone(), why))
    })
}

/// What became of a distribution's files.
#[derive(Default)]
struct Files {
    missing: Vec<String>,
    changed: Vec<String>,
    scripts: Vec<String>,
}

impl Files {
    fn of<'a>(image: &Image<'a>, it: &Distribution<'a>, record: &[Recorded]) -> Self {
        let mut files = Self::default();
        // Neighbours in RECORD mostly share a directory.
        let mut folder: (&str, Option<Rc<Dir<'a>>>) = ("", Some(Rc::clone(&it.site)));
        for file in record {
            let path = file.path.as_str();
            if path.starts_with('/') || path.contains("..") {
                let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
                let there = || image.tree.at(&kuz_image::index::join(&it.site.path, path.as_bytes())).is_some();
                if dir.ends_with("/bin") && !path.starts_with('/') && !there() {
                    files.scripts.push(name.to_owned());
                }
                continue;
            }
            if !matters(path) {
                continue;
            }
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            if folder.0 != dir {
                folder = (dir, image.tree.dir(&it.site.join(dir.as_bytes())));
            }
            let seen = folder.1.as_ref().and_then(|dir| Some((dir, dir.get(name.as_bytes())?)));
            match seen {
                None => files.missing.push(path.to_owned()),
                Some((dir, seen)) => {
                    let size = image.tree.size(seen, dir, name.as_bytes());
                    let is_source = path.ends_with(".py");
                    if size.is_none() && !matches!(seen.entry.node, Node::Symlink(_)) {
                        files.missing.push(path.to_owned());
                    } else if is_source && file.size.is_some() && size.is_some() && size != file.size {
                        files.changed.push(path.to_owned());
                    }
                }
            }
        }
        files
    }
}

/// Whether a file of a distribution is code that may be needed: images are made smaller by leaving out the rest.
fn matters(path: &str) -> bool {
    let code = path.ends_with(".py") || path.ends_with(".so");
    code && !path.split('/').any(|part| matches!(part, "tests" | "test" | "testing" | "_tests" | "docs" | "examples"))
}

fn copy_site(image: &Image<'_>, it: &Distribution<'_>, missing: &[String]) -> Option<Advice> {
    let site = shown(&it.site.path);
    let first = missing.first()?;
    let other =
        image.subject.others.iter().find(|other| other.stack().get(&it.site.join(first.as_bytes())).is_some())?;
    Some(Advice {
        text: format!("stage `{}` has them: copy the whole directory", other.name),
        lines: vec![format!("COPY --from={} {site} {site}", other.name)],
    })
}

fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What distributions require of one another.
fn requirements(image: &Image<'_>, python: &Python<'_>, installed: &[Distribution<'_>], findings: &mut Vec<Finding>) {
    let environment = Environment { python: format!("3.{}", python.abi.minor), machine: python.abi.machine.clone() };
    let by_key: BTreeMap<&str, &Distribution<'_>> = installed.iter().map(|it| (it.key.as_str(), it)).collect();
    let parsed: Vec<Vec<Requirement<'_>>> =
        installed.iter().map(|it| it.requires.iter().filter_map(|line| Requirement::parse(line)).collect()).collect();
    // Which extras others ask of each.
    let mut extras: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let before = extras.values().map(BTreeSet::len).sum::<usize>();
        for (it, lines) in installed.iter().zip(&parsed) {
            let asked: Vec<&str> = extras.get(&it.key).map(|set| set.iter().copied().collect()).unwrap_or_default();
            for line in lines.iter().filter(|line| !line.extras.is_empty()) {
                if line.applies(&environment, &asked) == Some(true) {
                    extras.entry(normalize(line.name)).or_default().extend(line.extras.iter().copied());
                }
            }
        }
        if extras.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    for (it, lines) in installed.iter().zip(&parsed) {
        let asked: Vec<&str> = extras.get(&it.key).map(|set| set.iter().copied().collect()).unwrap_or_default();
        for line in lines {
            // What only an extra brings may be missing on purpose, also if another distribution names that extra.
            if line.applies(&environment, &[]) != Some(true) && line.applies(&environment, &asked) != Some(true) {
                continue;
            }
            let (rule, message, advice) = match by_key.get(normalize(line.name).as_str()) {
                None => (
                    "PythonRequirementMissing",
                    format!(
                        "`{} {}` requires `{}{}`, which is not installed",
                        it.name, it.version, line.name, line.versions
                    ),
                    format!("add `{}` to libraries.list (or requirements.txt)", line.name),
                ),
                Some(other) if contains(line.versions, &other.version) == Some(false) => (
                    "PythonRequirementVersion",
                    format!(
                        "`{} {}` requires `{}{}`, and {} is installed",
                        it.name, it.version, line.name, line.versions, other.version
                    ),
                    format!("put `{}{}` into libraries.list (or requirements.txt)", line.name, line.versions),
                ),
                Some(_) => continue,
            };
            let layer = image.tree.at(&it.info).map(|(_, seen)| seen.layer);
            let advice = Some(Advice { text: advice, lines: Vec::new() });
            findings.push(Finding { rule, level: Level::Warning, message, path: Some(shown(&it.info)), layer, advice });
        }
    }
}

/// Lines of `.pth` files that lead nowhere: editable installs of a source that stayed behind.
fn lost_lines(python: &Python<'_>, findings: &mut Vec<Finding>) {
    for (file, line) in &python.lost {
        let editable = line.starts_with('/');
        findings.push(Finding {
            rule: "PythonPathLost",
            level: if editable { Level::Warning } else { Level::Note },
            message: format!("{file} adds `{}` to sys.path, which is not in the image", line.escape_debug()),
            path: Some(file.clone()),
            layer: None,
            advice: editable.then(|| Advice {
                text: "install the project itself (`pip install .`, without -e), or copy that directory too".into(),
                lines: Vec::new(),
            }),
        });
    }
}

/// Commands of distributions that were left behind. The one that the image starts is judged elsewhere.
fn missing_scripts(scripts: &[(String, String)], command: Option<&str>, findings: &mut Vec<Finding>) {
    let names: Vec<String> = scripts
        .iter()
        .filter(|(_, script)| Some(script.as_str()) != command)
        .map(|(_, script)| script.clone())
        .collect();
    if names.is_empty() {
        return;
    }
    findings.push(Finding {
        rule: "PythonScriptsMissing",
        level: Level::Note,
        message: format!("commands of installed packages are not in the image: {}", list(&names)),
        path: None,
        layer: None,
        advice: None,
    });
}

/// Packages for a Python that the image has not.
pub(super) fn foreign(python: &Python<'_>, sites: &[Rc<Dir<'_>>], needed: bool) -> Vec<Finding> {
    sites
        .iter()
        .map(|site| Finding {
            rule: "PythonOtherVersion",
            level: if needed { Level::Error } else { Level::Warning },
            message: format!(
                "{} holds packages, and {} is Python 3.{}, which does not look there",
                shown(&site.path),
                python.program,
                python.abi.minor
            ),
            path: Some(shown(&site.path)),
            layer: None,
            advice: Some(Advice {
                text: format!(
                    "use the same version of Python in every stage: {} is for another",
                    shown(split(&site.path).0)
                ),
                lines: Vec::new(),
            }),
        })
        .collect()
}
