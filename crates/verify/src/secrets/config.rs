//! Secrets in the configuration: variables, labels, commands, and the history, which keeps build arguments.
//!
//! The configuration in, findings out. Values are given to the same rules as files; a name that says `password` makes any
//! value a warning that is no stand-in. What a base set is a note, as far as the history tells what is the base's.

use std::collections::{BTreeMap, BTreeSet};

use super::check::finding;
use super::rules::{Rule, rule};
use super::{Scanner, assignment};
use crate::finding::{Finding, Level};
use crate::subject::Subject;

const WHAT_TO_DO: &str = "give it to the container when it starts, or to a step with `RUN --mount=type=secret`; everybody who has the image can read it; if an image with it left this machine, replace the secret itself";

/// What the configuration gives away.
pub(super) fn check(subject: &Subject<'_>, allowed: &dyn Fn(&[u8]) -> bool) -> Vec<Finding> {
    let mut report = Report { allowed, findings: Vec::new(), said: BTreeSet::new() };
    let config = &subject.config.config;
    let (of_base, of_build) = subject.config.history.split_at(history_of_base(subject));
    let base: Vec<&str> = of_base.iter().filter_map(|entry| entry.created_by.as_deref()).collect();
    let based = |text: &str| base.iter().any(|line| !text.is_empty() && line.contains(text));
    for entry in config.env.iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        let place = Place { kind: "ENV", allow: format!("env:{name}"), shown: format!("the variable `{name}` (ENV)") };
        report.pair(&place, name, value, based(entry));
    }
    for (name, value) in config.labels.iter().flatten() {
        let place = Place { kind: "LABEL", allow: format!("label:{name}"), shown: format!("the label `{name}`") };
        report.pair(&place, name, value, based(value));
    }
    let health = config.healthcheck.as_ref().and_then(|check| check.test.clone());
    let commands = [
        ("ENTRYPOINT", "entrypoint", &config.entrypoint),
        ("CMD", "cmd", &config.cmd),
        ("HEALTHCHECK", "healthcheck", &health),
        ("ONBUILD", "onbuild", &config.on_build),
    ];
    for (kind, allow, words) in commands {
        let text = words.as_deref().unwrap_or_default().join(" ");
        let place = Place { kind, allow: allow.to_owned(), shown: kind.to_owned() };
        report.line(&place, &text, &BTreeSet::new(), based(&text));
    }
    let set: BTreeSet<&str> = config.env.iter().flatten().map(String::as_str).collect();
    for line in of_build.iter().filter_map(|entry| entry.created_by.as_deref()) {
        report.history(line, &set);
    }
    report.findings
}

/// What a manifest's annotations give away; their names for `allowed` are `annotation:x`.
pub fn check_annotations(annotations: &BTreeMap<String, String>, allowed: &dyn Fn(&[u8]) -> bool) -> Vec<Finding> {
    let mut report = Report { allowed, findings: Vec::new(), said: BTreeSet::new() };
    for (name, value) in annotations {
        let allow = format!("annotation:{name}");
        let place = Place { kind: "annotation", allow, shown: format!("the annotation `{name}`") };
        report.pair(&place, name, value, false);
    }
    report.findings
}

/// How many entries are the base's: those up to its last layer. What follows without a layer may be either's.
fn history_of_base(subject: &Subject<'_>) -> usize {
    let layers = subject.config.history.iter().enumerate().filter(|(_, entry)| !entry.empty_layer);
    let last = subject.base_layers.checked_sub(1).and_then(|last| layers.map(|(number, _)| number).nth(last));
    last.map_or(0, |last| last + 1)
}

/// Where a text stands.
struct Place {
    kind: &'static str,
    allow: String,
    shown: String,
}

struct Report<'r> {
    allowed: &'r dyn Fn(&[u8]) -> bool,
    findings: Vec<Finding>,
    /// Commands stand in the configuration and again in the history.
    said: BTreeSet<(&'static str, &'static str)>,
}

impl Report<'_> {
    /// A name and its value.
    fn pair(&mut self, place: &Place, name: &str, value: &str, base: bool) {
        let mut rules = scanned(value);
        if rules.is_empty() && assignment::setting(name.as_bytes(), value.as_bytes()) {
            rules.extend(setting_rule(value));
        }
        self.say(place, &rules, base);
    }

    /// A line of words, some of which may be `name=value` or `--name value`; those in `known` have been judged.
    fn line(&mut self, place: &Place, text: &str, known: &BTreeSet<&str>, base: bool) {
        let words: Vec<&str> = text.split_ascii_whitespace().filter(|word| !known.contains(word)).collect();
        let mut rules = scanned(&words.join(" "));
        if rules.is_empty() {
            let joined = words.iter().filter_map(|text| text.split_once('='));
            let options = words.windows(2).filter_map(|pair| match pair {
                [name, value] if name.starts_with("--") && !name.contains('=') => Some((*name, *value)),
                _ => None,
            });
            let unquoted = |value: &str| value.trim_matches(['"', '\'']).to_owned();
            let found = joined.chain(options).map(|(name, value)| (name, unquoted(value)));
            let found = found.filter(|(name, value)| assignment::setting(name.as_bytes(), value.as_bytes()));
            rules.extend(found.filter_map(|(_, value)| setting_rule(&value)).take(1));
        }
        self.say(place, &rules, base);
    }

    /// `RUN |2 A=1 B=2 /bin/sh -c …`, `ENV A=1`, `CMD ["a"]`.
    fn history(&mut self, line: &str, set: &BTreeSet<&str>) {
        let kind =
            ["ENTRYPOINT", "CMD", "HEALTHCHECK", "ONBUILD", "LABEL"].into_iter().find(|kind| line.starts_with(kind));
        let mut known = set.clone();
        let mut words = line.strip_prefix("RUN ").unwrap_or(line).split_ascii_whitespace();
        let count = words.next().and_then(|word| word.strip_prefix('|')).and_then(|count| count.parse::<usize>().ok());
        for word in words.take(count.unwrap_or(0)) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let shown = format!("the build argument `{name}`, which the history keeps");
            self.pair(&Place { kind: "ARG", allow: format!("arg:{name}"), shown }, name, value, false);
            known.insert(word);
        }
        let step =
            line.split_ascii_whitespace().next().filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase()));
        let shown = format!("the history ({})", step.unwrap_or("RUN"));
        self.line(&Place { kind: kind.unwrap_or("history"), allow: "history".to_owned(), shown }, line, &known, false);
    }

    fn say(&mut self, place: &Place, rules: &[&'static Rule], base: bool) {
        if rules.is_empty() || (self.allowed)(place.allow.as_bytes()) {
            return;
        }
        // A build argument is in the line of every step behind it.
        let once = matches!(place.kind, "ENTRYPOINT" | "CMD" | "HEALTHCHECK" | "ONBUILD" | "LABEL");
        for rule in rules {
            let message = format!("{} in {}", rule.what, place.shown);
            let again = self.findings.iter().any(|finding| finding.message == message);
            if again || once && !self.said.insert((place.kind, rule.name)) && place.allow == "history" {
                continue;
            }
            let level = if base { Level::Note } else { rule.level };
            self.findings.push(finding(
                rule,
                level,
                message,
                None,
                None,
                Some(WHAT_TO_DO.to_owned()).filter(|_| !base),
            ));
        }
    }
}

/// The rules that match in a text.
fn scanned(text: &str) -> Vec<&'static Rule> {
    let mut scanner = Scanner::new();
    scanner.begin(b"", text.len() as u64);
    scanner.bytes(text.as_bytes());
    scanner.end().iter().filter_map(|hit| rule(&hit.rule)).collect()
}

/// What a secret under a name that says so is called.
fn setting_rule(value: &str) -> Option<&'static Rule> {
    rule(if value.starts_with("django-insecure-") { "DjangoInsecureKey" } else { "SecretAssignment" })
}
