//! What a RUN sees and leaves behind, and what COPY makes of a context: through the built image.

use crate::kit::{Place, Ran, can_run};

/// Builds and runs a command in the image.
fn built_and_run(place: &Place, command: &str) -> Ran {
    let built = place.build(&["-t", "app"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    place.kuz(&["run", "app", "/bin/sh", "-c", command])
}

#[test]
fn a_step_sees_its_environment_and_leaves_only_its_files() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile(
        "FROM busybox\nENV A=1\nARG B=2\nWORKDIR /w\nUSER app\nUSER root\n\
         RUN echo $A$B $(pwd) $(id -u) > /seen && ls /proc/self/fd | wc -l >> /seen && cat /etc/resolv.conf /etc/hosts > /dev/null\n",
    );
    let ran = built_and_run(&place, "cat /seen; echo A=$A B=$B");
    // ls has the directory itself open beside 0, 1 and 2.
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "12 /w 0\n4\nA=1 B=\n"), "{}", ran.stderr);
    let layers = place.inspect("app")["layers"].as_array().unwrap().len();
    let saved = place.kuz(&["image", "save", "--format", "oci-dir", "-o", "out", "app"]);
    assert_eq!((saved.code, layers), (0, 3), "{}", saved.stderr);
    let top = place.inspect("app")["layers"][2]["diffId"].as_str().unwrap()[7..].to_owned();
    let tar = std::fs::read(place.path("out/blobs/sha256").join(top)).unwrap();
    let mut names = Vec::new();
    let mut reader = kuz_image::tar::TarReader::new(tar.as_slice());
    while let Some(entry) = reader.next().unwrap() {
        names.push(String::from_utf8(entry.header().path.clone()).unwrap());
    }
    assert_eq!(names, ["seen"], "no stub of a mount is in the layer");
}

#[test]
fn run_passes_input_arguments_environment_and_exit_code() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile("FROM busybox\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo default\"]\n");
    assert_eq!(built_and_run(&place, "unused").code, 0);
    assert_eq!(place.kuz(&["run", "app"]).stdout, "default\n");
    assert_eq!(place.kuz(&["run", "app", "exit 42"]).code, 42);
    assert_eq!(place.kuz(&["run", "-e", "X=y", "app", "echo $X"]).stdout, "y\n");
    assert_eq!(place.kuz(&["run", "--entrypoint", "/bin/echo", "app", "a", "b"]).stdout, "a b\n");
    assert_eq!(place.kuz(&["run", "-w", "/tmp", "-u", "1000", "app", "pwd; id -u"]).stdout, "/tmp\n1000\n");
    assert_eq!(place.kuz(&["run", "app", "touch /new && ls /new"]).stdout, "/new\n");
    assert_ne!(place.kuz(&["run", "app", "ls /new"]).code, 0, "changes are discarded");
    place.write("shared/file", "from outside");
    assert_eq!(place.kuz(&["run", "-v", "./shared:/mnt:ro", "app", "cat /mnt/file"]).stdout, "from outside");
    assert_eq!(place.kuz(&["run", "--entrypoint", "/no/such", "app"]).code, 127);
    let mut child = place
        .command(&["run", "-i", "app", "cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"input").unwrap();
    assert_eq!(Ran::of(&child.wait_with_output().unwrap()).stdout, "input");
}

#[test]
fn copy_keeps_modes_links_and_owners_as_asked() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile(
        "FROM busybox\nCOPY --chown=app:extra --chmod=640 a.txt /one/two/\nCOPY tree /tree\nCOPY *.txt /wild/\nADD box.tar /unpacked/\n",
    );
    place.write("ctx/a.txt", "a");
    place.write("ctx/b.txt", "b");
    place.write("ctx/tree/sub/file", "f");
    std::os::unix::fs::symlink("file", place.path("ctx/tree/sub/link")).unwrap();
    place.write("box/inner", "i");
    let tar = std::process::Command::new("tar")
        .args(["-cf", "ctx/box.tar", "-C", "box", "inner"])
        .current_dir(place.dir.path())
        .status();
    assert!(tar.unwrap().success());
    let ran = built_and_run(
        &place,
        "stat -c '%n %a %u %g' /one/two /one/two/a.txt; readlink /tree/sub/link; cat /tree/sub/link /unpacked/inner; ls /wild",
    );
    assert_eq!(
        ran.stdout, "/one/two 640 1000 2000\n/one/two/a.txt 640 1000 2000\nfile\nfia.txt\nb.txt\n",
        "{}",
        ran.stderr
    );
}

#[test]
fn no_network_means_only_loopback() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile("FROM busybox\nRUN ip -o link | wc -l > /links\n");
    let built = place.build(&["-t", "app", "--network", "none"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert_eq!(place.kuz(&["run", "app", "cat", "/links"]).stdout, "1\n");
}

#[test]
fn proxies_reach_a_step_and_stay_out_of_the_image_and_its_key() {
    if !can_run() {
        return;
    }
    let mut place = Place::with_registry();
    place.dockerfile("FROM busybox\nRUN echo \"proxy $HTTPS_PROXY\" >&2 && touch /done\n");
    place.set("HTTPS_PROXY", "http://127.0.0.1:9");
    let first = place.build(&["--progress=plain", "-t", "app"]);
    assert!(first.stderr.contains("| proxy http://127.0.0.1:9"), "{}", first.stderr);
    assert!(!place.inspect("app").to_string().contains("127.0.0.1:9"));
    place.set("HTTPS_PROXY", "http://127.0.0.1:10");
    let second = place.build(&["-t", "app"]);
    assert_eq!(first.id(), second.id());
}
