//! `kuz explain` and `kuz build --explain`: the first input that differed is named, secrets never, and a build that
//! repeats the last one writes nothing.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::kit::{Place, Ran, can_run};

fn explain(place: &Place, arguments: &[&str]) -> Value {
    let ran = place.kuz(&[&["explain", "--format", "json"], arguments, &["ctx"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Outcome and first reason's kind of each step that is more than configuration, as `stage/step outcome kind what`.
fn steps(explanation: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for stage in explanation["stages"].as_array().unwrap() {
        for step in stage["steps"].as_array().unwrap().iter().filter(|step| step["outcome"] != "config") {
            let reason = &step["reasons"][0];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let line = format!(
                "{}/{} {} {} {}",
                stage["number"],
                step["number"],
                text(&step["outcome"]),
                text(&reason["kind"]),
                text(&reason["what"])
            );
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

#[track_caller]
fn built(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// All files of the store's records, with their times.
fn records(place: &Place) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![place.path("store/meta")];
    // Fingerprints of files that were only just written are looked at again.
    let fresh = place.path("store/meta/fingerprints");
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let data = entry.metadata().unwrap();
            if data.is_dir() {
                folders.extend(Some(entry.path()).filter(|path| *path != fresh));
            } else {
                found.push(format!("{} {:?}", entry.path().display(), data.modified().unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_first_input_that_differed_is_named() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nWORKDIR /app\nCOPY . /app/\nCOPY b /b\n");
    place.write("ctx/.dockerignore", "Dockerfile\n");
    place.write("ctx/a.py", "1");
    place.write("ctx/b", "1");
    let mode = |mode: u32| {
        std::fs::set_permissions(place.path("ctx/a.py"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    built(&place.build(&[]));
    let first = ["0/1 done first", "0/2 done first", "0/3 done first"];
    assert_eq!(steps(&explain(&place, &["--last"])), first);

    let before = records(&place);
    built(&place.build(&[]));
    assert_eq!(records(&place), before, "a repetition writes nothing");
    assert_eq!(steps(&explain(&place, &["--last"])), first, "and is not told of");

    let parent = |line: &str| format!("{line} parent step 2, COPY . /app/");
    place.write("ctx/a.py", "22");
    mode(0o644);
    let want = ["0/1 cached", "0/2 done fileContent a.py", &parent("0/3 done")];
    // What is told before is what is done then.
    let told = steps(&explain(&place, &[]));
    assert_eq!(told, want.map(|line| line.replace("done", "miss").replace("cached", "hit")));
    built(&place.build(&[]));
    let last = explain(&place, &["--last"]);
    assert_eq!(steps(&last), want);
    let reason = &last["stages"][0]["steps"][1]["reasons"][0];
    assert_eq!((&reason["old"], &reason["new"]), (&"1 bytes".into(), &"2 bytes".into()));

    mode(0o755);
    built(&place.build(&[]));
    let last = explain(&place, &["--last"]);
    assert_eq!(steps(&last)[1], "0/2 done fileMode a.py");
    let reason = &last["stages"][0]["steps"][1]["reasons"][0];
    assert_eq!((&reason["old"], &reason["new"]), (&"0644".into(), &"0755".into()));

    place.write("ctx/c", "");
    std::fs::remove_file(place.path("ctx/a.py")).unwrap();
    built(&place.build(&[]));
    let last = explain(&place, &["--last"]);
    assert_eq!(steps(&last)[1], "0/2 done fileRemoved a.py");
    assert_eq!(last["stages"][0]["steps"][1]["reasons"][0]["also"][0], "c");

    // An instruction is known again although it was edited, and a new one is told apart.
    place.dockerfile("FROM scratch\nWORKDIR /app\nCOPY . /app/\nCOPY b /bb\nCOPY c /c\n");
    built(&place.build(&[]));
    assert_eq!(
        steps(&explain(&place, &["--last"])),
        ["0/1 cached", "0/2 cached", "0/3 done command destination", "0/4 done new"]
    );

    // Back to what was built before: hits, but not those of the last build.
    place.dockerfile("FROM scratch\nWORKDIR /app\nCOPY . /app/\nCOPY b /b\n");
    built(&place.build(&[]));
    assert_eq!(steps(&explain(&place, &["--last"]))[2], "0/3 cached command destination");

    built(&place.build(&["--no-cache"]));
    let kinds = ["0/1 done noCache", "0/2 done noCache", "0/3 done noCache"];
    assert_eq!(steps(&explain(&place, &["--last"])), kinds);

    built(&place.build(&["--build-arg", "SOURCE_DATE_EPOCH=5"]));
    assert_eq!(steps(&explain(&place, &["--last"]))[0], "0/1 done epoch");
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
}

#[test]
fn commands_variables_and_stages() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let file = |command: &str| {
        place.dockerfile(&format!(
            "FROM busybox AS forge\nARG V=1\nARG DEPLOY_TOKEN=none\nCOPY list .\nRUN {command}\nRUN echo 2 > /two\n\
             FROM busybox\nCOPY --from=forge /out /out\nCOPY --from=forge /two /two\n"
        ));
    };
    place.write("ctx/list", "1");
    file("cat list > /out");
    built(&place.build(&[]));
    let last = |arguments: &[&str]| {
        built(&place.build(arguments));
        steps(&explain(&place, &[&["--last"], arguments].concat()))
    };
    assert_eq!(last(&["--build-arg", "V=2"])[1..3], ["0/4 done variable V", "0/5 done variable V"]);

    // Another list: the stage is done again, and of what is copied from it only one file differs.
    place.write("ctx/list", "2");
    let arguments = ["--build-arg", "V=2"];
    let next = steps(&explain(&place, &arguments));
    assert_eq!(next[0], "0/3 miss fileContent list");
    assert_eq!(
        next[3..],
        ["1/1 open stage stage forge", "1/2 open parent step 1, COPY --from=forge /out /out"],
        "{next:?}"
    );
    let done = last(&arguments);
    assert_eq!(done[1], "0/4 done parent step 3, COPY list .");
    assert_eq!(done[3..], ["1/1 done fileContent /out", "1/2 done parent step 1, COPY --from=forge /out /out"]);

    file("cat list list > /out");
    assert_eq!(last(&arguments)[1], "0/4 done command command");

    // A secret's value is neither kept nor shown, but that it changed is.
    let canary = "c4n4ry-of-the-token";
    let with = ["--build-arg", "V=2", "--build-arg", &format!("DEPLOY_TOKEN={canary}")];
    assert_eq!(last(&with)[1], "0/4 done hidden DEPLOY_TOKEN");
    assert!(!holds(&place, canary), "the value is in a record");

    // A failed step is explained too, and the one after it once the build comes so far.
    file("test -e /missing && cat list > /out");
    assert_ne!(place.build(&with).code, 0);
    let failed = steps(&explain(&place, &[&["--last"], with.as_slice()].concat()));
    assert_eq!(failed[1..3], ["0/4 failed command command", "0/5 notReached"]);
    file("cat list list > /out");
    let again = last(&with);
    assert_eq!(again[1], "0/4 cached command command", "{again:?}");
}

/// Whether a text stands in any record.
fn holds(place: &Place, text: &str) -> bool {
    let grep = std::process::Command::new("grep").args(["-r", "-q", text]).arg(place.path("store/meta")).status();
    grep.unwrap().success()
}

#[test]
fn a_build_explains_itself_on_standard_error() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    place.write("ctx/.git/index", "1");
    let ran = place.build(&["--explain"]);
    ran.id();
    assert!(ran.stderr.contains("no earlier build of this file and target is recorded"), "{}", ran.stderr);
    place.write("ctx/.git/index", "2");
    let ran = place.build(&["--explain", "--quiet"]);
    ran.id();
    for part in [
        "ctx/Dockerfile: 1 of 1 steps were done anew",
        "  1  COPY . /",
        ".git/index has another content",
        "What would make the next build faster:",
        "without them it would have been a hit",
        "    .dockerignore:\n      .git\n",
    ] {
        assert!(ran.stderr.contains(part), "{part} is not in\n{}", ran.stderr);
    }
    assert!(ran.stderr.lines().all(|line| line.chars().count() <= 80), "{}", ran.stderr);
    let again = place.build(&["--explain"]);
    assert!(again.stderr.contains("0 of 1 steps were done anew"), "{}", again.stderr);
    // Nothing of it reaches a build that does not ask.
    assert!(!place.build(&[]).stderr.contains("anew"));
}

#[test]
fn targets_and_files_have_builds_of_their_own() {
    let place = Place::new();
    place.dockerfile("FROM scratch AS one\nCOPY a /\nFROM one\nCOPY b /\n");
    place.write("ctx/a", "");
    place.write("ctx/b", "");
    let ran = place.kuz(&["explain", "--last", "ctx"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("no build of `ctx/Dockerfile` is recorded"), "{}", ran.stderr);
    built(&place.build(&[]));
    assert_eq!(place.kuz(&["explain", "--last", "--target", "one", "ctx"]).code, 3);
    assert_eq!(place.kuz(&["explain", "--last", "-f", "ctx/Dockerfile", "ctx"]).code, 0);
    built(&place.build(&["--target", "one"]));
    assert_eq!(steps(&explain(&place, &["--last", "--target", "one"])), ["0/1 cached"]);
    // Without its records everything is done again, and that is the reason.
    assert_eq!(place.kuz(&["store", "prune", "--all"]).code, 0);
    assert_eq!(place.kuz(&["explain", "--last", "ctx"]).code, 3, "the journal is of the cache");
}
