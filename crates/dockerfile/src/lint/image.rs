//! Rules about base images, COPY and ADD, USER, ENV and EXPOSE, as hadolint has them.

use std::collections::BTreeSet;

use super::file::unquoted;
use super::view::{Stage, View};
use super::{Findings, Options};
use crate::ast::{Copy, Instruction, Kind, Pair};
use crate::suggest;
use crate::word::expand_reporting;

/// Ports end here.
const HIGHEST_PORT: u32 = 65535;
/// Ends of names that ADD may unpack.
const ARCHIVES: [&str; 12] =
    [".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".tbz", ".xz", ".txz", ".zst", ".tzst", ".lzma", ".z"];

pub(super) fn all(view: &View<'_>, options: &Options, findings: &mut Findings<'_>) {
    for stage in &view.stages {
        base(stage, options, findings);
        in_stage(view, stage, findings);
    }
    if let Some(last) = view.last() {
        last_user(view, last, findings);
        healthcheck(view, last, findings);
    }
    findings.leave();
}

fn base(stage: &Stage<'_>, options: &Options, findings: &mut Findings<'_>) {
    let Some(image) = stage.image.as_deref().filter(|image| stage.below.is_none() && *image != "scratch") else {
        return;
    };
    let span = stage.from.image.span;
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match tag {
        _ if digest.is_some() => {}
        None => {
            let hint = format!("write {name}:VERSION");
            findings.advise(
                "UntaggedBase",
                stage.start,
                span,
                "the base image has no tag: it's `latest`, whatever that is",
                hint,
            );
        }
        Some("latest") => {
            let message = "the base image's tag is `latest`, which is another image tomorrow";
            findings.advise("LatestBase", stage.start, span, message, "name a version");
        }
        Some(_) => {}
    }
    let registry = registry_of(name);
    if !options.trusted_registries.is_empty() && !options.trusted_registries.contains(registry) {
        let message = format!("the base image comes from {registry}, which is no trusted registry");
        findings.advise(
            "UntrustedRegistry",
            stage.start,
            span,
            &message,
            "take it from a registry of --trusted-registry",
        );
    }
}

fn registry_of(name: &str) -> &str {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

fn in_stage(view: &View<'_>, stage: &Stage<'_>, findings: &mut Findings<'_>) {
    let mut workdir = view.chain(stage).skip(1).any(has_workdir);
    let mut after_run = false;
    for instruction in stage.body {
        let is_run = matches!(&instruction.kind, Kind::Run(run) if run.mounts.is_empty() && run.heredocs.is_empty());
        match &instruction.kind {
            Kind::Workdir(_) => workdir = true,
            Kind::Copy(copy) | Kind::Add(copy) => {
                destination(stage, instruction, copy, workdir, findings);
                if matches!(instruction.kind, Kind::Add(_)) {
                    plain_add(view, instruction, copy, findings);
                }
            }
            Kind::Run(_) if is_run && after_run => {
                let message = "this RUN follows another: each is a layer";
                findings.advise("ConsecutiveRun", instruction, instruction.keyword.span, message, "join them with &&");
            }
            Kind::Env(pairs) => self_reference(view, instruction, pairs, findings),
            Kind::Expose(ports) => {
                for port in ports {
                    let text = unquoted(port, view.escape);
                    let numbers = text.split('/').next().unwrap_or_default().split('-');
                    let high = |number: &str| number.parse::<u32>().is_ok_and(|number| number > HIGHEST_PORT);
                    if numbers.into_iter().any(high) {
                        findings.advise(
                            "PortRange",
                            instruction,
                            port.span,
                            "there is no such port",
                            "ports end at 65535",
                        );
                    }
                }
            }
            Kind::User(user) => {
                let name = unquoted(user, view.escape);
                let name = name.split(':').next().unwrap_or_default();
                if !name.contains('$') && name != "root" && name.parse::<u32>().is_err() {
                    let message = "the user is a name: whether it's root can't be seen from outside";
                    findings.advise("NamedUser", instruction, user.span, message, "write its number");
                }
            }
            _ => {}
        }
        after_run = is_run;
    }
    for (instruction, copy, from) in stage.copies_from() {
        source(view, stage, instruction, copy, from, findings);
    }
}

fn has_workdir(stage: &Stage<'_>) -> bool {
    stage.body.iter().any(|instruction| matches!(instruction.kind, Kind::Workdir(_)))
}

fn destination(stage: &Stage<'_>, at: &Instruction, copy: &Copy, workdir: bool, findings: &mut Findings<'_>) {
    let dest = copy.dest.value.trim_matches(['"', '\'']);
    let directory = dest.ends_with('/') || matches!(dest, "." | "..") || dest.ends_with("/.") || dest.contains('$');
    // A flag behind the paths is another rule's.
    let flag = dest.starts_with("--");
    if copy.sources.len() + copy.heredocs.len() > 1 && !directory && !flag {
        let message = "several sources go to one destination that isn't written as a directory";
        findings.advise("CopyDestNoSlash", at, copy.dest.span, message, format!("write {dest}/"));
    }
    let absolute = dest.starts_with(['/', '$', '\\']) || dest.as_bytes().get(1) == Some(&b':');
    if !workdir && !absolute && stage.image.as_deref() != Some("scratch") {
        let message = "the destination is relative, and no WORKDIR says to what: files may land in /";
        findings.advise(
            "CopyRelativeNoWorkdir",
            at,
            copy.dest.span,
            message,
            "put a WORKDIR above, for example WORKDIR /app",
        );
    }
}

fn plain_add(view: &View<'_>, at: &Instruction, copy: &Copy, findings: &mut Findings<'_>) {
    let plain = |source: &crate::ast::Word| {
        let text = unquoted(source, view.escape).to_lowercase();
        let remote = text.contains("://") || text.starts_with("git@") || format!("{text}#").contains(".git#");
        let archive = ARCHIVES.iter().any(|end| text.ends_with(end));
        !remote && !archive && !text.contains(['$', '*', '?', '['])
    };
    if copy.unpack.is_none() && !copy.sources.is_empty() && copy.sources.iter().all(plain) {
        let message = "ADD copies plain files here, as COPY does without ADD's surprises";
        findings.advise("AddForPlainFile", at, at.keyword.span, message, "write COPY");
    }
}

fn self_reference(view: &View<'_>, at: &Instruction, pairs: &[Pair], findings: &mut Findings<'_>) {
    if pairs.len() < 2 {
        return;
    }
    let keys: BTreeSet<&str> = pairs.iter().map(|pair| pair.key.value.as_str()).collect();
    let mut above = BTreeSet::new();
    for pair in pairs {
        // A variable may add to what it was, once.
        let again = !above.insert(pair.key.value.as_str());
        let Ok(value) = expand_reporting(&pair.value.value, &|_: &str| None, view.escape) else { continue };
        let mut used = value.unset.iter();
        let others = used.find(|name| keys.contains(name.as_str()) && (again || **name != pair.key.value));
        if let Some(name) = others {
            let message = format!("${name} is set by this ENV and has its old value in it");
            findings.advise(
                "EnvSelfReference",
                at,
                pair.value.span,
                &message,
                format!("set {name} in an ENV of its own above"),
            );
        }
    }
}

/// So many names of stages are compared to one that is none.
const MAX_NAMES: usize = 1000;

fn source(view: &View<'_>, stage: &Stage<'_>, at: &Instruction, copy: &Copy, from: &str, findings: &mut Findings<'_>) {
    let span = copy.from.as_ref().map_or(at.span, |from| from.span);
    if stage.name.as_deref() == Some(from.to_lowercase().as_str()) && view.source(from, stage.number).is_none() {
        findings.advise("CopyFromSelf", at, span, "a stage cannot copy from itself", "name an earlier stage");
        return;
    }
    let found = view.source(from, stage.number);
    let number = from.parse::<usize>().is_ok();
    if found.is_none() && !number && from != "scratch" && !from.contains(['/', ':', '@', '$']) {
        let message = format!("no stage above is called `{from}`: it's an image of that name, without a tag");
        let names = view.stages.iter().take(MAX_NAMES).filter_map(|stage| stage.name.as_deref());
        let hint = match suggest::nearest(&from.to_lowercase(), names) {
            Some(near) => format!("did you mean the stage {near}?"),
            None => format!("name a stage above, or write {from}:VERSION"),
        };
        findings.advise("CopyFromUnknown", at, span, &message, hint);
    }
    let whole = copy.sources.iter().any(|source| source.value == "/" || source.value == "/*");
    let onto_scratch = stage.image.as_deref() == Some("scratch");
    if whole && copy.dest.value == "/" && !onto_scratch {
        let message = "a whole root is copied onto another one: files of both are mixed";
        findings.advise("CopyWholeRoot", at, at.span, message, "copy the paths that are needed, or begin FROM scratch");
    }
}

fn last_user(view: &View<'_>, last: &Stage<'_>, findings: &mut Findings<'_>) {
    let users = view.chain(last).flat_map(|stage| stage.body.iter().rev());
    let user = users.into_iter().find_map(|instruction| match &instruction.kind {
        Kind::User(user) => Some((instruction, user)),
        _ => None,
    });
    let Some((instruction, user)) = user else { return };
    let name = unquoted(user, view.escape);
    if matches!(name.split(':').next(), Some("root" | "0")) {
        let message = "the last USER is root: so is the program in the container";
        findings.advise("LastUserRoot", instruction, user.span, message, "end with a USER that isn't root");
    }
}

fn healthcheck(view: &View<'_>, last: &Stage<'_>, findings: &mut Findings<'_>) {
    let mut body = view.chain(last).flat_map(|stage| stage.body);
    if !body.any(|instruction| matches!(instruction.kind, Kind::Healthcheck(_))) {
        let hint = "add a HEALTHCHECK, or HEALTHCHECK NONE where something else watches";
        findings.advise(
            "NoHealthcheck",
            last.start,
            last.from.image.span,
            "nothing says how to see that the container works",
            hint,
        );
    }
}
