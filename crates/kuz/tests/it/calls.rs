//! Which system calls builds make, seen from outside by strace.
//!
//! With nothing changed: no process, thread, socket, mount or namespace is made. With a new base: its layers are read as they
//! come in, and not again.

use crate::kit::{Place, Ran, can_run, skip};

/// Calls that a rebuild has no reason for, and why it would make them.
const NEVER: &[(&str, &str)] = &[
    ("fork", "starts a process"),
    ("clone", "starts a thread"),
    ("clone3", "starts a thread"),
    ("socketpair", "talks to itself"),
    ("vfork", "starts a process"),
    ("execve", "starts a program"),
    ("socket", "asks the network or the worker"),
    ("connect", "asks the network"),
    ("mount", "mounts"),
    ("fsmount", "mounts"),
    ("move_mount", "mounts"),
    ("unshare", "makes a namespace"),
    ("setns", "enters a namespace"),
    ("pivot_root", "enters a root"),
];

/// The name of the call in a line of strace's, and its arguments; nothing of a line about something else.
fn call(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_start();
    let (name, arguments) = rest.split_once('(')?;
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        .then_some((name, arguments))
}

/// Builds `calls` of `ctx`, with every call of every process of it; `None` where that cannot be seen.
fn traced(place: &Place) -> Option<(Ran, String)> {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        skip("no strace");
        return None;
    }
    let trace = place.path("trace");
    let build = place.command(&["build", "-t", "calls", "ctx"]);
    let mut traced = std::process::Command::new("strace");
    traced.args(["-f", "-qq", "-s", "200", "-o"]).arg(&trace).arg(build.get_program()).args(build.get_args());
    traced.current_dir(place.dir.path()).env_clear();
    traced.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = Ran::of(&traced.output().unwrap());
    if ran.code != 0 && ran.stderr.contains("PTRACE") {
        skip("this machine forbids ptrace");
        return None;
    }
    Some((ran, std::fs::read_to_string(trace).unwrap()))
}

#[test]
fn a_base_that_is_run_in_is_read_as_it_comes_in() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.write("ctx/f", "content");
    // What WORKDIR and COPY must know of the base comes from unpacking it for RUN, which goes on while it is fetched.
    place.dockerfile("FROM busybox AS made\nWORKDIR /w\nCOPY f .\nRUN true\nFROM scratch\nCOPY --from=made /w/f /f\n");
    let Some((ran, text)) = traced(&place) else { return };
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let blobs = std::fs::read_dir(place.path("store/blobs/sha256")).unwrap().map(|entry| entry.unwrap());
    let largest = blobs.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
    let largest = largest.file_name().into_string().unwrap();
    let opened = |(name, arguments): &(&str, &str)| {
        name.starts_with("openat") && arguments.contains(&largest) && arguments.contains("O_RDONLY")
    };
    let opened: Vec<_> = text.lines().filter_map(call).filter(opened).collect();
    assert!(opened.is_empty(), "{opened:?}");
}

#[test]
fn a_build_with_nothing_changed_starts_and_asks_nobody() {
    let place = Place::new();
    for number in 0..50 {
        place.write(&format!("ctx/tree/f{number}"), &format!("file {number}\n"));
    }
    place.dockerfile("FROM scratch\nWORKDIR /app\nCOPY tree ./tree\nENV A=b\nCMD [\"/app/x\"]\n");
    let id = place.build(&["-t", "calls"]).id();
    place.build(&["-t", "calls"]).id();

    let Some((ran, text)) = traced(&place) else { return };
    assert_eq!(ran.id(), id);
    let calls: Vec<(&str, &str)> = text.lines().filter_map(call).collect();
    assert!(calls.len() > 50, "strace saw the program: {text}");
    // The first execve is strace's own, of the program.
    for (name, arguments) in &calls[1..] {
        let never = NEVER.iter().find(|(one, _)| one == name);
        assert!(never.is_none(), "{}: {name}({arguments}", never.unwrap().1);
        // It grows with the number of images.
        let reads_names = name.starts_with("openat") && arguments.contains("index.json");
        assert!(!reads_names, "reads all names: {name}({arguments}");
    }
    println!("{} system calls", calls.len());
}

#[test]
fn lines_of_a_trace_are_told_apart() {
    for (line, expected) in [
        ("12 openat(AT_FDCWD, \"x\") = 3", Some(("openat", "AT_FDCWD, \"x\") = 3"))),
        ("12  clone3({flags=CLONE_VM} <unfinished ...>", Some(("clone3", "{flags=CLONE_VM} <unfinished ...>"))),
        ("12 <... clone3 resumed>) = 13", None),
        ("12 +++ exited with 0 +++", None),
        ("12 --- SIGCHLD {si_signo=SIGCHLD} ---", None),
    ] {
        assert_eq!(call(line), expected, "{line}");
    }
}
