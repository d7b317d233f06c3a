//! The rules against small files, and the table against itself.

mod cases;

use super::*;
use crate::parse;

/// BuildKit's rules and `MalformedJsonForm`.
fn found(source: &str) -> Vec<(&'static str, usize)> {
    let parsed = parse(source.as_bytes());
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let ours = |name| name == "MalformedJsonForm" || rule(name).is_some_and(|rule| rule.family == Family::BuildKit);
    lint(&parsed.file)
        .iter()
        .filter(|found| ours(found.rule))
        .map(|found| (found.rule, parsed.file.lines(found.span).0))
        .collect()
}

#[test]
fn each_rule_fires_where_it_should() {
    for (source, expected) in [
        ("FROM a AS Big", vec![("StageNameCasing", 1)]),
        ("from a AS b", vec![("FromAsCasing", 1)]),
        ("From a As b", vec![("ConsistentInstructionCasing", 1)]),
        ("FROM a\nRUN b \\\n\n  c\n", vec![("NoEmptyContinuation", 4)]),
        ("FROM a AS b\nFROM a AS b", vec![("DuplicateStageName", 2)]),
        ("FROM a AS Scratch", vec![("ReservedStageName", 1), ("StageNameCasing", 1)]),
        ("FROM a\nMAINTAINER b", vec![("MaintainerDeprecated", 2)]),
        ("FROM --platform=linux/amd64 a", vec![("FromPlatformFlagConstDisallowed", 1)]),
        ("FROM --platform=linux/amd64 a AS on-amd64", vec![]),
        ("FROM --platform=$BUILDPLATFORM a", vec![]),
        ("FROM --platform=${TARGETPLATFORM} a", vec![("RedundantTargetPlatform", 1)]),
        ("FROM a\nCMD b", vec![("JSONArgsRecommended", 2)]),
        ("FROM a AS b\nSHELL [\"s\"]\nFROM B\nCMD c", vec![]),
        ("FROM a\nCMD ['b']", vec![("JSONArgsRecommended", 2), ("MalformedJsonForm", 2)]),
        ("FROM a\nRUN [ -f x ]", vec![]),
        ("FROM a\nRUN ['b']", vec![("MalformedJsonForm", 2)]),
        ("FROM a\nWORKDIR b\nWORKDIR c", vec![("WorkdirRelativePath", 2)]),
        ("FROM a\nWORKDIR $b", vec![]),
        ("FROM a\nWORKDIR \"/b\"", vec![]),
        ("FROM a\nENTRYPOINT [\"b\"]\nENTRYPOINT [\"c\"]", vec![("MultipleInstructionsDisallowed", 2)]),
        ("FROM a\nENV b c\nLABEL d e", vec![("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]),
        ("FROM a\nENV DB_PASSWORD=x MONKEY=1", vec![("SecretsUsedInArgOrEnv", 2)]),
        ("FROM a\nARG PUBLIC_KEY\nENV password_file=x", vec![]),
        ("FROM a\nEXPOSE 80/TCP", vec![("ExposeProtoCasing", 2)]),
        ("FROM a\nEXPOSE 80:80 $a:1", vec![("ExposeInvalidFormat", 2)]),
        ("ARG a\nFROM a", vec![]),
    ] {
        let mut found = found(source);
        found.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "{source:?}");
    }
}

#[test]
fn rules_are_skipped_where_asked() {
    assert_eq!(found("# check=skip=JSONArgsRecommended\nFROM a\nCMD b\nEXPOSE 1:1"), [("ExposeInvalidFormat", 4)]);
    assert_eq!(found("FROM a\n# check=skip=JSONArgsRecommended // why\nCMD b\nENV c d"), [("LegacyKeyValueFormat", 4)]);
    assert_eq!(found("# check=skip=all\nFROM A as b\nCMD c"), []);
    assert_eq!(
        found("# check=experimental=all\n# other text\nFROM a AS b\n# c is it\nARG c"),
        [("InvalidDefinitionDescription", 3)]
    );
}

/// All findings with every rule on, and what the parser warns of.
fn all(source: &[u8]) -> Vec<&'static str> {
    let parsed = parse(source);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let check = Check { enable_all: true, experimental_all: true, ..Check::default() };
    let options = Options {
        trusted_registries: ["docker.io".to_owned()].into(),
        label_schema: [("team".to_owned(), LabelForm::Text), ("mail".to_owned(), LabelForm::Email)].into(),
        strict_labels: true,
        syntax: None,
    };
    let mut found = parsed.diagnostics;
    found.extend(lint_with(&parsed.file, &check, &options));
    found.iter().map(|found| found.rule).collect()
}

/// For each rule files that break it, and files that look similar and don't.
#[test]
fn every_rule_has_its_cases() {
    let mut shown: Vec<(&str, bool)> = Vec::new();
    for (name, source, expected) in cases::CASES.iter().copied() {
        let found = all(source.as_bytes());
        assert_eq!(found.contains(&name), expected, "{name} in\n{source}\n{found:?}");
        shown.push((name, expected));
    }
    assert!(all(b"# caf\xe9\nFROM a").contains(&"InvalidEncoding"));
    for rule in RULES.iter().filter(|rule| rule.needs == Needs::Tree && rule.name != "InvalidEncoding") {
        for expected in [true, false] {
            assert!(shown.contains(&(rule.name, expected)), "{} has no case for {expected}", rule.name);
        }
    }
}

#[test]
fn the_table_is_sound() {
    let mut names: Vec<&str> = RULES.iter().flat_map(|rule| rule.codes.iter().chain([&rule.name])).copied().collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a name or code stands twice");
    assert_eq!(RULES.iter().filter(|rule| rule.family == Family::BuildKit).count(), 22);
    for number in 1..=11 {
        assert!(RULES.iter().any(|rule| rule.codes == [format!("P{number}").as_str()]), "P{number}");
    }
    assert!(is_known("DL3008") && is_known("python") && !is_known("DL9999"));
}

#[test]
fn hadolints_comments_are_honoured() {
    let names =
        |source: &str| -> Vec<&str> { lint(&parse(source.as_bytes()).file).iter().map(|found| found.rule).collect() };
    assert_eq!(names("FROM a\nUSER root"), ["UntaggedBase", "LastUserRoot"]);
    assert_eq!(names("# hadolint ignore=DL3006\nFROM a\nUSER root"), ["LastUserRoot"]);
    assert_eq!(names("FROM a\n# hadolint ignore=DL3001,DL3002 # why\nUSER root"), ["UntaggedBase"]);
    assert_eq!(names("# hadolint global ignore=DL3006, DL3002\nFROM a\nUSER root"), [] as [&str; 0]);
    assert_eq!(names("# check=skip=hadolint\nFROM a\nUSER root"), [] as [&str; 0]);
    assert_eq!(names("# check=experimental=P9;skip=UntaggedBase\nFROM python:3.10"), ["PythonBuffered"]);
}

#[test]
fn a_schema_of_labels_is_asked_for() {
    let names = |source: &str, schema: &[(&str, &str)], strict_labels: bool| -> Vec<(&'static str, Severity)> {
        let parsed = parse(source.as_bytes());
        let schema = schema.iter().map(|(key, form)| ((*key).to_owned(), form.parse().unwrap()));
        let options = Options { label_schema: schema.collect(), strict_labels, ..Options::default() };
        let check = Check::of_file(&parsed.file).with_global_comments(&parsed.file);
        lint_with(&parsed.file, &check, &options).iter().map(|found| (found.rule, found.severity)).collect()
    };
    let warned = |rule| vec![(rule, Severity::Warning)];
    for (source, schema, strict, expected) in [
        // Off by itself, but the schema asks for it.
        ("LABEL v=1", vec![("v", "semver")], false, warned("LabelNoVersion")),
        ("LABEL v=1.0.0", vec![("v", "semver")], false, vec![]),
        ("LABEL v=$V", vec![("v", "semver")], false, vec![]),
        ("LABEL v=\"\"", vec![("v", "text")], false, warned("LabelEmpty")),
        ("LABEL v=x", vec![], false, vec![]),
        ("LABEL v=x", vec![], true, warned("LabelSuperfluous")),
        ("LABEL v=x w=y", vec![("v", "text")], true, warned("LabelSuperfluous")),
        ("LABEL v=x", vec![("v", "text")], true, vec![]),
        ("# hadolint ignore=DL3050\nLABEL v=x", vec![], true, vec![]),
        ("# check=skip=LabelNoVersion\nLABEL v=1", vec![("v", "semver")], false, vec![]),
        // The schema's form counts, not the specification's.
        ("LABEL org.opencontainers.image.source=x", vec![("org.opencontainers.image.source", "text")], false, vec![]),
    ] {
        assert_eq!(names(&format!("FROM a:1\n{source}"), &schema, strict), expected, "{source} {schema:?}");
    }
    // By the rule's own name only: a family's name turns on no rule that would need a schema.
    let file = |enable: &str| {
        names(&format!("# check=experimental={enable}\nFROM a:1\nHEALTHCHECK NONE\nLABEL v=x"), &[], false)
    };
    assert_eq!(file("DL3050"), warned("LabelSuperfluous"));
    assert_eq!(file("hadolint"), []);
}

#[test]
fn requirement_files_are_found_and_judged() {
    let file = parse(b"FROM a\nRUN pip install -r one.txt && python -m pip install --requirement=two.txt -rthree").file;
    let names: Vec<String> = requirement_files(&file).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["one.txt", "two.txt", "three"]);
    let text = "# c\na==1\nb>=2\nc\n-r other\nd[x]~=1 ; python_version < '3'\ne @ https://x\n";
    let open: Vec<_> = unpinned(text);
    assert_eq!(open, [(3, "b".to_owned()), (4, "c".to_owned()), (6, "d[x]".to_owned())]);
}
