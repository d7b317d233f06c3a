//! Hits and settings to findings: what is in the image, how it came there, and what to do about it.
//!
//! In a base's layers and in published files everything is a note, and those are counted together. What `allowed` names is
//! passed over. A file that a later layer deletes or replaces is still in the image, and the finding says so.

use std::collections::BTreeMap;

use super::Hit;
use super::config;
use super::paths::{matches, name_of};
use super::published::Published;
use super::rules::{Rule, rule};
use crate::finding::{Advice, Finding, Level};
use crate::subject::Subject;

/// Findings of one rule in one layer; what is over that is counted.
const SHOWN: usize = 20;
/// Keys that installing a package makes: nobody's secret, but the same for all who have the image.
const MACHINE_MADE: &[&str] = &["etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssh/ssh_host_*_key"];

/// What must not be in the image. `allowed` is asked with paths (no leading slash), and with names such as `env:TOKEN`,
/// `label:x`, `arg:TOKEN`, `history`, `cmd`, `entrypoint` and `healthcheck` for what is in the configuration.
pub fn check(subject: &Subject<'_>, allowed: &dyn Fn(&[u8]) -> bool) -> Vec<Finding> {
    let mut findings = files(subject, allowed);
    findings.extend(config::check(subject, allowed));
    findings.sort_by(|a, b| {
        b.level.cmp(&a.level).then_with(|| (a.layer, &a.path, a.rule).cmp(&(b.layer, &b.path, b.rule)))
    });
    findings
}

/// A hit with its layer and its rule.
type Placed<'s> = (usize, &'s Hit, &'static Rule);

fn files(subject: &Subject<'_>, allowed: &dyn Fn(&[u8]) -> bool) -> Vec<Finding> {
    let hits: Vec<Placed<'_>> = subject
        .facts
        .iter()
        .enumerate()
        .flat_map(|(layer, facts)| facts.secrets.iter().map(move |hit| (layer, hit)))
        .filter(|(_, hit)| !allowed(&hit.path))
        .filter_map(|(layer, hit)| rule(&hit.rule).map(|rule| (layer, hit, rule)))
        .collect();
    let published = Published::new(subject, &hits.iter().map(|(_, hit, _)| *hit).collect::<Vec<_>>());
    let mut findings = Vec::new();
    let mut counted: BTreeMap<(usize, &str), Vec<Placed<'_>>> = BTreeMap::new();
    let mut known: BTreeMap<(&str, String), Vec<Placed<'_>>> = BTreeMap::new();
    for placed in hits {
        let (layer, hit, rule) = placed;
        let owner = if layer < subject.base_layers { Some("the base image".to_owned()) } else { published.by(hit) };
        if let Some(owner) = owner {
            known.entry((rule.name, owner)).or_default().push(placed);
        } else {
            counted.entry((layer, rule.name)).or_default().push(placed);
        }
    }
    for group in counted.into_values() {
        findings.extend(group.iter().take(SHOWN).map(|placed| one(subject, *placed)));
        if let Some((layer, hit, rule)) = group.get(SHOWN) {
            let message = format!("{} in {} more files", rule.what, group.len() - SHOWN);
            findings.push(finding(rule, level(hit, rule), message, Some(&hit.path), Some(*layer), None));
        }
    }
    for ((_, owner), group) in known {
        let Some((layer, hit, rule)) = group.first() else { continue };
        let more = match group.len() {
            1 => String::new(),
            count => format!(", in {count} files"),
        };
        let message = format!("{} that comes with {owner}{more}", rule.what);
        findings.push(finding(rule, Level::Note, message, Some(&hit.path), Some(*layer), None));
    }
    findings
}

fn level(hit: &Hit, rule: &Rule) -> Level {
    let made = MACHINE_MADE.iter().any(|pattern| matches(&hit.path, pattern));
    if made { rule.level.min(Level::Warning) } else { rule.level }
}

fn one(subject: &Subject<'_>, (layer, hit, rule): Placed<'_>) -> Finding {
    let line = hit.line.map_or_else(String::new, |line| format!(" in line {line}"));
    let more = match hit.count {
        0 | 1 => String::new(),
        count if count >= super::scanner::MATCHES => ", and many more".to_owned(),
        count => format!(", and {} more", count - 1),
    };
    let fate = match subject.stack.find(&hit.path) {
        Some((top, _)) if top == layer => "",
        Some(_) => "; replaced in a later layer, but still in the image",
        None => "; deleted in a later layer, but still in the image",
    };
    let message = format!("{}{line}{more}{fate}", rule.what);
    let level = level(hit, rule);
    let text = advice(origin(subject, layer), &hit.path, level, !fate.is_empty());
    finding(rule, level, message, Some(&hit.path), Some(layer), Some(text))
}

pub(super) fn finding(
    rule: &Rule,
    level: Level,
    message: String,
    path: Option<&[u8]>,
    layer: Option<usize>,
    advice: Option<String>,
) -> Finding {
    Finding {
        rule: rule.name,
        level,
        message,
        path: path.map(|path| format!("/{}", String::from_utf8_lossy(path))),
        layer,
        advice: advice.map(|text| Advice { text, lines: Vec::new() }),
    }
}

/// How a layer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Copied,
    Run,
    Unknown,
}

fn origin(subject: &Subject<'_>, layer: usize) -> Origin {
    let made = subject.config.history.iter().filter(|entry| !entry.empty_layer).nth(layer);
    let line = made.and_then(|entry| entry.created_by.as_deref()).unwrap_or_default();
    let words = line.strip_prefix("/bin/sh -c #(nop)").map_or(line, str::trim_start);
    match words.split_ascii_whitespace().next() {
        Some("COPY" | "ADD") => Origin::Copied,
        Some("RUN" | "/bin/sh") => Origin::Run,
        _ => Origin::Unknown,
    }
}

/// Directories that no image needs: a file in one is left out with it, and not by a name that others have too.
const LEFT_OUT: [&[u8]; 6] = [b".git", b".ssh", b".aws", b".docker", b".kube", b".azure"];

/// The name by which a file is kept out of what is copied.
fn left_out(path: &[u8]) -> &[u8] {
    kuz_image::index::components(path).find(|name| LEFT_OUT.contains(name)).unwrap_or_else(|| name_of(path))
}

fn advice(origin: Origin, path: &[u8], level: Level, gone: bool) -> String {
    let shown = String::from_utf8_lossy(path);
    let mut parts = vec![match origin {
        Origin::Copied => {
            format!("keep it out of what is copied: add `**/{}` to .dockerignore", ignored(left_out(path)))
        }
        Origin::Run if gone => {
            "remove it in the RUN that makes it, or give it to that step with `RUN --mount=type=secret`".to_owned()
        }
        Origin::Run => {
            "give it to the step with `RUN --mount=type=secret`, which leaves nothing in the layer".to_owned()
        }
        Origin::Unknown => "make the image without it".to_owned(),
    }];
    if !gone {
        parts.push("what the program needs is given to the container when it starts".to_owned());
    }
    parts.push("if an image with it left this machine, replace the secret itself".to_owned());
    if level == Level::Error {
        parts.push(format!("if it is meant to be there: --allow-secret '{}'", ignored(shown.as_bytes())));
    }
    parts.join("; ")
}

/// A name as ignore files take it literally.
fn ignored(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.chars().fold(String::new(), |mut text, character| {
        if "*?[]\\".contains(character) {
            text.push('\\');
        }
        text.push(character);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::left_out;

    #[test]
    fn what_is_left_out_is_no_name_of_others() {
        for (path, name) in [
            ("app/.git/config", ".git"),
            ("app/.ssh/id_rsa", ".ssh"),
            ("app/.env", ".env"),
            ("app/deploy/config", "config"),
        ] {
            assert_eq!(left_out(path.as_bytes()), name.as_bytes(), "{path}");
        }
    }
}
