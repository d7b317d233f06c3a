//! What waits for somebody else must hear a signal, and must not keep others waiting.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::kit::{Place, Ran, can_run, skip};

fn end(child: &std::process::Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_load_from_a_pipe_that_says_nothing_hears_a_signal() {
    let place = Place::new();
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = place.listening(&["image", "load", "-i", pipe.to_str().unwrap()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opens only once the program reads, and then stays silent.
    let _silent = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    end(&child, "-TERM");
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.code, 143, "{ran:?}");
}

#[test]
fn a_load_from_a_pipe_takes_what_comes() {
    let mut place = Place::with_registry();
    if crate::base::busybox().is_none() {
        return skip("no static busybox (Debian: busybox-static)");
    }
    assert_eq!(place.kuz(&["pull", "-q", "busybox"]).code, 0);
    let saved = place.command(&["image", "save", "--format", "oci-archive", "-o", "-", "busybox"]).output().unwrap();
    assert!(saved.status.success());
    place.set("KUZ_STORE", place.path("other"));
    let mut command = place.command(&["image", "load", "-i", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || saved.stdout.chunks(10_000).try_for_each(|part| input.write_all(part)));
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert!(ran.code == 0 && ran.stdout.contains("busybox"), "{ran:?}");
    writer.join().unwrap().unwrap();
}

#[test]
fn a_running_image_keeps_its_files_while_everything_else_is_pruned() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile("FROM busybox\nRUN echo one > /one\n");
    place.build(&["-q", "-t", "app"]).id();
    let script = "echo ready; read word; cat /one; echo $word";
    let mut command = place.command(&["run", "app", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    for arguments in [&["image", "rm", "app"][..], &["store", "prune", "--all"], &["store", "check"]] {
        let ran = place.kuz(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    }
    // A build beside it works as ever.
    place.build(&["-q", "-t", "again"]).id();
    child.stdin.take().unwrap().write_all(b"two\n").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!((ran.code, rest.as_str()), (0, "one\ntwo\n"), "{ran:?}");
    assert_eq!(place.kuz(&["store", "prune", "--all"]).code, 0);
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
}

#[test]
fn an_interrupted_password_prompt_leaves_the_terminal_with_echo() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("no `script` (Debian: bsdutils)");
    }
    let place = Place::with_registry();
    let host = place.registry.as_ref().unwrap().host();
    let plain = place.listening(&["login", "-u", "somebody", &host]);
    let words: Vec<String> = std::iter::once(plain.get_program())
        .chain(plain.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    // `script` gives the program a terminal, and its own input is the keyboard.
    let line = format!("trap : INT; {}; echo code=$?; stty -a", words.join(" "));
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env("KUZ_STORE", place.path("store"))
        .env("KUZ_CONFIG", place.path("kuz.toml"));
    command.env("HOME", place.path("home")).env("SHELL", "/bin/sh");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"Password: ") {
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    child.stdin.take().unwrap().write_all(b"\x03").unwrap();
    screen.read_to_end(&mut seen).unwrap();
    child.wait().unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("code=130"), "{text}");
    assert!(text.split_whitespace().any(|word| word == "echo"), "{text}");
}
