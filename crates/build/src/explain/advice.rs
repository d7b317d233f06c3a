//! What would make the next build faster: rules over an explained build.
//!
//! Each rule takes facts of this build and the one before (which step ran, for what, how long, which files differ) and
//! says nothing where they do not bear it out. Rules about order look only at commands that install packages, whose
//! needs are known; what they advise keeps every file that such a command names.

use std::collections::BTreeMap;

use kuz_plan::preimage::FieldKind;

use super::compare::{Cause, Group, Item, step_label};
use super::installers::{self, Found, Use};
use super::journal::Verb;
use super::{Advice, ReasonKind, ms};

/// A step that takes less is not worth a change, in microseconds.
const WORTH: u64 = 500_000;
/// Builds in a row after which a step counts as one that each build does.
const EACH: u32 = 3;
/// A longer instruction is not written out.
const LINE: usize = 200;
/// Patterns that one advice names.
const PATTERNS: usize = 10;

/// Names of directories that no image needs: they change by themselves.
const IDLE_DIRS: [&str; 17] = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".venv",
    "venv",
    "node_modules",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".nox",
    ".idea",
    ".vscode",
    "htmlcov",
    ".ipynb_checkpoints",
    ".terraform",
];
/// The same of files, by their whole name.
const IDLE_FILES: [&str; 6] = [".DS_Store", ".coverage", "Dockerfile", ".dockerignore", ".gitignore", "Thumbs.db"];
/// The same of files, by the end of their name.
const IDLE_ENDS: [&str; 6] = [".pyc", ".pyo", ".log", ".swp", ".swo", "~"];

/// All advice, that which concerns the most time first.
pub(crate) fn advise(groups: &[Group]) -> Vec<Advice> {
    let mut all = Vec::new();
    for group in groups {
        for (at, item) in group.items.iter().enumerate() {
            ignore(group, item, &mut all);
            if item.verb != Verb::Run || !item.missed() {
                continue;
            }
            let found = installers::find(command(item));
            let ordered = order(group, item, &found, &mut all) || argument(group, at, item, &mut all);
            if !ordered {
                each_time(group, item, &mut all);
            }
            cache_mounts(item, &found, &mut all);
        }
    }
    pinned(groups, &mut all);
    all.sort_by(|one, other| other.ms.total_cmp(&one.ms));
    all.dedup_by(|one, other| one.rule == other.rule && one.lines == other.lines && one.line == other.line);
    all
}

fn command(item: &Item) -> &str {
    item.now.as_ref().and_then(|now| now.field("command")).unwrap_or_default()
}

fn seconds(us: u64) -> String {
    let tenths = us.saturating_add(50_000) / 100_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

fn is_or(text: &str) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= 40 { line } else { format!("{}…", line.chars().take(40).collect::<String>()) }
}

/// A RUN that installs packages stands behind a COPY that changed, and needs none of what changed.
fn order(group: &Group, item: &Item, found: &Found, all: &mut Vec<Advice>) -> bool {
    let Some(Cause::Step(at)) = item.cause else { return false };
    let Some(copy) = group.items.get(at).filter(|copy| matches!(copy.verb, Verb::Copy | Verb::Add)) else {
        return false;
    };
    let changed = &copy.difference.changed;
    let files = context_files(copy);
    if item.cost_us < WORTH || !found.only || found.uses.iter().any(|found| found.whole) || changed.is_empty() {
        return false;
    }
    let needed: Vec<&String> = files.iter().filter(|file| is_needed(file, &found.uses)).collect();
    if changed.iter().any(|path| is_near(path, &needed) || is_needed(path, &found.uses)) {
        return false;
    }
    let instruction = written(&item.text);
    let mut lines = Vec::new();
    let what = if needed.is_empty() {
        "which brings nothing that it names: put it above".to_owned()
    } else {
        let names = needed.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        lines.extend(copies(copy, &needed));
        format!("of which it needs {names} alone: copy that first, and the rest after it")
    };
    lines.push(instruction);
    lines.push(written(&copy.text));
    let message = format!(
        "line {}, `{}` ({}), is done again only since {} changed ({}), {what}",
        item.line,
        is_or(&item.text),
        seconds(item.cost_us),
        step_label(copy),
        some(changed),
    );
    all.push(Advice { rule: "OrderOfCopy", line: item.line, message, file: "Dockerfile", lines, ms: ms(item.cost_us) });
    true
}

/// COPY instructions that bring some of a COPY's files to where it brings them: one a directory.
fn copies(copy: &Item, files: &[&String]) -> Vec<String> {
    let written = copy.text.split_whitespace().last().unwrap_or(".").trim_end_matches('/');
    let sources = copy.now.as_ref().and_then(|now| now.field("sources")).unwrap_or_default();
    let sources: Vec<String> = serde_json::from_str(sources).unwrap_or_default();
    // Of a directory the content is copied: it comes to lie without the directory's own path.
    let source = sources.first().filter(|_| sources.len() == 1).map_or("", String::as_str);
    let source = source.trim_start_matches(['.', '/']).trim_end_matches('/');
    let mut folders: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in files {
        let inside = file.strip_prefix(source).unwrap_or(file).trim_start_matches('/');
        let folder = inside.rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder.to_owned()).or_default().push(file);
    }
    let line = |(folder, files): (String, Vec<&str>)| {
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("COPY {} {written}/{folder}{slash}", files.join(" "))
    };
    folders.into_iter().map(line).collect()
}

/// Paths of a COPY out of the context, as they stand in the context.
fn context_files(copy: &Item) -> Vec<String> {
    let sources = copy.now.iter().flat_map(|now| &now.sources).filter(|source| source.context);
    let files = sources.flat_map(|source| source.files.iter().flatten()).filter(|file| file.kind != b'd');
    files.map(|file| String::from_utf8_lossy(&file.path).into_owned()).collect()
}

/// Whether a command names a file, or reads it without being told.
fn is_needed(path: &str, uses: &[Use]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    uses.iter().any(|found| {
        found.installer.manifests.contains(&name)
            || found.words.iter().any(|word| {
                let word = word.strip_prefix("./").unwrap_or(word);
                let word = word.split_once('=').map_or(word, |(_, value)| value);
                let names = |long: &str, short: &str| {
                    long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
                };
                !word.is_empty() && !word.starts_with('-') && (names(path, word) || names(word, path))
            })
    })
}

/// Files beside those that are needed may be named in them: `-r base.txt` in a list.
fn is_near(path: &str, needed: &[&String]) -> bool {
    const LISTS: [&str; 5] = [".txt", ".in", ".toml", ".cfg", ".lock"];
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    LISTS.iter().any(|end| path.ends_with(end)) && needed.iter().any(|file| folder(file) == folder(path))
}

/// A RUN differs only in variables that it does not name.
fn argument(group: &Group, at: usize, item: &Item, all: &mut Vec<Advice>) -> bool {
    let reasons = &item.difference.reasons;
    let names: Vec<&str> = reasons.iter().map(|reason| reason.what.as_str()).collect();
    let only = !reasons.is_empty() && reasons.iter().all(|reason| reason.kind == ReasonKind::Variable);
    let text = format!("{} {}", command(item), item.text);
    if !only || item.cost_us < WORTH || names.iter().any(|name| text.contains(name)) {
        return false;
    }
    let declares = |step: &Item, name: &str| {
        let mut words = step.text.split_whitespace();
        let verb = words.next().unwrap_or_default();
        verb.eq_ignore_ascii_case("ARG") && words.any(|word| word.split('=').next() == Some(name))
    };
    let step_of = |name: &&str| group.items.iter().take(at).find(|step| declares(step, name));
    let steps: Vec<&Item> = names.iter().filter_map(step_of).collect();
    let Some(first) = steps.first().filter(|_| steps.len() == names.len()) else { return false };
    let message = format!(
        "line {}, `{}` ({}), is done again only since {} changed, which it does not name: declare ARG {} (line {}) after it, \
         if no program that it starts reads it",
        item.line,
        is_or(&item.text),
        seconds(item.cost_us),
        names.join(" and "),
        names.join(" and ARG "),
        first.line,
    );
    let lines = vec![written(&item.text), written(&first.text)];
    all.push(Advice { rule: "OrderOfArg", line: item.line, message, file: "Dockerfile", lines, ms: ms(item.cost_us) });
    true
}

/// A RUN that each build does, though nothing of its own changes.
fn each_time(group: &Group, item: &Item, all: &mut Vec<Advice>) {
    let Some(Cause::Step(at)) = item.cause else { return };
    let Some(cause) = group.items.get(at) else { return };
    if item.in_a_row < EACH || item.cost_us < WORTH {
        return;
    }
    let message = format!(
        "line {}, `{}` ({}), was done by each of the last {} builds, though its own inputs are the same: {} changes each \
         time. What does not need that step's result belongs above it, or into a stage of its own",
        item.line,
        is_or(&item.text),
        seconds(item.cost_us),
        item.in_a_row,
        step_label(cause),
    );
    all.push(Advice {
        rule: "RunsEachTime",
        line: item.line,
        message,
        file: "Dockerfile",
        lines: Vec::new(),
        ms: ms(item.cost_us),
    });
}

/// A RUN that downloads packages and keeps none of them for its next time.
fn cache_mounts(item: &Item, found: &Found, all: &mut Vec<Advice>) {
    let Some(now) = item.now.as_ref().filter(|_| item.cost_us >= WORTH) else { return };
    let mounted = |cache: &str| {
        let settings = now.fields.iter().filter(|field| field.kind == FieldKind::Setting);
        settings.filter_map(|field| field.value.as_deref()).any(|value| {
            let target = value.strip_prefix("cache ").and_then(|rest| rest.split("target=").nth(1));
            let target = target.and_then(|rest| rest.split(' ').next()).unwrap_or("\0");
            cache.starts_with(target.trim_end_matches('/')) || target.starts_with(cache)
        })
    };
    let root = matches!(now.field("user").unwrap_or_default().split(':').next(), Some("" | "0" | "root"));
    for found in &found.uses {
        let installer = found.installer;
        let caches: Vec<&str> = installer.caches.iter().copied().filter(|cache| !mounted(cache)).collect();
        let of_root = caches.iter().any(|cache| cache.starts_with("/root/"));
        // Where another user's downloads are kept cannot be told from here.
        if caches.len() < installer.caches.len() || caches.is_empty() || (of_root && !root) {
            continue;
        }
        let option = installer.no_cache;
        let given = !option.is_empty() && found.words.iter().any(|word| word == option);
        let variable = now.fields.iter().any(|field| {
            field.kind == FieldKind::Variable && installer.name == "pip" && field.name == "PIP_NO_CACHE_DIR"
        });
        let mut besides = Vec::new();
        besides.extend(given.then(|| format!("leave out {option}")));
        besides.extend(variable.then(|| "unset PIP_NO_CACHE_DIR".to_owned()));
        besides.extend((!installer.besides.is_empty()).then(|| installer.besides.to_owned()));
        let besides = if besides.is_empty() { String::new() } else { format!(" ({})", besides.join("; ")) };
        let message = format!(
            "line {}, `{}` took {} and keeps nothing that {} downloads for the next time: a cache mount does{besides}",
            item.line,
            is_or(&item.text),
            seconds(item.cost_us),
            installer.name,
        );
        let mounts: Vec<String> =
            caches.iter().map(|cache| format!("--mount=type=cache,target={cache}{}", installer.sharing)).collect();
        let text = written(&item.text);
        let (verb, rest) = text.split_once(' ').unwrap_or(("RUN", &text));
        let lines = vec![format!("{verb} {} {rest}", mounts.join(" "))];
        let ms = ms(item.cost_us);
        all.push(Advice { rule: "CacheMount", line: item.line, message, file: "Dockerfile", lines, ms });
    }
}

/// Files made a COPY differ that no image needs.
fn ignore(group: &Group, item: &Item, all: &mut Vec<Advice>) {
    let changed = &item.difference.changed;
    let mut patterns: Vec<String> = Vec::new();
    let mut idle = 0;
    for path in changed {
        if let Some(pattern) = pattern(path) {
            idle += 1;
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
    }
    // A file that is asked for by its name is needed.
    let named = item.now.as_ref().and_then(|now| now.field("sources")).unwrap_or_default();
    patterns.retain(|pattern| !named.contains(pattern.trim_start_matches("**/")));
    patterns.truncate(PATTERNS);
    if patterns.is_empty() || !matches!(item.verb, Verb::Copy | Verb::Add) {
        return;
    }
    let behind = group.items.iter().filter(|other| other.number > item.number && other.only_parent());
    let time: u64 = behind.map(|other| other.cost_us).sum::<u64>().saturating_add(item.cost_us);
    let all_of_them = if idle == changed.len() { ": without them it would have been a hit" } else { "" };
    let message = format!(
        "line {}, `{}` takes along files that change and that an image hardly needs ({}){all_of_them}",
        item.line,
        is_or(&item.text),
        some(changed),
    );
    all.push(Advice {
        rule: "IgnoreFiles",
        line: item.line,
        message,
        file: ".dockerignore",
        lines: patterns,
        ms: ms(if idle == changed.len() { time } else { 0 }),
    });
}

/// The line of an ignore file for a path that no image needs.
fn pattern(path: &str) -> Option<String> {
    let mut parts = path.split('/').peekable();
    let mut first = true;
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        if IDLE_DIRS.contains(&part) {
            return Some(if first { part.to_owned() } else { format!("**/{part}") });
        }
        if last {
            if IDLE_FILES.contains(&part) || (first && part.ends_with(".Dockerfile")) {
                return Some(if first { part.to_owned() } else { format!("**/{part}") });
            }
            return IDLE_ENDS.iter().find(|end| part.ends_with(*end)).map(|end| format!("**/*{end}"));
        }
        first = false;
    }
    None
}

/// A base image's name leads elsewhere than before, and everything on it was done again.
fn pinned(groups: &[Group], all: &mut Vec<Advice>) {
    for group in groups {
        let Some((old, _)) = &group.base_change else { continue };
        let based = group.items.iter().filter(|item| item.missed() && item.cause == Some(Cause::Base));
        let time: u64 = based.map(|item| item.cost_us).sum();
        // A name with a digest was changed on purpose.
        if time < WORTH || group.base.contains('@') {
            continue;
        }
        let reference = group.base.trim_start_matches("docker.io/library/").trim_start_matches("docker.io/");
        let message = format!(
            "{}: {reference} is another image than in the build before, so everything on it was done again ({}). A \
             digest keeps the base until you change it",
            group.label,
            seconds(time),
        );
        let name = group.name.as_ref().map(|name| format!(" AS {name}")).unwrap_or_default();
        let lines = vec![format!("FROM {reference}@{old}{name}")];
        all.push(Advice { rule: "PinBase", line: 0, message, file: "Dockerfile", lines, ms: ms(time) });
    }
}

/// A few paths for people.
fn some(paths: &[String]) -> String {
    let shown: Vec<&str> = paths.iter().take(3).map(String::as_str).collect();
    let more = paths.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    shown.join(", ") + &more
}

/// An instruction as it can be written.
fn written(text: &str) -> String {
    if text.contains('\n') || text.chars().count() > LINE {
        let line = text.lines().next().unwrap_or_default();
        return format!("{}…", line.chars().take(LINE).collect::<String>());
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Outcome::{Cached, Config, Done};
    use super::super::compare::groups;
    use super::super::compare::tests::{journal, load};
    use super::super::diff::tests::{copy, field, file, run};
    use super::super::journal::Journal;
    use super::super::record::Preimage;
    use super::*;

    fn advice(now: &Journal, before: &Journal, load: &dyn Fn(&str) -> Option<Preimage>) -> Vec<(String, Vec<String>)> {
        let found = advise(&groups(now, Some(before), load, &BTreeMap::new()));
        found.into_iter().map(|advice| (advice.rule.to_owned(), advice.lines)).collect()
    }

    fn rules(now: &Journal, before: &Journal, load: &dyn Fn(&str) -> Option<Preimage>) -> Vec<String> {
        advice(now, before, load).into_iter().map(|(rule, _)| rule).collect()
    }

    const PIP: &str = "RUN pip install -r requirements.txt";

    #[test]
    fn packages_are_installed_before_the_code_comes() {
        let before = journal("a", &[("COPY . .", "copy1", Done), (PIP, "pip1", Done)]);
        let now = journal("a", &[("COPY . .", "copy2", Done), (PIP, "pip2", Done)]);
        let found = advice(&now, &before, &load);
        assert_eq!(found[0].0, "OrderOfCopy");
        assert_eq!(found[0].1, ["COPY requirements.txt ./", PIP, "COPY . ."]);
        assert_eq!(found[1].0, "CacheMount");
        assert_eq!(found[1].1, ["RUN --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt"]);
        // What it names is what changed; or it needs everything; or nobody knows what it needs.
        for (command, changed) in [
            ("pip install -r requirements.txt", "requirements.txt"),
            ("pip install -r requirements.txt", "base.txt"),
            ("pip install .", "main.py"),
            ("pip install -r requirements.txt && make", "main.py"),
        ] {
            let load = |key: &str| match key {
                "copy1" => Some(copy(vec![file(changed, 1), file("requirements.txt", 1)])),
                "copy2" => Some(copy(vec![
                    file(changed, 2),
                    file("requirements.txt", 2 - u8::from(changed != "requirements.txt")),
                ])),
                "pip1" => Some(Preimage { parent: Some("c1".into()), ..run(command, &[]) }),
                "pip2" => Some(Preimage { parent: Some("c2".into()), ..run(command, &[]) }),
                _ => None,
            };
            assert!(!rules(&now, &before, &load).contains(&"OrderOfCopy".to_owned()), "{command} {changed}");
        }
        // What takes no time is not worth a change.
        let mut quick = now.clone();
        quick.stages[0].steps[1].cost_us = Some(1000);
        assert_eq!(rules(&quick, &before, &load), Vec::<String>::new());
    }

    #[test]
    fn files_come_to_lie_where_the_whole_brought_them() {
        for (text, sources, files, want) in [
            ("COPY . .", "[\".\"]", ["a.txt", "b.txt"], &["COPY a.txt b.txt ./"] as &[&str]),
            ("COPY . /app", "[\".\"]", ["req/a.txt", "b.txt"], &["COPY b.txt /app/", "COPY req/a.txt /app/req/"]),
            (
                "COPY src/ /app/",
                "[\"src/\"]",
                ["src/a.txt", "src/x/b.txt"],
                &["COPY src/a.txt /app/", "COPY src/x/b.txt /app/x/"],
            ),
        ] {
            let with = |_: &str| {
                let mut preimage = copy(vec![]);
                preimage.fields = vec![field(FieldKind::Command, "sources", sources)];
                Some(preimage)
            };
            let now = journal("a", &[(text, "x", Done)]);
            let groups = groups(&now, None, &with, &BTreeMap::new());
            let files = files.map(str::to_owned);
            assert_eq!(copies(&groups[0].items[0], &files.iter().collect::<Vec<_>>()), want, "{text}");
        }
    }

    #[test]
    fn arguments_come_after_what_does_not_name_them() {
        let steps = |key: &'static str, outcome| journal("a", &[("ARG SHA", "", Config), ("RUN make", key, outcome)]);
        let (before, now) = (steps("arg1", Done), steps("arg2", Done));
        assert_eq!(
            advice(&now, &before, &load),
            [("OrderOfArg".to_owned(), vec!["RUN make".into(), "ARG SHA".into()])]
        );
        let named = |key: &str| {
            let value = if key == "arg1" { "1" } else { "2" };
            Some(Preimage { parent: Some("c".into()), ..run("make V=$SHA", &[("SHA", value)]) })
        };
        assert_eq!(rules(&now, &before, &named), Vec::<String>::new());
    }

    #[test]
    fn cache_mounts_are_advised_where_there_is_none() {
        let now = journal("a", &[("RUN x", "new", Done)]);
        let before = journal("a", &[("RUN x", "old", Done)]);
        let with = |command: &str, settings: &[(&str, &str)]| {
            let load = |key: &str| {
                let mut preimage = run(if key == "new" { command } else { "old" }, &[]);
                preimage.fields.extend(settings.iter().map(|(name, value)| field(FieldKind::Setting, name, value)));
                Some(preimage)
            };
            rules(&now, &before, &load)
        };
        let mount = "cache id=/root/.cache/pip source=/ target=/root/.cache/pip sharing=shared mode=0755 uid=0 gid=0";
        for (command, settings, advised) in [
            ("pip install x", &[] as &[(&str, &str)], true),
            ("pip install x", &[("mount 1", mount)], false),
            ("pip install x", &[("user", "app")], false),
            ("pip install x", &[("user", "0:0")], true),
            ("apt-get update && apt-get install -y x", &[("user", "app")], true),
            ("bundle install", &[], false),
            ("make", &[], false),
        ] {
            assert_eq!(with(command, settings), vec!["CacheMount"; usize::from(advised)], "{command} {settings:?}");
        }
    }

    #[test]
    fn files_that_no_image_needs_are_ignored() {
        for (path, want) in [
            (".git/index", Some(".git")),
            ("a/__pycache__/b.pyc", Some("**/__pycache__")),
            ("a/b.pyc", Some("**/*.pyc")),
            ("Dockerfile", Some("Dockerfile")),
            ("docker/x.log", Some("**/*.log")),
            ("src/main.py", None),
            ("git", None),
        ] {
            assert_eq!(pattern(path).as_deref(), want, "{path}");
        }
        let now = journal("a", &[("COPY . .", "new", Done), (PIP, "pip2", Cached)]);
        let before = journal("a", &[("COPY . .", "old", Done), (PIP, "pip1", Done)]);
        let changed = |key: &str| Some(copy(vec![file(".git/index", u8::from(key == "new")), file("a", 1)]));
        assert_eq!(advice(&now, &before, &changed), [("IgnoreFiles".to_owned(), vec![".git".to_owned()])]);
    }

    #[test]
    fn a_moved_base_and_a_step_of_each_build() {
        let steps = |image, copy, make| journal(image, &[("COPY . .", copy, Done), ("RUN make", make, Done)]);
        let on = |parent: &str, preimage: Preimage| Some(Preimage { parent: Some(parent.into()), ..preimage });
        let load = |key: &str| match key {
            "c1" => on("base", copy(vec![file("a", 1)])),
            "c2" => on("base", copy(vec![file("a", 2)])),
            "c3" => on("moved", copy(vec![file("a", 1)])),
            key => on(key, run("make", &[])),
        };
        let mut now = steps("a", "c2", "m2");
        assert_eq!(rules(&now, &steps("a", "c1", "m1"), &load), Vec::<String>::new());
        now.stages[0].steps[1].in_a_row = EACH;
        assert_eq!(rules(&now, &steps("a", "c1", "m1"), &load), ["RunsEachTime"]);
        let moved = advice(&steps("b", "c3", "m2"), &steps("a", "c1", "m1"), &load);
        assert_eq!(moved, [("PinBase".to_owned(), vec!["FROM python:3@a".to_owned()])]);
    }
}
