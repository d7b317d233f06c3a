//! Small files against the tree and the findings that they must give.

use super::*;
use crate::ast::{Command, Healthcheck, Kind};

fn ok(source: &str) -> Dockerfile {
    let parsed = parse(source.as_bytes());
    assert_eq!(parsed.diagnostics, [], "{source}");
    parsed.file
}

fn rules(source: &str) -> Vec<&'static str> {
    parse(source.as_bytes()).diagnostics.into_iter().map(|found| found.rule).collect()
}

#[test]
fn everything_at_once() {
    let file = ok(concat!(
        "# syntax=docker/dockerfile:1\n",
        "ARG V=3.10 W\n",
        "# build what builds\n",
        "FROM --platform=$BUILDPLATFORM python:$V AS Build\n",
        "ENV A=1 \\\n  # no\n  B=\"x y\"\n",
        "LABEL legacy some value\n",
        "RUN --mount=type=cache,target=/c --network=none <<-EOT\n\techo $A\n\tEOT\n",
        "COPY --from=build --chown=1:2 --link --exclude=*.o --exclude=*.a <<'X' <<Y a [b /d/\nx\nX\ny\nY\n",
        "ADD --checksum=sha256:1 --unpack=false [\"a b\", \"/c\"]\n",
        "EXPOSE 80 81-82/udp\nVOLUME [\"/v\"]\nUSER a:b\nWORKDIR /a b\nSTOPSIGNAL 9\n",
        "SHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT [\"e\"]\nCMD c  d\n",
        "HEALTHCHECK --interval=1.5s --retries=3 CMD [\"h\"]\n",
        "ONBUILD RUN <<E\nx\nE\n",
        "MAINTAINER me\n",
    ));
    assert_eq!(file.instructions.len(), 18);
    for instruction in &file.instructions {
        let text = &file.source[instruction.span.start..instruction.span.end];
        assert!(text.starts_with(&instruction.keyword.value), "{text}");
        assert!(!text.ends_with('\n'), "{text:?}");
    }
    let Kind::From(from) = &file.instructions[1].kind else { panic!("no FROM") };
    assert_eq!(from.platform.as_ref().map(|word| word.value.as_str()), Some("$BUILDPLATFORM"));
    assert_eq!(from.alias.as_ref().map(|word| word.value.as_str()), Some("Build"));
    assert_eq!(file.instructions[1].comments[0].value, "build what builds");
    let Kind::Env(env) = &file.instructions[2].kind else { panic!("no ENV") };
    let pairs: Vec<_> = env.iter().map(|pair| (pair.key.value.as_str(), pair.value.value.as_str())).collect();
    assert_eq!(pairs, [("A", "1"), ("B", "\"x y\"")]);
    assert_eq!(&file.source[env[1].value.span.start..env[1].value.span.end], "\"x y\"");
    let Kind::Run(run) = &file.instructions[4].kind else { panic!("no RUN") };
    assert_eq!(run.heredocs[0].content, "echo $A\n");
    assert_eq!(run.mounts[0].options[1], ("target".to_owned(), Some("/c".to_owned())));
    assert!(matches!(&run.command, Command::Shell(word) if word.value == "<<-EOT"));
    let Kind::Copy(copy) = &file.instructions[5].kind else { panic!("no COPY") };
    let bodies: Vec<_> = copy.heredocs.iter().map(|h| (h.name.as_str(), h.content.as_str(), h.expand)).collect();
    assert_eq!(bodies, [("X", "x\n", false), ("Y", "y\n", true)]);
    let sources: Vec<_> = copy.sources.iter().map(|word| word.value.as_str()).collect();
    assert_eq!((sources.as_slice(), copy.dest.value.as_str(), copy.exclude.len()), (["a", "[b"].as_slice(), "/d/", 2));
    let Kind::Healthcheck(Healthcheck::Check { interval, retries, .. }) = file.instructions[15].kind else {
        panic!("no HEALTHCHECK")
    };
    assert_eq!((interval, retries), (1_500_000_000, 3));
    let Kind::OnBuild(trigger) = &file.instructions[16].kind else { panic!("no ONBUILD") };
    assert_eq!(trigger.text, "RUN <<E\nx\nE");
    let again = parse_one(&trigger.text).unwrap();
    let (Kind::Run(inner), Kind::Run(read)) = (&trigger.instruction.kind, &again.kind) else { panic!("no RUN") };
    assert_eq!(inner.heredocs[0].content, read.heredocs[0].content);
}

#[test]
fn mistakes_are_reported_together() {
    let source =
        "FROM a AS 1x\nRUM ls\nCOPY --frm=a --from x y\nENV A\nENV =b c\nHEALTHCHECK --interval=1d NOPE\nRUN [1]\n";
    let parsed = parse(source.as_bytes());
    let found: Vec<_> =
        parsed.diagnostics.iter().map(|found| (found.rule, &source[found.span.start..found.span.end])).collect();
    assert_eq!(
        found,
        [
            ("InvalidStageName", "1x"),
            ("UnknownInstruction", "RUM"),
            ("UnknownFlag", "--frm=a"),
            ("FlagValue", "--from"),
            ("ArgumentCount", "A"),
            ("KeyValueSyntax", "c"),
            ("InvalidHealthcheck", "NOPE"),
            ("InvalidJsonForm", "[1]"),
        ]
    );
    assert_eq!(parsed.diagnostics[1].message, "unknown instruction: RUM (did you mean RUN?)");
    assert_eq!(parsed.diagnostics[2].message, "unknown flag: --frm (did you mean from?)");
    assert!(parsed.file.instructions.is_empty());
}

#[test]
fn rules_of_mistakes() {
    for (source, expected) in [
        ("", vec!["EmptyDockerfile"]),
        ("# nothing\n", vec!["EmptyDockerfile"]),
        ("ARG a\n", vec!["NoBuildStage"]),
        ("RUN a\nFROM b", vec!["NoBuildStage"]),
        ("FROM a b", vec!["ArgumentCount"]),
        ("FROM", vec!["ArgumentCount"]),
        ("FROM a\nRUN <<E\nx", vec!["UnterminatedHeredoc"]),
        ("FROM a\nCOPY a <<E\nx\nE", vec!["InvalidHeredoc"]),
        ("FROM a\nRUN --network=x --security=y z", vec!["FlagValue", "FlagValue"]),
        ("FROM a\nRUN --mount=from=$x z", vec!["VariableNotExpanded"]),
        ("FROM a\nRUN --mount=from=x$ z", vec![]),
        ("FROM a\nCOPY --link --link=false a b", vec!["DuplicateFlag"]),
        ("FROM a\nCOPY --link= a b", vec!["FlagValue"]),
        ("FROM a\nCOPY --link=x a b", vec!["FlagValue"]),
        ("FROM a\nARG --x b", vec!["FlagPassedOver"]),
        ("FROM a\nARG =b", vec!["BlankName"]),
        ("FROM a\nVOLUME [\" \"]", vec!["BlankName"]),
        ("FROM a\nVOLUME []", vec!["ArgumentCount"]),
        ("FROM a\nSHELL x", vec!["InvalidJsonForm"]),
        ("FROM a\nSHELL []", vec!["ArgumentCount"]),
        ("FROM a\nONBUILD ONBUILD RUN a", vec!["InvalidOnbuild"]),
        ("FROM a\nONBUILD from x", vec!["InvalidOnbuild"]),
        ("FROM a\nHEALTHCHECK NONE x", vec!["ArgumentCount"]),
        ("FROM a\nHEALTHCHECK CMD", vec!["ArgumentCount"]),
        ("FROM a\nHEALTHCHECK --retries=-1 --timeout=1 CMD x", vec!["InvalidHealthcheck", "InvalidHealthcheck"]),
        ("# check=skp=x\nFROM a", vec!["InvalidDirective"]),
        ("FROM a\nRUN\nCMD\nENTRYPOINT []\nRUN []", vec![]),
        ("FROM a\n\\\n", vec!["UnknownInstruction"]),
    ] {
        assert_eq!(rules(source), expected, "{source:?}");
    }
}

#[test]
fn bytes_that_are_no_text() {
    let parsed = parse(b"# \xe9t\xe9\nFROM a\nRUN # \xe9 \\\n  # \xe9\n b\n");
    let severities: Vec<_> = parsed.diagnostics.iter().map(|found| found.severity).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Warning, Severity::Error, Severity::Warning]);
    assert!(parse(b"\xff\xfeF\0").has_errors());
    assert!(parse(b"FROM a\nCOPY <<E /x\n# \xff\nE\n").has_errors());
    assert!(parse(&vec![b'a'; crate::MAX_SOURCE + 1]).has_errors());
}

#[test]
fn the_escape_character_is_the_files() {
    let file = ok("# escape=`\nFROM a\nRUN a `\n  b\\\nCOPY c:\\x `\n d\n");
    let texts: Vec<_> = file.instructions.iter().map(|instruction| instruction.text.as_str()).collect();
    assert_eq!(texts, ["FROM a", "RUN a   b\\", "COPY c:\\x  d"]);
}

#[test]
fn a_trigger_is_one_instruction() {
    assert!(parse_one("RUN a\nRUN b").is_err());
    assert!(parse_one("").is_err());
    assert_eq!(parse_one("RUM a").unwrap_err()[0].rule, "UnknownInstruction");
    assert!(matches!(parse_one("COPY . /x").unwrap().kind, Kind::Copy(_)));
}

#[test]
fn deep_nesting_is_no_deep_stack() {
    let source = format!("FROM a\n{}RUN x", "ONBUILD ".repeat(100_000));
    assert!(parse(source.as_bytes()).has_errors());
}

#[test]
fn what_a_hostile_file_costs_is_bounded() {
    let parsed = parse("x\n".repeat(100_000).as_bytes());
    assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS && parsed.has_errors());
    assert!(parse(&vec![b'#'; crate::MAX_SOURCE]).has_errors());
    assert!(!parse(("FROM a\nRUN ".to_owned() + &"x ".repeat(1_000_000)).as_bytes()).has_errors());
}
