//! The result on standard output: one JSON object with the specification's fields, whatever happens.

use std::process::Stdio;

use crate::kit::{Place, Ran, can_run};

#[test]
fn a_build_without_run_needs_nothing_and_says_the_five_fields() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY main.py /app/\nCMD [\"/app/main.py\"]\n");
    place.write("ctx/main.py", "print()\n");
    let ran = place.build(&["-t", "app"]);
    let json = ran.json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["imageId", "tag", "size", "success", "message"], "{}", ran.stderr);
    assert_eq!(json["tag"], "app");
    let message = json["message"].as_str().unwrap();
    assert!(message.starts_with("verify: 1 error: the command `/app/main.py` "), "{message}");
    let inspected = place.inspect("app");
    assert_eq!(inspected["id"], json["imageId"]);
    assert_eq!(inspected["size"], json["size"]);
    // Directory app/ and file: two headers, one block of content, two blocks at the end.
    assert_eq!(json["size"], 512 * 5);
}

#[test]
fn the_first_tag_is_given_back_as_typed_and_all_are_set() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    let ran = place.build(&["-t", "team/app:1", "-t", "other"]);
    assert_eq!(ran.json()["tag"], "team/app:1", "{}", ran.stderr);
    for name in ["team/app:1", "docker.io/team/app:1", "other", "other:latest"] {
        assert_eq!(place.inspect(name)["id"], ran.json()["imageId"]);
    }
}

#[test]
fn without_a_tag_the_image_is_found_by_its_id() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    let ran = place.build(&[]);
    let id = ran.id();
    assert!(ran.json().get("tag").is_none());
    for name in [id.as_str(), &id[7..], &id[7..19]] {
        assert_eq!(place.inspect(name)["id"], id.as_str());
    }
}

#[test]
fn quiet_silences_progress_and_nothing_else() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    for flags in [&["-q"][..], &["--progress=quiet"]] {
        let ran = place.build(flags);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        ran.json();
    }
}

#[test]
fn the_id_and_metadata_files_say_what_the_result_says() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    let ran = place.build(&["-t", "app", "--iidfile", "id", "--metadata-file", "meta.json"]);
    let id = ran.id();
    assert_eq!(std::fs::read_to_string(place.path("id")).unwrap(), id);
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(place.path("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id.as_str());
    assert_eq!(meta["image.name"], "docker.io/library/app:latest");
    assert_eq!(meta["containerimage.descriptor"]["digest"], meta["containerimage.digest"]);
}

#[test]
fn an_output_on_standard_output_moves_the_result_to_standard_error() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    let output = place.command(&["build", "-q", "-o", "type=oci,dest=-", "ctx"]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.windows(10).any(|bytes| bytes == b"oci-layout"), "a tar is on standard output");
    let json: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(json["success"], true);
}

#[test]
fn a_signal_ends_with_the_result_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let place = Place::with_registry();
        place.dockerfile("FROM busybox\nRUN echo started && sleep 1000\n");
        let mut child = place
            .listening(&["build", "--progress=plain", "ctx"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        let mut seen = String::new();
        while !seen.contains("| started") {
            let Some(line) = lines.next() else { break };
            seen.push_str(&line.unwrap());
            seen.push('\n');
        }
        let sent = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let ran = Ran::of(&child.wait_with_output().unwrap());
        assert_eq!(ran.code, code, "{seen}{}", rest.join("\n"));
        assert_eq!(ran.message(), "interrupted");
        let check = place.kuz(&["store", "check"]);
        assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
    }
}

#[test]
fn help_is_an_answer_and_has_examples() {
    let place = Place::new();
    let ran = place.kuz(&["build", "--help"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("kuz build -t app ."), "{}", ran.stdout);
}

#[test]
fn every_failure_has_its_object_where_it_belongs() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    for arguments in [&["-q", "build", "ctx"][..], &["--bogus", "build", "ctx"], &["build", "--bogus", "ctx"]] {
        let ran = place.kuz(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert_eq!(ran.json()["success"], false);
    }
    for flags in [&["--platform", "x,y"][..], &["--bogus"]] {
        let ran = place.build(&[&["-o", "type=oci,dest=-"], flags].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{flags:?}");
        let last = ran.stderr.lines().last().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(last).unwrap()["success"], false);
    }
}

#[test]
fn a_failed_build_leaves_no_id_of_an_earlier_one() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY missing /\n");
    place.write("id", "sha256:old");
    assert_eq!(place.build(&["--iidfile", "id"]).code, 3);
    assert!(!place.path("id").exists());
}
