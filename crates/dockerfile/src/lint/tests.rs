use super::*;
use crate::parse;

fn found(source: &str) -> Vec<(&'static str, usize)> {
    let parsed = parse(source.as_bytes());
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    lint(&parsed.file).iter().map(|found| (found.rule, parsed.file.lines(found.span).0)).collect()
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

#[test]
fn every_finding_is_in_the_table() {
    let names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    for (name, _) in found("from a As B\nMAINTAINER x\nCMD ['x']\nexpose 1:1/TCP\nENV key x") {
        assert!(rule(name).is_some(), "{name}");
    }
}
