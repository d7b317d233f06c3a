//! Build contexts with things in them that are no plain files: each is copied as it is, or refused by name. Never a hang,
//! never a file from outside the context.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use kuz_image::tar::Kind;

use crate::kit::{Place, Ran, skip};
use crate::traces::{self, Canary};

/// No build of these may take longer (seconds).
const HANGS: &str = "30";

/// A build that is ended if it hangs: then its code is 124.
fn build(place: &Place) -> Ran {
    let inner = place.command(&["build", "-t", "app", "ctx"]);
    let mut command = Command::new("timeout");
    command.arg(HANGS).arg(inner.get_program()).args(inner.get_args()).current_dir(place.dir.path()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ran::of(&command.output().unwrap())
}

fn make(place: &Place, program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).current_dir(place.dir.path()).status().is_ok_and(|status| status.success())
}

fn names(place: &Place) -> Vec<String> {
    let entries = traces::layer_entries(place, "app", 0).into_iter();
    entries.map(|header| header.path.escape_ascii().to_string()).collect()
}

fn refused(place: &Place, word: &str) {
    let ran = build(place);
    assert_eq!(ran.code, 3, "{word}: {ran:?}");
    assert!(ran.message().contains(word), "{word}: {}", ran.message());
}

#[test]
fn special_files_are_copied_as_what_they_are_and_sockets_left_out() {
    let place = Place::new();
    assert!(make(&place, "mkfifo", &["ctx/pipe"]));
    let socket = std::os::unix::net::UnixListener::bind(place.path("ctx/socket")).unwrap();
    let mut odd = vec!["pipe", "socket"];
    if make(&place, "mknod", &["ctx/device", "c", "1", "3"]) {
        odd.push("device");
    } else {
        skip("device nodes need root");
    }
    for name in odd {
        place.write("ctx/.dockerignore", &format!("*\n!{name}\n"));
        for source in [name, "."] {
            place.dockerfile(&format!("FROM scratch\nCOPY {source} /\n"));
            let ran = build(&place);
            eprintln!("{name} by {source}: {} {}", ran.code, ran.stdout);
            assert_eq!(ran.code, 0, "{ran:?}");
            let entries = traces::layer_entries(&place, "app", 0);
            let found = entries.iter().find(|entry| entry.path == name.as_bytes());
            let kind = match name {
                "pipe" => Some(Kind::Fifo),
                "device" => Some(Kind::Char { major: 1, minor: 3 }),
                _ => None,
            };
            assert_eq!(found.map(|entry| entry.kind), kind, "{entries:?}");
            assert!(kind.is_some() || ran.stderr.contains("note: the socket `socket"), "{}", ran.stderr);
        }
        std::fs::remove_file(place.path("ctx/.dockerignore")).unwrap();
    }
    // Not named, not looked at.
    place.write("ctx/plain", "plain");
    place.dockerfile("FROM scratch\nCOPY plain /\n");
    assert_eq!(build(&place).code, 0);
    drop(socket);
}

#[test]
fn a_dockerfile_or_ignore_file_that_is_no_file_is_refused() {
    for name in ["Dockerfile", ".dockerignore"] {
        let place = Place::new();
        place.dockerfile("FROM scratch\nCOPY plain /\n");
        place.write("ctx/plain", "plain");
        let _ = std::fs::remove_file(place.path("ctx").join(name));
        assert!(make(&place, "mkfifo", &[&format!("ctx/{name}")]));
        refused(&place, name);
    }
}

#[test]
fn what_the_ignore_file_excludes_may_be_unreadable() {
    let mut place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    place.write("ctx/.dockerignore", "secret\nclosed\nDockerfile\n.dockerignore\n");
    place.write("ctx/plain", "plain");
    place.write("ctx/secret", "secret");
    place.write("ctx/closed/inner", "inner");
    if rustix::process::getuid().is_root() {
        // Root can read everything, so this is somebody else's. No account is needed.
        place.give_to(54_321, 54_321);
    }
    for name in ["ctx/secret", "ctx/closed"] {
        std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    let ran = place.build(&["-t", "app"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(names(&place), ["plain"]);
    for (ignored, other) in [("closed", "secret"), ("secret", "closed")] {
        place.write("ctx/.dockerignore", &format!("{ignored}\n"));
        let ran = place.build(&["-t", "app"]);
        assert_eq!(ran.code, 3, "{other}: {ran:?}");
        assert!(ran.message().contains(other), "{}", ran.message());
    }
    std::fs::set_permissions(place.path("ctx/closed"), std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn links_never_lead_out_of_the_context() {
    let place = Place::new();
    let canary = place.path("canary");
    let before = Canary::sit(&canary);
    let outside = canary.to_str().unwrap();
    for (name, target) in [
        ("loop", "loop"),
        ("ping", "pong"),
        ("pong", "ping"),
        ("absolute", &format!("{outside}/file")),
        ("relative", "../canary/file"),
        ("directory", "../canary"),
        ("passwd", "/etc/passwd"),
        ("self", "/proc/self/environ"),
    ] {
        symlink(target, place.path("ctx").join(name)).unwrap();
    }
    for source in [
        "loop",
        "ping",
        "absolute",
        "relative",
        "directory/file",
        "passwd",
        "self",
        "../canary/file",
        "/../canary/file",
    ] {
        place.dockerfile(&format!("FROM scratch\nCOPY {source} /got\n"));
        let ran = build(&place);
        assert_eq!(ran.code, 3, "{source}: {ran:?}");
        assert!(
            ran.message().contains(source.trim_start_matches("/../").trim_start_matches("../")),
            "{source}: {ran:?}"
        );
    }
    // Below a directory links are copied as what they are.
    place.dockerfile("FROM scratch\nCOPY . /\n");
    assert_eq!(build(&place).code, 0);
    let links = traces::layer_entries(&place, "app", 0).into_iter().filter(|header| header.kind == Kind::Symlink);
    let shown: Vec<String> = links
        .map(|header| format!("{} {}", header.path.escape_ascii(), header.link.escape_ascii()))
        .map(|line| line.replace(outside, "OUT"))
        .collect();
    assert_eq!(
        shown,
        [
            "absolute OUT/file",
            "directory ../canary",
            "loop loop",
            "passwd /etc/passwd",
            "ping pong",
            "pong ping",
            "relative ../canary/file",
            "self /proc/self/environ"
        ]
    );
    assert_eq!(Canary::look(&canary), before);
}

#[test]
fn names_are_bytes() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY tree /tree\n");
    std::fs::create_dir(place.path("ctx/tree")).unwrap();
    let odd: [&[u8]; 7] = [
        b"-rf",
        b"new\nline",
        b"not\xff\xfeutf8",
        b"\x1b[31mred",
        b"two  spaces ",
        b"back\\slash",
        "\u{fc}".as_bytes(),
    ];
    for name in odd {
        std::fs::write(place.path("ctx/tree").join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let long = "n".repeat(255);
    std::fs::write(place.path("ctx/tree").join(&long), "x").unwrap();
    let ran = build(&place);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let found: Vec<Vec<u8>> = traces::layer_entries(&place, "app", 0).into_iter().map(|header| header.path).collect();
    let mut wanted: Vec<Vec<u8>> = odd.iter().map(|name| [b"tree/", *name].concat()).collect();
    wanted.push(format!("tree/{long}").into_bytes());
    wanted.push(b"tree".to_vec());
    wanted.sort();
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(sorted, wanted);
}

#[test]
fn a_file_that_would_delete_in_a_layer_is_refused() {
    for name in [".wh.passwd", "sub/.wh.x", ".wh..wh..opq", ".wh."] {
        let place = Place::new();
        place.dockerfile("FROM scratch\nCOPY . /\n");
        place.write(&format!("ctx/{name}"), "x");
        refused(&place, name);
        place.write("ctx/.dockerignore", "**/.wh.*\n");
        let ran = build(&place);
        assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
    }
    // Nor may a copy be given such a name.
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY plain /.wh.etc\n");
    place.write("ctx/plain", "x");
    refused(&place, ".wh.etc");
}

#[test]
fn output_of_hostile_names_is_no_terminal_control() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY tree /tree\n");
    std::fs::create_dir(place.path("ctx/tree")).unwrap();
    let name = "ctx/tree/\u{1b}[2Jsocket\nsecond";
    let socket = std::os::unix::net::UnixListener::bind(place.path(name)).unwrap();
    let ran = build(&place);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("note: the socket") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
    assert!(!ran.stderr.lines().any(|line| line.starts_with("second")), "{}", ran.stderr);
    drop(socket);
}
