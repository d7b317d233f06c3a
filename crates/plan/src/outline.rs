//! What a Dockerfile offers: its targets, and the arguments, secrets, ssh agents and caches that one of them takes.
//!
//! A file and a request in, values for printing out. No image is looked up; descriptions are the comments above ARG and
//! FROM that begin with the name (`# builder compiles everything`).

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::ast::{Dockerfile, Instruction, Kind, Mount, Word};
use kuz_dockerfile::word::expand_reporting;
use kuz_dockerfile::{Diagnostic, Severity};
use serde::Serialize;

use crate::expand;
use crate::plan::KnownImages;
use crate::reach;
use crate::request::Request;
use crate::scope::Globals;
use crate::stages::{Cut, Stages};

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, or its number where it has none.
    pub name: String,
    /// It's what is built if nobody names a target.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// From the comment above FROM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Image or stage, expanded.
    pub base: String,
    /// `--platform`, expanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The target.
    pub name: String,
    /// From the comment above FROM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// ARGs, global ones that are used first.
    pub args: Vec<Argument>,
    /// `RUN --mount=type=secret`, by id.
    pub secrets: Vec<Mounted>,
    /// `RUN --mount=type=ssh`, by id.
    pub ssh: Vec<Mounted>,
    /// `RUN --mount=type=cache`, by id.
    pub cache: Vec<Mounted>,
}

/// An ARG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// From the comment above ARG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The build argument, else the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Something that a RUN mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mounted {
    /// Its id.
    pub name: String,
    /// The step fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// All stages, in order of the file.
pub fn targets(file: &Dockerfile, request: &Request) -> Result<Vec<Target>, Vec<Diagnostic>> {
    with_stages(file, request, |cut, stages, _| {
        let last = stages.list.len().saturating_sub(1);
        let pairs = stages.list.iter().zip(&cut.stages);
        let targets = pairs.map(|(stage, (start, ..))| Target {
            name: stage.name.clone().unwrap_or_else(|| stage.number.to_string()),
            default: stage.number == last,
            description: stage.name.as_deref().and_then(|name| description(start, name)),
            base: stage.image.clone(),
            platform: stage.platform.as_ref().map(ToString::to_string),
        });
        Ok(targets.collect())
    })
}

/// What the request's target takes.
pub fn outline(file: &Dockerfile, request: &Request) -> Result<Outline, Vec<Diagnostic>> {
    with_stages(file, request, |cut, stages, globals| {
        let target = stages.target().map_err(|error| vec![error])?;
        let reached = reach::reach(stages, target, &KnownImages::new());
        if !reached.errors.is_empty() {
            return Err(reached.errors);
        }
        let mut outline = Outline {
            name: stages
                .list
                .get(target)
                .map(|stage| stage.name.clone().unwrap_or_else(|| stage.number.to_string()))
                .unwrap_or_default(),
            description: None,
            args: Vec::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            cache: Vec::new(),
        };
        outline.description = cut.stages.get(target).and_then(|(start, ..)| description(start, &outline.name));
        let escape = file.directives.escape_char();
        let used = used_globals(cut, reached.bases.keys(), globals, escape);
        let mut seen = BTreeSet::new();
        let bodies = reached.bases.keys().filter_map(|number| stages.list.get(*number)).flat_map(|stage| stage.body);
        let with_place = cut.arguments.iter().map(|&argument| (true, argument)).chain(bodies.map(|line| (false, line)));
        for (global, instruction) in with_place {
            match &instruction.kind {
                Kind::Arg(items) => {
                    let asked = items.iter().filter(|item| !global || used.contains(&item.name.value));
                    for item in asked.filter(|item| seen.insert(item.name.value.clone())) {
                        let name = item.name.value.clone();
                        let default =
                            item.default.as_ref().and_then(|word| expand::word(word, &globals.env, escape).ok());
                        let value = request.build_args.get(&name).cloned().or(default.map(|default| default.text));
                        let value = value.or_else(|| globals.env.get(&name).map(str::to_owned));
                        outline.args.push(Argument { description: description(instruction, &name), name, value });
                    }
                }
                Kind::Run(run) => run.mounts.iter().for_each(|mount| outline.mounted(mount)),
                _ => {}
            }
        }
        Ok(outline)
    })
}

/// The arguments above the first FROM that the stages of these numbers use: in their FROM lines, by an ARG of the same
/// name, or in the default of one that is used.
fn used_globals<'n>(
    cut: &Cut<'_>,
    numbers: impl Iterator<Item = &'n usize>,
    globals: &Globals,
    escape: char,
) -> BTreeSet<String> {
    let names = |word: &Word| {
        let expanded = expand_reporting(&word.value, &globals.env, escape).unwrap_or_default();
        expanded.used.into_iter().chain(expanded.unset)
    };
    let mut used = BTreeSet::new();
    for (_, from, body) in numbers.filter_map(|number| cut.stages.get(*number)) {
        used.extend([Some(&from.image), from.platform.as_ref()].into_iter().flatten().flat_map(names));
        for instruction in *body {
            if let Kind::Arg(items) = &instruction.kind {
                used.extend(items.iter().map(|item| item.name.value.clone()));
            }
        }
    }
    for instruction in cut.arguments.iter().rev() {
        let Kind::Arg(items) = &instruction.kind else { continue };
        for item in items.iter().rev().filter(|item| used.contains(&item.name.value)).collect::<Vec<_>>() {
            used.extend(item.default.iter().flat_map(names));
        }
    }
    used
}

impl Outline {
    fn mounted(&mut self, mount: &Mount) {
        let options: BTreeMap<&str, &str> =
            mount.options.iter().map(|(key, value)| (key.as_str(), value.as_deref().unwrap_or("true"))).collect();
        let target = ["target", "dst", "destination"].into_iter().find_map(|key| options.get(key).copied());
        let id = options.get("id").copied();
        let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let (list, name) = match options.get("type").copied() {
            Some("secret") => {
                let name = id
                    .map_or_else(|| base(target.or(options.get("source").copied()).unwrap_or_default()), str::to_owned);
                (&mut self.secrets, name)
            }
            Some("ssh") => (&mut self.ssh, id.unwrap_or("default").to_owned()),
            Some("cache") => (&mut self.cache, id.or(target).unwrap_or_default().to_owned()),
            _ => return,
        };
        let required = options.get("required").is_some_and(|value| matches!(*value, "true" | "1"));
        match list.iter_mut().find(|known| known.name == name) {
            Some(known) => known.required |= required,
            None => list.push(Mounted { name, required }),
        }
    }
}

/// The comment above that begins with the name.
fn description(instruction: &Instruction, name: &str) -> Option<String> {
    let text = instruction.comments.last()?.value.strip_prefix(name)?;
    let text = text.strip_prefix(' ')?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn with_stages<T>(
    file: &Dockerfile,
    request: &Request,
    work: impl FnOnce(&Cut<'_>, &Stages<'_>, &Globals) -> Result<T, Vec<Diagnostic>>,
) -> Result<T, Vec<Diagnostic>> {
    let one = |error| vec![error];
    let escape = file.directives.escape_char();
    let cut = Cut::new(file).map_err(one)?;
    let target = cut.target(request);
    let globals = Globals::new(&cut.arguments, request, &target, &request.build_args, escape).map_err(one)?;
    let mut found = Vec::new();
    let stages = Stages::new(&cut, request, &globals, escape, &mut found);
    if found.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(found);
    }
    work(&cut, &stages, &globals)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kuz_image::Platform;

    use super::*;
    use crate::plan::Network;

    const FILE: &str = "\
# BASE the image to stand on
ARG BASE=python:3.10
# builder compiles everything
FROM ${BASE} AS builder
ARG BASE
# JOBS how many at once
ARG JOBS=2
RUN --mount=type=secret,id=token,required --mount=type=ssh --mount=type=cache,target=/root/.cache/pip make
FROM scratch AS unused
ARG NEVER
FROM --platform=linux/arm64 scratch
COPY --from=builder /x /x
";

    fn request(target: Option<&str>) -> Request {
        Request {
            build_args: [("JOBS".to_owned(), "4".to_owned())].into(),
            target: target.map(str::to_owned),
            platform: Platform::host(),
            build_platform: Platform::host(),
            labels: BTreeMap::new(),
            network: Network::Host,
            named_contexts: BTreeSet::new(),
            named_images: BTreeMap::new(),
        }
    }

    #[test]
    fn targets_have_names_bases_and_descriptions() {
        let targets = targets(&kuz_dockerfile::parse(FILE.as_bytes()).file, &request(None)).unwrap();
        let shown: Vec<String> = targets
            .iter()
            .map(|target| format!("{} {} {} {:?}", target.name, target.base, target.default, target.description))
            .collect();
        assert_eq!(
            shown,
            [
                "builder python:3.10 false Some(\"compiles everything\")",
                "unused scratch false None",
                "2 scratch true None"
            ]
        );
        assert_eq!(targets[2].platform.as_deref(), Some("linux/arm64"));
    }

    #[test]
    fn an_outline_lists_what_the_target_takes() {
        let file = kuz_dockerfile::parse(FILE.as_bytes()).file;
        let found = outline(&file, &request(None)).unwrap();
        let args: Vec<_> = found.args.iter().map(|arg| (arg.name.as_str(), arg.value.as_deref())).collect();
        assert_eq!(args, [("BASE", Some("python:3.10")), ("JOBS", Some("4"))]);
        assert_eq!(found.args[1].description.as_deref(), Some("how many at once"));
        assert_eq!(found.secrets, [Mounted { name: "token".to_owned(), required: true }]);
        assert_eq!(found.ssh, [Mounted { name: "default".to_owned(), required: false }]);
        assert_eq!(found.cache[0].name, "/root/.cache/pip");
        let other = outline(&file, &request(Some("unused"))).unwrap();
        let names: Vec<_> = other.args.iter().map(|arg| arg.name.as_str()).collect();
        assert_eq!((names, other.secrets.len()), (vec!["NEVER"], 0), "BASE is another stage's");
        assert!(outline(&file, &request(Some("nothing"))).is_err());
    }
}
