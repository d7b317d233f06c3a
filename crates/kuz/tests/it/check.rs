//! `kuz check`, `kuz build --check` and `--call`, `kuz plan`: findings, forms and exit codes. Nothing needs a registry.

use serde_json::Value;

use crate::kit::Place;

/// A file with an error, a warning and a note.
const BAD: &str = "FROM scratch\nCOPY a .\nUSER root\nCOYP b .\n";

#[test]
fn findings_decide_the_exit_code() {
    for (file, arguments, code, parts) in [
        ("FROM scratch\nCOPY a /\n", &[] as &[&str], 0, &["no findings"] as &[&str]),
        ("FROM scratch\nADD a /\n", &[], 0, &["note[AddForPlainFile]", "1 note"]),
        ("FROM scratch\nADD a /\n", &["--fail-on", "note"], 3, &["AddForPlainFile"]),
        ("FROM scratch\nUSER root\n", &[], 3, &["warning[LastUserRoot]", "Dockerfile:2:6", "1 warning"]),
        ("FROM scratch\nUSER root\n", &["--fail-on", "error"], 0, &["LastUserRoot"]),
        ("# check=skip=DL3002\nFROM scratch\nUSER root\n", &[], 0, &["no findings"]),
        ("FROM scratch\nUSER a\n", &["--enable", "DL3066"], 0, &["NamedUser"]),
        (BAD, &[], 3, &["error[UnknownInstruction]", "warning[LastUserRoot]", "1 error, 1 warning"]),
        ("FROM scratch\nENV VERSION=1\nENV X=$VERSON\n", &[], 3, &["UndefinedVar", "did you mean"]),
        ("FROM python:3.10\nENV X=$PYTHON_VERSION\n", &[], 0, &["no findings"]),
        ("FROM scratch\nUSER $U\n", &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"], 0, &["no findings"]),
        ("FROM scratch AS a\nUSER root\nFROM scratch\nCOPY --from=5 /a /\n", &[], 3, &["invalid stage index"]),
        ("# syntax=some/frontend\nFROM scratch\n", &[], 3, &["error[ForeignFrontend]"]),
        ("FROM scratch AS x\nADD a /\nFROM scratch\n", &[], 0, &["AddForPlainFile"]),
        ("FROM scratch AS x\nADD a /\nFROM scratch\n", &["--target", "1"], 0, &["no findings"]),
    ] {
        let place = Place::new();
        place.dockerfile(file);
        let ran = place.kuz(&[&["check", "ctx"], arguments].concat());
        assert_eq!(ran.code, code, "{file}\n{}{}", ran.stdout, ran.stderr);
        for part in parts {
            assert!(ran.stdout.contains(part), "{part} is not in\n{}", ran.stdout);
        }
        assert!(!place.path("store").exists(), "a check makes no store");
    }
}

#[test]
fn the_context_is_looked_at() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /app\nCOPY secret.txt /\n");
    place.write("ctx/.env", "KEY=1");
    place.write("ctx/key.pem", "");
    place.write("ctx/.dockerignore", "key.pem\n*.txt\n");
    let ran = place.kuz(&["check", "ctx/Dockerfile"]);
    assert!(ran.stdout.contains("CopyIgnoredFile") && ran.stdout.contains("with it .env\n"), "{}", ran.stdout);
    place.write("ctx/.dockerignore", "*.txt\n.env\n*.pem\n");
    assert!(!place.kuz(&["check", "ctx"]).stdout.contains("ContextLeaks"));
    place.write("ctx/list.txt", "a==1\nb>=2\n");
    place.dockerfile("FROM python:3.10\nWORKDIR /a\nRUN pip install --no-cache-dir -r list.txt\n");
    let ran = place.kuz(&["check", "ctx", "--enable", "P5"]);
    assert!(ran.stdout.contains("list.txt:2: `b` has no single version"), "{}", ran.stdout);
}

#[test]
fn programs_read_json_sarif_and_annotations() {
    let place = Place::new();
    place.dockerfile(BAD);
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&place.kuz(arguments).stdout).unwrap() };
    let value = json(&["check", "ctx", "--format", "json"]);
    let rules: Vec<&str> =
        value["findings"].as_array().unwrap().iter().filter_map(|found| found["rule"].as_str()).collect();
    assert_eq!(rules, ["LastUserRoot", "UnknownInstruction"]);
    assert_eq!(json(&["check", "ctx", "--format", "sarif"])["runs"][0]["results"][1]["level"], "error");
    let text = place.kuz(&["check", "ctx", "--format", "github"]).stdout;
    assert!(
        text.contains("::error file=Dockerfile,line=4,endLine=4,col=1,endColumn=5,title=UnknownInstruction::"),
        "{text}"
    );
}

#[test]
fn build_checks_instead_of_building() {
    let place = Place::new();
    place.dockerfile("FROM scratch AS x\nUSER root\nFROM scratch\nENV a b\n");
    let ran = place.build(&["--check"]);
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(ran.stdout.contains("LegacyKeyValueFormat") && !ran.stdout.contains("success"), "{}", ran.stdout);
    let value: Value = serde_json::from_str(&place.build(&["--call=check,format=json"]).stdout).unwrap();
    assert_eq!(value["warnings"][0]["ruleName"], "LegacyKeyValueFormat");
    assert_eq!(place.build(&["--call=what"]).code, 2);
}

#[test]
fn error_true_fails_a_build_on_buildkits_rules_only() {
    let place = Place::new();
    place.dockerfile("# check=error=true\nFROM scratch\nCOPY a /\nUSER root\n");
    place.write("ctx/a", "");
    let ran = place.build(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("LastUserRoot"), "{}", ran.stderr);
    place.dockerfile("# check=error=true\nFROM scratch\nCOPY a /\nENV b c\n");
    let ran = place.build(&[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.message().contains("legacy"), "{}", ran.stdout);
    place.dockerfile("# check=error=true\nFROM scratch\n# check=skip=LegacyKeyValueFormat\nENV b c\nCOPY a /\n");
    assert_eq!(place.build(&[]).code, 0);
}

#[test]
fn outlines_and_targets() {
    let place = Place::new();
    place.dockerfile("# base the beginning\nFROM scratch AS base\n# PORT to listen on\nARG PORT=80\nFROM base\n");
    let ran = place.build(&["--call=targets"]);
    assert_eq!(ran.stdout, "TARGET        DESCRIPTION\nbase          the beginning\n1 (default)\n");
    let ran = place.build(&["--call=outline", "--build-arg", "PORT=81"]);
    assert_eq!(ran.stdout, "TARGET: 1\n\nBUILD ARG   VALUE   DESCRIPTION\nPORT        81      to listen on\n");
    let value: Value = serde_json::from_str(&place.build(&["--call=outline,format=json"]).stdout).unwrap();
    assert_eq!(value["args"][0]["value"], "80");
}

#[test]
fn plans_are_printed() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nARG V=1\nWORKDIR /app$V\nCOPY a .\nCMD [\"/a\"]\n");
    let ran = place.kuz(&["plan", "ctx", "--build-arg", "V=2"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("copy context [\"a\"] to \"/app2/\""), "{}", ran.stdout);
    let value: Value = serde_json::from_str(&place.kuz(&["plan", "--format", "json", "ctx"]).stdout).unwrap();
    assert_eq!(value["stages"][0]["config"]["config"]["Cmd"][0], "/a");
}

/// The recipe's own Dockerfile is clean but for the CMD that the specification asks for.
#[test]
fn the_recipe_is_clean_and_the_literal_one_is_not() {
    let place = Place::new();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/fastapi");
    for (name, expected) in [
        ("Dockerfile", &["JSONArgsRecommended"] as &[&str]),
        ("Dockerfile.literal", &["ConsoleScriptNotCopied", "JSONArgsRecommended"]),
    ] {
        let ran = place.kuz(&["check", "--format", "json", &format!("{examples}/{name}")]);
        let value: Value = serde_json::from_str(&ran.stdout).unwrap();
        let mut rules: Vec<&str> =
            value["findings"].as_array().unwrap().iter().filter_map(|found| found["rule"].as_str()).collect();
        rules.sort_unstable();
        assert_eq!(rules, expected, "{name}");
    }
}
