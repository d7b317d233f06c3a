//! Verdicts on images: after a build, by `kuz verify`, from other stages, kept and collected again.

use serde_json::Value;

use crate::base::{dir, file, tar};
use crate::kit::{Place, Ran, can_run, skip};

/// Two stages as in the recipe: packages and a command are made in the first, and only the packages are carried over.
const LITERAL: &str = "\
FROM scratch AS builder
COPY site-packages /usr/local/lib/python3.10/site-packages
COPY --chmod=755 uvicorn /usr/local/bin/uvicorn

FROM base
WORKDIR /app
COPY --from=builder /usr/local/lib/python3.10/site-packages /usr/local/lib/python3.10/site-packages
COPY main.py .
CMD uvicorn main:app --host 0.0.0.0 --port 8000
";
const LINE: &str = "COPY --from=builder /usr/local/bin/uvicorn /usr/local/bin/uvicorn";

/// A file that the kernel takes for a static program of this machine, as far as one can see without starting it.
fn program() -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    bytes.extend(machine.to_le_bytes());
    bytes.resize(64, 0);
    // One version, headers of 64 bytes, no segments.
    (bytes[20], bytes[52]) = (1, 64);
    bytes
}

fn executable(path: &str, content: &[u8]) -> (kuz_image::tar::Header, Vec<u8>) {
    let (header, content) = file(path, content);
    (kuz_image::tar::Header { mode: 0o755, ..header }, content)
}

/// With a base that has a shell and an interpreter, and the recipe's files.
fn recipe() -> Place {
    let place = Place::with_registry();
    let layer = tar(&[
        dir("bin"),
        executable("bin/sh", &program()),
        dir("usr/local/bin"),
        executable("usr/local/bin/python3.10", &program()),
        file("etc/passwd", b"root:x:0:0::/:\napp:x:1000:1000::/:\n"),
    ]);
    let image = kuz_testkit::registry::TestImage::new(vec![layer]);
    place.registry.as_ref().unwrap().put_image("library/base", "latest", &image).unwrap();
    place.dockerfile(LITERAL);
    place.write("ctx/site-packages/uvicorn/__init__.py", "");
    place.write("ctx/uvicorn", "#!/usr/local/bin/python3.10\n");
    place.write("ctx/main.py", "app = 1\n");
    place
}

fn findings(ran: &Ran) -> Vec<Value> {
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    value["findings"].as_array().unwrap().clone()
}

#[test]
fn the_literal_recipe_lacks_its_command_and_the_line_mends_it() {
    let place = recipe();
    let ran = place.build(&["-t", "app"]);
    assert_eq!(ran.code, 0, "a build only warns: {}", ran.stderr);
    for part in [
        "error[CommandNotFound]: the command `uvicorn` is not in the image",
        "Dockerfile:9:1",
        "it exists at `/usr/local/bin/uvicorn` in stage builder",
        &format!("add: {LINE}"),
    ] {
        assert!(ran.stderr.contains(part), "{part} is not in\n{}", ran.stderr);
    }
    let message = ran.message();
    assert!(message.starts_with("verify: 1 error: ") && message.contains(LINE), "{message}");

    let verified = place.kuz(&["verify", "app"]);
    assert_eq!(verified.code, 1, "{}", verified.stderr);
    assert!(
        verified.stdout.contains(LINE) && verified.stdout.ends_with("app: 1 error, 2 notes\n"),
        "{}",
        verified.stdout
    );
    let patch = place.kuz(&["verify", "--fix", "-f", "ctx/Dockerfile", "app"]);
    assert!(patch.stdout.contains(&format!(" COPY main.py .\n+{LINE}\n CMD uvicorn")), "{}", patch.stdout);

    place.dockerfile(&LITERAL.replace("CMD", &format!("{LINE}\nCMD")));
    let ran = place.build(&["-t", "app"]);
    assert_eq!((ran.code, ran.json().get("message")), (0, None), "{}", ran.stderr);
    let verified = place.kuz(&["verify", "--format", "json", "app"]);
    assert_eq!(verified.code, 0);
    let rules: Vec<String> =
        findings(&verified).iter().map(|found| found["rule"].as_str().unwrap().to_owned()).collect();
    assert_eq!(rules, ["RunsAsRoot", "SignalsMayBeSwallowed"]);
}

#[test]
fn the_flag_decides_what_comes_of_it() {
    let place = recipe();
    let off = place.build(&["-t", "app", "--verify=off"]);
    assert_eq!((off.code, off.json().get("message")), (0, None));
    assert!(!off.stderr.contains("CommandNotFound"), "{}", off.stderr);
    assert!(!place.path("store/meta/facts").exists(), "nothing was collected");
    let failed = place.build(&["-t", "never", "--verify=error"]);
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert!(failed.message().contains(LINE), "{}", failed.stdout);
    assert_eq!(place.kuz(&["image", "inspect", "never"]).code, 3, "nothing was named");
    let warned = place.build(&["-t", "app"]);
    assert_eq!(warned.id(), off.id(), "the image is the same");
    // Nothing changed: the same is said again.
    let again = place.build(&["-t", "app"]);
    assert_eq!((again.id(), again.message()), (off.id(), warned.message()));
    place.dockerfile("FROM base\nCMD [\"/bin/sh\"]\n");
    assert_eq!(place.build(&["--verify=error"]).code, 0);
}

#[test]
fn pulled_and_loaded_images_are_verified_too() {
    let place = recipe();
    let name = format!("{}/team/app:1", place.registry.as_ref().unwrap().host());
    assert_eq!(place.build(&["-t", &name, "--push"]).code, 0);
    let other = Place::new();
    assert_eq!(other.kuz(&["pull", "-q", &name]).code, 0);
    let ran = other.kuz(&["verify", "--format", "json", &name]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let found = findings(&ran);
    assert_eq!(found[0]["rule"], "CommandNotFound");
    // Of other stages nothing is known here.
    assert!(found[0].get("lines").is_none(), "{}", ran.stdout);
    let sarif: Value = serde_json::from_str(&other.kuz(&["verify", "--format", "sarif", &name]).stdout).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "CommandNotFound");
    assert_eq!(other.kuz(&["verify", "nope"]).code, 3);

    // What is kept goes with what it is about, and is made again.
    assert_eq!(other.kuz(&["image", "rm", &name]).code, 0);
    assert_eq!(other.kuz(&["store", "prune", "--all"]).code, 0);
    let left = |kind: &str| -> usize {
        let shards = std::fs::read_dir(other.path("store/meta").join(kind)).unwrap();
        shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
    };
    assert_eq!((left("facts"), left("verdict")), (0, 0));
    std::fs::remove_dir_all(place.path("store/meta/facts")).unwrap();
    std::fs::remove_dir_all(place.path("store/meta/verdict")).unwrap();
    let ran = place.build(&["-t", &name]);
    assert!(ran.message().contains(LINE), "{}", ran.stdout);
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
}

#[test]
fn findings_have_the_line_of_their_layer() {
    let place = recipe();
    place.write("ctx/run.sh", "#!/bin/sh\r\n");
    place.write("ctx/plain", "echo\n");
    for (file, parts) in [
        (
            "FROM base\nCOPY --chmod=755 run.sh /run.sh\nCMD [\"/run.sh\"]\n",
            ["error[BadShebang]", "Dockerfile:2:1", "sed -i"],
        ),
        (
            "FROM base\nCOPY --chmod=755 plain /x\nENTRYPOINT [\"/x\"]\n",
            ["error[NoInterpreter]", "Dockerfile:2:1", "#!/bin/sh"],
        ),
        (
            "FROM base\nCOPY plain /x\nUSER app\nCMD [\"/x\"]\n",
            ["error[CommandNotExecutable]", "Dockerfile:2:1", "chmod a+rx /x"],
        ),
        ("FROM base\nUSER nobody\nCMD [\"/bin/sh\"]\n", ["error[UnknownUser]", "Dockerfile:2:1", "add the user"]),
        (
            "FROM base AS one\nCOPY --chmod=755 run.sh /run.sh\nFROM one\nCMD [\"/run.sh\"]\n",
            ["error[BadShebang]", "Dockerfile:2:1", "line ends"],
        ),
    ] {
        place.dockerfile(file);
        let ran = place.build(&["-t", "app"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "{part} is not in\n{}", ran.stderr);
        }
    }
}

/// A builder stage whose layers are trees, with a package manager's lists.
#[test]
fn what_a_step_made_is_found_in_its_stage() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile(
        "FROM busybox AS builder\n\
         RUN mkdir -p /opt/tools/bin /var/lib/dpkg/info && cp /bin/busybox /opt/tools/bin/tool && cp /bin/busybox /usr/bin/apt-get \
         && cp /bin/busybox /usr/bin/curl && echo /usr/bin/curl > /var/lib/dpkg/info/curl.list\n\
         FROM busybox\nCOPY --from=builder /usr/bin/apt-get /usr/bin/apt-get\nRUN true\nCMD [\"sh\", \"-c\", \"tool && curl x\"]\n",
    );
    let ran = place.build(&["-t", "app"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for part in [
        "add: COPY --from=builder /opt/tools/bin/tool /opt/tools/bin/tool",
        "add: ENV PATH=\"/opt/tools/bin:$PATH\"",
        "from the package `curl`",
        "add: RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/*",
    ] {
        assert!(ran.stderr.contains(part), "{part} is not in\n{}", ran.stderr);
    }
}

/// A real program of this machine, and its libraries as they lie here.
#[test]
fn a_real_program_lacks_its_libraries() {
    let Some(program) = ["/usr/bin/env", "/bin/ls"].iter().find_map(|path| std::fs::read(path).ok()) else {
        return skip("no program to look at");
    };
    let place = recipe();
    std::fs::write(place.path("ctx/program"), program).unwrap();
    place.dockerfile("FROM base\nCOPY --chmod=755 program /program\nCMD [\"/program\"]\n");
    let ran = place.build(&["-t", "app"]);
    assert!(ran.stderr.contains("error[LoaderNotFound]") && ran.stderr.contains("Dockerfile:2:1"), "{}", ran.stderr);
}

/// The records of a kind in the store.
fn records(place: &Place, kind: &str) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(place.path(&format!("store/meta/{kind}"))).into_iter().flatten();
    let folders = folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    folders.flatten().map(|record| record.unwrap().path()).collect()
}

#[test]
fn an_edit_that_no_check_can_see_is_not_judged_again() {
    let place = recipe();
    place.write("ctx/main.py", "import os\ndef app():\n    return 1\n");
    let first = place.build(&[]);
    assert!(first.stderr.contains(LINE), "{}", first.stderr);
    let forget = || {
        for record in records(&place, "facts") {
            std::fs::remove_file(record).unwrap();
        }
    };
    assert!(records(&place, "facts").len() > 2);
    for (edit, all) in [
        ("import os\ndef app():\n    return 2  # two\n", false),
        ("import os\ndef app():\n    return 2\ndef other(): pass\n", false),
        ("import os\nimport re\ndef app():\n    return 2\ndef other(): pass\n", true),
    ] {
        forget();
        place.write("ctx/main.py", edit);
        let ran = place.build(&[]);
        assert!(ran.stderr.contains(LINE), "the verdict stands: {}", ran.stderr);
        // Only the layer that changed was read, or all had to be.
        assert_eq!(records(&place, "facts").len() > 1, all, "{edit}");
    }
}

#[test]
fn a_damaged_index_is_made_again_when_it_is_needed() {
    let place = recipe();
    place.build(&["-t", "app"]);
    let damage = || {
        let all = records(&place, "index");
        assert!(!all.is_empty());
        for record in all {
            let mut bytes = std::fs::read(&record).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&record, bytes).unwrap();
        }
    };
    damage();
    place.write("ctx/main.py", "import nowhere\napp = 2\n");
    let ran = place.build(&["-t", "app"]);
    assert!(ran.code == 0 && ran.stderr.contains(LINE), "{}", ran.stderr);
    damage();
    for record in records(&place, "verdict") {
        std::fs::remove_file(record).unwrap();
    }
    let ran = place.kuz(&["verify", "app"]);
    assert!(ran.stdout.contains("uvicorn"), "{} {}", ran.stdout, ran.stderr);
}

#[test]
fn a_secret_in_an_annotation_fails_the_build() {
    let place = Place::new();
    place.write("ctx/app", "x");
    place.dockerfile("FROM scratch\nCOPY app /app\n");
    // Put together here, so that no scanner takes this file for a leak.
    let annotation = format!("--annotation=note=sk_live_{}", "4eC39HqLyjWDarjtT1zdp7dc");
    let ran = place.build(&[&annotation, "-t", "app"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("annotation `note`"), "{}", ran.stderr);
    let ran = place.build(&[&annotation, "-t", "app", "--allow-secret", "annotation:note"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = place.kuz(&["verify", "app"]);
    assert!(ran.code != 0 && ran.stdout.contains("annotation `note`"), "{} {}", ran.stdout, ran.stderr);
}
