//! Which system calls a build with nothing changed makes, counted from outside.
//!
//! In: a store that knows the build, and strace. Out: no process, thread, socket, mount or namespace is made for it.

use crate::kit::{Place, Ran, skip};

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

#[test]
fn a_build_with_nothing_changed_starts_and_asks_nobody() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return skip("no strace");
    }
    let place = Place::new();
    for number in 0..50 {
        place.write(&format!("ctx/tree/f{number}"), &format!("file {number}\n"));
    }
    place.dockerfile("FROM scratch\nWORKDIR /app\nCOPY tree ./tree\nENV A=b\nCMD [\"/app/x\"]\n");
    let id = place.build(&["-t", "calls"]).id();
    place.build(&["-t", "calls"]).id();

    let trace = place.path("trace");
    let build = place.command(&["build", "-t", "calls", "ctx"]);
    let mut traced = std::process::Command::new("strace");
    traced.args(["-f", "-qq", "-o"]).arg(&trace).arg(build.get_program()).args(build.get_args());
    traced.current_dir(place.dir.path()).env_clear();
    traced.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = Ran::of(&traced.output().unwrap());
    if ran.code != 0 && ran.stderr.contains("PTRACE") {
        return skip("this machine forbids ptrace");
    }
    assert_eq!(ran.id(), id);

    let text = std::fs::read_to_string(trace).unwrap();
    let calls: Vec<(&str, &str)> = text.lines().filter_map(call).collect();
    assert!(calls.len() > 50, "strace saw the program: {text}");
    // The first execve is strace's own, of the program.
    for (name, arguments) in &calls[1..] {
        let never = NEVER.iter().find(|(one, _)| one == name);
        assert!(never.is_none(), "{}: {name}({arguments}", never.unwrap().1);
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
